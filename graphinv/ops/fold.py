"""Fold a learnable or any other associative operation over the rows of each segment, as a balanced tree.

A segment of n rows costs n - 1 combined rows in ceil(log2 n) levels, all segments at once, order kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops.pointer import check_ptr
from graphinv.ops.tree import adjacent_tree

__all__ = ["segment_fold"]


def segment_fold(x: Tensor, ptr: Tensor, combine: Callable[[Tensor, Tensor], Tensor], identity: Tensor) -> Tensor:
    """Fold ``combine`` over the rows of each segment: ``x`` [N, *] to [S, *].

    ``combine`` must be associative, no more: order is kept, nothing is padded, it never sees the identity. It
    is called once per level, ceil(log2 of the longest segment) times, with N - (number of non-empty segments)
    rows in all, and gradients flow through it. If it is not quite associative, the tree decides the result:
    ((a b) (c d)) e.

    Args:
        x: [N, *] rows.
        ptr: [S+1] int64 offsets from 0 to N, never decreasing (values are checked on the CPU only).
        combine: (left [P, *], right [P, *]) -> [P, *].
        identity: [*], the result of an empty segment.

    Raises:
        InputError: ``ptr`` does not divide ``x``; ``identity`` or what ``combine`` returns has a wrong shape.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0]])
        >>> segment_fold(x, torch.tensor([0, 3, 3]), torch.mul, torch.ones(1)).tolist()
        [[6.0], [1.0]]
    """
    if x.dim() == 0 or identity.shape != x.shape[1:]:
        raise InputError(
            f"identity must have the shape of one row of x, {list(x.shape[1:])}, got {list(identity.shape)}"
        )
    check_ptr(ptr, x.shape[0])
    num_segments = ptr.numel() - 1
    if x.shape[0] == 0:
        return identity.expand(num_segments, *identity.shape).clone()
    tree = adjacent_tree(ptr)

    def same_shape(left: Tensor, right: Tensor) -> Tensor:
        out = combine(left, right)
        if out.shape != left.shape:
            raise InputError(f"combine must keep the shape {list(left.shape)}, but returned {list(out.shape)}")
        return out

    results = tree.fold(x.index_select(0, tree.perm), same_shape)
    dtype = torch.promote_types(results.dtype, identity.dtype)
    return tree.spread(results.to(dtype), num_segments, identity.to(dtype))
