"""Make the aggregators reachable by name where PyG takes a name: ``SAGEConv(16, 32, aggr="lcm")``."""

from __future__ import annotations

from torch_geometric.nn import aggr as pyg

from graphinv.aggr.lcm import LCMAggregation
from graphinv.aggr.monoid import MonoidBankAggregation
from graphinv.aggr.recurrent import PackedGRUAggregation, PackedLSTMAggregation

__all__ = ["register"]


def register() -> None:
    """Let PyG's names "lcm", "monoid_bank", "packed_gru" and "packed_lstm" mean the aggregators of this package.

    From then on "lcm" is no longer PyG's own; that stays ``torch_geometric.nn.aggr.lcm.LCMAggregation``. Calling
    twice does no harm. Settings go through ``aggr_kwargs``; layers that pass none on, as PNAConv, take an instance.

    Example:
        >>> import torch
        >>> from torch_geometric.nn import SAGEConv
        >>> register()
        >>> conv = SAGEConv(16, 32, aggr="lcm", aggr_kwargs={"in_channels": 16})
        >>> conv(torch.randn(3, 16), torch.tensor([[0, 1, 2], [1, 2, 0]])).shape
        torch.Size([3, 32])
    """
    # PyG's resolver looks through the names of this module.
    for cls in (LCMAggregation, MonoidBankAggregation, PackedGRUAggregation, PackedLSTMAggregation):
        setattr(pyg, cls.__name__, cls)
