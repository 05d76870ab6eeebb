"""Fold a learnable or any other associative operation over the rows of each segment, as a balanced tree.

Level by level the neighbours 2i and 2i + 1 of a segment are combined, all segments at once, order kept; a
last row without a neighbour waits. A segment of n rows costs n - 1 combined rows in ceil(log2 n) levels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops.pointer import check_ptr, repeat

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
    tree = _Tree(ptr)
    rows = x
    while tree.pairs:
        left, right, single = tree.level()
        combined = combine(rows.index_select(0, left), rows.index_select(0, right))
        expected = [left.numel(), *x.shape[1:]]
        if list(combined.shape) != expected:
            raise InputError(f"combine must keep the shape {expected}, but returned {list(combined.shape)}")
        rows = torch.cat([combined, rows.index_select(0, single)])
    full = (tree.count > 0).view(-1, *[1] * identity.dim())
    return torch.where(full, rows.index_select(0, tree.roots()), identity)


class _Tree:
    """Where the rows of each segment lie between levels: all that were combined, then the single ones."""

    def __init__(self, ptr: Tensor) -> None:
        self.count = ptr.diff()  # [S] rows left per segment
        self._sizes = self.count.cpu()  # the one read from an accelerator: it fixes the size of every level
        self._head, self._head_start = self.count, ptr[:-1]  # [S] results per segment and where they begin
        self._tail_start = ptr[:-1]  # [S] where the single row is

    @property
    def pairs(self) -> int:
        """Number of rows the next level combines."""
        return int((self._sizes // 2).sum())

    def level(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the places of the left, right and single rows of this level, and go to the next."""
        num_pairs, num_single = self.pairs, int((self._sizes % 2).sum())
        half, odd = self.count // 2, self.count % 2
        half_start, odd_start = half.cumsum(0) - half, odd.cumsum(0) - odd
        segment = repeat(half, num_pairs)
        position = 2 * (torch.arange(num_pairs, device=half.device) - half_start[segment])
        alone = repeat(odd, num_single)
        places = (
            self._place(segment, position),
            self._place(segment, position + 1),
            self._place(alone, self.count[alone] - 1),
        )
        self.count, self._sizes = half + odd, self._sizes // 2 + self._sizes % 2
        self._head, self._head_start, self._tail_start = half, half_start, num_pairs + odd_start
        return places

    def roots(self) -> Tensor:
        """Return the place of the one row left of each segment, [S]; of an empty one, any place."""
        segment = torch.arange(self.count.numel(), device=self.count.device)
        return self._place(segment, torch.zeros_like(segment)) * (self.count > 0)

    def _place(self, segment: Tensor, position: Tensor) -> Tensor:
        head = self._head_start[segment] + position
        return torch.where(position < self._head[segment], head, self._tail_start[segment])
