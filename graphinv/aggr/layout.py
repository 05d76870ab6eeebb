"""Which rows of a batch form each group, found out once: an index plan that every aggregator here works from.

``GroupLayout`` turns ``index`` (sorted or not) or ``ptr`` into rows group after group. ``packed`` puts them position
by position instead (all first elements, then all second ones, ...; largest group first), where a tree or a recurrent
network over all groups is a few slices: nothing is padded.

The last few layouts are remembered, so that a network of many layers finds the groups of its edges once: one per memory
of the index tensor, its place in it, and its version, so that writing to the tensor in place makes a new layout. The
tensor itself is not kept alive. Writes that torch does not count (through numpy, or ``tensor.data``) are not noticed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from graphinv.errors import InputError
from graphinv.ops.pointer import check_ptr, repeat
from graphinv.ops.tree import Packed, StaticPacked, pack, pack_static

__all__ = ["GroupLayout", "cached_layout", "forget_layouts"]


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

    def static_packed(self, pairing: str = "strides") -> StaticPacked:
        """Return the plan whose shapes no value of the layout enters; see ``StaticPacked``."""
        return pack_static(self.ptr, self.num_rows, self.longest(), pairing)

    def plan(self, pairing: str = "strides") -> Packed | StaticPacked:
        """Return the plan of the tree: exact, or with static shapes while compiling, or where a bound saves a read."""
        bounded = self.device.type != "cpu" and self.max_num_elements is not None
        return self.static_packed(pairing) if torch.compiler.is_compiling() or bounded else self.packed(pairing)

    def longest(self) -> int:
        """Return the most rows that a group may have."""
        bound = self.num_rows if self.max_num_elements is None else self.max_num_elements
        return min(bound, self.num_rows)

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


_CAPACITY = 16
_cache: OrderedDict[tuple[Any, ...], tuple[StorageWeakRef, GroupLayout, Tensor | None]] = OrderedDict()
_lock = Lock()


def cached_layout(tensor: Tensor, build: Callable[[], GroupLayout], *settings: int | str | None) -> GroupLayout:
    """Return the layout kept for ``tensor`` and ``settings``, or the one that ``build`` makes.

    A layout is not kept beyond the values it was made of. Writes through torch are noticed everywhere; those that torch
    does not count, through numpy or ``tensor.data``, on the CPU, where the values are compared. After such a write to a
    tensor on another device call ``forget_layouts``.

    Example:
        >>> index = torch.tensor([0, 1, 1])
        >>> a, b = (cached_layout(index, lambda: GroupLayout.from_index(index), None) for _ in range(2))
        >>> a is b
        True
    """
    if torch.compiler.is_compiling() or tensor.is_inference() or type(tensor) is not Tensor:
        return build()
    try:
        memory = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    except (NotImplementedError, RuntimeError):  # a tensor without memory of its own, as inside torch.func.vmap
        return build()
    # The weak reference keeps the address from being used again for as long as the entry is here.
    place = (memory.cdata, tensor.storage_offset(), tensor._version)
    key: tuple[Any, ...] = (*place, tensor.shape, tensor.stride(), tensor.dtype, *settings)
    with _lock:
        entry = _cache.get(key)
        if entry is not None:
            _cache.move_to_end(key)
    if entry is not None and (entry[2] is None or torch.equal(entry[2], tensor)):
        return entry[1]
    values = tensor.detach().clone() if tensor.device.type == "cpu" else None
    layout = build()
    with _lock:
        for old in [k for k, (ref, *_) in _cache.items() if _gone(ref) or (k[0] == key[0] and k[2] != key[2])]:
            del _cache[old]
        _cache[key] = (memory, layout, values)
        while len(_cache) > _CAPACITY:
            _cache.popitem(last=False)
    return layout


def forget_layouts() -> None:
    """Drop every layout that is kept, to free their memory.

    Example:
        >>> forget_layouts()
    """
    with _lock:
        _cache.clear()


def _gone(memory: StorageWeakRef) -> bool:
    return bool(memory.expired())  # type: ignore[no-untyped-call]


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
