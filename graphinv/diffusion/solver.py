"""How noise becomes data: step rules for reverse SDEs, and the one loop that applies them.

A rule advances one interval from t down to s and is written once, for tensors and for graphs. ``PredictorCorrector``
is arXiv:2011.13456, algorithm 1; ``S4`` is arXiv:2202.02514, algorithm 1. Time is in [0, 1], 0 = data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from graphinv.diffusion._steps import Steps
from graphinv.diffusion.sde import SDE
from graphinv.errors import InputError
from graphinv.noise import Noise

__all__ = [
    "S4",
    "EulerMaruyama",
    "Langevin",
    "PredictorCorrector",
    "ReverseDiffusion",
    "Solver",
    "integrate",
    "time_grid",
]

# A state is a Tensor [B, *] (under an SDE) or DenseGraphs (under a GraphSDE); only ``apply`` looks inside.
State = Any
Score = Callable[[Any, Tensor], Any]
Callback = Callable[[int, int, Any], None]


class System(Protocol):
    """What a solver asks of an SDE or a GraphSDE."""

    def apply(self, update: Callable[..., tuple[Tensor, ...]], *states: Any) -> tuple[Any, ...]:
        """Apply ``update(sde, *fields)`` to every field."""
        ...

    def noise(self, like: Any, source: Noise) -> Any:
        """Return noise shaped like a state."""
        ...


class Solver(Protocol):
    """A rule for one interval of the reverse process."""

    @property
    def order(self) -> int:
        """Order of the error in distribution in the step size."""
        ...

    def step(self, g: State, t: Tensor, s: Tensor, system: Any, score: Score, noise: Noise) -> tuple[State, State]:
        """Return the state at s < t and its mean (the state before the last noise)."""
        ...


def time_grid(steps: int, eps: float = 1e-4, early: float = 1.0) -> Tensor:
    """Return ``[steps + 1]`` float64 times: ``steps`` from 1 to ``eps``, then 0.

    The k-th lies (k / (steps - 1))^early of the way: evenly spaced at 1, shorter steps near noise above, near data
    below.

    Example:
        >>> time_grid(3, eps=0.5).tolist(), time_grid(3, eps=0.5, early=2.0).tolist()
        ([1.0, 0.75, 0.5, 0.0], [1.0, 0.875, 0.5, 0.0])
    """
    if steps < 1 or not 0 < eps < 1 or not 0 < early < math.inf:
        raise InputError(f"expected steps >= 1, 0 < eps < 1 and early > 0, got {steps}, {eps} and {early}")
    times = 1 - torch.linspace(0, 1, steps, dtype=torch.float64) ** early * (1 - eps)
    return torch.cat([times, times.new_zeros(1)])


@torch.no_grad()
def integrate(
    solver: Solver,
    system: Any,
    score: Score,
    g: State,
    times: Tensor,
    noise: Noise,
    *,
    denoise: bool = True,
    callback: Callback | None = None,
    replay: bool = False,
) -> State:
    """Run ``solver`` from ``times[0]`` down to ``times[-1]`` and return the noise-free mean of the last step.

    Args:
        solver: the step rule.
        system: an SDE (g is a tensor) or a GraphSDE (g is DenseGraphs).
        score: ``score(g, t) -> state``, the gradient of log density at t.
        g: the state at ``times[0]``.
        times: ``[K+1]``, decreasing.
        noise: source of randomness.
        denoise: take a last interval that ends in 0 as one step onto the posterior mean of the data
            (x + std^2 score) / scale, instead of one more step of the solver.
        callback: called as ``callback(k, K, state)`` after step k of K.
        replay: on a GPU, with noise per graph, record a step as a CUDA graph and replay it (``graphinv.ops.replay``).
            Solver and score must then do the same at every step, but for what they are given.
    """
    total = times.numel() - 1
    advance = Steps(solver, system, score, noise, total if replay else 0)
    mean = g
    for k in range(total):
        t, s = times[k], times[k + 1]
        if denoise and k == total - 1 and float(s) == 0:
            g = mean = posterior_mean(g, score(g, t), t, system)
        else:
            g, mean = advance(g, t, s)
        if callback is not None:
            callback(k + 1, total, g)
    return mean


def posterior_mean(g: State, grad: State, t: Tensor, system: Any) -> State:
    """Return the mean of the data given the state at t, (x + std^2 score) / scale, of the score ``grad`` there."""

    def update(sde: SDE, x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        scale, std = sde.marginal(torch.ones_like(x), t)
        return ((x + std.square() * grad) / scale,)

    return system.apply(update, g, grad)[0]


@dataclass(frozen=True)
class ReverseDiffusion:
    """Predictor that reverses the forward discretisation: x - f + G^2 score + G z.

    Args:
        probability_flow: follow the ODE of the same marginals: half the score, no noise.
    """

    probability_flow: bool = False
    order: int = field(default=1, init=False)

    def step(self, g: State, t: Tensor, s: Tensor, system: Any, score: Score, noise: Noise) -> tuple[State, State]:
        """Return the state at s and its mean."""

        def update(sde: SDE, x: Tensor, grad: Tensor, z: Tensor) -> tuple[Tensor, ...]:
            f, scale = sde.discretise(x, t, s)
            return _reverse(x, f, scale.square(), scale, grad, z, self.probability_flow)

        return _pair(system.apply(update, g, score(g, t), system.noise(g, noise)))


@dataclass(frozen=True)
class EulerMaruyama:
    """Predictor x - (drift - g^2 score) h + g sqrt(h) z with h = t - s.

    Args:
        probability_flow: follow the ODE of the same marginals: half the score, no noise.
    """

    probability_flow: bool = False
    order: int = field(default=1, init=False)

    def step(self, g: State, t: Tensor, s: Tensor, system: Any, score: Score, noise: Noise) -> tuple[State, State]:
        """Return the state at s and its mean."""
        h = t - s

        def update(sde: SDE, x: Tensor, grad: Tensor, z: Tensor) -> tuple[Tensor, ...]:
            drift, rate = sde.coefficients(x, t)
            weight = rate.square() * h.to(x.dtype)
            return _reverse(x, drift * h.to(x.dtype), weight, weight.sqrt(), grad, z, self.probability_flow)

        return _pair(system.apply(update, g, score(g, t), system.noise(g, noise)))


@dataclass(frozen=True)
class Langevin:
    """Corrector: ``steps`` Langevin moves at fixed time, their size set by a signal-to-noise ratio.

    Args:
        snr: r in the step size 2 alpha (r |z| / |score|)^2; 0 switches the corrector off.
        scale_eps: factor on the noise.
        steps: moves per call.
        norm: "graph" takes both norms per graph, so that a graph never depends on its batch, and caps |z| / |score|
            at twice the standard deviation of the noise (its expectation is once), as a small graph's score can
            vanish; "batch" takes the batch means of both (the papers' code).
    """

    snr: float = 0.2
    scale_eps: float = 0.7
    steps: int = 1
    norm: Literal["graph", "batch"] = "graph"

    def correct(self, g: State, t: Tensor, s: Tensor, system: Any, score: Score, noise: Noise) -> State:
        """Return g after ``steps`` moves, each with a fresh score."""
        for _ in range(self.steps if self.snr > 0 else 0):
            g = self.move(g, score(g, t), t, s, system, noise)
        return g

    def move(self, g: State, grad: State, t: Tensor, s: Tensor, system: Any, noise: Noise) -> State:
        """Return g after one move along a given score."""

        def update(sde: SDE, x: Tensor, grad: Tensor, z: Tensor) -> tuple[Tensor, ...]:
            step = 2 * sde.langevin_scale(t, s).to(x.dtype) * (self.snr * self._ratio(sde, x, grad, z, t)).square()
            return (x + step * grad + (2 * step).sqrt() * self.scale_eps * z,)

        return system.apply(update, g, grad, system.noise(g, noise))[0]

    def _ratio(self, sde: SDE, x: Tensor, grad: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return |z| / |score|, ``[B, 1..]`` or ``[]``."""
        tiny = torch.finfo(x.dtype).tiny
        top, bottom = z.flatten(1).norm(dim=1), grad.flatten(1).norm(dim=1)
        if self.norm == "batch":
            mean: Tensor = top.mean() / bottom.mean().clamp(min=tiny)
            return mean
        ratio = (top / bottom.clamp(min=tiny)).reshape(-1, *(1,) * (x.dim() - 1))
        bound: Tensor = 2 * sde.marginal(x, t)[1]
        return torch.minimum(ratio, bound)


@dataclass(frozen=True)
class PredictorCorrector:
    """Corrector, then predictor, at every time. Both fields of a graph move together in each.

    Args:
        predictor: ``ReverseDiffusion`` or ``EulerMaruyama``.
        corrector: ``Langevin`` or None.
        shared: the predictor takes the score from before the corrector's first and only move.

    Score evaluations per step: 2 with a corrector of one move, 1 without or if shared.
    """

    predictor: Solver = field(default_factory=ReverseDiffusion)
    corrector: Langevin | None = field(default_factory=Langevin)
    shared: bool = False
    order: int = field(default=1, init=False)

    def step(self, g: State, t: Tensor, s: Tensor, system: Any, score: Score, noise: Noise) -> tuple[State, State]:
        """Return the state at s and its mean."""
        if self.corrector is not None and self.shared:
            grad = score(g, t)
            g = self.corrector.move(g, grad, t, s, system, noise) if self.corrector.snr > 0 else g
            return self.predictor.step(g, t, s, system, lambda moved, time: grad, noise)
        if self.corrector is not None:
            g = self.corrector.correct(g, t, s, system, score, noise)
        return self.predictor.step(g, t, s, system, score, noise)


@dataclass(frozen=True)
class S4:
    """Symmetric splitting: Langevin move, half transition, score drift, half transition, all with one score.

    Args:
        corrector: the Langevin move; ``Langevin(snr=0)`` leaves it out.

    Score evaluations per step: 1.
    """

    corrector: Langevin = field(default_factory=Langevin)
    order: int = field(default=1, init=False)

    def step(self, g: State, t: Tensor, s: Tensor, system: Any, score: Score, noise: Noise) -> tuple[State, State]:
        """Return the state at s and its mean."""
        middle, h = (t + s) / 2, t - s
        grad = score(g, t)
        if self.corrector.snr > 0:
            g = self.corrector.move(g, grad, t, s, system, noise)

        def update(sde: SDE, x: Tensor, grad: Tensor, z1: Tensor, z2: Tensor) -> tuple[Tensor, ...]:
            rate = sde.coefficients(x, t)[1]
            mean, std = sde.transition(x, t, middle)
            x = mean + std * z1 + rate.square() * grad * h.to(x.dtype)
            mean, std = sde.transition(x, middle, s)
            return mean + std * z2, mean

        return _pair(system.apply(update, g, grad, system.noise(g, noise), system.noise(g, noise)))


def _reverse(
    x: Tensor, drift: Tensor, weight: Tensor, std: Tensor, grad: Tensor, z: Tensor, flow: bool
) -> tuple[Tensor, Tensor]:
    """Return x - drift + weight score + std z and its mean, or the same of the probability flow."""
    mean = x - drift + weight * grad * (0.5 if flow else 1.0)
    return (mean if flow else mean + std * z), mean


def _pair(states: tuple[State, ...]) -> tuple[State, State]:
    return states[0], states[1]
