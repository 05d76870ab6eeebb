"""Edges that vanish one by one, and the solver that brings them back stub by stub."""

from __future__ import annotations

import itertools

import pytest
import torch

from graphinv.diffusion import (
    Ancestral,
    DiscreteDiffusion,
    GeneratorNoise,
    GraphProcess,
    PerGraphNoise,
    Removal,
    StubMatching,
    TypedGraphs,
    integrate,
    solve,
)
from graphinv.errors import InputError

TYPES, EDGES = 3, 2
PROCESS = GraphProcess(DiscreteDiffusion.absorbing(TYPES), Removal(EDGES))


def entries(count, old, new):
    """Return an unknown block of ``new`` nodes beside ``old`` finished ones of each of ``count`` graphs."""
    own = old + torch.arange(new)
    every = torch.arange(old + new)
    low, high = torch.minimum(own[:, None], every), torch.maximum(own[:, None], every)
    numbers = own.expand(count, -1), (high * (high - 1) // 2 + low).expand(count, -1, -1)
    return TypedGraphs(torch.full((count, new), TYPES), torch.zeros(count, new, old + new, dtype=torch.long), *numbers)


def logits(count, old, new, seed=0):
    """Return what a network might say, whatever it sees: symmetric inside the block."""
    g = torch.Generator().manual_seed(seed)
    nodes = torch.randn(count, new, TYPES, generator=g, dtype=torch.float64)
    pairs = torch.randn(count, new, old + new, EDGES + 1, generator=g, dtype=torch.float64)
    inner = pairs[:, :, old:]
    pairs[:, :, old:] = inner + inner.transpose(1, 2)
    return nodes, pairs


def matched(degree, old, said=None, steps=None, keys=None, mask=None, seen=None):
    """Return the blocks that StubMatching draws for degrees ``[B, s]``."""
    degree = torch.as_tensor(degree)
    count, new = degree.shape
    nodes, pairs = said or logits(count, old, new)
    rows = torch.ones(count, new, dtype=torch.bool) if mask is None else mask[:, old:]
    columns = torch.ones(count, old + new, dtype=torch.bool) if mask is None else mask
    start = entries(count, old, new)
    steps = steps or int((degree.sum(1) + new).max())
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    noise = PerGraphNoise(torch.arange(count) if keys is None else keys)
    solver = StubMatching(degree, rows, columns, steps)

    def predict(x, t):
        if seen is not None:
            seen.append(x.pairs.clone())
        return TypedGraphs(nodes, pairs, x.node_entry, x.pair_entry)

    return integrate(solver, PROCESS, predict, start, times, noise, denoise=False)


def test_a_node_is_joined_until_it_lacks_none_and_the_block_grows_from_where_it_has_begun():
    """Steps of blocks of 5 nodes beside 6: who gets an edge next, among all that lack some."""
    states = []
    matched(torch.full((200, 5), 3), 6, seen=states)
    have = [(pairs > 0).sum(2) for pairs in states]
    grown = [torch.stack(pair) for pair in zip(states, states[1:], strict=False)]
    fresh = []
    for k in range(200):
        begun = None
        for (before, after), degrees in zip((g[:, k] for g in grown), have, strict=False):
            rows = ((before == 0) & (after > 0)).any(1).nonzero().squeeze(1).tolist()
            if not rows:
                continue
            lacking = degrees[k] < 3
            if begun is not None and bool(lacking[begun]):
                assert begun in rows
                continue
            partial = [i for i in rows if 0 < int(degrees[k, i]) < 3]
            some = bool(((degrees[k] > 0) & lacking).any())
            assert partial if some else not partial
            begun = partial[0] if len(partial) == 1 else rows[0] if len(rows) == 1 else None
            if begun is None:
                break  # two nodes of the block were joined: either may have been asked
            fresh.append(begun)
    assert len(set(fresh)) == 5 and len(fresh) > 300


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_what_is_left_at_t_is_a_random_part_of_the_data(t):
    edges = torch.randint(EDGES + 1, (40, 50), generator=torch.Generator().manual_seed(0))
    left = Removal(EDGES).corrupt(edges, torch.tensor(t), GeneratorNoise(torch.Generator().manual_seed(1)))
    assert bool(((left == edges) | (left == 0)).all())
    share = float((left > 0).sum() / (edges > 0).sum())
    assert abs(share - (1 - t)) < 5 * (0.25 / int((edges > 0).sum())) ** 0.5 * (0 < t < 1) + 1e-9


def test_ancestral_steps_lead_back_to_what_a_certain_network_says():
    truth = torch.randint(EDGES + 1, (5, 7), generator=torch.Generator().manual_seed(0))
    said = 60.0 * torch.nn.functional.one_hot(truth, EDGES + 1).double()
    process, times = Removal(EDGES), torch.linspace(1, 0, 6, dtype=torch.float64)
    noise = PerGraphNoise(torch.arange(5))
    back = integrate(Ancestral(), process, lambda x, t: said, process.prior(truth, noise), times, noise)
    assert torch.equal(back, truth)


def test_absent_edges_come_back_as_often_as_they_should():
    x, count = torch.zeros(4000, 1, dtype=torch.long), 4000
    said = torch.tensor([0.5, 0.2, 0.3]).log().expand(count, 1, -1)
    t, s = torch.tensor(0.8), torch.tensor(0.6)
    z = PerGraphNoise(torch.arange(count)).uniform(torch.zeros(count, 1, dtype=torch.long))
    moved = Removal(EDGES).backward(x, said, t, s, z)[0]
    shares = torch.bincount(moved.flatten(), minlength=3) / count
    expected = torch.tensor([1 - 0.25 * 0.5, 0.25 * 0.2, 0.25 * 0.3])
    assert float((shares - expected).abs().max()) < 5 * (0.12 / count) ** 0.5


@pytest.mark.parametrize(("old", "new", "degree"), [(5, 1, 1), (5, 3, 2), (0, 4, 2), (2, 4, 3), (6, 2, 4)])
def test_every_node_gets_its_degree_its_type_and_symmetric_edges(old, new, degree):
    end = matched(torch.full((30, new), degree), old)
    assert bool((end.nodes < TYPES).all())
    inner = end.pairs[:, :, old:]
    assert torch.equal(inner, inner.transpose(1, 2)) and not inner.diagonal(dim1=1, dim2=2).any()
    degrees = (end.pairs > 0).sum(2)
    assert bool((degrees <= degree).all())
    stuck = degrees < degree  # only where no other node of the block lacked an edge, and old nodes were all taken
    assert not bool(stuck.any()) or old < degree
    assert float((degrees == degree).double().mean()) > 0.7


def test_the_law_of_one_node_is_a_product_of_softmaxes_without_replacement():
    count, old = 30_000, 3
    nodes, pairs = (x.expand(count, *x.shape[1:]) for x in logits(1, old, 1, seed=4))
    end = matched(torch.full((count, 1), 2), old, (nodes, pairs))
    p_type = nodes[0, 0].softmax(-1)
    score = pairs[0, 0, :old, 1:].exp()
    expected = {}
    for first, second in itertools.permutations(itertools.product(range(old), range(EDGES)), 2):
        if first[0] != second[0]:
            rest = score.sum() - score[first[0]].sum()
            chance = score[first] / score.sum() * score[second] / rest
            ends = tuple(sorted((first, second)))
            expected[ends] = expected.get(ends, 0.0) + float(chance)
    assert sum(expected.values()) == pytest.approx(1)
    for kind, p in enumerate(p_type.tolist()):
        share = float((end.nodes == kind).double().mean())
        assert abs(share - p) < 5 * (p * (1 - p) / count) ** 0.5
    for ends, p in expected.items():
        wanted = torch.zeros(old + 1, dtype=torch.long)
        for place, kind in ends:
            wanted[place] = kind + 1
        share = float((end.pairs[:, 0] == wanted).all(1).double().mean())
        assert abs(share - p) < 5 * (p * (1 - p) / count) ** 0.5


def test_stubs_of_a_block_are_joined_in_random_order():
    """Two new nodes that lack one edge each: either is asked first, half of the time."""
    count = 8000
    nodes, pairs = torch.zeros(count, 2, TYPES).double(), torch.full((count, 2, 3, EDGES + 1), -60.0).double()
    pairs[:, 0, 2, 1] = pairs[:, 1, 1, 1] = 0.0  # the first wants the second, who wants it as well or the old node
    pairs[:, 1, 0, 1] = 0.0
    end = matched(torch.ones(count, 2, dtype=torch.long), 1, (nodes, pairs))
    share = float((end.pairs[:, 0, 2] > 0).double().mean())
    assert abs(share - 0.75) < 5 * (0.25 * 0.75 / count) ** 0.5  # asked second, it may have lost its partner


def test_a_graph_is_the_same_alone_and_in_a_padded_batch():
    old, new = 4, 3
    said = logits(5, old, new, seed=1)
    mask = torch.ones(5, old + new, dtype=torch.bool)
    mask[2, [2, 3, 6]] = False
    degree = torch.full((5, new), 2)
    degree[2, 2] = 0
    together = matched(degree, old, said, mask=mask)
    keep = [0, 1, 4, 5]
    alone = matched(
        degree[2:3, :2], 2, (said[0][2:3, :2], said[1][2:3, :2][:, :, keep]), keys=torch.tensor([2]), steps=9
    )
    assert torch.equal(alone.nodes[0], together.nodes[2, :2])
    assert torch.equal(alone.pairs[0], together.pairs[2, :2][:, keep])
    assert not together.pairs[2, 2].any() and not together.pairs[2, :, [2, 3, 6]].any()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_fewer_steps_than_elements_still_draw_them_all(steps):
    end = matched(torch.full((20, 3), 2), 4, steps=steps)
    assert bool((end.nodes < TYPES).all()) and bool(((end.pairs > 0).sum(2) == 2).all())


def test_states_and_processes_that_do_not_fit_are_refused():
    solver = StubMatching(torch.ones(1, 1, dtype=torch.long), torch.ones(1, 1).bool(), torch.ones(1, 2).bool(), 2)
    times = torch.tensor([1.0, 0.0])
    with pytest.raises(InputError, match="TypedGraphs"):
        solve(solver, Removal(2), lambda x, t: x, torch.zeros(1, 2, dtype=torch.long), times, GeneratorNoise())
    with pytest.raises(InputError, match="edge_types"):
        Removal(0)
