"""Graphs to vectors: messages along typed edges, with any aggregator for neighbours and for the readout."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch_geometric.nn import GINEConv

from graphinv.aggr import GroupAggregation, MonoidBankAggregation
from graphinv.errors import InputError, check_positive
from graphinv.graphs import GraphBatch
from graphinv.nn.embed import MLP

__all__ = ["GraphEncoder"]


class GraphEncoder(nn.Module):
    """Map each graph of a batch to C numbers: types embedded, ``layers`` rounds of messages, one readout.

    h_i <- h_i + MLP(LN(h_i + aggr_j relu(h_j + e_ij))) (GINE, arXiv:1905.12265, with residuals and layer norm, so that
    a graph's result does not depend on its batch-mates).

    Args:
        node_types: number of node types, at least 1.
        edge_types: number of edge types, at least 1; an edge holds 1 .. edge_types.
        channels: C.
        layers: rounds of messages, at least 1.
        aggr: makes the aggregator of a layer, [E, C] to [N, C]; the sum if None.
        readout: makes the aggregator of the nodes, [N, C] to [B, C]; a monoid bank of sum, mean and max if None.

    Raises:
        InputError: a setting is below 1.

    Example:
        >>> from graphinv.testing import random_graphs
        >>> encoder = GraphEncoder(node_types=4, edge_types=3, channels=16)
        >>> encoder(random_graphs(5)).shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        node_types: int,
        edge_types: int,
        channels: int,
        layers: int = 3,
        *,
        aggr: Callable[[], GroupAggregation] | None = None,
        readout: Callable[[], GroupAggregation] | None = None,
    ) -> None:
        super().__init__()
        check_positive(node_types=node_types, edge_types=edge_types, channels=channels, layers=layers)
        self.node_types, self.edge_types = node_types, edge_types
        self.nodes = nn.Embedding(node_types, channels)
        self.edges = nn.Embedding(edge_types + 1, channels)
        self.layers = nn.ModuleList(
            GINEConv(_Update(channels), aggr="sum" if aggr is None else aggr()) for _ in range(layers)
        )
        heads = ("sum", "mean", "max")
        self.readout = MonoidBankAggregation(channels, channels, heads=heads) if readout is None else readout()

    def forward(self, graphs: GraphBatch) -> Tensor:
        """Return [B, C].

        Raises:
            InputError: nodes or edges have no integer types, or a type is out of range.
        """
        self._check(graphs)
        h = self.nodes(graphs.x.long())
        messages = self.edges(graphs.edge_attr.long()) if graphs.edge_attr is not None else None
        for layer in self.layers:
            h = h + layer(h, graphs.edge_index, messages)
        out: Tensor = self.readout(h, ptr=graphs.ptr)
        return out

    def _check(self, graphs: GraphBatch) -> None:
        for name, types, limit in (
            ("x", graphs.x, self.node_types),
            ("edge_attr", graphs.edge_attr, self.edge_types + 1),
        ):
            if types is None or types.dim() != 1 or types.is_floating_point():
                raise InputError(
                    f"{name} must hold one integer type each, got {None if types is None else types.dtype}"
                )
            if types.device.type == "cpu" and types.numel() and not 0 <= int(types.min()) <= int(types.max()) < limit:
                raise InputError(f"{name} must be in 0..{limit - 1}, got {int(types.min())}..{int(types.max())}")


class _Update(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mlp = MLP(2, channels, 2 * channels, channels, torch.relu_)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.mlp(self.norm(h))
        return out
