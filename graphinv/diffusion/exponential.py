"""Solvers of higher order: exponential integrators that solve the linear part of an SDE exactly, and Heun's rule.

A linear SDE whose data were known, x(0) = D, would be solved in closed form; D = (x + std^2 score) / scale is predicted
anew at each step (arXiv:2211.01095 for the rules, there for variance preserving processes; here for any marginal).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphinv.diffusion.sde import SDE
from graphinv.diffusion.solver import Langevin, Score, State, posterior_mean
from graphinv.errors import InputError
from graphinv.noise import Noise

__all__ = ["Exponential", "Heun", "slope"]


@dataclass
class Exponential:
    """Exponential integrator, with r = e^-h the factor by which std / scale shrinks from t to s.

    Flow: x_s = (std_s / std_t) x + scale_s (1 - r) D. Process: x_s = r (std_s / std_t) x + scale_s (1 - r^2) D +
    std_s sqrt(1 - r^2) z, the exact posterior for known data.

    Args:
        stochastic: follow the reverse process; else the probability flow, without noise.
        multistep: extrapolate D along h from this step and the one before; order 2 of the flow at no further call.
        corrector: a Langevin move before each step, with the same score as the step.

    Score evaluations per step: 1. Keeps the data prediction of the step before; a step that does not start from the
    state which that one returned is a first step.
    """

    stochastic: bool = True
    multistep: bool = False
    corrector: Langevin | None = None
    _before: tuple[Tensor, State, State] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def order(self) -> int:
        """Order of the error in the step size: of the flow, or of the process in distribution."""
        return 2 if self.multistep and not self.stochastic else 1

    def remembered(self, g: State, t: Tensor, system: Any) -> tuple[Tensor, State]:
        """Return time and data prediction of the step that ended in ``g``; ``t`` and zeros, which count as none."""
        if self._before is not None and self._before[2] is g:
            return self._before[:2]
        return t, system.apply(lambda sde, x: (torch.zeros_like(x),), g)[0]

    def remember(self, before: tuple[Tensor, State], g: State) -> None:
        """Take ``before`` as time and data prediction of the step that ended in ``g``."""
        self._before = (*before, g)

    def step(self, g: State, t: Tensor, s: Tensor, system: Any, score: Score, noise: Noise) -> tuple[State, State]:
        """Return the state at s and its mean."""
        before, grad = self._before, score(g, t)
        known = before is not None and before[2] is g
        if self.corrector is not None and self.corrector.snr > 0:
            g = self.corrector.move(g, grad, t, s, system, noise)
        data = posterior_mean(g, grad, t, system)
        used = data
        if self.multistep and before is not None and known:
            used = system.apply(_extrapolated(before[0], t, s), data, before[1])[0]
        states = [g, used, system.noise(g, noise)] if self.stochastic else [g, used]
        moved, mean = system.apply(self._moved(t, s), *states)
        self._before = (t, data, moved)
        return moved, mean

    def _moved(self, t: Tensor, s: Tensor) -> Any:
        def update(sde: SDE, x: Tensor, data: Tensor, *z: Tensor) -> tuple[Tensor, ...]:
            (_, std_t), (scale, std), shrink = *_marginals(sde, x, t, s), _shrink(sde, x, t, s)
            if not self.stochastic:
                mean = std / std_t * x + scale * (1 - shrink) * data
                return mean, mean
            mean = shrink * std / std_t * x + scale * (1 - shrink.square()) * data
            return mean + std * (1 - shrink.square()).sqrt() * z[0], mean

        return update


@dataclass(frozen=True)
class Heun:
    """Heun's rule on the probability flow: the mean of the slopes at both ends; the slope at t alone where s = 0.

    Score evaluations per step: 2.
    """

    order: int = field(default=2, init=False)

    def step(self, g: State, t: Tensor, s: Tensor, system: Any, score: Score, noise: Noise) -> tuple[State, State]:
        """Return the state at s, twice."""
        first, h = slope(system, score, g, t), s - t
        moved = system.apply(lambda sde, x, k: (x + h.to(x.dtype) * k,), g, first)[0]
        share = torch.where(s > 0, 0.5, 0.0)  # of the slope at the end; to look at s would wait for a GPU
        second = slope(system, score, moved, torch.where(s > 0, s, t))

        def update(sde: SDE, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            return (x + h.to(x.dtype) * torch.lerp(a, b, share.to(x.dtype)),)

        moved = system.apply(update, g, first, second)[0]
        return moved, moved


def slope(system: Any, score: Score, g: State, t: Tensor) -> State:
    """Return dx/dt = drift - g^2 score / 2 of the probability flow at ``t`` ``[]`` or ``[B]``."""

    def update(sde: SDE, x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        drift, rate = sde.coefficients(x, t)
        return (drift - 0.5 * rate.square() * grad,)

    return system.apply(update, g, score(g, t))[0]


def _extrapolated(before: Tensor, t: Tensor, s: Tensor) -> Any:
    """Data at the middle of the step in h, from its values at ``before`` and ``t``."""

    def update(sde: SDE, data: Tensor, old: Tensor) -> tuple[Tensor, ...]:
        ahead, past = _shrink(sde, data, t, s), _shrink(sde, data, before, t)
        nothing = (ahead <= 0) | (past >= 1)  # a step onto the data, or none before
        weight = torch.where(nothing, 0.0, 0.5 * ahead.log() / past.log())
        return (data + weight * (data - old),)

    return update


def _marginals(sde: SDE, x: Tensor, *times: Tensor) -> list[tuple[Tensor, Tensor]]:
    one = x.new_ones((1,) * x.dim())
    return [sde.marginal(one, time) for time in times]


def _shrink(sde: SDE, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Return r = (std_s / scale_s) / (std_t / scale_t), below 1 for s < t."""
    (scale_t, std_t), (scale_s, std_s) = _marginals(sde, x, t, s)
    if t.device.type == "cpu" and float(s) >= float(t):  # elsewhere to look would be to wait
        raise InputError(f"expected a step back in time, got {float(t)} to {float(s)}")
    return std_s * scale_t / (std_t * scale_s)
