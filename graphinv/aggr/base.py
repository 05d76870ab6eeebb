"""What every aggregator of this package shares: the drop-in interface of PyG, and its border checks.

A subclass sees rows [N, F] and a ``GroupLayout`` and returns one row per group; sorted or unsorted ``index``,
``ptr``, any ``dim``, further batch dimensions, empty groups and empty input are dealt with here.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.aggr import Aggregation

from graphinv.aggr import _diagnostics as diagnostics
from graphinv.aggr.layout import GroupLayout, cached_layout
from graphinv.errors import InputError

__all__ = ["GroupAggregation", "auxiliary_loss"]


class GroupAggregation(Aggregation):  # type: ignore[misc]  # PyG is untyped here
    """Base of the aggregators: ``forward(x, index)`` maps rows to one row per group, as in PyG.

    Subclasses implement ``reduce_groups``. Each row belongs to one group; a group's result depends on its own rows
    and nothing else in the batch.
    """

    in_channels: int = -1

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module. The checks are in ``forward``, so those of the parent are not run a second time."""
        return torch.nn.Module.__call__(self, *args, **kwargs)

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
        max_num_elements: int | None = None,
        layout: GroupLayout | None = None,
    ) -> Tensor:
        """Aggregate ``x`` [*, N, F] to [*, G, F_out] in the dtype of ``x``.

        Args:
            x: rows along ``dim``, channels last (or, if ``dim`` is the last one, second to last); further
                dimensions are batches of the same grouping.
            index: [N] int64 group of each row, in any order.
            ptr: [G+1] int64 offsets, where the rows lie group after group; goes before ``index``.
            dim_size: G. Without it the largest index plus one; one group if there is neither index nor ptr.
            dim: the dimension of the rows.
            max_num_elements: an upper bound of the rows of one group. With ``dim_size``, nothing is read back
                from an accelerator and ``torch.compile`` needs no graph break.
            layout: a ``GroupLayout`` of these rows, in place of index and ptr.

        Raises:
            InputError: the rows, channels, index, ptr or hints do not fit together.
        """
        rows, lead = _rows_first(x, dim)
        num_rows = rows.shape[0]
        if layout is None:
            layout = find_layout(x, num_rows, index, ptr, dim_size, max_num_elements)
        elif layout.num_rows != num_rows or dim_size not in (None, layout.num_groups):
            raise InputError(f"x has {num_rows} rows and dim_size is {dim_size}, which does not fit {layout}")
        self._check_rows(rows)
        batch = rows.shape[1:-1]
        copies = batch.numel()
        if not batch:
            out = self.reduce_groups(rows, layout)
        else:  # [N, *, F] -> [* N, F]: each batch entry has groups of its own
            flat = rows.movedim(0, -2).reshape(copies * num_rows, rows.shape[-1])
            out = self.reduce_groups(flat, layout.repeated(copies))
            out = out.reshape(*batch, layout.num_groups, out.shape[-1]).movedim(-2, 0)
        return out.movedim(0, lead).contiguous()  # layers of PyG view it

    @abstractmethod
    def reduce_groups(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Map rows [N, F] to [G, F_out]; what a subclass implements. ``x`` is of a floating dtype."""

    @property
    def has_auxiliary_loss(self) -> bool:
        """Whether ``auxiliary_loss()`` is there and belongs in the loss of a training."""
        return False

    def auxiliary_loss(self) -> Tensor:
        """Return what the last training forward adds to the loss, a scalar.

        Raises:
            InputError: there is nothing to add here.
        """
        raise InputError(f"{type(self).__name__} has no auxiliary loss; graphinv.aggr.auxiliary_loss leaves it out")

    def invariance_error(self, x: Tensor, index: Tensor | None = None, **kwargs: Any) -> float:
        """Return the largest relative change of a group's result when its rows change places; 0 is invariant.

        See ``graphinv.aggr.invariance_error`` for the settings.
        """
        return diagnostics.invariance_error(self, x, index, **kwargs)

    def batch_consistency_error(self, x: Tensor, index: Tensor | None = None, **kwargs: Any) -> float:
        """Return the largest relative change of a group's result when it is computed without the others.

        See ``graphinv.aggr.batch_consistency_error`` for the settings.
        """
        return diagnostics.batch_consistency_error(self, x, index, **kwargs)

    def _check_rows(self, rows: Tensor) -> None:
        own = dtype_of(self, rows)
        if not rows.is_floating_point():
            raise InputError(f"x must be of a floating dtype, got {rows.dtype}; convert it, for example x.float()")
        if torch.promote_types(rows.dtype, own) != own:
            raise InputError(f"x is of {rows.dtype}, wider than the parameters of {own}; convert x or the module")
        if self.in_channels != -1 and self.in_channels != rows.shape[-1]:
            raise InputError(
                f"{type(self).__name__} was made for {self.in_channels} channels, got x with {rows.shape[-1]}"
            )


def auxiliary_loss(model: torch.nn.Module) -> Tensor:
    """Return the sum of the auxiliary losses of the aggregators in ``model``, a scalar; 0 if there is none.

    Those in evaluation mode or switched off (``aux_triples=0`` of ``LCMAggregation``) do not count.

    Raises:
        InputError: one of the others has not been called in training mode.

    Example:
        >>> from graphinv.aggr import LCMAggregation
        >>> model = torch.nn.ModuleList([LCMAggregation(4)])
        >>> _ = model[0](torch.randn(6, 4))
        >>> auxiliary_loss(model).shape
        torch.Size([])
    """
    modules = [m for m in model.modules() if isinstance(m, GroupAggregation) and m.training and m.has_auxiliary_loss]
    losses = [m.auxiliary_loss() for m in modules]
    return torch.stack(losses).sum() if losses else torch.zeros(())


def dtype_of(module: torch.nn.Module, x: Tensor) -> torch.dtype:
    """Return the dtype of the parameters of ``module``; without any, that of ``x``."""
    for parameter in module.parameters():  # next() with a default does not compile in torch 2.6
        return parameter.dtype
    return x.dtype


def find_layout(
    x: Tensor,
    num_rows: int,
    index: Tensor | None,
    ptr: Tensor | None,
    dim_size: int | None,
    max_num_elements: int | None,
) -> GroupLayout:
    """Return the layout of ``num_rows`` rows by ``ptr`` or ``index`` (or all in one group), kept between calls."""
    for name, value in (("index", index), ("ptr", ptr)):
        if value is not None and not isinstance(value, Tensor):
            raise InputError(f"{name} must be a tensor, got {type(value).__name__}; use torch.tensor({name})")
    if ptr is not None:
        given = ptr
        if dim_size is not None and dim_size != ptr.numel() - 1:
            raise InputError(f"ptr of {ptr.numel()} offsets makes {ptr.numel() - 1} groups, but dim_size is {dim_size}")
        if index is not None and index.numel() != num_rows:
            raise InputError(f"index must have one entry per row of x, {num_rows}, got {index.numel()}")
    elif index is not None:
        given = index
        if index.dim() == 1 and index.shape[0] != num_rows:
            raise InputError(f"index must have one entry per row of x, {num_rows}, got {index.shape[0]}")
    else:
        if dim_size == 0 and num_rows:
            raise InputError(f"without index and ptr all {num_rows} rows are one group, but dim_size is 0")
        all_in_one = torch.zeros(num_rows, dtype=torch.int64, device=x.device)
        return GroupLayout.from_index(all_in_one, 1 if dim_size is None else dim_size, max_num_elements)
    if given.device != x.device:
        raise InputError(f"x and its index or ptr must be on one device, got {x.device} and {given.device}")

    def build() -> GroupLayout:
        if ptr is not None:
            return GroupLayout.from_ptr(given, num_rows, max_num_elements)
        return GroupLayout.from_index(given, dim_size, max_num_elements)

    return cached_layout(given, build, "ptr" if ptr is not None else "index", num_rows, dim_size, max_num_elements)


def _rows_first(x: Tensor, dim: int) -> tuple[Tensor, int]:
    if x.dim() < 2:
        raise InputError(f"x must have rows and channels, [*, N, F], got shape {list(x.shape)}")
    if not -x.dim() <= dim < x.dim():
        raise InputError(f"dim must be in {-x.dim()} .. {x.dim() - 1} for x of {x.dim()} dimensions, got {dim}")
    return x.movedim(dim, 0), dim
