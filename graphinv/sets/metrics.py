"""How close a chosen subset is to the optimal one: the Jaccard coefficient of each set, and its mean (MJC)."""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops import segment_reduce

__all__ = ["jaccard", "mean_jaccard"]


def jaccard(selected: Tensor, truth: Tensor, ptr: Tensor) -> Tensor:
    """Return size of intersection / size of union of both subsets of each set, [B] float64 in [0, 1].

    Two empty subsets are equal: 1. Papers give the true size to the selection before they measure this; say whether
    yours did.

    Args:
        selected: [N] bool.
        truth: [N] bool.
        ptr: [B+1] offsets of the sets.

    Raises:
        InputError: the columns are not bools of one length, or ``ptr`` does not divide them.

    Example:
        >>> ptr = torch.tensor([0, 3, 5])
        >>> jaccard(torch.tensor([1, 1, 0, 0, 1]).bool(), torch.tensor([0, 1, 1, 0, 1]).bool(), ptr).round(decimals=2)
        tensor([0.3300, 1.0000], dtype=torch.float64)
    """
    for name, column in (("selected", selected), ("truth", truth)):
        if column.dtype != torch.bool or column.shape != selected.shape or column.dim() != 1:
            raise InputError(
                f"{name} must be one bool per element, {selected.shape[0]}, got {column.dtype} {column.shape}"
            )
    both = segment_reduce((selected & truth).long(), ptr)
    either = segment_reduce((selected | truth).long(), ptr)
    return torch.where(either == 0, 1.0, both.double() / either.clamp(min=1))


def mean_jaccard(selected: Tensor, truth: Tensor, ptr: Tensor) -> float:
    """Return the mean of ``jaccard`` over the sets, in [0, 1].

    Raises:
        InputError: as ``jaccard``, or there is no set.

    Example:
        >>> mean_jaccard(torch.tensor([True, False]), torch.tensor([True, True]), torch.tensor([0, 2]))
        0.5
    """
    if ptr.numel() < 2:
        raise InputError("the mean over sets needs at least one set, got none")
    return float(jaccard(selected, truth, ptr).mean())
