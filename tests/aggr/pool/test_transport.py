"""The transport plan is one, and the embedding is what the formula says."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from graphinv.aggr.layout import GroupLayout
from graphinv.aggr.pool.transport import OTKernelAggregation
from graphinv.errors import InputError
from graphinv.testing import assert_close, assert_permutation_invariant

F, OUT = 3, 4
COUNTS = [3, 0, 1, 7, 2, 0]
INDEX = torch.tensor([3, 0, 2, 3, 0, 4, 3, 3, 0, 3, 4, 3, 3])
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
every_kernel = pytest.mark.parametrize("kernel", ["linear", "gaussian"])


def make(dtype: torch.dtype = torch.float64, seed: int = 0, **settings: Any) -> OTKernelAggregation:
    torch.manual_seed(seed)
    return OTKernelAggregation(F, OUT, **{"references": 5, "hidden": 6, "iterations": 4, **settings}).to(dtype)


def rows(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    x = torch.randn(INDEX.numel(), F, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[3] = x[0]  # two equal rows in group 3
    return x.to(dtype)


def similarities(m: OTKernelAggregation, x: Tensor) -> Tensor:
    """The assignment problem itself: phi(x) = x, so that K is chosen freely."""
    with torch.no_grad():
        m.features.weight.copy_(torch.eye(3))
        m.features.bias.zero_()
        m.references.copy_(torch.eye(3))
    return m.transport_plan(x, GroupLayout.from_index(torch.zeros(len(x), dtype=torch.int64), 1)).detach()


def expected(m: OTKernelAggregation, own: Tensor) -> Tensor:
    """The result of one group, by Sinkhorn's scaling of exp(K / eps) itself, in float64."""
    m = copy.deepcopy(m).double()
    p, hidden = m.references.shape
    phi = own.double() @ m.features.weight.T + m.features.bias
    if m.kernel == "gaussian":
        phi = (2 / hidden) ** 0.5 * phi.cos()
    n = own.shape[0]
    plan = (phi @ m.references.T / m.eps).exp()
    for _ in range(m.iterations if n else 0):
        plan = plan / plan.sum(1, keepdim=True) / n
        plan = plan / plan.sum(0, keepdim=True) / p
    return ((p**0.5) * plan.T @ phi).flatten() @ m.project.weight.T + m.project.bias


@every_dtype
@every_kernel
def test_result_is_that_of_the_formula(kernel: str, dtype: torch.dtype) -> None:
    m, x = make(dtype, kernel=kernel), rows(dtype)
    out = m(x, INDEX, dim_size=6)
    loop = torch.stack([expected(m, x[INDEX == group]) for group in range(6)])
    assert out.dtype == dtype
    assert_close(out.double(), loop, "formula", tolerance=TOLERANCE[dtype])


@every_kernel
def test_each_reference_receives_its_share_and_with_iterations_each_row_gives_its_own(kernel: str) -> None:
    x, layout = rows(), GroupLayout.from_index(INDEX, 6)
    few, many = (make(kernel=kernel, iterations=i).transport_plan(x, layout) for i in (1, 300))
    for group, count in enumerate(COUNTS):
        for plan in (few, many):
            share = plan[INDEX == group].sum(0)
            assert_close(share, torch.full_like(share, 0.2 if count else 0.0), "references", tolerance=1e-13)
    assert bool((few > 0).all())
    masses = 1 / torch.tensor(COUNTS, dtype=torch.float64)[INDEX]
    assert_close(many.sum(1), masses, "rows", tolerance=1e-8)
    assert bool(((few.sum(1) - masses).abs() > 1e-3).any())  # so the iterations do something


def test_plan_has_the_largest_entropic_objective_among_plans() -> None:
    m, x = make(references=3, hidden=3, iterations=500, eps=0.7), rows()[:4]
    k, plan = x @ torch.eye(3, dtype=x.dtype), similarities(m, x)

    def objective(plan: Tensor) -> float:
        return float((plan * k).sum() - m.eps * (plan * (plan.log() - 1)).sum())

    assert_close(plan.sum(1), torch.full((4,), 0.25, dtype=x.dtype), "rows", tolerance=1e-10)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):  # any way to move mass that keeps the margins
        move = torch.randn(4, 3, generator=generator, dtype=x.dtype)
        move = move - move.mean(0) - move.mean(1, keepdim=True) + move.mean()
        assert objective(plan + 1e-3 * move) < objective(plan)


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 7])  # the best assignment is 18 eps or more ahead of the second
def test_with_little_entropy_the_plan_is_the_best_assignment(seed: int) -> None:
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    m = make(references=3, hidden=3, iterations=1000, eps=0.01)
    best = max(itertools.permutations(range(3)), key=lambda p: sum(float(x[i, j]) for i, j in enumerate(p)))
    assert_close(similarities(m, x), torch.eye(3, dtype=x.dtype)[list(best)] / 3, "assignment", tolerance=1e-3)
    blurred = similarities(make(references=3, hidden=3, eps=10.0), x)
    assert float((blurred - 1 / 9).abs().max()) < 0.05


def test_fourier_features_start_as_those_of_the_gaussian_kernel() -> None:
    hidden = 40_000
    m, x = make(kernel="gaussian", hidden=hidden), rows()[:6]
    phi = m._phi(x)
    gaussian = (-torch.cdist(x, x).square() / 2).exp()
    # Each product is a mean of H numbers of variance below 1: five standard deviations.
    assert float((phi @ phi.T - gaussian).detach().abs().max()) < 5 / math.sqrt(hidden)


@every_dtype
def test_permutation_inside_groups_changes_nothing(dtype: torch.dtype) -> None:
    m = make(dtype)
    assert_permutation_invariant(
        lambda x, index: m(x, index, dim_size=6), rows(dtype), INDEX, tolerance=TOLERANCE[dtype]
    )


def test_a_group_alone_is_the_group_in_its_batch_and_copies_weigh_nothing() -> None:
    m, x = make(iterations=200), rows()
    assert m.batch_consistency_error(x, INDEX, dim_size=6) <= 1e-13
    own = x[INDEX == 3]
    assert_close(m(own.repeat(3, 1)), m(own), "a set three times over", tolerance=1e-9)


def test_empty_groups_give_zeros_before_the_linear_map_and_empty_input_can_be_trained_on() -> None:
    m = make()
    out = m(rows(), INDEX, dim_size=8)
    assert torch.equal(out[[1, 5, 6, 7]], m.project.bias.expand(4, -1))
    for shape, groups in (((0, F), 2), ((0, F), 0)):
        x = torch.empty(shape, dtype=torch.float64, requires_grad=True)
        out = m(x, torch.empty(0, dtype=torch.int64), dim_size=groups)
        out.sum().backward()
        assert out.shape == (groups, OUT) and x.grad is not None
    x = rows().requires_grad_()
    m(x, INDEX, dim_size=8).sum().backward()
    assert bool(x.grad.isfinite().all())


def test_a_set_of_one_row_gives_the_row_to_every_reference() -> None:
    m, x = make(), rows()[:1]
    phi = (x @ m.features.weight.T + m.features.bias).expand(5, -1)
    assert_close(m(x), m.project((5**0.5 * phi / 5).flatten()).unsqueeze(0), "singleton", tolerance=1e-12)


def test_far_rows_neither_overflow_nor_vanish() -> None:
    m, x = make(torch.float32, eps=1e-3), 1e3 * rows(torch.float32)
    x.requires_grad_()
    plan = m.transport_plan(x, GroupLayout.from_index(INDEX, 6))
    m(x, INDEX, dim_size=6).sum().backward()
    assert bool(plan.isfinite().all()) and bool(x.grad.isfinite().all())
    assert_close(plan[INDEX == 3].sum(0), torch.full((5,), 0.2), "references", tolerance=1e-6)


@every_kernel
def test_gradients_are_those_of_the_function(kernel: str) -> None:
    m = make(kernel=kernel, references=2, hidden=3, iterations=3)
    x, parameters = rows()[:7].requires_grad_(), list(m.parameters())

    def function(x: Tensor, *_: Tensor) -> Tensor:
        return m(x, INDEX[:7], dim_size=5)

    assert gradcheck(function, (x, *parameters))
    assert gradgradcheck(function, (x,))


def test_half_precision_and_autocast_give_finite_results_in_the_dtype_of_the_rows() -> None:
    m, x = make(torch.float32), rows(torch.float32)
    wide = m(x, INDEX, dim_size=6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(m(x, INDEX, dim_size=6), wide)
    for half in (torch.bfloat16, torch.float16):
        out = m.to(half)(x.to(half), INDEX, dim_size=6)
        assert out.dtype == half
        assert_close(out.float(), wide, "half", tolerance=6e-2)


def test_compiles_without_a_graph_break_and_maps_over_batches() -> None:
    torch._dynamo.reset()
    m, x = make(kernel="gaussian"), rows().requires_grad_()  # the behaviour matrix has the linear one
    compiled = torch.compile(m, fullgraph=True, backend="eager")
    outs = [compiled(x, INDEX, dim_size=6, max_num_elements=8), m(x, INDEX, dim_size=6)]
    assert_close(*outs, "compiled", tolerance=1e-12)
    assert_close(*(torch.autograd.grad(out.square().sum(), x)[0] for out in outs), "slope", tolerance=1e-11)
    batch = torch.stack([rows(seed=1), rows(seed=2)])
    mapped = torch.func.vmap(lambda x: m(x, INDEX, dim_size=6))(batch)
    assert_close(mapped, m(batch, INDEX, dim_size=6), "vmap", tolerance=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"references": 0}, "references must be at least 1"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"eps": 0.0}, "eps must be positive"),
        ({"eps": math.nan}, "eps must be positive"),
        ({"kernel": "cubic"}, "unknown kernel"),
    ],
)
def test_bad_settings_and_rows_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**settings)
    with pytest.raises(InputError, match="rows of the layout"):
        make().transport_plan(rows()[:4], GroupLayout.from_index(INDEX, 6))


def test_reset_draws_every_parameter_anew() -> None:
    m = make(kernel="gaussian")
    before = [p.clone() for p in m.parameters()]
    m.reset_parameters()
    assert all(not torch.equal(a, b) for a, b in zip(before, m.parameters(), strict=True))
    assert "OTKernelAggregation" in repr(m)
