"""The last edge of a block is judged as peeling the whole graph judges it."""

from __future__ import annotations

import pytest
import torch

from graphinv.diffusion import block_order
from graphinv.nn.closing import closing_edges, leaf_sites
from graphinv.testing import random_graphs


def peeled(adj, hops):
    """Return [n] bool, the nodes that peeling takes first, by the public block order."""
    order = block_order(adj.nonzero().t(), torch.tensor([0, len(adj)]), hops)
    return order.block == order.block.max()


def cut(seed, hops, count=40):
    """Yield graphs whose last block lacks one edge, the row that lacks it, and the block."""
    batch = random_graphs(count, min_nodes=2, max_nodes=9, seed=seed)
    for k in range(count):
        g = batch.graph(k)
        adj = torch.zeros(g.num_nodes, g.num_nodes, dtype=torch.bool)
        adj[g.edge_index[0], g.edge_index[1]] = True
        block = peeled(adj, hops)
        for i in block.nonzero().flatten().tolist():
            for j in adj[i].nonzero().flatten().tolist():
                less = adj.clone()
                less[i, j] = less[j, i] = False
                yield less, i, j, block


@pytest.mark.parametrize("hops", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_an_edge_closes_a_block_exactly_if_peeling_then_takes_it(seed, hops):
    right = looked = 0
    for adj, i, j, block in cut(seed, hops):
        fine = closing_edges(adj[None], torch.tensor([i]), block[None], ~block[None], hops)[0]
        assert bool(fine[j])
        for v in range(len(adj)):
            if v == i or adj[i, v]:
                continue
            more = adj.clone()
            more[i, v] = more[v, i] = True
            assert bool(fine[v]) == torch.equal(peeled(more, hops), block)
            right, looked = right + bool(fine[v]), looked + 1
    assert right > 100 and looked - right > 50


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_leaves_may_come_where_peeling_takes_them_and_padding_changes_nothing(hops):
    batch = random_graphs(40, max_nodes=8, seed=7)
    dense = batch.to_dense()
    sites, counts = leaf_sites(dense.adj > 0, dense.mask, dense.mask, hops)
    assert not sites[~dense.mask].any() and bool(sites.any())
    for k in range(40):
        n = int(dense.mask[k].sum())
        adj = torch.zeros(n + 1, n + 1, dtype=torch.bool)
        adj[:n, :n] = dense.adj[k, :n, :n] > 0
        for v in range(n):
            more = adj.clone()
            more[n, v] = more[v, n] = True
            only = torch.arange(n + 1) == n
            x = torch.ones(n + 1).double()
            for hop in range(hops):
                x = x + more.double() @ x
                assert int(counts[k, v, hop]) == int(x[n])
            assert bool(sites[k, v]) == torch.equal(peeled(more, hops), only)


def test_many_graphs_are_looked_at_in_pieces(monkeypatch):
    dense = random_graphs(30, min_nodes=3, max_nodes=8, seed=1).to_dense()
    whole = leaf_sites(dense.adj > 0, dense.mask, dense.mask, 3)
    monkeypatch.setattr("graphinv.nn.closing._MOST", 500)
    assert all(
        torch.equal(a, b) for a, b in zip(leaf_sites(dense.adj > 0, dense.mask, dense.mask, 3), whole, strict=True)
    )
    none = torch.zeros(0, 4, dtype=torch.bool)
    assert leaf_sites(torch.zeros(0, 4, 4), none, none, 2)[0].shape == (0, 4)
