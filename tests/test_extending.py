"""The page on writing one's own: every block runs, and its generator goes through train, sample and evaluate."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from graphinv.cli import main

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
GENERATOR = BLOCKS[0][1]
PYTHON = [code for kind, code in BLOCKS[1:] if kind == "python"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder in which the commands of the page were run."""
    folder = tmp_path_factory.mktemp("masked")
    (folder / "masked.py").write_text(GENERATOR)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        commands = next(code for kind, code in BLOCKS if kind == "bash").replace("\\\n", " ").strip().splitlines()
        for command in commands:
            verb, *args = shlex.split(command)
            assert verb == "graphinv"
            args += ["--json", "report.json"] if "evaluate" in args else []
            assert main(args) == 0, command
        yield folder
    sys.modules.pop("masked", None)


def test_the_generator_of_the_page_goes_from_data_to_a_report(folder):
    lines = (folder / "out.smi").read_text().splitlines()
    report = json.loads((folder / "report.json").read_text())
    assert len(lines) == 20 and report["connected"]["count"] > 0
    config = json.loads((folder / "runs/masked/best/config.json").read_text())
    assert config["generator"] == "masked" and config["config"]["max_nodes"] == 7


def test_it_learns(folder):
    import torch

    from graphinv import GraphStore
    from graphinv.models import GraphGenerator

    model, _ = GraphGenerator.load(folder / "runs/masked/best")
    store = GraphStore.open(folder / "small.graphs")
    batch = store.batch(store.indices("valid")[:500])

    def loss(model):
        with torch.no_grad():
            return float(model.loss(batch, torch.Generator().manual_seed(0)))

    assert loss(model) < 0.7 * loss(type(model).seeded(model.config, 0))


def test_its_sample_does_not_depend_on_the_batch(folder):
    import torch

    from graphinv.models import GraphGenerator

    model, _ = GraphGenerator.load(folder / "runs/masked/best")
    whole = model.sample(12, seed=3)
    for size in (1, 5):
        part = model.sample(12, seed=3, batch_size=size)
        assert torch.equal(part.x, whole.x) and torch.equal(part.edge_index, whole.edge_index)


def test_a_generator_is_less_than_sixty_lines_of_code():
    settings = re.sub(r'""".*?"""', "", GENERATOR, flags=re.DOTALL)
    code = [line for line in settings.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(code) < 60


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_every_block_runs(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[number], f"block {number}", "exec", dont_inherit=True), {"__name__": f"block_{number}"})


def test_the_solver_of_the_page_has_the_order_it_declares():
    import torch

    from graphinv import testing
    from graphinv.diffusion import VPSDE, GeneratorNoise, integrate

    names: dict[str, object] = {"__name__": "page"}
    exec(compile(next(c for c in PYTHON if "AdamsBashforth" in c), "page", "exec", dont_inherit=True), names)
    solver, sde = names["AdamsBashforth"](), VPSDE(0.1, 5.0)
    x = torch.tensor([[1.0, -0.4]], dtype=torch.float64)

    def end(steps):
        def score(x, t):
            scale, std = sde.marginal(torch.ones_like(x), t)
            return -(x - 0.8 * scale) / (0.3 * scale.square() + std.square())

        times = torch.linspace(1, 0.1, steps + 1, dtype=torch.float64)
        return integrate(solver, sde, score, x, times, GeneratorNoise())

    exact = end(20_000)
    order = testing.fitted_order(lambda steps: float((end(steps) - exact).abs().max()), (100, 200, 400))
    assert order == pytest.approx(solver.order, abs=0.15)
