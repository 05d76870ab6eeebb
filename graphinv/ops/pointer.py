"""The two ways to say which segment a row is in: offsets (ptr) and one segment number per row (index).

Segments are consecutive rows: segment s holds rows ptr[s] to ptr[s+1] - 1; an empty one repeats its offset.
Both forms hold the same information once the number of segments is known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.errors import InputError

__all__ = ["index_to_ptr", "ptr_to_index", "segment_rows"]


def ptr_to_index(ptr: Tensor, num_rows: int | None = None) -> Tensor:
    """Return the segment of each row, [N] int64, from the offsets ``ptr`` [S+1].

    Args:
        ptr: [S+1] int64 offsets, from 0, never decreasing.
        num_rows: N, where it is known; saves reading the last offset back from an accelerator.

    Raises:
        InputError: ``ptr`` is not a vector of int64 offsets from 0 (values are read on the CPU only).

    Example:
        >>> ptr_to_index(torch.tensor([0, 2, 2, 3])).tolist()
        [0, 0, 2]
    """
    _check_vector("ptr", ptr)
    num_rows = (int(ptr[-1]) if ptr.numel() else 0) if num_rows is None else num_rows
    check_ptr(ptr, num_rows)
    return repeat(ptr.diff(), num_rows)


def index_to_ptr(index: Tensor, num_segments: int) -> Tensor:
    """Return the offsets [S+1] int64 of ``num_segments`` segments from the sorted segment of each row, [N].

    Raises:
        InputError: ``index`` is not a sorted vector of int64 in 0 .. num_segments - 1.

    Example:
        >>> index_to_ptr(torch.tensor([0, 0, 2]), 3).tolist()
        [0, 2, 2, 3]
    """
    _check_vector("index", index)
    if num_segments < 0:
        raise InputError(f"num_segments must be at least 0, got {num_segments}")
    if index.numel():
        if bool((index.diff() < 0).any()):
            raise InputError("index must be sorted, but it decreases; sort the rows by index.sort(stable=True) first")
        first, last = int(index[0]), int(index[-1])
        if first < 0 or last >= num_segments:
            raise InputError(f"index must be at least 0 and below {num_segments}, got {first} .. {last}")
    return torch.searchsorted(index.contiguous(), torch.arange(num_segments + 1, device=index.device))


def segment_rows(ptr: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the offsets [K+1] of the segments ``index`` [K] laid back to back, and the row each of theirs comes from.

    Nothing is checked here; ``ptr`` [S+1] and ``index`` are int64, and a segment may come more than once.

    Example:
        >>> offsets, rows = segment_rows(torch.tensor([0, 2, 2, 3]), torch.tensor([2, 0]))
        >>> offsets.tolist(), rows.tolist()
        ([0, 1, 3], [2, 0, 1])
    """
    start = ptr[index]
    counts = ptr[index + 1] - start
    offsets = torch.zeros(index.numel() + 1, dtype=torch.int64, device=ptr.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    total = int(offsets[-1])
    shift = torch.repeat_interleave(start - offsets[:-1], counts, output_size=total)
    return offsets, shift + torch.arange(total, device=ptr.device)


def check_ptr(ptr: Tensor, num_rows: int) -> None:
    """Check that ``ptr`` divides ``num_rows`` rows; its values only on the CPU, where reading them is free.

    Code that is being compiled checks no values: a branch on them would break its graph.

    Raises:
        InputError: it is not a vector of int64, does not go from 0 to ``num_rows``, or decreases.
    """
    _check_vector("ptr", ptr)
    if ptr.numel() == 0:
        raise InputError("ptr must hold at least the offset 0, got an empty tensor")
    if ptr.device.type != "cpu" or torch.compiler.is_compiling():
        return
    first, last = int(ptr[0]), int(ptr[-1])
    if first != 0 or last != num_rows:
        raise InputError(f"ptr must start at 0 and end at {num_rows}, the number of rows, got {first} .. {last}")
    if bool((ptr.diff() < 0).any()):
        raise InputError("ptr must never decrease; build it from row counts with a cumulative sum")


def repeat(counts: Tensor, total: int) -> Tensor:
    """Return number s ``counts[s]`` times, [total] int64, without reading ``counts`` back to the host."""
    return torch.repeat_interleave(counts, output_size=total)


def _check_vector(name: str, tensor: Tensor) -> None:
    if tensor.dim() != 1 or tensor.dtype != torch.int64:
        raise InputError(f"{name} must be a vector of torch.int64, got shape {list(tensor.shape)} of {tensor.dtype}")
