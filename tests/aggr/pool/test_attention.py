"""The Set Transformer: its blocks against the formulas written group by group, equivariance, and the borders."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import layer_norm, linear

from graphinv.aggr.pool.attention import (
    InducedSetAttentionBlock,
    MultiheadAttentionBlock,
    PoolingByMultiheadAttention,
    SetAttentionBlock,
    SetTransformerAggregation,
)
from graphinv.errors import InputError
from graphinv.testing import assert_close, assert_permutation_invariant

C, F, OUT, GROUPS = 6, 5, 4, 8
SIZES = (3, 1, 0, 2, 13, 12, 0, 7)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
AGGREGATIONS = {
    "sab": {},
    "isab": {"induced": 3},
    "two_seeds": {"seeds": 2, "encoders": 2},
    "no_norm": {"layer_norm": False, "induced": 2, "seeds": 3},
    "no_encoder": {"encoders": 0},
}
every = pytest.mark.parametrize("name", AGGREGATIONS)


def aggregation(name, dtype=torch.float64):
    torch.manual_seed(0)
    return SetTransformerAggregation(F, OUT, hidden=C, heads=2, **AGGREGATIONS[name]).to(dtype)


def sets(channels=F, dtype=torch.float64, sizes=SIZES, seed=0):
    index = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    x = torch.randn(index.numel(), channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[::5] = x[0]
    return x.to(dtype), index


def offsets(sizes=SIZES):
    return torch.tensor([0, *sizes]).cumsum(0)


def mab_of_one_group(block, x, y):
    """LN(H + relu(Linear(H))) with H = LN(X + Multihead(X, Y, Y)), for one group, by a map for each head."""
    q, k, v = (linear(rows, m.weight, m.bias) for rows, m in ((x, block.query), (y, block.key), (y, block.value)))
    width = C // block.heads
    taken = torch.zeros_like(x)
    for h in range(block.heads if y.shape[0] else 0):
        own = slice(h * width, (h + 1) * width)
        for i in range(x.shape[0]):
            weight = (k[:, own] @ q[i, own] / width**0.5).exp()
            taken[i, own] = (weight / weight.sum()) @ v[:, own]
    h = x + linear(taken, block.out.weight, block.out.bias)
    h = layer_norm(h, (C,), block.norms[0].weight, block.norms[0].bias) if block.norms else h
    h = h + linear(h, block.feed.weight, block.feed.bias).relu()
    return layer_norm(h, (C,), block.norms[1].weight, block.norms[1].bias) if block.norms else h


def drawn(module):
    """Move every parameter from its start, so that none is without effect."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.double()


@pytest.mark.parametrize("norm", [True, False])
def test_mab_is_its_formula_in_every_group(norm):
    block = drawn(MultiheadAttentionBlock(C, 3, layer_norm=norm))
    others = (2, 4, 5, 0, 9, 10, 1, 0)
    (x, _), (y, _) = sets(C), sets(C, sizes=others, seed=1)
    out = block(x, offsets(), y, offsets(others))
    parts = zip(out.split(SIZES), x.split(SIZES), y.split(others), strict=True)
    for group, (result, own, taken_from) in enumerate(parts):
        assert_close(result, mab_of_one_group(block, own, taken_from), f"group {group}", tolerance=1e-12)


def test_sab_isab_and_pma_are_their_formulas():
    x, _ = sets(C)
    sab, isab = drawn(SetAttentionBlock(C, 2)), drawn(InducedSetAttentionBlock(C, 3, 2))
    pma = drawn(PoolingByMultiheadAttention(C, 2, 2))
    outs = [block(x, offsets()) for block in (sab, isab, pma)]
    for group, own in enumerate(x.split(SIZES)):
        start = sum(SIZES[:group])
        gathered = mab_of_one_group(isab.gather, isab.points, own)
        expected = (
            mab_of_one_group(sab.block, own, own),
            mab_of_one_group(isab.spread, own, gathered),
            mab_of_one_group(pma.block, pma.seeds, linear(own, pma.feed.weight, pma.feed.bias).relu()),
        )
        for out, result in zip(outs[:2], expected[:2], strict=True):
            assert_close(out[start : start + len(own)], result, f"group {group}", tolerance=1e-12)
        assert_close(outs[2][2 * group : 2 * group + 2], expected[2], f"seeds of group {group}", tolerance=1e-12)


@pytest.mark.parametrize("block", [SetAttentionBlock(C, 2), InducedSetAttentionBlock(C, 3, 2)], ids=["sab", "isab"])
def test_moving_rows_of_a_group_moves_the_result_alike(block):
    block, (x, _) = drawn(block), sets(C)
    generator = torch.Generator().manual_seed(4)
    order = torch.cat([start + torch.randperm(n, generator=generator) for start, n in zip(offsets(), SIZES)])  # noqa: B905
    out, moved = block(x, offsets()), block(x[order], offsets())
    assert_close(moved, out[order], "equivariance", tolerance=1e-12)
    assert float((out[:3] - out[[1, 2, 0]]).detach().abs().max()) > 1e-3


def test_groups_of_equal_size_need_no_offsets():
    block = drawn(SetAttentionBlock(C, 2))
    x = torch.randn(3, 4, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = block(x.flatten(0, 1), offsets((4, 4, 4))).view(3, 4, C)
    assert_close(block(x), expected, "dense", tolerance=1e-13)


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_set_is_the_same_in_any_order_and_company(name, dtype):
    m, (x, index) = aggregation(name, dtype), sets(dtype=dtype)
    together = m(x, index, dim_size=GROUPS)
    assert together.dtype == dtype
    assert_permutation_invariant(lambda x, i: m(x, i, dim_size=GROUPS), x, index, tolerance=TOLERANCE[dtype])
    for group in range(GROUPS):
        own = x[index == group]
        alone = m(own, torch.zeros(own.shape[0], dtype=torch.int64), dim_size=1)
        assert_close(alone, together[group : group + 1], f"group {group}", tolerance=TOLERANCE[dtype])
    order = torch.randperm(index.numel(), generator=torch.Generator().manual_seed(1))
    assert_close(m(x[order], index[order], dim_size=GROUPS), together, "interleaved", tolerance=TOLERANCE[dtype])


def test_the_aggregation_is_its_parts_one_after_the_other():
    m, (x, index) = drawn(aggregation("two_seeds")), sets()
    rows = linear(x, m.project_in.weight, m.project_in.bias)
    for encoder in m.encoders:
        rows = encoder(rows, offsets())
    seeds = m.pool(rows, offsets()).view(GROUPS, 2, C)
    expected = linear(torch.cat([seeds[:, 0], seeds[:, 1]], 1), m.project_out.weight, m.project_out.bias)
    assert_close(m(x, index, dim_size=GROUPS), expected, "parts", tolerance=1e-13)


@every
def test_copies_of_every_element_change_nothing_but_a_missing_element_does(name):
    m, (x, _) = drawn(aggregation(name)), sets()
    x = x[6:11]
    one, three = torch.zeros(5, dtype=torch.int64), torch.zeros(15, dtype=torch.int64)
    assert_close(m(x.repeat(3, 1), three), m(x, one), "copies", tolerance=1e-12)
    assert float((m(x[:4], one[:4]) - m(x, one)).detach().abs().max()) > 1e-4


@every
def test_empty_groups_and_empty_input_are_finite_and_all_alike(name):
    m, (x, index) = drawn(aggregation(name)), sets()
    out = m(x, index, dim_size=GROUPS + 2)
    empty = out[[2, 6, GROUPS, GROUPS + 1]]
    assert bool(out.isfinite().all()) and bool((empty == empty[0]).all())
    none = torch.empty(0, F, dtype=torch.float64, requires_grad=True)
    alone = m(none, torch.empty(0, dtype=torch.int64), dim_size=2)
    assert_close(alone, empty[:2], "no rows at all", tolerance=1e-13)
    alone.sum().backward()
    assert none.grad.shape == (0, F)
    assert m(none, torch.empty(0, dtype=torch.int64)).shape == (0, OUT)


@every
def test_nan_and_infinity_stay_in_their_group(name):
    m, (x, index) = aggregation(name), sets()
    expected = m(x, index, dim_size=GROUPS)
    others = torch.arange(GROUPS) != 4
    for value in (float("nan"), float("inf")):
        spoiled = x.clone()
        spoiled[16, 0] = value
        assert int(index[16]) == 4
        out = m(spoiled, index, dim_size=GROUPS)
        assert_close(out[others], expected[others], "neighbours", tolerance=1e-12)
        assert bool(out[4].isnan().all())


@every
def test_gradients_match_finite_differences(name):
    m, (x, index) = drawn(aggregation(name)), sets(sizes=(2, 0, 3, 1))
    parameters = tuple(m.parameters())

    def run(x, *values):
        named = dict(zip((key for key, _ in m.named_parameters()), values, strict=True))
        return torch.func.functional_call(m, named, (x, index), {"dim_size": 4})

    inputs = (x.requires_grad_(), *(p.detach().requires_grad_() for p in parameters))
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("name", ["no_norm", "no_encoder"])  # the behaviour matrix has the others
def test_compiles_without_a_graph_break(name):
    torch._dynamo.reset()
    m, (x, index) = aggregation(name), sets()
    x.requires_grad_()
    compiled = torch.compile(m, fullgraph=True, backend="eager")
    order = torch.randperm(index.numel(), generator=torch.Generator().manual_seed(1))
    for rows, groups in ((x, index), (x[order], index[order])):
        outs = [f(rows, groups, dim_size=GROUPS, max_num_elements=16) for f in (compiled, m)]
        assert_close(*outs, "compiled", tolerance=1e-12)
        slopes = [torch.autograd.grad(out.square().sum(), x, retain_graph=True)[0] for out in outs]
        assert_close(*slopes, "slopes", tolerance=1e-11)


@every
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_is_computed_in_float32(name, half):
    m, (x, index) = aggregation(name, torch.float32).to(half), sets(dtype=half)
    out = m(x, index, dim_size=GROUPS)
    wide = m.float()(x.float(), index, dim_size=GROUPS)
    assert out.dtype == half and torch.equal(out, wide.to(half))


def test_under_autocast_nothing_changes():
    m, (x, index) = aggregation("isab", torch.float32), sets(dtype=torch.float32)
    expected = m(x, index, dim_size=GROUPS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(m(x, index, dim_size=GROUPS), expected)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    m, (x, index) = SetTransformerAggregation(F, OUT, hidden=C, heads=2, dropout=0.5).double(), sets()
    first, second = m(x, index), m(x, index)
    assert not torch.equal(first, second)
    m.eval()
    assert torch.equal(m(x, index), m(x, index))


@every
def test_the_state_dict_is_the_function_and_a_reset_changes_it(name):
    m, (x, index) = aggregation(name), sets()
    expected = m(x, index, dim_size=GROUPS)
    other = SetTransformerAggregation(F, OUT, hidden=C, heads=2, **AGGREGATIONS[name]).double()
    other.load_state_dict(m.state_dict())
    assert torch.equal(other(x, index, dim_size=GROUPS), expected)
    before = {key: value.clone() for key, value in m.state_dict().items()}
    with torch.no_grad():
        for parameter in m.parameters():
            parameter.fill_(7.0)
    m.reset_parameters()
    assert not any(bool((p == 7.0).any()) for p in m.parameters()) and before.keys() == m.state_dict().keys()
    assert repr(m).startswith(f"SetTransformerAggregation({F}, {OUT}, hidden={C}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 4}, "heads must divide"),
        ({"encoders": -1}, "encoders at least 0"),
        ({"induced": 0}, "learned points must be at least 1"),
        ({"seeds": 0}, "learned points must be at least 1"),
        ({"dropout": 1.0}, "dropout must be"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SetTransformerAggregation(F, OUT, **{"hidden": C, "heads": 2, **settings})


def test_bad_rows_are_refused():
    block, (x, _) = SetAttentionBlock(C).double(), sets(C)
    with pytest.raises(InputError, match=f"rows of {C} channels"):
        block(x[:, 1:], offsets())
    with pytest.raises(InputError, match="without ptr"):
        block(x)
    with pytest.raises(InputError, match="end at"):
        block(x[1:], offsets())
    with pytest.raises(InputError, match="in_channels and out_channels"):
        SetTransformerAggregation(0, OUT)
