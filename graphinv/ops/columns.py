"""Sort every column of the rows of segments by itself: the one kernel of the poolings that sort.

Segments are consecutive rows, divided by offsets ``ptr``. Not to be confused with ``segment_sort``, which puts whole
rows in the order of one key.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops.pointer import check_ptr, repeat

__all__ = ["segment_sort_columns"]


def segment_sort_columns(x: Tensor, ptr: Tensor, descending: bool = False) -> tuple[Tensor, Tensor]:
    """Sort each column of ``x`` [N, C] inside each segment; return the values [N, C] and their old rows [N, C].

    The old rows are global: ``values == x.gather(0, index)``. The sort is stable, and NaN counts as the greatest,
    as in torch. Gradients flow through the values, to the row that each came from; of equal ones, the first row
    comes first. Nothing is padded, and nothing is read back from an accelerator. On a CPU the cost is that of
    ``torch.sort`` on the segments; elsewhere, two sorts of all N rows.

    Args:
        x: [N, C] rows, of any real dtype but bool.
        ptr: [S+1] int64 offsets from 0 to N, never decreasing (values are checked on the CPU only).
        descending: whether the greatest value of a segment comes first.

    Raises:
        InputError: ``x`` is not a matrix of real numbers, or ``ptr`` does not divide it.

    Example:
        >>> x = torch.tensor([[3.0, 1.0], [2.0, 5.0], [0.0, 4.0]])
        >>> values, index = segment_sort_columns(x, torch.tensor([0, 2, 3]))
        >>> values.tolist(), index.tolist()
        ([[2.0, 1.0], [3.0, 5.0], [0.0, 4.0]], [[1, 0], [0, 1], [2, 2]])
    """
    _check(x, ptr)
    if ptr.device.type != "cpu":
        find = _all_at_once
    else:
        find = _size_by_size_op if torch.compiler.is_compiling() else _size_by_size
    index = find(x.detach(), ptr, descending)
    return x.gather(0, index), index


def _size_by_size(x: Tensor, ptr: Tensor, descending: bool) -> Tensor:
    # Segments of one size are a block [g, n, C] without padding. At most sqrt(2 N) sizes can occur, and short sorts
    # are three to six times faster than the long ones of _all_at_once, which need log N rounds and a second pass.
    index = torch.empty_like(x, dtype=torch.int64)
    counts, order = torch.sort(ptr.diff(), stable=True)
    sizes, times = torch.unique_consecutive(counts, return_counts=True)
    for size, segments in zip(sizes.tolist(), torch.split(order, times.tolist()), strict=True):
        start = ptr[segments].unsqueeze(1)
        rows = (start + torch.arange(size)).flatten()
        if size > 1:
            block = torch.unflatten(x.index_select(0, rows), 0, (-1, size))
            columns = block.transpose(1, 2).contiguous()  # sorting along the last dimension saves copies
            place = torch.sort(columns, stable=True, descending=descending).indices
            index[rows] = (place + start.unsqueeze(2)).transpose(1, 2).flatten(0, 1)
        elif size == 1:
            index[rows] = rows.unsqueeze(1)
    return index


# While compiling, the sizes are not known: one operator, whose shapes are.
@torch.library.custom_op("graphinv::segment_sort_columns", mutates_args=())
def _size_by_size_op(x: Tensor, ptr: Tensor, descending: bool) -> Tensor:
    check_ptr(ptr, x.shape[0])
    return _size_by_size(x, ptr, descending)


@_size_by_size_op.register_fake
def _(x: Tensor, ptr: Tensor, descending: bool) -> Tensor:
    return torch.empty_like(x, dtype=torch.int64)


def _all_at_once(x: Tensor, ptr: Tensor, descending: bool) -> Tensor:
    columns = x.t().contiguous()
    by_value = torch.sort(columns, stable=True, descending=descending).indices
    segment = repeat(ptr.diff(), x.shape[0])
    return by_value.gather(1, torch.sort(segment[by_value], stable=True).indices).t()


def _check(x: Any, ptr: Any) -> None:
    if not isinstance(x, Tensor) or not isinstance(ptr, Tensor):
        raise InputError(f"x and ptr must be tensors, got {type(x).__name__} and {type(ptr).__name__}")
    if x.dim() != 2:
        raise InputError(f"x must be rows of columns, [N, C], got shape {list(x.shape)}; use x.reshape(len(x), -1)")
    if x.dtype == torch.bool or x.is_complex():
        raise InputError(f"only real numbers are sorted, got {x.dtype}; convert x first, for example with x.long()")
    if x.device != ptr.device:
        raise InputError(f"x and ptr must be on one device, got {x.device} and {ptr.device}")
    check_ptr(ptr, x.shape[0])
