"""Steps from the posterior under what the network predicts: PARD's step, and that of DDPM, as one solver."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from graphinv.diffusion.process import Process
from graphinv.diffusion.solver.base import Carry, Predict, Solver
from graphinv.diffusion.state import S
from graphinv.noise import Noise

__all__ = ["Ancestral"]


@dataclass(frozen=True)
class Ancestral(Solver):
    """Draw x_s ~ p(x_s | x_t) = sum over x_0 of p(x_0 | x_t) q(x_s | x_t, x_0), for fields of any kind.

    Categorical fields: arXiv:2107.03006, Eq. (4), as arXiv:2402.03687 uses it; for a single variable exact at any
    step length. Gaussian fields: the posterior given the predicted mean of the data, ``Exponential`` of one step.

    Network evaluations per step: 1.

    Example:
        >>> import torch
        >>> from graphinv.diffusion import DiscreteDiffusion, GeneratorNoise, integrate
        >>> certain = torch.tensor([[0.0, 50.0]]).expand(3, 1, -1)  # always class 1
        >>> process, times = DiscreteDiffusion.uniform(2), torch.linspace(1, 0, 5, dtype=torch.float64)
        >>> start = process.prior(torch.zeros(3, 1, dtype=torch.long), GeneratorNoise())
        >>> integrate(Ancestral(), process, lambda x, t: certain, start, times, GeneratorNoise()).flatten().tolist()
        [1, 1, 1]
    """

    order: int = field(default=1, init=False)

    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state at s, its mean (the state itself of categorical fields) and ``()``."""
        prediction, z = predict(x, t), process.noise(x, noise)
        moved, mean = process.map(lambda p, x, out, z: p.backward(x, out, t, s, z), x, prediction, z)
        return moved, mean, ()
