"""The SDEs against the differential equations that define them, and against each other."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import pytest
import torch

from graphinv import testing
from graphinv.diffusion import VESDE, VPSDE, GeneratorNoise, GraphProcess, PerGraphNoise, SubVPSDE
from graphinv.errors import InputError

SDES = [VPSDE(), VPSDE(0.1, 20.0), VPSDE(1.0, 1.0), SubVPSDE(), SubVPSDE(0.1, 20.0), VESDE(), VESDE(0.01, 50.0)]
DTYPES = (torch.float32, torch.float64)
TIMES = (0.0, 1e-5, 0.03, 0.4, 0.77, 1.0)
each_sde = pytest.mark.parametrize("sde", SDES, ids=str)


def time(value: float, dtype=torch.float64):
    return torch.tensor([value], dtype=dtype)


ONE = torch.ones(1, dtype=torch.float64)


def moments(sde, t: float) -> tuple[float, float]:
    """Return scale and variance of the marginal."""
    mean, std = sde.marginal(ONE, time(t))
    return float(mean), float(std) ** 2


@each_sde
def test_marginals_solve_the_moment_equations_of_drift_and_diffusion(sde):
    def slope(t, state):
        drift, g = sde.coefficients(ONE, time(t))
        a = float(drift)
        return a * state[0], 2 * a * state[1] + float(g) ** 2

    steps, start = 400, 0.0
    scale, variance = moments(sde, start)
    h = 1.0 / steps
    state = (scale, variance)
    for k in range(steps):  # classical Runge-Kutta
        t = start + k * h
        k1 = slope(t, state)
        k2 = slope(t + h / 2, tuple(s + h / 2 * d for s, d in zip(state, k1, strict=True)))
        k3 = slope(t + h / 2, tuple(s + h / 2 * d for s, d in zip(state, k2, strict=True)))
        k4 = slope(t + h, tuple(s + h * d for s, d in zip(state, k3, strict=True)))
        state = tuple(s + h / 6 * (a + 2 * b + 2 * c + d) for s, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True))
    assert state == pytest.approx(moments(sde, 1.0), rel=1e-7)


@each_sde
def test_forward_transitions_compose_with_each_other_and_with_the_marginal(sde):
    for t, s in zip(TIMES[:-1], TIMES[1:], strict=True):
        scale, std = (float(v) for v in sde.transition(ONE, time(t), time(s)))
        begin, end = moments(sde, t), moments(sde, s)
        assert scale * begin[0] == pytest.approx(end[0], rel=1e-12)
        assert scale**2 * begin[1] + std**2 == pytest.approx(end[1], rel=1e-9, abs=1e-14)


@each_sde
def test_half_transitions_backwards_compose_and_undo_the_forward_mean(sde):
    t, middle, s = time(0.8), time(0.7), time(0.6)
    whole, first = sde.transition(ONE, t, s), sde.transition(ONE, t, middle)
    second = sde.transition(first[0], middle, s)
    testing.assert_close(second[0], whole[0], "mean of two halves", tolerance=1e-12)
    testing.assert_close(sde.transition(whole[0], s, t)[0], ONE, "there and back", tolerance=1e-12)
    assert float(first[1]) > 0
    if isinstance(sde, VESDE):
        variance = first[1].square() + second[1].square()
        testing.assert_close(variance, whole[1].square(), "variances of two halves", tolerance=1e-12)


def test_variance_preserving_ends_where_the_paper_leaves_it():
    mean, std = VPSDE(0.1, 1.0).marginal(ONE, ONE)
    assert (float(mean), float(std)) == (pytest.approx(0.760, abs=5e-4), pytest.approx(0.650, abs=5e-4))


@pytest.mark.parametrize("beta", [(0.1, 1.0), (0.1, 20.0)])
def test_sub_variance_preserving_std_is_the_square(beta):
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    x = torch.ones(11, dtype=torch.float64)
    testing.assert_close(SubVPSDE(*beta).marginal(x, t)[1], VPSDE(*beta).marginal(x, t)[1].square(), "subVP std")
    assert torch.equal(SubVPSDE(*beta).marginal(x, t)[0], VPSDE(*beta).marginal(x, t)[0])


@pytest.mark.parametrize("beta", [("0.1", "1"), ("0.1", "20")])
@pytest.mark.parametrize("t", ["1e-6", "1e-5", "1e-3", "0.5", "1"])
def test_variance_preserving_std_keeps_its_digits_in_float32(beta, t):
    getcontext().prec = 40
    low, high, when = Decimal(beta[0]), Decimal(beta[1]), Decimal(t)
    exact = (1 - (-(when * low + when * when * (high - low) / 2)).exp()).sqrt()
    std = VPSDE(float(low), float(high)).marginal(torch.ones(1), torch.tensor([float(t)]))[1]
    assert std.dtype == torch.float32
    assert abs(Decimal(std.item()) / exact - 1) < Decimal("1e-6")


def test_variance_exploding_steps_add_up_to_the_marginal():
    sde, grid = VESDE(0.1, 1.0), torch.linspace(0, 1, 101, dtype=torch.float64)[1:]
    before = torch.cat([grid.new_zeros(1), grid[:-1]])
    steps = sde.discretise(torch.ones(100, dtype=torch.float64), grid, before)[1].square()
    testing.assert_close(steps.cumsum(0), sde.marginal(ONE, grid)[1].square(), "sum of G^2")


@each_sde
def test_discretisation_is_consistent_with_the_equation(sde):
    drift, g = (float(v) for v in sde.coefficients(ONE, time(0.5)))

    def gap(steps: int) -> float:
        h = 1 / steps
        f, scale = (float(v) for v in sde.discretise(ONE, time(0.5), time(0.5 - h)))
        return max(abs(f / h - drift), abs(scale**2 / h - g**2)) + 1e-15

    assert gap(1000) < 0.01 * (1 + g**2)
    assert gap(10_000) < 0.2 * gap(1000) or gap(10_000) < 1e-9


@each_sde
def test_score_of_the_true_noise_is_minus_noise_over_std(sde):
    t = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    z = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    std = sde.marginal(z, t)[1]
    assert std.shape == (3, 1)
    score = sde.score(z, t)
    if isinstance(sde, VESDE):
        assert torch.equal(score, z) and torch.equal(sde.score(z, t / 2), z)
    else:
        testing.assert_close(score * std, -z, "score times std")


@each_sde
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_method_keeps_dtype_and_broadcasts_time_per_graph(sde, dtype):
    x = torch.ones(3, 4, 2, dtype=dtype)
    t, s = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64), torch.tensor([0.8, 0.4, 0.1], dtype=torch.float64)
    for method, args in (
        (sde.coefficients, (t,)), (sde.marginal, (t,)), (sde.transition, (t, s)), (sde.discretise, (t, s)),
    ):  # fmt: skip
        mean, std = method(x, *args)
        assert mean.shape == x.shape and mean.dtype == std.dtype == dtype
        for k in range(3):
            alone = method(x[k : k + 1], *(a[k] for a in args))
            testing.assert_close(alone[0], mean[k : k + 1], "one time for all")
            testing.assert_close(alone[1].expand(1, 4, 2), std.expand(3, 4, 2)[k : k + 1], "one time for all")


@pytest.mark.parametrize("make", [
    lambda: VPSDE(0.0, 1.0), lambda: VPSDE(2.0, 1.0), lambda: VESDE(0.0, 1.0), lambda: VESDE(1.0, 1.0),
    lambda: SubVPSDE(-1.0, 1.0), lambda: VESDE(float("nan"), 1.0),
])  # fmt: skip
def test_impossible_parameters_are_refused(make):
    with pytest.raises(InputError, match="must satisfy"):
        make()


def test_a_process_of_graphs_treats_each_field_by_its_own():
    g = testing.random_dense(3, dtype=torch.float64)
    process, t = GraphProcess(VPSDE(), VESDE(0.2, 1.0)), torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    noise = PerGraphNoise(torch.arange(3))
    z, noisy = process.noise(g, noise), process.corrupt(g, t, noise)
    for field, own in (("x", process.node), ("adj", process.edge)):
        mean, std = own.marginal(getattr(g, field), t)
        testing.assert_close(getattr(noisy, field), mean + std * getattr(z, field), field)


def test_a_process_of_one_field_refuses_graphs_and_one_of_two_refuses_tensors():
    g = testing.random_dense(2)
    with pytest.raises(InputError, match=r"VPSDE noises 1 field.*GraphProcess\(node, edge\)"):
        VPSDE().corrupt(g, torch.ones(2), GeneratorNoise())
    with pytest.raises(InputError, match="2 field"):
        GraphProcess(VPSDE(), VESDE()).map(lambda p, x: (x,), g.x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("source", ["generator", "graph"])
def test_prior_of_graphs_is_mirrored_hollow_and_masked(dtype, source):
    g = testing.random_dense(6, dtype=dtype)
    noise = (
        GeneratorNoise(torch.Generator().manual_seed(0)) if source == "generator" else PerGraphNoise(torch.arange(6))
    )
    prior = GraphProcess(VPSDE(), VESDE()).prior(g, noise)
    assert prior.x.dtype == prior.adj.dtype == dtype
    assert torch.equal(prior.adj, prior.adj.transpose(1, 2))
    assert not prior.adj.diagonal(dim1=1, dim2=2).any()
    assert not prior.adj[~g.pair_mask].any() and not prior.x[~g.mask].any()
    assert bool(prior.x[g.mask].all())


@each_sde
def test_prior_is_standard_normal_whatever_the_end_of_the_process(sde):
    n = 200_000
    draw = sde.prior(torch.zeros(n, dtype=torch.float64), GeneratorNoise(torch.Generator().manual_seed(1)))
    assert abs(float(draw.mean())) * math.sqrt(n) < 5
    assert abs(float(draw.var()) - 1) / math.sqrt(2 / n) < 5
