"""The README's example runs, its length holds, and what it points to exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run_example(number: int) -> dict[str, object]:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[number]
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_the_molecule_example_runs_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_example(0)
    assert len(names["out"].smiles) == 20 and names["rejects"].total == 0


def test_the_aggregator_example_runs_as_printed(capsys):
    run_example(1)
    assert "[2, 8]" in capsys.readouterr().out


def test_it_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) < 120
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert links and all((ROOT / link).exists() for link in links)


def test_every_command_of_the_shell_examples_is_a_verb():
    from graphinv.cli import VERBS
    from graphinv.models import generator_kinds

    known = {*VERBS, *(f"train {kind}" for kind in generator_kinds())}
    called = re.findall(r"^graphinv ((?:data )?\w+(?: gdss| pard)?)", README, re.MULTILINE)
    assert called and set(called) <= known
