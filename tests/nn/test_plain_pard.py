"""The fast PARD network and its diffusion equal the plain transcription of arXiv:2402.03687, given the same weights.

What differs by design, and how the tests set both sides to the same values:

- Types are looked up in tables with rows for unknown nodes and pairs and for the pair (i, i); the plain network
  multiplies one-hot rows, zero at (i, i), with a matrix and adds a bias.
- Distances between blocks have a table; the plain network an MLP of sinusoids, which is evaluated into that table.
- The sinusoids of time run over 1000 t; over the step t T there. They are equal at T = 1000.
- Time is added to noisy rows alone, so that finished blocks can be kept; ``time_on_all`` is False there.
- Nothing of the input is added to the logits; the plain network adds a share of it, which is set to 0.
- Only data classes have logits; the plain network has one more for the noise class, whose row is dropped.
- Both ends of a pair enter the output by a map without bias; the bias there is set to 0.
- In training, statistics of batch normalisation in the output heads are over noisy rows and pairs alone, as what
  leaves the heads is; there over the real ones too. They are compared behind the trunk and in eval mode.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax, one_hot, softmax

from examples.benchmarks.peers import plain_pard as formulas
from graphinv.diffusion import DiscreteDiffusion
from graphinv.nn.block import BlockSettings
from graphinv.nn.block_layout import ParallelLayout
from graphinv.nn.block_network import BlockInput, BlockNetwork
from graphinv.nn.embed import time_waves
from graphinv.ops.pairs import to_pairs
from tests.nn import plain_pard as plain

NODES, EDGES, MOST = 3, 2, 9
WIDTH, EDGE_WIDTH, LAYERS, HEADS, STEPS = 12, 6, 3, 3, 10
SIZES = [[2, 1, 3], [1, 1, 1, 1, 1, 1], [4], [3, 2], [1]]
norms = pytest.mark.parametrize(("norm", "plain_norm"), [("layer", "layer"), ("batch", "legacy_batch")])


RENAMED = {
    "transformer": {
        "norm_node": "node_norm", "norm_pair": "edge_norm", "norm_mlp": "mlp_norm", "node_qk": "node_qk",
        "pair_qk": "edge_qk", "pair_out": "edge_out", "attention": "logits", "value": "node_value",
        "pair_value": "edge_value", "node_out": "node_out", "mlp.0": "mlp.first", "mlp.2": "mlp.second",
    },
    "ppgn": {
        "norm": "norm", "norm_mlp": "mlp_norm", "left_in": "left.first", "left_out": "left.second",
        "right.0": "right.first", "right.2": "right.second", "out": "out", "mlp.0": "mlp.first", "mlp.2": "mlp.second",
    },
    "trunk": {
        "norm_node": "node_norm", "norm_pair": "edge_norm", "node_out.0": "node_mlp.first",
        "node_out.2": "node_mlp.second", "pair_out.0": "edge_mlp.first", "pair_out.2": "edge_mlp.second",
    },
    "head": {"enter": "first", "norm": "norm", "out": "second"},
    "denoiser": {
        "summary": "join", "pair_part": "combine.edge", "node_gate": "combine.node_gate",
        "pair_gate": "combine.edge_gate",
    },
}  # fmt: skip


def copy_parts(theirs, ours, names):
    """Copy the weights and running statistics of every part of ``theirs`` that ``names`` gives ours."""
    for own, other in names.items():
        source, target = theirs.get_submodule(other).state_dict(), ours.get_submodule(own).state_dict()
        for key, value in target.items():
            value.copy_(source[key][: len(value)])  # the noise class is the last row


def copy_trunk(source, trunk):
    """Give ``trunk`` what the plain network ``source`` computes from types, blocks and distances, and its layers."""
    entry = source.input
    nodes, pairs = entry.node.weight.T + entry.node.bias, entry.edge.weight.T + entry.edge.bias
    trunk.node_type.weight.copy_(nodes)
    trunk.pair_type.weight.copy_(torch.cat([pairs, entry.edge.bias.unsqueeze(0)]))
    trunk.number.weight.copy_(entry.block.weight[1 : MOST + 1])
    apart = 1 / (torch.arange(MOST).double() + 1)
    trunk.apart.weight.copy_(entry.distance(torch.cat(plain.waves(apart, EDGE_WIDTH, 10.0), -1)))
    copy_parts(source.trunk, trunk, RENAMED["trunk"])
    for k, layer in enumerate(trunk.layers):
        copy_parts(source.trunk.attention[k], layer.transformer, RENAMED["transformer"])
        copy_parts(source.trunk.ppgn[k], layer.ppgn, RENAMED["ppgn"])


def copy_properties(heads, ours):
    """Copy the heads of sizes and degrees."""
    ours.size_table.weight.copy_(heads.size_table.weight)
    copy_parts(heads, ours, {"summary": "join"})
    for name in ("size", "degree", "first_degree"):
        copy_parts(getattr(heads, name), getattr(ours, name), RENAMED["head"])


def shaken(module):
    """Return ``module`` in float64 without a weight or a running statistic that is 0 or 1."""
    with torch.no_grad():
        for value in module.double().parameters():
            value += 0.2 * torch.randn_like(value)
        for name, value in module.named_buffers():
            if value.is_floating_point():
                value += 0.5 * (torch.rand_like(value) if name.endswith("var") else torch.randn_like(value))
    return module


class Given(nn.Module):
    """The same rows whatever comes in."""

    def __init__(self, rows):
        super().__init__()
        self.forward = lambda x: rows


@torch.no_grad()
def networks(norm, plain_norm, shared=True):
    """Return ours, the plain denoiser and the plain block model, with equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = ((NODES + 1, EDGES + 2), WIDTH, EDGE_WIDTH, LAYERS, HEADS)
        denoiser = plain.PlainDenoiser(
            *shape, max_blocks=MOST + 1, degrees=MOST, steps=STEPS, norm=plain_norm, time_on_all=False
        )
        blocks = plain.PlainBlockModel(*shape, max_blocks=MOST + 1, sizes=MOST + 1, degrees=MOST, norm=plain_norm)
        denoiser, blocks = shaken(denoiser), shaken(blocks)
    for rise in (denoiser.node_rise, denoiser.edge_rise):
        for weight, value in ((rise.w1, 0.0), (rise.b1, 0.0), (rise.w2, 0.0), (rise.b2, -1e4)):
            weight.fill_(value)
    denoiser.combine.node.bias.zero_()
    net = BlockNetwork(BlockSettings(NODES, EDGES, MOST, WIDTH, EDGE_WIDTH, LAYERS, HEADS, norm), shared).double()
    copy_trunk(denoiser, net.trunk)
    net.trunk.degree.weight.copy_(denoiser.degree.weight)
    copy_parts(denoiser, net.trunk, {"time.0": "time.first", "time.2": "time.second"})
    copy_parts(denoiser, net.denoiser, RENAMED["denoiser"])
    column, row = denoiser.combine.node.weight.chunk(2)
    net.denoiser.node_part.weight.copy_(torch.cat([row, column]))
    copy_parts(denoiser.node_head, net.denoiser.node_types, RENAMED["head"])
    copy_parts(denoiser.edge_head, net.denoiser.edge_types, RENAMED["head"])
    if not shared:
        copy_trunk(blocks, net.block_trunk)
    copy_properties(blocks.heads, net.properties)
    return net, denoiser, blocks


def random_input():
    """Return graphs with blocks of ``SIZES`` and one time per graph, nothing in their padding."""
    g = torch.Generator().manual_seed(1)
    count, most = len(SIZES), max(sum(s) for s in SIZES)
    block = torch.full((count, most), MOST)
    for k, sizes in enumerate(SIZES):
        block[k, : sum(sizes)] = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    mask = block < MOST
    degree = torch.randint(MOST, (count, MOST + 1), generator=g).gather(1, block)
    time = (torch.randint(1, STEPS + 1, (count, 1), generator=g).double() / STEPS).expand(-1, most)
    types = torch.stack([torch.randint(NODES + k, (count, most), generator=g) for k in (0, 1)]) * mask
    pairs = torch.stack([torch.randint(EDGES + 1 + k, (count, most, most), generator=g) for k in (0, 1)]).triu(1)
    pairs = (pairs + pairs.transpose(2, 3)) * (mask.unsqueeze(1) & mask.unsqueeze(2))
    return BlockInput(types, pairs, block, degree, time, mask)


def doubled(g):
    """Return x, e, block, virtual and degree of the plain layout: n real rows, then n virtual ones."""
    size = g.mask.size(1)
    block = g.block.masked_fill(~g.mask, -1)
    block, degree = block.repeat(1, 2), (g.degree * g.mask).repeat(1, 2)
    virtual = torch.cat([torch.zeros_like(g.mask), g.mask], 1)
    x = one_hot(torch.cat([*g.types], 1), NODES + 1) * (block >= 0).unsqueeze(-1)
    row, column = g.block.unsqueeze(2), g.block.unsqueeze(1)
    e = torch.zeros(len(block), 2 * size, 2 * size, EDGES + 2, dtype=torch.long)
    parts = (slice(None, size), slice(size, None))
    for i, rows in enumerate(parts):
        for k, columns in enumerate(parts):
            holds = [[g.mask.unsqueeze(2), row < column], [row > column, row == column]][i][k]
            e[:, rows, columns] = one_hot(g.pairs[i | k], EDGES + 2) * (holds & (block >= 0)[:, None, :size]).unsqueeze(
                -1
            )
    e = e * (block >= 0)[:, :, None, None] * ~torch.eye(2 * size, dtype=torch.bool).unsqueeze(-1)
    return x.double(), e.double(), block, virtual, degree


def give_time(net, denoiser, g):
    """Let the plain network add our rows of time; return its steps."""
    denoiser.time = Given(net.trunk.time(time_waves(g.time[:, 0], WIDTH, torch.float64)).detach())
    return (g.time[:, 0] * STEPS).round().long()


def later_end(e, g):
    """Return the virtual part of ``e`` [B, 2M, 2M, C] at the pairs i < j [B, P, C], read from row j."""
    size = g.mask.size(1)
    same = (g.block.unsqueeze(2) == g.block.unsqueeze(1)).unsqueeze(-1)
    rows = torch.where(same, e[:, size:, size:], e[:, size:, :size]).transpose(1, 2)
    return torch.stack([to_pairs(rows[..., c]) for c in range(e.size(-1))], -1)


def largest(ours, theirs, mask):
    return (ours - theirs)[mask].abs().max().item()


@norms
def test_logits_of_all_blocks_equal_the_plain_network(norm, plain_norm):
    net, denoiser, _ = networks(norm, plain_norm)
    g = random_input()
    with torch.no_grad():
        steps = give_time(net, denoiser, g)
        ours, (nodes, edges) = net.eval()(g), denoiser.eval()(*doubled(g), steps)
    size = g.mask.size(1)
    pair_mask = to_pairs(g.mask.unsqueeze(1) & g.mask.unsqueeze(2))
    assert largest(ours.nodes, nodes[:, size:, :NODES], g.mask) <= 1e-9
    assert largest(ours.pairs, later_end(edges, g)[..., : EDGES + 1], pair_mask) <= 1e-9


@norms
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_sizes_and_degrees_equal_the_plain_heads(norm, plain_norm, shared, training):
    net, denoiser, blocks = networks(norm, plain_norm, shared)
    g = random_input()
    for module in (net, denoiser, blocks):
        module.train(training)
    most = max(len(s) for s in SIZES)
    sizes = torch.tensor([s + [0] * (most - len(s)) for s in SIZES])
    after = torch.cat([sizes[:, 1:], torch.zeros_like(sizes[:, :1])], 1)
    x, e, block, virtual, degree = doubled(g)
    with torch.no_grad():
        ours = net(g)
        if shared:
            features = denoiser.features(x, e, block, virtual, degree, give_time(net, denoiser, g))
            size, degrees, first = blocks.heads(*features, block, virtual, sizes, after)
        else:
            n = g.mask.size(1)
            size, degrees, first = blocks(x[:, :n], e[:, :n, :n], block[:, :n], sizes, after)
        exists = sizes > 0
        totals = ours.totals[exists.nonzero()[:, 0], sizes.cumsum(1)[exists] - 1]
        heads = net.properties
        pairs = (
            (heads.sizes(totals), size[exists]),
            (heads.degrees(totals, after[exists]), degrees[exists]),
            (heads.first_degrees(sizes[:, 0]), first),
        )
    for name, (own, other) in zip(("sizes", "degrees", "first degrees"), pairs, strict=True):
        assert (own - other).abs().max().item() <= 1e-9, name


@norms
def test_training_statistics_and_gradients_of_the_trunk_equal_the_plain_ones(norm, plain_norm):
    net, denoiser, _ = networks(norm, plain_norm)
    g = random_input()
    layout = ParallelLayout(g.block, g.mask)
    nodes, pairs = denoiser.features(*doubled(g), give_time(net, denoiser, g))
    trunk, size = net.trunk, g.mask.size(1)
    clean, noisy = (trunk.nodes(g.types[k], g.block, g.degree, t) for k, t in ((0, None), (1, g.time)))
    eye = torch.eye(size, dtype=torch.bool)
    apart = (g.block.unsqueeze(2) - g.block.unsqueeze(1)).abs()
    types = torch.where(eye, net.settings.self_type, g.pairs)
    x, e = trunk(torch.stack([clean, noisy]), trunk.pairs(types, apart), layout)
    pair_mask = g.mask.unsqueeze(1) & g.mask.unsqueeze(2)
    for k in (0, 1):
        assert largest(x[k], nodes[:, k * size :][:, :size], g.mask) <= 1e-9
    assert largest(e[0], pairs[:, :size, :size], pair_mask) <= 1e-9
    same = g.block.unsqueeze(2) == g.block.unsqueeze(1)
    assert largest(e[1], pairs[:, size:, size:], pair_mask & same) <= 1e-9
    later = g.block.unsqueeze(2) > g.block.unsqueeze(1)
    assert largest(e[1], pairs[:, size:, :size], pair_mask & later) <= 1e-9
    compare_gradients_and_statistics(net, denoiser, (x, e), (nodes, pairs), g)


def compare_gradients_and_statistics(net, denoiser, ours, theirs, g):
    """Take the gradient of the sum of squares of what exists on both sides, and compare all parts of a layer."""
    size, pair_mask = g.mask.size(1), (g.mask.unsqueeze(1) & g.mask.unsqueeze(2)).unsqueeze(-1)
    node_mask = g.mask.unsqueeze(-1)
    own = ((ours[0] * node_mask).square().sum() + (ours[1] * pair_mask).square().sum()) / size
    other = (theirs[0].square().sum() + theirs[1].square().sum()) / size
    assert own.item() == pytest.approx(other.item(), rel=1e-12)
    own.backward(), other.backward()
    for k, layer in enumerate(net.trunk.layers):
        for module, names in ((layer.transformer, "transformer"), (layer.ppgn, "ppgn")):
            source = denoiser.trunk.attention[k] if names == "transformer" else denoiser.trunk.ppgn[k]
            for name, renamed in RENAMED[names].items():
                a, b = module.get_submodule(name), source.get_submodule(renamed)
                buffers = dict(b.named_buffers())
                for key, value in a.named_buffers():
                    torch.testing.assert_close(value, buffers[key], atol=1e-9, rtol=1e-9)
                for p, q in zip(a.parameters(), b.parameters(), strict=True):
                    torch.testing.assert_close(p.grad, q.grad, atol=1e-8, rtol=1e-8)


def test_sinusoids_of_time_equal_the_plain_ones_at_a_thousand_steps():
    steps = torch.tensor([1, 2, 7, 500, 1000])
    cosine, sine = plain.waves(steps.double(), WIDTH, 10_000.0)
    # sines of up to 1000 in float32
    ours = time_waves(steps / 1000, WIDTH, torch.float64)
    assert (ours - torch.cat([sine, cosine], -1)).abs().max() < 1e-4


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("steps", [2, 20, 50])
def test_posterior_reverse_and_loss_equal_the_formulas_at_neighbouring_steps(classes, steps):
    g = torch.Generator().manual_seed(classes + steps)
    process = DiscreteDiffusion.uniform(classes)
    t, x_t, x_0 = (v.flatten() for v in torch.meshgrid(
        torch.arange(1, steps + 1), torch.arange(classes), torch.arange(classes), indexing="ij"
    ))  # fmt: skip
    logits = 3 * torch.randn(len(t), classes, generator=g, dtype=torch.float64)
    a, b = (formulas.alpha_bar(v.double(), steps) for v in (t, t - 1))
    now, before = t.double() / steps, (t - 1).double() / steps
    late = t > 1  # at s = 0 ours is the data itself; the formulas stay 1e-10 away
    q = process.posterior(x_t, x_0, now, before)
    torch.testing.assert_close(q[late], formulas.posterior(x_t, x_0, a, b, classes)[late], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(q, formulas.posterior(x_t, x_0, a, b, classes), atol=1e-6, rtol=0)
    p = process.reverse(x_t, log_softmax(logits, -1), now, before)
    torch.testing.assert_close(p[late], formulas.reverse(x_t, softmax(logits, -1), a, b)[late], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(p, formulas.reverse(x_t, softmax(logits, -1), a, b), atol=1e-6, rtol=0)
    vlb, ce = process.losses(logits, x_0, x_t, now, before)
    setting = formulas.Setting(steps=steps, ce_weight=0.1)
    for step in range(1, steps + 1):
        on = t == step
        other = formulas.diffusion_loss(logits[on], x_t[on], x_0[on], t[on].double(), setting)
        assert (vlb + 0.1 * ce)[on].sum().item() == pytest.approx(other.item(), rel=1e-9), step
