"""The Langevin corrector of arXiv:2011.13456, algorithms 4 and 5: moves at a fixed time towards its distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from graphinv.diffusion.gaussian import SDE
from graphinv.diffusion.process import Process
from graphinv.diffusion.solver.base import Predict
from graphinv.diffusion.state import S
from graphinv.noise import Noise

__all__ = ["Langevin"]


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

    def correct(self, process: Process, score: Predict[S], x: S, t: Tensor, s: Tensor, noise: Noise) -> S:
        """Return x after ``steps`` moves, each with a fresh score."""
        for k in range(self.steps if self.snr > 0 else 0):
            x = self.move(process, x, score(x, t), t, s, noise.child(k))
        return x

    def move(self, process: Process, x: S, grad: S, t: Tensor, s: Tensor, noise: Noise) -> S:
        """Return x after one move along the score ``grad``."""

        def update(sde: SDE, x: Tensor, grad: Tensor, z: Tensor) -> tuple[Tensor, ...]:
            step = 2 * sde.langevin_scale(t, s).to(x.dtype) * (self.snr * self._ratio(sde, x, grad, z, t)).square()
            return (x + step * grad + (2 * step).sqrt() * self.scale_eps * z,)

        return process.map(update, x, grad, process.noise(x, noise))[0]

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
