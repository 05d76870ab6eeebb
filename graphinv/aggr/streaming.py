"""Aggregators whose groups may come in parts: the state of a whole follows from the states of its parts.

``init``, ``update``, ``merge`` and ``finalize`` give what ``forward`` gives on all rows at once, up to rounding: for
sets that do not fit into memory, that arrive in time, or that lie on several machines.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from graphinv.aggr.base import GroupAggregation, find_layout
from graphinv.aggr.layout import GroupLayout
from graphinv.errors import InputError

__all__ = ["State", "StreamingAggregation"]

State = dict[str, Tensor]  # tensors [G, *] by name


class StreamingAggregation(GroupAggregation):
    """Base of the aggregators that fold parts: subclasses have ``fold``, ``finish``, and ``combine`` if not a sum."""

    @abstractmethod
    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return the state of the rows ``x`` [N, F], in float32 at least; without rows, the identity of ``merge``."""

    @abstractmethod
    def finish(self, state: State) -> Tensor:
        """Return the result of a state, [G, F_out], in its dtype."""

    def reduce_groups(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Return the result of the rows ``x`` [N, F]: [G, F_out]."""
        return self.finish(self.fold(x, layout)).to(x.dtype)

    def init(self, num_groups: int, device: torch.device | str | None = None) -> State:
        """Return the state of ``num_groups`` groups without rows, tensors [G, *] by name; the identity of ``merge``.

        Args:
            num_groups: G.
            device: of the state; that of the parameters if not given.

        Raises:
            InputError: ``num_groups`` is negative.
        """
        if num_groups < 0:
            raise InputError(f"num_groups must be at least 0, got {num_groups}")
        parameter = next(self.parameters(), torch.empty(0))
        none = torch.empty(0, dtype=torch.int64, device=parameter.device)
        dtype = torch.promote_types(parameter.dtype, torch.float32)
        with torch.no_grad():
            state = self._of_nothing(GroupLayout.from_index(none, num_groups), dtype)
        return {name: value.to(parameter.device if device is None else device) for name, value in state.items()}

    def _of_nothing(self, layout: GroupLayout, dtype: torch.dtype) -> State:
        """Return the state of groups without rows."""
        return self.fold(torch.empty(0, self.in_channels, dtype=dtype, device=layout.device), layout)

    def update(self, state: State, x: Tensor, index: Tensor) -> State:
        """Return the state with the further rows ``x`` [N, F] of the groups ``index`` [N], in any order.

        Raises:
            InputError: the rows, channels, index or state do not fit together.
        """
        if x.dim() != 2:
            raise InputError(f"x must be rows of channels, [N, F], got shape {list(x.shape)}")
        self._check_rows(x)
        num_groups = self._num_groups(state)
        return self.merge(state, self.fold(x, find_layout(x, x.shape[0], index, None, num_groups, None)))

    def merge(self, a: State, b: State) -> State:
        """Return the state of the rows of ``a`` and of ``b`` together, for the same groups on one device.

        Raises:
            InputError: a state is of another module, or they have different numbers of groups.
        """
        sizes = self._num_groups(a), self._num_groups(b)
        if sizes[0] != sizes[1]:
            raise InputError(f"states must be of the same groups, got {sizes[0]} and {sizes[1]} of them")
        return self.combine(a, b)

    def combine(self, a: State, b: State) -> State:
        """Return the state of both together: their sum, where a subclass does not know better."""
        return {name: a[name] + b[name] for name in a}

    def finalize(self, state: State) -> Tensor:
        """Return the result of a state, [G, F_out], in its dtype.

        Raises:
            InputError: the state is of another module.
        """
        self._num_groups(state)
        return self.finish(state)

    def _num_groups(self, state: State) -> int:
        expected = {name: list(value.shape[1:]) for name, value in self.init(0).items()}
        found = {name: list(value.shape[1:]) for name, value in state.items()}
        if found != expected:
            raise InputError(f"expected a state made by this module, with {expected}, got {found}")
        return next(iter(state.values())).shape[0]
