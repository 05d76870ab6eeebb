"""Heun's rule on the probability flow (arXiv:2011.13456, section 4.3), with steps as told or as an error allows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graphinv.diffusion.gaussian import SDE
from graphinv.diffusion.process import Process, fit_time
from graphinv.diffusion.solver.base import Carry, GaussianSolver, Predict
from graphinv.diffusion.state import S, State, count_entries, fields_of, is_mirrored
from graphinv.errors import InputError
from graphinv.noise import Noise

__all__ = ["AdaptiveHeun", "Heun", "slope", "sum_fields"]

_FIRST, _SHORTEST = 0.02, 1e-6  # steps in time


@dataclass(frozen=True)
class Heun(GaussianSolver):
    """Heun's rule on the probability flow: the mean of the slopes at both ends; the slope at t alone where s = 0.

    Score evaluations per step: 2.
    """

    order: int = field(default=2, init=False)

    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state at s, twice, and ``()``."""
        first, h = slope(process, predict, x, t), s - t
        moved = process.map(lambda sde, x, k: (x + h.to(x.dtype) * k,), x, first)[0]
        share = torch.where(s > 0, 0.5, 0.0)  # of the slope at the end; to look at s would wait for a GPU
        second = slope(process, predict, moved, torch.where(s > 0, s, t))

        def update(sde: SDE, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            return (x + h.to(x.dtype) * torch.lerp(a, b, share.to(x.dtype)),)

        moved = process.map(update, x, first, second)[0]
        return moved, moved, ()


@dataclass(frozen=True)
class AdaptiveHeun(GaussianSolver):
    """Heun's rule with steps of its own for each graph, forwards or backwards in time.

    A step is taken if the root mean square of its error, half the difference of Heun's and Euler's results, is at most
    ``tolerance`` x (1 + |x|) per entry; else it is tried again shorter. One call of ``step`` tries one step of every
    graph that has not arrived. The carry: where each graph is, how long its next step, score evaluations, ``[B]`` each.
    """

    tolerance: float = 1e-2
    order: int = field(default=2, init=False)

    def init(self, process: Process, x: State) -> Carry:
        """Return times not yet set (NaN), first lengths, and no evaluations."""
        super().init(process, x)
        nowhere = torch.full_like(count_entries(x), math.nan)
        return nowhere, torch.full_like(nowhere, _FIRST), torch.zeros_like(nowhere, dtype=torch.long)

    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state after one try of each graph on the way from ``t`` to ``s``, twice, and where each is.

        Raises:
            InputError: the score is not finite.
        """
        place, length, calls = carry
        here, end = torch.where(place.isnan(), t.to(place.dtype), place), s.to(place.dtype)
        sign = torch.sign(end - t.to(place.dtype))
        running = (end - here) * sign > 0
        there = torch.where(running & (length < (end - here).abs()), here + sign * length, end)
        h = there - here
        first = slope(process, predict, x, here)
        euler = process.map(lambda sde, x, k: (x + _fit(h, x) * k,), x, first)[0]
        second = slope(process, predict, euler, there)
        heun = process.map(lambda sde, x, a, b: (x + 0.5 * _fit(h, x) * (a + b),), x, first, second)[0]
        error = self._error(x, euler, heun)
        if not bool(error[running].isfinite().all()):
            raise InputError(f"the score gives no finite numbers at times down to {float(there.min()):.4g}")
        taken = (error <= 1) | (length <= _SHORTEST)
        x = process.map(lambda sde, x, new: (torch.where(fit_time(taken, x), new, x),), x, heun)[0]
        length = (length * (0.9 * error.clamp(min=1e-8).rsqrt()).clamp(0.2, 5.0)).clamp(min=_SHORTEST)
        return x, x, (torch.where(taken, there, here), length, calls + 2 * running)

    def arrived(self, carry: Carry, s: Tensor) -> bool:
        """Return whether every graph is at ``s``."""
        return bool((carry[0] == s.to(carry[0].dtype)).all())

    def _error(self, x: State, euler: State, heun: State) -> Tensor:
        """Return ``[B]`` errors of a step in units of what is allowed."""
        squares = []
        for old, low, high in zip(*(fields_of(g) for g in (x, euler, heun)), strict=True):
            allowed = self.tolerance * (1 + torch.maximum(old.abs(), high.abs()))
            squares.append((0.5 * (high - low) / allowed).square())
        return (sum_fields(x, squares) / count_entries(x).clamp(min=1)).sqrt()


def slope(process: Process, predict: Predict[S], x: S, t: Tensor) -> S:
    """Return dx/dt = drift - g^2 score / 2 of the probability flow at ``t`` ``[]`` or ``[B]``."""

    def update(sde: SDE, x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        drift, rate = sde.coefficients(x, t)
        return (drift - 0.5 * rate.square() * grad,)

    return process.map(update, x, predict(x, t))[0]


def sum_fields(x: State, values: list[Tensor]) -> Tensor:
    """Return the sums ``[B]`` of ``values`` over the entries of each field of ``x``, mirrored ones once."""
    weights = [0.5 if is_mirrored(x, k) else 1.0 for k in range(len(values))]
    return torch.stack([w * v.flatten(1).sum(1) for w, v in zip(weights, values, strict=True)]).sum(0)


def _fit(value: Tensor, x: Tensor) -> Tensor:
    return fit_time(value.to(x.dtype), x)
