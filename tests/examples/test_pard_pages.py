"""Cost against the number of nodes, and the table of drug-like molecules."""

from __future__ import annotations

from xml.etree import ElementTree

import networkx as nx
import pytest

import graphinv
from examples.benchmarks import training_curve
from examples.benchmarks.lines import watt_hours
from examples.benchmarks.pages import pard as page
from examples.benchmarks.pard import planar_graph


@pytest.mark.parametrize("nodes", [1, 10, 50, 101])
def test_graphs_of_the_cost_are_planar_sparse_and_of_their_size(nodes):
    molecule = planar_graph(nodes, 3)
    graph = nx.from_numpy_array(molecule.edges.numpy())
    assert len(molecule.nodes) == nodes and graph.number_of_edges() < 3 * nodes
    assert nx.check_planarity(graph)[0] and bool((molecule.edges == molecule.edges.t()).all())
    assert nodes < 50 or graph.number_of_edges() > 1.5 * nodes


def size_line(side, nodes, seconds):
    return {
        "name": "pard_size", "side": side, "status": "ok", "nodes": nodes, "per_graph_s": seconds,
        "extra_mb_per_graph": 2.0 * nodes,
    }  # fmt: skip


def test_the_power_of_n_is_the_slope_of_logarithms():
    lines = [size_line("tokens", n, 1e-4 * n**1.5) for n in (50, 100, 200)] + [size_line("ours", 50, 1.0)]
    table = page.pard_size([*lines, {"name": "pard_size", "side": "peer", "status": "timeout"}])
    tokens, ours = (next(row for row in table.splitlines() if f"| {side} " in row) for side in ("tokens", "ours"))
    assert "1.5 / 1.0" in tokens and ours.count("-") >= 3
    chart = page.size_chart(lines)["pard_size.svg"]
    assert ElementTree.fromstring(chart).tag.endswith("svg") and page.size_chart([]) == {}


def test_molecules_of_both_models_stand_in_one_table():
    rates = dict.fromkeys(("valid_strict", "valid_relaxed", "connected", "unique", "novel"), 0.5)
    common = {**rates, "samples": 1000, "sample_cpu_s": 100.0, "wh_10000": watt_hours(15, 100, 3600, 125)}
    early = {
        "name": "training_curve", "data": "zinc", "sampler": {"tries": 8, "valence": True}, "cpu_seconds": 1800,
        "path_consistent": 0.99, "redraws": 3.0, "distances": {"fcd": {"value": 4.5, "floor": 1.5}}, **common,
    }  # fmt: skip
    late = {**early, "cpu_seconds": 3600, "distances": {"fcd": {"value": 2.5, "floor": 1.5}}}
    plain = {**early, "sampler": {"tries": 1, "valence": False}}
    other = {"name": "smiles_lstm", "data": "zinc", "train_cpu_s": 3600, "distances": None, **common}
    table = page.pard_molecules([late, plain, early, other])
    assert "zinc | PARD, 8 tries, in valence | 60" in table and "2.5 (1.5)" in table and table.count("4.5") == 1
    assert "PARD, plain | 30" in table and "zinc | SMILES LSTM | 60" in table
    charts = page.molecule_charts([late, plain, early, other])
    assert [len(ElementTree.fromstring(svg).findall(".//{*}polyline")) for svg in charts.values()] == [3, 2]
    assert page.molecule_charts([]) == {} and page.molecule_charts([other]) == {}


def test_plain_graphs_stand_in_a_table_and_a_curve():
    rates = dict.fromkeys(("valid", "connected", "unique"), 0.75)
    late = {
        "name": "training_curve", "data": "tree", "sampler": {"tries": 1, "valence": False}, "cpu_seconds": 600,
        **rates,
        "vun": 0.625, "path_consistent": 0.5, "redraws": 0.0, "ratio": 3.5, "samples": 40, "sample_cpu_s": 10.0,
    }  # fmt: skip
    lines = [late, {**late, "cpu_seconds": 300, "vun": 0.25}, {**late, "data": "planar", "ratio": None}]
    table = page.pard_graphs(lines)
    assert "tree | PARD, plain | 10 | 62.5%" in table and "25.0%" not in table and "planar | PARD, plain" in table
    chart = ElementTree.fromstring(page.graph_chart(lines)["pard_graphs_vun.svg"])
    assert len(chart.findall(".//{*}polyline")) == 2 and page.graph_chart([]) == {}


def test_new_samples_are_counted_for_molecules_and_graphs():
    molecules = graphinv.evaluate(["CCO", "CCO", "CC", "C(C)(C)(C)(C)C"], train=["CC"])
    trees = [nx.path_graph(4), nx.path_graph(4), nx.star_graph(3), nx.cycle_graph(4), nx.path_graph(5)]
    graphs = graphinv.evaluate(trees, train=[nx.path_graph(5)], family="tree")
    assert training_curve.count_new(molecules) == pytest.approx(1)  # of 3 valid ones 2 are distinct, and 1 of these new
    assert training_curve.count_new(graphs) == 2
    assert {"valid_strict", "novel"} < set(training_curve.rates(molecules))
    assert training_curve.rates(graphs)["vun"] == 0.4


def test_energy_is_for_ten_thousand_new_molecules():
    assert watt_hours(36.0, 100.0, 1000.0, 2000.0) == [5.0, 15.0]
