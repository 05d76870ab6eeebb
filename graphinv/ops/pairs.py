"""The pair layout of a symmetric map: its strict upper triangle, ``[*, P]`` with P = M (M - 1) / 2, row by row.

In it symmetry and the absence of self loops are structural, and work on pairs is done once instead of twice.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["from_pairs", "pair_index", "to_pairs"]


@lru_cache(maxsize=256)
def pair_index(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``(upper [P], lower [P], place [M*M])`` for graphs padded to ``size`` nodes.

    ``upper`` and ``lower`` are the flat positions of (i, j) and (j, i), i < j; ``place`` maps each flat position to
    its pair, the diagonal to P (one past the last pair).

    Example:
        >>> upper, lower, place = pair_index(3, torch.device("cpu"))
        >>> upper.tolist(), lower.tolist(), place.tolist()
        ([1, 2, 5], [3, 6, 7], [3, 0, 1, 0, 3, 2, 1, 2, 3])
    """
    row, col = torch.triu_indices(size, size, 1, device=device)
    upper, lower = row * size + col, col * size + row
    place = torch.full((size * size,), upper.numel(), device=device)
    number = torch.arange(upper.numel(), device=device)
    place[upper], place[lower] = number, number
    return upper, lower, place


def to_pairs(dense: Tensor) -> Tensor:
    """Return the strict upper triangle ``[*, P]`` of ``dense`` ``[*, M, M]``.

    Example:
        >>> to_pairs(torch.arange(9).reshape(3, 3))
        tensor([1, 2, 5])
    """
    upper, _, _ = pair_index(dense.size(-1), dense.device)
    return dense.flatten(-2).index_select(-1, upper)


def from_pairs(pairs: Tensor, size: int, diagonal: float = 0.0) -> Tensor:
    """Return the symmetric ``[*, M, M]`` map of ``pairs`` ``[*, P]`` with ``diagonal`` on the diagonal.

    Example:
        >>> from_pairs(torch.tensor([7.0]), 2, diagonal=1.0)
        tensor([[1., 7.],
                [7., 1.]])
    """
    _, _, place = pair_index(size, pairs.device)
    padded = torch.nn.functional.pad(pairs, (0, 1), value=diagonal)
    return padded.index_select(-1, place).reshape(*pairs.shape[:-1], size, size)
