# mypy: ignore-errors
# The functions here are written in the language of Triton, which has no types for a checker to know.
"""One level of a tree of GRU operators as one launch: the products, the gates and the mean, nothing stored between.

A program owns BLOCK_P pairs and BLOCK_H columns of the hidden state. It goes once over the H columns of both operands
and gathers eight sums of products, four for each order of the operands, so that each weight it reads serves both
orders. Rows are [*, H] and contiguous; column blocks lie along the second axis of the grid. Nothing is added by two
programs, and no block size depends on the number of pairs: the same row has the same bits in any batch. States and
sums are float32; the products take their operands in the dtype of the weights.
"""

from __future__ import annotations

try:
    import triton
    import triton.language as tl
except ImportError:  # the module is imported to read its docstrings too, also where nothing of it can run
    triton = tl = None

__all__ = ["fold_level", "unfold_level"]


def _jit(function):
    """Compile with Triton, once for any number of pairs."""
    return function if triton is None else triton.jit(function, do_not_specialize=["pairs"])


@_jit
def _rows(start, pairs, BLOCK_P: tl.constexpr):
    rows = start.to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)  # rows times columns may not fit into 32 bits
    return rows, rows < pairs


@_jit
def _operand(address, mask, kind: tl.constexpr, WIDEN: tl.constexpr):
    """Return an operand of a product, rounded to ``kind``."""
    values = tl.load(address, mask=mask, other=0.0).to(kind)
    return values.to(tl.float32) if WIDEN else values


@_jit
def _products(
    a, b, weight, rows, exist, cols, H: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_H: tl.constexpr,
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
        left = _operand(a + rows[:, None] * H + k[None, :], here, kind, WIDEN)
        right = _operand(b + rows[:, None] * H + k[None, :], here, kind, WIDEN)
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
def fold_level(
    tree, a, b, left, weight, bias, pairs, H: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Combine the rows of ``a`` and ``b`` [P, H]; write the result of pair p to the row ``left[p]`` of the tree.

    ``a`` is a copy: programs of other columns still read it when a row of the tree is written.
    """
    rows, exist = _rows(tl.program_id(0), pairs, BLOCK_P)
    cols = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    r1, z1, i1, h1, r2, z2, i2, h2 = _products(
        a, b, weight, rows, exist, cols, H, BLOCK_P, BLOCK_H, BLOCK_K, PRECISION, WIDEN
    )
    r1, z1, n1, h1 = _gates(r1, z1, i1, h1, bias, cols, H)
    r2, z2, n2, h2 = _gates(r2, z2, i2, h2, bias, cols, H)
    mask = exist[:, None] & (cols < H)[None, :]
    own = rows[:, None] * H + cols[None, :]
    first = tl.load(a + own, mask=mask, other=0.0)
    second = tl.load(b + own, mask=mask, other=0.0)
    y = 0.5 * ((n1 + z1 * (second - n1)) + (n2 + z2 * (first - n2)))
    place = tl.load(left + rows, mask=exist, other=0)
    tl.store(tree + place[:, None] * H + cols[None, :], y, mask=mask)


@_jit
def _slopes(grad, reset, update, new, hidden_new, state):
    """Return the gradients before the activations of reset, update, input new and hidden new, and of ``state``."""
    grad = 0.5 * grad  # the mean of the two orders
    through_new = grad * (1.0 - update) * (1.0 - new * new)
    through_reset = through_new * hidden_new * reset * (1.0 - reset)
    through_update = grad * (state - new) * update * (1.0 - update)
    return through_reset, through_update, through_new, through_new * reset, grad * update


@_jit
def unfold_level(
    flow, direct, d, a, b, left, flow_b, weight, bias, pairs, H: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Differentiate ``fold_level`` except for the products, with the gates computed again.

    Reads the gradient of pair p at the row ``left[p]`` of ``flow``. Writes to ``d`` [2P, 6H] the gradients of what the
    products give, those of ``a`` first: reset, update and new of the input, then of the hidden state. What does not
    go through the products is written to ``direct`` [P, H] for ``a`` and added to ``flow_b`` [P, H] for ``b``.
    """
    rows, exist = _rows(tl.program_id(0), pairs, BLOCK_P)
    cols = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    r1, z1, i1, h1, r2, z2, i2, h2 = _products(
        a, b, weight, rows, exist, cols, H, BLOCK_P, BLOCK_H, BLOCK_K, PRECISION, WIDEN
    )
    mask = exist[:, None] & (cols < H)[None, :]
    own = rows[:, None] * H + cols[None, :]
    place = tl.load(left + rows, mask=exist, other=0)
    grad = tl.load(flow + place[:, None] * H + cols[None, :], mask=mask, other=0.0)
    kind = d.dtype.element_ty
    of_a = d + rows[:, None] * (6 * H) + cols[None, :]
    of_b = d + (rows + pairs)[:, None] * (6 * H) + cols[None, :]

    r1, z1, n1, h1 = _gates(r1, z1, i1, h1, bias, cols, H)
    reset, update, new, hidden_new, state = _slopes(grad, r1, z1, n1, h1, tl.load(b + own, mask=mask, other=0.0))
    tl.store(of_a, reset.to(kind), mask=mask)
    tl.store(of_a + H, update.to(kind), mask=mask)
    tl.store(of_a + 2 * H, new.to(kind), mask=mask)
    tl.store(of_b + 3 * H, reset.to(kind), mask=mask)
    tl.store(of_b + 4 * H, update.to(kind), mask=mask)
    tl.store(of_b + 5 * H, hidden_new.to(kind), mask=mask)
    state += tl.load(flow_b + own, mask=mask, other=0.0)
    tl.store(flow_b + own, state, mask=mask)

    r2, z2, n2, h2 = _gates(r2, z2, i2, h2, bias, cols, H)
    reset, update, new, hidden_new, state = _slopes(grad, r2, z2, n2, h2, tl.load(a + own, mask=mask, other=0.0))
    tl.store(of_b, reset.to(kind), mask=mask)
    tl.store(of_b + H, update.to(kind), mask=mask)
    tl.store(of_b + 2 * H, new.to(kind), mask=mask)
    tl.store(of_a + 3 * H, reset.to(kind), mask=mask)
    tl.store(of_a + 4 * H, update.to(kind), mask=mask)
    tl.store(of_a + 5 * H, hidden_new.to(kind), mask=mask)
    tl.store(direct + own, state, mask=mask)
