"""Which rows of a batch form each group, found out once: an index plan that every aggregator here works from.

``GroupLayout`` turns ``index`` (sorted or not) or ``ptr`` into rows group after group. ``packed`` puts them position
by position instead (all first elements, then all second ones, ...; largest group first), where a tree or a recurrent
network over all groups is a few slices: nothing is padded.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops.pointer import check_ptr, repeat

__all__ = ["GroupLayout"]


@dataclass(frozen=True, eq=False)
class GroupLayout:
    """N rows divided into G groups, any of them empty. Made by ``from_index`` or ``from_ptr``.

    Pass it as ``layout=`` to an aggregator of this package to save finding it again; it depends on nothing but the
    sizes and places of the groups, so one layout serves every layer of a network.

    Attributes:
        ptr: [G+1] int64 offsets of the groups in ``order``.
        order: [N] int64 rows, group after group, stable; None if they already lie so.
        index: [N] int64 group of every row of the input.
        num_rows: N.
        num_groups: G.
        max_num_elements: an upper bound of the rows of one group, where the caller knows one. On an accelerator
            it saves the one read back to the host.

    Example:
        >>> layout = GroupLayout.from_index(torch.tensor([1, 0, 1]), dim_size=3)
        >>> layout.order.tolist(), layout.counts.tolist()
        ([1, 0, 2], [1, 2, 0])
    """

    ptr: Tensor
    order: Tensor | None
    index: Tensor
    num_rows: int
    num_groups: int
    max_num_elements: int | None = None
    _packings: dict[str, Packed] = field(default_factory=dict, repr=False)
    _copies: dict[int, GroupLayout] = field(default_factory=dict, repr=False)

    @staticmethod
    def from_index(index: Tensor, dim_size: int | None = None, max_num_elements: int | None = None) -> GroupLayout:
        """Lay out rows by the group of each, ``index`` [N] int64, in any order.

        Args:
            index: [N] group of each row, 0 .. dim_size - 1.
            dim_size: G; the largest index plus one if not given (reads it back from an accelerator).
            max_num_elements: upper bound of the rows of one group.

        Raises:
            InputError: ``index`` is not a vector of int64, or a value is negative, not below ``dim_size``, or
                occurs more than ``max_num_elements`` times.
        """
        if not isinstance(index, Tensor):
            raise InputError(f"index must be a tensor, got {type(index).__name__}; use torch.tensor(index)")
        if index.dim() != 1 or index.dtype != torch.int64:
            raise InputError(f"index must be a vector of torch.int64, got shape {list(index.shape)} of {index.dtype}")
        _check_hints(dim_size, max_num_elements)
        num_rows = index.shape[0]
        if dim_size is None:
            dim_size = int(index.max()) + 1 if num_rows else 0
            _check_fits(dim_size, index.device)
        _check_range(index, dim_size)
        with trainable():
            index = index.detach().clone()  # what is laid out must not change with the tensor of the caller
            order = None
            grouped = index
            if _must_sort(index):
                grouped, order = torch.sort(index, stable=True)
            ptr = torch.searchsorted(grouped, torch.arange(dim_size + 1, device=index.device))
        _check_bound(ptr, max_num_elements)
        return GroupLayout(ptr, order, index, num_rows, dim_size, max_num_elements)

    @staticmethod
    def from_ptr(ptr: Tensor, num_rows: int, max_num_elements: int | None = None) -> GroupLayout:
        """Lay out rows that already lie group after group, divided by the offsets ``ptr`` [G+1].

        Raises:
            InputError: ``ptr`` does not go from 0 to ``num_rows`` without decreasing, or a group is larger than
                ``max_num_elements``.
        """
        check_ptr(ptr, num_rows)
        _check_hints(None, max_num_elements)
        _check_bound(ptr, max_num_elements)
        with trainable():
            ptr = ptr.detach().clone()
            return GroupLayout(ptr, None, repeat(ptr.diff(), num_rows), num_rows, ptr.shape[0] - 1, max_num_elements)

    @property
    def counts(self) -> Tensor:
        """Number of rows of each group, [G] int64."""
        return self.ptr.diff()

    @property
    def device(self) -> torch.device:
        """Where the index tensors are."""
        return self.ptr.device

    def grouped(self, x: Tensor) -> Tensor:
        """Return the rows of ``x`` [N, *] group after group."""
        return x if self.order is None else x.index_select(0, self.order)

    def packed(self, pairing: str = "strides") -> Packed:
        """Return the position-major plan, built at the first call; see ``Packed``."""
        if pairing not in self._packings:
            with trainable():
                self._packings[pairing] = pack(self.ptr, self.num_rows, pairing)
        return self._packings[pairing]

    def repeated(self, times: int) -> GroupLayout:
        """Return the layout of ``times`` copies of the rows, one after the other, each with its own groups."""
        if times == 1:
            return self
        if times not in self._copies:
            with trainable():
                self._copies[times] = self._repeat(times)
        return self._copies[times]

    def _repeat(self, times: int) -> GroupLayout:
        step = torch.arange(times, device=self.device).unsqueeze(1)
        ptr = torch.cat([(self.ptr[:-1] + step * self.num_rows).flatten(), self.ptr[-1:] + (times - 1) * self.num_rows])
        index = (self.index + step * self.num_groups).flatten()
        order = None if self.order is None else (self.order + step * self.num_rows).flatten()
        return GroupLayout(ptr, order, index, times * self.num_rows, times * self.num_groups, self.max_num_elements)

    def __repr__(self) -> str:
        return f"GroupLayout(num_rows={self.num_rows}, num_groups={self.num_groups})"


@dataclass(frozen=True, eq=False)
class Packed:
    """Rows position by position: all 1st elements, then all 2nd ones, ...; within one position largest group first.

    Attributes:
        perm: [N] the place among the rows group after group of each packed row.
        position: [N] place within its group of each packed row.
        groups: [K] the group of each rank; rank 0 is the largest group, and empty groups have none.
        sizes: [G] rows of each rank, never increasing.
        offsets: [L + 1] packed place where each position begins.
        batch_sizes: [L] int64 on the CPU, rows of each position, as in ``PackedSequence``.
        levels: of the tree, first to last: (begin, end, left). Packed rows begin .. end - 1 are the right operands,
            their left operands are the rows ``left``; afterwards only rows before ``begin`` are left.
    """

    perm: Tensor
    position: Tensor
    groups: Tensor
    sizes: Tensor
    offsets: Tensor
    batch_sizes: Tensor
    levels: list[tuple[int, int, Tensor]]
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
    return Packed(start + element, position, nonempty, counts_down, offsets, batch_sizes.cpu(), levels)


def bit_reversed(counts: Tensor, num_rows: int, bits: int) -> Tensor:
    """Return, for each position of each group, the element that strides must find there to pair neighbours: [N]."""
    group = repeat(counts, num_rows)
    element = torch.arange(num_rows, device=counts.device) - (counts.cumsum(0) - counts)[group]
    reverse = torch.zeros_like(element)
    for bit in range(bits):
        reverse = reverse | (((element >> bit) & 1) << (bits - 1 - bit))
    by_reverse = torch.sort(reverse, stable=True).indices
    return element[by_reverse[torch.sort(group[by_reverse], stable=True).indices]]


def _must_sort(index: Tensor) -> bool:
    # Reading the answer is free on the CPU only; elsewhere, and while tracing, a stable sort is always right.
    if index.device.type != "cpu" or torch.compiler.is_compiling():
        return True
    return bool((index.diff() < 0).any())


def trainable() -> torch.inference_mode | nullcontext[None]:
    """Return a context in which tensors are made that can be saved for a backward pass, in inference mode too."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():  # the compiler cannot trace the latter
        return nullcontext()
    return torch.inference_mode(False)


def _check_hints(dim_size: int | None, max_num_elements: int | None) -> None:
    for name, value in (("dim_size", dim_size), ("max_num_elements", max_num_elements)):
        if value is not None and (not isinstance(value, (int, torch.SymInt)) or value < 0):
            raise InputError(f"{name} must be a whole number, at least 0, got {value!r}")


def _check_fits(dim_size: int, device: torch.device) -> None:
    if dim_size > 1 << 31 and not torch.compiler.is_compiling():
        try:
            torch.empty(dim_size, dtype=torch.int64, device=device)
        except RuntimeError as error:
            raise InputError(
                f"the largest index makes {dim_size:,} groups, more than memory holds; is index the group of each row?"
            ) from error


def _check_range(index: Tensor, dim_size: int) -> None:
    if torch.compiler.is_compiling():
        return
    if index.device.type != "cpu":
        torch._assert_async(((index >= 0) & (index < dim_size)).all())
    elif index.numel():
        low, high = (int(v) for v in index.aminmax())
        if low < 0 or high >= dim_size:
            raise InputError(
                f"index must be at least 0 and below dim_size = {dim_size}, the number of groups; got {low} .. {high}"
            )


def _check_bound(ptr: Tensor, max_num_elements: int | None) -> None:
    if max_num_elements is None or ptr.shape[0] == 1 or torch.compiler.is_compiling():
        return
    if ptr.device.type != "cpu":
        torch._assert_async(ptr.diff().max() <= max_num_elements)
    elif int(ptr.diff().max()) > max_num_elements:
        raise InputError(
            f"max_num_elements = {max_num_elements}, but a group has {int(ptr.diff().max())} rows; pass an upper "
            "bound (nothing is dropped here) or leave it out"
        )
