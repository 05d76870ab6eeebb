"""The table of functions every backend fills, and the plain torch version that is its reference.

A table works on real rows [N, F] and sees no gradients; dtypes narrower than float32 are widened before it, but not
to be sorted. On a CPU, and for integers anywhere, scattering by index is deterministic; other floats use offset
kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from graphinv.ops.pointer import check_ptr, repeat

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Kernels:
    """Functions of (rows, ptr [S+1], index [N]); an empty segment gives 0 in every reduction.

    The sort takes (rows, ptr, descending) and returns old rows: stable inside each segment, NaN greatest.
    """

    sum: Kernel  # [N, F] -> [S, F]
    min: Kernel  # [N, F] -> [S, F], a NaN wins
    max: Kernel  # [N, F] -> [S, F], a NaN wins
    spread: Kernel  # [S, F] -> [N, F], row n is the row of its segment: the adjoint of sum
    softmax: Kernel  # [N, F] -> [N, F]
    sort: Callable[[Tensor, Tensor, bool], Tensor]  # [N, F] -> [N, F] int64, every column by itself


def _sum(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    if _in_index_order(x):
        return x.new_zeros(ptr.numel() - 1, x.shape[1]).index_add_(0, index, x)
    return torch.segment_reduce(x.contiguous(), "sum", offsets=ptr, axis=0, unsafe=True, initial=0)


def _min(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    return _extreme(x, ptr, index, "min")


def _max(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    return _extreme(x, ptr, index, "max")


def _extreme(x: Tensor, ptr: Tensor, index: Tensor, reduce: str) -> Tensor:
    if _in_index_order(x):
        out = x.new_zeros(ptr.numel() - 1, x.shape[1])
        rows = index.unsqueeze(1).expand_as(x)
        return out.scatter_reduce_(0, rows, x, f"a{reduce}", include_self=False)
    out = torch.segment_reduce(x.contiguous(), reduce, offsets=ptr, axis=0, unsafe=True)
    return out.masked_fill_((ptr.diff() == 0).unsqueeze(1), 0)


def _spread(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    return x.index_select(0, index)


def _in_index_order(x: Tensor) -> bool:
    # The offset kernels know no integers; on a CPU scattering is faster, but only from 16 numbers a row on.
    return not x.is_floating_point() or (x.device.type == "cpu" and x.shape[1] >= 16)


def softmax_of(add: Kernel, greatest: Kernel, spread: Kernel) -> Kernel:
    """Return the softmax that others of a table make up."""

    def softmax(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
        weight = spread(greatest(x, ptr, index), ptr, index)
        weight = torch.sub(x, weight, out=weight).exp_()
        return weight.div_(spread(add(weight, ptr, index), ptr, index))

    return softmax


# --- sorting: size by size on a CPU, in two sorts of all rows elsewhere ---


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


KERNELS = Kernels(
    sum=_sum,
    min=_min,
    max=_max,
    spread=_spread,
    softmax=softmax_of(_sum, _max, _spread),
    sort=sort_columns,
)
