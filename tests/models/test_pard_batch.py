"""A batch sorted by block against a plain loop over graphs and nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graphinv.data import GraphStore
from graphinv.diffusion import BlockOrder, block_order
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.models.pard.batch import block_batch
from graphinv.models.pard.ordered_store import ordered_store
from graphinv.nn.block import BlockSettings
from graphinv.testing import permute_graphs, random_graphs

SETTINGS = BlockSettings(4, 3, 9, node_dim=16, edge_dim=8, layers=1, heads=2)


def graphs(count=25, min_nodes=0, seed=0):
    return random_graphs(count, min_nodes=min_nodes, max_nodes=9, seed=seed)


def plainly(batch, max_hops):
    """Return per graph: nodes sorted by block, and sizes and degrees of its blocks, as lists."""
    out = []
    for k in range(batch.num_graphs):
        g = batch.graph(k)
        block = block_order(g.edge_index, g.ptr, max_hops).block.tolist() if batch.block is None else g.block.tolist()
        nodes = sorted(range(g.num_nodes), key=lambda v, block=block: (block[v], v))
        edges = {(u, v): t for (u, v), t in zip(g.edge_index.t().tolist(), g.edge_attr.tolist(), strict=True)}
        blocks = range(max(block, default=-1) + 1)
        sizes = [block.count(b) for b in blocks]
        degrees = [min(sum(u == v and block[w] <= b for u, w in edges) for v in nodes if block[v] == b) for b in blocks]
        out.append((g.x.tolist(), nodes, block, edges, sizes, degrees))
    return out


@pytest.mark.parametrize("max_hops", [0, 1, 3])
def test_every_field_is_that_of_a_plain_loop(max_hops):
    batch = graphs()
    g = block_batch(batch, SETTINGS, max_hops)
    for k, (x, nodes, block, edges, _, degrees) in enumerate(plainly(batch, max_hops)):
        n = len(nodes)
        assert g.mask[k].tolist() == [True] * n + [False] * (9 - n)
        assert g.types[k].tolist() == [x[v] for v in nodes] + [0] * (9 - n)
        assert g.block[k].tolist() == [block[v] for v in nodes] + [SETTINGS.max_nodes] * (9 - n)
        assert g.degree[k, :n].tolist() == [degrees[block[v]] for v in nodes]
        expected = [[edges.get((u, v), 0) for v in nodes] for u in nodes]
        assert g.pairs[k, :n, :n].tolist() == expected
        assert int(g.pairs[k].count_nonzero()) == len(edges)


@pytest.mark.parametrize("max_hops", [0, 2])
def test_targets_are_the_next_size_and_degree_and_nought_after_the_last_block(max_hops):
    batch = graphs()
    g = block_batch(batch, SETTINGS, max_hops)
    first, last, following = [], [], []
    for k, (*_, sizes, degrees) in enumerate(plainly(batch, max_hops)):
        first += list(zip(sizes, degrees, strict=True))[:1]
        following += [*list(zip(sizes, degrees, strict=True))[1:], (0, 0)] if sizes else []
        last += [k * 9 + sum(sizes[: b + 1]) - 1 for b in range(len(sizes))]
    assert list(zip(g.first_size.tolist(), g.first_degree.tolist(), strict=True)) == first
    assert g.last.tolist() == last
    assert list(zip(g.next_size.tolist(), g.next_degree.tolist(), strict=True)) == following


def test_blocks_that_a_store_carries_are_those_that_would_be_computed():
    batch = graphs(12, min_nodes=1)
    ordered = ordered_store(GraphStore.from_graphs(batch), 2, progress=False)
    stored = ordered.batch(ordered.indices())
    assert stored.block is not None
    with_blocks, computed = (block_batch(b, SETTINGS, 2) for b in (stored, stored.with_columns(node={"block": None})))
    assert all(torch.equal(a, b) for a, b in zip(vars(with_blocks).values(), vars(computed).values(), strict=True))


def test_blocks_of_another_order_are_kept_as_they_are_given():
    batch = graphs(12, min_nodes=1)
    block = torch.cat([torch.arange(n) for n in batch.node_counts().tolist()])
    given = batch.with_columns(node={"block": block})
    g = block_batch(given, SETTINGS, 3)
    assert bool((g.next_size <= 1).all()) and torch.equal(g.block[g.mask], block)
    expected = BlockOrder.from_blocks(block, batch.edge_index, batch.ptr)
    assert torch.equal(g.degree[g.mask], expected.degrees)


def test_a_graph_is_sorted_alike_alone_and_in_its_batch_and_renumbered():
    batch = graphs(10, min_nodes=1)
    g, moved = block_batch(batch, SETTINGS, 2), block_batch(permute_graphs(batch, seed=1), SETTINGS, 2)
    for name in ("block", "degree", "mask", "first_size", "first_degree", "next_size", "next_degree"):
        assert torch.equal(getattr(g, name), getattr(moved, name)), name
    for k in range(10):
        alone, n = block_batch(batch.graph(k), SETTINGS, 2), int(g.mask[k].sum())
        assert torch.equal(alone.types[0], g.types[k, :n]) and torch.equal(alone.pairs[0], g.pairs[k, :n, :n])
        assert torch.equal(alone.block[0], g.block[k, :n])


def test_batches_of_no_graph_and_of_empty_graphs_have_no_block():
    batch = graphs(3)
    for index, size in (([], 0), ([0] * 2, None)):
        chosen = batch.select(index)
        if size is None:
            none = torch.zeros(0, dtype=torch.long)
            offsets = torch.zeros(3, dtype=torch.long)
            chosen = GraphBatch(none, none.reshape(2, 0), none, offsets, offsets)
        g = block_batch(chosen, SETTINGS, 2)
        assert g.mask.shape == (len(index), 0) and g.pairs.shape == (len(index), 0, 0)
        assert g.last.numel() == g.first_size.numel() == g.next_size.numel() == 0


def test_edges_without_types_are_of_type_one():
    batch = graphs(6, min_nodes=2)
    plain = replace(batch, edge_attr=None)
    ones = replace(batch, edge_attr=torch.ones_like(batch.edge_attr))
    assert torch.equal(block_batch(plain, SETTINGS, 2).pairs, block_batch(ones, SETTINGS, 2).pairs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: replace(b, x=b.x + 4), "node types 0..3"),
        (lambda b: replace(b, x=b.x - 1), "node types 0..3"),
        (lambda b: replace(b, edge_attr=b.edge_attr + 3), "edge types 1..3"),  # aromatic on a kekulised model
        (lambda b: replace(b, edge_attr=b.edge_attr * 0), "edge types 1..3"),
        (lambda b: replace(b, x=b.x.float()), "integer node types"),
        (lambda b: replace(b, edge_attr=torch.ones(b.num_edges, 2)), "integer edge types"),
    ],
)
def test_classes_the_model_does_not_know_are_refused_by_name(change, said):
    with pytest.raises(InputError, match=said):
        block_batch(change(graphs(8, min_nodes=3)), SETTINGS, 2)


def test_a_graph_that_is_too_large_is_refused_and_the_largest_is_not():
    nine = random_graphs(2, min_nodes=9, max_nodes=9)
    assert block_batch(nine, SETTINGS, 1).mask.shape == (2, 9)
    with pytest.raises(InputError, match="9 nodes, this model was built for 8"):
        block_batch(nine, replace(SETTINGS, max_nodes=8), 1)
