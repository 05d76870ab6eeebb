"""Packed and dense graphs: exact inverses of each other and of PyG and networkx, for every odd shape of a batch."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import pytest
import torch
from torch_geometric.data import Batch, Data

from graphinv import testing
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs, GraphBatch

NONE = torch.zeros(0, dtype=torch.long)


def lonely(count: int) -> GraphBatch:
    return GraphBatch.single(torch.arange(count), NONE.reshape(2, 0), NONE)


def featured(dtype) -> GraphBatch:
    b = testing.random_graphs(4, seed=8)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(b.num_nodes, 3, generator=generator, dtype=torch.float64).to(dtype)
    attr = torch.rand(b.num_edges, 2, generator=generator, dtype=torch.float64).to(dtype) + 1
    return GraphBatch(x, b.edge_index, attr, b.ptr, b.edge_ptr)


def sorted_edges(b: GraphBatch) -> GraphBatch:
    """Return the batch with the edges of each graph in the order of their ends."""
    size = max(b.num_nodes, 1)
    order = torch.argsort(b.edge_index[0] * size + b.edge_index[1])
    attr = None if b.edge_attr is None else b.edge_attr[order]
    return GraphBatch(b.x, b.edge_index[:, order], attr, b.ptr, b.edge_ptr)


BATCHES = {
    "random": testing.random_graphs(25, seed=1),
    "one node": lonely(1),
    "no node": lonely(0),
    "isolated": GraphBatch.from_graphs([lonely(3), testing.random_graphs(2, seed=2), lonely(0), lonely(1)]),
    "huge": testing.random_graphs(1, min_nodes=120, max_nodes=120, seed=3),
    "no graph": testing.random_graphs(3).select([]),
    "float32": sorted_edges(featured(torch.float32)),
    "float64": sorted_edges(featured(torch.float64)),
}
each_batch = pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())


def assert_same(a: GraphBatch, b: GraphBatch) -> None:
    for name in ("x", "edge_index", "edge_attr", "ptr", "edge_ptr"):
        left, right = getattr(a, name), getattr(b, name)
        assert (left is None) == (right is None), name
        if left is not None:
            assert left.dtype == right.dtype, f"{name}: {left.dtype} and {right.dtype}"
            assert torch.equal(left, right), f"{name} differs"


@each_batch
def test_dense_and_back_is_the_same_batch(batch):
    dense = batch.to_dense()
    assert_same(dense.to_packed(), batch)
    assert_same(batch.to_dense(max_nodes=dense.mask.size(1) + 3).to_packed(), batch)
    assert torch.equal(dense.mask.sum(1), batch.node_counts())
    assert not dense.x[~dense.mask].any() and not dense.adj[~dense.pair_mask].any()
    symmetric = dense.adj.transpose(1, 2) if dense.adj.dim() == 3 else dense.adj
    assert torch.equal(dense.adj, symmetric)


@each_batch
def test_dense_entries_are_those_of_a_loop(batch):
    dense = batch.to_dense()
    for k in range(batch.num_graphs):
        first, last = int(batch.ptr[k]), int(batch.ptr[k + 1])
        assert torch.equal(dense.x[k, : last - first], batch.x[first:last])
        adj = torch.zeros_like(dense.adj[k])
        for e in range(int(batch.edge_ptr[k]), int(batch.edge_ptr[k + 1])):
            u, v = (int(i) - first for i in batch.edge_index[:, e])
            adj[u, v] = batch.edge_attr[e]
        assert torch.equal(dense.adj[k], adj)


@each_batch
def test_graphs_taken_apart_and_put_together_are_the_batch(batch):
    if batch.num_graphs:
        assert_same(GraphBatch.from_graphs([batch.graph(k) for k in range(batch.num_graphs)]), batch)
    assert_same(batch.select(range(batch.num_graphs)), batch)
    assert_same(batch.to("cpu"), batch)
    assert batch.node_graph().tolist() == [k for k, n in enumerate(batch.node_counts().tolist()) for _ in range(n)]


def test_select_takes_graphs_in_any_order_with_repeats():
    batch = BATCHES["isolated"]
    chosen = [6, 0, 0, 3, 5, 1][: batch.num_graphs]
    chosen = [k % batch.num_graphs for k in chosen]
    assert_same(batch.select(chosen), GraphBatch.from_graphs([batch.graph(k) for k in chosen]))
    assert_same(batch.select(torch.tensor(chosen)), batch.select(chosen))
    assert batch.select([]).num_graphs == 0
    order = torch.randperm(batch.num_graphs, generator=torch.Generator().manual_seed(0))
    assert_same(batch.select(order).select(torch.argsort(order)), batch)


@pytest.mark.parametrize("name", ["random", "isolated", "huge", "float32", "float64", "one node"])
def test_pyg_and_back_is_the_same_batch(name):
    batch = BATCHES[name]
    data = batch.to_pyg()
    assert isinstance(data, Batch) and data.num_graphs == batch.num_graphs
    assert_same(GraphBatch.from_pyg(data), batch)
    assert_same(GraphBatch.from_pyg(data.to_data_list()), batch)
    assert_same(GraphBatch.from_pyg(batch.graph(0).to_pyg()[0]), batch.graph(0))


def test_pyg_edges_in_any_order_are_regrouped_and_missing_parts_filled():
    edge_index = torch.tensor([[3, 0, 2, 1], [2, 1, 3, 0]])
    data = Batch(x=torch.arange(4), edge_index=edge_index, edge_attr=torch.tensor([5, 6, 7, 8]),
                 batch=torch.tensor([0, 0, 1, 1]), ptr=torch.tensor([0, 2, 4]))  # fmt: skip
    data._num_graphs = 2
    packed = GraphBatch.from_pyg(data)
    assert packed.edge_ptr.tolist() == [0, 2, 4]
    assert packed.edge_index.tolist() == [[0, 1, 3, 2], [1, 0, 2, 3]]
    assert packed.edge_attr.tolist() == [6, 8, 5, 7]
    bare = GraphBatch.from_pyg(Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=3))
    assert bare.x.tolist() == [0, 0, 0] and bare.edge_attr is None and bare.num_graphs == 1


@pytest.mark.parametrize("name", ["random", "isolated", "huge", "one node", "no node"])
def test_networkx_and_back_is_the_same_batch(name):
    batch = BATCHES[name]
    graphs = batch.to_networkx()
    assert [g.number_of_nodes() for g in graphs] == batch.node_counts().tolist()
    assert sum(g.number_of_edges() for g in graphs) * 2 == batch.num_edges
    assert_same(sorted_edges(GraphBatch.from_networkx(graphs)), sorted_edges(batch))


def test_networkx_graphs_with_any_node_names_and_no_attributes_are_packed_in_their_order():
    graph = nx.Graph([("b", "a"), ("a", "c")])
    packed = GraphBatch.from_networkx([graph, nx.empty_graph(2), nx.Graph([(0, 0)])])
    assert packed.node_counts().tolist() == [3, 2, 1]
    assert sorted(packed.edge_index.t().tolist()) == [[0, 1], [1, 0], [1, 2], [2, 1], [5, 5]]
    assert packed.edge_attr.tolist() == [1] * 5 and packed.x.tolist() == [0] * 6


@each_batch
def test_renumbered_nodes_are_the_same_graphs(batch):
    moved = testing.permute_graphs(batch, seed=5)
    assert torch.equal(moved.ptr, batch.ptr)
    owner, own = moved.node_graph(), torch.repeat_interleave(torch.arange(batch.num_graphs), batch.edge_ptr.diff())
    assert torch.equal(owner[moved.edge_index[0]], own) and torch.equal(owner[moved.edge_index[1]], own)
    if batch.x.dim() == 1 and batch.num_nodes < 100:
        same = nx.algorithms.isomorphism.categorical_node_match("x", 0)
        typed = nx.algorithms.isomorphism.categorical_edge_match("type", 0)
        for a, b in zip(batch.to_networkx(), moved.to_networkx(), strict=True):
            assert nx.is_isomorphic(a, b, node_match=same, edge_match=typed)


def test_masked_removes_whatever_stood_in_the_padding():
    g = testing.random_dense(4, dtype=torch.float64)
    nan = DenseGraphs(
        torch.where(g.mask.unsqueeze(-1), g.x, torch.nan), torch.where(g.pair_mask, g.adj, torch.nan), g.mask
    )
    clean = nan.masked()
    assert torch.equal(clean.x, g.x) and torch.equal(clean.adj, g.adj)
    assert torch.equal(nan.to_packed().x, g.to_packed().x)


def test_packing_follows_the_mask_wherever_the_holes_are():
    mask = torch.tensor([[False, True, False, True], [False] * 4])
    adj = torch.ones(2, 4, 4, dtype=torch.long)
    packed = DenseGraphs(torch.arange(8).reshape(2, 4), adj, mask).to_packed()
    assert packed.x.tolist() == [1, 3] and packed.ptr.tolist() == [0, 2, 2]
    assert packed.edge_index.tolist() == [[0, 0, 1, 1], [0, 1, 0, 1]]


@pytest.mark.parametrize(("change", "message"), [
    ({"edge_index": torch.zeros(3, 2, dtype=torch.long)}, r"\[2, E\]"),
    ({"ptr": torch.tensor([0])}, r"\[B\+1\]"),
    ({"edge_attr": torch.zeros(7, dtype=torch.long)}, "one per edge"),
])  # fmt: skip
def test_parts_that_do_not_fit_are_refused(change, message):
    parts = {"x": torch.zeros(2), "edge_index": torch.tensor([[0, 1], [1, 0]]), "edge_attr": None,
             "ptr": torch.tensor([0, 2]), "edge_ptr": torch.tensor([0, 2])}  # fmt: skip
    with pytest.raises(InputError, match=message):
        GraphBatch(**{**parts, **change})


def test_what_a_dense_adjacency_cannot_hold_is_refused():
    x = torch.zeros(2, dtype=torch.long)
    twice = GraphBatch.single(x, torch.tensor([[0, 0], [1, 1]]), torch.tensor([1, 2]))
    untyped = GraphBatch.single(x, torch.tensor([[0, 1], [1, 0]]), torch.tensor([0, 1]))
    for batch in (twice, untyped):
        with pytest.raises(InputError, match="coalesce"):
            batch.to_dense()
    with pytest.raises(InputError, match="at least 2"):
        lonely(2).to_dense(max_nodes=1)
    with pytest.raises(InputError, match=r"0\.\.0"):
        lonely(2).graph(1)
    with pytest.raises(InputError, match="at least one"):
        GraphBatch.from_graphs([])
    with pytest.raises(InputError, match="edge_attr"):
        GraphBatch.from_graphs([lonely(1), GraphBatch.single(x, NONE.reshape(2, 0))])
    with pytest.raises(InputError, match="bool"):
        DenseGraphs(torch.zeros(1, 2), torch.zeros(1, 2, 2), torch.ones(1, 2))


def with_block(batch: GraphBatch) -> GraphBatch:
    return replace(batch, block=torch.arange(batch.num_nodes) * 3)


def assert_carried(after: GraphBatch, rows: torch.Tensor) -> None:
    assert after.block is not None
    assert torch.equal(after.block, rows * 3)


@each_batch
def test_blocks_go_where_their_nodes_go(batch):
    given = with_block(batch)
    assert_same(replace(given, block=None), batch)
    assert_carried(given.to("cpu"), torch.arange(batch.num_nodes))
    named = replace(given, x=torch.arange(batch.num_nodes))
    order = list(range(batch.num_graphs))[::-1] * 2
    for chosen in (order, order[:1], []):
        assert_carried(named.select(chosen), named.select(chosen).x)
    if order:
        assert_carried(GraphBatch.from_graphs([named.graph(k) for k in order]), named.select(order).x)
    moved = testing.permute_graphs(named, seed=3)
    assert_carried(moved, moved.x)
    assert_same(moved, replace(testing.permute_graphs(replace(named, block=None), seed=3), block=moved.block))


def test_other_forms_of_a_batch_carry_no_blocks():
    batch = with_block(BATCHES["random"])
    back = [
        batch.to_dense().to_packed(),
        GraphBatch.from_pyg(batch.to_pyg()),
        GraphBatch.from_networkx(batch.to_networkx()),
    ]
    assert all(other.block is None for other in back)


def test_blocks_of_some_batches_or_of_another_size_are_refused():
    with pytest.raises(InputError, match="1 of 2 batches carry block"):
        GraphBatch.from_graphs([lonely(2), with_block(lonely(2))])
    for block in (torch.zeros(3).long(), torch.zeros(2, 1).long(), torch.zeros(2), torch.zeros(2, dtype=torch.uint8)):
        with pytest.raises(InputError, match=r"one int64 per node, \[2\]"):
            replace(lonely(2), block=block)
