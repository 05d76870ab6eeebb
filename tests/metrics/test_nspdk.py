"""The graph kernel equals EDeN's, sees labels and structure only, and its discrepancy is that of mean kernels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics import nspdk
from graphinv.metrics.nspdk import Features, nspdk_features, nspdk_mmd
from graphinv.testing import permute_graphs

FIXTURE = Path(__file__).parents[1] / "fixtures" / "metrics" / "nspdk_eden.json"


def pack(graph: dict[str, Any]) -> GraphBatch:
    ends = [pair for u, v, _ in graph["edges"] for pair in ((u, v), (v, u))]
    labels = [label for *_, label in graph["edges"] for _ in range(2)]
    index = torch.tensor(ends, dtype=torch.int64).reshape(-1, 2).t()
    return GraphBatch.single(torch.tensor(graph["nodes"]), index, torch.tensor(labels, dtype=torch.int64))


def random_graphs(seed: int, count: int = 3, labels: int = 2) -> GraphBatch:
    """Graphs of 1 to 12 labelled nodes, in pieces or not."""
    draw, graphs = torch.Generator().manual_seed(seed), []
    for _ in range(count):
        nodes = int(torch.randint(1, 13, (), generator=draw))
        graph = nx.gnp_random_graph(nodes, float(torch.rand((), generator=draw)) / 2, seed=seed)
        kinds = torch.randint(1, 1 + labels, (nodes + graph.number_of_edges(),), generator=draw).tolist()
        edges = [[u, v, kind] for (u, v), kind in zip(graph.edges, kinds[nodes:], strict=True)]
        graphs.append(pack({"nodes": kinds[:nodes], "edges": edges}))
    return GraphBatch.from_graphs(graphs)


def dense(*several: Features) -> list[Tensor]:
    """The rows [B, V] of several features over the same columns."""
    known = torch.cat([rows.ids for rows in several]).unique()
    out = []
    for rows in several:
        table = torch.zeros(rows.count, len(known), dtype=torch.float64)
        row = torch.arange(rows.count).repeat_interleave(rows.ptr.diff())
        table[row, torch.searchsorted(known, rows.ids)] = rows.values
        out.append(table)
    return out


def assert_same(actual: Features, expected: Features) -> None:
    assert torch.equal(actual.ptr, expected.ptr)
    assert torch.equal(actual.ids, expected.ids)
    assert torch.equal(actual.values, expected.values)


@pytest.mark.parametrize("result", [0, 1])
def test_kernel_and_rows_equal_those_of_eden_where_its_hashes_do_not_collide(result):
    fixture = json.loads(FIXTURE.read_text(encoding="utf-8"))
    expected = fixture["results"][result]
    rows = nspdk_features(GraphBatch.from_graphs([pack(g) for g in fixture["graphs"]]), expected["complexity"])
    (table,) = dense(rows)
    kernel = torch.tensor(expected["kernel"], dtype=torch.float64)
    torch.testing.assert_close(table @ table.t(), kernel, rtol=0, atol=1e-9)
    torch.testing.assert_close(table.sum(1), torch.tensor(expected["sums"], dtype=torch.float64), rtol=0, atol=1e-9)
    assert rows.ptr.diff().tolist() == expected["lengths"]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_relabelled_graph_has_the_same_row_to_the_bit(seed):
    graphs = random_graphs(seed)
    assert_same(nspdk_features(permute_graphs(graphs, seed)), nspdk_features(graphs))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), complexity=st.integers(0, 6))
def test_rows_have_norm_one_and_increasing_ids(seed, complexity):
    rows = nspdk_features(random_graphs(seed), complexity)
    for ids, values in zip(
        rows.ids.split(rows.ptr.diff().tolist()), rows.values.split(rows.ptr.diff().tolist()), strict=True
    ):
        assert float(values.square().sum()) == pytest.approx(1, abs=1e-12)
        assert bool((ids[1:] > ids[:-1]).all()) and bool((values > 0).all())


def test_a_row_does_not_depend_on_the_batch_nor_on_what_is_walked_at_once(monkeypatch):
    graphs = random_graphs(7, count=20)
    whole = nspdk_features(graphs)
    alone = [nspdk_features(graphs.graph(k)) for k in range(20)]
    assert torch.equal(torch.cat([rows.ids for rows in alone]), whole.ids)
    assert torch.equal(torch.cat([rows.values for rows in alone]), whole.values)
    monkeypatch.setattr(nspdk, "_CHUNK", 100)
    assert_same(nspdk_features(graphs), whole)


def test_labels_of_nodes_and_edges_and_degrees_tell_graphs_apart():
    path = {"nodes": [6, 6, 8], "edges": [[0, 1, 1], [1, 2, 1]]}
    others = [
        {"nodes": [6, 8, 6], "edges": [[0, 1, 1], [1, 2, 1]]},
        {"nodes": [6, 6, 8], "edges": [[0, 1, 2], [1, 2, 1]]},
        {"nodes": [6, 6, 8], "edges": [[0, 1, 1], [1, 2, 2]]},
        {"nodes": [6, 6, 8], "edges": [[0, 1, 1], [1, 2, 1], [0, 2, 1]]},
        {"nodes": [6, 6, 8], "edges": [[0, 1, 1]]},
    ]
    (table,) = dense(nspdk_features(GraphBatch.from_graphs([pack(g) for g in (path, *others)])))
    kernel = table @ table.t()
    kernel.fill_diagonal_(0)
    assert float(kernel.max()) < 0.999


def test_two_triangles_differ_from_a_hexagon_by_distances_alone():
    rings = [nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)), nx.cycle_graph(6)]
    zero, four = (dense(nspdk_features(GraphBatch.from_networkx(rings), c))[0] for c in (0, 4))
    assert float(zero[0] @ zero[1]) == pytest.approx(1)
    assert float(four[0] @ four[1]) < 0.9


def test_without_edge_types_all_edges_are_alike_and_loops_do_not_count():
    ends = torch.tensor([[0, 1, 1, 2, 2], [1, 0, 2, 1, 2]])
    plain = GraphBatch.single(torch.tensor([1, 1, 1]), ends)
    typed = GraphBatch.single(torch.tensor([1, 1, 1]), ends[:, :4], torch.zeros(4, dtype=torch.int64))
    assert_same(nspdk_features(plain), nspdk_features(typed))


def test_a_long_path_and_no_graphs_have_features():
    rows = nspdk_features(GraphBatch.from_networkx([nx.path_graph(1500)]), progress=False)
    assert float(rows.values.square().sum()) == pytest.approx(1)
    none = nspdk_features(random_graphs(0).select([]))
    assert (none.count, none.ids.numel()) == (0, 0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_discrepancy_is_that_of_mean_kernels(seed):
    x, y = nspdk_features(random_graphs(seed, 6)), nspdk_features(random_graphs(seed + 1, 4))
    a, b = dense(x, y)
    weights = torch.rand(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights = weights / weights.sum()
    inside = float(weights @ (a @ a.t()) @ weights) + float((b @ b.t()).mean())
    expected = inside - 2 * float((weights @ (a @ b.t())).mean())
    comparison = nspdk_mmd(x, y)
    assert comparison.of(weights) == pytest.approx(expected, abs=1e-12)
    assert (comparison.count, comparison.reference_count) == (6, 4)


def test_a_set_is_at_no_distance_from_itself_in_any_order():
    graphs = random_graphs(3, 15)
    rows, turned = nspdk_features(graphs), nspdk_features(graphs.select(range(14, -1, -1)))
    assert 0 <= nspdk_mmd(rows, rows).value < 1e-24
    assert 0 <= nspdk_mmd(rows, turned).value < 1e-24


def test_graphs_without_a_common_feature_are_as_far_apart_as_can_be():
    one, two = (pack({"nodes": [kind], "edges": []}) for kind in (1, 2))
    assert nspdk_mmd(nspdk_features(one), nspdk_features(two)).value == pytest.approx(2)


def test_what_the_kernel_is_not_defined_for_is_an_error():
    good = pack({"nodes": [1, 1], "edges": [[0, 1, 1]]})
    empty = GraphBatch.from_graphs([good, GraphBatch.single(good.x[:0], good.edge_index[:, :0], good.edge_attr[:0])])
    with pytest.raises(InputError, match="graph 1 has no node"):
        nspdk_features(empty)
    with pytest.raises(InputError, match="complexity"):
        nspdk_features(good, -1)
    with pytest.raises(InputError, match="integer label"):
        nspdk_features(GraphBatch.single(torch.rand(2, 3), good.edge_index, good.edge_attr))
    with pytest.raises(InputError, match="integer label"):
        nspdk_features(GraphBatch.single(good.x, good.edge_index, torch.rand(2)))
    for ends in ([[0], [1]], [[0, 1, 0, 1], [1, 0, 1, 0]]):
        with pytest.raises(InputError, match="once in both directions"):
            nspdk_features(GraphBatch.single(good.x, torch.tensor(ends)))
    with pytest.raises(InputError, match="needs samples and a reference"):
        nspdk_mmd(nspdk_features(good.select([])), nspdk_features(good))
