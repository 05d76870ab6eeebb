"""Noise that takes edges away until none is left: what is left is always part of the data.

Each edge leaves at a time of its own, uniform in [0, 1]; a pair without an edge stays so. arXiv:2305.04111 does so with
whole graphs; ``graphinv.diffusion.solver.stubs`` brings edges back one by one where the degrees are given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from graphinv.diffusion.categorical import categorical
from graphinv.diffusion.process import FieldProcess, Prediction, fit_time
from graphinv.diffusion.state import State, entry_numbers
from graphinv.errors import InputError
from graphinv.noise import Noise

__all__ = ["Removal"]


@dataclass(frozen=True)
class Removal(FieldProcess):
    """Pairs of types 0 (no edge) .. E whose edges vanish: q(x_t = x_0 | x_0) = 1 - t, else 0.

    Args:
        edge_types: E >= 1, kinds of edges.

    Raises:
        InputError: E is below 1.

    Example:
        >>> from graphinv.diffusion import GeneratorNoise
        >>> edges = torch.tensor([[1, 2, 0, 1]])
        >>> Removal(2).corrupt(edges, torch.tensor(0.0), GeneratorNoise()).tolist()
        [[1, 2, 0, 1]]
        >>> Removal(2).corrupt(edges, torch.tensor(1.0), GeneratorNoise()).tolist()
        [[0, 0, 0, 0]]
    """

    edge_types: int
    prediction: ClassVar[Prediction] = "logits"

    def __post_init__(self) -> None:
        if self.edge_types < 1:
            raise InputError(f"edge_types must be at least 1, got {self.edge_types}")

    def draw(self, like: State, field: int, source: Noise) -> Tensor:
        """Return uniform draws in [0, 1), one per pair."""
        return source.uniform(entry_numbers(like, field))

    def start(self, z: Tensor) -> Tensor:
        """Return no edge at all."""
        return torch.zeros_like(z, dtype=torch.long)

    def forward(self, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Return the edges of ``x0`` whose draw is at least ``t``."""
        return torch.where(z >= fit_time(t, x0), x0, 0)

    def backward(self, x: Tensor, prediction: Tensor, t: Tensor, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_s, twice: an absent edge comes back with probability (1 - s/t) p(x_0 = its type | x_t)."""
        back = fit_time(1 - s / t, x).unsqueeze(-1)
        p = prediction.softmax(-1).double()
        p = torch.cat([1 - back * (1 - p[..., :1]), back * p[..., 1:]], -1)
        x_s = torch.where(x > 0, x, categorical(p, z))
        return x_s, x_s

    def denoise_field(self, x: Tensor, prediction: Tensor, t: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """Return x_0 ~ p(x_0 | x_t)."""
        return self.backward(x, prediction, t, torch.zeros_like(t), draw())[0]
