"""Exponential integrators: the linear part of an SDE solved exactly.

A linear SDE whose data were known, x(0) = D, would be solved in closed form; D = (x + std^2 score) / scale is predicted
anew at each step (arXiv:2211.01095 for the rules, there for variance preserving processes; here for any marginal).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from graphinv.diffusion.gaussian import SDE
from graphinv.diffusion.process import Process
from graphinv.diffusion.solver.base import Carry, GaussianSolver, Predict
from graphinv.diffusion.solver.langevin import Langevin
from graphinv.diffusion.state import S, State, fields_of, with_fields
from graphinv.errors import InputError
from graphinv.noise import Noise

__all__ = ["Exponential"]

Update = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Exponential(GaussianSolver):
    """Exponential integrator, with r = e^-h the factor by which std / scale shrinks from t to s.

    Flow: x_s = (std_s / std_t) x + scale_s (1 - r) D. Process: x_s = r (std_s / std_t) x + scale_s (1 - r^2) D +
    std_s sqrt(1 - r^2) z, the exact posterior given the data.

    Args:
        stochastic: follow the reverse process; else the probability flow, without noise.
        multistep: extrapolate D along h from this step and the one before; order 2 of the flow at no further call.
        corrector: a Langevin move before each step, with the same score as the step.

    Score evaluations per step: 1. The carry of a multistep rule is the time of the step before and the data that it
    predicted; time 0 counts as no step before.
    """

    stochastic: bool = True
    multistep: bool = False
    corrector: Langevin | None = None

    @property
    def order(self) -> int:  # type: ignore[override]
        """Order of the error in the step size: of the flow, or of the process in distribution."""
        return 2 if self.multistep and not self.stochastic else 1

    def init(self, process: Process, x: State) -> Carry:
        """Return time 0 and zeros, or ``()`` for one step at a time."""
        super().init(process, x)
        fields = fields_of(x)
        time = torch.zeros((), dtype=torch.float64, device=fields[0].device)
        return (time, *(torch.zeros_like(f) for f in fields)) if self.multistep else ()

    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state at s, its mean, and t with the data predicted there."""
        if t.device.type == "cpu" and float(s) >= float(t):  # elsewhere to look would be to wait
            raise InputError(f"expected a step back in time, got {float(t)} to {float(s)}")
        grad = predict(x, t)
        if self.corrector is not None and self.corrector.snr > 0:
            x = self.corrector.move(process, x, grad, t, s, noise.child(0))
        data = used = process.map(lambda sde, x, grad: (sde.data(x, grad, t),), x, grad)[0]
        if self.multistep:
            before, *old = carry
            used = process.map(_extrapolate(before, t, s), data, with_fields(data, old))[0]
            carry = (t.to(before.dtype), *fields_of(data))
        states = [x, used, process.noise(x, noise.child(1))] if self.stochastic else [x, used]
        moved, mean = process.map(self._move(t, s), *states)
        return moved, mean, carry

    def _move(self, t: Tensor, s: Tensor) -> Update:
        def flow(sde: SDE, x: Tensor, data: Tensor) -> tuple[Tensor, ...]:
            (_, std_t), (scale, std) = sde.at(x, t), sde.at(x, s)
            mean = std / std_t * x + scale * (1 - sde.shrink(x, t, s)) * data
            return mean, mean

        def process(sde: SDE, x: Tensor, data: Tensor, z: Tensor) -> tuple[Tensor, ...]:
            mean, std = sde.posterior(x, data, t, s)
            return mean + std * z, mean

        return process if self.stochastic else flow


def _extrapolate(before: Tensor, t: Tensor, s: Tensor) -> Update:
    """Data at the middle of the step in h, from its values at ``before`` and ``t``."""

    def update(sde: SDE, data: Tensor, old: Tensor) -> tuple[Tensor, ...]:
        ahead, past = sde.shrink(data, t, s), sde.shrink(data, before, t)
        nothing = (ahead <= 0) | ~(past < 1)  # a step onto the data, or none before
        weight = torch.where(nothing, 0.0, 0.5 * ahead.log() / past.log())
        return (data + weight * (data - old),)

    return update
