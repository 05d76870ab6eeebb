# mypy: ignore-errors
# The functions here are written in the language of Triton, which has no types for a checker to know.
"""The GRU operator on pairs of rows of a tree, and launches that combine one level or all lower levels at once.

A program goes over BLOCK_P pairs at a time, and for these over all H columns, BLOCK_H at a time, gathering eight sums
of products, four for each order of the operands, so that each weight it reads serves both orders. ``*_level`` takes
the pairs of one stride. ``*_subtrees`` takes R ranks and every stride up to TOP, one after the other: what is left of
a group is 2 TOP rows at most then, and no other program reads or writes them. No row is written by two programs and
no block size depends on the number of pairs, so the same row has the same bits in any batch and by either launch.
States and sums are float32; the products take their operands in the dtype of the weights.
"""

from __future__ import annotations

try:
    import triton
    import triton.language as tl
except ImportError:  # the module is imported to read its docstrings too, also where nothing of it can run
    triton = tl = None

__all__ = ["fold_level", "fold_subtrees", "unfold_level", "unfold_subtrees"]


def _jit(function):
    """Compile with Triton, once for any number of rows."""
    varying = ["ranks", "length", "first", "skip", "count", "stride"]
    return function if triton is None else triton.jit(function, do_not_specialize=varying)


@_jit
def _operand(address, mask, kind: tl.constexpr, WIDEN: tl.constexpr):
    """Return an operand of a product, rounded to ``kind``."""
    values = tl.load(address, mask=mask, other=0.0).to(kind)
    return values.to(tl.float32) if WIDEN else values


@_jit
def _products(
    a, b, weight, exist, cols, H: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Return the products of reset, update, input new and hidden new of GRU(a, b), then those of GRU(b, a)."""
    kind: tl.constexpr = weight.dtype.element_ty
    reset_ab = tl.zeros((BLOCK_P, BLOCK_H), dtype=tl.float32)
    update_ab = tl.zeros((BLOCK_P, BLOCK_H), dtype=tl.float32)
    input_ab = tl.zeros((BLOCK_P, BLOCK_H), dtype=tl.float32)
    hidden_ab = tl.zeros((BLOCK_P, BLOCK_H), dtype=tl.float32)
    reset_ba = tl.zeros((BLOCK_P, BLOCK_H), dtype=tl.float32)
    update_ba = tl.zeros((BLOCK_P, BLOCK_H), dtype=tl.float32)
    input_ba = tl.zeros((BLOCK_P, BLOCK_H), dtype=tl.float32)
    hidden_ba = tl.zeros((BLOCK_P, BLOCK_H), dtype=tl.float32)
    for start in range(0, H, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        here = exist[:, None] & (k < H)[None, :]
        left = _operand(a + k[None, :], here, kind, WIDEN)
        right = _operand(b + k[None, :], here, kind, WIDEN)
        inside = (k < H)[:, None] & (cols < H)[None, :]
        place = cols[None, :] * H + k[:, None]  # of the transposed weight of one gate
        # The input comes first in either order, so that the operator commutes to the last bit.
        w = _operand(weight + place, inside, kind, WIDEN)
        reset_ab = tl.dot(left, w, reset_ab, input_precision=PRECISION)
        reset_ba = tl.dot(right, w, reset_ba, input_precision=PRECISION)
        w = _operand(weight + 3 * H * H + place, inside, kind, WIDEN)
        reset_ab = tl.dot(right, w, reset_ab, input_precision=PRECISION)
        reset_ba = tl.dot(left, w, reset_ba, input_precision=PRECISION)
        w = _operand(weight + H * H + place, inside, kind, WIDEN)
        update_ab = tl.dot(left, w, update_ab, input_precision=PRECISION)
        update_ba = tl.dot(right, w, update_ba, input_precision=PRECISION)
        w = _operand(weight + 4 * H * H + place, inside, kind, WIDEN)
        update_ab = tl.dot(right, w, update_ab, input_precision=PRECISION)
        update_ba = tl.dot(left, w, update_ba, input_precision=PRECISION)
        w = _operand(weight + 2 * H * H + place, inside, kind, WIDEN)
        input_ab = tl.dot(left, w, input_ab, input_precision=PRECISION)
        input_ba = tl.dot(right, w, input_ba, input_precision=PRECISION)
        w = _operand(weight + 5 * H * H + place, inside, kind, WIDEN)
        hidden_ab = tl.dot(right, w, hidden_ab, input_precision=PRECISION)
        hidden_ba = tl.dot(left, w, hidden_ba, input_precision=PRECISION)
    return reset_ab, update_ab, input_ab, hidden_ab, reset_ba, update_ba, input_ba, hidden_ba


@_jit
def _gates(reset, update, input_new, hidden_new, bias, cols, H: tl.constexpr):
    """Return reset, update, new and the hidden part of new, from the products without biases."""
    inside = cols < H
    reset += tl.load(bias + cols, mask=inside, other=0.0)[None, :]
    update += tl.load(bias + H + cols, mask=inside, other=0.0)[None, :]
    input_new += tl.load(bias + 2 * H + cols, mask=inside, other=0.0)[None, :]
    hidden_new += tl.load(bias + 3 * H + cols, mask=inside, other=0.0)[None, :]
    reset = tl.sigmoid(reset)
    new = 2.0 * tl.sigmoid(2.0 * (input_new + reset * hidden_new)) - 1.0  # the hyperbolic tangent
    return reset, tl.sigmoid(update), new, hidden_new


@_jit
def _fold_pairs(
    tree, lefts, weight, bias, tail, left, exist, first, H: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Combine the rows ``left`` and ``tail`` [P] of the tree; the result takes the place of the left one.

    That is kept in ``lefts``, where the row of a pair is ``tail - first``: the columns of the result that come later
    are made of it, and the backward pass needs it.
    """
    old = tree + left[:, None] * H
    a = lefts + (tail - first)[:, None] * H
    b = tree + tail[:, None] * H
    for start in range(0, H, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)[None, :]
        here = exist[:, None] & (k < H)
        tl.store(a + k, tl.load(old + k, mask=here, other=0.0), mask=here)
    tl.debug_barrier()  # other threads read what these have written
    for start in range(0, H, BLOCK_H):
        cols = start + tl.arange(0, BLOCK_H)
        r1, z1, i1, h1, r2, z2, i2, h2 = _products(
            a, b, weight, exist, cols, H, BLOCK_P, BLOCK_H, BLOCK_K, PRECISION, WIDEN
        )
        r1, z1, n1, h1 = _gates(r1, z1, i1, h1, bias, cols, H)
        r2, z2, n2, h2 = _gates(r2, z2, i2, h2, bias, cols, H)
        mask = exist[:, None] & (cols < H)[None, :]
        given = tl.load(a + cols[None, :], mask=mask, other=0.0)
        other = tl.load(b + cols[None, :], mask=mask, other=0.0)
        y = 0.5 * ((n1 + z1 * (other - n1)) + (n2 + z2 * (given - n2)))
        tl.store(old + cols[None, :], y, mask=mask)


@_jit
def _slopes(grad, reset, update, new, hidden_new, state):
    """Return the gradients before the activations of reset, update, input new and hidden new, and of ``state``."""
    grad = 0.5 * grad  # the mean of the two orders
    through_new = grad * (1.0 - update) * (1.0 - new * new)
    through_reset = through_new * hidden_new * reset * (1.0 - reset)
    through_update = grad * (state - new) * update * (1.0 - update)
    return through_reset, through_update, through_new, through_new * reset, grad * update


@_jit
def _carried(flow, d, weight, mask, exist, cols, H: tl.constexpr, BLOCK_K: tl.constexpr,
             PRECISION: tl.constexpr, WIDEN: tl.constexpr):  # fmt: skip
    """Add to columns of ``flow`` [P, H] what goes through the products: the rows of ``d`` [P, 6H] times the weight."""
    kind: tl.constexpr = weight.dtype.element_ty
    total = tl.load(flow + cols[None, :], mask=mask, other=0.0)
    for start in range(0, 6 * H, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        slope = _operand(d + k[None, :], exist[:, None] & (k < 6 * H)[None, :], kind, WIDEN)
        w = _operand(weight + k[:, None] * H + cols[None, :], (k < 6 * H)[:, None] & (cols < H)[None, :], kind, WIDEN)
        total = tl.dot(slope, w, total, input_precision=PRECISION)
    tl.store(flow + cols[None, :], total, mask=mask)


@_jit
def _unfold_pairs(
    flow, d, tree, lefts, weight, bias, tail, left, exist, row, kept, first, count, H: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Differentiate ``_fold_pairs``, with the gates computed again.

    The row ``left`` of ``flow`` has the gradient of the result, and then that of the left operand; to the row ``tail``
    that of the right operand is added. Written to the rows ``row`` of ``d`` [2, count, 6H] are the gradients of what
    the products give, of the left operand and of the right one: reset, update and new of the input, then of the hidden
    state; 0 in rows that are ``kept`` for pairs that do not exist.
    """
    a = lefts + (tail - first)[:, None] * H
    b = tree + tail[:, None] * H
    of_a = d + row[:, None] * (6 * H)
    of_b = d + (row + count)[:, None] * (6 * H)
    above, below = flow + left[:, None] * H, flow + tail[:, None] * H
    kind: tl.constexpr = d.dtype.element_ty
    for start in range(0, H, BLOCK_H):
        cols = start + tl.arange(0, BLOCK_H)
        r1, z1, i1, h1, r2, z2, i2, h2 = _products(
            a, b, weight, exist, cols, H, BLOCK_P, BLOCK_H, BLOCK_K, PRECISION, WIDEN
        )
        c = cols[None, :]
        mask, stored = exist[:, None] & (c < H), kept[:, None] & (c < H)
        grad = tl.load(above + c, mask=mask, other=0.0)
        r1, z1, n1, h1 = _gates(r1, z1, i1, h1, bias, cols, H)
        reset, update, new, hidden_new, state = _slopes(grad, r1, z1, n1, h1, tl.load(b + c, mask=mask, other=0.0))
        tl.store(of_a + c, reset.to(kind), mask=stored)
        tl.store(of_a + H + c, update.to(kind), mask=stored)
        tl.store(of_a + 2 * H + c, new.to(kind), mask=stored)
        tl.store(of_b + 3 * H + c, reset.to(kind), mask=stored)
        tl.store(of_b + 4 * H + c, update.to(kind), mask=stored)
        tl.store(of_b + 5 * H + c, hidden_new.to(kind), mask=stored)
        tl.store(below + c, state + tl.load(below + c, mask=mask, other=0.0), mask=mask)
        r2, z2, n2, h2 = _gates(r2, z2, i2, h2, bias, cols, H)
        reset, update, new, hidden_new, state = _slopes(grad, r2, z2, n2, h2, tl.load(a + c, mask=mask, other=0.0))
        tl.store(of_b + c, reset.to(kind), mask=stored)
        tl.store(of_b + H + c, update.to(kind), mask=stored)
        tl.store(of_b + 2 * H + c, new.to(kind), mask=stored)
        tl.store(of_a + 3 * H + c, reset.to(kind), mask=stored)
        tl.store(of_a + 4 * H + c, update.to(kind), mask=stored)
        tl.store(of_a + 5 * H + c, hidden_new.to(kind), mask=stored)
        tl.store(above + c, state, mask=mask)
    tl.debug_barrier()
    for start in range(0, H, BLOCK_H):
        cols = start + tl.arange(0, BLOCK_H)
        mask = exist[:, None] & (cols < H)[None, :]
        _carried(above, of_a, weight, mask, exist, cols, H, BLOCK_K, PRECISION, WIDEN)
        _carried(below, of_b, weight, mask, exist, cols, H, BLOCK_K, PRECISION, WIDEN)


@_jit
def _of_level(offsets, position, stride, length, skip, count, BLOCK_P: tl.constexpr):
    """Return rows of right and left operands [P] of a level, which exist, and their place in the part.

    The part begins after ``skip`` pairs and has room for ``count``.
    """
    place = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    tail = tl.load(offsets + stride) + skip + place
    exist = (place < count) & (tail < tl.load(offsets + tl.minimum(2 * stride, length)))
    own = tl.load(position + tail, mask=exist, other=stride)
    rank = tail - tl.load(offsets + own, mask=exist, other=0)
    return tail, tl.load(offsets + own - stride, mask=exist, other=0) + rank, exist, place


@_jit
def _of_ranks(offsets, sizes, stride, done, ranks, R: tl.constexpr, BLOCK_P: tl.constexpr):
    """Return rows of right and left operands [P] of R ranks at one stride, from pair ``done`` on, and which exist.

    The ranks of one position follow each other, then come those of the next one.
    """
    place = done + tl.arange(0, BLOCK_P)
    rank = tl.program_id(0).to(tl.int64) * R + place % R
    own = stride + place // R
    exist = (rank < ranks) & (own < 2 * stride)
    exist = exist & (own < tl.load(sizes + rank, mask=exist, other=0))
    tail = tl.load(offsets + own, mask=exist, other=0) + rank
    return tail, tl.load(offsets + own - stride, mask=exist, other=0) + rank, exist


@_jit
def _pairs_of(sizes, stride, R: tl.constexpr):
    """Return how many pairs R ranks have at one stride at most; sizes never increase."""
    largest = tl.load(sizes + tl.program_id(0).to(tl.int64) * R)
    return tl.minimum(largest - stride, stride).to(tl.int32) * R


@_jit
def fold_level(
    tree, lefts, offsets, position, weight, bias, length, first, count, stride,
    H: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """Combine the pairs of one stride, at most ``count``."""
    tail, left, exist, _ = _of_level(offsets, position, stride, length, 0, count, BLOCK_P)
    _fold_pairs(tree, lefts, weight, bias, tail, left, exist, first, H, BLOCK_P, BLOCK_H, BLOCK_K, PRECISION, WIDEN)


@_jit
def fold_subtrees(
    tree, lefts, offsets, sizes, weight, bias, ranks, first, TOP: tl.constexpr, R: tl.constexpr,
    H: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """Combine the pairs of R ranks at the strides TOP, TOP / 2, ..., 1."""
    stride = TOP
    while stride > 0:
        for done in range(0, _pairs_of(sizes, stride, R), BLOCK_P):
            tail, left, exist = _of_ranks(offsets, sizes, stride, done, ranks, R, BLOCK_P)
            _fold_pairs(
                tree, lefts, weight, bias, tail, left, exist, first, H, BLOCK_P, BLOCK_H, BLOCK_K, PRECISION, WIDEN
            )
        tl.debug_barrier()
        stride = stride // 2


@_jit
def unfold_level(
    flow, d, tree, lefts, offsets, position, weight, bias, length, first, skip, count, stride,
    H: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """Differentiate ``count`` pairs of one stride, after the first ``skip`` ones; pair i has the row i of ``d``."""
    tail, left, exist, place = _of_level(offsets, position, stride, length, skip, count, BLOCK_P)
    _unfold_pairs(
        flow, d, tree, lefts, weight, bias, tail, left, exist, place, place < count, first, count,
        H, BLOCK_P, BLOCK_H, BLOCK_K, PRECISION, WIDEN,
    )  # fmt: skip


@_jit
def unfold_subtrees(
    flow, d, tree, lefts, offsets, sizes, weight, bias, ranks, first, count, TOP: tl.constexpr, R: tl.constexpr,
    H: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """Differentiate the pairs of R ranks at the strides 1, 2, ..., TOP; the rows of ``d`` are those of ``lefts``."""
    stride = 1
    while stride <= TOP:
        for done in range(0, _pairs_of(sizes, stride, R), BLOCK_P):
            tail, left, exist = _of_ranks(offsets, sizes, stride, done, ranks, R, BLOCK_P)
            _unfold_pairs(
                flow, d, tree, lefts, weight, bias, tail, left, exist, tail - first, exist, first, count,
                H, BLOCK_P, BLOCK_H, BLOCK_K, PRECISION, WIDEN,
            )  # fmt: skip
        tl.debug_barrier()
        stride = stride * 2
