"""Where noise comes from: one generator for the batch, or one stream per graph.

``PerGraphNoise`` is counter-based: a draw is a hash of (graph key, child numbers, entry), so that a graph's noise does
not depend on its batch, its padding or the dtype, nor on what was drawn before. Not a cryptographic generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from graphinv.ops.pairs import from_pairs

__all__ = ["GeneratorNoise", "Noise", "PerGraphNoise"]


class Noise(Protocol):
    """A source of draws. Whoever needs several takes a child for each: ``noise.child(0)``, ``noise.child(1)``."""

    def normal(self, like: Tensor) -> Tensor:
        """Return independent standard normal draws of the shape, dtype and device of ``like`` ``[B, *]``."""
        ...

    def symmetric(self, like: Tensor) -> Tensor:
        """Return ``[B, M, M]`` like ``like``: one normal draw per pair i < j, mirrored, zero on the diagonal."""
        ...

    def uniform(self, entries: Tensor) -> Tensor:
        """Return draws in [0, 1) of the entries numbered ``[B, *]`` int64, float64: equal numbers, equal draws."""
        ...

    def child(self, number: int | Tensor) -> Noise:
        """Return the noise of part ``number`` of each graph, ``[]``, ``[1]`` or ``[B]``: a step, a field, a block."""
        ...


class GeneratorNoise:
    """Noise of the whole batch from one ``torch.Generator`` on the device of the tensors.

    Draws follow one another: a draw depends on those before it, and a child is the same source.

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

    def uniform(self, entries: Tensor) -> Tensor:
        """Return draws of numbered entries; the largest number is read back from the device."""
        flat = entries.flatten(1)
        count = int(flat.max()) + 1 if flat.numel() else 0
        shape, device = (flat.size(0), count), entries.device
        u = torch.rand(shape, generator=self.generator, dtype=torch.float64, device=device)
        return u.gather(1, flat).reshape(entries.shape)

    def child(self, number: int | Tensor) -> GeneratorNoise:
        """Return this source: its next draws are those of the child."""
        return self


@dataclass(frozen=True, eq=False)
class PerGraphNoise:
    """Noise of graph k from its own key: a function of key, child numbers and entry, whatever the batch and padding.

    The same call gives the same draws; another child gives others.

    Args:
        keys: ``[B]`` int64, one per graph of the batch.

    Example:
        >>> alone = PerGraphNoise(torch.tensor([7])).normal(torch.zeros(1, 3, 2))
        >>> together = PerGraphNoise(torch.tensor([5, 7])).normal(torch.zeros(2, 4, 2))
        >>> bool((alone[0] == together[1, :3]).all())
        True
    """

    keys: Tensor

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

    def child(self, number: int | Tensor) -> PerGraphNoise:
        """Return the noise of part ``number`` of each graph; one for all, or ``[B]`` int64."""
        part = _mix_number(number - _GOLDEN) if isinstance(number, int) else _mix(number - _GOLDEN)
        return PerGraphNoise(_mix(self.keys + part))

    def _normal(self, entries: Tensor) -> Tensor:
        """Return ``[B, K]`` float64 normals of ``entries`` ``[K]`` by Box-Muller on two 32-bit halves of a hash."""
        bits = self._bits(entries)
        radius = ((_shift(bits, 32) + 1).to(torch.float64) * 2.0**-32).log().mul(-2).sqrt()
        angle = (bits & 0xFFFFFFFF).to(torch.float64) * (2 * math.pi * 2.0**-32)
        return radius * angle.cos()

    def _bits(self, entries: Tensor) -> Tensor:
        """Return ``[B, K]`` hashes of ``entries`` ``[K]`` or ``[B, K]``."""
        stream = _mix(self.keys.to(entries.device) + _ROOT)
        return _mix(stream.unsqueeze(1) + _mix(entries + _GOLDEN))


def _signed(number: int) -> int:
    """Return the int64 of the same 64 bits."""
    number &= 2**64 - 1
    return number - 2**64 if number >> 63 else number


_GOLDEN = _signed(0x9E3779B97F4A7C15)  # int64 arithmetic wraps, as the mixer wants
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014): every input bit moves every output bit."""
    z = z + _GOLDEN
    z = (z ^ _shift(z, 30)) * _signed(_FACTORS[0])
    z = (z ^ _shift(z, 27)) * _signed(_FACTORS[1])
    return z ^ _shift(z, 31)


def _mix_number(z: int) -> int:
    """Return what ``_mix`` makes of one number, without tensors."""
    z = (z + _GOLDEN) & (2**64 - 1)
    z = ((z ^ (z >> 30)) * _FACTORS[0]) & (2**64 - 1)
    z = ((z ^ (z >> 27)) * _FACTORS[1]) & (2**64 - 1)
    return _signed(z ^ (z >> 31))


_ROOT = _mix_number(0)
