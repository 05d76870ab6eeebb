"""Descriptors against networkx, numpy and brute force, and against what other evaluators find for the same graphs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics import GraphSet, graph_features
from graphinv.metrics.graph_features import (
    clustering_histograms,
    degree_histograms,
    orbit_means,
    spectral_histograms,
    wavelet_histograms,
)
from graphinv.metrics.orbits import orbit_counts
from graphinv.metrics.protocols import PROTOCOLS

PEERS = json.loads((Path(__file__).parents[1] / "fixtures/metrics/graphs_peers.json").read_text(encoding="utf-8"))
DESCRIPTORS = {distance.name: distance.compute for distance in PROTOCOLS["digress-2023"].graphs.distances}


def descriptor(name: str, graphs: GraphBatch) -> Tensor:
    return GraphSet(graphs).rows(
        DESCRIPTORS[name].descriptor, *([DESCRIPTORS[name].kernel.bins] if DESCRIPTORS[name].kernel.bins else [])
    )


@st.composite
def plain_graphs(draw: Callable[..., Any], most: int = 7) -> list[nx.Graph]:
    graphs = []
    for nodes in draw(st.lists(st.integers(1, most), min_size=1, max_size=4)):
        pairs = list(itertools.combinations(range(nodes), 2))
        graph = nx.empty_graph(nodes)
        graph.add_edges_from(draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else [])
        graphs.append(graph)
    return graphs


def random_graphs(count: int, seed: int = 0) -> list[nx.Graph]:
    return [nx.gnp_random_graph(5 + 4 * k, 0.3, seed=seed + k) for k in range(count)]


def relabelled(graph: nx.Graph, seed: int) -> nx.Graph:
    order = torch.randperm(len(graph), generator=torch.Generator().manual_seed(seed)).tolist()
    out = nx.empty_graph(len(graph))
    out.add_edges_from((order[u], order[v]) for u, v in graph.edges)
    return out


def orbits_by_hand(graph: nx.Graph) -> Tensor:
    """Every connected induced subgraph of 2 to 4 nodes, named by its degrees."""
    by_edges = {(2, 1): {1: 0}, (3, 2): {1: 1, 2: 2}, (3, 3): {2: 3}, (4, 5): {2: 12, 3: 13}, (4, 6): {3: 14}}
    by_most = {(3, 2): {1: 4, 2: 5}, (3, 3): {1: 6, 3: 7}, (4, 2): {2: 8}, (4, 3): {1: 9, 2: 10, 3: 11}}
    counts = torch.zeros(len(graph), 15, dtype=torch.float64)
    for size in (2, 3, 4):
        for nodes in itertools.combinations(graph, size):
            part = graph.subgraph(nodes)
            if not nx.is_connected(part):
                continue
            degrees, edges = dict(part.degree), part.number_of_edges()
            orbit = by_edges.get((size, edges)) or by_most[edges, max(degrees.values())]
            for node, degree in degrees.items():
                counts[node, orbit[degree]] += 1
    return counts.mean(0)


def spread(values: list[float], span: tuple[float, float], bins: int) -> Tensor:
    counts, _ = np.histogram(values, bins=bins, range=span)
    return torch.from_numpy(counts / counts.sum())


@settings(max_examples=60, deadline=None)
@given(plain_graphs())
def test_degrees_are_those_of_networkx(graphs):
    found = degree_histograms(GraphBatch.from_networkx(graphs))
    for row, graph in zip(found, graphs, strict=True):
        wanted = torch.tensor(nx.degree_histogram(graph), dtype=torch.float64) / len(graph)
        assert torch.equal(row[: len(wanted)], wanted)
        assert not row[len(wanted) :].any()


@settings(max_examples=60, deadline=None)
@given(plain_graphs(), st.sampled_from([1, 7, 10, 100]))
def test_clustering_is_that_of_networkx_in_the_bins_of_numpy(graphs, bins):
    found = clustering_histograms(GraphBatch.from_networkx(graphs), bins)
    for row, graph in zip(found, graphs, strict=True):
        assert torch.equal(row, spread(list(nx.clustering(graph).values()), (0.0, 1.0), bins))


def test_every_small_fraction_falls_where_numpy_puts_it():
    values = sorted({a / b for b in range(1, 80) for a in range(b + 1)})
    for bins in (3, 10, 100, 200):
        found = graph_features._histograms(
            torch.tensor(values, dtype=torch.float64), torch.zeros(len(values), dtype=torch.long), 1, (0.0, 1.0), bins
        )
        assert found[0].tolist() == np.histogram(values, bins=bins, range=(0.0, 1.0))[0].tolist()


@settings(max_examples=40, deadline=None)
@given(plain_graphs())
def test_orbits_are_those_of_brute_force(graphs):
    found = orbit_means(GraphBatch.from_networkx(graphs))
    torch.testing.assert_close(found, torch.stack([orbits_by_hand(graph) for graph in graphs]), rtol=0, atol=1e-12)


def test_spectra_are_those_of_networkx():
    graphs = [graph for graph in random_graphs(8) if not nx.is_bipartite(graph)]
    found = spectral_histograms(GraphBatch.from_networkx(graphs))
    for row, graph in zip(found, graphs, strict=True):
        values = np.linalg.eigvalsh(nx.normalized_laplacian_matrix(graph).toarray())
        assert torch.equal(row, spread(list(values), (-1e-5, 2.0), 200))


def test_the_largest_eigenvalue_of_a_bipartite_graph_is_counted():
    graphs = [nx.path_graph(n) for n in range(2, 15)] + [nx.grid_2d_graph(5, 6), nx.star_graph(9)]
    found = spectral_histograms(GraphBatch.from_networkx(graphs))
    sizes = torch.tensor([len(graph) for graph in graphs], dtype=torch.float64)
    torch.testing.assert_close(found[:, -1] * sizes, torch.ones(len(graphs), dtype=torch.float64))


def test_filters_and_wavelet_histograms_are_those_of_pygsp():
    filters = PEERS["filters"]
    responses = graph_features._filters(torch.tensor(filters["eigenvalues"], dtype=torch.float64))
    torch.testing.assert_close(responses, torch.tensor(filters["responses"], dtype=torch.float64), rtol=1e-9, atol=0)
    graphs = [nx.from_graph6_bytes(line.encode()) for line in PEERS["samples"]]
    wanted = torch.zeros(len(graphs), 1200, dtype=torch.float64)
    for row, counts in zip(wanted, PEERS["wavelet_counts"], strict=True):
        for place, count in counts:
            row[place] = count
    found = wavelet_histograms(GraphBatch.from_networkx(graphs))
    torch.testing.assert_close(found, wanted / wanted.sum(1, keepdim=True), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_descriptors_are_blind_to_the_names_of_nodes_and_follow_the_order_of_graphs(name):
    graphs = random_graphs(6, seed=20)
    rows = descriptor(name, GraphBatch.from_networkx(graphs))
    other = descriptor(name, GraphBatch.from_networkx([relabelled(g, 3) for g in graphs[::-1]]))
    torch.testing.assert_close(rows.flip(0), other, rtol=1e-12, atol=1e-12)
    assert rows.dtype == torch.float64
    assert len(rows) == 6


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_row_does_not_depend_on_the_other_graphs_of_the_batch(name):
    graphs = random_graphs(5, seed=40)
    rows = descriptor(name, GraphBatch.from_networkx(graphs))
    for row, graph in zip(rows, graphs, strict=True):
        alone = descriptor(name, GraphBatch.from_networkx([graph]))[0]
        torch.testing.assert_close(row[: len(alone)], alone, rtol=1e-12, atol=1e-12)
        assert not row[len(alone) :].any()


@pytest.mark.parametrize("name", ["degree", "clustering", "spectral", "wavelet"])
def test_histograms_sum_to_one(name):
    graphs = [nx.empty_graph(1), nx.empty_graph(3), nx.complete_graph(2), nx.star_graph(40), *random_graphs(4)]
    rows = descriptor(name, GraphBatch.from_networkx(graphs))
    torch.testing.assert_close(rows.sum(1), torch.ones(len(graphs), dtype=torch.float64))


def test_graphs_without_edges_have_descriptors():
    batch = GraphBatch.from_networkx([nx.empty_graph(1), nx.empty_graph(4)])
    assert degree_histograms(batch).tolist() == [[1.0], [1.0]]
    for rows in (clustering_histograms(batch, 10), spectral_histograms(batch, 10)):
        assert rows.tolist() == [[1.0] + [0.0] * 9] * 2
    wavelets = wavelet_histograms(batch, 10).view(2, 12, 10)
    assert not wavelets[:, 0].any()  # the first filter answers beyond its range
    torch.testing.assert_close(wavelets[:, 1:, 0], torch.full((2, 11), 1 / 11, dtype=torch.float64))
    assert not orbit_means(batch).any()


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_no_graphs_have_no_rows(name):
    nothing = GraphBatch.from_networkx([nx.path_graph(3)]).select([])
    assert len(descriptor(name, nothing)) == 0


@pytest.mark.parametrize("name", DESCRIPTORS)
@pytest.mark.parametrize(("edges", "said"), [
    ([[0, 0], [0, 1], [1, 0]], "graph 0 has a self loop"),
    ([[0, 1], [1, 0], [0, 1]], "repeated"),
    ([[0, 1]], "one direction"),
    ([[0, 2], [2, 0]], "leaves its graph"),
])  # fmt: skip
def test_graphs_that_are_not_simple_are_refused(name, edges, said):
    index = torch.tensor(edges).t()
    batch = GraphBatch(torch.zeros(3), index, None, torch.tensor([0, 2, 3]), torch.tensor([0, len(edges), len(edges)]))
    with pytest.raises(InputError, match=said):
        descriptor(name, batch)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_graph_without_nodes_is_refused_by_its_number(name):
    with pytest.raises(InputError, match="graph 1 has no nodes"):
        descriptor(name, GraphBatch.from_networkx([nx.path_graph(2), nx.Graph()]))


def test_orbits_are_counted_beyond_32_bits():
    found = orbit_counts(GraphBatch.from_networkx([nx.star_graph(3000)]))
    assert int(found[0, 7]) == 3000 * 2999 * 2998 // 6 > 2**32


def test_walks_counted_in_parts_of_any_size_give_the_same_orbits(monkeypatch):
    graphs = [nx.complete_graph(9), nx.gnp_random_graph(40, 0.4, seed=1), nx.star_graph(30), nx.karate_club_graph()]
    batch = GraphBatch.from_networkx(graphs)
    whole = orbit_counts(batch)
    assert whole[:, 3].tolist() == [count for graph in graphs for count in nx.triangles(graph).values()]
    for entries in (1, 50):
        monkeypatch.setattr("graphinv.metrics.orbits._ENTRIES", entries)
        assert torch.equal(orbit_counts(batch), whole)


def test_unknown_descriptors_and_no_bins_are_errors():
    batch = GraphBatch.from_networkx([nx.path_graph(2)])
    with pytest.raises(InputError, match="at least 1 bin"):
        spectral_histograms(batch, 0)
