"""Predictors that reverse the SDE, and their alternation with a corrector (arXiv:2011.13456, appendix G)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from graphinv.diffusion.gaussian import SDE
from graphinv.diffusion.process import Process
from graphinv.diffusion.solver.base import Carry, GaussianSolver, Predict, Solver
from graphinv.diffusion.solver.langevin import Langevin
from graphinv.diffusion.state import S
from graphinv.noise import Noise

__all__ = ["EulerMaruyama", "PredictorCorrector", "ReverseDiffusion"]


@dataclass(frozen=True)
class ReverseDiffusion(GaussianSolver):
    """Predictor that reverses the forward discretisation: x - f + G^2 score + G z.

    Args:
        probability_flow: follow the ODE of the same marginals: half the score, no noise.
    """

    probability_flow: bool = False
    order: int = field(default=1, init=False)

    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state at s, its mean and ``()``."""

        def update(sde: SDE, x: Tensor, grad: Tensor, z: Tensor) -> tuple[Tensor, ...]:
            f, scale = sde.discretise(x, t, s)
            return _reverse(x, f, scale.square(), scale, grad, z, self.probability_flow)

        moved, mean = process.map(update, x, predict(x, t), process.noise(x, noise))
        return moved, mean, ()


@dataclass(frozen=True)
class EulerMaruyama(GaussianSolver):
    """Predictor x - (drift - g^2 score) h + g sqrt(h) z with h = t - s.

    Args:
        probability_flow: follow the ODE of the same marginals: half the score, no noise.
    """

    probability_flow: bool = False
    order: int = field(default=1, init=False)

    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state at s, its mean and ``()``."""
        h = t - s

        def update(sde: SDE, x: Tensor, grad: Tensor, z: Tensor) -> tuple[Tensor, ...]:
            drift, rate = sde.coefficients(x, t)
            weight = rate.square() * h.to(x.dtype)
            return _reverse(x, drift * h.to(x.dtype), weight, weight.sqrt(), grad, z, self.probability_flow)

        moved, mean = process.map(update, x, predict(x, t), process.noise(x, noise))
        return moved, mean, ()


@dataclass(frozen=True)
class PredictorCorrector(GaussianSolver):
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

    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state at s, its mean and ``()``."""
        if self.corrector is not None and self.shared:
            grad = predict(x, t)
            if self.corrector.snr > 0:
                x = self.corrector.move(process, x, grad, t, s, noise.child(0))
            return self.predictor.step(process, lambda moved, time: grad, x, t, s, carry, noise.child(1))
        if self.corrector is not None:
            x = self.corrector.correct(process, predict, x, t, s, noise.child(0))
        return self.predictor.step(process, predict, x, t, s, carry, noise.child(1))


def _reverse(
    x: Tensor, drift: Tensor, weight: Tensor, std: Tensor, grad: Tensor, z: Tensor, flow: bool
) -> tuple[Tensor, Tensor]:
    """Return x - drift + weight score + std z and its mean, or the same of the probability flow."""
    mean = x - drift + weight * grad * (0.5 if flow else 1.0)
    return (mean if flow else mean + std * z), mean
