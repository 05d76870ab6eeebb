"""Aggregators and set pooling: drop-in ``torch_geometric.nn.aggr.Aggregation`` modules that keep their promises.

A group's result depends on its own rows, not on its batch-mates; nothing is padded to the longest group; unsorted
index, ptr, empty groups, empty input and further dimensions work everywhere.
"""

from __future__ import annotations

from graphinv.aggr._diagnostics import batch_consistency_error, invariance_error
from graphinv.aggr._pyg import register
from graphinv.aggr.base import GroupAggregation, auxiliary_loss
from graphinv.aggr.layout import GroupLayout, forget_layouts
from graphinv.aggr.lcm import LCMAggregation
from graphinv.aggr.monoid import (
    ComplexProductMonoid,
    ElementarySymmetricMonoid,
    LogSumExpMonoid,
    MaxMonoid,
    MeanMonoid,
    MinMonoid,
    Monoid,
    MonoidBankAggregation,
    SumMonoid,
    TopKMonoid,
)
from graphinv.aggr.operators import BinaryOp, GatedSumOp, GRUOp, MaxMinOp, MLPOp
from graphinv.aggr.pool import (
    FishnetsAggregation,
    FSPoolAggregation,
    FSWAggregation,
    GenAggAggregation,
    InducedSetAttentionBlock,
    JanossyAggregation,
    MultiheadAttentionBlock,
    OTKernelAggregation,
    PoolingByMultiheadAttention,
    PSWEAggregation,
    SetAttentionBlock,
    SetTransformerAggregation,
    SlotSetAggregation,
)
from graphinv.aggr.recurrent import PackedGRUAggregation, PackedLSTMAggregation
from graphinv.aggr.streaming import StreamingAggregation

__all__ = [
    "BinaryOp",
    "ComplexProductMonoid",
    "ElementarySymmetricMonoid",
    "FSPoolAggregation",
    "FSWAggregation",
    "FishnetsAggregation",
    "GRUOp",
    "GatedSumOp",
    "GenAggAggregation",
    "GroupAggregation",
    "GroupLayout",
    "InducedSetAttentionBlock",
    "JanossyAggregation",
    "LCMAggregation",
    "LogSumExpMonoid",
    "MLPOp",
    "MaxMinOp",
    "MaxMonoid",
    "MeanMonoid",
    "MinMonoid",
    "Monoid",
    "MonoidBankAggregation",
    "MultiheadAttentionBlock",
    "OTKernelAggregation",
    "PSWEAggregation",
    "PackedGRUAggregation",
    "PackedLSTMAggregation",
    "PoolingByMultiheadAttention",
    "SetAttentionBlock",
    "SetTransformerAggregation",
    "SlotSetAggregation",
    "StreamingAggregation",
    "SumMonoid",
    "TopKMonoid",
    "auxiliary_loss",
    "batch_consistency_error",
    "forget_layouts",
    "invariance_error",
    "register",
]
