"""The balanced tree under every fold of segments: which rows meet in which level, and the levels from first to last.

Rows lie so that the right operands of a level are one slice, the last one of those that are left; nothing is padded,
and K segments of N rows in all cost N - K operator rows. Two trees do so. ``adjacent_tree`` combines the neighbours
2i and 2i + 1 and keeps the order of the rows. ``pack`` puts rows position by position and combines position p with
p + h, the longest stride h first, which needs a commutative operator and also serves networks that read a position at
a time. ``pack_static`` is the latter in shapes that no value of the offsets enters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graphinv.ops.pointer import repeat

__all__ = ["Combine", "Packed", "StaticPacked", "Tile", "Tree", "adjacent_tree", "pack", "pack_static", "powers_below"]

Combine = Callable[[Tensor, Tensor], Tensor]  # left [P, *], right [P, *] -> [P, *]


@dataclass(frozen=True, eq=False)
class Tree:
    """Rows in the order in which levels take them from the end.

    Attributes:
        perm: [N] row of each place, of rows segment after segment.
        groups: [K] the segment whose result each of the first K places will hold; an empty one has no place.
        levels: first to last: (begin, end, left). Places begin .. end - 1 are the right operands, their left operands
            are the places ``left``; afterwards only places before ``begin`` are left.
    """

    perm: Tensor
    groups: Tensor
    levels: list[tuple[int, int, Tensor]]

    def fold(self, x: Tensor, combine: Combine) -> Tensor:
        """Return the result of each of ``groups``, [K, *], from the rows ``x`` [N, *] in the order of ``perm``."""
        return self._climb(x, combine)[0]

    def table(self, x: Tensor, combine: Combine) -> Tensor:
        """Do the same and return [N, *]: first the results, then each right operand at its place."""
        rows, tails = self._climb(x, combine)
        return torch.cat([rows, *reversed(tails)])

    def spread(self, results: Tensor, num_groups: int, empty: Tensor) -> Tensor:
        """Return the result of each segment, [G, *], from [>= K, *]; ``empty`` [*] where it has no rows."""
        ranks = self.groups.shape[0]
        return empty.expand(num_groups, *empty.shape).index_copy(0, self.groups, results[:ranks])

    def _climb(self, rows: Tensor, combine: Combine) -> tuple[Tensor, list[Tensor]]:
        tails = []
        for begin, end, left in self.levels:
            kept, tail = torch.split(rows, [begin, end - begin])
            out = combine(kept.index_select(0, left), tail)
            dtype = torch.promote_types(kept.dtype, out.dtype)
            rows = kept.to(dtype).index_copy(0, left, out.to(dtype))
            tails.append(tail)
        return rows, tails


def adjacent_tree(ptr: Tensor) -> Tree:
    """Return the tree that combines neighbours of each segment, level by level; a last row without one waits.

    Row e of a segment, e = (2i + 1) 2^k, is the right operand of level k; the left one is row e - 2^k. One read back
    to the host on an accelerator.
    """
    start, count = ptr[:-1], ptr.diff()
    sizes = count.cpu()  # fixes the size of every level
    groups = repeat((count > 0).long(), int((sizes > 0).sum()))
    rights: list[Tensor] = []
    stride = 1
    while pairs := int((sizes // 2).sum()):
        half = count // 2
        first = start + stride - 2 * stride * (half.cumsum(0) - half)
        number = torch.arange(0, 2 * stride * pairs, 2 * stride, device=ptr.device)
        rights.append(torch.repeat_interleave(first, half, output_size=pairs) + number)
        count, sizes, stride = count - half, sizes - sizes // 2, 2 * stride
    perm = torch.cat([start[groups], *reversed(rights)])
    place = torch.empty_like(perm)
    place[perm] = torch.arange(perm.shape[0], device=ptr.device)
    levels, end = [], perm.shape[0]
    for level, right in enumerate(rights):
        levels.append((end - right.shape[0], end, place[right - (1 << level)]))
        end -= right.shape[0]
    return Tree(perm, groups, levels)


@dataclass(frozen=True, eq=False)
class Packed(Tree):
    """Rows position by position: all 1st elements, then all 2nd ones, ...; within one position largest segment first.

    Rank 0 is the largest segment: ``groups`` [K] are the ranks that have rows.

    Attributes:
        position: [N] place within its segment of each packed row.
        sizes: [S] rows of each rank, never increasing.
        offsets: [L + 1] packed place where each position begins.
        batch_sizes: [L] int64 on the CPU, rows of each position, as in ``PackedSequence``.
    """

    position: Tensor
    sizes: Tensor
    offsets: Tensor
    batch_sizes: Tensor
    _tiles: dict[int, list[Tile]] = field(default_factory=dict, repr=False)

    def tiles(self, rows: int) -> list[Tile]:
        """Return the levels cut to at most ``rows`` right operands; pairs of one level are independent."""
        if rows not in self._tiles:
            self._tiles[rows] = [
                Tile.of(start, min(end, start + rows), left[start - begin : start - begin + rows])
                for begin, end, left in self.levels
                for start in range(begin, end, rows)
            ]
        return self._tiles[rows]


@dataclass(frozen=True, eq=False)
class Tile:
    """Pairs of one level: right operands begin .. end - 1, left operands ``left``, from ``first`` on if contiguous."""

    begin: int
    end: int
    left: Tensor
    first: int | None

    @staticmethod
    def of(begin: int, end: int, left: Tensor) -> Tile:
        """Return the tile; left operands are increasing, so that their ends tell whether they are contiguous."""
        if left.device.type != "cpu":
            return Tile(begin, end, left, None)
        first, last = int(left[0]), int(left[-1])
        return Tile(begin, end, left, first if last - first == end - begin - 1 else None)


def pack(ptr: Tensor, num_rows: int, pairing: str) -> Packed:
    """Build the position-major plan of ``Packed``; one read back to the host on an accelerator.

    ``pairing`` is what a tree combines first: "strides" position p with p + h, h the largest power of two below the
    size of the group; "neighbours" 2i with 2i + 1, where the size is a power of two.
    """
    device = ptr.device
    counts = ptr.diff()
    counts_down, groups = torch.sort(counts, descending=True, stable=True)
    strides = [1 << k for k in range(max(num_rows, 1).bit_length() + 1)]
    beyond = torch.stack([(counts - stride).clamp(min=0).sum() for stride in strides])
    largest = counts.max() if counts.numel() else counts.new_zeros(())
    *rows_beyond, length = torch.cat([beyond, largest.view(1)]).tolist()
    batch_sizes = counts.numel() - torch.searchsorted(
        counts_down.flip(0), torch.arange(length, device=device), right=True
    )
    offsets = torch.cat([batch_sizes.new_zeros(1), batch_sizes.cumsum(0)])
    position = repeat(batch_sizes, num_rows)
    rank = torch.arange(num_rows, device=device) - offsets[position]
    start = ptr[groups][rank]
    element = position
    if pairing == "neighbours":
        element = bit_reversed(counts, num_rows, max(int(length) - 1, 0).bit_length())[start + position]
    levels = []
    end = num_rows
    for stride, beyond_stride in reversed(list(zip(strides, rows_beyond, strict=True))):
        begin = num_rows - int(beyond_stride)
        if begin < end:
            levels.append((begin, end, offsets[position[begin:end] - stride] + rank[begin:end]))
            end = begin
    nonempty = groups[: int(batch_sizes[0]) if length and device.type == "cpu" else end]
    return Packed(start + element, nonempty, levels, position, counts_down, offsets, batch_sizes.cpu())


def bit_reversed(counts: Tensor, num_rows: int, bits: int) -> Tensor:
    """Return, for each position of each group, the element that strides must find there to pair neighbours: [N]."""
    group = repeat(counts, num_rows)
    element = torch.arange(num_rows, device=counts.device) - (counts.cumsum(0) - counts)[group]
    reverse = torch.zeros_like(element)
    for bit in range(bits):
        reverse = reverse | (((element >> bit) & 1) << (bits - 1 - bit))
    by_reverse = torch.sort(reverse, stable=True).indices
    return element[by_reverse[torch.sort(group[by_reverse], stable=True).indices]]


@dataclass(frozen=True, eq=False)
class StaticPacked:
    """As ``Packed``, with shapes that follow from N, S and the longest segment allowed; a rank may have no rows.

    For ``torch.compile`` without a graph break and for accelerators without a read back to the host. What is exact in
    ``Packed`` is an upper bound here: surplus pairs work on a copy of the first row and are dropped.

    Attributes:
        perm: [N] row of each packed place, of rows segment after segment.
        position: [N] place within its segment of each packed row.
        groups: [S] the segment of each rank.
        sizes: [S] rows of each rank, never increasing.
        offsets: [L + 1] packed place where each position begins, L the longest segment allowed.
    """

    perm: Tensor
    position: Tensor
    groups: Tensor
    sizes: Tensor
    offsets: Tensor

    @property
    def length(self) -> int:
        """The longest segment that is allowed."""
        return self.offsets.shape[0] - 1

    def rows_between(self, first: int, last: int, bound: int) -> tuple[Tensor, Tensor]:
        """Return the packed places of positions first .. last - 1, [bound], and which exist; others are N."""
        places = self.offsets[first] + torch.arange(bound, device=self.perm.device)
        exists = places < self.offsets[last]
        return torch.where(exists, places, self.perm.shape[0]), exists

    def bounds(self) -> list[tuple[int, int]]:
        """Return each stride, the longest first, and how many pairs it has at most."""
        # A segment with a pair at a stride has at least as many rows below the stride as above: at most N / 2 pairs.
        half, ranks, length = self.perm.shape[0] // 2, self.groups.shape[0], self.length
        return [(h, min(half, ranks * min(h, length - h))) for h in reversed(powers_below(length))]

    def fold(self, x: Tensor, combine: Combine) -> Tensor:
        """Return the result of each rank that can have rows, [min(N, S), *], from packed rows ``x`` [N, *], N > 0."""
        return self.table(x, combine)[: self._ranks()]

    def table(self, x: Tensor, combine: Combine) -> Tensor:
        """Do the same and return [N, *]: first the results, then each right operand at its place."""
        num_rows = x.shape[0]
        table = torch.cat([x, x[:1]])  # the last row is what surplus pairs read and write
        position = torch.cat([self.position, self.position.new_zeros(1)])
        for stride, pairs in self.bounds():
            tail, exists = self.rows_between(stride, min(2 * stride, self.length), pairs)
            below = position[tail] - stride
            left = tail - self.offsets[position[tail]] + self.offsets[below.clamp(min=0)]
            left = torch.where(exists, left, num_rows)
            out = combine(table.index_select(0, left), table.index_select(0, tail))
            table = table.index_copy(0, left, torch.where(exists.view(-1, *[1] * (x.dim() - 1)), out, table[num_rows]))
        return table[:num_rows]

    def spread(self, results: Tensor, num_groups: int, empty: Tensor) -> Tensor:
        """Return the result of each segment, [S, *], from at least those of ``fold``; ``empty`` [*] where no rows."""
        ranks = self._ranks()
        full = (self.sizes[:ranks] > 0).view(-1, *[1] * empty.dim())
        out = empty.expand(num_groups, *empty.shape)
        return out.index_copy(0, self.groups[:ranks], torch.where(full, results[:ranks], empty))

    def _ranks(self) -> int:
        return min(self.groups.shape[0], self.perm.shape[0])


def pack_static(ptr: Tensor, num_rows: int, length: int, pairing: str) -> StaticPacked:
    """Build the plan without reading any value of ``ptr``; no segment has more than ``length`` rows."""
    device = ptr.device
    counts = ptr.diff()
    sizes, groups = torch.sort(counts, descending=True, stable=True)
    batch_sizes = counts.shape[0] - torch.searchsorted(sizes.flip(0), torch.arange(length, device=device), right=True)
    offsets = torch.cat([batch_sizes.new_zeros(1), batch_sizes.cumsum(0)])
    position = repeat(batch_sizes, num_rows)
    rank = torch.arange(num_rows, device=device) - offsets[position]
    start = ptr[groups][rank]
    element = position
    if pairing == "neighbours":
        element = bit_reversed(counts, num_rows, len(powers_below(length)))[start + position]
    return StaticPacked(start + element, position, groups, sizes, offsets)


def powers_below(length: int) -> list[int]:
    """Return 1, 2, 4, ... below ``length``; by comparisons alone, so that one trace serves lengths that agree in it."""
    powers: list[int] = []
    while 1 << len(powers) < length:
        powers.append(1 << len(powers))
    return powers
