"""Convergence orders for Gaussian data, whose score is linear, so that moments can be followed without sampling.

A step is affine in the state and in each of its normal draws; its coefficients are read off by putting unit vectors
in, so mean and variance are propagated exactly and compared with the closed-form marginal at the end time.
"""

from __future__ import annotations

import pytest
import torch

from graphinv import testing
from graphinv.diffusion import (
    S4,
    VESDE,
    VPSDE,
    EulerMaruyama,
    Exponential,
    Heun,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    SubVPSDE,
    integrate,
)

SDES = [VPSDE(), VPSDE(0.1, 5.0), VESDE(0.1, 1.0), VESDE(0.2, 1.0), SubVPSDE(0.1, 3.0)]
STOCHASTIC = {
    "euler": EulerMaruyama(),
    "reverse": ReverseDiffusion(),
    "predictor only": PredictorCorrector(EulerMaruyama(), None),
    "corrector off": PredictorCorrector(ReverseDiffusion(), Langevin(snr=0)),
    "s4": S4(Langevin(snr=0)),
    "shared": PredictorCorrector(ReverseDiffusion(), Langevin(snr=0), shared=True),
    "exponential": Exponential(),
}
FLOWS = {
    "euler": EulerMaruyama(True),
    "reverse": ReverseDiffusion(True),
    "exponential": Exponential(stochastic=False),
    "multistep": Exponential(stochastic=False, multistep=True),
    "heun": Heun(),
}
MEAN, VARIANCE, END, STEPS = 0.8, 0.3, 0.1, (100, 200, 400)


class Silence:
    """Noise that is zero."""

    def normal(self, like):
        return torch.zeros_like(like)

    def child(self, number):
        return self


SILENCE = Silence()


def marginal(sde, t) -> tuple[float, float]:
    scale, std = (float(v) for v in sde.marginal(torch.ones((), dtype=torch.float64), t))
    return scale * MEAN, scale**2 * VARIANCE + std**2


def score_for(sde):
    def score(x, t):
        mean, variance = marginal(sde, t)
        return -(x - mean) / variance

    return score


def grid(steps: int):
    return torch.linspace(1, END, steps + 1, dtype=torch.float64)


def final_moments(solver, sde, steps: int, unit_noise) -> tuple[float, float]:
    """Return the mean after a start one unit off the marginal mean, and the variance after the marginal's."""
    times, score = grid(steps), score_for(sde)
    mean, variance = marginal(sde, times[0])
    mean += 1
    for t, s in zip(times[:-1], times[1:], strict=True):
        probe = torch.zeros(6, dtype=torch.float64)
        probe[1] = 1
        out = solver.step(sde, score, probe, t, s, solver.init(sde, probe), unit_noise())[0]
        offset, slope, noise = out[0], out[1] - out[0], out[2:] - out[0]
        mean = float(slope * mean + offset)
        variance = float(slope**2 * variance + noise.square().sum())
    return mean, variance


def exact_moments(sde) -> tuple[float, float]:
    """Return E[x(END) | x(1) = E x(1) + 1] of the joint Gaussian, and the marginal variance at END."""
    start, end = grid(1)
    one = torch.ones((), dtype=torch.float64)
    shrink = float(sde.marginal(one, start)[0] / sde.marginal(one, end)[0])
    (_, spread), (mean, variance) = marginal(sde, start), marginal(sde, end)
    return mean + shrink * variance / spread, variance


@pytest.mark.parametrize("sde", SDES, ids=str)
@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_solvers_reach_the_reverse_process_at_their_declared_order(name, sde, unit_noise):
    solver, exact = STOCHASTIC[name], exact_moments(sde)
    reached = {steps: final_moments(solver, sde, steps, unit_noise) for steps in STEPS}
    for moment, what in enumerate(("conditional mean", "variance")):
        errors = {steps: abs(reached[steps][moment] - exact[moment]) for steps in STEPS}
        if max(errors.values()) < 1e-12:  # reverse diffusion follows the conditional mean of a VE exactly
            continue
        order = testing.fitted_order(errors.__getitem__, STEPS)
        assert order == pytest.approx(solver.order, abs=0.15), f"{what}: errors {errors}"
        assert errors[STEPS[-1]] < 0.02, what


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_s4_follows_the_marginal_mean_exactly(sde):
    start, end = grid(1)
    times, score = grid(5), score_for(sde)
    x = torch.tensor([marginal(sde, start)[0]], dtype=torch.float64)
    for t, s in zip(times[:-1], times[1:], strict=True):
        x, _, _ = STOCHASTIC["s4"].step(sde, score, x, t, s, (), SILENCE)
    assert float(x) == pytest.approx(marginal(sde, end)[0], rel=1e-12)


@pytest.mark.parametrize("sde", SDES, ids=str)
@pytest.mark.parametrize("name", FLOWS)
def test_probability_flow_follows_the_exact_map_at_its_declared_order(name, sde, unit_noise):
    solver, score = FLOWS[name], score_for(sde)

    def error(steps: int) -> float:
        times = grid(steps)
        (begin, spread), (end, rest) = marginal(sde, times[0]), marginal(sde, times[-1])
        x = torch.tensor([begin + 1.0, begin - 0.3], dtype=torch.float64)
        exact = end + (rest / spread) ** 0.5 * (x - begin)
        x = integrate(solver, sde, score, x, times, SILENCE)
        return float((x - exact).abs().max())

    assert testing.fitted_order(error, STEPS) == pytest.approx(solver.order, abs=0.15)
    assert error(STEPS[-1]) < 0.02


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_one_exponential_step_is_exact_for_data_that_are_a_point(sde):
    point, (start, end) = 0.8, grid(1)
    one = torch.ones(1, dtype=torch.float64)

    def score(x, t):
        scale, std = sde.marginal(torch.ones_like(x), t)
        return -(x - scale * point) / std.square()

    (a, u), (b, v) = sde.marginal(one, start), sde.marginal(one, end)
    x = a * point + u * 1.7
    flow = Exponential(stochastic=False).step(sde, score, x, start, end, (), SILENCE)[0]
    testing.assert_close(flow, b * point + v * 1.7, "flow")
    mean = Exponential().step(sde, score, x, start, end, (), SILENCE)[1]
    shrink = v * a / (u * b)
    testing.assert_close(mean, b * point + shrink * v * 1.7, "posterior mean given the data")
