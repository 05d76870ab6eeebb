"""The losses of PARD: what they sum, what they may not depend on, and a slow oracle that goes block by block."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from graphinv.data import GraphStore
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.models.base import GraphGenerator
from graphinv.models.pard import PARD
from graphinv.models.pard.batch import block_batch
from graphinv.models.pard.config import BlockSampler, PARDConfig
from graphinv.nn.block_network import NewBlock
from graphinv.ops.pairs import from_pairs, to_pairs
from graphinv.testing import assert_close, permute_graphs, random_graphs

SMALL = PARDConfig(
    node_types=4, edge_types=3, max_nodes=7, max_hops=2, node_dim=16, edge_dim=8, layers=2, heads=2, diffusion_steps=5
)  # fmt: skip
NEAR = 1e-5  # logits become float32 before the losses
PRIORS = ("absorbing", "marginal", "uniform")
TOKENS = {"network": "tokens", "walks": 1}
networks = pytest.mark.parametrize("changes", [{}, TOKENS], ids=["ppgn", "tokens"])


def model(seed=0, dtype=torch.float64, **changes):
    """Return a model with random weights everywhere that has seen a store."""
    pard = PARD.seeded(replace(SMALL, **changes), seed)
    generator = torch.Generator().manual_seed(seed)
    for p in pard.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=generator)
    pard.prepare(store(), progress=False)
    return pard.to(dtype).eval()


def store(batch=None):
    batch = graphs(40, seed=3) if batch is None else batch
    return GraphStore.from_graphs(batch, split_id=torch.zeros(batch.num_graphs, dtype=torch.uint8))


def graphs(count=9, min_nodes=0, seed=0):
    return random_graphs(count, min_nodes=min_nodes, max_nodes=7, seed=seed)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sums(e):
    """Return per graph the VLB and CE of nodes and pairs, [B, 4]."""
    parts = [torch.where(mask, loss, 0.0).sum(1) for vlb, ce, mask in (e.node, e.edge) for loss in (vlb, ce)]
    return torch.stack(parts, 1)


@torch.no_grad()
def slowly(pard, g, step, noisy, k):
    """Return losses of graph k block after block: node and pair losses at their places, sizes and degrees."""
    steps, net = pard.config.diffusion_steps, pard.net
    node, pair = pard.processes()
    nodes, pairs = {}, {}
    block = g.block[k][g.mask[k]]
    contexts, sizes, degrees = net.empty_contexts(1), [], []
    counts = [*torch.bincount(block).tolist(), 0]
    for b, size in enumerate(counts[:-1]):
        old, new = int((block < b).sum()), int((block <= b).sum())
        rows = slice(old, new)
        degree, number = g.degree[k, old : old + 1], torch.tensor([b])
        mask = torch.ones(1, size, dtype=torch.bool)
        walks = g.walks[k, old : old + 1] if pard.net.settings.walks else None
        x, e = noisy[0][k : k + 1, rows], noisy[1][k : k + 1, rows, :new]
        t, s = ((step[k, old] - i).double() / steps for i in (0, 1))
        out = net.denoise(contexts, NewBlock(x, e, number, degree, mask, walks), t.reshape(1))
        vlb, ce = node.losses(out[0].float(), g.types[k : k + 1, rows], x, t, s)
        nodes.update({i: (float(vlb[0, i - old]), float(ce[0, i - old])) for i in range(old, new)})
        vlb, ce = pair.losses(out[1].float(), g.pairs[k : k + 1, rows, :new], e, t, s)
        pairs.update(
            {(j, i): (float(vlb[0, i - old, j]), float(ce[0, i - old, j])) for i in range(old, new) for j in range(i)}
        )
        if b == 0:
            degrees.append(cross_entropy(net.properties.first_degrees(torch.tensor([size])), degree))
        true = NewBlock(g.types[k : k + 1, rows], g.pairs[k : k + 1, rows, :new], number, degree, mask, walks)
        contexts = net.finish(contexts, true)
        after = torch.tensor(counts[b + 1 : b + 2])
        sizes.append(cross_entropy(net.next_sizes(contexts), after))
        target = g.degree[k, new : new + 1] if int(after) else torch.tensor([0])
        degrees.append(cross_entropy(net.next_degrees(contexts, after), target))
    return nodes, pairs, sizes, degrees


@pytest.mark.parametrize(
    "changes",
    [
        {"prior": "absorbing"},
        {"prior": "marginal", "trunk": "separate"},
        {"prior": "uniform", "block_time": False},
        {"prior": "marginal", **TOKENS},
        {"prior": "absorbing", **TOKENS},
    ],
    ids=str,
)
@torch.no_grad()
def test_losses_are_those_of_a_loop_over_blocks(changes):
    pard = model(**changes)
    batch = graphs(6)
    g = pard.pad(batch)
    step, uniform = pard.draw_noise(g, seeded(1))
    e = pard.losses_per_element(g, step, uniform)
    size, steps = g.types.size(1), pard.config.diffusion_steps
    u = uniform.split([size, uniform.size(1) - size], 1)
    node, pair = pard.processes()
    later = to_pairs(step.unsqueeze(1).expand(-1, size, -1))  # of pair i < j the time of j
    noisy_pairs = pair.q_sample(to_pairs(g.pairs), later.double() / steps, u[1])
    noisy = node.q_sample(g.types, step.double() / steps, u[0]), from_pairs(noisy_pairs, size)
    row, column = torch.triu_indices(size, size, 1).tolist()
    place = {ends: i for i, ends in enumerate(zip(row, column, strict=True))}
    sizes, degrees, first = [], [], []
    for k in range(batch.num_graphs):
        nodes, pairs, own_sizes, own_degrees = slowly(pard, g, step, noisy, k)
        assert len(nodes) == int(e.node[2][k].sum()) and len(pairs) == int(e.edge[2][k].sum())
        for part in (0, 1):
            for i, losses in nodes.items():
                assert float(e.node[part][k, i]) == pytest.approx(losses[part], abs=NEAR, rel=NEAR)
            for ends, losses in pairs.items():
                assert float(e.edge[part][k, place[ends]]) == pytest.approx(losses[part], abs=NEAR, rel=NEAR)
        sizes += own_sizes
        first += own_degrees[:1]
        degrees += own_degrees[1:]
    assert_close(e.size, torch.stack(sizes), "sizes")
    assert_close(e.degree, torch.stack(first + degrees), "degrees")


@pytest.mark.parametrize("prior", PRIORS)
def test_the_loss_is_the_weighted_sum_over_nodes_pairs_and_blocks_per_graph(prior):
    pard, batch = model(prior=prior, ce_weight=0.3), graphs()
    parts = pard.losses(batch, seeded())
    g = pard.pad(batch)
    e = pard.losses_per_element(g, *pard.draw_noise(g, seeded()))
    counts = batch.node_counts()
    assert torch.equal(e.node[2].sum(1), counts) and torch.equal(e.edge[2].sum(1), counts * (counts - 1) // 2)
    total = sums(e).sum(0)
    expected = {"node": total[0] + 0.3 * total[1], "edge": total[2] + 0.3 * total[3]}
    expected |= {"size": e.size.sum(), "degree": e.degree.sum()}
    assert set(parts) == set(expected)
    for name, value in expected.items():
        assert_close(parts[name].double(), value.double() / 9, name, tolerance=NEAR)
    assert_close(pard.loss(batch, seeded()).double(), sum(parts.values()).double(), "sum", tolerance=NEAR)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_bound_at_the_last_step_is_the_cross_entropy_and_nothing_is_multiplied_by_the_steps(prior):
    pard = model(prior=prior)
    g = pard.pad(graphs())
    step, uniform = pard.draw_noise(g, seeded())
    e = pard.losses_per_element(g, torch.ones_like(step), uniform)
    for vlb, ce, mask in (e.node, e.edge):
        assert_close(vlb[mask], ce[mask], "t = 1 / T", tolerance=NEAR)
    if prior != "absorbing":
        return
    last = pard.losses_per_element(g, torch.full_like(step, 5), uniform)
    abar = pard.processes()[0].schedule.alpha_bar(torch.tensor([0.8, 1.0]))
    weight = float((abar[0] - abar[1]) / (1 - abar[1]))
    assert_close(last.node[0], last.node[1] * weight, "t = 1", tolerance=NEAR)


# --- what the losses may not depend on ---


def carried(pard, batch, moved, seed, uniform):
    """Return ``uniform`` as it lies on the nodes and pairs of ``moved``, and the place of each of its nodes before."""
    settings = replace(pard.net.settings, node_types=10_000)
    tags = replace(batch, x=torch.arange(batch.num_nodes))
    one, two = (block_batch(b, settings, pard.config.max_hops) for b in (tags, permute_graphs(tags, seed)))
    size, graph = one.mask.size(1), torch.arange(batch.num_graphs).unsqueeze(1)
    same = (one.types.unsqueeze(1) == two.types.unsqueeze(2)) & one.mask.unsqueeze(1) & two.mask.unsqueeze(2)
    place = torch.where(two.mask, same.long().argmax(2), torch.arange(size))
    pairs = from_pairs(uniform[:, size:], size)[graph.unsqueeze(2), place.unsqueeze(2), place.unsqueeze(1)]
    return torch.cat([uniform[:, :size][graph, place], to_pairs(pairs)], 1), place


@pytest.mark.parametrize("changes", [{}, {"norm": "batch", "trunk": "separate"}, TOKENS], ids=str)
def test_isomorphic_graphs_have_equal_losses_at_equal_noise(changes):
    pard, batch = model(**changes), graphs(12)
    moved = permute_graphs(batch, seed=4)
    g, h = pard.pad(batch), pard.pad(moved)
    step, uniform = pard.draw_noise(g, seeded())
    there, place = carried(pard, batch, moved, 4, uniform)
    assert not torch.equal(there, uniform)
    one, two = pard.losses_per_element(g, step, uniform), pard.losses_per_element(h, step, there)
    assert_close(sums(two), sums(one), "nodes and pairs", tolerance=NEAR)
    for part in (0, 1):
        assert_close(two.node[part], one.node[part].gather(1, place), "nodes", tolerance=NEAR)
    assert_close(two.size, one.size, "sizes")
    assert_close(two.degree, one.degree, "degrees")


@networks
def test_the_losses_of_a_graph_depend_on_no_other_and_on_no_padding(changes):
    pard, batch = model(**changes), graphs(8, min_nodes=1)
    g = pard.pad(batch)
    step, uniform = pard.draw_noise(g, seeded())
    e, size = pard.losses_per_element(g, step, uniform), g.types.size(1)
    blocks = g.last.div(size, rounding_mode="floor")
    for k in range(8):
        alone, n = pard.pad(batch.graph(k)), int(g.mask[k].sum())
        pairs = to_pairs(from_pairs(uniform[k : k + 1, size:], size)[:, :n, :n])
        own = pard.losses_per_element(alone, step[k : k + 1, :n], torch.cat([uniform[k : k + 1, :n], pairs], 1))
        assert_close(sums(own), sums(e)[k : k + 1], "nodes and pairs", tolerance=NEAR)
        assert_close(own.size, e.size[blocks == k], "sizes")
        assert_close(own.degree[1:], e.degree[8:][blocks == k], "degrees")
        assert_close(own.degree[:1], e.degree[k : k + 1], "first degree")


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_losses_repeat_with_their_generator_are_finite_and_leave_the_global_state_alone(prior, dtype):
    pard, state = model(prior=prior, dtype=dtype, context_noise=0.2), torch.random.get_rng_state()
    one, two, other = (pard.losses(graphs(), seeded(s)) for s in (1, 1, 2))
    assert all(torch.equal(one[k], two[k]) and bool(one[k].isfinite() & (one[k] >= 0)) for k in one)
    assert not torch.equal(one["edge"], other["edge"])
    assert torch.equal(torch.random.get_rng_state(), state)
    wide = model(prior=prior, context_noise=0.2).losses(graphs(), seeded(1))
    for name in one:
        assert_close(one[name].detach().double(), wide[name].detach().double(), name, tolerance=1e-3)


def no_graph_with_nodes(count):
    none, offsets = torch.zeros(0, dtype=torch.long), torch.zeros(count + 1, dtype=torch.long)
    return GraphBatch(none, none.reshape(2, 0), none, offsets, offsets)


@networks
def test_empty_graphs_and_single_nodes_have_their_share_of_the_loss(changes):
    pard = model(**changes)
    batch = GraphBatch.from_graphs([no_graph_with_nodes(2), random_graphs(1, max_nodes=1), no_graph_with_nodes(1)])
    parts = pard.losses(batch, seeded())
    assert not bool(parts["edge"]) and all(bool(v.isfinite()) for v in parts.values())
    g = pard.pad(batch)
    assert_close(parts["size"], pard.losses_per_element(g, *pard.draw_noise(g, seeded())).size.sum() / 4, "of four")


@pytest.mark.parametrize("changes", [{}, TOKENS, {**TOKENS, "prior": "empty"}], ids=str)
@pytest.mark.parametrize("count", [0, 3])
def test_a_batch_of_empty_graphs_has_no_loss(count, changes):
    assert float(model(**changes).loss(no_graph_with_nodes(count), seeded()).detach()) == 0


# --- training ---


@pytest.mark.parametrize("changes", [{}, {"trunk": "separate", "norm": "batch"}, TOKENS], ids=str)
def test_gradients_reach_every_parameter(changes):
    pard = model(**changes).train()
    pard.loss(graphs(), seeded()).backward()
    silent = [n for n, p in pard.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not [n for n in silent if not n.endswith("attention.bias")], silent  # a softmax does not see its bias
    assert all(bool(p.grad.isfinite().all()) for p in pard.parameters() if p.grad is not None)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_layers_that_are_computed_again_change_neither_loss_nor_gradients(norm):
    results = []
    for recompute in ("none", "pairs", "layers"):
        pard = model(trunk="separate", norm=norm, recompute=recompute).train()
        loss = pard.loss(graphs(), seeded())
        loss.backward()
        results.append((loss, {n: p.grad for n, p in pard.named_parameters()}))
    one, grads = results[0]
    for two, again in results[1:]:
        assert_close(two.detach(), one.detach(), "loss", tolerance=1e-12)
        for name, grad in grads.items():
            assert_close(again[name], grad, name, tolerance=1e-12)


def test_recomputing_layers_with_running_statistics_is_refused():
    with pytest.raises(InputError, match="twice a step"):
        model(norm="batch", recompute="layers")


@pytest.mark.parametrize("changes", [{}, TOKENS, {**TOKENS, "prior": "empty"}], ids=str)
def test_training_lowers_the_loss(changes):
    pard, batch = model(**changes).train(), graphs(8)
    optimizer = torch.optim.Adam(pard.parameters(), lr=3e-3)
    before = float(pard.loss(batch, seeded(0)).detach())
    for k in range(15):
        optimizer.zero_grad()
        pard.loss(batch, seeded(k)).backward()
        optimizer.step()
    assert float(pard.loss(batch, seeded(0)).detach()) < before


# --- times, disturbed contexts ---


@pytest.mark.parametrize("block_time", [True, False])
def test_times_are_uniform_and_one_per_block_or_one_per_graph(block_time):
    pard = model(block_time=block_time)
    g = pard.pad(graphs(400, min_nodes=3))
    step, uniform = pard.draw_noise(g, seeded())
    assert uniform.shape == (400, 7 + 21) and 0 <= float(uniform.min()) and float(uniform.max()) < 1
    same = g.block.unsqueeze(2) == g.block.unsqueeze(1)
    equal = step.unsqueeze(2) == step.unsqueeze(1)
    assert bool(equal[same].all()) and bool(equal.all()) == (not block_time)
    shares = torch.bincount(step[:, 0], minlength=6)[1:] / 400
    assert step.min() >= 1 and float((shares - 0.2).abs().max()) < 5 * math.sqrt(0.2 * 0.8 / 400)


def test_a_disturbed_context_keeps_targets_and_moves_what_is_read():
    pard = model(context_noise=0.25)
    g = pard.pad(graphs(60, min_nodes=5))
    types, pairs = pard._disturbed(g, seeded())
    assert torch.equal(pairs, pairs.transpose(1, 2)) and not pairs.diagonal(dim1=1, dim2=2).any()
    assert bool((types < 4).all()) and bool((pairs < 4).all())
    marginal = pard.node_counts / pard.node_counts.sum()
    expected = 0.25 * float((1 - marginal[g.types[g.mask]]).mean())
    share = float((types != g.types)[g.mask].double().mean())
    assert abs(share - expected) < 5 * math.sqrt(expected / int(g.mask.sum()))
    step, uniform = pard.draw_noise(g, seeded())
    plain, shown = (pard.losses_per_element(g, step, uniform, c) for c in (None, (types, pairs)))
    first = (g.block == 0) & g.mask
    assert torch.equal(plain.node[1][first], shown.node[1][first])  # block 0 reads no context
    assert not torch.equal(plain.node[1][g.mask & ~first], shown.node[1][g.mask & ~first])
    assert not torch.equal(plain.size, shown.size)
    same = pard.losses_per_element(g, step, uniform, (g.types, g.pairs))
    assert all(torch.equal(a, b) for a, b in zip(same.node, plain.node, strict=True))
    assert model()._disturbed(g, seeded()) is None


# --- statistics, errors, checkpoints ---


def test_preparing_counts_nodes_pairs_and_blocks_of_the_training_graphs_once():
    batch = graphs(30, seed=8)
    pard = model()
    for _ in range(2):
        prepared = pard.prepare(store(batch), progress=False)
    assert prepared.block_rule == "hops:2"
    dense = batch.to_dense()
    pairs = to_pairs(dense.adj)[to_pairs(dense.pair_mask)]
    assert torch.equal(pard.node_counts, torch.bincount(batch.x, minlength=4))
    assert torch.equal(pard.pair_counts, torch.bincount(pairs, minlength=4))
    g = pard.pad(batch)
    empty = int((~g.mask.any(1)).sum())  # a graph without nodes is one whose first block has size 0
    assert torch.equal(pard.first_sizes[1:], torch.bincount(g.first_size, minlength=8)[1:])
    assert int(pard.first_sizes[0]) == empty > 0
    stops = int((batch.node_counts() > 0).sum())
    assert int(pard.sizes[0]) == stops and int((pard.sizes * torch.arange(8)).sum()) == batch.num_nodes


def test_a_store_of_another_vocabulary_is_refused():
    with pytest.raises(InputError, match="node_types = 4"):
        PARD(replace(SMALL, node_types=3)).prepare(store(), progress=False)
    with pytest.raises(InputError, match="edge_types"):
        PARD(replace(SMALL, edge_types=2)).prepare(store(), progress=False)
    with pytest.raises(InputError, match="max_nodes"):
        PARD(replace(SMALL, max_nodes=6)).prepare(store(), progress=False)


def test_marginals_are_uniform_before_a_store_is_prepared_and_the_data_s_afterwards():
    pard = PARD.seeded(replace(SMALL, prior="marginal"), 0)
    uniform = [p.limit for p in PARD.seeded(replace(SMALL, prior="uniform"), 0).processes()]
    assert all(torch.allclose(p.limit, q) for p, q in zip(pard.processes(), uniform, strict=True))
    pard.prepare(store(), progress=False)
    node, pair = (p.limit for p in pard.processes())
    assert torch.allclose(node, pard.node_counts / pard.node_counts.sum().double(), atol=1e-5)
    assert torch.allclose(pair, pard.pair_counts / pard.pair_counts.sum().double(), atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_hops": -1}, {"diffusion_steps": 0}, {"ce_weight": -0.1}, {"ce_weight": math.nan}, {"context_noise": 1.0},
        {"trunk": "both"}, {"prior": "normal"}, {"order": "random"}, {"norm": "group"}, {"heads": 3}, {"layers": 0},
    ],
    ids=str,
)  # fmt: skip
def test_impossible_configurations_are_refused(wrong):
    with pytest.raises(InputError):
        replace(SMALL, **wrong)


def test_a_saved_model_draws_the_same_graphs_and_scores_them_alike(tmp_path):
    pard = model(dtype=torch.float32, trunk="separate", norm="batch", sampler=BlockSampler(steps=2))
    pard.save(tmp_path, metadata={"a": 1})
    loaded, metadata = GraphGenerator.load(tmp_path)
    assert isinstance(loaded, PARD) and loaded.config == pard.config and metadata == {"a": 1}
    one, two = pard.sample(5, seed=3), loaded.sample(5, seed=3)
    assert torch.equal(one.x, two.x) and torch.equal(one.edge_attr, two.edge_attr)
    assert torch.equal(pard.loss(one, seeded()), loaded.loss(one, seeded()))
