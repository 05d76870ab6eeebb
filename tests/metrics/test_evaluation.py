"""One entry for all metrics: the kinds of samples, what a protocol adds, and what it says when something is missing."""

from __future__ import annotations

import copy
import json
import math
import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from rdkit import Chem
from torch_geometric.data import Data, HeteroData

import graphinv
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.evaluation import evaluate
from graphinv.metrics.inputs import without_isolated
from graphinv.mol import build_store, canonical_smiles

SMILES = ["CCO", "CC(=O)C", "c1ccccc1", "CCN", "C1CC1", "CC#N", "OCCO", "CC=O", "CNC", "COC", "CCC", "CO"] * 4
QUIET = {"progress": False, "repeats": 4}
DATA = os.environ.get("GRAPHINV_DATA_DIR")
needs_data = pytest.mark.skipif(not DATA, reason="GRAPHINV_DATA_DIR is not set")


@pytest.fixture(scope="module")
def store():
    return build_store(SMILES, workers=1, split="random:0.5/0.1/0.4:0", progress=False)[0]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHINV_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def graphs():
    return [nx.compose(nx.cycle_graph(6 + k % 4), nx.gnp_random_graph(6 + k % 4, 0.4, seed=k)) for k in range(12)]


def test_the_public_function_is_this_one():
    assert graphinv.evaluate is evaluate


def test_novelty_is_counted_against_the_training_split_unless_train_is_given(store):
    known = store.smiles(store.indices("train"))
    report = evaluate(["CCCCC", known[0]], reference=store, **QUIET)
    assert report["novel"]["count"] == 1 and report["protocol"] is None and "distances" not in report
    assert report["reference"]["hash"] == store.content_hash
    assert evaluate(["CCCCC", known[0]], reference=store, train=["CCCCC"], **QUIET)["novel"]["count"] == 1
    assert evaluate(["CCCCC"], train=["C(CC)CC"], **QUIET)["novel"]["count"] == 0


def test_a_store_without_smiles_gives_the_same_report(store):
    bare = build_store(SMILES, workers=1, keep_smiles=False, split="random:0.5/0.1/0.4:0", progress=False)[0]
    with_them, without = (evaluate(["CCO", "CCF"], reference=s, **QUIET) for s in (store, bare))
    assert with_them["novel"] == without["novel"]
    assert set(bare.indices("train").tolist()) == set(store.indices("train").tolist())


def test_molecules_in_any_form_give_one_report(store):
    texts = ["CCO", "C=F", "CN(C)(C)C"]
    mols = [Chem.MolFromSmiles(text, sanitize=False) for text in texts]
    drawn = build_store(["CCO", "CCN"], workers=1, split="none", progress=False)[0]
    for other in (mols, tuple(texts)):
        assert evaluate(other, **QUIET)["valid_strict"] == evaluate(texts, **QUIET)["valid_strict"]
    assert evaluate([None, "CCO", mols[1]], **QUIET)["samples"] == 3
    empty = [None, math.nan, np.float64("nan"), np.float32("nan"), "", "CCO"]  # cells of a table
    assert evaluate(empty, **QUIET)["valid_strict"]["count"] == 1 and evaluate(empty, **QUIET)["samples"] == 6
    assert evaluate(drawn, **QUIET)["valid_strict"]["count"] == 2


def test_graphs_in_any_form_give_one_report(graphs):
    batch = GraphBatch.from_networkx(graphs)
    data = [Data(edge_index=batch.graph(k).edge_index, num_nodes=batch.graph(k).num_nodes) for k in range(12)]
    shuffled = [nx.relabel_nodes(g, dict(zip(g, reversed(list(g)), strict=True))) for g in graphs]
    reports = [evaluate(form, family="planar", **QUIET) for form in (graphs, batch, data, shuffled)]
    for report in reports:
        assert report["kind"] == "graphs"
        assert all(report[key] == reports[0][key] for key in ("connected", "valid", "unique"))


def test_what_is_no_part_of_a_plain_graph_is_dropped_and_said(graphs):
    odd = [copy.deepcopy(g) for g in graphs]
    odd[0].add_edge(0, 0)
    nx.set_edge_attributes(odd[1], 2.5, "weight")
    report = evaluate(odd, **QUIET)
    assert report["unique"] == evaluate(graphs, **QUIET)["unique"]
    assert any("self loop" in text for text in report["warnings"])
    assert any("weights" in text for text in report["warnings"])


def test_a_graph_protocol_gives_distances_with_floors_and_intervals(graphs):
    report = evaluate(graphs[:6], reference=graphs[6:], train=graphs, protocol="gdss-2022", **QUIET)
    assert report["protocol"]["met"] and set(report["distances"]) == {"degree", "clustering", "orbit"}
    for entry in report["distances"].values():
        assert entry["low"] <= entry["value"] <= entry["high"] and entry["floor"] is not None
        assert entry["count"] == entry["reference_count"] == 6
    json.dumps(report)


def test_a_reference_smaller_than_the_samples_is_marked(graphs):
    report = evaluate(graphs, reference=graphs[:5], protocol="gdss-2022", **QUIET)
    assert not report["protocol"]["met"] and any("fewer" in text for text in report["protocol"]["unmet"])


def test_more_of_the_same_is_inside_the_floor_and_another_kind_is_not():
    data = [nx.gnp_random_graph(16, 0.5, seed=k) for k in range(90)]
    options = {"train": data[30:], "protocol": "gdss-2022", "repeats": 50, "progress": False}
    copies = evaluate(data[:30], reference=data[:30], **options)
    assert all(entry["value"] == pytest.approx(0, abs=1e-12) for entry in copies["distances"].values())
    assert all(entry["inside_floor"] or entry["beyond_floor"] for entry in copies["distances"].values())
    fresh = [nx.gnp_random_graph(16, 0.5, seed=1_000 + k) for k in range(30)]
    more = evaluate(fresh, reference=data[:30], **options)
    assert all(entry["inside_floor"] for entry in more["distances"].values()), more["distances"]
    assert any("cannot be told from real data" in text for text in more["warnings"])
    others = evaluate([nx.cycle_graph(16)] * 30, reference=data[:30], **options)
    assert not any(entry["inside_floor"] or entry["beyond_floor"] for entry in others["distances"].values())


def test_a_protocol_whose_count_is_not_met_says_so(store):
    report = evaluate(SMILES[:20], reference=store, protocol="moses-2020", **QUIET)
    assert report["protocol"]["met"] is False and "30,000" in report["protocol"]["unmet"][0]
    assert {"fcd", "snn", "filters"} <= set(report["distances"]) and "unique_1000" not in report["under_protocol"]
    assert report["distances"]["fcd"]["floor"] > 0


def test_only_molecules_enter_distances_and_all_samples_stay_in_rates(store):
    good = SMILES[:20]
    with_bad = good + ["", "None", "C(C"]
    reports = [evaluate(x, reference=store, protocol="gdss-2022", **QUIET) for x in (good, with_bad)]
    assert reports[0]["distances"]["nspdk_gdss"]["value"] == pytest.approx(
        reports[1]["distances"]["nspdk_gdss"]["value"]
    )
    assert reports[1]["under_protocol"]["valid"]["rate"] == pytest.approx(20 / 23)
    assert sum(entry["count"] for entry in reports[1]["failures"]) == 3


def test_samples_without_a_single_molecule_have_a_report_without_distances(store):
    report = evaluate(["", "None", "C(C"], reference=store, protocol="digress-2023", **QUIET)
    assert report["valid_strict"]["rate"] == 0 and report["distances"] == {}
    assert any("0 of 3" in text for text in report["warnings"])


def test_one_graph_and_one_molecule_are_judged(graphs, store):
    assert evaluate(graphs[:1], reference=graphs, protocol="polygraph-2026", **QUIET)["distances"]
    assert evaluate(["CCO"], reference=store, protocol="gdss-2022", **QUIET)["distances"] == {}


def test_graphs_without_nodes_stay_in_the_rates_and_out_of_the_distances(graphs):
    arguments = {"reference": graphs[6:], "train": graphs[6:], "protocol": "gdss-2022", **QUIET}
    full, holed = (evaluate(x, family="planar", **arguments) for x in (graphs[:6], [*graphs[:6], nx.Graph()]))
    assert holed["connected"]["count"] == full["connected"]["count"] and holed["samples"] == 7
    assert holed["distances"]["degree"]["value"] == full["distances"]["degree"]["value"]
    assert any("no nodes" in text for text in holed["warnings"])
    assert evaluate([nx.Graph()], **arguments)["connected"]["rate"] == 0


@pytest.mark.parametrize("empty", [[], (), GraphBatch.from_networkx([nx.path_graph(2)]).select([])])
def test_no_samples_are_an_error(empty):
    with pytest.raises(InputError, match="at least one"):
        evaluate(empty)


def test_mixed_and_foreign_samples_are_an_error(graphs, store):
    for samples in (["CCO", graphs[0]], [1, 2], "CCO", 5, [nx.DiGraph([(0, 1)])]):
        with pytest.raises(InputError):
            evaluate(samples, **QUIET)
    with pytest.raises(InputError, match="one kind"):
        evaluate(graphs, reference=store, **QUIET)


def test_a_protocol_without_its_reference_or_of_another_kind_is_an_error(graphs):
    for arguments, match in (
        ({"samples": ["CC", "CO"], "protocol": "gdss-2022"}, "test molecules"),
        ({"samples": graphs, "protocol": "gdss-2022"}, "reference"),
        ({"samples": graphs, "protocol": "moses-2020", "reference": graphs}, "judges molecules"),
        ({"samples": ["CC"], "protocol": "polygraph-2026"}, "judges plain graphs"),
        ({"samples": ["CC"], "protocol": "nonsense"}, "gdss-2022"),
        ({"samples": graphs, "family": "cubes"}, "planar"),
    ):
        with pytest.raises(InputError, match=match):
            evaluate(**arguments, **QUIET)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"family": "planar"}, "plain graphs only"),
        ({"scaffolds": ["CC"]}, "moses-2020 only"),
        ({"mcf": Path("mcf.csv")}, "moses-2020 only"),
        ({"repeats": 1}, "at least 2"),
        ({"repeats": -3}, "at least 2"),
        ({"seed": 2**70}, "64 bits"),
    ],
)
def test_an_option_that_would_be_ignored_or_cannot_be_is_refused(store, options, match):
    with pytest.raises(InputError, match=match):
        evaluate(["CC"], reference=store, protocol="gdss-2022", **{"progress": False, **options})


def test_blank_lines_of_a_reference_are_left_out_and_a_store_without_test_split_is_training_data(store):
    reports = [evaluate(["CCC", "CCO"], train=train, **QUIET) for train in (["CCC", "", "C("], ["CCC"])]
    assert reports[0]["novel"] == reports[1]["novel"] and reports[0]["novel"]["count"] == 1
    assert any("2 of 3 lines" in text for text in reports[0]["warnings"])
    untested = evaluate(["CCC"], reference=build_store(["CCO"], workers=1, split="none", progress=False)[0], **QUIET)
    assert untested["novel"]["count"] == 1 and any("no test split" in text for text in untested["warnings"])


def test_nodes_without_edges_are_taken_out_where_the_protocol_says_so_and_it_is_said(graphs):
    loose = [nx.compose(graph, nx.empty_graph(range(100, 103))) for graph in graphs]
    options = {"reference": graphs, "train": graphs, **QUIET}
    kept, dropped = (evaluate(x, protocol="gdss-2022", **options) for x in (graphs, loose))
    assert {k: e["value"] for k, e in kept["distances"].items()} == {
        k: e["value"] for k, e in dropped["distances"].items()
    }
    assert any("36 nodes without edges" in text for text in dropped["warnings"])
    counted = evaluate(loose, protocol="digress-2023", **options)
    assert counted["distances"]["degree"]["value"] > 0.01
    bare = without_isolated(GraphBatch.from_networkx([nx.empty_graph(5), nx.path_graph(2)]))
    assert bare.node_counts().tolist() == [1, 2]


@needs_data
def test_real_training_graphs_are_inside_the_floor_of_their_set():
    from graphinv.data import build_graphs

    store, _ = build_graphs(Path(str(DATA)) / "graphs" / "planar.pkl")
    real = store.batch(store.indices("train")[:40])
    report = evaluate(real, reference=store, protocol="digress-2023", family="planar", repeats=50, progress=False)
    assert report["protocol"]["met"] and report["valid"]["rate"] == report["train_valid"]["rate"] == 1
    assert all(entry["inside_floor"] for entry in report["distances"].values()), report["distances"]
    assert report["novel"]["count"] == 0 and report["family"] == "planar"


def test_a_floor_of_another_number_of_graphs_is_no_measure_of_the_samples(graphs):
    few = evaluate(graphs[:6], reference=graphs[:3], train=graphs[3:7], protocol="digress-2023", **QUIET)
    assert "ratio" not in few and all(entry["ratio"] is None for entry in few["distances"].values())
    assert any("not compared" in text for text in few["warnings"])
    many = evaluate(graphs[:6], reference=graphs[:3], train=graphs, protocol="gdss-2022", **QUIET)
    for entry in many["distances"].values():
        assert entry["floor_count"] == 3 and entry["count"] == 6
        assert entry["ratio"] == pytest.approx(entry["value"] / entry["draws"])
    assert not any("not compared" in text for text in many["warnings"])


def test_data_without_edge_index_is_refused_and_numbers_of_numpy_are_numbers(graphs):
    batch = GraphBatch.from_networkx(graphs)
    sparse = Data(num_nodes=3, adj_t=torch.eye(3))
    for odd in (sparse, HeteroData()):
        with pytest.raises(InputError, match="edge_index"):
            evaluate([odd], **QUIET)
    assert evaluate(batch, repeats=np.int64(2), seed=np.int64(3), progress=False)["provenance"]["seed"] == 3


def test_the_report_says_what_it_was_made_of(store):
    report = evaluate(["CCO"], reference=store, seed=3, progress=False)
    provenance = report["provenance"]
    assert provenance["seed"] == 3 and provenance["rdkit"] and len(provenance["samples_sha256"]) == 64
    assert provenance["train_sha256"] != provenance["samples_sha256"]
    assert evaluate(["OCC"], progress=False)["provenance"]["samples_sha256"] != provenance["samples_sha256"]


def test_a_reference_in_other_spellings_is_the_same_reference(store):
    test = store.smiles(store.indices("test"))
    train = store.smiles(store.indices("train"))
    other = [Chem.MolToSmiles(Chem.MolFromSmiles(text), doRandom=True) for text in test]
    assert {canonical_smiles(text) for text in other} == set(test)
    reports = [
        evaluate(SMILES[:9], reference=r, train=train, protocol="gdss-2022", **QUIET)["distances"]
        for r in (store, other, [*other, "no molecule"])
    ]
    for report in reports[1:]:
        assert report["fcd"]["value"] == pytest.approx(reports[0]["fcd"]["value"])


def test_the_seed_decides_the_interval_and_nothing_touches_the_global_state(graphs):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    arguments = {"reference": graphs[6:], "train": graphs, "protocol": "digress-2023", **QUIET}
    one, two, three = (evaluate(graphs[:6], seed=seed, **arguments)["distances"] for seed in (0, 0, 1))
    assert one == two and one["degree"]["high"] != three["degree"]["high"]
    assert torch.equal(before, torch.get_rng_state())


def test_one_descriptor_without_spread_costs_only_its_own_score(store):
    report = evaluate(["CCO", "OCC", "C1CC1"] * 3, reference=store, protocol="guacamol-2019", **QUIET)
    assert report["distances"]["fcd_score"]["better"] == "higher" and report["judged"] == 9
    flat = evaluate(["CCO", "CO"], train=["CCC"] * 2 + ["CCCC"], protocol="guacamol-2019", **QUIET)
    assert "fcd_score" in flat["distances"] and "kl_score" not in flat["distances"]
    assert any(text.startswith("kl_score") for text in flat["warnings"])


def test_stability_reads_the_graphs_of_a_store_with_hydrogens(store):
    drawn = build_store(["CO", "C", "CC"], workers=1, split="none", hydrogens=True, progress=False)[0]
    report = evaluate(drawn, reference=store, protocol="digress-2023", **QUIET)
    assert report["distances"]["atom_stability"]["value"] == report["distances"]["molecule_stability"]["value"] == 1
    report = evaluate(["CO", "C", "CC"], reference=store, protocol="digress-2023", **QUIET)
    assert "atom_stability" not in report["distances"] and any("hydrogens" in text for text in report["warnings"])


def test_a_second_reference_has_figures_of_its_own(store):
    report = evaluate(SMILES[:12], reference=store, protocol="moses-2020", scaffolds=["OCC", "CNC", "CC"], **QUIET)
    same = evaluate(SMILES[:12], reference=["CCO", "CNC", "CC"], protocol="moses-2020", **QUIET)
    found, wanted = report["distances"]["fcd_scaffolds"], same["distances"]["fcd"]
    assert found["value"] == pytest.approx(wanted["value"]) and found["reference_count"] == 3
