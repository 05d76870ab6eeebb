"""The symmetric splitting of arXiv:2202.02514, section 3.2 (S4): corrector and predictor with one score."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from graphinv.diffusion.gaussian import SDE
from graphinv.diffusion.process import Process
from graphinv.diffusion.solver.base import Carry, GaussianSolver, Predict
from graphinv.diffusion.solver.langevin import Langevin
from graphinv.diffusion.state import S
from graphinv.noise import Noise

__all__ = ["S4"]


@dataclass(frozen=True)
class S4(GaussianSolver):
    """Symmetric splitting: Langevin move, half transition, score drift, half transition, all with one score.

    Args:
        corrector: the Langevin move; ``Langevin(snr=0)`` leaves it out.

    Score evaluations per step: 1.
    """

    corrector: Langevin = field(default_factory=Langevin)
    order: int = field(default=1, init=False)

    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state at s, its mean and ``()``."""
        middle, h = (t + s) / 2, t - s
        grad = predict(x, t)
        if self.corrector.snr > 0:
            x = self.corrector.move(process, x, grad, t, s, noise.child(0))

        def update(sde: SDE, x: Tensor, grad: Tensor, z1: Tensor, z2: Tensor) -> tuple[Tensor, ...]:
            rate = sde.coefficients(x, t)[1]
            mean, std = sde.transition(x, t, middle)
            x = mean + std * z1 + rate.square() * grad * h.to(x.dtype)
            mean, std = sde.transition(x, middle, s)
            return mean + std * z2, mean

        draws = [process.noise(x, noise.child(k)) for k in (1, 2)]
        moved, mean = process.map(update, x, grad, *draws)
        return moved, mean, ()
