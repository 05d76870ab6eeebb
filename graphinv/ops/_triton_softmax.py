# mypy: ignore-errors
# The functions here are written in the language of Triton, which has no types for a checker to know.
"""The Triton kernels of the softmax of segments; tiles, chunks and windows as in ``_triton_kernels``.

A segment is told by its greatest number and the sum of the exponentials below it, taken in one pass: when a greater
number comes, the sum so far shrinks with it. The second pass divides; the rows of a short segment are still in the
cache then.
"""

from __future__ import annotations

from graphinv.ops._triton_kernels import _across_rows, _chunk, _jit, _join, tl


@_jit
def _shift(greatest):
    """Return what to take from the exponents: 0 where there are no numbers above -inf."""
    return tl.where(greatest == float("-inf"), 0.0, greatest).to(greatest.dtype)


@_jit
def _told(x, start, count, columns, width, r: tl.constexpr):
    """Return greatest number and sum of exponentials of ``count`` [G] rows from ``start`` [G] on: [G, B] each."""
    g: tl.constexpr = start.shape[0]
    b: tl.constexpr = columns.shape[0]
    greatest = tl.full((g, r, b), float("-inf"), x.dtype.element_ty)
    total = tl.zeros((g, r, b), x.dtype.element_ty)
    row = tl.arange(0, r)[None, :, None]
    column = columns[None, None, :]
    first = x + start[:, None, None] * width + column
    for done in range(0, tl.max(count, axis=0), r):
        taken = (done + row < count[:, None, None]) & (column < width)
        rows = tl.load(first + (done + row).to(tl.int64) * width, mask=taken, other=float("-inf"))
        before, greatest = greatest, _join(greatest, rows, 2)
        shift = _shift(greatest)
        total = total * tl.exp(before - shift) + tl.exp(rows - shift)
    top = _across_rows(greatest, 2, float("-inf"))
    return top, tl.sum(total * tl.exp(greatest - _shift(top)[:, None, :]), axis=1)


@_jit
def _divide(x, out, start, count, columns, width, greatest, total, r: tl.constexpr):
    """Write exp(x - greatest) / total to the rows."""
    row = tl.arange(0, r)[None, :, None]
    column = columns[None, None, :]
    offset = start[:, None, None] * width + column
    shift, scale = _shift(greatest)[:, None, :], total[:, None, :]
    for done in range(0, tl.max(count, axis=0), r):
        taken = (done + row < count[:, None, None]) & (column < width)
        place = offset + (done + row).to(tl.int64) * width
        rows = tl.load(x + place, mask=taken, other=float("-inf"))
        tl.store(out + place, tl.exp(rows - shift) / scale, mask=taken)


@_jit
def short_softmax(
    x, ptr, out, num_segments, width, chunk: tl.constexpr, g: tl.constexpr, r: tl.constexpr, b: tl.constexpr
):
    """Normalise G segments of at most ``chunk`` rows each at B columns; longer segments are left alone."""
    blocks = tl.cdiv(width, b)
    segment = (tl.program_id(0) // blocks).to(tl.int64) * g + tl.arange(0, g)
    columns = (tl.program_id(0) % blocks) * b + tl.arange(0, b)
    real = segment < num_segments
    start = tl.load(ptr + segment, mask=real, other=0)
    count = tl.load(ptr + segment + 1, mask=real, other=0) - start
    count = tl.where(count <= chunk, count, 0).to(tl.int32)
    greatest, total = _told(x, start, count, columns, width, r)
    _divide(x, out, start, count, columns, width, greatest, total, r)


@_jit
def tell_chunks(
    x, ptr, index, parts, totals, num_rows, windows, width,
    chunk: tl.constexpr, r: tl.constexpr, b: tl.constexpr,
):  # fmt: skip
    """Write what tells one chunk of a long segment to a row of ``parts`` and of ``totals`` [2W, F], at B columns."""
    blocks = tl.cdiv(width, b)
    place = (tl.program_id(0) // blocks).to(tl.int64)
    columns = (tl.program_id(0) % blocks) * b + tl.arange(0, b)
    start, count, _ = _chunk(place, ptr, index, num_rows, windows, chunk)
    if count > 0:
        one = tl.arange(0, 1)
        greatest, total = _told(x, start + one, count + one, columns, width, r)
        here = columns[None, :] < width
        tl.store(parts + place * width + columns[None, :], greatest, mask=here)
        tl.store(totals + place * width + columns[None, :], total, mask=here)


@_jit
def tell_segments(
    parts, totals, ptr, index, num_rows, windows, width, chunk: tl.constexpr, r: tl.constexpr, b: tl.constexpr
):
    """Join the rows of the chunks of a long segment into that of its first one, at B columns."""
    blocks = tl.cdiv(width, b)
    window = (tl.program_id(0) // blocks).to(tl.int64)
    columns = (tl.program_id(0) % blocks) * b + tl.arange(0, b)
    start, count, _ = _chunk(window, ptr, index, num_rows, windows, chunk)
    if count > 0:
        segment = tl.load(index + start)
        later = tl.cdiv(tl.load(ptr + segment + 1) - start, chunk).to(tl.int32) - 1
        here = columns < width
        greatest = tl.load(parts + window * width + columns, mask=here, other=float("-inf"))
        total = tl.load(totals + window * width + columns, mask=here, other=0.0)
        row = tl.arange(0, r)[:, None]
        rest = (windows + window + 1) * width + columns[None, :]
        for done in range(0, later, r):
            taken = (done + row < later) & here[None, :]
            place = rest + (done + row).to(tl.int64) * width
            tops = tl.load(parts + place, mask=taken, other=float("-inf"))
            before = greatest
            greatest = _join(before, _across_rows(tops[None, :, :], 2, float("-inf")).reshape(b), 2)
            shift = _shift(greatest)
            sums = tl.load(totals + place, mask=taken, other=0.0)
            total = total * tl.exp(before - shift) + tl.sum(sums * tl.exp(tops - shift[None, :]), axis=0)
        tl.store(parts + window * width + columns, greatest, mask=here)
        tl.store(totals + window * width + columns, total, mask=here)


@_jit
def divide_chunks(
    x, ptr, index, parts, totals, out, num_rows, windows, width,
    chunk: tl.constexpr, r: tl.constexpr, b: tl.constexpr,
):  # fmt: skip
    """Normalise one chunk of a long segment, at B columns."""
    blocks = tl.cdiv(width, b)
    place = (tl.program_id(0) // blocks).to(tl.int64)
    columns = (tl.program_id(0) % blocks) * b + tl.arange(0, b)
    start, count, begin = _chunk(place, ptr, index, num_rows, windows, chunk)
    if count > 0:
        one = tl.arange(0, 1)
        told = (begin // chunk) * width + columns[None, :]
        here = columns[None, :] < width
        greatest = tl.load(parts + told, mask=here, other=0.0)
        total = tl.load(totals + told, mask=here, other=1.0)
        _divide(x, out, start + one, count + one, columns, width, greatest, total, r)
