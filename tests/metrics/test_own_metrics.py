"""Metrics and protocols of one's own: in JSON, table and page with floor and interval, and when they fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics import (
    PROTOCOLS,
    Comparison,
    Discrepancy,
    Distance,
    GraphProtocol,
    GraphSet,
    Kernel,
    MoleculeProtocol,
    MoleculeSet,
    Protocol,
    Undefined,
)
from graphinv.metrics.distance import figure
from graphinv.metrics.evaluation import evaluate
from graphinv.metrics.molecule.distances import FCD, NSPDK
from graphinv.metrics.page import write_page
from graphinv.metrics.table import format_report

TRAIN = ["CCO", "CC(=O)C", "c1ccccc1", "CCN", "C1CC1", "CC#N", "OCCO", "CC=O", "CNC", "COC", "CCC", "CO"]
TEST = ["CCCO", "CCCN", "CC(C)O", "OCC=O", "CC(N)=O", "C1CCC1", "NCCO", "CCCC", "C=CC", "CF"]
SAMPLES = ["CCF", "NCCN", "OCCCO", "CCCCC", "CC(C)C", "CCCC=O", "N#CC#N", "C(", ""]
QUIET = {"progress": False, "repeats": 20}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHINV_CACHE_DIR", str(tmp_path / "cache"))


def carbons(side: MoleculeSet) -> torch.Tensor:
    return torch.tensor([text.upper().count("C") for text in side.smiles], dtype=torch.float64)


def carbon_gap(samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
    x, y = samples.feature(carbons), float(reference.feature(carbons).mean())
    return Comparison(lambda weights: abs(float(weights @ x) - y), len(x), len(reference.smiles))


def carbon_mean(samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
    x = samples.feature(carbons)
    return Comparison(lambda weights: float(weights @ x), len(x), len(x), "of the samples alone")


GAP = Distance("carbon_gap", "Gap in carbons <per molecule>", "lower", carbon_gap)
MEAN = Distance("mean_number_of_carbon_atoms", "Carbons", "higher", carbon_mean)


def molecules(*distances: Distance[MoleculeSet], **fields: Any) -> Protocol:
    rules = MoleculeProtocol(len(SAMPLES), "valid_strict", "written", distances, **fields)
    return Protocol("our-lab", "our lab", "what we look at", molecules=rules)


def judged(protocol: Protocol) -> dict[str, Any]:
    return evaluate(SAMPLES, reference=TEST, train=TRAIN, protocol=protocol, **QUIET)


def edges(graphs: GraphBatch) -> torch.Tensor:
    return graphs.edge_ptr.diff()[:, None].double() / 2


def edge_gap(samples: GraphSet, reference: GraphSet) -> Comparison:
    x, y = samples.rows(edges)[:, 0], float(reference.rows(edges).mean())
    return Comparison(lambda weights: abs(float(weights @ x) - y), len(samples), len(reference))


GRAPHS = [nx.gnp_random_graph(9, 0.4, seed=k) for k in range(30)]
OWN_GRAPHS = Protocol(
    "our-graphs",
    "our lab",
    "what we look at",
    graphs=GraphProtocol(
        8,
        (
            Distance("edge_gap", "Gap in edges", "lower", edge_gap),
            Distance("edge_mmd", "Edges as rows", "lower", Discrepancy(edges, Kernel("gaussian", 3.0))),
            *PROTOCOLS["digress-2023"].graphs.distances[:1],
        ),
        "all",
        ratio=True,
    ),
)


def check_everywhere(report: dict[str, Any], distances: tuple[Distance[Any], ...], folder: Path) -> None:
    """Each metric is in the JSON with floor and interval, in the table, and on the page under its label."""
    assert json.loads(json.dumps(report, allow_nan=False))["distances"] == report["distances"]
    write_page(report, folder / "page.html", "Ours")
    page, table = (folder / "page.html").read_text(encoding="utf-8"), format_report(report).splitlines()
    for distance in distances:
        entry = report["distances"][distance.name]
        assert entry["low"] <= entry["value"] <= entry["high"] and entry["low"] < entry["high"]
        assert (entry["label"], entry["better"]) == (distance.label, distance.better)
        assert entry["floor"] is not None and entry["draws"] is not None
        (line,) = (line for line in table if line.startswith(f"{distance.name} "))
        assert f"{entry['value']:.5g}" in line and f"{entry['low']:.4g} .. {entry['high']:.4g}" in line
        assert f"{entry['floor']:.4g}" in line
        assert distance.label.replace("<", "&lt;").replace(">", "&gt;") in page
    assert report["protocol"]["name"] in page and "<per molecule>" not in page


def test_a_molecule_metric_of_ones_own_is_everywhere(tmp_path: Path) -> None:
    protocol = molecules(GAP, NSPDK, MEAN, unique_at=(5,))
    report = judged(protocol)
    assert report["protocol"]["met"] and list(report["distances"]) == [GAP.name, "nspdk", MEAN.name]
    check_everywhere(report, (GAP, NSPDK, MEAN), tmp_path)
    described = report["protocol"]["molecules"]["distances"]
    assert described[0]["compute"].endswith("test_own_metrics.carbon_gap")
    assert described[1]["compute"]["call"].endswith("Nspdk") and described[1]["compute"]["aromatic"] == "own"
    few = replace(PROTOCOLS["digress-2023"], molecules=replace(PROTOCOLS["digress-2023"].molecules, distances=(NSPDK,)))
    assert judged(few)["distances"]["nspdk"] == report["distances"]["nspdk"]
    gap = report["distances"][GAP.name]
    counts = [float(carbons(MoleculeSet(side)).mean()) for side in (SAMPLES[:-2], TEST, TRAIN)]
    assert gap["value"] == pytest.approx(abs(counts[0] - counts[1])) and gap["count"] == len(SAMPLES) - 2
    assert "Unique of the first 5, our-lab" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_graph_metric_of_ones_own_is_everywhere(tmp_path: Path) -> None:
    report = evaluate(GRAPHS[:8], reference=GRAPHS[8:18], train=GRAPHS[18:], protocol=OWN_GRAPHS, **QUIET)
    check_everywhere(report, OWN_GRAPHS.graphs.distances, tmp_path)
    assert report["protocol"]["met"] and report["ratio"] > 0
    means = [sum(g.number_of_edges() for g in part) / len(part) for part in (GRAPHS[:8], GRAPHS[8:18], GRAPHS[18:])]
    entry = report["distances"]["edge_gap"]
    assert entry["value"] == pytest.approx(abs(means[0] - means[1]))
    assert entry["floor"] == pytest.approx(abs(means[2] - means[1])) and entry["floor_count"] == 12
    kernel = report["protocol"]["graphs"]["distances"][1]["compute"]["kernel"]
    assert kernel == {"kind": "gaussian", "sigma": 3.0, "bins": 0, "unit": 1.0, "sigmas": []}


def undefined(samples: Any, reference: Any) -> Comparison:
    raise Undefined("no molecule here has what we count")


def refused(samples: Any, reference: Any) -> Comparison:
    raise InputError("give another reference")


def broken(samples: Any, reference: Any) -> Comparison:
    return Comparison(lambda weights: 1 / 0, 3, 3)


def not_a_number(samples: Any, reference: Any) -> Comparison:
    return Comparison(lambda weights: float("nan"), 3, 3)


@pytest.mark.parametrize(("compute", "reason"), [(undefined, "no molecule here"), (not_a_number, "nan")])
def test_a_figure_that_does_not_exist_costs_only_itself_and_is_named(
    compute: Callable[..., Comparison], reason: str
) -> None:
    protocol = molecules(Distance("ours", "Ours", "lower", compute), GAP, Distance("two", "Two", "lower", compute))
    report = judged(protocol)
    assert list(report["distances"]) == [GAP.name]
    assert [text for text in report["warnings"] if reason in text and text.startswith("ours, two: ")]
    rules = replace(OWN_GRAPHS.graphs, distances=(protocol.molecules.distances[0], *OWN_GRAPHS.graphs.distances))
    plain = evaluate(GRAPHS[:8], reference=GRAPHS[8:18], train=GRAPHS[18:], protocol=replace(OWN_GRAPHS, graphs=rules))
    assert list(plain["distances"]) == ["edge_gap", "edge_mmd", "degree"]
    assert any(text.startswith("ours: ") and reason in text for text in plain["warnings"])


def test_a_floor_that_does_not_exist_costs_only_itself() -> None:
    def compute(samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
        if samples.texts is None:  # real data in place of samples
            raise Undefined("only of samples")
        return carbon_gap(samples, reference)

    entry = judged(molecules(replace(GAP, compute=compute)))["distances"][GAP.name]
    assert entry["value"] > 0 and entry["floor"] is None


@pytest.mark.parametrize(
    ("compute", "error", "match"),
    [
        (refused, InputError, "metric 'ours': give another reference"),
        (broken, RuntimeError, "metric 'ours' raised ZeroDivisionError"),
        (lambda samples, reference: 0.5, InputError, "metric 'ours': compute must return a Comparison, got float"),
        (lambda samples: None, RuntimeError, "metric 'ours' raised TypeError"),
    ],
)
def test_a_metric_that_fails_is_named(compute: Any, error: type[Exception], match: str) -> None:
    ours = Distance("ours", "Ours", "lower", compute)
    with pytest.raises(error, match=match):
        judged(molecules(GAP, ours))
    with pytest.raises(error, match=match):
        rules = replace(OWN_GRAPHS.graphs, distances=(ours,))
        evaluate(GRAPHS[:8], reference=GRAPHS[8:], protocol=replace(OWN_GRAPHS, graphs=rules), **QUIET)


def test_floors_are_kept_of_versions_and_of_nothing_else() -> None:
    calls = []

    def compute(samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
        calls.append(samples.texts is None)
        return carbon_gap(samples, reference)

    for version, times in ((None, 3), ("a", 1), ("b", 1)):
        calls.clear()
        for _ in range(3):
            judged(molecules(replace(GAP, compute=compute, version=version)))
        assert sum(calls) == times and len(calls) - sum(calls) == 3


@pytest.mark.parametrize("bounds", [(None, None), (0.0, None), (0.0, 1.0), (-1.0, 1.0)])
def test_intervals_end_at_the_bounds_of_the_metric(bounds: tuple[float | None, float | None]) -> None:
    x = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    for better in ("lower", "higher"):
        metric = Distance("x", "X", better, lambda samples, reference: Comparison(lambda w: float(w @ x), 5, 5))
        entries = [figure(d, d.compare(x, x), repeats=200) for d in (metric, replace(metric, bounds=bounds))]
        low, high = (entries[1][key] for key in ("low", "high"))
        assert entries[1]["value"] == pytest.approx(0.2) and low <= 0.2 <= high
        assert low >= (-9.0 if bounds[0] is None else bounds[0]) and high <= (9.0 if bounds[1] is None else bounds[1])
        if bounds == (None, None):
            assert low < 0 and high == entries[0]["high"]


def test_a_metric_against_scaffolds_is_left_out_without_them() -> None:
    other = replace(GAP, name="other", against="scaffolds")
    assert list(judged(molecules(GAP, other))["distances"]) == [GAP.name]
    report = evaluate(SAMPLES, reference=TEST, protocol=molecules(GAP, other), scaffolds=TEST[:3], **QUIET)
    assert report["distances"]["other"]["reference_count"] == 3
    with pytest.raises(InputError, match="scaffolds is of"):
        evaluate(SAMPLES, reference=TEST, protocol=molecules(GAP), scaffolds=TEST[:3], **QUIET)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_as_data_is_json_and_tells_its_metrics_apart(name: str) -> None:
    data = json.loads(json.dumps(PROTOCOLS[name].to_json(), allow_nan=False))
    for kind in ("molecules", "graphs"):
        entries = (data[kind] or {"distances": []})["distances"]
        assert all(entry["compute"] and entry["label"] and entry["version"] for entry in entries)
        assert len({json.dumps([entry["compute"], entry["against"]]) for entry in entries}) == len(entries)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Distance("", "X", "lower", carbon_gap), "needs a name"),
        (lambda: Distance("x", "X", "less", carbon_gap), "'lower' or 'higher', got 'less'"),
        (lambda: Distance("x", "X", "lower", 0.5), "must be a function"),
        (lambda: Distance("x", "X", "lower", carbon_gap, against="train"), "'reference' or 'scaffolds'"),
        (lambda: molecules("fcd"), "holds Distance objects, got 'fcd'"),
        (lambda: molecules(FCD, GAP, FCD), "each name once, got 'fcd' 2 times"),
        (lambda: replace(molecules().molecules, valid="valid"), "valid of a protocol must be one of valid_strict"),
        (lambda: replace(molecules().molecules, judged="repaired"), "judged of a protocol"),
        (lambda: replace(molecules().molecules, samples=0), "at least 1, got 0"),
        (lambda: molecules(unique_at=(0,)), "unique_at"),
        (lambda: replace(OWN_GRAPHS.graphs, floor="none"), "floor of a protocol"),
        (lambda: replace(OWN_GRAPHS.graphs, distances=(replace(GAP, against="scaffolds"),)), "one reference"),
        (lambda: judged(molecules().molecules), "a Protocol, got MoleculeProtocol"),
    ],
)
def test_a_metric_or_protocol_that_is_none_is_told_so(make: Callable[[], object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        make()
