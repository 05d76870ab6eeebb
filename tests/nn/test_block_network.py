"""The network of PARD: nothing leaks forwards, and all blocks at once say what one block after the other says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graphinv.errors import InputError
from graphinv.nn.block import BlockSettings
from graphinv.nn.block_layout import ParallelLayout
from graphinv.nn.block_network import BlockInput, BlockNetwork, NewBlock
from graphinv.nn.tokens import TokenNetwork
from graphinv.testing import assert_causal, assert_close
from tests.nn import plain_pard as plain

NODES, EDGES, MOST = 3, 2, 8
SETTINGS = BlockSettings(NODES, EDGES, MOST, node_dim=16, edge_dim=8, layers=2, heads=2)
MIXED = [[2, 1, 3], [1, 1, 1, 1, 1, 1], [6], [3, 2], [1]]
KINDS = [("layer", True), ("rms", False), ("batch", True), ("batch", False), ("tokens", True)]
both = pytest.mark.parametrize(("norm", "shared"), KINDS, ids=lambda v: str(v))


def network(norm="layer", shared=True, seed=0, **changes):
    """Return a network without a parameter or a running statistic that is 0 or 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if norm == "tokens":
            net = TokenNetwork(replace(SETTINGS, hops=3, walks=2, walk_classes=20, **changes)).double().eval()
        else:
            net = BlockNetwork(replace(SETTINGS, norm=norm, **changes), shared).double().eval()
        for p in net.parameters():
            p.data += 0.2 * torch.randn_like(p)
        for name, value in net.named_buffers():
            value += 0.5 * (torch.rand_like(value) if name.endswith("var") else torch.randn_like(value))
    return net


def symmetric(pairs):
    upper = pairs.triu(1)
    return upper + upper.transpose(-1, -2)


def random_input(sizes=MIXED, size=None, seed=0):
    """Return graphs with blocks of ``sizes``, junk in their padding."""
    g = torch.Generator().manual_seed(seed)
    count, size = len(sizes), size or max((sum(s) for s in sizes), default=0)
    block = torch.full((count, size), MOST)
    for k, parts in enumerate(sizes):
        block[k, : sum(parts)] = torch.arange(len(parts)).repeat_interleave(torch.tensor(parts, dtype=torch.long))
    of_block = [torch.randint(MOST, (count, MOST + 1), generator=g), torch.rand(count, MOST + 1, generator=g)]
    of_block += [torch.randint(20, (count, MOST + 1), generator=g) for _ in range(2)]
    degree, time, *walks = (v.gather(1, block) for v in of_block)
    types = torch.stack([torch.randint(NODES + k, (count, size), generator=g) for k in (0, 1)])
    pairs = torch.stack([torch.randint(EDGES + 1 + k, (count, size, size), generator=g) for k in (0, 1)])
    return BlockInput(types, symmetric(pairs), block, degree, time.double(), block < MOST, torch.stack(walks, -1))


def square(pairs, size):
    """Return logits of pairs [B, P, C] as [B, M, M, C], zero on the diagonal."""
    row, column = torch.triu_indices(size, size, 1)
    out = pairs.new_zeros(pairs.size(0), size, size, pairs.size(-1))
    out[:, row, column] = out[:, column, row] = pairs
    return out


def ends_of_blocks(g):
    follows = torch.cat([g.block[:, 1:], torch.full_like(g.block[:, :1], MOST)], 1)
    return g.mask & (follows != g.block)


@torch.no_grad()
def sequential(net, g):
    """Return node logits, pair logits [B, M, M, C] (later end first) and totals, one block after the other."""
    count, size = g.block.shape
    nodes, totals = torch.zeros(count, size, NODES).double(), torch.zeros(count, size, SETTINGS.node_dim).double()
    pairs = torch.zeros(count, size, size, EDGES + 1).double()
    contexts, known = net.empty_contexts(count), torch.zeros(count, 0, dtype=torch.long)
    for b in range(int(g.block[g.mask].max()) + 1):
        place, mask = positions(g.block == b)
        new = [new_block(g, half, b, known, place, mask) for half in (0, 1)]
        n, p = net.denoise(contexts, new[1], g.time.gather(1, place[:, :1]).squeeze(1))
        every = torch.cat([contexts[0].mask, mask], 1)
        contexts, known = net.finish(contexts, new[0]), torch.cat([known, place], 1)
        for k in range(count):
            own, columns = place[k, mask[k]], known[k, every[k]]
            nodes[k, own] = n[k, mask[k]]
            pairs[k, own.unsqueeze(1), columns] = p[k, mask[k]][:, every[k]]
            totals[k, own[-1:]] = contexts[-1].total[k]
    return nodes, pairs, totals


def positions(own):
    """Return [B, s] the nodes of one block per graph, padded with 0, and their mask."""
    counts = own.sum(1)
    mask = torch.arange(int(counts.max())) < counts.unsqueeze(1)
    place = torch.zeros(mask.shape, dtype=torch.long)
    place[mask] = own.nonzero()[:, 1]
    return place, mask


def new_block(g, half, number, known, place, mask):
    graph = torch.arange(len(place))[:, None, None]
    pairs = g.pairs[half][graph, place.unsqueeze(2), torch.cat([known, place], 1).unsqueeze(1)]
    degree = g.degree.gather(1, place[:, :1]).squeeze(1)
    walks = g.walks[torch.arange(len(place)), place[:, 0]]
    return NewBlock(g.types[half].gather(1, place), pairs, torch.full((len(place),), number), degree, mask, walks)


def only(g, k, size):
    """Return graph k cut to its first ``size`` nodes."""
    part = slice(k, k + 1), slice(0, size)
    rest = (getattr(g, name)[part] for name in ("block", "degree", "time", "mask", "walks"))
    return BlockInput(g.types[:, k : k + 1, :size], g.pairs[:, k : k + 1, :size, :size], *rest)


# --- no leakage ---


def from_rows(rows, g):
    """Read one graph off integers [N, 2 + 2 N]: each row its two types and its clean and noisy pairs to rows before."""
    size = len(rows)
    clean, noisy = rows[:, 2 : 2 + size], rows[:, 2 + size :]
    types = torch.stack([rows[:, 0] % NODES, rows[:, 1] % (NODES + 1)])
    pairs = torch.stack([(clean % (EDGES + 1)).tril(-1), (noisy % (EDGES + 2)).tril(-1)])
    return replace(g, types=types.unsqueeze(1), pairs=(pairs + pairs.transpose(1, 2)).unsqueeze(1))


@torch.no_grad()
def by_row(net, g, totals=True):
    """Return [N, *]: node logits, totals and the logits of the pairs to rows before."""
    out = net(g)
    size = g.block.size(1)
    pairs = square(out.pairs, size)[0] * torch.ones(size, size).tril(-1).unsqueeze(-1)
    return torch.cat([out.nodes[0], pairs.flatten(1), *([out.totals[0]] if totals else [])], 1)


@both
def test_no_later_block_reaches_an_earlier_one_by_a_single_bit(norm, shared):
    net, g = network(norm, shared), random_input([[2, 1, 3, 1]])
    rows = torch.randint(0, 60, (7, 16), generator=torch.Generator().manual_seed(1))
    for b in range(1, 4):
        assert_causal(lambda rows: by_row(net, from_rows(rows, g)), rows, g.block[0] >= b, seed=b)


@both
def test_no_time_degree_or_number_of_a_later_block_reaches_an_earlier_one(norm, shared):
    net, g = network(norm, shared), random_input([[2, 1, 3, 1]])
    first = by_row(net, g)
    late = g.block >= 2
    moved = replace(g, time=torch.where(late, 1 - g.time, g.time), degree=torch.where(late, 7 - g.degree, g.degree))
    second = by_row(net, replace(moved, block=torch.where(late, g.block + 2, g.block)))
    assert torch.equal(first[~late[0]], second[~late[0]])
    assert bool((first != second).any(1)[late[0]].all())


@both
def test_noise_of_a_block_reaches_no_other_block_and_no_total(norm, shared):
    net, g = network(norm, shared), random_input([[2, 1, 3, 1]])
    rows = torch.randint(0, 60, (7, 16), generator=torch.Generator().manual_seed(2))
    noisy = torch.tensor([False, True] + [False] * 7 + [True] * 7)
    for b in range(4):

        def function(x, rows=rows):
            return by_row(net, from_rows(torch.where(noisy, x, rows), g), totals=False)

        assert_causal(function, rows, g.block[0] == b, seed=b)
    changed = from_rows(torch.where(noisy, rows.flip(0), rows), g)
    one, two = net(from_rows(rows, g)), net(replace(changed, time=1 - g.time))
    assert torch.equal(one.totals, two.totals) and not torch.equal(one.nodes, two.nodes)


def moved_by_truth(net, g, b):
    """Return [N]: by how much the logits of each row move when the truth of block ``b`` changes."""
    rows = torch.randint(0, 60, (7, 16), generator=torch.Generator().manual_seed(3))
    clean = torch.tensor([True, False] + [True] * 7 + [False] * 7)
    changed = torch.where(clean & (g.block[0] == b).unsqueeze(1), rows.flip(1), rows)
    one, two = (by_row(net, from_rows(x, g), totals=False) for x in (rows, changed))
    return (one - two).abs().amax(1)


@both
def test_the_truth_of_a_block_reaches_later_blocks_only(norm, shared):
    net, g = network(norm, shared), random_input([[2, 1, 3, 1]])
    for b in range(4):
        moved, later = moved_by_truth(net, g, b), g.block[0] > b
        assert bool((moved[later] > 1e-3).all())
        assert not bool(moved[g.block[0] < b].any())
        assert float(moved[g.block[0] == b].max()) < 1e-12


def test_the_truth_of_a_block_does_not_reach_its_own_logits_by_a_single_bit():
    net, g = network(), random_input([[2, 1, 3, 1]])
    for b in range(4):
        assert not bool(moved_by_truth(net, g, b)[g.block[0] == b].any())


# --- all blocks at once == one after the other ---


def assert_same_logits(net, g, nodes, pairs, totals, tolerance=1e-10):
    out, size = net(g), g.block.size(1)
    assert_close(nodes[g.mask], out.nodes[g.mask], "node logits", tolerance=tolerance)
    real = (g.mask.unsqueeze(1) & g.mask.unsqueeze(2)).tril(-1)
    assert_close(pairs[real], square(out.pairs, size)[real], "pair logits", tolerance=tolerance)
    ends = ends_of_blocks(g)
    assert_close(totals[ends], out.totals[ends], "totals", tolerance=tolerance)


@both
def test_all_blocks_at_once_equal_one_block_after_the_other_with_kept_context(norm, shared):
    net, g = network(norm, shared), random_input()
    with torch.no_grad():
        assert_same_logits(net, g, *sequential(net, g))
        for k in (0, 3):
            alone = only(g, k, int(g.mask[k].sum()))
            assert_same_logits(net, alone, *sequential(net, alone))


@pytest.mark.parametrize(("absolute", "relative"), [(False, False), (True, False), (False, True)])
def test_the_two_uses_agree_without_block_numbers_or_distances(absolute, relative):
    net, g = network(absolute=absolute, relative=relative, layers=3), random_input(MIXED[:2], seed=4)
    with torch.no_grad():
        assert_same_logits(net, g, *sequential(net, g))


@both
def test_a_block_says_the_same_whatever_is_still_to_come(norm, shared):
    net, g = network(norm, shared), random_input()
    with torch.no_grad():
        out = net(g)
        for k, parts in enumerate(MIXED[:2]):
            for b in range(len(parts)):
                end, start = sum(parts[: b + 1]), sum(parts[:b])
                alone = net(only(g, k, end))
                assert_close(alone.nodes[0, start:], out.nodes[k, start:end], "nodes", tolerance=1e-10)
                whole, cut = square(out.pairs, 6)[k, start:end, :end], square(alone.pairs, end)[0, start:]
                assert_close(cut, whole, "pairs", tolerance=1e-10)
                assert_close(alone.totals[0], out.totals[k, :end], "totals", tolerance=1e-10)


@both
@torch.no_grad()
def test_contexts_that_were_cut_and_joined_say_what_whole_ones_say(norm, shared):
    net, g = network(norm, shared), random_input([[2, 3], [1, 3], [3, 2]])
    place, mask = positions(g.block == 0)
    contexts = net.finish(net.empty_contexts(3), new_block(g, 0, 0, place[:, :0], place, mask))
    later, real = positions(g.block == 1)
    new = new_block(g, 1, 1, place, later, real)
    expected = net.denoise(contexts, new, g.time[:, 0])
    order = [2, 0, 1]
    parts = [c.graphs([0, 0, 0], mask.sum(1).tolist()) for c in contexts]
    joined = tuple(type(p[0]).join([p[k] for k in order]) for p in parts)
    moved = NewBlock(*(getattr(new, name)[order] for name in ("types", "pairs", "block", "degree", "mask", "walks")))
    nodes, pairs = net.denoise(joined, moved, g.time[order, 0])
    size = torch.arange(3)
    for at, k in enumerate(order):
        assert_close(nodes[at, real[k]], expected[0][k, real[k]], "nodes", tolerance=1e-10)
        every = torch.cat([size < mask[k].sum(), real[k]])
        assert_close(pairs[at, real[k]][:, every], expected[1][k, real[k]][:, every], "pairs", tolerance=1e-10)
    assert_close(net.next_sizes(joined), net.next_sizes(contexts)[order], "sizes", tolerance=1e-10)
    size = torch.tensor([1, 2, 0])
    assert_close(
        net.next_degrees(joined, size[order]), net.next_degrees(contexts, size)[order], "degrees", tolerance=1e-10
    )


@both
@torch.no_grad()
def test_what_is_kept_depends_on_neither_time_nor_noise(norm, shared):
    net, g = network(norm, shared), random_input([[2, 1, 3]])
    other = replace(g, time=1 - g.time, types=torch.stack([g.types[0], g.types[1].flip(1)]))
    kept = []
    for x in (g, other):
        place, mask = positions(x.block == 0)
        contexts = net.empty_contexts(1)
        net.denoise(contexts, new_block(x, 1, 0, place[:, :0], place, mask), x.time[:, 0])
        kept.append(net.finish(contexts, new_block(x, 0, 0, place[:, :0], place, mask)))
    for one, two in zip(*kept, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True))
    assert torch.equal(net(g).totals, net(other).totals)


# --- symmetry, padding, edges ---


@both
@torch.no_grad()
def test_renumbering_nodes_inside_blocks_renumbers_the_logits(norm, shared):
    net, g = network(norm, shared), random_input([[3, 1, 4], [8], [2, 2, 2, 2]])
    key = torch.rand(g.block.shape, generator=torch.Generator().manual_seed(3)) + 2 * g.block
    order = key.argsort(1)
    graph = torch.arange(3).unsqueeze(1)
    moved = replace(
        g, types=g.types[:, graph, order], pairs=g.pairs[:, graph.unsqueeze(2), order.unsqueeze(2), order.unsqueeze(1)]
    )
    one, two = net(g), net(moved)
    assert_close(two.nodes, one.nodes[graph, order], "nodes", tolerance=1e-10)
    expected = square(one.pairs, 8)[graph.unsqueeze(2), order.unsqueeze(2), order.unsqueeze(1)]
    assert_close(square(two.pairs, 8), expected, "pairs", tolerance=1e-10)
    ends = ends_of_blocks(g)
    assert_close(two.totals[ends], one.totals[ends], "totals", tolerance=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@torch.no_grad()
def test_pair_logits_inside_a_block_are_symmetric_bit_for_bit(dtype):
    net, g = network().to(dtype), random_input([[3, 5], [1, 6]])
    contexts, known = net.empty_contexts(2), torch.zeros(2, 0, dtype=torch.long)
    for b in (0, 1):
        place, mask = positions(g.block == b)
        _, pairs = net.denoise(contexts, new_block(g, 1, b, known, place, mask), g.time[:, 0])
        own = pairs[:, :, known.size(1) :]
        assert torch.equal(own, own.transpose(1, 2))
        contexts, known = net.finish(contexts, new_block(g, 0, b, known, place, mask)), place


@both
@torch.no_grad()
def test_neither_content_nor_amount_of_padding_reaches_a_graph(norm, shared):
    net, g = network(norm, shared), random_input()
    out = net(g)
    other = random_input(size=6, seed=9)
    pair_mask = g.mask.unsqueeze(1) & g.mask.unsqueeze(2)
    junk = replace(
        g,
        types=torch.where(g.mask, g.types, other.types),
        pairs=torch.where(pair_mask, g.pairs, other.pairs),
        degree=torch.where(g.mask, g.degree, other.degree),
        time=torch.where(g.mask, g.time, other.time),
    )
    same = net(junk)
    real = _upper(pair_mask)
    assert torch.equal(same.nodes[g.mask], out.nodes[g.mask]) and torch.equal(same.totals[g.mask], out.totals[g.mask])
    assert torch.equal(same.pairs[real], out.pairs[real])
    wide = random_input(size=8, seed=9)
    wide.types[:, :, :6], wide.pairs[:, :, :6, :6] = g.types, g.pairs
    wide.degree[:, :6], wide.time[:, :6], wide.walks[:, :6] = g.degree, g.time, g.walks
    more = net(wide)
    assert_close(more.nodes[:, :6][g.mask], out.nodes[g.mask], "nodes", tolerance=1e-10)
    assert_close(more.totals[:, :6][g.mask], out.totals[g.mask], "totals", tolerance=1e-10)
    assert_close(square(more.pairs, 8)[:, :6, :6][pair_mask], square(out.pairs, 6)[pair_mask], "pairs", tolerance=1e-10)


def _upper(pairs):
    row, column = torch.triu_indices(pairs.size(1), pairs.size(1), 1)
    return pairs[:, row, column]


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("sizes", [[], [[]], [[], [2, 1]], [[1], []]], ids=str)
def test_batches_without_graphs_or_with_empty_ones_have_finite_logits(sizes, norm):
    net, g = network(norm).train(), random_input(sizes)
    out = net(g)
    assert out.nodes.shape == (len(sizes), g.block.size(1), NODES)
    assert bool(out.nodes[g.mask].isfinite().all()) and bool(out.totals[g.mask].isfinite().all())
    (out.nodes[g.mask].sum() + out.totals[g.mask].sum()).backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in net.parameters())


@torch.no_grad()
def test_single_precision_is_near_double_precision():
    net, g = network(), random_input()
    wide, narrow = net(g), net.float()(replace(g, time=g.time.float()))
    assert narrow.nodes.dtype == narrow.pairs.dtype == torch.float32
    assert_close(narrow.nodes.double(), wide.nodes, "nodes", tolerance=1e-3)
    assert_close(narrow.pairs.double(), wide.pairs, "pairs", tolerance=1e-3)


def test_impossible_shapes_are_refused():
    for wrong in ({"heads": 3}, {"node_dim": 15, "heads": 5}, {"layers": 0}, {"max_nodes": 0}, {"edge_types": 0}):
        with pytest.raises(InputError):
            replace(SETTINGS, **wrong)


# --- the plain transcription ---

LEAVES = {
    "node_norm": "norm_node", "edge_norm": "norm_pair", "mlp_norm": "norm_mlp", "edge_qk": "pair_qk",
    "node_value": "value", "edge_value": "pair_value", "edge_out": "pair_out", "logits": "attention",
    "node_mlp": "node_out", "edge_mlp": "pair_out",
}  # fmt: skip


def own_name(name):
    """Return the name in ``Trunk`` of a parameter or buffer of the plain trunk."""
    parts = name.split(".")
    if parts[0] in ("attention", "ppgn"):
        kind = "transformer" if parts[0] == "attention" else "ppgn"
        names = LEAVES if kind == "transformer" else {"mlp_norm": "norm_mlp"}
        leaf = [names.get(parts[2], parts[2]), *parts[3:]]
        if leaf[0] == "left":
            leaf = ["left_in" if leaf[1] == "first" else "left_out", *leaf[2:]]
        parts = ["layers", parts[1], kind, *leaf]
    else:
        parts[0] = LEAVES[parts[0]]
    return ".".join({"first": "0", "second": "2"}.get(p, p) for p in parts)


def plain_trunk(net):
    s = net.settings
    kind = {"batch": "legacy_batch"}.get(s.norm, s.norm)
    trunk = plain.PlainTrunk(s.node_dim, s.edge_dim, s.layers, s.heads, kind).double().train(net.training)
    state = net.trunk.state_dict()
    trunk.load_state_dict({k: state[own_name(k)] for k in trunk.state_dict() if "tracked" not in k}, strict=False)
    return trunk


def dense_rows(net, g):
    """Return features of n real and n noisy rows, their pairs, and what the plain layout knows of them."""
    size = g.block.size(1)
    apart = (g.block.unsqueeze(2) - g.block.unsqueeze(1)).abs()
    types = torch.where(torch.eye(size, dtype=torch.bool), net.settings.self_type, g.pairs)
    x = torch.cat([net.trunk.nodes(g.types[k], g.block, g.degree, (None, g.time)[k]) for k in (0, 1)], 1)
    real, noisy = net.trunk.pairs(types, apart)
    pairs = torch.cat([torch.cat([real, noisy], 2), torch.cat([noisy, noisy], 2)], 1)
    block = torch.where(g.mask, g.block, -1).repeat(1, 2)
    return x, pairs, block, (torch.arange(2 * size) >= size).expand(len(block), -1)


@pytest.mark.parametrize(("norm", "training"), [("layer", False), ("batch", False), ("batch", True)])
@torch.no_grad()
def test_the_trunk_equals_its_plain_transcription_over_all_four_n_squared_pairs(norm, training):
    net, g = network(norm).train(training), random_input(MIXED[:3])
    x, pairs, block, virtual = dense_rows(net, g)
    trunk = plain_trunk(net)
    nodes, edges = trunk(x, pairs, plain.read_mask(block, virtual))
    layout, size = ParallelLayout(g.block, g.mask), g.block.size(1)
    apart = (g.block.unsqueeze(2) - g.block.unsqueeze(1)).abs()
    types = torch.where(torch.eye(size, dtype=torch.bool), net.settings.self_type, g.pairs)
    own_x, own_pairs = net.trunk(x.unflatten(1, (2, size)).movedim(1, 0), net.trunk.pairs(types, apart), layout)
    for half in (0, 1):
        assert_close(own_x[half][g.mask], nodes[:, half * size :][:, :size][g.mask], "nodes")
    pair_mask, later = g.mask.unsqueeze(1) & g.mask.unsqueeze(2), g.block.unsqueeze(2) > g.block.unsqueeze(1)
    same = g.block.unsqueeze(2) == g.block.unsqueeze(1)
    assert_close(own_pairs[0][pair_mask], edges[:, :size, :size][pair_mask], "real pairs")
    assert_close(own_pairs[1][pair_mask & later], edges[:, size:, :size][pair_mask & later], "pairs to the past")
    assert_close(own_pairs[1][pair_mask & same], edges[:, size:, size:][pair_mask & same], "pairs of the block")
    turned = later.transpose(1, 2) & pair_mask
    assert_close(own_pairs[1][turned], edges[:, :size, size:][turned], "pairs from the past")
    state = net.trunk.state_dict()
    for name, value in trunk.named_buffers():
        if "tracked" not in name:
            assert_close(state[own_name(name)], value, name)


@torch.no_grad()
def test_the_logits_equal_their_plain_transcription():
    net, g = network("layer"), random_input(MIXED[:3], seed=2)
    s, d, size = net.settings, net.denoiser, g.block.size(1)
    x, pairs, block, virtual = dense_rows(net, g)
    read = plain.read_mask(block, virtual)
    x, pairs = plain_trunk(net)(x, pairs, read)
    u = torch.nn.functional.silu(d.summary(torch.cat([plain.nodes_of_pairs(pairs, read), x], -1)))
    combine = plain.PlainCombiner(s.node_dim, s.edge_dim, 2 * s.edge_dim).double()
    combine.edge, combine.node_gate, combine.edge_gate = d.pair_part, d.node_gate, d.pair_gate
    combine.node.weight.data = torch.cat(d.node_part.weight.chunk(2)[::-1])
    combine.node.bias.data.zero_()
    both = combine(u, pairs)
    logits = d.edge_types(both + both.transpose(1, 2))
    out = net(g)
    assert_close(out.nodes[g.mask], d.node_types(u[:, size:])[g.mask], "nodes")
    later, same = (
        (f(g.block.unsqueeze(2), g.block.unsqueeze(1)) & g.mask.unsqueeze(1) & g.mask.unsqueeze(2)).tril(-1)
        for f in (torch.gt, torch.eq)
    )
    own = square(out.pairs, size)
    assert_close(own[later], logits[:, size:, :size][later], "pairs to the past")
    assert_close(own[same], logits[:, size:, size:][same], "pairs of the block")


def test_layers_computed_again_in_the_backward_pass_give_the_same_gradients():
    g, gradients = random_input(seed=2), []
    for recompute in ("none", "layers"):
        net = network("tokens", recompute=recompute)
        out = net(g)
        (out.nodes.square().sum() + out.pairs.square().sum() + out.totals.square().sum()).backward()
        gradients.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        assert_close(gradients[1][name], value, name, tolerance=1e-12)
