# mypy: ignore-errors
# The functions here are written in the language of Triton, which has no types for a checker to know.
"""The Triton kernels that sort the columns of segments; chunks and windows as in ``_triton_kernels``.

Numbers become keys: whole numbers of the same order in the upper half, the place in the segment in the lower half. No
two keys are equal, so that a row's new place is the count of lesser keys, and the sort is stable whatever runs when.
At most ``chunk`` rows are counted outright: they are read from the cache, and no step waits for another. Longer
segments are merged from sorted chunks, ``ways`` runs to one in each launch: a key's place there is its place in its own
run and the count of lesser keys in the others, found by halving. Between the launches the keys of a long segment lie
column by column, so that neighbours in a run are neighbours in memory: they halve along the same addresses.
"""

from __future__ import annotations

from graphinv.ops._triton_kernels import _chunk, tl
from graphinv.ops._triton_kernels import _jit as _jit_for

# Were it known that ``width`` is a multiple of 16, a thread would be given four columns of a few rows; not knowing, it
# is given many rows of one column, and compares each key that it makes with all of them.
_ANY = ("num_segments", "num_rows", "windows", "width")


def _jit(function):
    """Compile with Triton, once for any number of rows, segments and columns."""
    return _jit_for(function, _ANY)


@_jit
def _keys(first, place, stride, taken, descending: tl.constexpr):
    """Return the keys of the numbers ``place`` rows after those at ``first``; where none is taken, none is greater.

    NaN counts as the greatest number, and both zeros are one. Told from the bits, as some hardware takes the smallest
    numbers for zeros.
    """
    number = tl.load(first + place * stride, mask=taken, other=0)
    if number.dtype.is_floating():
        if number.dtype == tl.bfloat16:
            bits = number.to(tl.int16, bitcast=True).to(tl.int32) << 16
        else:
            bits = number.to(tl.float32).to(tl.int32, bitcast=True)
        size = bits & 0x7FFFFFFF  # at most 0x7F800000, infinity, unless it is NaN
        order = tl.where((bits < 0) & (size <= 0x7F800000), -size, tl.minimum(size, 0x7F800001))
    else:
        order = number.to(tl.int32)
    if descending:
        order = -1 - order
    return tl.where(taken, (order.to(tl.int64) << 32) | place, 0x7FFFFFFFFFFFFFFF)


@_jit
def short_sort(
    x, ptr, out, num_segments, width,
    descending: tl.constexpr, chunk: tl.constexpr, g: tl.constexpr, r: tl.constexpr, b: tl.constexpr,
):  # fmt: skip
    """Write the old rows of G segments of at most ``chunk`` rows each at B columns; longer ones are left alone."""
    blocks = tl.cdiv(width, b)
    segment = (tl.program_id(0) // blocks).to(tl.int64) * g + tl.arange(0, g)
    column = ((tl.program_id(0) % blocks) * b + tl.arange(0, b))[None, None, :]
    real = segment < num_segments
    first = tl.load(ptr + segment, mask=real, other=0)
    count = tl.load(ptr + segment + 1, mask=real, other=0) - first
    count = tl.where(count <= chunk, count, 0).to(tl.int32)
    most = tl.max(count, axis=0)
    begin = first[:, None, None]
    count = count[:, None, None]
    here = column < width
    top = x + begin * width + column
    stride = width.to(tl.int64)
    for done in range(0, most, r):
        place = done + tl.arange(0, r)[None, :, None]
        taken = (place < count) & here
        own = _keys(top, place, stride, taken, descending)
        rank = tl.zeros((g, r, b), tl.int32)
        for other in range(0, most):
            rank += (_keys(top, other, stride, (other < count) & here, descending) < own).to(tl.int32)
        tl.store(out + (begin + rank) * width + column, begin + place + tl.zeros((g, r, b), tl.int64), mask=taken)


@_jit
def _turns(run, length, ways: tl.constexpr):
    """Return how often runs are joined until one of them is the whole segment."""
    turns = 0
    while length > run:
        length = (length + (ways - 1)) // ways
        turns += 1
    return turns


@_jit
def _sort_chunk(
    x, target, start, count, begin, length, column, width,
    descending: tl.constexpr, chunk: tl.constexpr, b: tl.constexpr,
):  # fmt: skip
    """Write the keys of a chunk, at columns [1, B], in order to their columns of the segment in ``target``."""
    ahead = start - begin
    here = column < width
    top = x + begin * width + column
    place = tl.arange(0, chunk)[:, None]
    taken = (place < count) & here
    own = _keys(top, ahead + place, width, taken, descending)
    rank = tl.zeros((chunk, b), tl.int32)
    for other in range(0, count):
        rank += (_keys(top, ahead + other, width, here, descending) < own).to(tl.int32)
    tl.store(target + begin * width + column * length + ahead + rank, own, mask=taken)


@_jit
def sort_chunks(
    x, ptr, index, longest, out, spare, num_rows, windows, width,
    descending: tl.constexpr, chunk: tl.constexpr, ways: tl.constexpr, b: tl.constexpr,
):  # fmt: skip
    """Sort the keys of the chunks of long segments, into that of ``out`` and ``spare`` whose last turn ends in ``out``.

    A program takes one chunk at B columns after the other; where no segment is long, it reads nothing else.
    """
    if tl.load(longest) > chunk:
        blocks = tl.cdiv(width, b)
        for task in range(tl.program_id(0), 2 * windows * blocks, tl.num_programs(0)):
            column = ((task % blocks) * b + tl.arange(0, b))[None, :]
            window = (task // blocks).to(tl.int64)
            start, count, begin = _chunk(window, ptr, index, num_rows, windows, chunk)
            if count > 0:
                length = tl.load(ptr + tl.load(index + start) + 1) - begin
                if _turns(chunk, length, ways) % 2 == 1:
                    target = spare
                else:
                    target = out
                _sort_chunk(x, target, start, count, begin, length, column, width, descending, chunk, b)


@_jit
def _lesser(keys, size, key, taken):
    """Return how many of the ``size`` sorted keys from each address of ``keys`` on are less than ``key``."""
    low = tl.zeros(key.shape, tl.int32)
    while size > 0:
        half = (size + 1) // 2
        seen = tl.load(keys + (low + (half - 1)), mask=taken, other=0)
        low = tl.where(seen < key, low + half, low)
        size -= half
    return low


@_jit
def _merge_chunk(
    out, spare, start, count, begin, length, run, column, width,
    chunk: tl.constexpr, ways: tl.constexpr, b: tl.constexpr,
):  # fmt: skip
    """Move the keys of a chunk, at columns [B, 1], to their places among those of ``ways`` runs; rows in the end."""
    turns = _turns(run, length, ways)
    if turns > 0:
        if turns % 2 == 1:
            source, target = spare, out
        else:
            source, target = out, spare
        place = tl.arange(0, chunk)[None, :]
        taken = (place < count) & (column < width)
        line = begin * width + column * length
        ahead = start - begin
        key = tl.load(source + line + ahead + place, mask=taken, other=0)
        number = (ahead // run).to(tl.int32)  # of the own run
        row = number // ways * ways * run + ahead % run + place + tl.zeros((b, chunk), tl.int64)
        for turn in tl.static_range(1, ways):
            other = (number ^ turn).to(tl.int64) * run  # where another run of the same ``ways`` begins
            size = tl.minimum(tl.maximum(length - other, 0), run).to(tl.int32)
            row += _lesser(source + line + other, size, key, taken)
        if turns == 1:
            tl.store(out + (begin + row) * width + column, begin + (key & 0xFFFFFFFF), mask=taken)
        else:
            tl.store(target + line + row, key, mask=taken)


@_jit
def merge_runs(
    ptr, index, longest, out, spare, num_rows, windows, width, run,
    chunk: tl.constexpr, ways: tl.constexpr, b: tl.constexpr,
):  # fmt: skip
    """Join runs of ``run`` rows of the long segments by ``ways``; the last turn of each writes its old rows to ``out``.

    A program takes one chunk at B columns after the other; where no segment is longer than a run, it reads nothing
    else. Every key is read and written once, and compared with about log2(run) keys of each of the other runs.
    """
    if tl.load(longest) > run:
        blocks = tl.cdiv(width, b)
        for task in range(tl.program_id(0), 2 * windows * blocks, tl.num_programs(0)):
            column = ((task % blocks) * b + tl.arange(0, b))[:, None]
            window = (task // blocks).to(tl.int64)
            start, count, begin = _chunk(window, ptr, index, num_rows, windows, chunk)
            if count > 0:
                length = tl.load(ptr + tl.load(index + start) + 1) - begin
                _merge_chunk(out, spare, start, count, begin, length, run, column, width, chunk, ways, b)
