"""Filters judge as MOSES's code does, with and without its file of patterns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from graphinv.errors import InputError
from graphinv.metrics.molecule.filters import passes, read_patterns

FIXTURE = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "metrics" / "moses_smallmol.json").read_text(encoding="utf-8")
)


@pytest.fixture
def mcf(tmp_path: Path) -> Path:
    path = tmp_path / "mcf.csv"
    rows = "\n".join(f'MCF{k},"{pattern}"' for k, pattern in enumerate(FIXTURE["mcf"], 1))
    path.write_text(f"names,smarts\n{rows}\n", encoding="utf-8")
    return path


def test_each_molecule_is_judged_as_by_moses(mcf: Path) -> None:
    found = passes(FIXTURE["filtered"], read_patterns(mcf)).tolist()
    assert dict(zip(FIXTURE["filtered"], found, strict=True)) == dict(
        zip(FIXTURE["filtered"], FIXTURE["passes"], strict=True)
    )
    assert any(found) and not all(found)


def test_without_the_file_more_molecules_pass_and_never_fewer(mcf: Path) -> None:
    molecules = [*FIXTURE["filtered"], *FIXTURE["samples"][::10]]
    strict, lax = passes(molecules, read_patterns(mcf)), passes(molecules)
    assert bool((lax | ~strict).all()) and int(lax.sum()) > int(strict.sum())


def test_rings_charges_and_elements() -> None:
    molecules = ["C1CCCCCC1", "C1CCCCCCC1", "C[N+](C)(C)C", "C[Si](C)C", "CBr", "[H][H]", "CCO"]
    assert passes(molecules).tolist() == [True, False, False, False, True, True, True]
    assert passes([]).dtype == torch.bool


@pytest.mark.parametrize("text", ["", "names,smarts\n", "a,b\n1,2\n", "names,smarts\nM,C(\n"])
def test_a_file_without_patterns_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mcf.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"mcf\.csv: expected a column 'smarts'"):
        read_patterns(path)
    with pytest.raises(InputError, match="expected MOSES's mcf.csv"):
        read_patterns(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="expected SMARTS of unwanted groups, got 'C\\('"):
        passes(["C"], ["C("])
