"""Parts of graphs that are there from the beginning: what peeling leaves, what training shows, what samples keep."""

from __future__ import annotations

import random
from dataclasses import replace

import networkx as nx
import pytest
import torch

from graphinv.diffusion import block_order
from graphinv.errors import InputError
from graphinv.models.pard.config import BlockSampler
from graphinv.models.pard.cores import draw_core, with_cores
from graphinv.testing import assert_close, random_graphs
from tests.models.test_pard_removal import EMPTY, check_losses, graphs, model

CORES = {"cores": 0.7, "max_hops": 3}


def networks_of(g):
    """Return each padded graph as a networkx graph with types of nodes and edges."""
    out = []
    for k in range(len(g.types)):
        n = int(g.mask[k].sum())
        graph = nx.Graph()
        graph.add_nodes_from((i, {"type": int(g.types[k, i])}) for i in range(n))
        graph.add_edges_from(
            (i, j, {"type": int(g.pairs[k, i, j])}) for i in range(n) for j in range(i) if int(g.pairs[k, i, j])
        )
        out.append(graph)
    return out


@pytest.mark.parametrize("hops", [0, 1, 3])
def test_peeling_takes_everything_but_the_core(hops):
    batch = random_graphs(40, max_nodes=9, seed=0)
    core = torch.rand(batch.num_nodes, generator=torch.Generator().manual_seed(0)) < 0.3
    block = block_order(batch.edge_index, batch.ptr, hops, core=core).block
    for k in range(40):
        part = slice(int(batch.ptr[k]), int(batch.ptr[k + 1]))
        own, kept, adj = block[part], core[part], batch.graph(k).to_dense().adj[0] > 0
        assert not own.numel() or own.unique().tolist() == list(range(int(own.max()) + 1))
        if bool(kept.any()):
            assert torch.equal(own == 0, kept)
        for b in range(int(own.max()) if own.numel() else 0, 0 if bool(kept.any()) else -1, -1):
            there = own <= b
            x, chosen = there.double(), there & ~kept
            for _ in range(hops):
                x = (x + adj.double() @ x) * there
                chosen &= x == x[chosen].min()
            assert torch.equal(chosen, own == b)
    assert torch.equal(
        block_order(batch.edge_index, batch.ptr, hops, core=torch.zeros_like(core)).block,
        block_order(batch.edge_index, batch.ptr, hops).block,
    )


def test_a_core_must_fit_the_nodes():
    batch = random_graphs(3, min_nodes=2, seed=0)
    for core in (torch.ones(batch.num_nodes), torch.ones(2, dtype=torch.bool)):
        with pytest.raises(InputError, match="core must be"):
            block_order(batch.edge_index, batch.ptr, 2, core=core)


def test_cores_are_scaffolds_ring_systems_and_pieces():
    """Two rings joined by a bond, a tail on one of them."""
    edges = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 5), (5, 3), (5, 6), (6, 7)]
    adj = torch.zeros(10, 10, dtype=torch.bool)
    for i, j in edges:
        adj[i, j] = adj[j, i] = True
    rng, seen = random.Random(0), {}
    for _ in range(400):
        core = tuple(draw_core(adj, 8, rng))
        seen[core] = seen.get(core, 0) + 1
        assert 0 < len(core) < 8 and nx.is_connected(nx.Graph(edges).subgraph(core))
    assert seen[tuple(range(6))] > 100 and seen[0, 1, 2] > 40 and seen[3, 4, 5] > 40
    assert len({len(core) for core in seen}) == 7
    assert draw_core(adj, 1, rng) == [] and draw_core(adj, 0, rng) == []


def test_training_graphs_stay_the_same_and_some_begin_with_a_core():
    pard = model(**CORES)
    g = pard.pad(graphs(60, seed=4))
    made = with_cores(g, pard.config, torch.Generator().manual_seed(1))
    share = float(made.core.any(1).double().mean())
    assert 0.35 < share < 0.85
    assert torch.equal(made.core, made.core & made.mask) and torch.equal(made.block == 0, made.core | (made.block == 0))
    with_core = made.core.any(1)
    assert torch.equal((made.block == 0)[with_core], made.core[with_core])
    assert not made.degree[made.core].any() and not made.walks[made.core].any()
    assert len(made.first_size) == int((made.mask.any(1) & ~with_core).sum())
    match = {"node_match": lambda a, b: a["type"] == b["type"], "edge_match": lambda a, b: a["type"] == b["type"]}
    assert all(nx.is_isomorphic(a, b, **match) for a, b in zip(networks_of(g), networks_of(made), strict=True))
    none = with_cores(g, replace(pard.config, cores=1e-9), torch.Generator().manual_seed(1))
    assert torch.equal(none.block, g.block)


@torch.no_grad()
def test_losses_are_those_of_a_loop_that_begins_with_the_core():
    pard = model(**CORES)
    g = with_cores(pard.pad(graphs(8, seed=2)), pard.config, torch.Generator().manual_seed(0))
    assert bool(g.core.any())
    check_losses(pard, g)


def test_losses_of_a_batch_with_cores_reach_the_weights():
    pard = model(**CORES).train()
    loss = pard.loss(graphs(30), torch.Generator().manual_seed(0))
    loss.backward()
    assert bool(loss.isfinite()) and bool(pard.net.core.grad.any())


def test_samples_continue_their_core_and_stay_on_the_path_that_begins_with_it():
    pard = model(**CORES, sampler=BlockSampler(tries=6, restarts=30))
    ring = random_graphs(1, min_nodes=3, max_nodes=3, seed=3)
    drawn = pard.sample(12, seed=0, core=ring)
    small = ring.to_dense()
    for k in range(12):
        dense = drawn.graph(k).to_dense()
        assert torch.equal(dense.x[0, :3], small.x[0]) and torch.equal(dense.adj[0, :3, :3], small.adj[0])
    assert drawn.node_columns["core"].sum() == 36 and bool((drawn.node_counts() > 3).any())
    assert bool(pard.path_consistency(drawn).all())
    alone = pard.sample(3, seed=0, core=ring, batch_size=1)
    assert all(torch.equal(alone.graph(k).edge_index, drawn.graph(k).edge_index) for k in range(3))
    each = pard.sample(2, seed=0, core=random_graphs(2, min_nodes=1, max_nodes=4, seed=5))
    assert each.num_graphs == 2
    assert_close(pard.sample(2, seed=9).node_counts().double(), pard.sample(2, seed=9).node_counts().double(), "plain")


def test_what_cannot_be_continued_is_refused():
    with pytest.raises(InputError, match="not trained to continue"):
        model().sample(2, core=random_graphs(1, min_nodes=2, max_nodes=2, seed=0))
    pard = model(**CORES)
    with pytest.raises(InputError, match="one graph or 3"):
        pard.sample(3, core=random_graphs(2, min_nodes=1, max_nodes=2, seed=0))
    with pytest.raises(InputError, match="1 .. 6 nodes"):
        pard.sample(1, core=random_graphs(1, min_nodes=7, max_nodes=7, seed=0))
    for wrong in ({"cores": 1.5}, {"network": "ppgn"}, {"prior": "marginal", "max_hops": 0}):
        with pytest.raises(InputError, match="cores must be"):
            replace(EMPTY, **{**CORES, **wrong})
