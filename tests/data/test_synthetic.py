"""Graphs made by rule have the shape of their rule, depend on the seed alone and leave the global state alone."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from graphinv.data import GraphStore, community_graphs, grid_graphs, tree_graphs
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch


def same(a: GraphBatch, b: GraphBatch) -> bool:
    return torch.equal(a.ptr, b.ptr) and torch.equal(a.edge_index, b.edge_index)


def test_communities_are_two_equal_halves_with_one_link_between() -> None:
    batch = community_graphs(300, seed=4)
    GraphStore.from_graphs(batch)  # both directions, no loops, no repeats
    inside = pairs = 0
    for graph in batch.to_networkx():
        half = len(graph) // 2
        assert len(graph) % 2 == 0 and 6 <= half <= 10
        between = sum((u < half) != (v < half) for u, v in graph.edges)
        assert between == 1
        inside, pairs = inside + graph.number_of_edges() - between, pairs + half * (half - 1)
    bound = 5 * (0.7 * 0.3 / pairs) ** 0.5
    assert abs(inside / pairs - 0.7) < bound, (inside / pairs, bound)
    assert batch.node_counts().unique().tolist() == [12, 14, 16, 18, 20]


def test_grids_are_the_grids_of_networkx() -> None:
    batch = grid_graphs(1, 5)
    expected = [nx.grid_2d_graph(i, j) for i in range(1, 5) for j in range(1, 5)]
    for ours, theirs in zip(batch.to_networkx(), expected, strict=True):
        numbered = nx.convert_node_labels_to_integers(theirs, ordering="sorted")
        assert set(ours) == set(numbered) and {frozenset(e) for e in ours.edges} == {
            frozenset(e) for e in numbered.edges
        }
    published = grid_graphs()
    assert published.num_graphs == 100
    assert (int(published.node_counts().min()), int(published.node_counts().max())) == (100, 361)


@pytest.mark.parametrize("nodes", [1, 2, 3, 64, 300])
def test_trees_are_trees(nodes: int) -> None:
    batch = tree_graphs(5, nodes, seed=2)
    GraphStore.from_graphs(batch)
    assert batch.num_graphs == 5 and all(nx.is_tree(graph) and len(graph) == nodes for graph in batch.to_networkx())


def test_trees_are_uniform_over_the_sixteen_labelled_trees_of_four_nodes() -> None:
    ends = tree_graphs(4000, 4).edge_index[:, ::2] % 4
    trees = (4 * ends.amin(0) + ends.amax(0)).view(4000, 3).sort(dim=1).values
    counts = trees.unique(dim=0, return_counts=True)[1].double()
    assert counts.numel() == 16
    bound = 5 * (4000 * 15 / 256) ** 0.5
    assert float((counts - 250).abs().max()) < bound, counts


@pytest.mark.parametrize("make", [community_graphs, lambda count, seed: tree_graphs(count, 9, seed)])
def test_graph_k_depends_on_the_seed_and_k_alone(make) -> None:
    state = torch.random.get_rng_state()
    few, many = make(3, seed=7), make(8, seed=7)
    assert torch.equal(state, torch.random.get_rng_state())
    assert same(few, many.select([0, 1, 2])) and not same(many, make(8, seed=8))


def test_no_graphs_are_a_batch_of_none() -> None:
    assert community_graphs(0).num_graphs == tree_graphs(0).num_graphs == grid_graphs(3, 3).num_graphs == 0


@pytest.mark.parametrize("call", [lambda: community_graphs(-1), lambda: tree_graphs(-1), lambda: tree_graphs(1, 0),
                                  lambda: grid_graphs(0, 3), lambda: grid_graphs(4, 3)])  # fmt: skip
def test_impossible_sizes_are_refused(call) -> None:
    with pytest.raises(InputError, match="needs"):
        call()
