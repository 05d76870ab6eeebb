"""Isomorphic graphs are one class and no others are, whatever the numbering; a search that is cut off is counted."""

from __future__ import annotations

import itertools

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networkx.generators.atlas import graph_atlas_g

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.isomorphism import isomorphism_classes, matches, refinement_keys, stable_colours
from graphinv.testing import permute_graphs, random_graphs

union = nx.disjoint_union_all


def shrikhande() -> nx.Graph:
    steps = ((0, 1), (1, 0), (1, 1))
    ends = itertools.product(range(4), range(4), steps)
    return nx.Graph(((a, b), ((a + s) % 4, (b + t) % 4)) for a, b, (s, t) in ends)


def rook() -> nx.Graph:
    return nx.line_graph(nx.complete_bipartite_graph(4, 4))


def blown_up(graph: nx.Graph) -> nx.Graph:
    """Each node three times, with the same neighbours."""
    return nx.lexicographic_product(graph, nx.empty_graph(3))


def with_apex(graph: nx.Graph) -> nx.Graph:
    return nx.full_join(graph, nx.empty_graph(1), rename=("g", "a"))


def cai_fuerer_immerman(base: nx.Graph, twisted: bool) -> nx.Graph:
    """The pair of Combinatorica 12 (1992), between which colour refinement sees no difference."""
    out = nx.Graph()
    for v in base:
        around = sorted(base[v])
        for size in range(int(twisted and v == 0), len(around) + 1, 2):
            for chosen in itertools.combinations(around, size):
                out.add_edges_from((("mid", v, chosen), ("end", v, w, w in chosen)) for w in around)
    out.add_edges_from((("end", u, v, bit), ("end", v, u, bit)) for u, v in base.edges for bit in (False, True))
    return out


SIX, THREE = nx.cycle_graph(6), nx.cycle_graph(3)
DIFFERENT = {
    "rook and Shrikhande": (rook(), shrikhande()),
    "the same, each node three times": (blown_up(rook()), blown_up(shrikhande())),
    "pieces of strongly regular graphs": (
        union([rook()] * 3 + [shrikhande()]),
        union([rook()] * 2 + [shrikhande()] * 2),
    ),
    "one cycle and two": (nx.cycle_graph(60), union([nx.cycle_graph(30)] * 2)),
    "many cycles": (union([SIX] * 8 + [THREE] * 2), union([SIX] * 7 + [THREE] * 4)),
    "many cycles and an apex": (with_apex(union([SIX] * 8 + [THREE] * 2)), with_apex(union([SIX] * 7 + [THREE] * 4))),
    "complements of cycles": tuple(
        nx.complement(g) for g in (union([SIX] * 8 + [THREE] * 2), union([SIX] * 7 + [THREE] * 4))
    ),
    "prism and Moebius ladder": (nx.circular_ladder_graph(10), nx.circulant_graph(20, [1, 10])),
    "Cai, Fuerer and Immerman": tuple(cai_fuerer_immerman(nx.complete_graph(4), t) for t in (False, True)),
    "cospectral graphs": (nx.star_graph(4), union([nx.cycle_graph(4), nx.empty_graph(1)])),
    "regular graphs": (nx.random_regular_graph(4, 187, seed=0), nx.random_regular_graph(4, 187, seed=1)),
}
EQUAL = {
    "no nodes": nx.Graph(),
    "no edges": nx.empty_graph(500),
    "complete": nx.complete_graph(60),
    "complete multipartite": nx.complete_multipartite_graph(*[4] * 8),
    "grid of 361 nodes": nx.grid_2d_graph(19, 19),
    "hypercube": nx.hypercube_graph(6),
    "strongly regular": shrikhande(),
    "pieces of strongly regular graphs": union([rook(), shrikhande(), rook()]),
    "block model": nx.stochastic_block_model([40, 37, 35, 38, 37], (0.295 * torch.eye(5) + 0.005).tolist(), seed=0),
    "perfect matching": union([nx.path_graph(2)] * 100),
    "Cai, Fuerer and Immerman": cai_fuerer_immerman(nx.petersen_graph(), True),
    "tree": nx.random_labeled_tree(64, seed=0),
}


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_hard_pairs_are_told_apart_exactly(pair: tuple[nx.Graph, nx.Graph]) -> None:
    found = isomorphism_classes(permute_graphs(GraphBatch.from_networkx(pair), seed=1), progress=False)
    assert found.label.tolist() == [0, 1]
    assert found.undecided == 0


@pytest.mark.parametrize("graph", EQUAL.values(), ids=EQUAL)
def test_a_graph_and_its_renumberings_are_one_class(graph: nx.Graph) -> None:
    batch = GraphBatch.from_networkx([graph] * 3)
    found = isomorphism_classes(permute_graphs(batch, seed=2), progress=False)
    assert found.label.tolist() == [0, 0, 0]
    assert found.undecided == 0


def test_the_atlas_has_1253_classes_and_a_renumbered_copy_adds_none() -> None:
    atlas = GraphBatch.from_networkx(graph_atlas_g())
    both = GraphBatch.from_graphs([atlas, permute_graphs(atlas, seed=3)])
    found = isomorphism_classes(both, progress=False)
    assert found.label.tolist() == [*range(1253)] * 2
    assert found.undecided == 0


@given(st.integers(0, 10**6), st.integers(0, 2), st.integers(0, 1))
@settings(deadline=None, max_examples=60)
def test_typed_graphs_agree_with_networkx(seed: int, more_nodes: int, more_edges: int) -> None:
    """Few types and few nodes, so that equal graphs are common."""
    drawn = random_graphs(8, max_nodes=4, node_types=1 + more_nodes, edge_types=1 + more_edges, seed=seed)
    batch = GraphBatch.from_graphs([drawn, permute_graphs(drawn, seed)])
    found = isomorphism_classes(batch, progress=False)
    plain = batch.to_networkx()
    keys = refinement_keys(batch)
    for i, j in itertools.combinations(range(len(plain)), 2):
        same = nx.is_isomorphic(
            plain[i],
            plain[j],
            node_match=lambda a, b: a["x"] == b["x"],
            edge_match=lambda a, b: a["type"] == b["type"],
        )
        assert bool(found.label[i] == found.label[j]) == same, (i, j)
        assert not same or bool(keys[i] == keys[j])


@given(st.integers(2, 7), st.data())
@settings(deadline=None, max_examples=60)
def test_two_plain_graphs_with_the_same_degrees_agree_with_networkx(nodes: int, data: st.DataObject) -> None:
    pairs = list(itertools.combinations(range(nodes), 2))
    one = nx.empty_graph(nodes)
    one.add_edges_from(data.draw(st.lists(st.sampled_from(pairs), unique=True)))
    other = one.copy()
    if other.number_of_edges() >= 2 and nodes >= 4:
        try:
            nx.double_edge_swap(other, nswap=1, seed=data.draw(st.integers(0, 99)))
        except nx.NetworkXException:
            pass
    found = isomorphism_classes(GraphBatch.from_networkx([one, other]), progress=False)
    assert (found.label.tolist() == [0, 0]) == nx.is_isomorphic(one, other)


def edge(x: list[int] | list[list[int]], kind: int | None, ends: tuple[list[int], list[int]]) -> GraphBatch:
    attr = None if kind is None else torch.full((len(ends[0]),), kind)
    return GraphBatch.single(torch.tensor(x), torch.tensor(ends), attr)


def test_integer_types_count_and_real_features_do_not() -> None:
    both = ([0, 1], [1, 0])
    plain, typed, double = edge([0, 0], 1, both), edge([0, 1], 1, both), edge([0, 0], 2, both)
    assert isomorphism_classes(GraphBatch.from_graphs([plain, typed, double, typed])).label.tolist() == [0, 1, 2, 1]
    real = GraphBatch(torch.rand(2, 3), plain.edge_index, torch.rand(2, 5), plain.ptr, plain.edge_ptr)
    assert matches(real, plain)[0].tolist() == [True]
    assert matches(edge([0, 0], None, both), plain)[0].tolist() == [True]
    assert matches(edge([0, 0], None, both), double)[0].tolist() == [False]
    rows = [edge([[0, 1], [2, 3]], 1, both), edge([[2, 3], [0, 1]], 1, both), edge([[0, 3], [2, 1]], 1, both)]
    assert isomorphism_classes(GraphBatch.from_graphs(rows)).label.tolist() == [0, 0, 1]


def test_direction_repeats_and_loops_of_edges_count() -> None:
    there, both = edge([0, 0], 1, ([0], [1])), edge([0, 0], 1, ([0, 1], [1, 0]))
    twice, loop = edge([0, 0], 1, ([0, 0], [1, 1])), edge([0, 0], 1, ([0, 1], [0, 1]))
    circle, mixed = edge([0] * 3, 1, ([0, 1, 2], [1, 2, 0])), edge([0] * 3, 1, ([0, 1, 0], [1, 2, 2]))
    graphs = [there, edge([0, 0], 1, ([1], [0])), both, twice, loop, circle, mixed]
    assert isomorphism_classes(GraphBatch.from_graphs(graphs)).label.tolist() == [0, 0, 1, 2, 3, 4, 5]


def test_a_pair_cut_off_counts_as_different_and_is_counted() -> None:
    hard = GraphBatch.from_networkx([rook(), shrikhande(), rook()])
    found = isomorphism_classes(hard, search_limit=0, progress=False)
    assert (found.label.tolist(), found.undecided) == ([0, 1, 2], 3)
    seen, undecided = matches(hard.select([0]), hard.select([1, 2]), search_limit=0, progress=False)
    assert (seen.tolist(), undecided) == ([False], 2)
    seen, undecided = matches(hard.select([0]), hard.select([1, 2]), progress=False)
    assert (seen.tolist(), undecided) == ([True], 0)
    with pytest.raises(InputError, match="search_limit must be at least 0"):
        isomorphism_classes(hard, search_limit=-1)


def test_graphs_whose_nodes_colours_tell_apart_need_no_choice() -> None:
    graph = EQUAL["block model"]
    other = nx.double_edge_swap(graph.copy(), seed=0)
    batch = permute_graphs(GraphBatch.from_networkx([graph, other, graph]))
    found = isomorphism_classes(batch, search_limit=0, progress=False)
    assert (found.label.tolist(), found.undecided) == ([0, 1, 0], 0)


def test_no_graph_and_no_training_graph() -> None:
    none = GraphBatch.from_networkx([nx.Graph()]).select([])
    some = GraphBatch.from_networkx([nx.path_graph(2)])
    assert isomorphism_classes(none).label.tolist() == [] == refinement_keys(none).tolist()
    assert matches(none, some)[0].tolist() == []
    assert matches(some, none)[0].tolist() == [False]


def test_keys_and_colours_do_not_depend_on_numbering_or_on_the_batch() -> None:
    graphs = GraphBatch.from_graphs([random_graphs(40, seed=5), GraphBatch.from_networkx([nx.path_graph(90)])])
    keys, colours = refinement_keys(graphs), stable_colours(graphs)
    assert torch.equal(keys, refinement_keys(permute_graphs(graphs, seed=6)))
    for k in range(graphs.num_graphs):
        alone = graphs.graph(k)
        assert torch.equal(refinement_keys(alone), keys[k : k + 1])
        assert torch.equal(stable_colours(alone), colours[graphs.ptr[k] : graphs.ptr[k + 1]])


def test_colours_are_those_of_colour_refinement() -> None:
    """Oracle: partition of the nodes of the union, refined by multisets until it splits no more."""
    graphs = random_graphs(30, node_types=2, edge_types=2, seed=8)
    nodes = graphs.to_networkx()
    whole = nx.disjoint_union_all(nodes)
    colour = {v: whole.nodes[v]["x"] for v in whole}
    for _ in range(len(whole)):
        rows = {v: (colour[v], tuple(sorted((colour[w], e["type"]) for w, e in whole[v].items()))) for v in whole}
        numbers = {row: k for k, row in enumerate(sorted(set(rows.values())))}
        colour = {v: numbers[rows[v]] for v in whole}
    ours = stable_colours(graphs).tolist()
    for k, graph in enumerate(nodes):
        low = int(graphs.ptr[k])
        pairs = {(ours[low + v], colour[low + v]) for v in graph}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    keys = refinement_keys(graphs).tolist()
    held = [tuple(sorted(colour[int(graphs.ptr[k]) + v] for v in graph)) for k, graph in enumerate(nodes)]
    for i, j in itertools.combinations(range(len(held)), 2):
        assert (keys[i] == keys[j]) == (held[i] == held[j])
