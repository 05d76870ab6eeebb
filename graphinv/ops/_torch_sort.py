"""The sort of the columns of segments on plain torch: size by size on a CPU, in two sorts of all rows elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.ops.pointer import check_ptr, repeat


def sort_columns(x: Tensor, ptr: Tensor, descending: bool) -> Tensor:
    """Return the old rows of the columns of ``x`` [N, C], sorted stably inside each segment: [N, C] int64."""
    if ptr.device.type != "cpu":
        return all_at_once(x, ptr, descending)
    if torch.compiler.is_compiling():
        old: Tensor = _size_by_size_op(x, ptr, descending)
        return old
    return _size_by_size(x, ptr, descending)


def _size_by_size(x: Tensor, ptr: Tensor, descending: bool) -> Tensor:
    # Segments of one size are a block [g, n, C] without padding. At most sqrt(2 N) sizes can occur, and short sorts
    # are three to six times faster than the long ones of all_at_once, which need log N rounds and a second pass.
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


def all_at_once(x: Tensor, ptr: Tensor, descending: bool) -> Tensor:
    """Sort all rows by value, then by segment: nothing is read back from an accelerator."""
    columns = x.t().contiguous()
    by_value = torch.sort(columns, stable=True, descending=descending).indices
    segment = repeat(ptr.diff(), x.shape[0])
    return by_value.gather(1, torch.sort(segment[by_value], stable=True).indices).t()
