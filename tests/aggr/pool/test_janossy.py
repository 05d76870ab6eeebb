"""Every tuple is taken once, or as many as said, evenly; the result is the mean over them."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from graphinv.aggr.pool import janossy
from graphinv.aggr.pool.janossy import JanossyAggregation
from graphinv.errors import InputError
from graphinv.testing import assert_close, assert_permutation_invariant

F, OUT = 3, 4
INDEX = torch.tensor([3, 0, 2, 3, 0, 4, 3, 3, 0, 3, 4, 3, 3])  # groups of 3, 0, 1, 7, 2 and 0 rows
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
ACT = {"relu": lambda h: h.clamp(min=0), "silu": lambda h: h / (1 + (-h).exp()), "square": lambda h: h * h}
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
every_k = pytest.mark.parametrize("k", [1, 2, 3])


def make(dtype: torch.dtype = torch.float64, **settings: Any) -> JanossyAggregation:
    torch.manual_seed(0)
    return JanossyAggregation(F, OUT, **{"hidden": 5, **settings}).to(dtype)


def rows(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    x = torch.randn(INDEX.numel(), F, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[3] = x[0]  # two equal rows in group 3
    return x.to(dtype)


def f(m: JanossyAggregation, places: list[Tensor]) -> Tensor:
    """f of one tuple; of fewer than k places, the others get zeros and their learned vector."""
    act = ACT[m.activation]
    padded = torch.cat([*places, places[0].new_zeros((m.k - len(places)) * F)])
    absent = m.missing[len(places) - 1 :].sum(0)
    return act(m.second.weight @ act(m.first.weight @ padded + m.first.bias + absent) + m.second.bias)


def expected(m: JanossyAggregation, own: Tensor, tuples: list[tuple[int, ...]] | None = None) -> Tensor:
    """The result of one group, tuple by tuple, in float64."""
    m = copy.deepcopy(m).double()
    every = list(itertools.permutations(range(len(own)), min(m.k, len(own)))) if len(own) else []
    tuples = every if tuples is None else tuples
    total = sum((f(m, [own[i].double() for i in places]) for places in tuples), torch.zeros(m.hidden).double())
    share = len(every) if m.reduce == "sum" else 1
    return m.rho.weight @ (total * share / max(len(tuples), 1)) + m.rho.bias


def taken(n: int, k: int, limit: int) -> list[tuple[int, ...]]:
    """The tuples of a group of n rows that stands between two others."""
    plan = janossy._Plan.of(torch.tensor([0, 2, 2 + n, 5 + n]), n + 5, k, limit)
    parts = [plan.tuples(part) for part in plan.parts(1)]
    mine = [t for t in torch.cat(parts, 1).T.tolist() if 2 <= t[0] < 2 + n]
    return [tuple(i - 2 for i in t if i < n + 5) for t in mine]


@every_dtype
@every_k
@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("activation", ACT)
def test_result_is_the_mean_over_all_permutations(k: int, reduce: str, activation: str, dtype: torch.dtype) -> None:
    m, x = make(dtype, k=k, reduce=reduce, activation=activation), rows(dtype)
    out = m(x, INDEX, dim_size=6)
    loop = torch.stack([expected(m, x[INDEX == group]) for group in range(6)])
    assert out.dtype == dtype
    assert_close(out.double(), loop, "all tuples", tolerance=TOLERANCE[dtype])


def test_pairs_of_squares_hold_the_variance_of_any_set() -> None:
    m = make(k=2, hidden=2, activation="square")
    with torch.no_grad():  # ((d^2 + 1)^2 - (d^2 - 1)^2) / 8 = d^2 / 2, d the difference of the first channels
        m.first.weight.copy_(torch.tensor([[1.0, 0, 0, -1, 0, 0], [0, 0, 0, 0, 0, 0]]))
        m.second.weight.copy_(torch.tensor([[1.0, 0], [1, 0]]))
        m.second.bias.copy_(torch.tensor([1.0, -1]))
        m.rho.weight.copy_(torch.tensor([0.125, -0.125]).expand(OUT, -1))
        m.first.bias.zero_(), m.rho.bias.zero_(), m.missing.zero_()
    x = rows()
    variances = [x[INDEX == group, 0].var() if group != 2 else 0.5 * x[2, 0] ** 2 for group in (0, 2, 3, 4)]
    out = m(x, INDEX, dim_size=5)[[0, 2, 3, 4], 0]
    assert_close(out, torch.stack([torch.as_tensor(v) for v in variances]), "variance", tolerance=1e-12)


@every_k
@pytest.mark.parametrize("limit", [0, 1, 7, 24, 100])
def test_tuples_are_distinct_and_as_many_as_said_and_each_place_sees_each_row_equally_often(k: int, limit: int) -> None:
    m = make(k=k, max_tuples=limit or None)
    for n in range(1, 14):
        tuples = taken(n, k, limit)
        every = set(itertools.permutations(range(n), min(k, n)))
        assert len(set(tuples)) == len(tuples) == int(m.tuple_counts(torch.tensor([n]))[0])
        assert set(tuples) <= every
        if not limit or len(every) <= limit:
            assert set(tuples) == every
        else:
            assert len(tuples) == n * max(1, limit // n)
        for place in range(min(k, n)):
            seen = [t[place] for t in tuples]
            assert {seen.count(row) for row in range(n)} == {len(tuples) // n}


@pytest.mark.parametrize("choices", [1, 2, 5, 17, 40, 99])
def test_chosen_distances_are_even_around_the_circle(choices: int) -> None:
    n = 100
    steps = [j - i for i, j in taken(n, 2, n * choices) if i == 0]
    gaps = [b - a for a, b in itertools.pairwise(sorted(steps))]
    assert len(steps) == choices and max(gaps, default=1) - min(gaps, default=1) <= 1
    assert min(steps) <= n / choices and n - max(steps) <= n / choices + 1
    pairs = [(j, k) for i, j, k in taken(n, 3, n * choices) if i == 0]
    for place in (0, 1):
        # Each arc of the circle holds its share of the places, give or take a few.
        for first in range(1, n, 11):
            share = sum(first <= pair[place] < first + 11 for pair in pairs)
            assert abs(share - choices * 11 / 99) <= 2 + choices * 0.02


@pytest.mark.parametrize("n", [5, 8, 21])
def test_pairs_chosen_of_a_large_group_are_those_of_the_rule(n: int) -> None:
    m = make(k=2, max_tuples=20, reduce="sum")
    x = torch.randn(n, F, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    x[:, 1:] = 0  # the order by content is then that of the first channel
    choices = min(max(20 // n, 1), n - 1)
    steps = [1 + (2 * j + 1) * (n - 1) // (2 * choices) for j in range(choices)]
    ordered = x[x[:, 0].sort().indices]
    loop = expected(m, ordered, [(i, (i + s) % n) for i in range(n) for s in steps])
    assert_close(m(x)[0], loop, "chosen pairs", tolerance=1e-12)


@every_dtype
@every_k
@pytest.mark.parametrize("limit", [None, 10])
def test_permutation_inside_groups_changes_nothing(k: int, limit: int | None, dtype: torch.dtype) -> None:
    m = make(dtype, k=k, max_tuples=limit)
    assert_permutation_invariant(
        lambda x, index: m(x, index, dim_size=6), rows(dtype), INDEX, tolerance=TOLERANCE[dtype]
    )


@every_k
@pytest.mark.parametrize("limit", [None, 10])
def test_a_group_alone_is_the_group_in_its_batch(k: int, limit: int | None) -> None:
    assert make(k=k, max_tuples=limit).batch_consistency_error(rows(), INDEX, dim_size=6) <= 1e-13


@every_k
def test_in_parts_results_and_gradients_are_the_same(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    m, results = make(k=k), []
    for part in (1 << 20, 7 * 5, 1):  # all at once, 7 tuples, one tuple at a time
        monkeypatch.setattr(janossy, "_PART", part)
        x = rows().requires_grad_()
        out = m(x, INDEX, dim_size=6)
        slopes = torch.autograd.grad(out.square().sum(), [x, *m.parameters()], allow_unused=k == 1)
        results.append([out, *(slope for slope in slopes if slope is not None)])
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            assert_close(one, same, "in parts", tolerance=1e-12)


def test_what_is_kept_for_the_gradient_is_a_fraction_of_the_tuples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janossy, "_PART", 500)
    m, kept = make(k=3), {}
    x = torch.randn(24, F, dtype=torch.float64)  # 12,144 tuples of 5 numbers in 2 layers
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.update({t.data_ptr(): t}), t)[1], lambda t: t):
        m(x)
    assert sum(tensor.numel() for tensor in kept.values()) < 12_144 * 5 / 10


@every_k
@pytest.mark.parametrize("parts", [1 << 20, 30])
def test_gradients_are_those_of_the_function(k: int, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janossy, "_PART", parts)
    m = make(k=k, activation="silu", hidden=3)
    x, parameters = rows()[:6].requires_grad_(), [p for p in m.parameters() if p.numel()]

    def function(x: Tensor, *_: Tensor) -> Tensor:
        return m(x, INDEX[:6], dim_size=5)

    assert gradcheck(function, (x, *parameters))
    assert gradgradcheck(function, (x,))


@pytest.mark.parametrize(
    ("k", "limit", "activation"), [(1, None, "relu"), (2, None, "square"), (3, None, "relu"), (3, 30, "silu")]
)
def test_compiles_without_a_graph_break(k: int, limit: int | None, activation: str) -> None:
    torch._dynamo.reset()
    m, x = make(k=k, max_tuples=limit, activation=activation), rows().requires_grad_()
    leaves = [x, *(p for p in m.parameters() if p.numel())]
    compiled = torch.compile(m, fullgraph=True, backend="eager")
    for index in (INDEX, INDEX.clamp(max=2)):  # other sizes of groups, other numbers of tuples
        outs = [compiled(x, index, dim_size=6, max_num_elements=12), m(x, index, dim_size=6)]
        assert_close(*outs, "compiled", tolerance=1e-12)
        slopes = [torch.autograd.grad(out.square().sum(), leaves) for out in outs]
        for one, other in zip(*slopes, strict=True):
            assert_close(one, other, "slope", tolerance=1e-11)


def test_the_operator_of_the_compiler_keeps_its_contract() -> None:
    table, weight, bias = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((8, 2, 3), (3, 3), (3,)))
    arguments = (table, weight, bias, torch.tensor([0, 3, 3, 4, 7]), 2, 0, "silu")
    torch.library.opcheck(janossy._totals_op, arguments)


def test_maps_over_batches_like_plain_calls() -> None:
    m, batch = make(), torch.stack([rows(seed=1), rows(seed=2)])
    mapped = torch.func.vmap(lambda x: m(x, INDEX, dim_size=6))(batch)
    assert_close(mapped, m(batch, INDEX, dim_size=6), "vmap", tolerance=1e-12)


@every_k
def test_empty_groups_give_zeros_before_rho_and_empty_input_can_be_trained_on(k: int) -> None:
    m = make(k=k)
    assert torch.equal(m(rows(), INDEX, dim_size=8)[[1, 5, 6, 7]], m.rho.bias.expand(4, -1))
    for groups in (2, 0):
        x = torch.empty(0, F, dtype=torch.float64, requires_grad=True)
        out = m(x, torch.empty(0, dtype=torch.int64), dim_size=groups)
        out.sum().backward()
        assert out.shape == (groups, OUT) and x.grad is not None


def test_nan_stays_in_its_group() -> None:
    m, x = make(k=2), rows()
    clean = m(x, INDEX, dim_size=6)
    x[INDEX == 3] = math.nan
    out = m(x, INDEX, dim_size=6)
    others = [0, 1, 2, 4, 5]
    assert_close(out[others], clean[others], "other groups", tolerance=1e-12)


def test_half_precision_and_autocast_give_finite_results_in_the_dtype_of_the_rows() -> None:
    m, x = make(torch.float32), rows(torch.float32)
    wide = m(x, INDEX, dim_size=6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(m(x, INDEX, dim_size=6), wide)
    for half in (torch.bfloat16, torch.float16):
        out = m.to(half)(x.to(half), INDEX, dim_size=6)
        assert out.dtype == half
        assert_close(out.float(), wide, "half", tolerance=6e-2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 4}, "k must be 1, 2 or 3"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"max_tuples": 0}, "max_tuples must be at least 1"),
        ({"reduce": "max"}, "reduce is mean or sum"),
        ({"activation": "gelu"}, "got mean, gelu"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**settings)


def test_reset_draws_every_parameter_anew() -> None:
    m = make()
    before = [p.clone() for p in m.parameters()]
    m.reset_parameters()
    assert all(not torch.equal(a, b) for a, b in zip(before, m.parameters(), strict=True))
    assert "JanossyAggregation(3, 4, k=2" in repr(m)
