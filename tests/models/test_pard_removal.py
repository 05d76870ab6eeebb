"""PARD under the prior "empty": what is left of a block, its bound, and samples that keep to degree, key and path."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from graphinv.data import GraphStore
from graphinv.diffusion import StubMatching, block_order
from graphinv.errors import InputError
from graphinv.models.pard import PARD
from graphinv.models.pard.batch import block_batch
from graphinv.models.pard.config import BlockSampler, PARDConfig
from graphinv.models.pard.path import block_edges, keeps_valence, leaf_keys, next_counts, on_path
from graphinv.models.pard.removal import remove
from graphinv.models.pard.sampler import draw_graphs
from graphinv.nn.block_network import NewBlock
from graphinv.ops.pairs import from_pairs, to_pairs
from graphinv.testing import assert_close, permute_graphs, random_graphs

EMPTY = PARDConfig(
    network="tokens", prior="empty", walks=1, walk_classes=40, node_types=4, edge_types=3, max_nodes=7, max_hops=2,
    node_dim=16, edge_dim=8, layers=2, heads=2,
)  # fmt: skip
networks = pytest.mark.parametrize(
    "changes", [{}, {"network": "ppgn"}, {"conditions": ("mass", "charge")}], ids=["tokens", "ppgn", "conditions"]
)


def graphs(count=9, min_nodes=0, seed=0, most=7):
    batch = random_graphs(count, min_nodes=min_nodes, max_nodes=most, seed=seed)
    mass = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    charge = torch.where(torch.arange(count) % 3 == 0, torch.nan, -mass)
    return batch.with_columns(graph={"mass": mass, "charge": charge})


def model(seed=0, dtype=torch.float64, **changes):
    pard = PARD.seeded(replace(EMPTY, **changes), seed)
    generator = torch.Generator().manual_seed(seed)
    for p in pard.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=generator)
    batch = graphs(40, seed=3)
    pard.prepare(GraphStore.from_graphs(batch, split_id=torch.zeros(40, dtype=torch.uint8)), progress=False)
    return pard.to(dtype).eval()


def draws(pard, g, seed=0):
    size, generator = g.types.size(1), torch.Generator().manual_seed(seed)
    shapes = (len(g.types), pard.max_nodes + 1), (len(g.types), size), (len(g.types), size * (size - 1) // 2)
    return [torch.rand(shape, generator=generator) for shape in shapes]


def left_of(pard, g, drawn):
    return remove(g, pard.config, drawn[0].gather(1, g.block), *drawn[1:])


# --- what is left ---


def test_what_is_left_is_part_of_the_data_and_edges_wait_for_all_types():
    pard = model()
    g = pard.pad(graphs(200, min_nodes=2))
    left = left_of(pard, g, draws(pard, g))
    assert torch.equal(left.pairs, left.pairs.transpose(1, 2))
    assert bool(((left.pairs == g.pairs) | (left.pairs == 0)).all())
    assert bool(((left.types == g.types) | (left.types == 4)).all())
    hidden = (left.types == 4) & g.mask
    same = (g.block.unsqueeze(1) == g.block.unsqueeze(2)) & g.mask.unsqueeze(1) & g.mask.unsqueeze(2)
    open_block = (same & hidden.unsqueeze(1)).any(2)
    reads = (g.block.unsqueeze(2) >= g.block.unsqueeze(1)) & g.mask.unsqueeze(1) & g.mask.unsqueeze(2)
    own = (left.pairs > 0) & reads
    assert not own[open_block].any()
    assert torch.equal(left.missing.sum(2) + own.sum(2), torch.where(g.mask, g.degree, 0))
    assert not (left.missing & ~left.allowed).any()
    assert not left.allowed.diagonal(dim1=1, dim2=2).any()


def test_every_level_of_a_block_is_equally_likely():
    """A triangle of block 1 on a node of block 0, all joined: 3 types, then 3 + 3 edges."""
    pard = model(max_hops=3, walks=2)
    edges = [(i, j) for i in range(4) for j in range(i)]
    g = by_hand([0, 1, 1, 1], edges, copies=6000)
    left = left_of(pard, g, draws(pard, g))
    types = (left.types[:, 1:] < 4).sum(1)
    there = (to_pairs(left.pairs) > 0).sum(1)
    level = torch.bincount(types + there, minlength=10) / 6000
    assert level.shape == (10,) and float(level[9]) == 0  # something is always left to draw
    assert float((level[:9] - 1 / 9).abs().max()) < 5 * math.sqrt(0.1 / 6000)
    first = to_pairs(left.pairs)[there == 1] > 0  # edges (0, 1), (0, 2), (0, 3) have one end in the block, others two
    outer = float(first[:, :3].double().sum(1).mean())
    assert abs(outer - 1 / 3) < 5 * math.sqrt(0.25 / int((there == 1).sum()))


def test_states_are_those_that_the_solver_comes_through():
    """Nodes 2 .. 5 of block 1 on 0 and 1: edges there and nodes asked next, against a simulation of the rule."""
    edges = [(2, 3), (4, 5), (0, 2), (1, 3), (0, 4), (1, 5), (2, 4)]
    pard = model(max_hops=3, walks=2)
    g = by_hand([0, 0, 1, 1, 1, 1], edges, copies=20_000)
    left = left_of(pard, g, draws(pard, g))
    rng, seen, expected = random.Random(0), Counter(), Counter()
    for k in (left.types[:, 2:] < 4).all(1).nonzero().squeeze(1).tolist():
        there = frozenset(e for e in edges if left.pairs[k][e])
        seen[there, frozenset((left.row_weight[k] > 0).nonzero().squeeze(1).tolist())] += 1
    for _ in range(seen.total()):
        there, begun = set(), set()
        for _ in range(rng.randrange(len(edges))):
            row = rng.choice(rows_next(edges, there, begun))
            begun.add(row)
            there.add(rng.choice([e for e in edges if row in e and e not in there]))
        expected[frozenset(there), frozenset(rows_next(edges, there, begun))] += 1
    states = set(seen) | set(expected)
    distance = sum((seen[s] - expected[s]) ** 2 / (seen[s] + expected[s]) for s in states)
    assert len(states) == 38 and distance < 80  # chi square of 37 degrees: 80 is one in 20,000


def rows_next(edges, there, begun):
    """Return the nodes above 1 of which one is joined next: begun ones, else those with some edge, else all."""
    have = {i: sum(i in e for e in there) for i in range(2, 6)}
    rows = [i for i in have if have[i] < sum(i in e for e in edges)]
    return [i for i in rows if i in begun] or [i for i in rows if have[i]] or rows


def by_hand(block, edges, copies):
    """Return copies of one graph with given blocks as a padded batch."""
    pard = model(max_hops=3, walks=2)
    pairs = torch.zeros(len(block), len(block), dtype=torch.long)
    for i, j in edges:
        pairs[i, j] = pairs[j, i] = 1
    g = pard.pad(graphs(1, min_nodes=4, most=4))
    block = torch.tensor(block)
    fill = {"block": block.expand(copies, -1), "pairs": pairs.expand(copies, -1, -1)}
    fill |= {name: torch.ones(copies, len(block), dtype=torch.long) for name in ("types", "degree")}
    fill["core"] = torch.zeros(copies, len(block), dtype=torch.bool)
    fill["walks"] = torch.full((copies, len(block), 2), 99)
    return replace(g, mask=torch.ones(copies, len(block), dtype=torch.bool), **fill)


# --- the bound ---


@networks
@torch.no_grad()
def test_losses_are_those_of_a_loop_over_blocks_by_the_rules_of_the_solver(changes):
    pard = model(**changes)
    check_losses(pard, pard.pad(graphs(8, seed=2)))


def check_losses(pard, g):
    """Compare the losses of every graph with those of a loop over its blocks."""
    drawn = draws(pard, g)
    left = left_of(pard, g, drawn)
    node, edge, *_ = pard.removal_losses(g, *drawn)
    for k in range(len(g.types)):
        expected = slowly(pard, g, left, k)
        assert float(node[k]) == pytest.approx(expected[0], rel=1e-6, abs=1e-5)
        assert float(edge[k]) == pytest.approx(expected[1], rel=1e-6, abs=1e-5)


def slowly(pard, g, left, k):
    """Return the losses of nodes and edges of graph k, block after block, each row as the solver draws from it."""
    net, block = pard.net, g.block[k][g.mask[k]]
    contexts, total = net.empty_contexts(1, g.condition[k : k + 1]), [0.0, 0.0]
    core = g.core[k : k + 1]
    for b, size in enumerate(torch.bincount(block).tolist()):
        old, new = int((block < b).sum()), int((block <= b).sum())
        if bool(core[0, old]):
            none, walks = torch.zeros(1).long(), g.walks[k, old : old + 1]
            whole = g.types[k : k + 1, :new], g.pairs[k : k + 1, :new, :new]
            begun = NewBlock(*whole, none, none, torch.ones(1, new).bool(), walks, torch.ones(1).bool())
            contexts = net.finish(contexts, begun)
            continue
        rows, mask, columns = slice(old, new), torch.ones(1, size).bool(), torch.ones(1, new).bool()
        key = torch.tensor([b]), g.degree[k, old : old + 1], mask
        walks = g.walks[k, old : old + 1] if pard.net.settings.walks else None
        x, e = left.types[k : k + 1, rows], left.pairs[k : k + 1, rows, :new]
        nodes, pairs = net.denoise(contexts, NewBlock(x, e, *key, walks), torch.zeros(1).double())
        stubs = g.degree[k : k + 1, rows] - (e > 0).sum(2)
        solver, asked = StubMatching(stubs, mask, columns, 1), left.row_weight[k, rows] > 0
        past, ones = g.pairs[k : k + 1, :old, :old], torch.ones(1, old).bool()
        whole = torch.cat([g.degree[k, old : old + 1], g.walks[k, old]]).unsqueeze(0)
        of_key, path = block_edges(past, e, ones, mask, whole, stubs, core[:, :old], pard.config)
        allowed = (solver.allowed(e, stubs) & of_key & path)[0]
        edges = count_edges(g, k, old, new)
        hidden = [i for i in range(size) if int(x[0, i]) == 4]
        for i in hidden:
            ce = -float(nodes[0, i].float().log_softmax(-1)[g.types[k, old + i]])
            total[0] += ce * (size + edges) / len(hidden)
        for i in range(size):
            if hidden or not bool(asked[i]):
                continue
            p = pairs[0, i, :, 1:].float().masked_fill(~allowed[i].unsqueeze(1), -torch.inf).flatten().log_softmax(0)
            for j in range(new):
                kind = int(g.pairs[k, old + i, j])
                if kind and not int(e[0, i, j]):
                    total[1] -= float(p[j * 3 + kind - 1]) * (size + edges) / int(stubs[0, i]) / int(asked.sum())
        contexts = net.finish(contexts, NewBlock(g.types[k : k + 1, rows], g.pairs[k : k + 1, rows, :new], *key, walks))
    return total


def count_edges(g, k, old, new):
    return sum(int(g.pairs[k, i, j] > 0) for i in range(old, new) for j in range(i))


@pytest.mark.parametrize("changes", [{}, {"conditions": ("mass", "charge")}, {"cores": 0.5}])
@torch.no_grad()
def test_copies_have_the_mean_of_the_bounds_of_each(changes):
    pard = model(**changes, copies=3)
    g = pard.pad(graphs(9))
    drawn = [draws(pard, g, seed) for seed in range(3)]
    together = pard.removal_losses(g, *(torch.stack(part) for part in zip(*drawn, strict=True)))
    alone = [pard.removal_losses(g, *one) for one in drawn]
    for k, name in enumerate(("node", "edge")):
        assert_close(together[k], torch.stack([one[k] for one in alone]).mean(0), name, tolerance=1e-6)
    for k in (2, 3, 4):
        assert_close(together[k], alone[0][k], "head", tolerance=1e-9)


@torch.no_grad()
def test_copies_lie_at_levels_that_are_evenly_apart():
    pard = model(copies=2, ce_weight=0.0)
    g, generator = pard.pad(graphs(9)), torch.Generator().manual_seed(0)
    level, node, pair = (
        torch.rand(copies, *t.shape, generator=generator) for copies, t in zip((1, 2, 2), draws(pard, g), strict=True)
    )
    bounds = [pard.removal_losses(g, (level[0] + k / 2) % 1, node[k], pair[k]) for k in range(2)]
    parts = pard.losses(g, torch.Generator().manual_seed(0))
    for k, name in enumerate(("node", "edge")):
        assert_close(parts[name], (bounds[0][k] + bounds[1][k]).sum() / 2 / 9, name, tolerance=1e-5)


def test_copies_want_a_network_of_tokens_and_the_prior_empty():
    for changes in ({"copies": 0}, {"copies": 2, "network": "ppgn"}, {"copies": 2, "prior": "uniform"}):
        with pytest.raises(InputError, match="copies must be at least 1"):
            replace(EMPTY, **changes)


@networks
@torch.no_grad()
def test_the_loss_that_is_trained_is_this_bound(changes):
    pard = model(**changes, ce_weight=0.5)
    g = pard.pad(graphs(12))
    parts = pard.losses(g, torch.Generator().manual_seed(3))
    if pard.config.conditions:
        return  # what is told is drawn first; test_pard_conditions compares the losses
    node, edge, size, degree, walks = pard.removal_losses(g, *draws(pard, g, 3))
    expected = {"node": 1.5 * node, "edge": 1.5 * edge, "size": size, "degree": degree, "walks": walks}
    assert set(parts) == {k for k in expected if k != "walks" or pard.net.settings.walks}
    for name, value in parts.items():
        assert_close(value.double(), expected[name].sum().double() / 12, name, tolerance=1e-6)


@networks
def test_isomorphic_graphs_have_equal_losses_at_equal_draws(changes):
    pard, batch = model(**changes), graphs(12, min_nodes=1)
    moved = permute_graphs(batch, seed=4)
    g, h = pard.pad(batch), pard.pad(moved)
    tags = replace(batch, x=torch.arange(batch.num_nodes))
    wide = replace(pard.net.settings, node_types=10_000)
    one, two = (block_batch(b, wide, pard.config.max_hops).types for b in (tags, permute_graphs(tags, 4)))
    same = (one.unsqueeze(1) == two.unsqueeze(2)) & g.mask.unsqueeze(1) & g.mask.unsqueeze(2)
    place = torch.where(g.mask, same.long().argmax(2), torch.arange(g.mask.size(1)))
    level, node, pair = draws(pard, g)
    graph, size = torch.arange(12).unsqueeze(1), g.mask.size(1)
    there = from_pairs(pair, size)[graph.unsqueeze(2), place.unsqueeze(2), place.unsqueeze(1)]
    first = pard.removal_losses(g, level, node, pair)
    second = pard.removal_losses(h, level, node[graph, place], to_pairs(there))
    for a, b in zip(first, second, strict=True):
        assert_close(b, a, "losses", tolerance=1e-5)


@networks
def test_likelihoods_are_of_graphs_one_by_one(changes):
    pard, batch = model(**changes), graphs(6, min_nodes=1)
    whole = pard.log_likelihood(batch, samples=3, seed=5)
    assert bool((whole.total < 0).all()) and bool(whole.total.isfinite().all())
    first = pard.log_likelihood(batch.graph(0), samples=3, seed=5)
    assert_close(first.total, whole.total[:1], "total", tolerance=1e-5)


@networks
def test_gradients_reach_every_parameter(changes):
    pard = model(**changes).train()
    pard.loss(graphs(30), torch.Generator().manual_seed(0)).backward()
    silent = [n for n, p in pard.named_parameters() if p.grad is None or not bool(p.grad.any())]
    # time is not read, a softmax does not see its bias, and edges are asked for by a softmax over nodes
    quiet = ("attention.bias", ".time.2.weight", "time.0.weight")
    assert not [n for n in silent if not n.endswith(quiet)], silent


# --- samples ---


def test_samples_have_the_degrees_of_their_blocks_and_are_their_own_in_any_batch():
    pard = model()
    batch = pard.sample(20, seed=1)
    dense = batch.to_dense()
    assert torch.equal(dense.adj, dense.adj.transpose(1, 2)) and not dense.adj.diagonal(dim1=1, dim2=2).any()
    other = pard.sample(7, seed=1, batch_size=3)
    for k in range(7):
        a, b = batch.graph(k), other.graph(k)
        assert torch.equal(a.x, b.x) and torch.equal(a.edge_index, b.edge_index) and torch.equal(a.block, b.block)
    share = 0
    for k in range(20):
        g = batch.graph(k)
        u, v = g.edge_index
        back = torch.bincount(u[g.block[v] <= g.block[u]], minlength=g.num_nodes)
        share += all(back[g.block == b].unique().numel() == 1 for b in g.block.unique())
    assert share > 12  # a block whose stubs cannot all be joined is the exception


def test_with_tries_and_restarts_every_graph_is_on_its_path():
    pard = model(walks=0, sampler=BlockSampler(tries=3, restarts=40))
    batch = pard.sample(5, seed=2)
    assert bool(pard.path_consistency(batch).all())
    assert int(batch.graph_columns["redraws"].sum()) > 0
    plain = model(walks=0).sample(5, seed=2)
    assert not bool(pard.path_consistency(plain).all())


def test_steps_fewer_than_elements_give_whole_graphs():
    batch = model().sample(20, seed=3, steps=1)
    assert bool((batch.x < 4).all())


@pytest.mark.parametrize("seed", range(4))
def test_a_graph_is_on_its_path_exactly_if_all_its_blocks_are(seed):
    batch = graphs(60, min_nodes=2, seed=seed)
    true = block_order(batch.edge_index, batch.ptr, 2).block
    generator = torch.Generator().manual_seed(seed)
    moved = torch.where(torch.rand(60, generator=generator)[batch.node_graph()] < 0.5, true, torch.zeros_like(true))
    pard = model(walks=0)
    consistent = pard.path_consistency(batch.with_columns(node={"block": moved}))
    for k in range(60):
        g = batch.graph(k)
        block = moved[batch.ptr[k] : batch.ptr[k + 1]]
        order = block.argsort(stable=True)
        adj = (g.to_dense().adj[0] > 0)[order][:, order]
        fine = True
        for b in range(int(block.max()) + 1):
            old, new = int((block < b).sum()), int((block <= b).sum())
            degree = adj[old:new, :new].sum(1)[:1].reshape(1, 1)
            ones = torch.ones(1, new).bool()
            fine &= bool(on_path(adj[None, :old, :old], adj[None, old:new, :new], ones, degree, pard.config))
        assert fine == bool(consistent[k])


@pytest.mark.parametrize("walks", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_missing_may_come_and_the_last_edge_only_if_the_block_is_then_on_the_path(seed, walks):
    """Blocks of true graphs with some of their edges taken away again."""
    pard = model(max_hops=3, walks=walks)
    g = pard.pad(graphs(60, min_nodes=3, seed=seed))
    left = left_of(pard, g, draws(pard, g, seed))
    looked, refused = [0, 0], [0, 0]
    for k in range(60):
        block = g.block[k][g.mask[k]]
        b = int(block[-1])
        old, new = int((block < b).sum()), len(block)
        rows, stubs = left.pairs[k, old:new, :new], left.missing[k, old:new].sum(1)
        past, ones = g.pairs[k : k + 1, :old, :old], torch.ones(1, new).bool()
        key = torch.cat([g.degree[k, old : old + 1], g.walks[k, old]]).unsqueeze(0)
        exist = ones[:, :old], ones[:, old:]
        of_key, path = block_edges(past, rows[None], *exist, key, stubs[None], ~exist[0], pard.config)
        fine = (of_key & path)[0]
        assert bool(fine[left.missing[k, old:new, :new]].all())
        assert not (left.allowed[k, old:new, :new] & ~fine).any()
        for i, j in ((i, j) for i in range(new - old) for j in range(new)):
            if old + i == j or rows[i, j] or not stubs[i] or (j >= old and not stubs[j - old]):
                continue
            more = torch.zeros(new, new, dtype=torch.bool)
            more[:old, :old], more[old:], more[:, old:] = past[0] > 0, rows > 0, (rows > 0).t()
            more[old + i, j] = more[j, old + i] = True
            last = int(stubs.sum()) == 1 + (j >= old)
            if last:
                expected = bool(on_path(past > 0, more[None, old:], ones, key, pard.config))
            else:
                x, counts = torch.ones(new).double(), []
                for _ in range(3):
                    x = x + more.double() @ x
                    counts.append(min(int(x[old + i]), pard.config.walk_classes - 1))
                expected = all(c <= t for c, t in zip(counts[1:], key[0, 1:].tolist(), strict=False))
            assert bool(fine[i, j]) == expected
            looked[last], refused[last] = looked[last] + 1, refused[last] + (not expected)
    assert looked[1] > 20 and refused[1] > 5
    assert looked[0] > 5 and (refused[0] > 0) == (walks > 0)


def test_a_single_leaf_gets_a_key_that_it_can_have_and_is_then_on_the_path():
    pard = model(max_hops=3, walks=2)
    triangle = 1 - torch.eye(3, dtype=torch.long).unsqueeze(0)
    sites, counts = leaf_keys(triangle, torch.ones(1, 3).bool(), torch.zeros(1, 3).bool(), 2, pard.config)
    assert sites.tolist() == [[True] * 3] and counts.tolist() == [[[6, 18]] * 3]
    assert next_counts(sites, counts, torch.zeros(1, 0).long(), 8).nonzero().tolist() == [[0, 6]]
    assert not next_counts(sites, counts, torch.tensor([[5]]), 40).any()
    two = torch.zeros(1, 4, 4)
    two[0, 0, 1] = two[0, 1, 0] = two[0, 2, 3] = two[0, 3, 2] = 1  # a leaf on one edge leaves the other one as small
    assert not leaf_keys(two, torch.ones(1, 4).bool(), torch.zeros(1, 4).bool(), 0, PARDConfig(max_hops=2))[0].any()
    plan = [(3, 2), (1, 1), (1, 1), (1, 1)]  # beside the end of the tail any place makes a leaf like it, or one before
    with torch.no_grad():
        batch = draw_graphs(pard, 20, 0, None, BlockSampler(), 20, None, [plan] * 20)
    assert batch.node_counts().tolist() == [6] * 20
    assert bool(pard.path_consistency(batch).all())


def test_graphs_too_large_to_judge_last_edges_keep_to_their_key_alone():
    large, small = (PARDConfig(network="tokens", prior="empty", max_nodes=n, max_hops=3) for n in (101, 100))
    assert (large.closing_hops, small.closing_hops) == (0, 3)
    assert (large.shapes().hops, large.shapes().walks) == (0, 0)
    pard = model(max_nodes=101, max_hops=3, walks=2, node_dim=8, edge_dim=4, layers=1, heads=1)
    g = pard.pad(graphs(20, min_nodes=3, seed=1))
    node, edge, *heads = pard.removal_losses(g, *draws(pard, g))
    assert bool(node.isfinite().all()) and bool(edge.isfinite().all())
    assert pard.sample(3, seed=0).num_graphs == 3


def test_with_valence_nodes_take_no_more_bonds_than_their_type_did_in_training():
    pard = model()
    batch = graphs(40, seed=3)  # those that model() was prepared with
    bonds = torch.zeros(batch.num_nodes, dtype=torch.long).index_add_(0, batch.edge_index[0], batch.edge_attr.long())
    most = [int(bonds[batch.x == k].max()) for k in range(4)]
    assert pard.valences.tolist() == most
    pard.valences.copy_(torch.tensor([2, 3, 4, 4]))
    over = []
    for settings in ({}, {"valence": True}, {"valence": True, "tries": 8, "restarts": 20}):
        drawn = pard.sample(40, seed=5, sampler=BlockSampler(**settings))
        used = torch.zeros(drawn.num_nodes, dtype=torch.long).index_add_(0, drawn.edge_index[0], drawn.edge_attr.long())
        over.append(float((used > pard.valences[drawn.x.long()]).double().mean()))
    assert over[0] > 0.1 and over[1] < 0.5 * over[0], over  # what is left had no other choice
    assert over[2] == 0  # or is drawn again


def test_valence_keeps_room_for_every_edge_to_come():
    room, most = torch.tensor([[0, 1, 3]]), torch.tensor([[3, 2]])
    rows = torch.zeros(1, 2, 5, dtype=torch.long)
    rows[0, 0, 2] = 1  # the last old node has 2 left, the first new one 2, of which one is for its last edge
    left = torch.tensor([[2, 1]])
    fine = keeps_valence(room, most, rows, left, 3)[0]
    kinds = [[[int(k) + 1 for k in fine[i, j].nonzero().flatten()] for j in range(5)] for i in range(2)]
    assert kinds == [[[], [1], [1], [1], [1]], [[], [1], [1, 2], [1], [1, 2]]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"walks": -1}, "walks"),
        ({"max_hops": 0, "walks": 0}, "same degree"),
        ({"order": "legacy", "walks": 0}, "same degree"),
        ({"trunk": "separate"}, "one trunk"),
        ({"walk_classes": 1}, "walk_classes"),
        ({"norm": "batch"}, "layer norm"),
    ],
)
def test_combinations_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        replace(EMPTY, **wrong)


def test_tries_need_the_exact_order():
    pard = PARD(PARDConfig(order="legacy", max_nodes=7, node_dim=16, edge_dim=8, layers=1, heads=2))
    with pytest.raises(InputError, match="tries"):
        pard.sample(2, num_nodes=[2, 3], sampler=BlockSampler(tries=3))
    with pytest.raises(InputError, match="restarts"):
        BlockSampler(restarts=-1)
    with pytest.raises(InputError, match="empty"):
        PARD(PARDConfig(max_nodes=7, node_dim=16, edge_dim=8, layers=1, heads=2)).sample(
            2, num_nodes=[2, 3], sampler=BlockSampler(valence=True)
        )
