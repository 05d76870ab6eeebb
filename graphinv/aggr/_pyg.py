"""Make the aggregators reachable by name where PyG takes a name: ``SAGEConv(16, 32, aggr="lcm")``."""

from __future__ import annotations

from collections.abc import Callable

from torch_geometric.nn import aggr as pyg

from graphinv.aggr.lcm import LCMAggregation
from graphinv.aggr.monoid import MonoidBankAggregation
from graphinv.aggr.pool import (
    FishnetsAggregation,
    FSPoolAggregation,
    FSWAggregation,
    GenAggAggregation,
    JanossyAggregation,
    OTKernelAggregation,
    PSWEAggregation,
    SetTransformerAggregation,
    SlotSetAggregation,
)
from graphinv.aggr.recurrent import PackedGRUAggregation, PackedLSTMAggregation

__all__ = ["register"]

_NAMED = (
    FSPoolAggregation,
    FSWAggregation,
    FishnetsAggregation,
    GenAggAggregation,
    JanossyAggregation,
    LCMAggregation,
    MonoidBankAggregation,
    OTKernelAggregation,
    PSWEAggregation,
    PackedGRUAggregation,
    PackedLSTMAggregation,
    SetTransformerAggregation,
    SlotSetAggregation,
)


def register() -> Callable[[], None]:
    """Let PyG find the aggregators of this package by name.

    The names: fishnets, fs_pool, fsw, gen_agg, janossy, lcm, monoid_bank, ot_kernel, packed_gru, packed_lstm, pswe,
    set_transformer, slot_set. From then on "lcm" and "set_transformer" are no longer PyG's own; those stay
    ``torch_geometric.nn.aggr.lcm.LCMAggregation`` and ``torch_geometric.nn.aggr.set_transformer``. Calling twice
    does no harm. Settings go through ``aggr_kwargs``; layers that pass none on, as PNAConv, take an instance.

    Returns:
        a function that makes the names mean what they meant before.

    Example:
        >>> import torch
        >>> from torch_geometric.nn import SAGEConv
        >>> undo = register()
        >>> conv = SAGEConv(16, 32, aggr="lcm", aggr_kwargs={"in_channels": 16})
        >>> conv(torch.randn(3, 16), torch.tensor([[0, 1, 2], [1, 2, 0]])).shape
        torch.Size([3, 32])
        >>> undo()
    """
    # PyG's resolver looks through the names of this module.
    before = {cls.__name__: getattr(pyg, cls.__name__, None) for cls in _NAMED}
    for cls in _NAMED:
        setattr(pyg, cls.__name__, cls)

    def undo() -> None:
        for name, value in before.items():
            if value is None:
                vars(pyg).pop(name, None)
            else:
                setattr(pyg, name, value)

    return undo
