"""Aggregation by exactly commutative and associative folds: sum, maximum, products, the k largest, and others.

The result of a set is the same however its rows are ordered, grouped or brought in parts, up to rounding. All groups
are folded at once; there is no order to learn and, but for the products, no tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch_geometric.nn.dense import Linear

from graphinv.aggr._flow import CouplingFlow, affine
from graphinv.aggr._heads import (
    ComplexProductMonoid,
    ElementarySymmetricMonoid,
    LogSumExpMonoid,
    MaxMonoid,
    MeanMonoid,
    MinMonoid,
    Monoid,
    State,
    SumMonoid,
    TopKMonoid,
)
from graphinv.aggr.layout import GroupLayout
from graphinv.aggr.streaming import StreamingAggregation
from graphinv.errors import InputError

__all__ = [
    "ComplexProductMonoid",
    "ElementarySymmetricMonoid",
    "LogSumExpMonoid",
    "MaxMonoid",
    "MeanMonoid",
    "MinMonoid",
    "Monoid",
    "MonoidBankAggregation",
    "SumMonoid",
    "TopKMonoid",
]

_HEADS: dict[str, type[Monoid]] = {
    "sum": SumMonoid,
    "mean": MeanMonoid,
    "max": MaxMonoid,
    "min": MinMonoid,
    "logsumexp": LogSumExpMonoid,
    "complex_product": ComplexProductMonoid,
    "topk": TopKMonoid,
    "elementary_symmetric": ElementarySymmetricMonoid,
}


class MonoidBankAggregation(StreamingAggregation):
    """Fold each group by several monoids side by side: project, fold by every head, project the results.

    With ``flow``, the operation of a head o becomes h^-1(h(a) o h(b)) for a learned invertible map h of its
    channels. The state is at least float32; the result has the dtype of x, under autocast too. ``init``,
    ``update``, ``merge`` and ``finalize`` give the same result from parts of the groups.

    Args:
        in_channels: F, channels of a row; -1 takes it from the first rows (only with ``project``).
        out_channels: channels of the result. Without ``project`` it follows from the heads and is not given.
        heads: heads, or names of them with their default settings: sum, mean, max, min, logsumexp,
            complex_product, topk (k = 2), elementary_symmetric (degree 2).
        channels: of each head given by name; by default ``out_channels`` divided by the number of heads, rounded
            up to an even number.
        flow: whether each head has an invertible map; it needs heads of 2 channels or more. An empty group gives
            h^-1 of what it gives otherwise.
        project: False gives each head the F channels of the rows themselves, and concatenates the results.

    Raises:
        InputError: a head is unknown or does not fit, or the channels do not fit the other settings.

    Example:
        >>> bank = MonoidBankAggregation(4, 8, heads=("mean", TopKMonoid(16, k=3)))
        >>> bank(torch.randn(3, 4), torch.tensor([0, 2, 0]), dim_size=3).shape
        torch.Size([3, 8])
        >>> state = bank.update(bank.init(3), torch.randn(3, 4), torch.tensor([0, 2, 0]))
        >>> bank.finalize(bank.merge(state, bank.init(3))).shape
        torch.Size([3, 8])
    """

    project_in: Linear
    project_out: Linear

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        heads: Sequence[str | Monoid] = ("sum", "mean", "max", "logsumexp", "topk"),
        *,
        channels: int | None = None,
        flow: bool = False,
        project: bool = True,
    ) -> None:
        super().__init__()
        _check_settings(in_channels, out_channels, heads, channels, project)
        if channels is None:
            channels = in_channels if out_channels is None else 2 * -(-out_channels // (2 * len(heads)))
        self.heads = nn.ModuleList(_resolved(head, channels) for head in heads)
        self.flows = nn.ModuleList(CouplingFlow(head.channels) for head in self._monoids()) if flow else None
        self.in_channels = in_channels
        folded = sum(head.out_channels for head in self._monoids())
        self.out_channels = folded if out_channels is None else out_channels
        if project:
            self.project_in = Linear(in_channels, sum(head.channels for head in self._monoids()))
            self.project_out = Linear(folded, self.out_channels)
        elif any(head.channels != in_channels for head in self._monoids()):
            raise InputError(f"without projections each head takes the {in_channels} channels of a row, got {heads}")
        self.project = project

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in (*self.children(), *self.heads, *(self.flows or ())):
            if not isinstance(module, nn.ModuleList):
                module.reset_parameters()

    def _of_nothing(self, layout: GroupLayout, dtype: torch.dtype) -> State:
        rows = [torch.empty(0, head.channels, dtype=dtype, device=layout.device) for head in self._monoids()]
        return self._fold_heads(rows, layout)

    def combine(self, a: State, b: State) -> State:
        """Return what ``merge`` does, head by head."""
        merged = {"count": a["count"] + b["count"]}
        with _full_precision(a["count"]):
            for place, head in enumerate(self._monoids()):
                merged |= _named(place, head, head.merge(_part(place, head, a), _part(place, head, b)))
        return merged

    def finish(self, state: State) -> Tensor:
        """Return the folds of all heads, projected: [G, F_out]."""
        with _full_precision(state["count"]):
            results = []
            for place, head in enumerate(self._monoids()):
                out = head.finish(_part(place, head, state), state["count"])
                if self.flows is not None:
                    slots = torch.unflatten(out, 1, (head.slots, head.channels))
                    out = cast(CouplingFlow, self.flows[place]).inverse(slots).flatten(1)
                results.append(out)
            folded = torch.cat(results, 1)
            return affine(self.project_out.weight, self.project_out.bias, folded) if self.project else folded

    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return what every head makes of the rows ``x`` [N, F], and their counts [G]."""
        with _full_precision(x):
            if self.project:
                x = self.project_in(x.to(self.project_in.weight.dtype))
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            heads = self._monoids()
            rows = list(torch.split(x, [head.channels for head in heads], 1)) if self.project else [x] * len(heads)
            if self.flows is not None:
                rows = [flow(part) for flow, part in zip(self.flows, rows, strict=True)]
            return self._fold_heads(rows, layout)

    def _fold_heads(self, rows: list[Tensor], layout: GroupLayout) -> State:
        state = {"count": layout.ptr.diff()}
        for place, (head, part) in enumerate(zip(self._monoids(), rows, strict=True)):
            state.update(_named(place, head, head.fold(part, layout)))  # |= does not compile in torch 2.6
        return state

    def _monoids(self) -> list[Monoid]:
        return [cast(Monoid, head) for head in self.heads]

    def _check_rows(self, rows: Tensor) -> None:
        if self.in_channels == -1:
            self.in_channels = self.project_in.in_channels  # known after the first rows or load_state_dict
        super()._check_rows(rows)

    def __repr__(self) -> str:
        heads = ", ".join(repr(head) for head in self.heads)
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, heads=[{heads}])"


def _check_settings(
    in_channels: int, out_channels: int | None, heads: Sequence[Any], channels: int | None, project: bool
) -> None:
    if isinstance(heads, str) or not heads:
        raise InputError(f"heads must be a sequence of at least one head or name, got {heads!r}")
    if in_channels < 1 and not (in_channels == -1 and project):
        raise InputError(f"in_channels must be at least 1, or -1 with project=True, got {in_channels}")
    if project and (out_channels is None or out_channels < 1):
        raise InputError(f"out_channels must be at least 1, got {out_channels}; leave it out with project=False only")
    if not project and not (out_channels is channels is None):
        raise InputError(
            "without projections the channels follow from in_channels; leave out_channels and channels out"
        )


def _resolved(head: str | Monoid, channels: int) -> Monoid:
    if isinstance(head, Monoid):
        return head
    if head not in _HEADS:
        raise InputError(f"unknown head {head!r}; available: {', '.join(_HEADS)}, or a Monoid")
    return _HEADS[head](channels)


def _full_precision(like: Tensor) -> torch.autocast:
    return torch.autocast(like.device.type, enabled=False)


def _named(place: int, head: Monoid, state: State) -> State:
    return {f"{place}.{type(head).__name__}.{name}": tensor for name, tensor in state.items()}


def _part(place: int, head: Monoid, state: State) -> State:
    prefix = f"{place}.{type(head).__name__}."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
