"""Set Transformer as an aggregation (Lee et al. 2019, arXiv:1810.00825).

Encoders in which the elements of a group see one another, then learned seeds that attend to the group. The blocks
themselves map rows group after group and can be put together in other ways.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphinv.aggr._flow import affine
from graphinv.aggr.base import GroupAggregation
from graphinv.aggr.layout import GroupLayout
from graphinv.aggr.pool._attention_blocks import (
    InducedSetAttentionBlock,
    MultiheadAttentionBlock,
    PoolingByMultiheadAttention,
    SetAttentionBlock,
)
from graphinv.errors import InputError

__all__ = [
    "InducedSetAttentionBlock",
    "MultiheadAttentionBlock",
    "PoolingByMultiheadAttention",
    "SetAttentionBlock",
    "SetTransformerAggregation",
]


class SetTransformerAggregation(GroupAggregation):
    """Set Transformer: project, encode by self-attention, pool by learned seeds, project their results together.

    Use it where elements matter by their relations to others of the set: clustering, distinct elements, extremes. It
    sees proportions and not numbers: copies of every element change nothing. With SAB a group of n rows takes O(n^2)
    time; with ``induced`` points m, O(n m). Memory is O(n) in both cases: nothing is padded and no n x n map is kept.
    An empty group gives what the seeds alone give.

    Args:
        in_channels: F, channels of a row.
        out_channels: channels of the result.
        hidden: channels inside; ``heads`` divides them.
        heads: of each attention.
        encoders: number of SAB or ISAB before the pooling.
        induced: m, points of ISAB; None for SAB.
        seeds: of the pooling; their results are concatenated before the last projection.
        layer_norm: False leaves layer normalisation out.
        dropout: in every block, in training only.

    Raises:
        InputError: the settings do not fit.

    Example:
        >>> pool = SetTransformerAggregation(4, 8, hidden=16, seeds=2, induced=3)
        >>> pool(torch.randn(3, 4), torch.tensor([0, 2, 0]), dim_size=3).shape
        torch.Size([3, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden: int = 64,
        heads: int = 4,
        encoders: int = 1,
        induced: int | None = None,
        seeds: int = 1,
        layer_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if in_channels < 1 or out_channels < 1 or encoders < 0:
            raise InputError(
                "in_channels and out_channels must be at least 1 and encoders at least 0, "
                f"got {in_channels}, {out_channels} and {encoders}"
            )
        self.in_channels, self.out_channels, self.hidden, self.induced = in_channels, out_channels, hidden, induced
        self.project_in = nn.Linear(in_channels, hidden)
        self.encoders = nn.ModuleList(
            SetAttentionBlock(hidden, heads, layer_norm=layer_norm, dropout=dropout)
            if induced is None
            else InducedSetAttentionBlock(hidden, induced, heads, layer_norm=layer_norm, dropout=dropout)
            for _ in range(encoders)
        )
        self.pool = PoolingByMultiheadAttention(hidden, seeds, heads, layer_norm=layer_norm, dropout=dropout)
        self.project_out = nn.Linear(seeds * hidden, out_channels)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in (self.project_in, *self.encoders, self.pool, self.project_out):
            module.reset_parameters()

    def reduce_groups(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Return the result of the rows ``x`` [N, F]: [G, F_out]."""
        wide = torch.promote_types(self.project_in.weight.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            rows = affine(self.project_in.weight, self.project_in.bias, layout.grouped(x).to(wide))
            for encoder in self.encoders:
                rows = encoder(rows, layout.ptr)
            # Once for all empty groups: a matrix product may round equal rows differently at different places.
            empty = self._pooled(rows[:0], layout.ptr.new_zeros(2))
            out = torch.where(layout.counts.unsqueeze(1) > 0, self._pooled(rows, layout.ptr), empty)
        return out.to(x.dtype)

    def _pooled(self, rows: Tensor, ptr: Tensor) -> Tensor:
        results = self.pool(rows, ptr)  # [G * seeds, hidden]
        joined = results.reshape(ptr.shape[0] - 1, self.project_out.in_features)
        return affine(self.project_out.weight, self.project_out.bias, joined)

    def __repr__(self) -> str:
        attention = "SAB" if self.induced is None else f"ISAB({self.induced})"
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, hidden={self.hidden}, "
            f"encoders={len(self.encoders)} {attention}, seeds={self.project_out.in_features // self.hidden})"
        )
