"""The monoids are what they say, in one pass, in parts, compiled, and next to any other group."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from graphinv.aggr._flow import CouplingFlow
from graphinv.aggr._group_folds import complex_product, group_fold, truncated_product
from graphinv.aggr.layout import GroupLayout
from graphinv.aggr.monoid import (
    ComplexProductMonoid,
    ElementarySymmetricMonoid,
    LogSumExpMonoid,
    MaxMonoid,
    MeanMonoid,
    MinMonoid,
    Monoid,
    MonoidBankAggregation,
    SumMonoid,
    TopKMonoid,
)
from graphinv.errors import InputError
from graphinv.ops import segment_fold
from graphinv.testing import assert_close, assert_permutation_invariant

CHANNELS = 4
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
HEADS: dict[str, Callable[[], Monoid]] = {
    "sum": lambda: SumMonoid(CHANNELS),
    "mean": lambda: MeanMonoid(CHANNELS),
    "max": lambda: MaxMonoid(CHANNELS),
    "min": lambda: MinMonoid(CHANNELS),
    "logsumexp": lambda: LogSumExpMonoid(CHANNELS, temperature=0.5),
    "product": lambda: ComplexProductMonoid(CHANNELS),
    "geometric": lambda: ComplexProductMonoid(CHANNELS, normalize=True, floor=0.1),
    "topk": lambda: TopKMonoid(CHANNELS, k=3),
    "symmetric": lambda: ElementarySymmetricMonoid(CHANNELS, degree=3),
    "symmetric mean": lambda: ElementarySymmetricMonoid(CHANNELS, degree=3, normalize=True),
}
every_head = pytest.mark.parametrize("name", HEADS)
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def bank_of(name: str, flow: bool = False, seed: int = 0) -> MonoidBankAggregation:
    bank = MonoidBankAggregation(CHANNELS, heads=[HEADS[name]()], project=False, flow=flow)
    return disturbed(bank, seed)


def full_bank(dtype: torch.dtype = torch.float64) -> MonoidBankAggregation:
    bank = MonoidBankAggregation(3, 5, heads=[make() for make in HEADS.values()], flow=True)
    return disturbed(bank).to(dtype)


def disturbed(bank: MonoidBankAggregation, seed: int = 0) -> MonoidBankAggregation:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in bank.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return bank


def rows_of(
    counts: list[int], channels: int = CHANNELS, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    index = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
    index = index[torch.randperm(index.numel(), generator=generator)]
    x = torch.randn(index.numel(), channels, generator=generator, dtype=torch.float64)
    return x.to(dtype), index


def expected(name: str, rows: Tensor) -> Tensor:
    """The result of one group by its definition, in float64."""
    n = rows.shape[0]
    if n == 0:
        one = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
        return one if name in ("product", "geometric") else torch.zeros(HEADS[name]().out_channels).double()
    if name in ("sum", "mean"):
        return getattr(rows, name)(0)
    if name in ("max", "min"):
        return getattr(rows, f"a{name}")(0)
    if name == "logsumexp":
        return 0.5 * (rows / 0.5).logsumexp(0)
    if name == "topk":
        best = rows.sort(0, descending=True).values[:3]
        return torch.cat([best, best.new_zeros(3 - best.shape[0], CHANNELS)]).flatten()
    if name.startswith("symmetric"):
        sets = [torch.combinations(torch.arange(n), j) for j in (1, 2, 3)]
        sums = [rows[places].prod(1).sum(0) for places in sets]
        sizes = [max(len(places), 1) if name == "symmetric mean" else 1 for places in sets]
        return torch.cat([total / size for total, size in zip(sums, sizes, strict=True)])
    z = torch.complex(*rows.chunk(2, 1))
    if name == "geometric":
        modulus = z.abs().clamp(min=0.1)
        z = z / modulus * modulus.log().mean(0).exp() ** (1 / n)
    product = z.prod(0)
    return torch.cat([product.real, product.imag])


@every_head
@every_dtype
def test_result_is_that_of_the_definition(name: str, dtype: torch.dtype) -> None:
    x, index = rows_of([3, 0, 1, 7, 2, 0], dtype=dtype)
    head = HEADS[name]()
    bank = MonoidBankAggregation(CHANNELS, heads=[head], project=False).to(dtype)
    out = bank(x, index, dim_size=6)
    loop = torch.stack([expected(name, x[index == group].double()) for group in range(6)])
    assert out.dtype == dtype
    assert out.shape == (6, bank.out_channels)
    assert_close(out.double(), loop, name, tolerance=1e-6 if name == "logsumexp" else TOLERANCE[dtype])


@every_head
@every_dtype
@pytest.mark.parametrize("flow", [False, True])
def test_result_does_not_depend_on_the_order_of_rows(name: str, dtype: torch.dtype, flow: bool) -> None:
    x, index = rows_of([5, 0, 1, 40], dtype=dtype)
    bank = bank_of(name, flow).to(dtype)
    x = x.tanh()  # the product of 40 numbers stays in the range of the flow
    assert_permutation_invariant(lambda x, index: bank(x, index, dim_size=4), x, index, tolerance=TOLERANCE[dtype])


@every_head
@pytest.mark.parametrize("flow", [False, True])
def test_group_alone_has_the_result_it_has_in_the_batch(name: str, flow: bool) -> None:
    x, index = rows_of([3, 17, 1, 0, 4])
    assert bank_of(name, flow).double().batch_consistency_error(x, index, dim_size=5) <= 1e-13


@every_head
def test_nan_and_infinity_stay_in_their_group(name: str) -> None:
    x, index = rows_of([3, 4, 2, 5])
    bank = bank_of(name, flow=True).double()
    clean = bank(x, index, dim_size=4)
    place = (index == 1).nonzero().flatten()
    x[place[0]], x[place[1], 0], x[place[2], 1] = math.nan, math.inf, -math.inf
    x.requires_grad_()
    out = bank(x, index, dim_size=4)
    others = torch.tensor([0, 2, 3])
    assert torch.equal(out[others], clean[others])
    assert out[1].isnan().any()
    (slope,) = torch.autograd.grad(out[others].sum(), x)
    assert slope[index != 1].isfinite().all()
    state = bank.finalize(bank.merge(bank.update(bank.init(4), x, index), bank.update(bank.init(4), x, index)))
    assert state[others].isfinite().all()


@every_head
@every_dtype
def test_no_rows_and_no_groups_work(name: str, dtype: torch.dtype) -> None:
    bank = bank_of(name).to(dtype)
    x, index = rows_of([], dtype=dtype)
    x = x.requires_grad_()
    assert bank(x, index, dim_size=0).shape == (0, bank.out_channels)
    out = bank(x, index, dim_size=2)
    assert_close(out.detach().double(), expected(name, x.detach().double()).repeat(2, 1), "empty", tolerance=0)
    out.sum().backward()
    assert x.grad is not None and x.grad.shape == (0, CHANNELS)


@every_head
@settings(deadline=None, database=None, derandomize=True, max_examples=12)
@given(sizes=st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=5), seed=st.integers(0, 999))
def test_merge_is_associative_commutative_and_has_an_identity(
    name: str, sizes: list[tuple[int, int, int]], seed: int
) -> None:
    bank = bank_of(name, seed=seed).double()
    a, b, c = (
        bank.update(bank.init(len(sizes)), *rows_of([size[part] for size in sizes], seed=seed + part))
        for part in range(3)
    )
    empty = bank.init(len(sizes))
    for one, other in [
        (bank.merge(bank.merge(a, b), c), bank.merge(a, bank.merge(b, c))),
        (bank.merge(a, b), bank.merge(b, a)),
        (bank.merge(a, empty), a),
        (bank.merge(empty, a), a),
    ]:
        assert one.keys() == other.keys()
        assert_close(bank.finalize(one), bank.finalize(other), name, seed, tolerance=1e-12)


@settings(deadline=None, database=None, derandomize=True, max_examples=20)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    seed=st.integers(0, 999),
)
def test_rows_in_parts_give_the_result_of_all_rows_at_once(sizes: list[int], cuts: list[int], seed: int) -> None:
    bank = full_bank()
    x, index = rows_of(sizes, channels=3, seed=seed)
    state = bank.init(len(sizes))
    for part, places in zip(x.tensor_split(sorted(cuts)), index.tensor_split(sorted(cuts)), strict=True):
        state = bank.update(state, part, places)
    assert_close(bank.finalize(state), bank(x, index, dim_size=len(sizes)), "parts", seed, tolerance=1e-12)
    assert torch.equal(state["count"], torch.bincount(index, minlength=len(sizes)))


@every_head
def test_state_is_plain_tensors_and_passes_gradients_on(name: str) -> None:
    bank = bank_of(name, flow=True).double()
    x, index = rows_of([3, 0, 5])
    x.requires_grad_()
    state = bank.update(bank.update(bank.init(3), x[:4], index[:4]), x[4:], index[4:])
    assert all(tensor.shape[0] == 3 for tensor in state.values())
    (in_parts,) = torch.autograd.grad(bank.finalize(state).square().sum(), x)
    (at_once,) = torch.autograd.grad(bank(x, index, dim_size=3).square().sum(), x)
    assert_close(in_parts, at_once, name, tolerance=1e-10)
    sent = {key: tensor.detach().clone() for key, tensor in state.items()}
    assert torch.equal(bank.finalize(bank.merge(bank.init(3), sent)), bank.finalize(state))


@pytest.mark.parametrize(("name", "flow"), [*((name, False) for name in HEADS), ("mean", True), ("topk", True)])
def test_first_and_second_gradients_are_those_of_differences(name: str, flow: bool) -> None:
    bank = bank_of(name, flow).double()
    x, index = rows_of([3, 0, 1])
    x.requires_grad_()

    def result(x: Tensor, *_: Tensor) -> Tensor:
        return bank(x, index, dim_size=3)

    assert gradcheck(result, (x, *bank.parameters()))
    assert gradgradcheck(result, (x,), fast_mode=True)


def test_slope_of_a_product_at_zero_is_the_product_of_the_others() -> None:
    head = ComplexProductMonoid(2).double()
    layout = GroupLayout.from_index(torch.zeros(3, dtype=torch.int64))
    x = torch.tensor([[0.0, 0.0], [2.0, 1.0], [0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: head(x, layout), (x,), eps=1e-7)
    (slope,) = torch.autograd.grad(head(x, layout)[0, 0], x)
    others = complex(2, 1) * 3j
    assert_close(slope[0], torch.tensor([others.real, -others.imag]).double(), "slope", tolerance=1e-12)


def test_geometric_mean_of_a_huge_group_keeps_the_scale_where_the_product_overflows() -> None:
    x = torch.full((30_000, 2), 3.0, dtype=torch.float64)
    index = torch.zeros(30_000, dtype=torch.int64)
    mean = MonoidBankAggregation(2, heads=[ComplexProductMonoid(2, normalize=True)], project=False)(x, index)
    assert_close(mean.norm(), torch.tensor(3 * 2**0.5).double(), "modulus", tolerance=1e-7)
    assert not MonoidBankAggregation(2, heads=["complex_product"], project=False)(x, index).isfinite().all()


def test_log_sum_exp_of_huge_and_of_infinite_rows() -> None:
    bank = MonoidBankAggregation(1, heads=["logsumexp"], project=False)
    x = torch.tensor([[1e30], [1e30], [-math.inf], [-1e30], [-1e30]], requires_grad=True)
    out = bank(x, torch.tensor([0, 0, 1, 2, 2]), dim_size=4)
    assert out.flatten().tolist() == [pytest.approx(1e30), -math.inf, pytest.approx(-1e30), 0.0]
    (slope,) = torch.autograd.grad(out[[0, 2]].sum(), x)
    assert slope.flatten().tolist() == [0.5, 0.5, 0, 0.5, 0.5]


def test_top_k_holds_infinite_rows_and_sends_the_gradient_to_the_first_of_equal_ones() -> None:
    head = TopKMonoid(1, k=2)
    x = torch.tensor([[-math.inf], [1.0], [1.0], [1.0], [-math.inf], [-math.inf]], requires_grad=True)
    out = head(x, GroupLayout.from_index(torch.tensor([0, 1, 1, 1, 2, 2])))
    assert out.tolist() == [[-math.inf, 0], [1, 1], [-math.inf, -math.inf]]
    (slope,) = torch.autograd.grad(out.masked_fill(out.isinf(), 0).sum(), x)
    assert slope.flatten().tolist() == [0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("channels", [2, 3, 8])
@every_dtype
def test_flow_is_invertible_to_the_precision_of_its_dtype(channels: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    flow = CouplingFlow(channels)
    x = torch.randn(50, channels, dtype=dtype)
    assert torch.equal(flow(x), x)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.normal_(std=0.5)
    assert not torch.allclose(flow(x), x)
    with torch.no_grad():
        back, forth = flow.inverse(flow(x)), flow(flow.inverse(1e3 * x)) / 1e3
    assert_close(back, x, "back", tolerance=40 * torch.finfo(dtype).eps)
    assert_close(forth, x, "forth", tolerance=40 * torch.finfo(dtype).eps)


def test_flow_makes_another_operation_of_a_sum_with_the_same_result_for_one_row() -> None:
    bank = bank_of("sum", flow=True).double()
    x, index = rows_of([1, 2])
    out = bank(x, index)
    assert_close(out[0], x[index == 0][0], "one row", tolerance=1e-13)
    assert not torch.allclose(out[1], x[index == 1].sum(0))


def test_compiles_without_a_graph_break_and_gives_the_same() -> None:
    torch._dynamo.reset()
    heads = [HEADS[name]() for name in ("mean", "min", "logsumexp", "geometric", "topk")]
    bank = MonoidBankAggregation(3, 2, heads=[*heads, ElementarySymmetricMonoid(2)]).double()
    compiled = torch.compile(bank, fullgraph=True, backend="aot_eager")
    x, index = rows_of([3, 0, 1], channels=3)
    x.requires_grad_()
    out = compiled(x, index, dim_size=5, max_num_elements=4)
    plain = bank(x, index, dim_size=5)
    assert_close(out, plain, "compiled", tolerance=1e-13)
    slopes = [torch.autograd.grad(result.square().sum(), x)[0] for result in (out, plain)]
    assert_close(*slopes, "slope", tolerance=1e-12)


@pytest.mark.parametrize("sizes", [[], [0, 0], [1], [1, 0, 1], [2, 3, 0, 8, 1], [33], [0, 17, 16, 0]])
@pytest.mark.parametrize("spare", [0, 5])
def test_tree_of_bounded_levels_is_the_tree_of_exact_levels(sizes: list[int], spare: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(sizes), 3, 2, generator=generator, dtype=torch.float64)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    layout = GroupLayout.from_ptr(ptr, sum(sizes), max_num_elements=max(sizes, default=0) + spare)
    one, zero = torch.eye(3, 1).double().expand(3, 2), torch.zeros(3, 2).double()
    for combine, identity in ((complex_product, one), (truncated_product, zero)):
        exact = group_fold(x, layout, combine, identity)
        assert_close(exact, segment_fold(x, ptr, combine, identity), "another tree", tolerance=1e-12)
        if sum(sizes):
            plan = layout.static_packed()
            results = plan.fold(x.index_select(0, plan.perm), combine)
            assert torch.equal(plan.spread(results, layout.num_groups, identity), exact)


def test_vmap_and_functional_call_agree_with_plain_calls() -> None:
    bank = full_bank()
    x, index = rows_of([2, 0, 3], channels=3)
    stack = torch.stack([x, 2 * x])
    mapped = torch.func.vmap(lambda x: bank(x, index, dim_size=3))(stack)
    assert_close(mapped, torch.stack([bank(part, index, dim_size=3) for part in stack]), "vmap", tolerance=1e-12)
    assert_close(bank(stack, index, dim_size=3), mapped, "batch dimension", tolerance=1e-12)
    parameters = {name: parameter.detach() + 0.1 for name, parameter in bank.named_parameters()}
    called = torch.func.functional_call(bank, parameters, (x, index), {"dim_size": 3})
    assert not torch.allclose(called, bank(x, index, dim_size=3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_rows_are_folded_in_single_precision(dtype: torch.dtype) -> None:
    bank = MonoidBankAggregation(1, heads=["sum", "mean", "logsumexp"], project=False)
    x = torch.full((3000, 1), 0.01, dtype=dtype)
    out = bank(x, torch.zeros(3000, dtype=torch.int64))
    assert out.dtype == dtype
    assert torch.equal(out, bank(x.float(), torch.zeros(3000, dtype=torch.int64)).to(dtype))
    narrow = full_bank(dtype)
    rows, index = rows_of([3, 5], channels=3, dtype=dtype)
    assert narrow(rows, index).dtype == dtype
    assert narrow.init(1)["0.SumMonoid.total"].dtype == torch.float32


def test_autocast_changes_nothing() -> None:
    bank = full_bank(torch.float32)
    x, index = rows_of([3, 5], channels=3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = bank(x, index)
    assert torch.equal(out, bank(x, index))


def test_state_dict_comes_back_into_a_bank_that_waits_for_its_channels() -> None:
    x, index = rows_of([3, 5], channels=7, dtype=torch.float32)
    bank = MonoidBankAggregation(-1, 6)
    assert bank.init(2)["count"].tolist() == [0, 0]
    out = bank(x, index)
    assert bank.reset_parameters() is None and not torch.equal(bank(x, index), out)
    waiting = MonoidBankAggregation(-1, 6)
    waiting.load_state_dict(bank.state_dict())
    assert torch.equal(waiting(x, index), bank(x, index))
    assert torch.equal(copy.deepcopy(bank)(x, index), bank(x, index))
    with pytest.raises(InputError, match="made for 7 channels"):
        bank(x[:, :3], index)


def test_names_and_objects_make_the_same_heads() -> None:
    named = MonoidBankAggregation(2, heads=["sum", "topk"], project=False)
    made = MonoidBankAggregation(2, heads=[SumMonoid(2), TopKMonoid(2)], project=False)
    x, index = rows_of([3, 5], channels=2)
    assert torch.equal(named(x, index), made(x, index))
    assert named.out_channels == 6 and repr(named) == repr(made)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MonoidBankAggregation(2, 4, heads=["sums"]), "unknown head 'sums'; available: sum, mean"),
        (lambda: MonoidBankAggregation(2, 4, heads=[]), "at least one head"),
        (lambda: MonoidBankAggregation(2, 4, heads="sum"), "sequence"),
        (lambda: MonoidBankAggregation(2), "out_channels must be at least 1"),
        (lambda: MonoidBankAggregation(0, 4), "in_channels must be"),
        (lambda: MonoidBankAggregation(-1, project=False), "in_channels must be"),
        (lambda: MonoidBankAggregation(2, 4, project=False), "leave out_channels"),
        (lambda: MonoidBankAggregation(2, heads=[SumMonoid(3)], project=False), "takes the 2 channels"),
        (lambda: MonoidBankAggregation(1, heads=["sum"], project=False, flow=True), "at least 2"),
        (lambda: MonoidBankAggregation(3, heads=["complex_product"], project=False), "even number"),
        (lambda: ComplexProductMonoid(2, floor=0.0), "floor > 0"),
        (lambda: LogSumExpMonoid(2, temperature=0.0), "positive"),
        (lambda: TopKMonoid(2, k=0), "k must"),
        (lambda: ElementarySymmetricMonoid(2, degree=0), "degree must"),
        (lambda: SumMonoid(0), "channels must"),
        (lambda: bank_of("sum").init(-1), "num_groups must"),
        (lambda: bank_of("sum").merge(bank_of("sum").init(1), bank_of("sum").init(2)), "same groups"),
        (lambda: bank_of("sum").finalize({"count": torch.zeros(1)}), "made by this module"),
        (lambda: bank_of("sum").update(bank_of("sum").init(1), torch.zeros(2), torch.zeros(2).long()), "rows of"),
        (lambda: bank_of("sum").update(bank_of("sum").init(1), torch.zeros(1, 4), torch.tensor([3])), "below dim_size"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_states_of_other_banks_are_refused() -> None:
    def bank(*heads: Any) -> MonoidBankAggregation:
        return MonoidBankAggregation(2, heads=heads, project=False)

    ours = bank("sum")
    for other in (
        bank("max"),
        bank("mean"),
        bank("sum", "sum"),
        MonoidBankAggregation(1, heads=["sum"], project=False),
    ):
        for call in (lambda s: ours.merge(ours.init(3), s), ours.finalize):
            with pytest.raises(InputError, match="made by this module"):
                call(other.init(3))
    with pytest.raises(InputError, match="made by this module"):
        bank(TopKMonoid(2, k=2)).finalize(bank(TopKMonoid(2, k=3)).init(3))


def test_complex_products_keep_in_range() -> None:
    layout = GroupLayout.from_index(torch.tensor([0, 1]))
    for floor, row in ((1e-3, [1e25, 1e25]), (1e-30, [0.0, 0.0]), (1e-30, [1e-25, 0.0])):
        x = torch.tensor([row, [3.0, 4.0]], requires_grad=True)
        out = ComplexProductMonoid(2, floor=floor)(x, layout)
        assert_close(out.detach() / max(1.0, row[0]), x.detach() / max(1.0, row[0]), "one factor", tolerance=1e-5)
        assert bool(torch.autograd.grad(out.sum(), x)[0].isfinite().all())
