"""Slot set encoders: the formula, exactness however a set is divided, and the borders."""

from __future__ import annotations

import math

import pytest
import torch

from graphinv.aggr.pool.attention import SetAttentionBlock
from graphinv.aggr.pool.slots import SlotSetAggregation
from graphinv.errors import InputError
from graphinv.testing import assert_close, assert_permutation_invariant

F, OUT, SLOTS, HIDDEN, GROUPS = 5, 4, 3, 6, 8
SIZES = (3, 1, 0, 2, 13, 12, 0, 7)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
MODULES = {
    "sum": lambda: {},
    "heads": lambda: {"heads": 2},
    "mean": lambda: {"mean": True},
    "encoder": lambda: {"encoder": SetAttentionBlock(HIDDEN, 2), "mean": True},
}
every = pytest.mark.parametrize("name", MODULES)


def module(name, dtype=torch.float64):
    torch.manual_seed(0)
    return SlotSetAggregation(F, OUT, slots=SLOTS, hidden=HIDDEN, **MODULES[name]()).to(dtype)


def sets(dtype=torch.float64):
    index = torch.arange(GROUPS).repeat_interleave(torch.tensor(SIZES))
    x = torch.randn(index.numel(), F, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[::5] = x[0]
    return x.to(dtype), index


def slots_by_loops(m, x):
    """Return the slots [SLOTS, HIDDEN] of one group: shares are sigmoids, divided by their sum over the slots."""
    width = HIDDEN // m.heads
    total = torch.zeros(SLOTS, HIDDEN, dtype=torch.float64)
    for row in x:
        key, value = m.key.weight @ row + m.key.bias, m.value.weight @ row + m.value.bias
        for h in range(m.heads):
            own = slice(h * width, (h + 1) * width)
            gates = [1 / (1 + math.exp(-float(key[own] @ m.slots[j, own]) / math.sqrt(width))) for j in range(SLOTS)]
            for j in range(SLOTS):
                total[j, own] += gates[j] / sum(gates) * value[own]
    return total / max(len(x), 1) if m.mean else total


@every
@torch.no_grad()
def test_it_is_its_formula_in_every_group(name):
    m, (x, index) = module(name), sets()
    out = m(x, index, dim_size=GROUPS)
    for group in range(GROUPS):
        slots = slots_by_loops(m, x[index == group])
        slots = slots if m.encoder is None else m.encoder(slots.unsqueeze(0))[0]
        expected = m.project_out.weight @ slots.flatten() + m.project_out.bias
        assert_close(out[group], expected, f"group {group}", tolerance=1e-12)


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_parts_of_the_groups_give_the_result_of_the_whole(name, parts, dtype):
    m, (x, index) = module(name, dtype), sets(dtype)
    expected = m(x, index, dim_size=GROUPS)
    order = torch.randperm(index.numel(), generator=torch.Generator().manual_seed(parts))
    state, folded = m.init(GROUPS), []
    for rows in order.chunk(parts):
        state = m.update(state, x[rows], index[rows])
        folded.append(m.update(m.init(GROUPS), x[rows], index[rows]))
    assert_close(m.finalize(state), expected, "one after the other", tolerance=TOLERANCE[dtype])
    while len(folded) > 1:  # as a tree, of parts folded apart from one another
        folded = [m.merge(*folded[i : i + 2]) if i + 1 < len(folded) else folded[i] for i in range(0, len(folded), 2)]
    assert_close(m.finalize(folded[0]), expected, "merged", tolerance=TOLERANCE[dtype])


@every
def test_gradients_of_parts_are_those_of_the_whole(name):
    m, (x, index) = module(name), sets()
    parameters = list(m.parameters())
    state = m.update(m.update(m.init(GROUPS), x[::2], index[::2]), x[1::2], index[1::2])
    whole = torch.autograd.grad(m(x, index, dim_size=GROUPS).square().sum(), parameters)
    parts = torch.autograd.grad(m.finalize(state).square().sum(), parameters)
    for one, other in zip(parts, whole, strict=True):
        assert_close(one, other, "gradient", tolerance=1e-11)


def test_the_shares_of_an_element_add_up_to_the_element():
    m, (x, index) = module("heads"), sets()
    state = m.update(m.init(GROUPS), x, index)
    values = torch.nn.functional.linear(x, m.value.weight, m.value.bias)
    expected = torch.zeros(GROUPS, HIDDEN, dtype=torch.float64).index_add(0, index, values)
    assert_close(state["slots"].sum(1), expected, "sum over slots", tolerance=1e-12)


def test_shares_of_elements_that_no_slot_wants_are_still_finite():
    m, (x, index) = module("sum", torch.float32), sets(torch.float32)
    with torch.no_grad():
        m.slots.copy_(-m.key(x[:1]).sign() * torch.tensor([[300.0], [900.0], [900.0]]))
    x = (20 * x[:1]).requires_grad_()
    out = m(x, index[:1])
    assert bool(out.isfinite().all()) and bool(torch.autograd.grad(out.sum(), x)[0].isfinite().all())


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_set_is_the_same_in_any_order_and_company(name, dtype):
    m, (x, index) = module(name, dtype), sets(dtype)
    together = m(x, index, dim_size=GROUPS)
    assert together.dtype == dtype
    assert_permutation_invariant(lambda x, i: m(x, i, dim_size=GROUPS), x, index, tolerance=TOLERANCE[dtype])
    for group in range(GROUPS):
        own = x[index == group]
        alone = m(own, torch.zeros(own.shape[0], dtype=torch.int64), dim_size=1)
        assert_close(alone, together[group : group + 1], f"group {group}", tolerance=TOLERANCE[dtype])


@every
def test_empty_groups_and_empty_input_are_finite_and_all_alike(name):
    m, (x, index) = module(name), sets()
    out = m(x, index, dim_size=GROUPS + 2)
    empty = out[[2, 6, GROUPS, GROUPS + 1]]
    assert bool(out.isfinite().all()) and bool((empty == empty[0]).all())
    assert_close(m.finalize(m.init(2)), empty[:2], "a state of nothing", tolerance=1e-13)
    none = torch.empty(0, F, dtype=torch.float64, requires_grad=True)
    alone = m(none, torch.empty(0, dtype=torch.int64), dim_size=2)
    assert_close(alone, empty[:2], "no rows at all", tolerance=1e-13)
    alone.sum().backward()
    assert none.grad.shape == (0, F)
    assert m(none, torch.empty(0, dtype=torch.int64)).shape == (0, OUT)


@every
def test_nan_and_infinity_stay_in_their_group(name):
    m, (x, index) = module(name), sets()
    expected = m(x, index, dim_size=GROUPS)
    others = torch.arange(GROUPS) != 4
    for value in (float("nan"), float("inf")):
        spoiled = torch.where((index == 4).unsqueeze(1), value, x)
        out = m(spoiled, index, dim_size=GROUPS)
        assert_close(out[others], expected[others], "neighbours", tolerance=1e-12)
        assert not bool(out[4].isfinite().any())


@every
def test_gradients_match_finite_differences(name):
    m, (x, index) = module(name), sets()
    x, index = x[:8].requires_grad_(), index[:8]
    names = [key for key, _ in m.named_parameters()]

    def run(x, *values):
        return torch.func.functional_call(m, dict(zip(names, values, strict=True)), (x, index), {"dim_size": 5})

    parameters = tuple(p.detach().requires_grad_() for p in m.parameters())
    assert torch.autograd.gradcheck(run, (x, *parameters), fast_mode=True)


def test_compiles_without_a_graph_break():
    torch._dynamo.reset()
    m, (x, index) = module("heads"), sets()  # the behaviour matrix has the others
    x.requires_grad_()
    compiled = torch.compile(m, fullgraph=True, backend="eager")
    outs = [f(x, index, dim_size=GROUPS, max_num_elements=16) for f in (compiled, m)]
    assert_close(*outs, "compiled", tolerance=1e-12)
    slopes = [torch.autograd.grad(out.square().sum(), x)[0] for out in outs]
    assert_close(*slopes, "slopes", tolerance=1e-11)


@every
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_sums_in_float32(name, half):
    m, (x, index) = module(name, torch.float32).to(half), sets(half)
    assert m.update(m.init(GROUPS), x, index)["slots"].dtype == torch.float32
    out = m(x, index, dim_size=GROUPS)
    wide = m.float()(x.float(), index, dim_size=GROUPS)
    assert out.dtype == half
    assert_close(out.float(), wide, "half precision", tolerance=4e-2 if half == torch.bfloat16 else 5e-3)


def test_under_autocast_nothing_changes():
    m, (x, index) = module("encoder", torch.float32), sets(torch.float32)
    expected = m(x, index, dim_size=GROUPS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(m(x, index, dim_size=GROUPS), expected)


def test_an_encoder_of_torch_lets_the_slots_see_one_another():
    torch.manual_seed(0)
    encoder = torch.nn.TransformerEncoderLayer(HIDDEN, 2, 12, dropout=0.0, batch_first=True)
    m, (x, index) = SlotSetAggregation(F, OUT, slots=SLOTS, hidden=HIDDEN, encoder=encoder).double(), sets()
    state = m.update(m.init(GROUPS), x, index)
    assert_close(m.finalize(state), m(x, index, dim_size=GROUPS), "streamed", tolerance=1e-12)
    with torch.no_grad():  # project the first slot only: without an encoder, no other slot could reach it
        m.project_out.weight[:, HIDDEN:] = 0
    before = m.finalize(state)
    state["slots"][:, 1] += 1.0
    assert float((m.finalize(state) - before).detach().abs().min(1).values.max()) > 1e-6


def test_the_encoder_given_keeps_its_parameters_until_a_reset():
    encoder = SetAttentionBlock(HIDDEN)
    before = encoder.block.query.weight.clone()
    m = SlotSetAggregation(F, OUT, slots=SLOTS, hidden=HIDDEN, encoder=encoder)
    assert torch.equal(m.encoder.block.query.weight, before)
    with torch.no_grad():
        for parameter in m.parameters():
            parameter.fill_(7.0)
    m.reset_parameters()
    assert not any(bool((p == 7.0).any()) for p in m.parameters())
    assert repr(m) == f"SlotSetAggregation({F}, {OUT}, slots={SLOTS}, hidden={HIDDEN})"


@every
def test_the_state_dict_is_the_function(name):
    m, (x, index) = module(name), sets()
    torch.manual_seed(1)
    other = SlotSetAggregation(F, OUT, slots=SLOTS, hidden=HIDDEN, **MODULES[name]()).double()
    assert not torch.equal(other(x, index), m(x, index))
    other.load_state_dict(m.state_dict())
    assert torch.equal(other(x, index), m(x, index))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"slots": 0}, "slots must be"), ({"hidden": 0}, "hidden must be"), ({"heads": 4}, "heads must divide")],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SlotSetAggregation(F, OUT, **{"slots": SLOTS, "hidden": HIDDEN, **settings})


def test_bad_states_rows_and_encoders_are_refused():
    m, (x, index) = module("sum"), sets()
    other = SlotSetAggregation(F, OUT, slots=SLOTS + 1, hidden=HIDDEN).double()
    for call, message in (
        (lambda: m.merge(m.init(2), m.init(3)), "same groups"),
        (lambda: m.finalize(other.init(2)), "made by this module"),
        (lambda: m.update(m.init(GROUPS), x[0], index[:1]), r"\[N, F\]"),
        (lambda: m.update(m.init(GROUPS), x[:, 1:], index), "channels"),
        (lambda: m.update(m.init(3), x, index), "below dim_size = 3"),
        (lambda: m.init(-1), "at least 0"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    m.encoder = torch.nn.Linear(HIDDEN, 2).double()
    with pytest.raises(InputError, match="keep the shape"):
        m(x, index)
