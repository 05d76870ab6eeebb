"""Noise sources whose draws a test chooses: replayed from a list, or unit vectors that read off coefficients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor


class ReplayedNoise:
    """Gives the recorded tensors one after the other; edges and nodes share the list."""

    def __init__(self, draws: Sequence[Tensor]) -> None:
        self.draws = list(draws)

    def normal(self, like: Tensor) -> Tensor:
        draw = self.draws.pop(0)
        assert draw.shape == like.shape, f"draw {list(draw.shape)} for a field {list(like.shape)}"
        return draw.to(like.dtype)

    symmetric = normal

    def child(self, number: int | Tensor) -> ReplayedNoise:
        return self


class UnitNoise:
    """Draw j is 1 in row 2 + j of the batch and 0 elsewhere."""

    def __init__(self) -> None:
        self.row = 2

    def normal(self, like: Tensor) -> Tensor:
        out = torch.zeros_like(like)
        out[self.row] = 1
        self.row += 1
        return out

    def child(self, number: int | Tensor) -> UnitNoise:
        return self


@pytest.fixture
def replayed() -> Callable[[Sequence[Tensor]], ReplayedNoise]:
    return ReplayedNoise


@pytest.fixture
def unit_noise() -> Callable[[], UnitNoise]:
    return UnitNoise
