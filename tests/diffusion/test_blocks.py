"""The block order: the worked examples, plain-Python oracles of both modes, and what every order promises."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import pytest
import torch
from torch import Tensor

from graphinv.diffusion import BlockOrder, block_order
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.testing import permute_graphs, random_graphs

DATA = os.environ.get("GRAPHINV_DATA_DIR")


def edges(pairs: list[tuple[int, int]]) -> Tensor:
    both = [end for u, v in pairs for end in ((u, v), (v, u))]
    return torch.tensor(both, dtype=torch.long).reshape(-1, 2).t()


def order_of(graph: nx.Graph, max_hops: int, legacy: bool = False) -> BlockOrder:
    graph = nx.convert_node_labels_to_integers(graph)
    ptr = torch.tensor([0, graph.number_of_nodes()])
    return block_order(edges(list(graph.edges)), ptr, max_hops, legacy)


def wrapped(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def oracle(neighbours: list[list[int]], max_hops: int, legacy: bool) -> tuple[list[int], list[int], list[int]]:
    """Blocks, sizes and degrees of one graph in Python integers, one node after the other."""
    n = len(neighbours)
    alive, peeled, sizes, degrees = set(range(n)), [0] * n, [], []
    while alive:
        x, rank = dict.fromkeys(alive, 1), {v: [0] for v in alive}
        for _ in range(max_hops):
            x = {v: x[v] + sum(x[u] for u in neighbours[v] if u in alive) for v in alive}
            x = {v: wrapped(c) for v, c in x.items()} if legacy else x
            rank = {v: [wrapped(rank[v][0] * n + x[v])] if legacy else [*rank[v], x[v]] for v in alive}
        least = min(rank.values())
        leaving = [v for v in sorted(alive) if rank[v] == least]
        degree = [sum(u in alive for u in neighbours[v]) for v in leaving]
        degrees.append(degree[0] if legacy else min(degree))
        for v in leaving:
            peeled[v] = len(sizes)
        sizes.append(len(leaving))
        alive -= set(leaving)
    return [len(sizes) - 1 - p for p in peeled], sizes[::-1], degrees[::-1]


def oracle_of(batch: GraphBatch, max_hops: int, legacy: bool) -> tuple[list[int], list[int], list[int], list[int]]:
    block, sizes, degrees, ptr = [], [], [], [0]
    for k in range(batch.num_graphs):
        g = batch.graph(k)
        neighbours: list[list[int]] = [[] for _ in range(g.num_nodes)]
        for u, v in g.edge_index.t().tolist():
            neighbours[u].append(v)
        b, s, d = oracle(neighbours, max_hops, legacy)
        block, sizes, degrees, ptr = block + b, sizes + s, degrees + d, [*ptr, ptr[-1] + len(s)]
    return block, sizes, degrees, ptr


def lists(order: BlockOrder) -> tuple[list[int], list[int], list[int], list[int]]:
    return order.block.tolist(), order.sizes.tolist(), order.degrees.tolist(), order.ptr.tolist()


def sparse_graphs(count: int, seed: int) -> GraphBatch:
    """Trees with a few more bonds and some nodes cut off: long and uneven, as molecules are."""
    graphs = []
    for k in range(count):
        size = 1 + (7 * k + seed) % 23
        tree = nx.random_labeled_tree(size, seed=seed + k)
        tree.add_edges_from(nx.gnm_random_graph(size, size // 6, seed=seed + k).edges)
        tree.remove_edges_from(list(tree.edges)[: k % 3])
        graphs.append(tree)
    return GraphBatch.from_networkx(graphs)


def mixed_graphs(seed: int) -> GraphBatch:
    dense = random_graphs(60, max_nodes=14, min_nodes=0, seed=seed)
    return GraphBatch.from_graphs([dense, sparse_graphs(40, seed)])


BENZENE = [(i, (i + 1) % 6) for i in range(6)]
ETHANOL_H = [(0, 1), (1, 2), (0, 3), (0, 4), (0, 5), (1, 6), (1, 7), (2, 8)]
EXAMPLES: dict[str, tuple[list[tuple[int, int]], dict[int, tuple[list[int], list[int], list[int]]]]] = {
    "ethanol": ([(0, 1), (1, 2)], dict.fromkeys(range(1, 5), ([1, 0, 1], [1, 2], [0, 1]))),
    "ethanol with hydrogens": (
        ETHANOL_H,
        {1: ([1, 0, 1, 2, 2, 2, 2, 2, 2], [1, 2, 6], [0, 1, 1])}
        | dict.fromkeys(range(2, 5), ([0, 0, 1, 1, 1, 1, 1, 1, 2], [2, 6, 1], [1, 1, 1])),
    ),
    "benzene": (BENZENE, dict.fromkeys(range(5), ([0] * 6, [6], [2]))),
    "benzene with hydrogens": (
        BENZENE + [(i, i + 6) for i in range(6)],
        dict.fromkeys(range(1, 5), ([0] * 6 + [1] * 6, [6, 6], [2, 1])),
    ),
    "toluene": (BENZENE + [(0, 6)], dict.fromkeys(range(1, 5), ([0] * 6 + [1], [6, 1], [2, 1]))),
    "star": ([(0, i) for i in range(1, 9)], dict.fromkeys(range(1, 5), ([0] + [1] * 8, [1, 8], [0, 1]))),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_examples(name: str, legacy: bool) -> None:
    pairs, expected = EXAMPLES[name]
    size = 1 + max(max(pair) for pair in pairs)
    ptr = torch.tensor([0, size])
    for max_hops, (block, sizes, degrees) in expected.items():
        order = block_order(edges(pairs), ptr, max_hops, legacy)
        assert lists(order) == (block, sizes, degrees, [0, len(sizes)]), f"H = {max_hops}"
    whole = block_order(edges(pairs), ptr, 0, legacy)
    degree = torch.bincount(edges(pairs)[0])
    assert whole.block.tolist() == [0] * size and whole.sizes.tolist() == [size]
    assert whole.degrees.tolist() == [int(degree[0] if legacy else degree.min())]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("max_hops", range(5))
def test_blocks_are_those_of_a_loop_over_nodes(max_hops: int, legacy: bool) -> None:
    for seed in range(2):
        batch = mixed_graphs(seed)
        order = block_order(batch.edge_index, batch.ptr, max_hops, legacy)
        assert lists(order) == oracle_of(batch, max_hops, legacy), f"seed {seed}"


@pytest.mark.parametrize(
    ("max_hops", "legacy"), [(20, False), (33, False), (80, False), (20, True), (33, True), (64, True)]
)
def test_more_hops_than_an_int64_holds(max_hops: int, legacy: bool) -> None:
    """The tuple stays exact; the weight of the published code wraps around, and so does ours."""
    graphs = [nx.complete_bipartite_graph(5, 9), nx.barbell_graph(12, 3), nx.lollipop_graph(15, 6), nx.path_graph(9)]
    batch = GraphBatch.from_networkx(graphs)
    assert 16**max_hops > 2**63
    order = block_order(batch.edge_index, batch.ptr, max_hops, legacy)
    assert lists(order) == oracle_of(batch, max_hops, legacy)


def test_any_number_of_hops_is_the_number_of_nodes() -> None:
    batch = mixed_graphs(0)
    most = int(batch.node_counts().max())
    assert lists(block_order(batch.edge_index, batch.ptr, 10**30)) == lists(
        block_order(batch.edge_index, batch.ptr, most)
    )


def test_a_hub_of_high_degree_needs_more_than_one_digit() -> None:
    hub = nx.star_graph(3000)
    hub.add_edges_from([(1, 3001), (3001, 3002), (2, 3)])
    batch = GraphBatch.from_networkx([hub, nx.path_graph(4)])
    assert lists(block_order(batch.edge_index, batch.ptr, 6)) == oracle_of(batch, 6, False)


@pytest.mark.parametrize("max_hops", range(5))
def test_relabelling_nodes_relabels_blocks(max_hops: int) -> None:
    for seed in range(5):
        batch = mixed_graphs(seed)
        order = block_order(batch.edge_index, batch.ptr, max_hops)
        moved = permute_graphs(batch.with_columns(node={"block": order.block}), seed=seed)
        again = block_order(moved.edge_index, moved.ptr, max_hops)
        assert moved.block is not None
        assert lists(again) == (moved.block.tolist(), *lists(order)[1:]), f"seed {seed}"


@pytest.mark.parametrize("legacy", [False, True])
def test_a_graph_does_not_depend_on_its_batch(legacy: bool) -> None:
    batch = mixed_graphs(7)
    together = block_order(batch.edge_index, batch.ptr, 3, legacy)
    for k in range(batch.num_graphs):
        g = batch.graph(k)
        alone = block_order(g.edge_index, g.ptr, 3, legacy)
        rows = slice(int(together.ptr[k]), int(together.ptr[k + 1]))
        assert torch.equal(alone.block, together.block[int(batch.ptr[k]) : int(batch.ptr[k + 1])])
        assert torch.equal(alone.sizes, together.sizes[rows]) and torch.equal(alone.degrees, together.degrees[rows])


def test_one_weight_ties_and_inverts_degrees_where_the_tuple_does_not() -> None:
    def graph(m: int) -> nx.Graph:
        return nx.disjoint_union(nx.complete_bipartite_graph(2, m), nx.complete_graph(4))

    tied = order_of(graph(17), 2, legacy=True)
    assert tied.sizes.tolist() == [2, 21], "degrees 2 and 3 in one block"
    assert tied.degrees.tolist() == [0, 2]
    early = order_of(graph(18), 2, legacy=True)
    assert early.block[-4:].tolist() == [2] * 4 and early.block[2:-4].tolist() == [1] * 18
    for m in (17, 18):
        exact = order_of(graph(m), 2)
        assert exact.block.tolist() == oracle_of(GraphBatch.from_networkx([graph(m)]), 2, False)[0]
        assert set(exact.block[-4:].tolist()).isdisjoint(exact.block[2:-4].tolist())


def test_the_degree_of_a_wrong_tie_follows_the_node_order_only_in_legacy() -> None:
    graph = nx.disjoint_union(nx.complete_graph(4), nx.complete_bipartite_graph(2, 17))
    assert order_of(graph, 2, legacy=True).degrees.tolist() == [0, 3]
    star = edges([(0, 1), (0, 2), (0, 3)]), torch.tensor([0, 4])
    assert block_order(*star, 0).degrees.tolist() == [1]
    assert block_order(*star, 0, legacy=True).degrees.tolist() == [3]


@pytest.mark.parametrize("max_hops", range(1, 5))
@pytest.mark.parametrize(
    "graph",
    [nx.cycle_graph(9), nx.complete_graph(7), nx.petersen_graph(), nx.hypercube_graph(3), nx.frucht_graph(),
     nx.empty_graph(5), nx.complete_graph(1), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(8))],
)  # fmt: skip
def test_a_regular_graph_is_one_block(graph: nx.Graph, max_hops: int) -> None:
    for legacy in (False, True):
        order = order_of(graph, max_hops, legacy)
        assert order.sizes.tolist() == [graph.number_of_nodes()]
        assert order.degrees.tolist() == [max(degree for _, degree in graph.degree)]


def test_isolated_nodes_leave_first_and_together() -> None:
    graph = nx.disjoint_union(nx.path_graph(3), nx.empty_graph(4))
    for max_hops in range(1, 5):
        order = order_of(graph, max_hops)
        assert order.block.tolist() == [1, 0, 1, 2, 2, 2, 2] and order.degrees.tolist() == [0, 1, 0]


def ball_order(graph: nx.Graph, max_hops: int) -> list[int]:
    """Peel by the sizes of neighbourhoods of 1..H hops, which is not what the order does."""
    alive, peeled, step = graph.copy(), {}, 0
    while alive:
        near = {v: nx.single_source_shortest_path_length(alive, v) for v in alive}
        rank = {v: [sum(d <= k for d in near[v].values()) for k in range(1, max_hops + 1)] for v in alive}
        leaving = [v for v in alive if rank[v] == min(rank.values())]
        peeled |= dict.fromkeys(leaving, step)
        alive.remove_nodes_from(leaving)
        step += 1
    return [step - 1 - peeled[v] for v in graph]


def test_walks_are_counted_and_not_the_nodes_in_reach() -> None:
    house = nx.house_graph()
    assert order_of(house, 1).block.tolist() == ball_order(house, 1)
    assert order_of(house, 2).block.tolist() != ball_order(house, 2)


def test_empty_graphs_have_no_block() -> None:
    nothing = torch.empty(2, 0, dtype=torch.long)
    for max_hops in (0, 1, 3):
        for legacy in (False, True):
            assert lists(block_order(nothing, torch.tensor([0]), max_hops, legacy)) == ([], [], [], [0])
            assert lists(block_order(nothing, torch.tensor([0, 0, 0]), max_hops, legacy)) == ([], [], [], [0, 0, 0])
            mixed = block_order(nothing, torch.tensor([0, 0, 2, 2, 3]), max_hops, legacy)
            assert lists(mixed) == ([0, 0, 0], [2, 1], [0, 0], [0, 0, 1, 1, 2])


def test_a_long_path_is_peeled_from_both_ends() -> None:
    order = order_of(nx.path_graph(601), 1)
    middle = torch.arange(601) - 300
    assert torch.equal(order.block, middle.abs()) and order.sizes.tolist() == [1] + [2] * 300


@pytest.mark.parametrize("legacy", [False, True])
def test_sizes_and_degrees_come_back_from_stored_blocks(legacy: bool) -> None:
    batch = mixed_graphs(3)
    order = block_order(batch.edge_index, batch.ptr, 2, legacy)
    again = BlockOrder.from_blocks(order.block.to(torch.uint8), batch.edge_index, batch.ptr, legacy)
    assert again.block.dtype == torch.int64 and lists(again) == lists(order)
    assert int(order.sizes.sum()) == batch.num_nodes


PTR = torch.tensor([0, 2, 4])
LINE = torch.tensor([[0, 1], [1, 0]])
BAD_GRAPHS: list[tuple[Callable[[], object], str]] = [
    (lambda: block_order(torch.tensor([[0, 1, 1], [1, 0, 1]]), PTR, 1), "node 1 has a self loop"),
    (lambda: block_order(LINE[:, :1], PTR, 1), "lacks its other direction"),
    (lambda: block_order(torch.tensor([[0, 2], [1, 3]]), PTR, 1), "lacks its other direction"),
    (lambda: block_order(LINE.repeat(1, 2), PTR, 1), "repeats"),
    (lambda: block_order(torch.tensor([[0, 2], [2, 0]]), PTR, 1), "joins two graphs"),
    (lambda: block_order(torch.tensor([[0, 4], [4, 0]]), PTR, 1), r"must lie in 0\.\.3, got 0\.\.4"),
    (lambda: block_order(LINE - 1, PTR, 1), "must lie in"),
    (lambda: block_order(LINE.float(), PTR, 1), r"\[2, E\] int64"),
    (lambda: block_order(LINE.t()[:, :1], PTR.int(), 1), "ptr must be a vector"),
    (lambda: block_order(torch.zeros(3, 2).long(), PTR, 1), r"\[2, E\] int64, got \[3, 2\]"),
    (lambda: block_order(LINE, torch.tensor([1, 2]), 1), "ptr must start at 0"),
    (lambda: block_order(LINE, torch.tensor([0, 3, 2]), 1), "never decrease"),
    (lambda: block_order(LINE, [0, 2], 1), "ptr must be a tensor"),  # type: ignore[arg-type]
    (lambda: block_order(LINE, PTR, -1), "max_hops must be a whole number >= 0, got -1"),
    (lambda: block_order(LINE, PTR, 65, legacy=True), "max_hops must be at most 64 with the legacy order, got 65"),
    (lambda: block_order(LINE, PTR, 10**12, legacy=True), "max_hops must be at most 64"),
    (lambda: block_order(LINE, PTR, 1.0), "max_hops must be"),  # type: ignore[arg-type]
    (lambda: BlockOrder.from_blocks(torch.tensor([0, 0, 1, 1]), LINE, PTR), "segment 1 0 is on no row"),
    (lambda: BlockOrder.from_blocks(torch.tensor([0, 0, 0, 2]), LINE, PTR), "segment 1 there is 2 on 2 rows"),
    (lambda: BlockOrder.from_blocks(torch.tensor([0, -1, 0, 0]), LINE, PTR), "segment 0 there is -1"),
    (lambda: BlockOrder.from_blocks(torch.tensor([0, 0]), LINE, PTR), r"block must be \[4\] integers"),
    (lambda: BlockOrder.from_blocks(torch.zeros(4), LINE, PTR), "float32"),
]


@pytest.mark.parametrize(("call", "message"), BAD_GRAPHS)
def test_what_is_no_batch_of_simple_graphs_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="GRAPHINV_DATA_DIR is not set")
def test_qm9_with_hydrogens_has_the_published_number_of_blocks() -> None:
    chem = pytest.importorskip("rdkit.Chem")
    from graphinv.data import read_smiles

    lines = list(read_smiles(Path(str(DATA)) / "qm9" / "qm9.csv.gz"))
    sample = torch.randperm(len(lines), generator=torch.Generator().manual_seed(0))[:3000]
    bonds, ptr = [], [0]
    for row in sample.tolist():
        mol = chem.AddHs(chem.MolFromSmiles(lines[row]))
        bonds += [(ptr[-1] + b.GetBeginAtomIdx(), ptr[-1] + b.GetEndAtomIdx()) for b in mol.GetBonds()]
        ptr.append(ptr[-1] + mol.GetNumAtoms())
    edge_index = edges(bonds)
    for max_hops, published in {1: 4.317, 2: 5.656, 3: 7.201, 4: 7.752}.items():
        order = block_order(edge_index, torch.tensor(ptr), max_hops)
        average = order.sizes.numel() / 3000
        assert math.isclose(average, published, rel_tol=0.01), f"H = {max_hops}: {average:.3f}, published {published}"
