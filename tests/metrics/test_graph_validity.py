"""Membership of a family agrees with its definition on every small graph, and does not depend on the numbering."""

from __future__ import annotations

import os
from pathlib import Path

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networkx.generators.atlas import graph_atlas_g

from graphinv.data import read_graphs
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.graph_validity import FAMILIES, connected, valid_graphs
from graphinv.testing import permute_graphs, random_graphs

DATA = os.environ.get("GRAPHINV_DATA_DIR")
needs_data = pytest.mark.skipif(not DATA, reason="GRAPHINV_DATA_DIR is not set")


def is_lobster(graph: nx.Graph) -> bool:
    graph = graph.copy()
    if not len(graph) or not nx.is_tree(graph):
        return False
    for _ in range(2):
        graph.remove_nodes_from([v for v, degree in graph.degree if degree == 1])
    return all(degree <= 2 for _, degree in graph.degree)


ORACLES = {
    "planar": lambda g: len(g) > 0 and nx.is_connected(g) and nx.check_planarity(g)[0],
    "tree": lambda g: len(g) > 0 and nx.is_tree(g),
    "lobster": is_lobster,
}
SPIDER = nx.Graph(
    [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 6), (0, 7), (7, 8), (8, 9)]
)  # the least tree, no lobster


@pytest.mark.parametrize("family", ORACLES)
def test_graphs_of_up_to_seven_nodes_are_judged_as_networkx_does(family: str) -> None:
    atlas = graph_atlas_g()[:: 3 if family == "planar" else 1]
    found = valid_graphs(permute_graphs(GraphBatch.from_networkx(atlas)), family, progress=False)
    assert found.tolist() == [ORACLES[family](graph) for graph in atlas]


@pytest.mark.parametrize("nodes", range(8, 12))
def test_every_tree_is_a_lobster_or_not_by_its_definition(nodes: int) -> None:
    trees = list(nx.nonisomorphic_trees(nodes))
    batch = permute_graphs(GraphBatch.from_networkx(trees), seed=nodes)
    assert valid_graphs(batch, "tree").all()
    assert valid_graphs(batch, "lobster").tolist() == [is_lobster(tree) for tree in trees]
    assert valid_graphs(batch.select([0, len(trees) - 1]), "planar").all()


def test_known_members_and_strangers() -> None:
    lobster = nx.Graph([(0, 1), (1, 2), (0, 3), (3, 4), (1, 5), (1, 6), (2, 7), (7, 8)])
    graphs = [
        lobster,
        SPIDER,
        nx.complete_graph(5),
        nx.complete_bipartite_graph(3, 3),
        nx.grid_2d_graph(15, 15),
        nx.disjoint_union(nx.path_graph(3), nx.cycle_graph(3)),  # edges of a tree, but in two pieces
        nx.empty_graph(1),
        nx.Graph(),
    ]
    batch = GraphBatch.from_networkx(graphs)
    assert valid_graphs(batch, "planar").tolist() == [True, True, False, False, True, False, True, False]
    assert valid_graphs(batch, "tree").tolist() == [True, True, False, False, False, False, True, False]
    assert valid_graphs(batch, "lobster").tolist() == [True, False, False, False, False, False, True, False]
    assert connected(batch).tolist() == [True, True, True, True, True, False, True, False]


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_connected_agrees_with_networkx(seed: int) -> None:
    graphs = [nx.gnp_random_graph(n, 1.2 / max(n, 1), seed=seed + n) for n in (1, 2, 5, 9, 20, 41)]
    batch = permute_graphs(GraphBatch.from_networkx(graphs), seed)
    assert connected(batch).tolist() == [nx.is_connected(graph) for graph in graphs]


@pytest.mark.parametrize("graph", [nx.path_graph(3000), nx.star_graph(3000), nx.cycle_graph(2999)])
def test_long_and_wide_graphs_are_connected(graph: nx.Graph) -> None:
    cut = graph.copy()
    cut.remove_node(0)
    cut.add_node(-1)
    batch = permute_graphs(GraphBatch.from_networkx([graph, cut]), seed=4)
    assert connected(batch).tolist() == [True, False]


def test_loops_and_repeated_edges_do_not_change_a_planar_graph_and_a_loop_is_no_tree() -> None:
    ends = torch.tensor([[0, 1, 1, 2, 0, 1], [1, 0, 2, 1, 1, 0]])
    repeated = GraphBatch.single(torch.zeros(3, dtype=torch.long), ends)
    looped = GraphBatch.single(torch.zeros(3, dtype=torch.long), torch.cat([ends, torch.tensor([[2], [2]])], 1))
    both = GraphBatch.from_graphs([repeated, looped])
    assert valid_graphs(both, "planar").tolist() == [True, True]
    assert valid_graphs(both, "tree").tolist() == [True, False]
    clique = [(u, v) for u in range(4) for v in range(4)]  # K4 with its four loops
    full = GraphBatch.single(torch.zeros(4, dtype=torch.long), torch.tensor(clique).t())
    assert valid_graphs(full, "planar").tolist() == [True]


@pytest.mark.parametrize("family", FAMILIES)
def test_verdicts_depend_on_neither_numbering_nor_types_nor_batch_mates(family: str) -> None:
    blocks = nx.stochastic_block_model([24, 31], [[0.3, 0.005], [0.005, 0.3]], seed=0)
    plain = [blocks, SPIDER, nx.grid_2d_graph(4, 5), nx.star_graph(4)]
    batch = GraphBatch.from_graphs([GraphBatch.from_networkx(plain), random_graphs(6, max_nodes=6, seed=1)])
    found = valid_graphs(batch, family, progress=False)
    assert found.tolist() == valid_graphs(permute_graphs(batch, seed=7), family, progress=False).tolist()
    assert found.tolist() == [bool(valid_graphs(batch.graph(k), family)) for k in range(batch.num_graphs)]


def test_no_graphs_and_an_unknown_family() -> None:
    none = GraphBatch.from_networkx([nx.Graph()]).select([])
    assert all(valid_graphs(none, family).tolist() == [] for family in FAMILIES)
    with pytest.raises(InputError, match="'ladder'.*planar, tree, lobster, sbm"):
        valid_graphs(none, "ladder")


@needs_data
@pytest.mark.data
@pytest.mark.parametrize("family", ["planar", "tree"])
def test_the_sets_of_a_family_are_of_it(family: str) -> None:
    batch, _ = read_graphs(Path(str(DATA)) / "graphs" / f"{family}.pkl")
    assert valid_graphs(batch.select(list(range(40))), family, progress=False).all()
