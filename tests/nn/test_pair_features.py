"""What is counted of pairs is what a graph cut to the row's sight has."""

from __future__ import annotations

import pytest
import torch

from graphinv.diffusion import block_order
from graphinv.nn.pair_features import Sight, closing, connected, count_walks, feature_count, joined_walks, pair_features
from graphinv.testing import random_graphs

EDGES = 2


def sight_of(block, real, noisy):
    row, column = block.unsqueeze(2), block.unsqueeze(1)
    own = torch.eye(block.size(1), dtype=torch.bool).expand_as(row == column)
    return Sight(
        real,
        noisy,
        row > column,
        row == column,
        (row - column).clamp(min=0),
        own,
        EDGES,
        torch.zeros_like(block).bool(),
    )


def drawn(seed, noisy=True, count=5, size=8):
    g = torch.Generator().manual_seed(seed)
    block = torch.randint(4, (count, size), generator=g).sort(1).values
    parts = [
        (
            torch.randint(EDGES + 2, (count, size, size), generator=g)
            * (torch.rand(count, size, size, generator=g) < 0.4)
        ).triu(1)
        for _ in range(2)
    ]
    real, other = (p + p.transpose(1, 2) for p in parts)
    return block, real, other if noisy else None


def seen(block, real, noisy, i):
    """Return the adjacency [K, K] of what row i sees, and the nodes."""
    early, own = block < block[i], block == block[i]
    adj = ((real > 0) & (real <= EDGES)) & early.unsqueeze(0) & early.unsqueeze(1)
    new = noisy if noisy is not None else real
    inside = (own.unsqueeze(0) & (own | early).unsqueeze(1)) | (own.unsqueeze(1) & (own | early).unsqueeze(0))
    return (adj | (((new > 0) & (new <= EDGES)) & inside)).double(), early | own


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_walks_are_those_of_the_graph_that_a_row_sees(seed, noisy):
    block, real, other = drawn(seed, noisy)
    walks = count_walks(sight_of(block, real, other), 3)
    for b in range(5):
        for i in range(8):
            adj, nodes = seen(block[b], real[b], None if other is None else other[b], i)
            x = nodes.double()
            for k in range(3):
                x = x + adj @ x
                assert torch.equal(walks[k][b, i].double(), x)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_joined_walks_are_those_after_the_edge_came(seed):
    block, real, noisy = drawn(seed)
    sight, pairs = sight_of(block, real, noisy), noisy
    joined = joined_walks(sight, pairs, count_walks(sight, 3))
    for b in range(5):
        for i in range(8):
            adj, nodes = seen(block[b], real[b], noisy[b], i)
            for j in nodes.nonzero().flatten().tolist():
                if j == i or adj[i, j]:
                    continue
                more = adj.clone()
                more[i, j] = more[j, i] = 1
                x = nodes.double()
                counts = []
                for _ in range(3):
                    x = x + more @ x
                    counts.append(float(x[i]))
                assert [float(c[b, i, j]) for c in joined] == counts[1:]


@pytest.mark.parametrize("noisy", [False, True])
def test_nodes_are_connected_by_the_edges_that_a_row_sees(noisy):
    block, real, other = drawn(1, noisy)
    sight, own, parts = sight_of(block, real, other), torch.eye(8).bool(), set()
    for steps in (1, 3, 8):
        near = connected(sight, sight.own, steps)
        for b in range(5):
            for i in range(8):
                adj, _ = seen(block[b], real[b], None if other is None else other[b], i)
                assert torch.equal(near[b, i], torch.linalg.matrix_power(adj + own, steps)[i] > 0)
                parts.add(bool(near[b, i].sum() < sight.reads[b, i].sum()))
    assert parts == {False, True}


def test_rows_are_told_of_neighbours_of_the_others_of_their_block():
    """Nodes 1, 2, 3 of one block beside node 0 and node 4: 1 and 2 have edges to 0, 2 has one to 3."""
    block, edges = torch.tensor([[0, 1, 1, 1, 2]]), torch.zeros(1, 5, 5, dtype=torch.long)
    for i, j in ((0, 1), (0, 2), (2, 3), (3, 4)):
        edges[0, i, j] = edges[0, j, i] = 1
    plain, _ = pair_features(sight_of(block, edges, None), edges, torch.zeros(1, 5, 1).long(), 0, True)
    fewer = edges.clone()
    fewer[0, 0, 2] = fewer[0, 2, 0] = 0
    other, _ = pair_features(sight_of(block, fewer, None), fewer, torch.zeros(1, 5, 1).long(), 0, True)
    first = (plain != other).nonzero()[:, 1:3].tolist()
    assert [3, 0] in first and [1, 0] in first  # rows 1 and 3 see that 0 lost one of two neighbours, or its only one
    assert [4, 0] in first and [0, 0] not in first


@pytest.mark.parametrize("seed", [0, 1])
def test_edges_are_compared_with_what_the_others_of_a_block_have(seed):
    """Three numbers for each of x_2 and x_3: would the row have less, as many or more than nodes that lack nothing."""
    block, real, noisy = drawn(seed)
    sight, found = sight_of(block, real, noisy), 0
    now = sum(sight.move(sight.reads.float(), sight.bonds(k)) for k in (1, 2))
    degree = now.diagonal(dim1=1, dim2=2).long().clone()
    degree[:, ::2] += 1  # every second node lacks an edge
    key = torch.stack([degree, torch.zeros_like(degree)], -1)[..., :1]
    plain, _ = pair_features(sight, noisy, key, 1, True)
    f, left = pair_features(sight, noisy, key, 3, True)
    signs = f[..., plain.size(-1) - 2 : -2]
    for b in range(5):
        for i in range(8):
            adj, nodes = seen(block[b], real[b], noisy[b], i)
            done = [k for k in range(8) if k != i and sight.same[b, i, k] and int(left[b, i, k]) == 0]
            for j in nodes.nonzero().flatten().tolist():
                if not done:
                    assert not signs[b, i, j].any()
                if not done or j == i or adj[i, j]:
                    continue
                more = adj.clone()
                more[i, j] = more[j, i] = 1
                for h in (1, 2):
                    before = nodes.double()
                    after = nodes.double()
                    for _ in range(h + 1):
                        before, after = before + adj @ before, after + more @ after
                    gap = float(after[i] - before[done].max())
                    expected = [gap < 0, gap == 0, gap > 0]
                    assert signs[b, i, j, 3 * (h - 1) : 3 * h].bool().tolist() == expected
                    found += 1
    assert found > 20


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(("hops", "walks"), [(0, 0), (1, 0), (3, 2), (4, 3), (3, 1)])
def test_features_are_small_numbers_that_nothing_unread_reaches(hops, walks, finished):
    block, real, noisy = drawn(3)
    sight = sight_of(block, real, noisy)
    key = torch.randint(6, (5, 8, 1 + walks), generator=torch.Generator().manual_seed(0))
    f, left = pair_features(sight, noisy, key, hops, finished)
    assert f.shape == (5, 8, 8, feature_count(EDGES, hops, walks)) and bool((f >= 0).all()) and float(f.max()) <= 7
    assert not f[~sight.reads].any()
    late = block >= 2
    other = torch.where(late.unsqueeze(1) | late.unsqueeze(2), (real + 1) % 4, real)
    moved = torch.where(late.unsqueeze(1) | late.unsqueeze(2), (noisy + 1) % 4, noisy)
    again, stubs = pair_features(sight_of(block, other, moved), moved, key, hops, finished)
    assert torch.equal(f[~late], again[~late]) and torch.equal(left[~late], stubs[~late])
    assert not torch.equal(f, again)


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_told_which_edges_are_the_last_and_whether_they_close_their_block(seed):
    """Every block of true graphs lacks one edge: the row of its later end is told of it, and of no other kind."""
    batch = random_graphs(60, min_nodes=4, max_nodes=8, edge_types=EDGES, seed=seed)
    hops, told = 2, 0
    for k in range(60):
        g = batch.graph(k)
        block = block_order(g.edge_index, g.ptr, hops).block
        place = block.argsort(stable=True)
        block, pairs = block[place], g.to_dense().adj[0].long()[place][:, place]
        last = int(block.max())
        i = int((block == last).nonzero()[-1])
        ends = pairs[i].nonzero().flatten().tolist()
        if not ends:
            continue
        noisy, j = pairs.clone(), ends[0]
        noisy[i, j] = noisy[j, i] = 0
        sight = sight_of(block[None], pairs[None], noisy[None])
        sees = block.unsqueeze(0) <= block.unsqueeze(1)
        lacking = ((pairs > 0) & (noisy == 0) & sees).sum(1)
        right, wrong = closing(sight, lacking * sight.same, hops)
        assert bool(right[0, i, j]) and not wrong[0, i, j]
        rows = (right | wrong)[0].any(1).nonzero().flatten().tolist()
        assert rows == ([j, i] if block[j] == last else [i])
        inner = block == last
        if block[j] < last:
            assert not (right | wrong)[0, i][inner].any()
        else:
            assert (right | wrong)[0, i].nonzero().flatten().tolist() == [j]
        told += 1
    assert told > 30
