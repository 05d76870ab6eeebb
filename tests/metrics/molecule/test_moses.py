"""The metrics of MOSES equal those that its own code computes, and weights mean repeats."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from graphinv.errors import InputError
from graphinv.metrics.comparison import Comparison, interval
from graphinv.metrics.distance import Undefined
from graphinv.metrics.molecule.distances import MOSES, Filters, MoleculeSet
from graphinv.metrics.molecule.filters import read_patterns

FIXTURE = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "metrics" / "moses_smallmol.json").read_text(encoding="utf-8")
)
SAMPLES, REFERENCE = FIXTURE["samples"], FIXTURE["reference"]
BEST = {"snn": 1, "frag": 1, "scaf": 1, "log_p": 0, "sa": 0, "qed": 0, "weight": 0}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GRAPHINV_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mcf(tmp_path: Path) -> Path:
    path = tmp_path / "mcf.csv"
    path.write_text("smarts\n" + "\n".join(f'"{pattern}"' for pattern in FIXTURE["mcf"]), encoding="utf-8")
    return path


def compared(
    samples: list[str], reference: list[str], scaffolds: list[str] | None = None, filters: Filters | None = None
) -> tuple[dict[str, Comparison], dict[str, str]]:
    """Every metric of MOSES but FCD, and why one is undefined."""
    ours = MoleculeSet(samples, progress=False)
    sides = {"reference": MoleculeSet(reference, progress=False)}
    sides |= {} if scaffolds is None else {"scaffolds": MoleculeSet(scaffolds, progress=False)}
    figures, reasons = {}, {}
    for metric in MOSES:
        if metric.against not in sides or metric.name.startswith("fcd"):
            continue
        try:
            compute = filters if filters and metric.name == "filters" else metric.compute
            figures[metric.name] = replace(metric, compute=compute).compare(ours, sides[metric.against])
        except Undefined as error:
            reasons[metric.name] = str(error)
    return figures, reasons


def test_every_figure_is_that_of_moses(mcf: Path) -> None:
    found, notes = compared(SAMPLES, REFERENCE, filters=Filters(read_patterns(mcf)))
    assert set(found) == set(FIXTURE["values"]) and not notes and found["filters"].note is None
    for name, expected in FIXTURE["values"].items():
        assert found[name].value == pytest.approx(expected, rel=1e-6), name
        assert found[name].count == len(SAMPLES)


def test_a_set_compared_with_itself_in_another_order_is_the_best_there_is() -> None:
    some = SAMPLES[::4]
    found, notes = compared(some, some[::-1], some)
    for name, best in BEST.items():
        assert found[name].value == pytest.approx(best, abs=1e-9), name
    for name in ("snn", "frag", "scaf"):
        assert found[name + "_scaffolds"].value == pytest.approx(1)
    assert not notes and found["filters"].note == "PAINS only: MOSES's mcf.csv was not given"


def test_repeats_are_weights_and_order_means_nothing() -> None:
    few = [*SAMPLES[::8], "c1ccc2ccccc2c1"]
    once, _ = compared(few, REFERENCE[:50], REFERENCE[50:])
    again, _ = compared([few[-1], *few[::-1]], REFERENCE[:50][::-1], REFERENCE[50:])
    weights = torch.ones(len(few), dtype=torch.float64)
    weights[-1] = 2
    assert set(once) == set(again)
    for name, comparison in once.items():
        assert comparison.of(weights / weights.sum()) == pytest.approx(again[name].value, rel=1e-7, abs=1e-12), name


def test_every_figure_has_an_interval_around_it() -> None:
    found, _ = compared(SAMPLES[::8], REFERENCE)
    for name, comparison in found.items():
        low, high = interval(comparison, repeats=20)
        assert low <= comparison.value <= high, name


def test_molecules_without_two_rings_have_no_scaffold_figure_but_a_note() -> None:
    found, notes = compared(["CCO"], ["CCO", "c1ccc2ccccc2c1"], ["CC"])
    assert "scaf" not in found and "no molecule of the samples" in notes["scaf"]
    assert "scaf_scaffolds" not in found and "no molecule of the reference" in notes["scaf_scaffolds"]
    assert found["snn"].value == 1 and found["int_div_2"].value == pytest.approx(0)


def test_the_parts_of_a_large_reference_come_back_from_the_cache(cache: Path) -> None:
    large = ["C" * (1 + k % 20) + "O" for k in range(1000)]
    first, _ = compared(SAMPLES[:20], large)
    assert len(list(cache.rglob("*.safetensors"))) == 2
    second, _ = compared(SAMPLES[:20], large)
    assert {name: c.value for name, c in first.items()} == {name: c.value for name, c in second.items()}
    assert len(list(cache.rglob("*.safetensors"))) == 2


def test_nothing_is_refused() -> None:
    with pytest.raises(InputError):
        compared([], ["C"])
    with pytest.raises(InputError):
        compared(["C"], [])
    with pytest.raises(InputError, match="expected SMILES of molecules, got 'None'"):
        compared(["None"], ["C"])
