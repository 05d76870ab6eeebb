"""Reduce, normalise and sort the rows of segments: consecutive rows, divided by offsets ``ptr``.

Nothing is padded and nothing depends on the other segments of a batch, down to the last bit. Everything is
composed of the sums, extremes and softmax of the backend in use, and is differentiable as often as those are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops._autograd import Segments
from graphinv.ops.backend import current_kernels, runs_triton
from graphinv.ops.pointer import check_ptr, repeat

__all__ = ["segment_reduce", "segment_softmax", "segment_sort"]


def segment_reduce(x: Tensor, ptr: Tensor, reduce: str = "sum") -> Tensor:
    """Reduce the rows of each segment: ``x`` [N, *] and ``ptr`` [S+1] to [S, *], in the dtype of ``x``.

    - ``sum``, ``mean``: an empty segment gives 0.
    - ``min``, ``max``: an empty segment gives 0; the gradient is shared equally by the rows that tie.
    - ``var``, ``std``: of the population (divided by the count), in two passes; an empty segment gives 0; the
      gradient of ``std`` is defined as 0 where the variance is 0.
    - ``logsumexp``: an empty segment, and one of -inf only, gives -inf with gradient 0.

    NaN and infinities behave as in torch on the slice. float16 and bfloat16 are accumulated in float32.
    Integers know ``sum``, ``min`` and ``max``, in their own dtype. Equal input gives equal bits in every run.

    Args:
        x: [N, *] rows, of any real dtype but bool.
        ptr: [S+1] int64 offsets from 0 to N, never decreasing (values are checked on the CPU only).
        reduce: one of sum, mean, min, max, std, var, logsumexp.

    Raises:
        InputError: ``ptr`` does not divide ``x``, ``reduce`` is unknown, or it is not defined for the dtype.

    Example:
        >>> segment_reduce(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 2, 2, 3])).tolist()
        [3.0, 0.0, 5.0]
    """
    if reduce not in _REDUCTIONS:
        raise InputError(f"unknown reduce {reduce!r}; available: {', '.join(_REDUCTIONS)}")
    _check_rows(x, ptr, reduce, integers=reduce in ("sum", "min", "max"))
    segments = Segments(ptr, x.shape[0])
    out = _REDUCTIONS[reduce](_wide_rows(x), segments)
    return out.to(x.dtype).reshape(ptr.numel() - 1, *x.shape[1:])


def segment_softmax(x: Tensor, ptr: Tensor) -> Tensor:
    """Return exp(x) divided by its sum over the segment, [N, *] in the dtype of ``x``, without overflow.

    A row of -inf gets 0; a segment of -inf only has no softmax and gives NaN, as in torch. float16 and
    bfloat16 are computed in float32.

    Raises:
        InputError: ``ptr`` [S+1] does not divide ``x`` [N, *], or ``x`` is not of a floating dtype.

    Example:
        >>> segment_softmax(torch.tensor([1.0, 1.0, 5.0]), torch.tensor([0, 2, 3])).tolist()
        [0.5, 0.5, 1.0]
    """
    _check_rows(x, ptr, "softmax", integers=False)
    segments = Segments(ptr, x.shape[0])
    return segments.softmax(_wide_rows(x)).to(x.dtype).reshape(x.shape)


def segment_sort(x: Tensor, ptr: Tensor, descending: bool = False) -> tuple[Tensor, Tensor]:
    """Sort the keys ``x`` [N] inside each segment, stably; return the values [N] and their old positions [N].

    The positions are global: ``values == x[positions]``. NaN counts as the greatest key, as in torch. Nothing
    is padded and nothing is read back from an accelerator.

    Raises:
        InputError: ``x`` is not a vector, or ``ptr`` [S+1] does not divide it.

    Example:
        >>> values, index = segment_sort(torch.tensor([3, 1, 2, 0]), torch.tensor([0, 2, 4]))
        >>> values.tolist(), index.tolist()
        ([1, 3, 0, 2], [1, 0, 3, 2])
    """
    if x.dim() != 1:
        raise InputError(f"segment_sort needs one key per row, [N], got shape {list(x.shape)}")
    _check_rows(x, ptr, "sort", integers=True)
    if runs_triton(x):
        index = current_kernels().sort(x.detach().unsqueeze(1), ptr, descending).squeeze(1)
    else:
        by_key = torch.sort(x.detach(), stable=True, descending=descending).indices
        segment = repeat(ptr.diff(), x.shape[0])
        index = by_key[torch.sort(segment[by_key], stable=True).indices]
    return x.index_select(0, index), index


def _std(x: Tensor, segments: Segments) -> Tensor:
    gap = x - segments.spread(segments.mean(x))
    size = segments.max(gap.detach().abs())
    size = size.masked_fill((size == 0) | ~size.isfinite(), 1)  # keeps squares in range
    variance = segments.mean((gap / segments.spread(size)).square())
    constant = variance == 0
    # The root is taken of 1 where it has no slope, so that the gradient there is 0 and not 0 * inf.
    return torch.where(constant, 0, variance.masked_fill(constant, 1).sqrt()) * size


def _logsumexp(x: Tensor, segments: Segments) -> Tensor:
    greatest = segments.max(x.detach())
    shift = greatest.masked_fill(~greatest.isfinite(), 0)
    total = segments.sum((x - segments.spread(shift)).exp())
    nothing = total == 0
    return torch.where(nothing, -math.inf, total.masked_fill(nothing, 1).log() + shift)


_REDUCTIONS: dict[str, Callable[[Tensor, Segments], Tensor]] = {
    "sum": lambda x, segments: segments.sum(x),
    "mean": lambda x, segments: segments.mean(x),
    "min": lambda x, segments: segments.min(x),
    "max": lambda x, segments: segments.max(x),
    "std": _std,
    "var": lambda x, segments: segments.var(x),
    "logsumexp": _logsumexp,
}


def _wide_rows(x: Tensor) -> Tensor:
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return wide.reshape(x.shape[0], math.prod(x.shape[1:]))


def _check_rows(x: Any, ptr: Any, what: str, *, integers: bool) -> None:
    if not isinstance(x, Tensor) or not isinstance(ptr, Tensor):
        raise InputError(f"x and ptr must be tensors, got {type(x).__name__} and {type(ptr).__name__}")
    if x.dim() == 0:
        raise InputError("x must have rows, [N, *], got a scalar; use x.reshape(1)")
    if x.dtype == torch.bool or x.is_complex():
        raise InputError(f"{what} needs real numbers, got {x.dtype}; convert x first, for example with x.long()")
    if not integers and not x.is_floating_point():
        raise InputError(f"{what} is not defined for {x.dtype}; convert x to a floating dtype with x.float()")
    if x.device != ptr.device:
        raise InputError(f"x and ptr must be on one device, got {x.device} and {ptr.device}")
    check_ptr(ptr, x.shape[0])
