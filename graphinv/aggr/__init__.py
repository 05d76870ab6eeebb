"""Aggregators and set pooling: drop-in ``torch_geometric.nn.aggr.Aggregation`` modules that keep their promises.

A group's result depends on its own rows, not on its batch-mates; nothing is padded to the longest group; unsorted
index, ptr, empty groups, empty input and further dimensions work everywhere.
"""

from __future__ import annotations

from graphinv.aggr._diagnostics import batch_consistency_error, invariance_error
from graphinv.aggr._layout_cache import forget_layouts
from graphinv.aggr._pyg import register
from graphinv.aggr.base import GroupAggregation
from graphinv.aggr.layout import GroupLayout
from graphinv.aggr.lcm import LCMAggregation, auxiliary_loss
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
from graphinv.aggr.recurrent import PackedGRUAggregation, PackedLSTMAggregation

__all__ = [
    "BinaryOp",
    "ComplexProductMonoid",
    "ElementarySymmetricMonoid",
    "GRUOp",
    "GatedSumOp",
    "GroupAggregation",
    "GroupLayout",
    "LCMAggregation",
    "LogSumExpMonoid",
    "MLPOp",
    "MaxMinOp",
    "MaxMonoid",
    "MeanMonoid",
    "MinMonoid",
    "Monoid",
    "MonoidBankAggregation",
    "PackedGRUAggregation",
    "PackedLSTMAggregation",
    "SumMonoid",
    "TopKMonoid",
    "auxiliary_loss",
    "batch_consistency_error",
    "forget_layouts",
    "invariance_error",
    "register",
]
