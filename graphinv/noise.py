"""Where noise comes from: one generator for the batch, or one stream per graph.

``PerGraphNoise`` is counter-based: a draw is a hash of (graph key, draw number, entry), so a graph's noise does not
depend on its batch, its padding or the dtype. Not a cryptographic generator.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from graphinv.ops.pairs import from_pairs

__all__ = ["GeneratorNoise", "Noise", "PerGraphNoise"]


class Noise(Protocol):
    """A source of standard normal noise."""

    def normal(self, like: Tensor) -> Tensor:
        """Return independent draws of the shape, dtype and device of ``like`` ``[B, *]``."""
        ...

    def symmetric(self, like: Tensor) -> Tensor:
        """Return ``[B, M, M]`` like ``like``: one draw per pair i < j, mirrored, zero on the diagonal."""
        ...


class GeneratorNoise:
    """Noise of the whole batch from one ``torch.Generator`` on the device of the tensors.

    Example:
        >>> noise = GeneratorNoise(torch.Generator().manual_seed(0))
        >>> noise.symmetric(torch.zeros(2, 3, 3)).shape
        torch.Size([2, 3, 3])
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def normal(self, like: Tensor) -> Tensor:
        """Return independent draws shaped like ``like``."""
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)

    def symmetric(self, like: Tensor) -> Tensor:
        """Return mirrored draws shaped like ``like`` ``[B, M, M]``."""
        size = like.size(-1)
        pairs = like.new_empty(like.size(0), size * (size - 1) // 2)
        return from_pairs(self.normal(pairs), size)


class PerGraphNoise:
    """Noise of graph k from its own key: entry (i, f) or pair (i, j) of draw d, whatever the batch and the padding.

    Args:
        keys: ``[B]`` int64, one per graph of the batch.

    Example:
        >>> alone = PerGraphNoise(torch.tensor([7])).normal(torch.zeros(1, 3, 2))
        >>> together = PerGraphNoise(torch.tensor([5, 7])).normal(torch.zeros(2, 4, 2))
        >>> bool((alone[0] == together[1, :3]).all())
        True
    """

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys
        self.draws = 0
        self.first: Tensor | None = None

    def at(self, first: Tensor) -> PerGraphNoise:
        """Return the same streams from draw number ``first`` ``[1]`` int64 on; recorded steps need a tensor."""
        noise = PerGraphNoise(self.keys)
        noise.first = first
        return noise

    def normal(self, like: Tensor) -> Tensor:
        """Return draws shaped like ``like`` ``[B, M, *]``; an entry keeps its value when M grows."""
        entries = torch.arange(math.prod(like.shape[1:]), device=like.device)
        return self._normal(entries).reshape(like.shape).to(like.dtype)

    def symmetric(self, like: Tensor) -> Tensor:
        """Return mirrored draws shaped like ``like`` ``[B, M, M]``; a pair keeps its value when M grows."""
        size = like.size(-1)
        row, col = torch.triu_indices(size, size, 1, device=like.device)
        return from_pairs(self._normal(col * (col - 1) // 2 + row), size).to(like.dtype)

    def uniform(self, entries: Tensor) -> Tensor:
        """Return draws in [0, 1) of the entries numbered ``[B, *]`` int64, float64: equal numbers, equal draws."""
        bits = self._bits(entries.flatten(1)).reshape(entries.shape)
        return _shift(bits, 11).to(torch.float64) * 2.0**-53

    def child(self, number: Tensor) -> PerGraphNoise:
        """Return the noise of part ``number`` ``[B]`` int64 of each graph, such as a block."""
        return PerGraphNoise(_mix(self.keys + _mix(number - _GOLDEN)))

    def _normal(self, entries: Tensor) -> Tensor:
        """Return ``[B, K]`` float64 normals of ``entries`` ``[K]`` by Box-Muller on two 32-bit halves of a hash."""
        bits = self._bits(entries)
        radius = ((_shift(bits, 32) + 1).to(torch.float64) * 2.0**-32).log().mul(-2).sqrt()
        angle = (bits & 0xFFFFFFFF).to(torch.float64) * (2 * math.pi * 2.0**-32)
        return radius * angle.cos()

    def _bits(self, entries: Tensor) -> Tensor:
        """Return ``[B, K]`` hashes of ``entries`` ``[K]`` or ``[B, K]``; every call is a new draw."""
        self.keys = self.keys.to(entries.device)  # once: every copy would wait for a GPU
        number = entries.new_full((1,), self.draws)
        stream = _mix(self.keys + _mix(number if self.first is None else number + self.first))
        self.draws += 1
        return _mix(stream.unsqueeze(1) + _mix(entries + _GOLDEN))


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # int64 arithmetic wraps, as the mixer wants


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014): every input bit moves every output bit."""
    z = z + _GOLDEN
    z = (z ^ _shift(z, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    z = (z ^ _shift(z, 27)) * (0x94D049BB133111EB - 2**64)
    return z ^ _shift(z, 31)
