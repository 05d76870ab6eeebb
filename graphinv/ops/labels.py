"""Labels of the rows of segments that are 0 .. k-1 inside each segment, such as the blocks of a graph.

Each (segment, label) is a slot; slots lie back to back, segment after segment, and have offsets of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops.pointer import ptr_to_index

__all__ = ["label_slots"]


def label_slots(name: str, label: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the slot [N] of each row, the rows [S] of each slot and the slots' offsets [B+1], all int64.

    Args:
        name: what the error calls the labels.
        label: [N] integers; the labels of each segment are 0 .. k-1 without gaps.
        ptr: [B+1] int64 offsets of the segments, from 0 to N.

    Raises:
        InputError: ``label`` is not a vector of integers of N rows, or the labels of a segment are not 0 .. k-1.

    Example:
        >>> slot, rows, offsets = label_slots("block", torch.tensor([1, 0, 1, 0]), torch.tensor([0, 3, 3, 4]))
        >>> slot.tolist(), rows.tolist(), offsets.tolist()
        ([1, 0, 1, 2], [1, 2, 1], [0, 2, 2, 3])
    """
    segment = ptr_to_index(ptr)
    if label.shape != segment.shape or label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
        raise InputError(f"{name} must be [{segment.numel()}] integers, got {list(label.shape)} {label.dtype}")
    label = label.long()
    outside = (label < 0) | (label >= ptr.diff()[segment])
    if bool(outside.any()):
        at = outside.nonzero()[0]
        raise _gap(name, int(segment[at]), f"there is {int(label[at])} on {int(ptr.diff()[segment[at]])} rows")
    most = torch.full_like(ptr[1:], -1).scatter_reduce(0, segment, label, "amax")
    offsets = torch.cat([ptr.new_zeros(1), (most + 1).cumsum(0)])
    slot = offsets[segment] + label
    rows = torch.bincount(slot, minlength=int(offsets[-1]))
    if bool((rows == 0).any()):
        at = (rows == 0).nonzero()[0]
        where = int(torch.searchsorted(offsets, at, right=True)) - 1
        raise _gap(name, where, f"{int(at) - int(offsets[where])} is on no row")
    return slot, rows, offsets


def _gap(name: str, segment: int, what: str) -> InputError:
    return InputError(f"{name} must be 0..k-1 in each segment, every one on some row, but in segment {segment} {what}")
