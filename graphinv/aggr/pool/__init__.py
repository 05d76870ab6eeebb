"""Set poolings that PyG lacks, as drop-in aggregations: by sorting, transport, attention, tuples, slots and sums."""

from __future__ import annotations

from graphinv.aggr.pool.attention import (
    InducedSetAttentionBlock,
    MultiheadAttentionBlock,
    PoolingByMultiheadAttention,
    SetAttentionBlock,
    SetTransformerAggregation,
)
from graphinv.aggr.pool.general import FishnetsAggregation, GenAggAggregation
from graphinv.aggr.pool.janossy import JanossyAggregation
from graphinv.aggr.pool.slots import SlotSetAggregation
from graphinv.aggr.pool.sorted import FSPoolAggregation, FSWAggregation, PSWEAggregation
from graphinv.aggr.pool.transport import OTKernelAggregation

__all__ = [
    "FSPoolAggregation",
    "FSWAggregation",
    "FishnetsAggregation",
    "GenAggAggregation",
    "InducedSetAttentionBlock",
    "JanossyAggregation",
    "MultiheadAttentionBlock",
    "OTKernelAggregation",
    "PSWEAggregation",
    "PoolingByMultiheadAttention",
    "SetAttentionBlock",
    "SetTransformerAggregation",
    "SlotSetAggregation",
]
