"""The packed layout and the tree with shapes that follow from N, G and the largest allowed group alone.

For ``torch.compile`` without a graph break and for accelerators without a read back to the host. What is exact in
``Packed`` is an upper bound here: surplus pairs work on a copy of the first row and are dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from graphinv.aggr.layout import GroupLayout, bit_reversed
from graphinv.ops.pointer import repeat

__all__ = ["StaticPacked", "fold_static", "longest", "pack_static", "powers_below", "wants_static"]


@dataclass(frozen=True, eq=False)
class StaticPacked:
    """As ``Packed``, with ``sizes`` [G] of each rank and bounds in place of counts; a rank may be of an empty group.

    Attributes:
        perm: [N] place among the rows group after group of each packed row.
        position: [N] place within its group of each packed row.
        groups: [G] the group of each rank.
        sizes: [G] rows of each rank, never increasing.
        offsets: [L + 1] packed place where each position begins, L the largest group allowed.
    """

    perm: Tensor
    position: Tensor
    groups: Tensor
    sizes: Tensor
    offsets: Tensor

    def rows_between(self, first: int, last: int, bound: int) -> tuple[Tensor, Tensor]:
        """Return the packed places of positions first .. last - 1, [bound], and which exist; others are N."""
        places = self.offsets[first] + torch.arange(bound, device=self.perm.device)
        exists = places < self.offsets[last]
        return torch.where(exists, places, self.perm.shape[0]), exists


def wants_static(layout: GroupLayout) -> bool:
    """Return whether shapes must not depend on the values of the layout."""
    return torch.compiler.is_compiling() or (layout.device.type != "cpu" and layout.max_num_elements is not None)


def longest(layout: GroupLayout) -> int:
    """Return the largest group that is allowed."""
    bound = layout.num_rows if layout.max_num_elements is None else layout.max_num_elements
    return min(bound, layout.num_rows)


def powers_below(length: int) -> list[int]:
    """Return 1, 2, 4, ... below ``length``; by comparisons alone, so that one trace serves lengths that agree in it."""
    powers: list[int] = []
    while 1 << len(powers) < length:
        powers.append(1 << len(powers))
    return powers


def pack_static(layout: GroupLayout, pairing: str) -> StaticPacked:
    """Build the plan without reading any value of the layout."""
    device, length = layout.device, longest(layout)
    counts = layout.counts
    sizes, groups = torch.sort(counts, descending=True, stable=True)
    batch_sizes = counts.shape[0] - torch.searchsorted(sizes.flip(0), torch.arange(length, device=device), right=True)
    offsets = torch.cat([batch_sizes.new_zeros(1), batch_sizes.cumsum(0)])
    position = repeat(batch_sizes, layout.num_rows)
    rank = torch.arange(layout.num_rows, device=device) - offsets[position]
    start = layout.ptr[groups][rank]
    element = position
    if pairing == "neighbours":
        element = bit_reversed(counts, layout.num_rows, len(powers_below(length)))[start + position]
    return StaticPacked(start + element, position, groups, sizes, offsets)


def fold_static(x: Tensor, plan: StaticPacked, length: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Fold packed rows ``x`` [N, *], N > 0; return [N, *]: place r < G the result of rank r, then right operands."""
    num_rows, num_groups = x.shape[0], plan.groups.shape[0]
    table = torch.cat([x, x[:1]])  # the last row is what surplus pairs read and write
    position = torch.cat([plan.position, plan.position.new_zeros(1)])
    for stride in reversed(powers_below(length)):
        # A group with a pair here has at least as many rows below the stride as above: at most N / 2 pairs.
        above = min(stride, length - stride)
        tail, exists = plan.rows_between(stride, min(2 * stride, length), min(num_rows // 2, num_groups * above))
        below = position[tail] - stride
        left = tail - plan.offsets[position[tail]] + plan.offsets[below.clamp(min=0)]
        left = torch.where(exists, left, num_rows)
        out = combine(table.index_select(0, left), table.index_select(0, tail))
        table = table.index_copy(0, left, torch.where(exists.view(-1, *[1] * (x.dim() - 1)), out, table[num_rows]))
    return table[:num_rows]
