"""Where the noise of subset selection comes from: one generator for the batch, or one stream per set.

A draw of ``PerSetNoise`` is a hash of (seed, key of the set, number of the call, place in the set). A set thus gets
the same draws in every batch, and nothing is read from its content.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.aggr import GroupLayout
from graphinv.errors import InputError
from graphinv.noise import PerGraphNoise
from graphinv.ops.pointer import repeat

__all__ = ["Noise", "PerSetNoise"]

_LEAST = 2.0**-54  # keeps logits and normal quantiles of a draw finite


class PerSetNoise:
    """Uniform draws of each set from its own key and the seed, whatever the batch.

    Every call is a new draw; two objects made alike give the same sequence.

    Args:
        keys: [B] int64, such as ``SetBatch.keys``; sets with equal keys get equal draws.
        seed: of all sets.

    Raises:
        InputError: ``keys`` is not a vector of int64.

    Example:
        >>> zero = torch.tensor([0])
        >>> a = PerSetNoise(torch.tensor([7]), seed=1).uniform(zero, zero, 3)
        >>> b = PerSetNoise(torch.tensor([5, 7]), seed=1).uniform(zero + 1, zero, 3)
        >>> torch.equal(a, b)
        True
    """

    def __init__(self, keys: Tensor, seed: int = 0) -> None:
        if keys.dim() != 1 or keys.dtype != torch.int64:
            raise InputError(f"keys must be one int64 per set, got shape {list(keys.shape)} of {keys.dtype}")
        self.keys = PerGraphNoise(keys).child(torch.full_like(keys, seed)).keys
        self.draws = 0

    def uniform(self, owner: Tensor, number: Tensor, count: int) -> Tensor:
        """Return [K, count] float64 draws in (0, 1) of the places ``number`` [K] in the sets ``owner`` [K]."""
        stream = PerGraphNoise(self.keys[owner]).child(torch.full_like(owner, self.draws))
        self.draws += 1
        places = number.unsqueeze(1) * count + torch.arange(count, device=number.device)
        return stream.uniform(places).clamp(min=_LEAST)


Noise = torch.Generator | PerSetNoise | None
"""A generator for the whole batch, a stream per set, or None for the global generator."""


def row_uniform(noise: Noise, layout: GroupLayout, count: int) -> Tensor:
    """Return [N, count] draws in (0, 1), one row per element."""
    return _uniform(noise, layout.index, row_number(layout), count)


def set_uniform(noise: Noise, layout: GroupLayout, count: int) -> Tensor:
    """Return [B, count] draws in (0, 1), one row per set."""
    owner = torch.arange(layout.num_groups, device=layout.device)
    return _uniform(noise, owner, torch.zeros_like(owner), count)


def pair_uniform(noise: Noise, layout: GroupLayout, count: int) -> Tensor:
    """Return [P, count] draws in (0, 1), P = sum of n_b^2: for every element, one row per element of its set."""
    row, column = pairs(layout)
    size = layout.counts[layout.index[row]]
    return _uniform(noise, layout.index[row], row_number(layout)[row] * size + column, count)


def row_number(layout: GroupLayout) -> Tensor:
    """Return the place of each element in its set, [N] int64."""
    return torch.arange(layout.num_rows, device=layout.device) - layout.ptr[layout.index]


def pairs(layout: GroupLayout) -> tuple[Tensor, Tensor]:
    """Return all pairs of elements of one set: the row of the first, and the place in its set of the second, [P]."""
    size = layout.counts[layout.index]
    total = int(size.sum())
    row = repeat(size, total)
    return row, torch.arange(total, device=layout.device) - (size.cumsum(0) - size)[row]


def _uniform(noise: Noise, owner: Tensor, number: Tensor, count: int) -> Tensor:
    if isinstance(noise, PerSetNoise):
        return noise.uniform(owner, number, count)
    device = owner.device if noise is None else noise.device
    return torch.rand(owner.numel(), count, generator=noise, device=device).clamp(min=2.0**-25).to(owner.device)
