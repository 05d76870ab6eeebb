"""The optional Triton backend: sums, extremes and softmax of segments on CUDA tensors, every output written once.

Segments of at most 256 rows are finished in one launch. Where there are more rows than that in all, two more launches
(three of a softmax) take the longer segments in chunks of 256 rows, so that no segment is left to one program; which
rows are where follows from offsets that stay on the device. Rows are gathered by the reference: a gather runs at the
speed of the memory already. It also takes tensors elsewhere than on CUDA, and dtypes other than those of ``_DTYPES``.
"""

from __future__ import annotations

import importlib
import math

import torch
from torch import Tensor

from graphinv.ops import _torch
from graphinv.ops import _triton_kernels as kernels
from graphinv.ops import _triton_softmax as softmax
from graphinv.ops._torch import Kernel, Kernels
from graphinv.ops.backend import INTERPRETING

_CHUNK = 256
_DTYPES = (torch.float32, torch.float64, torch.int32, torch.int64)
_CODES = {"sum": kernels.SUM, "min": kernels.MIN, "max": kernels.MAX}


def load() -> Kernels:
    """Return the table of the backend.

    Raises:
        ImportError: Triton is not installed.
    """
    importlib.import_module("triton")
    return Kernels(
        sum=_kernel("sum", _torch.KERNELS.sum),
        min=_kernel("min", _torch.KERNELS.min),
        max=_kernel("max", _torch.KERNELS.max),
        spread=_torch.KERNELS.spread,
        softmax=_softmax,
    )


def _runs(x: Tensor) -> bool:
    return x.dtype in _DTYPES and (x.is_cuda or INTERPRETING)


def _softmax(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    if not _runs(x):
        return _torch.KERNELS.softmax(x, ptr, index)
    out: Tensor = triton_segment_softmax(x, ptr, index)
    return out


def _kernel(reduce: str, reference: Kernel) -> Kernel:
    def run(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
        if _runs(x):
            out: Tensor = triton_segment_reduce(x, ptr, index, reduce)
            return out
        return reference(x, ptr, index)

    return run


@torch.library.custom_op("graphinv::triton_segment_reduce", mutates_args=())
def triton_segment_reduce(x: Tensor, ptr: Tensor, index: Tensor, reduce: str) -> Tensor:
    """Reduce rows [N, F] to [S, F]; the compiler sees one operator of known shape."""
    num_rows, width = x.shape
    num_segments = ptr.numel() - 1
    if x.numel() == 0 or num_segments == 0:
        return x.new_zeros(num_segments, width)
    x, ptr, index = _aligned(x), _aligned(ptr), _aligned(index)
    out = x.new_empty(num_segments, width)
    code = _CODES[reduce]
    fill = _fill(code, x.dtype)
    b = _columns(width)
    blocks = _ceil(width, b)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        g, r = _short_tile(b)
        grid = (_ceil(num_segments, g) * blocks,)
        kernels.short_segments[grid](x, ptr, out, num_segments, width, code, fill, _CHUNK, g, r, b, num_warps=4)
        if num_rows > _CHUNK:
            windows = _ceil(num_rows, _CHUNK)
            parts = x.new_empty(2 * windows, width)
            r = min(_CHUNK, 4096 // b)
            rows = (num_rows, windows, width, code, fill, _CHUNK, r, b)
            kernels.chunks[(2 * windows * blocks,)](x, ptr, index, parts, *rows, num_warps=8)
            kernels.long_segments[(windows * blocks,)](parts, ptr, index, out, *rows, num_warps=8)
    return out


@triton_segment_reduce.register_fake
def _(x: Tensor, ptr: Tensor, index: Tensor, reduce: str) -> Tensor:
    return x.new_empty(ptr.shape[0] - 1, x.shape[1])


@torch.library.custom_op("graphinv::triton_segment_softmax", mutates_args=())
def triton_segment_softmax(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    """Normalise the exponentials of rows [N, F] over each segment: [N, F]."""
    num_rows, width = x.shape
    num_segments = ptr.numel() - 1
    x, ptr, index = _aligned(x), _aligned(ptr), _aligned(index)
    out = torch.empty_like(x)
    if x.numel() == 0 or num_segments == 0:
        return out
    b = _columns(width)
    blocks = _ceil(width, b)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        g, r = _short_tile(b)
        grid = (_ceil(num_segments, g) * blocks,)
        softmax.short_softmax[grid](x, ptr, out, num_segments, width, _CHUNK, g, r, b, num_warps=4)
        if num_rows > _CHUNK:
            windows = _ceil(num_rows, _CHUNK)
            told = x.new_empty(2, 2 * windows, width).unbind()  # greatest number and sum of each chunk
            rows = (num_rows, windows, width, _CHUNK, min(_CHUNK, 2048 // b), b)
            every, firsts = (2 * windows * blocks,), (windows * blocks,)
            softmax.tell_chunks[every](x, ptr, index, *told, *rows, num_warps=8)
            softmax.tell_segments[firsts](*told, ptr, index, *rows, num_warps=8)
            softmax.divide_chunks[every](x, ptr, index, *told, out, *rows, num_warps=8)
    return out


@triton_segment_softmax.register_fake
def _(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _aligned(x: Tensor) -> Tensor:
    # A kernel is compiled anew for an address that is no multiple of 16, and might then add in another order.
    x = x.contiguous()
    return x if x.data_ptr() % 16 == 0 else x.clone()


def _fill(code: int, dtype: torch.dtype) -> float | int:
    if code == kernels.SUM:
        return 0
    if dtype.is_floating_point:
        return math.inf if code == kernels.MIN else -math.inf
    return torch.iinfo(dtype).max if code == kernels.MIN else torch.iinfo(dtype).min


def _columns(width: int) -> int:
    """Return how many columns a tile has, a power of two; of those for wide rows, the one that wastes least."""
    if width <= 32:
        return 1 << (width - 1).bit_length()
    return min((128, 64, 32), key=lambda b: _ceil(width, b) * b)


def _short_tile(b: int) -> tuple[int, int]:
    """Return segments and rows of a tile of about 1,024 numbers, 8 for each of 128 threads."""
    return min(32, max(1, 128 // b)), max(8, 32 // b)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
