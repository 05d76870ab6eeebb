"""Sort every column of the rows of segments by itself: the one kernel of the poolings that sort.

Segments are consecutive rows, divided by offsets ``ptr``. Not to be confused with ``segment_sort``, which puts whole
rows in the order of one key.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops.backend import current_kernels
from graphinv.ops.pointer import check_ptr

__all__ = ["segment_sort_columns"]


def segment_sort_columns(x: Tensor, ptr: Tensor, descending: bool = False) -> tuple[Tensor, Tensor]:
    """Sort each column of ``x`` [N, C] inside each segment; return the values [N, C] and their old rows [N, C].

    The old rows are global: ``values == x.gather(0, index)``. The sort is stable, and NaN counts as the greatest,
    as in torch. Gradients flow through the values, to the row that each came from; of equal ones, the first row
    comes first. Nothing is padded, and nothing is read back from an accelerator. On a CPU the cost is that of
    ``torch.sort`` on the segments; elsewhere, two sorts of all N rows. With Triton and a dtype of at most 32 bits, a
    row is compared with up to 256 others of its segment; a segment of more rows is then merged, once for every
    fourfold of 256, in as much memory again as the old rows take.

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
    index = current_kernels().sort(x.detach(), ptr, descending)
    return x.gather(0, index), index


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
