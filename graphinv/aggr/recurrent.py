"""Recurrent aggregators without padding: a GRU or an LSTM reads the rows of each group, N cell rows in all.

Groups are packed position by position, largest first, so that each step is a slice. Order
matters to a recurrent network: these are for comparison with it, and for groups that are sequences.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphinv.aggr._order import is_transformed
from graphinv.aggr._recurrent_kernel import packed_layer, plain_layer
from graphinv.aggr._recurrent_static import RecurrentSettings, last_states
from graphinv.aggr.base import GroupAggregation
from graphinv.aggr.layout import GroupLayout
from graphinv.errors import InputError

__all__ = ["PackedGRUAggregation", "PackedLSTMAggregation"]


class _PackedRecurrent(GroupAggregation):
    """The last state of a recurrent network over each group. Parameters have the names of PyG's module."""

    kind: ClassVar[str]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, num_layers) < 1 or not 0 <= dropout <= 1:
            raise InputError(
                "in_channels, out_channels and num_layers must be at least 1 and dropout in 0 .. 1, got "
                f"{in_channels}, {out_channels}, {num_layers}, {dropout}"
            )
        self.in_channels, self.hidden_channels = in_channels, out_channels
        self.num_layers, self.bias, self.dropout, self.bidirectional = num_layers, bias, dropout, bidirectional
        self.out_channels = out_channels * (2 if bidirectional else 1)
        # torch.compile refuses to trace the modules of torch, so only their parameters are here.
        drawn = list(self._draw().named_parameters())  # a dict would be sorted by name
        self.add_module(self.kind.lower(), nn.ParameterDict(drawn))

    def _draw(self) -> nn.RNNBase:
        module: nn.RNNBase = getattr(nn, self.kind)(
            self.in_channels, self.hidden_channels, self.num_layers, self.bias,
            dropout=self.dropout if self.num_layers > 1 else 0.0, bidirectional=self.bidirectional,
        )  # fmt: skip
        return module

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        with torch.no_grad():
            for own, new in zip(self.parameters(), self._draw().parameters(), strict=True):
                own.copy_(new)

    def reduce_groups(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Return the state after the last row of each group, [G, F_out]; 0 for an empty group."""
        out = x.new_zeros(layout.num_groups, self.out_channels)
        if x.shape[0] == 0:
            return out + 0 * x.sum()
        dtype = torch.promote_types(next(self.parameters()).dtype, torch.float32)
        weights = [weight.to(dtype) for weight in self.parameters()]
        rows = layout.grouped(x).to(dtype)
        with torch.autocast(x.device.type, enabled=False):
            if torch.compiler.is_compiling():
                settings = RecurrentSettings(self.kind, self.num_layers, self.bias, self.bidirectional)
                dropout = self.dropout if self.training else 0.0
                groups, last = last_states(rows, layout, weights, settings, dropout)
            else:
                groups, last = layout.packed().groups, self._packed(rows, layout, weights)
        return out.index_copy(0, groups, last.to(x.dtype))

    def _packed(self, grouped: Tensor, layout: GroupLayout, weights: list[Tensor]) -> Tensor:
        plan = layout.packed()
        sizes, ranks = plan.batch_sizes.tolist(), plan.groups.shape[0]
        rows = grouped.index_select(0, plan.perm)
        run = plain_layer if is_transformed() else packed_layer
        step, directions = (4 if self.bias else 2), (2 if self.bidirectional else 1)
        outputs: list[Tensor] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                rows = F.dropout(rows, self.dropout, self.training)
            outputs = []
            for direction in range(directions):
                first = step * (directions * layer + direction)
                outputs.append(run(rows, sizes, weights[first : first + step], self.kind, direction == 1))
            rows = torch.cat(outputs, 1)
        # A rank's last row: at its last position forwards, at its first backwards.
        last = plan.offsets[plan.sizes[:ranks] - 1] + torch.arange(ranks, device=rows.device)
        ends = [outputs[0].index_select(0, last), *(out[:ranks] for out in outputs[1:])]
        return torch.cat(ends, 1)

    def __repr__(self) -> str:
        layers = f", num_layers={self.num_layers}" if self.num_layers > 1 else ""
        both = ", bidirectional=True" if self.bidirectional else ""
        return f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}{layers}{both})"


class PackedGRUAggregation(_PackedRecurrent):
    """GRU over the rows of each group, in the order given: the last state of the last layer.

    A drop-in for PyG's ``GRUAggregation`` (arXiv:2211.04952) whose result does not depend on the other groups and
    which costs N cell rows, however unequal the groups are. An empty group gives 0.

    Args:
        in_channels: F, channels of a row.
        out_channels: H, channels of the state; the result has H channels, or 2 H if bidirectional.
        num_layers: recurrent layers, one above the other.
        bias: whether the gates have a bias.
        dropout: probability, between layers.
        bidirectional: read each group from the end too.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> aggregator = PackedGRUAggregation(4, 8)
        >>> aggregator(torch.randn(3, 4), torch.tensor([0, 2, 0]), dim_size=3).shape
        torch.Size([3, 8])
    """

    kind = "GRU"


class PackedLSTMAggregation(_PackedRecurrent):
    """LSTM over the rows of each group, in the order given: the last hidden state of the last layer.

    A drop-in for PyG's ``LSTMAggregation`` (GraphSAGE, arXiv:1706.02216) whose result does not depend on the other
    groups and which costs N cell rows, however unequal the groups are. An empty group gives 0. ``torch.compile``
    unrolls the steps: pass it ``max_num_elements``.

    Settings and results as of ``PackedGRUAggregation``: ``x`` [N, F] to [G, H], or [G, 2 H] if bidirectional.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> aggregator = PackedLSTMAggregation(4, 8)
        >>> aggregator(torch.randn(3, 4), torch.tensor([0, 2, 0]), dim_size=3).shape
        torch.Size([3, 8])
    """

    kind = "LSTM"
