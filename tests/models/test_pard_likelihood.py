"""The likelihood of PARD: sizes and degrees by hand, the bound of a block under the exact chain of all its states."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from graphinv.data import GraphStore
from graphinv.diffusion import block_order
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.models.pard import PARD
from graphinv.models.pard.config import PARDConfig
from graphinv.models.pard.likelihood import path_consistency
from graphinv.nn.block_network import NewBlock
from graphinv.testing import assert_close, permute_graphs, random_graphs

T = 4
TINY = PARDConfig(
    node_types=2, edge_types=1, max_nodes=3, max_hops=1, node_dim=16, edge_dim=8, layers=2, heads=2, diffusion_steps=T
)  # fmt: skip
PRIORS = ("absorbing", "marginal", "uniform")


def graphs(count=20, seed=0):
    return random_graphs(count, max_nodes=3, node_types=2, edge_types=1, seed=seed)


def model(seed=0, **changes):
    pard = PARD.seeded(replace(TINY, **changes), seed)
    generator = torch.Generator().manual_seed(seed)
    for p in pard.parameters():
        p.data += 0.4 * torch.randn(p.shape, generator=generator)
    batch = graphs(60, seed=9)
    pard.prepare(GraphStore.from_graphs(batch, split_id=torch.zeros(60, dtype=torch.uint8)), progress=False)
    return pard.double().eval()


def graph(types, edges):
    """Return one graph with nodes ``types`` and undirected ``edges`` of type 1."""
    ends = torch.tensor([*edges, *((v, u) for u, v in edges)], dtype=torch.long).reshape(-1, 2).t()
    return GraphBatch.single(torch.tensor(types, dtype=torch.long), ends, torch.ones(ends.size(1), dtype=torch.long))


def states_of(size, node_states, pair_states):
    """Return all types [S, s] and symmetric pairs [S, s, s] of a first block of ``size`` = 1 or 2 nodes."""
    elements = [range(node_states)] * size + [range(pair_states)] * (size == 2)
    rows = torch.tensor(list(itertools.product(*elements)))
    pairs = torch.zeros(len(rows), size, size, dtype=torch.long)
    if size == 2:
        pairs[:, 0, 1] = pairs[:, 1, 0] = rows[:, 2]
    return rows, rows[:, :size], pairs


@torch.no_grad()
def logits_at(pard, size, degree, t):
    """Return the states of the chain [S, elements] and the logits of node and pair elements at each of them."""
    node, pair = pard.processes()
    rows, x, e = states_of(size, node.states, pair.states)
    count = len(rows)
    new = NewBlock(
        x, e, torch.zeros(count, dtype=torch.long), torch.full((count,), degree), torch.ones_like(x, dtype=torch.bool)
    )
    nodes, pairs = pard.net.denoise(pard.net.empty_contexts(count), new, torch.full((count,), t))
    parts = [(node, nodes[:, i]) for i in range(size)] + ([(pair, pairs[:, 0, 1])] if size == 2 else [])
    return rows, parts


def exact(pard, size, degree):
    """Return log p of every clean state, rows as ``states_of`` with the data classes, by summing over all paths."""
    p = None
    for k in range(T, 0, -1):
        t, s = (torch.tensor(v / T, dtype=torch.float64) for v in (k, k - 1))
        rows, parts = logits_at(pard, size, degree, k / T)
        if p is None:
            p = math.prod(process.limit[rows[:, i]] for i, (process, _) in enumerate(parts))
        step = torch.ones(len(rows), len(rows), dtype=torch.float64)
        for i, (process, logits) in enumerate(parts):
            moved = process.reverse(rows[:, i], process.predict(logits, rows[:, i]), t, s)
            step *= moved[:, rows[:, i]]
        p = p @ step
    return rows, p


def bound(pard, size, degree, clean):
    """Return mean and variance of one draw of the variational bound on log p of the state ``clean``."""
    values, chances = [], []
    constant = sum(float(process.prior_kl(c.reshape(1))) for (process, _), c in zip(
        logits_at(pard, size, degree, 1.0)[1], clean, strict=True))  # fmt: skip
    for k in range(1, T + 1):
        t, s = (torch.tensor(v / T, dtype=torch.float64) for v in (k, k - 1))
        rows, parts = logits_at(pard, size, degree, k / T)
        abar = parts[0][0].schedule.alpha_bar(t)
        vlb, chance = torch.zeros(len(rows)).double(), torch.full((len(rows),), 1 / T).double()
        for i, (process, logits) in enumerate(parts):
            x, c = rows[:, i], clean[i].expand(len(rows))
            vlb += process.losses(logits, c, x, t, s)[0]
            chance *= abar * (x == c) + (1 - abar) * process.limit[x]
        values.append(-T * vlb - constant)
        chances.append(chance)
    value, chance = torch.cat(values), torch.cat(chances)
    mean = float((chance * value).sum())
    return mean, float((chance * (value - mean).square()).sum())


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("size", [1, 2])
def test_the_bound_on_a_block_is_estimated_without_bias_and_lies_under_its_exact_log_probability(prior, size):
    pard, draws = model(prior=prior, max_hops=0), 2000
    for edge, degree in ((0, 0), (1, 1))[:size]:
        rows, p = exact(pard, size, degree)
        assert float(p.sum()) == pytest.approx(1, abs=1e-9)
        for clean in itertools.product(range(2), repeat=size):
            state = torch.tensor([*clean, *([edge] if size == 2 else [])])
            log_p = float(p[(rows == state).all(1)].log())
            mean, variance = bound(pard, size, degree, state)
            assert mean <= log_p + 1e-6
            batch = graph(list(clean), [(0, 1)] * edge).select([0] * (draws // 2))
            estimate = float(pard.log_likelihood(batch, samples=2, seed=1).blocks.mean())
            assert abs(estimate - mean) < 5 * math.sqrt(variance / draws) + 1e-5


def test_the_bound_is_tight_for_a_network_that_is_certain():
    pard = model(prior="absorbing")
    for head in (pard.net.denoiser.node_types, pard.net.denoiser.edge_types):
        head.out.weight.data.zero_()
        head.out.bias.data.copy_(torch.tensor([0.0, 60.0]))
    certain, impossible = graph([1, 1, 1], [(0, 1), (0, 2), (1, 2)]), graph([0, 1, 1], [(0, 1), (0, 2), (1, 2)])
    assert float(pard.log_likelihood(certain, samples=3).blocks) == pytest.approx(0, abs=1e-9)
    assert float(pard.log_likelihood(impossible, samples=30).blocks) < -20


@torch.no_grad()
def by_hand(pard, k, batch):
    """Return log p of the sizes, of the degrees of blocks, and of the degree drawn at the stop, of graph k."""
    net, g = pard.net, pard.pad(batch.graph(k))
    block = g.block[0]
    counts = torch.bincount(block).tolist()
    sizes = float((pard.first_sizes.double() / pard.first_sizes.sum()).log()[counts[0]])
    degrees = float(net.properties.first_degrees(torch.tensor([counts[0]])).log_softmax(-1)[0, g.degree[0, 0]])
    contexts, start = net.empty_contexts(1), 0
    for b, size in enumerate(counts):
        rows = slice(start, start + size)
        start += size
        mask = torch.ones(1, size, dtype=torch.bool)
        new = NewBlock(g.types[:, rows], g.pairs[:, rows, :start], torch.tensor([b]), g.degree[:, start - 1], mask)
        contexts = net.finish(contexts, new)
        after = torch.tensor([counts[b + 1] if b + 1 < len(counts) else 0])
        sizes += float(net.next_sizes(contexts).log_softmax(-1)[0, after])
        log_p = net.next_degrees(contexts, after).log_softmax(-1)[0]
        if int(after):
            degrees += float(log_p[g.degree[0, start]])
    return sizes, degrees, float(log_p[0])


@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_sizes_are_the_first_frequency_times_the_heads_and_the_stop(trunk):
    pard, batch = model(trunk=trunk), graphs(12)
    found = pard.log_likelihood(batch, samples=1)
    for k in range(12):
        assert float(found.sizes[k]) == pytest.approx(by_hand(pard, k, batch)[0], abs=1e-8)


def test_degrees_are_those_of_the_blocks_that_exist():
    pard, batch = model(), graphs(12)
    found = pard.log_likelihood(batch, samples=1)
    for k in range(12):
        assert float(found.degrees[k]) == pytest.approx(by_hand(pard, k, batch)[1], abs=1e-8)


def test_likelihoods_are_of_graphs_one_by_one_and_repeat_with_their_seed():
    pard, batch = model(), graphs(7)
    one, two, other = (pard.log_likelihood(batch, samples=2, seed=s) for s in (0, 0, 1))
    assert torch.equal(one.total, two.total) and not torch.equal(one.blocks, other.blocks)
    assert_close(one.total, one.sizes + one.degrees + one.blocks, "total")
    moved = pard.log_likelihood(permute_graphs(batch, seed=2), samples=1)
    for k in range(7):
        alone = pard.log_likelihood(batch.graph(k), samples=1)
        for name in ("sizes", "degrees"):
            assert_close(getattr(alone, name), getattr(one, name)[k : k + 1], name)
            assert_close(getattr(moved, name), getattr(one, name), name)
    assert bool((one.blocks <= 0).all()) and bool(one.total.isfinite().all())
    single = model(max_hops=0).log_likelihood(graphs(5), samples=300)
    assert single.blocks.dtype == torch.float64 and not single.total.requires_grad


def test_empty_graphs_are_never_drawn_and_have_no_likelihood():
    none = torch.zeros(0, dtype=torch.long)
    offsets = torch.zeros(2, dtype=torch.long)
    empty = GraphBatch(none, none.reshape(2, 0), none, offsets, offsets)
    found = model().log_likelihood(GraphBatch.from_graphs([graph([0, 1], [(0, 1)]), empty]), samples=2)
    assert float(found.total[1]) == -math.inf and math.isfinite(float(found.total[0]))
    assert float(found.blocks[1]) == float(found.degrees[1]) == 0


def test_a_first_size_that_training_never_showed_has_no_probability():
    pard = model(max_hops=0)
    pard.first_sizes[3] = 0
    assert float(pard.log_likelihood(graph([0, 0, 0], [(0, 1)]), samples=1).sizes) == -math.inf


def test_no_samples_and_untrained_models_are_refused():
    with pytest.raises(InputError, match="samples must be at least 1"):
        model().log_likelihood(graphs(2), samples=0)
    with pytest.raises(InputError, match="train it first"):
        PARD.seeded(TINY, 0).log_likelihood(graphs(2))
    with pytest.raises(InputError, match="4 nodes"):
        model(max_nodes=3).log_likelihood(random_graphs(1, min_nodes=4, max_nodes=4, node_types=2, edge_types=1))


# --- paths ---


def test_paths_are_consistent_where_the_block_order_gives_the_blocks_of_the_draw():
    star, path = graph([0, 0, 0], [(0, 1), (0, 2)]), graph([0, 0], [(0, 1)])
    cases = [
        (star, [0, 1, 1], True), (star, [0, 1, 2], False), (star, [0, 0, 0], False), (star, [1, 0, 0], False),
        (path, [0, 0], True), (path, [0, 1], False), (graph([], []), [], True), (graph([0], []), [0], True),
    ]  # fmt: skip
    blocks = [{"block": torch.tensor(block, dtype=torch.long)} for _, block, _ in cases]
    batch = GraphBatch.from_graphs([g.with_columns(node=b) for (g, _, _), b in zip(cases, blocks, strict=True)])
    assert path_consistency(batch, 1).tolist() == [same for *_, same in cases]
    assert path_consistency(permute_graphs(batch, seed=3), 1).tolist() == [same for *_, same in cases]
    assert model().path_consistency(batch).tolist() == [same for *_, same in cases]
    assert path_consistency(batch, 0).tolist()[:3] == [False, False, True]


@pytest.mark.parametrize("legacy", [False, True])
def test_graphs_with_the_blocks_of_their_own_order_are_all_consistent(legacy):
    batch = random_graphs(40, max_nodes=8, seed=2)
    block = block_order(batch.edge_index, batch.ptr, 2, legacy).block
    assert path_consistency(batch.with_columns(node={"block": block}), 2, legacy).all()


def test_drawn_graphs_are_told_whether_they_left_their_path_and_others_are_refused():
    pard = model()
    batch = pard.sample(30, seed=1)
    told = pard.path_consistency(batch)
    own = block_order(batch.edge_index, batch.ptr, 1).block
    for k in range(30):
        part = slice(int(batch.ptr[k]), int(batch.ptr[k + 1]))
        assert bool(told[k]) == torch.equal(own[part], batch.block[part])
    with pytest.raises(InputError, match="no blocks"):
        pard.path_consistency(graphs(2))
