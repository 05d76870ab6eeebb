# mypy: ignore-errors
# The functions here are written in the language of Triton, which has no types for a checker to know.
"""The Triton kernels behind ``graphinv.ops._triton``: segments of few rows, chunks of long ones, and their partials.

``op`` is 0 for the sum, 1 for the minimum, 2 for the maximum; ``fill`` is the number that changes nothing in it.
A tile is [segments, rows, columns]. Which rows meet in which order depends on the count of the own segment, the
width and the dtype only: masked places add ``fill``, and no offset enters the shape of a tile.
"""

from __future__ import annotations

try:
    import triton
    import triton.language as tl
except ImportError:  # the module is imported to read its docstrings too, also where nothing of it can run
    triton = tl = None

SUM, MIN, MAX = 0, 1, 2


def _jit(function, names=("num_segments", "num_rows", "windows")):
    """Compile with Triton, once for any values of the arguments in ``names``."""
    fixed = [name for name in names if name in function.__code__.co_varnames]
    return function if triton is None else triton.jit(function, do_not_specialize=fixed)


@_jit
def _join(a, b, op: tl.constexpr):
    """Join two partial results; a NaN in either stays, whatever the hardware does with it."""
    if op == 0:
        return a + b
    if op == 1:
        return tl.where((b < a) | (b != b), b, a)
    return tl.where((b > a) | (b != b), b, a)


@_jit
def _across_rows(acc, op: tl.constexpr, fill: tl.constexpr):
    """Reduce a tile [G, R, B] over its rows: [G, B]."""
    if op == 0:
        if acc.dtype == tl.int32:  # the interpreter of Triton 3.2 widens such a sum unasked, and stores it so
            return tl.sum(acc.to(tl.int64), axis=1).to(tl.int32)
        return tl.sum(acc, axis=1)
    # The hardware's extremes skip NaN, so NaN travels beside them as a flag.
    is_nan = acc != acc
    numbers = tl.where(is_nan, fill, acc).to(acc.dtype)
    least_or_greatest = tl.min(numbers, axis=1) if op == 1 else tl.max(numbers, axis=1)
    some_nan = tl.max(is_nan.to(tl.int32), axis=1) > 0
    if acc.dtype.is_floating():
        return tl.where(some_nan, float("nan"), least_or_greatest).to(acc.dtype)
    return least_or_greatest


@_jit
def _fold(x, start, count, columns, width, op: tl.constexpr, fill: tl.constexpr, r: tl.constexpr):
    """Reduce ``count`` [G] rows of ``x`` from ``start`` [G] on, at ``columns`` [B]: [G, B]; ``fill`` for no rows."""
    g: tl.constexpr = start.shape[0]
    b: tl.constexpr = columns.shape[0]
    acc = tl.full((g, r, b), fill, x.dtype.element_ty)
    row = tl.arange(0, r)[None, :, None]
    column = columns[None, None, :]
    first = x + start[:, None, None] * width + column
    for done in range(0, tl.max(count, axis=0), r):
        taken = (done + row < count[:, None, None]) & (column < width)
        rows = tl.load(first + (done + row).to(tl.int64) * width, mask=taken, other=fill)
        acc = _join(acc, rows, op)
    return _across_rows(acc, op, fill)


@_jit
def short_segments(
    x, ptr, out, num_segments, width,
    op: tl.constexpr, fill: tl.constexpr, chunk: tl.constexpr, g: tl.constexpr, r: tl.constexpr, b: tl.constexpr,
):  # fmt: skip
    """Reduce G segments of at most ``chunk`` rows each at B columns; longer segments are left alone."""
    blocks = tl.cdiv(width, b)
    program = tl.program_id(0)
    segment = (program // blocks).to(tl.int64) * g + tl.arange(0, g)
    columns = (program % blocks) * b + tl.arange(0, b)
    real = segment < num_segments
    start = tl.load(ptr + segment, mask=real, other=0)
    count = tl.load(ptr + segment + 1, mask=real, other=0) - start
    short = real & (count <= chunk)
    count = tl.where(short, count, 0).to(tl.int32)
    result = _fold(x, start, count, columns, width, op, fill, r)
    result = tl.where(count[:, None] > 0, result, 0).to(result.dtype)
    here = short[:, None] & (columns[None, :] < width)
    tl.store(out + segment[:, None] * width + columns[None, :], result, mask=here)


@_jit
def _chunk(place, ptr, index, num_rows, windows, chunk: tl.constexpr):
    """Return the first row and the rows of a chunk of a long segment, 0 where there is none, and its segment's first.

    Chunks count from the start of their segment, windows from row 0; both have ``chunk`` rows. A window holds the
    start of at most one first chunk, kept in its row of the upper half, because a long segment that begins there
    goes on beyond it; and of at most one later chunk, kept in the lower half.
    """
    is_later = place >= windows
    window = tl.where(is_later, place - windows, place)
    # A long segment that begins in the window holds its last row; one that began before holds its first.
    probe = window * chunk + tl.where(is_later, 0, chunk - 1)
    real = probe < num_rows
    segment = tl.load(index + probe, mask=real, other=0)
    begin = tl.load(ptr + segment, mask=real, other=0)
    end = tl.load(ptr + segment + 1, mask=real, other=0)
    number = window - begin // chunk
    start = begin + number * chunk
    here = real & (end - begin > chunk) & (start < end) & ((number > 0) == is_later)
    return start, tl.where(here, tl.minimum(end - start, chunk), 0).to(tl.int32), begin


@_jit
def chunks(
    x, ptr, index, parts, num_rows, windows, width,
    op: tl.constexpr, fill: tl.constexpr, chunk: tl.constexpr, r: tl.constexpr, b: tl.constexpr,
):  # fmt: skip
    """Reduce one chunk of a long segment to one row of ``parts`` [2W, F], at B columns."""
    blocks = tl.cdiv(width, b)
    place = (tl.program_id(0) // blocks).to(tl.int64)
    columns = (tl.program_id(0) % blocks) * b + tl.arange(0, b)
    start, count, _ = _chunk(place, ptr, index, num_rows, windows, chunk)
    if count > 0:
        one = tl.arange(0, 1)
        result = _fold(x, start + one, count + one, columns, width, op, fill, r)
        tl.store(parts + place * width + columns[None, :], result, mask=columns[None, :] < width)


@_jit
def long_segments(
    parts, ptr, index, out, num_rows, windows, width,
    op: tl.constexpr, fill: tl.constexpr, chunk: tl.constexpr, r: tl.constexpr, b: tl.constexpr,
):  # fmt: skip
    """Join the partial rows of the long segment that begins in a window, if one does, at B columns."""
    blocks = tl.cdiv(width, b)
    window = (tl.program_id(0) // blocks).to(tl.int64)
    columns = (tl.program_id(0) % blocks) * b + tl.arange(0, b)
    probe = window * chunk + chunk - 1
    if probe < num_rows:
        segment = tl.load(index + probe)
        begin = tl.load(ptr + segment)
        length = tl.load(ptr + segment + 1) - begin
        if (length > chunk) & (begin // chunk == window):
            one = tl.arange(0, 1)
            later = tl.cdiv(length, chunk).to(tl.int32) - 1
            here = columns[None, :] < width
            head = tl.load(parts + window * width + columns[None, :], mask=here, other=fill)
            rest = _fold(parts, windows + window + 1 + one, later + one, columns, width, op, fill, r)
            tl.store(out + segment * width + columns[None, :], _join(head, rest, op), mask=here)
