"""Ground sets of any sizes with the subset chosen in each, as one block of rows divided by offsets.

Nothing is padded. Every set carries a key that names it wherever it goes, so that the noise drawn for it is the same
in every batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from graphinv.aggr import GroupLayout
from graphinv.errors import InputError
from graphinv.ops import segment_reduce
from graphinv.ops.pointer import check_ptr, repeat

__all__ = ["SetBatch"]


@dataclass(frozen=True, eq=False)
class SetBatch:
    """B ground sets of N elements together, set after set, each with its optimal subset where that is known.

    Equal rows are distinct elements. Values are checked on the CPU only, where reading them is free.

    Attributes:
        x: [N, *] elements; finite if of a floating dtype.
        ptr: [B+1] int64 offsets of the sets; none of them is empty.
        selected: [N] bool, True for an element of the optimal subset, at least one in each set; None if unknown.
        key: [B] int64 name of each set, which its noise is drawn by; None for 0 .. B-1. ``select`` keeps it.

    Raises:
        InputError: a set or its subset is empty, the sizes of the tensors do not fit, or an element is NaN or infinite.

    Example:
        >>> batch = SetBatch(torch.randn(5, 2), torch.tensor([0, 2, 5]), torch.tensor([1, 0, 0, 1, 1]).bool())
        >>> batch.sizes.tolist(), batch.subset_sizes.tolist()
        ([2, 3], [1, 2])
        >>> batch.select([1]).selected.tolist()
        [False, True, True]
    """

    x: Tensor
    ptr: Tensor
    selected: Tensor | None = None
    key: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.x, Tensor) or self.x.dim() == 0:
            raise InputError("x must be a tensor with one row per element, [N, *]; use torch.stack(rows)")
        check_ptr(self.ptr, self.x.shape[0])
        _check_column("selected", self.selected, self.x.shape[0], torch.bool, "one bool per element")
        _check_column("key", self.key, self.num_sets, torch.int64, "one int64 per set")
        given = [t for t in (self.x, self.ptr, self.selected, self.key) if t is not None]
        if len({t.device for t in given}) > 1:
            raise InputError(f"the tensors of a batch must be on one device, got {[str(t.device) for t in given]}")
        if self.ptr.device.type == "cpu":
            self._check_values()

    def _check_values(self) -> None:
        _refuse("is empty; leave it out", self.sizes == 0)
        if self.selected is not None:
            _refuse("has an empty subset, from which nothing can be learnt; leave it out", self.subset_sizes == 0)
        if self.x.is_floating_point() and not bool(self.x.isfinite().all()):
            wrong = ~self.x.isfinite().flatten(1).all(1) if self.x.dim() > 1 else ~self.x.isfinite()
            _refuse("has an element that is NaN or infinite; clean x first", self._count(wrong) > 0)

    @property
    def num_sets(self) -> int:
        """B, the number of sets."""
        return self.ptr.numel() - 1

    @property
    def num_elements(self) -> int:
        """N, the number of elements of all sets."""
        return self.x.shape[0]

    @property
    def sizes(self) -> Tensor:
        """Number of elements of each set, [B] int64, at least 1."""
        return self.ptr.diff()

    @property
    def subset_sizes(self) -> Tensor:
        """Number of selected elements of each set, [B] int64, at least 1."""
        return self._count(self.truth)

    @property
    def truth(self) -> Tensor:
        """``selected`` [N] bool where it is needed.

        Raises:
            InputError: the optimal subsets are not known.
        """
        if self.selected is None:
            raise InputError("this needs the optimal subsets; make the SetBatch with selected=[N] bool")
        return self.selected

    @property
    def keys(self) -> Tensor:
        """The name of each set, [B] int64."""
        return torch.arange(self.num_sets, device=self.ptr.device) if self.key is None else self.key

    @cached_property
    def layout(self) -> GroupLayout:
        """Which rows form each set, for aggregators and set functions."""
        return GroupLayout.from_ptr(self.ptr, self.num_elements)

    @staticmethod
    def from_lists(sets: Sequence[Tensor], subsets: Sequence[Tensor | Sequence[int]] | None = None) -> SetBatch:
        """Join the sets ``[n_b, *]``; each subset is a list of element numbers or a [n_b] bool tensor.

        Raises:
            InputError: there is no set, subsets are more or fewer than sets, or one names an element twice or one
                that is not there.

        Example:
            >>> SetBatch.from_lists([torch.zeros(3, 2), torch.ones(1, 2)], [[2, 0], [0]]).selected.tolist()
            [True, False, True, True]
        """
        if not len(sets):
            raise InputError("from_lists needs at least one set, got none")
        if subsets is not None and len(subsets) != len(sets):
            raise InputError(f"there must be one subset per set, got {len(sets)} sets and {len(subsets)} subsets")
        sizes = torch.tensor([rows.shape[0] for rows in sets])
        ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        x = torch.cat(list(sets))
        if subsets is None:
            return SetBatch(x, ptr.to(x.device))
        chosen = [_mask(b, subset, sets[b].shape[0]) for b, subset in enumerate(subsets)]
        return SetBatch(x, ptr.to(x.device), torch.cat(chosen).to(x.device))

    def select(self, ids: Tensor | Sequence[int]) -> SetBatch:
        """Return the sets ``ids`` [K] (repeats allowed) in that order, each with its key.

        Raises:
            InputError: there is no set of that number.
        """
        ids = torch.as_tensor(ids, dtype=torch.int64, device=self.ptr.device)
        if ids.device.type == "cpu" and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.num_sets:
            raise InputError(f"set {ids.tolist()} was asked for, but the batch holds sets 0..{self.num_sets - 1}")
        counts = self.sizes[ids]
        ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        total = int(ptr[-1])
        rows = torch.arange(total, device=ptr.device) + (self.ptr[ids] - ptr[:-1])[repeat(counts, total)]
        chosen = None if self.selected is None else self.selected[rows]
        return SetBatch(self.x[rows], ptr, chosen, self.keys[ids])

    def to(self, device: torch.device | str) -> SetBatch:
        """Return the batch with every tensor on ``device``."""
        moved = [None if t is None else t.to(device) for t in (self.selected, self.key)]
        return SetBatch(self.x.to(device), self.ptr.to(device), *moved)

    def _count(self, flags: Tensor) -> Tensor:
        return segment_reduce(flags.long(), self.ptr)

    def __repr__(self) -> str:
        return f"SetBatch(num_sets={self.num_sets}, x={list(self.x.shape)}, known={self.selected is not None})"


def _mask(b: int, subset: Tensor | Sequence[int], size: int) -> Tensor:
    ids = torch.as_tensor(subset)
    if ids.dtype == torch.bool:
        if ids.shape != (size,):
            raise InputError(f"subset {b} must have one bool per element, [{size}], got {list(ids.shape)}")
        return ids
    ids = ids.long()  # an empty list comes as floats
    if ids.dim() != 1 or (ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < size):
        raise InputError(f"subset {b} must list elements 0..{size - 1}, got {ids.tolist()}")
    if torch.unique(ids).numel() != ids.numel():
        raise InputError(f"subset {b} names an element twice: {ids.tolist()}")
    return torch.zeros(size, dtype=torch.bool, device=ids.device).index_fill(0, ids, True)


def _check_column(name: str, column: Tensor | None, size: int, dtype: torch.dtype, what: str) -> None:
    if column is None:
        return
    if not isinstance(column, Tensor) or column.shape != (size,) or column.dtype != dtype:
        got = f"{list(column.shape)} of {column.dtype}" if isinstance(column, Tensor) else type(column).__name__
        raise InputError(f"{name} must be {what}, [{size}], got {got}")


def _refuse(why: str, wrong: Tensor) -> None:
    """Raise for the first set of which ``wrong`` [B] is true."""
    if bool(wrong.any()):
        raise InputError(f"set {int(wrong.nonzero()[0])} {why} ({int(wrong.sum())} of {wrong.numel()} sets)")
