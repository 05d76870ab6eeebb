"""Packed and dense graphs: exact inverses of each other and of PyG and networkx, for every odd shape of a batch."""

from __future__ import annotations

import pickle
from dataclasses import replace

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from graphinv import testing
from graphinv.data import Vocabulary
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
    columns = {name: column[order] for name, column in b.edge_columns.items()}
    return replace(b, edge_index=b.edge_index[:, order], edge_attr=attr, edge_columns=columns)


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


def column(rows: int, kind: int, generator: torch.Generator) -> torch.Tensor:
    """One of several forms of column, by ``kind``."""
    values = torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    forms = (values[:, 0], values.float(), (values[:, 0] * 100).long(), values > 0, (values * 9).to(torch.int32))
    return forms[kind % len(forms)]


def with_columns(batch: GraphBatch, seed: int = 0, kinds: tuple[int, int, int] = (0, 1, 2)) -> GraphBatch:
    """Columns of several forms; those of edges are the same in both directions."""
    generator = torch.Generator().manual_seed(seed)
    ends, pair = batch.pairs()
    node, edge, graph = (
        {f"{what}{i}": column(rows, kind + i, generator) for i in range(2)}
        for what, rows, kind in zip("neg", (batch.num_nodes, ends.size(1), batch.num_graphs), kinds, strict=True)
    )
    texts = ["", "C=O", "Å\tname", "μ" * 40]
    graph |= {"smiles": tuple(texts[k % len(texts)] for k in range(batch.num_graphs))}
    return batch.with_columns(node=node, edge={name: values[pair] for name, values in edge.items()}, graph=graph)


def assert_same_columns(a: GraphBatch, b: GraphBatch, exact: bool = True) -> None:
    for kind in ("node_columns", "edge_columns", "graph_columns"):
        left, right = getattr(a, kind), getattr(b, kind)
        assert set(left) == set(right), kind
        for name, values in left.items():
            if not isinstance(values, torch.Tensor):
                assert list(values) == list(right[name]), name
                continue
            assert not exact or values.dtype == right[name].dtype, name
            assert torch.equal(values.double(), right[name].double()), f"{kind}: {name}"


def numbered(batch: GraphBatch) -> GraphBatch:
    """Every node, edge and graph carries its own number."""
    rows = torch.arange(max(batch.num_nodes, batch.num_edges, batch.num_graphs))
    sizes = batch.num_nodes, batch.num_edges, batch.num_graphs
    node, edge, graph = ({"row": rows[:size]} for size in sizes)
    return batch.with_columns(node=node, edge=edge, graph=graph | {"text": [str(k) for k in range(sizes[2])]})


@each_batch
def test_columns_go_where_their_rows_go(batch):
    named, order = numbered(batch), list(range(batch.num_graphs))[::-1] * 2
    for chosen in (order, order[:1], []):
        got = named.select(chosen)
        assert_same(got, batch.select(chosen))
        assert torch.equal(got.x, batch.x[got.node_columns["row"]])
        assert got.edge_attr is None or torch.equal(got.edge_attr, batch.edge_attr[got.edge_columns["row"]])
        assert got.graph_columns["row"].tolist() == chosen
        assert got.graph_columns["text"] == tuple(map(str, chosen))
    if order:
        assert_same_columns(GraphBatch.from_graphs([named.graph(k) for k in order]), named.select(order))
    moved = testing.permute_graphs(named, seed=3)
    assert torch.equal(batch.x[moved.node_columns["row"]], moved.x)
    assert_same_columns(replace(moved, node_columns=named.node_columns), named)
    assert_same_columns(named.to("cpu"), named)
    assert named.to("meta").graph_columns["row"].device.type == "meta"
    assert all(not getattr(named.to_dense().to_packed(), f"{kind}_columns") for kind in ("node", "edge", "graph"))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=6),
    kinds=st.tuples(*[st.integers(0, 4)] * 3),
    data=st.data(),
)
def test_columns_go_through_every_form_and_come_back(seed, counts, kinds, data):
    plain = GraphBatch.from_graphs(
        [testing.random_graphs(1, min_nodes=n, max_nodes=n, seed=seed + n) if n else lonely(0) for n in counts]
    )
    batch = with_columns(plain, seed, kinds)
    chosen = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=8))
    joined = GraphBatch.from_graphs([batch.graph(k) for k in chosen])
    assert_same(joined, plain.select(chosen))
    assert_same_columns(joined, batch.select(chosen))
    from_pyg = GraphBatch.from_pyg(joined.to_pyg())
    assert_same(from_pyg, joined)
    assert_same_columns(from_pyg, joined)
    assert_same_columns(GraphBatch.from_pyg(joined.to_pyg().to_data_list()), joined)
    back = sorted_edges(GraphBatch.from_networkx(joined.to_networkx()))
    expected = sorted_edges(joined)
    for kind, rows in (("node_columns", joined.num_nodes), ("edge_columns", joined.num_edges)):
        if not rows:  # without a row there is no attribute
            assert not getattr(back, kind)
            expected = replace(expected, **{kind: {}})
    assert_same(replace(back, x=expected.x) if not joined.num_nodes else back, expected)
    assert_same_columns(back, expected, exact=False)
    for kind in ("node_columns", "edge_columns", "graph_columns"):
        for values in getattr(back, kind).values():
            assert not isinstance(values, torch.Tensor) or values.dtype in (torch.float64, torch.int64, torch.bool)


def test_a_column_is_frozen_changed_by_name_and_taken_out():
    batch = lonely(3).with_columns(node={"block": torch.tensor([0, 1, 1])}, graph={"a": ["x"]})
    with pytest.raises(TypeError):
        batch.node_columns["block"] = torch.zeros(3)  # type: ignore[index]
    with pytest.raises(AttributeError):
        batch.block = None  # type: ignore[misc]
    other = batch.with_columns(node={"block": torch.tensor([2, 2, 2]), "w": torch.rand(3)})
    assert (
        batch.block.tolist() == [0, 1, 1] and other.block.tolist() == [2, 2, 2] and list(other.graph_columns) == ["a"]
    )
    assert lonely(3).block is None and other.with_columns(node={"block": None, "none": None}).block is None
    copied = pickle.loads(pickle.dumps(batch))
    assert_same(copied, batch)
    assert_same_columns(copied, batch)


COLUMNS = {
    "size": ({"node": {"a": torch.zeros(3)}}, r"node column 'a' must be a tensor \[2, \*\].*got float32 \[3\]"),
    "scalar": ({"graph": {"a": torch.tensor(1.0)}}, r"graph column 'a' must be a tensor \[1, \*\]"),
    "of edges": ({"edge": {"a": torch.zeros(1)}}, r"edge column 'a' must be a tensor \[2, \*\]"),
    "list": ({"node": {"a": [1, 2]}}, "got a list"),
    "complex": ({"node": {"a": torch.zeros(2, dtype=torch.complex64)}}, "got complex64"),
    "text of nodes": ({"node": {"a": ["x", "y"]}}, "numbers or bools; got a list"),
    "one text": ({"graph": {"a": "x"}}, "or 1 texts; got a str"),
    "texts": ({"graph": {"a": ["x", "y"]}}, "or 1 texts"),
    "mixed": ({"graph": {"a": [None]}}, "list that holds a NoneType"),
    "name": ({"node": {"": torch.zeros(2)}}, "must be printable text"),
    "number": ({"node": {3: torch.zeros(2)}}, "must be printable text"),
    "line": ({"node": {"a\nb": torch.zeros(2)}}, "must be printable text"),
    "field": ({"graph": {"ptr": torch.zeros(1)}}, "other than x, edge_index, edge_attr, ptr, edge_ptr"),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "message"), COLUMNS.values(), ids=COLUMNS.keys())
def test_columns_that_do_not_fit_their_rows_are_refused(columns, message):
    pair = GraphBatch.single(torch.zeros(2), torch.tensor([[0, 1], [1, 0]]))
    with pytest.raises(InputError, match=message):
        pair.with_columns(**columns)
    kind, given = next(iter(columns.items()))
    with pytest.raises(InputError, match=message):
        replace(pair, **{f"{kind}_columns": given})


def test_columns_of_some_batches_or_of_several_forms_are_refused():
    one, other = lonely(2), lonely(1)
    with pytest.raises(InputError, match="1 of 2 batches carry the node column 'block'"):
        GraphBatch.from_graphs([one, other.with_columns(node={"block": torch.zeros(1)})])
    with pytest.raises(InputError, match="1 of 2 batches carry the graph column 'name'"):
        GraphBatch.from_graphs([one.with_columns(graph={"name": ["a"]}), other])
    for a, b in ((torch.zeros(1), torch.zeros(1, 2)), (torch.zeros(1), torch.zeros(1).long()), (torch.zeros(1), ["a"])):
        with pytest.raises(InputError, match="graph column 'y' is of several forms"):
            GraphBatch.from_graphs([one.with_columns(graph={"y": a}), other.with_columns(graph={"y": b})])
    with pytest.raises(InputError, match="node_columns must map"):
        replace(one, node_columns=[torch.zeros(2)])


def test_attributes_of_foreign_pyg_graphs_are_told_by_their_lengths_or_by_name():
    def data(n: int, **more) -> Data:
        index = torch.tensor([[0, 1], [1, 0]]) if n > 1 else NONE.reshape(2, 0)
        return Data(edge_index=index, num_nodes=n, z=torch.arange(n), y=torch.ones(1, 3), name=f"m{n}", **more)

    batch = GraphBatch.from_pyg([data(3, gap=0.5, edge_w=torch.rand(2)), data(2, gap=1.5, edge_w=torch.rand(2))])
    assert set(batch.node_columns) == {"z"} and set(batch.edge_columns) == {"edge_w"}
    assert batch.graph_columns["gap"].tolist() == [0.5, 1.5] and batch.graph_columns["name"] == ("m3", "m2")
    assert batch.graph_columns["y"].shape == (2, 3)
    tie = GraphBatch.from_pyg([data(2, edge_w=torch.rand(2), w=torch.rand(2))])
    assert set(tie.node_columns) == {"z", "w"} and set(tie.edge_columns) == {"edge_w"}
    with pytest.raises(InputError, match=r"'y' may be of nodes or of graphs.*graph_columns=\['y'\]"):
        GraphBatch.from_pyg([data(1)])
    told = GraphBatch.from_pyg([data(1)], node_columns=["z"])
    assert set(told.node_columns) == {"z"} and set(told.graph_columns) == {"y", "name"}
    assert not GraphBatch.from_pyg([data(3)], graph_columns=[]).graph_columns
    left_out = GraphBatch.from_pyg(
        [data(3, adj=torch.rand(5, 5), edge_label_index=torch.zeros(2, 1).long(), d={"a": 1})]
    )
    assert set(left_out.node_columns) == {"z"}
    with pytest.raises(InputError, match="'adj' is no graph column"):
        GraphBatch.from_pyg([data(3, adj=torch.rand(5, 5))], graph_columns=["adj"])
    with pytest.raises(InputError, match="no attribute 'gap'; they have"):
        GraphBatch.from_pyg([data(3)], graph_columns=["gap"])
    with pytest.raises(InputError, match="1 of 2 Data have the attribute 'gap'"):
        GraphBatch.from_pyg([data(3), data(3, gap=0.1)])
    with pytest.raises(InputError, match="with edge_index"):
        GraphBatch.from_pyg(Data(x=torch.zeros(2)))


def test_columns_that_pyg_or_networkx_would_misread_are_refused():
    pair = GraphBatch.single(torch.zeros(2), torch.tensor([[0, 1], [1, 0]]))
    for name in ("my_index", "batch", "minibatch", "face", "keys", "num_nodes", "_store"):
        with pytest.raises(InputError, match=f"PyG cannot carry the column '{name}'"):
            pair.with_columns(graph={name: torch.zeros(1)}).to_pyg()
    for name in ("y", "pos", "time"):
        assert list(GraphBatch.from_pyg(pair.with_columns(graph={name: torch.zeros(1)}).to_pyg()).graph_columns) == [
            name
        ]
    with pytest.raises(InputError, match="'w' is two columns"):
        pair.with_columns(node={"w": torch.zeros(2)}, graph={"w": torch.zeros(1)}).to_pyg()
    with pytest.raises(InputError, match="'w' differs between the directions"):
        pair.with_columns(edge={"w": torch.tensor([0.0, 1.0])}).to_networkx()
    with pytest.raises(InputError, match="as 'type'"):
        pair.with_columns(edge={"type": torch.zeros(2)}).to_networkx()
    nan = pair.with_columns(edge={"w": torch.full((2,), torch.nan)}).to_networkx()
    assert len(nan) == 1


def test_attributes_of_foreign_networkx_graphs_that_fit_are_columns_and_named_ones_must():
    graph = nx.Graph([(0, 1, {"w": 1.5}), (1, 2, {"w": 2.5})], name="path", tags={"a"})
    nx.set_node_attributes(graph, {n: [n, n + 1] for n in graph}, "at")
    nx.set_node_attributes(graph, {n: f"n{n}" for n in graph}, "name")
    graph.nodes[0]["part"] = 1
    batch = GraphBatch.from_networkx([graph])
    assert batch.node_columns["at"].tolist() == [[0, 1], [1, 2], [2, 3]] and set(batch.node_columns) == {"at"}
    assert batch.edge_columns["w"].tolist() == [1.5, 1.5, 2.5, 2.5] and set(batch.graph_columns) == {"name"}
    assert not GraphBatch.from_networkx([graph], edge_columns=()).edge_columns
    for kind, name, message in (("node", "part", "2 of 3 lack it"), ("node", "name", "other things than numbers"),
                                ("graph", "tags", "other things"), ("edge", "x2", "2|4 of")):  # fmt: skip
        with pytest.raises(InputError, match=f"the {kind} attribute '{name}' is no column: .*({message})"):
            GraphBatch.from_networkx([graph], **{f"{kind}_columns": [name]})


def test_labels_go_out_with_a_vocabulary_that_has_them():
    pair = GraphBatch.single(torch.tensor([1, 0]), torch.tensor([[0, 1], [1, 0]]), torch.tensor([2, 2]))
    words = Vocabulary(("C", "O"), ("single", "double"), "generic")
    graph = pair.to_networkx(words)[0]
    assert [label for _, label in graph.nodes(data="label")] == ["O", "C"] and graph.edges[0, 1]["label"] == "double"
    data = pair.to_pyg(words)[0]
    assert data.node_labels == ["O", "C"] and data.edge_labels == ["double"] * 2
    assert_same(GraphBatch.from_pyg(pair.to_pyg(words)), pair)
    assert_same(GraphBatch.from_networkx([graph]), pair)
    for batch, message in (
        (replace(pair, x=torch.tensor([0, 2])), r"labels of node types 0\.\.1, the batch holds 0\.\.2"),
        (replace(pair, edge_attr=torch.tensor([0, 0])), r"labels of edge types 1\.\.2, the batch holds 0\.\.0"),
        (replace(pair, x=torch.rand(2, 3)), "integer node types"),
    ):
        for way in (batch.to_networkx, batch.to_pyg):
            with pytest.raises(InputError, match=message):
                way(words)


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_of_a_loop_whatever_directions_are_held(seed):
    batch = testing.random_graphs(6, seed=seed)
    kept = torch.rand(batch.num_edges, generator=torch.Generator().manual_seed(seed)) < 0.7
    index = torch.cat([batch.edge_index[:, kept], torch.tensor([[0], [0]])], 1)
    ends, pair = replace(batch, edge_index=index, edge_attr=None).pairs()
    listed = [tuple(sorted(edge)) for edge in index.t().tolist()]
    assert list(map(tuple, ends.t().tolist())) == sorted(set(listed))
    assert [tuple(ends[:, p].tolist()) for p in pair.tolist()] == listed
