"""How much of the data is left at a time: the schedules of categorical diffusion.

A schedule is anything with ``alpha_bar``. Time is in [0, 1] with 0 = data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from graphinv.errors import InputError

__all__ = ["CosineSchedule", "LinearSchedule", "Schedule"]

_LEAST = 1e-10  # of alpha_bar and of 1 - alpha_bar


class Schedule(Protocol):
    """alpha_bar(t), the probability that an element still has its data class at t, falling from 1 to 0."""

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Return float64 like ``t`` ``[*]``, strictly between 0 and 1."""
        ...


@dataclass(frozen=True)
class CosineSchedule:
    """alpha_bar(t) = h(t) / h(0) with h(t) = cos((t + a) / (1 + a) pi / 2).

    arXiv:2102.09672, Eq. (17), without the square, as arXiv:2402.03687 uses it.

    Args:
        offset: the a of h, at least 0; larger values noise faster near the data.

    Raises:
        InputError: if offset is negative or not finite.

    Example:
        >>> CosineSchedule().alpha_bar(torch.tensor([0.0, 0.5, 1.0])).round(decimals=3)
        tensor([1.0000, 0.7030, 0.0000], dtype=torch.float64)
    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        if not 0 <= self.offset < math.inf:
            raise InputError(f"offset must be finite and at least 0, got {self.offset}")

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Return float64 like ``t`` ``[*]``, clipped to [1e-10, 1 - 1e-10]."""
        # float64: 1 - alpha_bar loses all digits of float32 below t = 1e-5
        phase = (t.to(torch.float64) + self.offset) / (1 + self.offset) * (math.pi / 2)
        start = math.cos(self.offset / (1 + self.offset) * (math.pi / 2))
        return (phase.cos() / start).clamp(_LEAST, 1 - _LEAST)


@dataclass(frozen=True)
class LinearSchedule:
    """alpha_bar(t) = 1 - t, the schedule of masked diffusion (arXiv:2406.07524): the data go at an even pace.

    Example:
        >>> LinearSchedule().alpha_bar(torch.tensor([0.0, 0.25, 1.0])).round(decimals=3)
        tensor([1.0000, 0.7500, 0.0000], dtype=torch.float64)
    """

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Return float64 like ``t`` ``[*]``, clipped to [1e-10, 1 - 1e-10]."""
        return (1 - t.to(torch.float64)).clamp(_LEAST, 1 - _LEAST)
