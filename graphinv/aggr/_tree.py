"""Fold an operator with kernels of its own over every group at once, forward and backward by hand.

The tree is that of ``graphinv.ops.tree``, climbed in place: right operands are one slice of the packed rows and are
never written again, so they are at once what the backward pass needs; only left operands are saved besides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from graphinv.aggr._kernels import GRUKernel, Kernel, Work
from graphinv.aggr._order import is_transformed
from graphinv.ops.backend import runs_triton
from graphinv.ops.tree import Packed

__all__ = ["aliases", "fold_kernel", "fold_on_triton"]

_TILE_ELEMENTS = 49152  # of one operand on a CPU: a tile with its gates stays in the cache


def fold_on_triton(kernel: type[Kernel] | None, x: Tensor) -> Callable[..., Tensor] | None:
    """Return the fold of packed rows like ``x`` that the backend in use has for ``kernel``, or None."""
    # The matrix units that Triton writes for know no float64.
    if kernel is not GRUKernel or x.dtype != torch.float32 or not runs_triton(x) or is_transformed():
        return None
    from graphinv.aggr._triton_gru import fold_gru

    return fold_gru


def fold_kernel(
    x: Tensor,
    rows: Tensor,
    plan: Packed,
    nodes: Tensor,
    kernel: type[Kernel],
    keep: bool,
    weights: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor]:
    """Fold the rows of ``x`` [N, H] with a hand-written kernel.

    Args:
        x: rows in the order of the input.
        rows: [N] row of ``x`` at each packed place.
        plan: of the packed rows.
        nodes: [S] packed places whose value in the tree is wanted too.
        kernel: the operator.
        keep: keep the gates for the backward pass instead of computing them again.
        weights: of the operator, in the dtype of ``x``.

    Returns:
        [K, H] the result of each rank, and [S, H] the values of ``nodes``.
    """
    tracked = torch.is_grad_enabled()
    out, values = _Fold.apply(x, rows, plan, nodes, kernel, keep, tracked, *weights)  # type: ignore[no-untyped-call]
    return out, values


class _Fold(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        rows: Tensor,
        plan: Packed,
        nodes: Tensor,
        kernel: type[Kernel],
        keep: bool,
        tracked: bool,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        tree = x.index_select(0, rows)
        ranks = plan.groups.shape[0]
        needed = tracked and any(ctx.needs_input_grad)  # the latter says nothing about torch.no_grad
        lefts = x.new_empty(x.shape[0] - ranks if needed else 0, x.shape[1])
        op, work = kernel(*(w.detach() for w in weights)), Work(x)
        kept = []
        for tile in plan.tiles(_tile_rows(x)):
            saved = lefts[tile.begin - ranks : tile.end - ranks] if needed else None
            kept.append(op.fold(tree, tile, saved, work, keep and needed))
        flat = [t for gates in kept for t in gates]
        # All through save_for_backward, which lets go of everything as soon as the backward pass is done.
        ctx.save_for_backward(x, rows, nodes, tree, lefts, *weights, *flat)
        ctx.plan, ctx.kernel, ctx.num_weights = plan, kernel, len(weights)
        return tree[:ranks].clone(), tree.index_select(0, nodes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_nodes: Tensor) -> tuple[Tensor | None, ...]:
        # create_graph=True, where the gradient itself will be differentiated, or a vmapped gradient.
        if torch.is_grad_enabled() or is_transformed():
            gradients = _plain_gradients(ctx, grad, grad_nodes)
        else:
            gradients = _backward(ctx, grad, grad_nodes)
        return (gradients[0], None, None, None, None, None, None, *gradients[1:])


def _backward(ctx: Any, grad: Tensor, grad_nodes: Tensor) -> tuple[Tensor | None, ...]:
    x, rows, nodes, tree, lefts, *others = ctx.saved_tensors
    weights, flat = others[: ctx.num_weights], others[ctx.num_weights :]
    ranks = grad.shape[0]
    op, work = ctx.kernel(*(w.detach() for w in weights)), Work(x)
    flow = torch.zeros_like(tree)  # gradient of the value each packed place has at this point of the tree
    flow[:ranks] = grad
    if nodes.shape[0]:
        flow.index_add_(0, nodes, grad_nodes)
    tiles = ctx.plan.tiles(_tile_rows(x))
    gates = len(flat) // max(len(tiles), 1)  # kept per tile; none if they are computed again
    for place, tile in reversed(list(enumerate(tiles))):
        kept = flat[place * gates : (place + 1) * gates]
        op.unfold(flow, tree, tile, lefts[tile.begin - ranks : tile.end - ranks], work, kept)
    grad_x = torch.empty_like(flow).index_copy_(0, rows, flow) if ctx.needs_input_grad[0] else None
    return (grad_x, *op.weight_gradients())


def _plain_gradients(ctx: Any, grad: Tensor, grad_nodes: Tensor) -> tuple[Tensor | None, ...]:
    _, rows, nodes, _, _, *_ = ctx.saved_tensors
    x, *weights = aliases(ctx.saved_tensors[0], *ctx.saved_tensors[5 : 5 + ctx.num_weights])
    inputs = [t for t in (x, *weights) if t.requires_grad]
    with torch.enable_grad():
        table = ctx.plan.table(x.index_select(0, rows), lambda a, b: ctx.kernel.plain(a, b, *weights))
        outputs = [table[: grad.shape[0]], table.index_select(0, nodes)]
    slopes = iter(torch.autograd.grad(outputs, inputs, [grad, grad_nodes], create_graph=torch.is_grad_enabled()))
    return tuple(next(slopes) if t.requires_grad else None for t in (x, *weights))


def aliases(*tensors: Tensor) -> list[Tensor]:
    """Return the same tensors as inputs of their own: what leads from one to another does not count as a path."""
    with torch.enable_grad():
        return [t.view_as(t) for t in tensors]


def _tile_rows(x: Tensor) -> int:
    if x.device.type != "cpu":
        return max(x.shape[0], 1)
    return max(64, _TILE_ELEMENTS // x.shape[1])
