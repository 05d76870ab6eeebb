"""Labelled graphs that are no molecules: from networkx and PyG, through a store and its file, and out with labels."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from graphinv.data import GraphStore, Vocabulary, build_graphs, write_graphs
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch

LABELS = st.one_of(st.sampled_from(["town", "Ω city", "", "10", "a,b"]), st.integers(-3, 12))


@st.composite
def labelled(draw) -> nx.Graph:
    graph = nx.gnp_random_graph(draw(st.integers(1, 6)), 0.5, seed=draw(st.integers(0, 99)))
    graph = nx.relabel_nodes(graph, {n: f"v{n}" for n in graph})
    for node in graph:
        graph.nodes[node]["label"], graph.nodes[node]["height"] = draw(LABELS), draw(st.floats(-1, 1))
    for edge in graph.edges:
        graph.edges[edge]["label"], graph.edges[edge]["lanes"] = draw(LABELS), draw(st.integers(0, 5))
    graph.graph["country"] = draw(st.sampled_from(["A", "B"]))
    return graph


def plain(graph: nx.Graph) -> tuple[list, dict]:
    """Labels and columns by position, whatever the nodes are called."""
    number = {node: i for i, node in enumerate(graph)}
    nodes = [(str(data["label"]), data["height"]) for _, data in graph.nodes(data=True)]
    edges = {
        tuple(sorted((number[u], number[v]))): (str(data["label"]), data["lanes"])
        for u, v, data in graph.edges(data=True)
    }
    return nodes, edges


@settings(max_examples=40, deadline=None)
@given(st.lists(labelled(), min_size=1, max_size=5))
def test_labels_and_columns_go_in_and_out_of_networkx_pyg_and_files(tmp_path_factory, graphs):
    path = tmp_path_factory.mktemp("labelled") / "a.graphs"
    store, told = build_graphs(graphs, split="none")
    assert told.startswith(f"{len(graphs)} graphs")
    store.save(path)
    opened = GraphStore.open(path)
    opened.verify()
    words = opened.vocabulary
    present = {str(data["label"]) for graph in graphs for _, data in graph.nodes(data=True)}
    assert set(words.nodes) == present and words.scheme == "generic"
    batch = opened.batch(opened.indices())
    out = batch.to_networkx(words)
    assert [plain(graph) for graph in out] == [plain(graph) for graph in graphs]
    assert [graph.graph for graph in out] == [graph.graph for graph in graphs]
    # a round more, and the way over PyG, give the same store
    again = build_graphs(out, split="none", vocabulary=words)[0]
    assert again.content_hash == opened.content_hash
    over_pyg = build_graphs(batch.to_pyg(words).to_data_list(), split="none", vocabulary=words)[0]
    assert over_pyg.content_hash == opened.content_hash
    write_graphs(path, batch, words)
    assert GraphStore.open(path).content_hash == opened.content_hash
    inferred = build_graphs(out, split="none")[0]
    assert inferred.vocabulary == words and inferred.content_hash == opened.content_hash


def test_pyg_types_are_integers_or_one_hot_rows_and_features_are_refused():
    index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    types, kinds = torch.tensor([3, 0, 3]), torch.tensor([0, 0, 2, 2])
    ways = [
        Data(x=types, edge_index=index, edge_attr=kinds),
        Data(x=types.unsqueeze(1).float(), edge_index=index, edge_attr=kinds.unsqueeze(1)),
        Data(x=torch.eye(4)[types], edge_index=index, edge_attr=torch.eye(3)[kinds]),
    ]
    stores = [build_graphs([data, data], split="none")[0] for data in ways]
    assert all(store.content_hash == stores[0].content_hash for store in stores)
    assert stores[0].vocabulary == Vocabulary(("0", "3"), ("0", "2"), "generic")
    assert stores[0].batch([0]).x.tolist() == [1, 0, 1] and stores[0].bond_type.tolist() == [1, 2, 1, 2]
    whole = build_graphs(Batch.from_data_list([ways[0], ways[0]]), split="none")[0]
    assert whole.content_hash == stores[0].content_hash
    bare = build_graphs([Data(edge_index=index, num_nodes=3)], split="none")[0]
    assert bare.vocabulary == Vocabulary(("0",), ("1",), "generic")
    for x, message in (
        (torch.rand(3, 4), "x holds features"),
        (torch.tensor([0.5, 1.0, 2.0]), "expected integer labels or one-hot"),
        (torch.ones(3, 4), "x holds features"),
        (torch.zeros(3, 2, 2), "expected integer labels"),
    ):
        with pytest.raises(InputError, match=message):
            build_graphs([Data(x=x, edge_index=index)], split="none")


def graph_with(nodes: dict, edges: dict | None = None) -> nx.Graph:
    graph = nx.path_graph(3)
    nx.set_node_attributes(graph, nodes, "label")
    nx.set_edge_attributes(graph, edges or {}, "label")
    return graph


ALL = {0: "a", 1: "b", 2: "a"}
LINKS = {(0, 1): "x", (1, 2): "y"}
ONE_NODE, ONE_LINK = Vocabulary(("a",), ("1",), "generic"), Vocabulary(("a", "b"), ("x",), "generic")
PAIR = torch.tensor([[0, 1], [1, 0]])


@pytest.mark.parametrize(("graphs", "options", "message"), [
    ([], {}, "at least one graph"),
    ([nx.DiGraph([(0, 1)])], {}, "graph 0 is directed"),
    ([graph_with(ALL), nx.MultiGraph([(0, 1)])], {}, "graph 1 is directed or a multigraph"),
    ([graph_with(ALL), graph_with({0: "a"})], {}, "2 of 6 nodes have no 'label', such as in graph 1"),
    ([graph_with(ALL, {(0, 1): "x"})], {}, "1 of 2 edges have no 'label'"),
    ([graph_with({0: 0.5, 1: "b", 2: "a"})], {}, "a label is a text or an integer, got 0.5"),
    ([graph_with({0: None, 1: "b", 2: "a"})], {}, "a text or an integer, got None"),
    ([graph_with(ALL)], {"vocabulary": ONE_NODE}, "node label 'b' is not in the vocabulary"),
    ([graph_with(ALL, LINKS)], {"vocabulary": ONE_LINK}, "edge label 'y'"),
    ([nx.path_graph(2), "C"], {}, "all of one kind, got Graph, str"),
    ([Data(edge_index=PAIR, num_nodes=2, node_labels=["a"])], {}, "node_labels must be a list of 2"),
    ([Data(edge_index=torch.tensor([[0], [5]]), num_nodes=2)], {}, "names others"),
    ([Data(edge_index=PAIR, num_nodes=2, edge_labels=["a", "b"])], {}, "different types"),
])  # fmt: skip
def test_graphs_whose_labels_cannot_be_told_are_refused(graphs, options, message):
    with pytest.raises(InputError, match=message):
        build_graphs(graphs, split="none", **options)


def test_labels_of_other_names_are_read_and_self_loops_dropped_and_counted():
    graph = nx.Graph([(0, 1, {"bond": "s", "w": 2.0}), (1, 1, {"bond": "loop", "w": 1.0})])
    nx.set_node_attributes(graph, {0: 6, 1: 8}, "atom")
    store, told = build_graphs([graph], split="none", node_attr="atom", edge_attr="bond")
    assert store.vocabulary == Vocabulary(("6", "8"), ("s",), "generic") and "1 self loops removed" in told
    assert set(store.node_columns) == set() and store.edge_columns["w"].tolist() == [2.0]
    assert GraphBatch.from_networkx(store.batch([0]).to_networkx()).edge_columns["w"].tolist() == [2.0, 2.0]
    with pytest.raises(InputError, match="read without labels"):
        build_graphs(Path("a.g6"), node_attr="atom")


def test_types_of_graphs_that_have_no_labels_are_their_numbers():
    batch = GraphBatch.single(torch.tensor([2, 0]), torch.tensor([[0, 1], [1, 0]]), torch.tensor([3, 3]))
    store = build_graphs(batch.to_networkx(), split="none")[0]
    assert store.vocabulary == Vocabulary(("0", "2"), ("3",), "generic")
    assert store.batch([0]).to_networkx(store.vocabulary)[0].nodes[0]["label"] == "2"
    assert build_graphs([nx.path_graph(3)], split="none")[0].vocabulary == Vocabulary(("0",), ("1",), "generic")
