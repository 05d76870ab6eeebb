"""The optional Triton backend: sums, extremes, softmax and sort of segments on CUDA tensors.

Segments of at most 256 rows are finished in one launch. Where there are more rows than that in all, two more launches
(three of a softmax; of a sort one, and one for every fourfold of 256 rows) take the longer segments in chunks of 256
rows, so that no segment is left to one program; which rows are where follows from offsets that stay on the device.
Rows are gathered by the reference: a gather runs at the speed of the memory already. It also takes tensors elsewhere
than on CUDA, and dtypes other than those of ``_DTYPES`` and, to be sorted, of ``_SORTED``.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from torch import Tensor

from graphinv.ops import _torch
from graphinv.ops import _triton_kernels as kernels
from graphinv.ops import _triton_softmax as softmax
from graphinv.ops import _triton_sort as sort
from graphinv.ops._torch import Kernel, Kernels
from graphinv.ops.backend import INTERPRETING
from graphinv.ops.pointer import repeat

_CHUNK = 256
_DTYPES = (torch.float32, torch.float64, torch.int32, torch.int64)
_SORTED = (torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.int16, torch.int8, torch.uint8)
_SORT_ROWS = 2**31  # from here on a place no longer fits the lower half of a key
_WAYS = 4  # as much work as 2, in half the launches
_PROGRAMS = 4096  # enough to fill a GPU some times; a launch of so many that find nothing to do costs microseconds
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
        sort=_sort,
    )


def _runs(x: Tensor, dtypes: tuple[torch.dtype, ...] = _DTYPES) -> bool:
    return x.dtype in dtypes and (x.is_cuda or INTERPRETING)


def _softmax(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    if not _runs(x):
        return _torch.KERNELS.softmax(x, ptr, index)
    out: Tensor = triton_segment_softmax(x, ptr, index)
    return out


def _sort(x: Tensor, ptr: Tensor, descending: bool) -> Tensor:
    if not _runs(x, _SORTED):
        return _torch.KERNELS.sort(x, ptr, descending)
    out: Tensor = triton_segment_sort(x, ptr, descending)
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


@torch.library.custom_op("graphinv::triton_segment_sort", mutates_args=())
def triton_segment_sort(x: Tensor, ptr: Tensor, descending: bool) -> Tensor:
    """Return the old rows of the columns of ``x`` [N, C], sorted stably inside each segment: [N, C] int64."""
    num_rows, width = x.shape
    if num_rows >= _SORT_ROWS:
        return _torch.KERNELS.sort(x, ptr, descending).contiguous()
    out = x.new_empty(num_rows, width, dtype=torch.int64)
    if out.numel() == 0:
        return out
    x, ptr = x.contiguous(), ptr.contiguous()
    num_segments = ptr.numel() - 1
    b = min(32, _columns(width))
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        grid = (_ceil(num_segments, 32 // b) * _ceil(width, b),)
        sort.short_sort[grid](x, ptr, out, num_segments, width, descending, _CHUNK, 32 // b, 16, b, num_warps=2)
        if num_rows > _CHUNK:
            _sort_long(x, ptr, out, descending)
    return out


def _sort_long(x: Tensor, ptr: Tensor, out: Tensor, descending: bool) -> None:
    num_rows, width = x.shape
    count = ptr.diff()
    where = (ptr, repeat(count, num_rows), count.amax())
    windows = _ceil(num_rows, _CHUNK)
    keys = (out, torch.empty_like(out))  # written only where a segment is long; the host does not know
    size = (num_rows, windows, width)
    b = min(16, _columns(width))
    grid = (min(_PROGRAMS, 2 * windows * _ceil(width, b)),)
    sort.sort_chunks[grid](x, *where, *keys, *size, descending, _CHUNK, _WAYS, b, num_warps=8)
    b = min(4, _columns(width))
    grid = (min(_PROGRAMS, 2 * windows * _ceil(width, b)),)
    run = _CHUNK
    while run < num_rows:
        sort.merge_runs[grid](*where, *keys, *size, run, _CHUNK, _WAYS, b, num_warps=8)
        run *= _WAYS


@triton_segment_sort.register_fake
def _(x: Tensor, ptr: Tensor, descending: bool) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.int64)


@triton_segment_sort.register_vmap
def _(info: Any, in_dims: tuple[Any, ...], x: Tensor, ptr: Tensor, descending: bool) -> tuple[Tensor, int]:
    if in_dims[1] is not None:
        raise NotImplementedError("under vmap, segments are sorted by one ptr for all: use in_dims=(0, None)")
    many = x.movedim(in_dims[0], -1)  # batches of the same segments are more columns
    out = triton_segment_sort(many.flatten(1), ptr, descending)
    return out.view(many.shape), 2


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
