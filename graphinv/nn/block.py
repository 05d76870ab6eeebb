"""The network of PARD: what a noisy block and its pairs were, and the size and degree of the block that follows.

Nodes carry type, block number and block degree, pairs their type and how many blocks apart their ends are; time enters
at noisy nodes only, so finished blocks do not depend on it and can be kept (arXiv:2402.03687, sections 3.2 to 3.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphinv.errors import InputError
from graphinv.nn.block_context import BlockContext
from graphinv.nn.block_layout import BlockLayout
from graphinv.nn.embed import time_waves
from graphinv.nn.norm import NormKind, ResidualNorm
from graphinv.nn.ppgn import PPGNLayer, Recompute, again, mlp

__all__ = ["BlockProperties", "BlockSettings", "Denoiser", "Trunk"]


@dataclass(frozen=True)
class BlockSettings:
    """Shapes of a ``BlockNetwork``.

    Attributes:
        node_types, edge_types: data classes; edges have one more, "none", as class 0.
        max_nodes: most nodes of a graph: bounds block numbers, sizes and degrees.
        node_dim, edge_dim, layers, heads: of the trunk.
        norm: "layer", "rms" or "batch".
        absolute, relative: give nodes their block number, pairs the number of blocks between their ends.
        recompute: what the backward pass computes again instead of keeping it: "none", the inside of pair functions
            ("pairs": less memory for little time), or whole layers ("layers": least memory).
        hops: H of the block order that a network of tokens reads of pairs; 0 for none.
        walks: walk counts of a block's key beyond its degree.
        walk_classes: how many values of each are told apart.
        conditions: numbers of a graph that a network of tokens is told.
        continues: whether a network of tokens knows nodes that are there from the beginning.
    """

    node_types: int
    edge_types: int
    max_nodes: int
    node_dim: int = 256
    edge_dim: int = 64
    layers: int = 8
    heads: int = 8
    norm: NormKind = "layer"
    absolute: bool = True
    relative: bool = True
    recompute: Recompute = "pairs"
    hops: int = 0
    walks: int = 0
    walk_classes: int = 128
    conditions: int = 0
    continues: bool = False

    def __post_init__(self) -> None:
        for name in ("node_types", "edge_types", "max_nodes", "node_dim", "edge_dim", "layers", "heads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.node_dim % self.heads or self.node_dim % 2:
            raise InputError(f"heads = {self.heads} and 2 must divide node_dim, got {self.node_dim}")
        if self.recompute == "layers" and self.norm == "batch":
            raise InputError('recompute "layers" would move the statistics of norm "batch" twice a step; use "pairs"')

    @property
    def node_mask_type(self) -> int:
        """The extra input class of a node that is not known yet."""
        return self.node_types

    @property
    def edge_mask_type(self) -> int:
        """The extra input class of a pair that is not known yet."""
        return self.edge_types + 1

    @property
    def self_type(self) -> int:
        """The input class of the pair (i, i)."""
        return self.edge_types + 2


class Trunk(nn.Module):
    """Embeddings and layers; the same in every layout.

    Args:
        settings: shapes.
        timed: whether there are noisy nodes, which carry time and block degree, in what it reads.
    """

    def __init__(self, settings: BlockSettings, timed: bool = True) -> None:
        super().__init__()
        s = self.settings = settings
        self.node_type = nn.Embedding(s.node_types + 1, s.node_dim)
        self.pair_type = nn.Embedding(s.edge_types + 3, s.edge_dim)
        self.number = nn.Embedding(s.max_nodes, s.node_dim) if s.absolute else None
        self.apart = nn.Embedding(s.max_nodes, s.edge_dim) if s.relative else None
        self.degree = nn.Embedding(s.max_nodes, s.node_dim) if timed else None
        self.time = mlp(s.node_dim, s.node_dim, s.node_dim) if timed else None
        self.layers = nn.ModuleList(
            PPGNLayer(s.node_dim, s.edge_dim, s.heads, s.norm, s.recompute == "pairs") for _ in range(s.layers)
        )
        self.norm_node, self.norm_pair = ResidualNorm(s.node_dim, s.norm), ResidualNorm(s.edge_dim, s.norm)
        self.node_out, self.pair_out = mlp(s.node_dim, s.node_dim, s.node_dim), mlp(s.edge_dim, s.edge_dim, s.edge_dim)

    def nodes(self, types: Tensor, block: Tensor, degree: Tensor, time: Tensor | None) -> Tensor:
        """Return ``[*, Dn]`` of types, block numbers, degrees and times ``[*]``; times in [0, 1], None if real."""
        x: Tensor = self.node_type(types)
        if self.number is not None:
            x = x + self.number(block.clamp(max=self.settings.max_nodes - 1))
        if self.degree is not None:
            x = x + self.degree(degree)
        if self.time is not None and time is not None:
            x = x + self.time(time_waves(time, self.settings.node_dim, x.dtype))
        return x

    def pairs(self, types: Tensor, apart: Tensor) -> Tensor:
        """Return ``[*, De]`` of pair types ``[*]`` and numbers of blocks between the ends ``[*]``."""
        e: Tensor = self.pair_type(types)
        if self.apart is not None:
            e = e + self.apart(apart.clamp(max=self.settings.max_nodes - 1))
        return e

    def forward(self, x: Tensor, pairs: Tensor, layout: BlockLayout) -> tuple[Tensor, Tensor]:
        """Return nodes and pairs after all layers."""
        for k, layer in enumerate(self.layers):
            x, pairs = again(self.settings.recompute == "layers", layer, x, pairs, layout, k)
        _, x = self.norm_node(x, layout.node_mask)
        _, pairs = self.norm_pair(pairs, layout.pair_mask)
        return self.node_out(x), self.pair_out(pairs)

    def empty_context(self, batch: int) -> BlockContext:
        """Return the context of ``batch`` graphs without any finished block."""
        s = self.settings
        return BlockContext.empty(batch, s.layers, s.node_dim, s.edge_dim, self.node_type.weight)


class Classifier(nn.Module):
    """Linear, norm, SiLU, Linear to classes."""

    def __init__(self, inputs: int, hidden: int, classes: int, norm: NormKind) -> None:
        super().__init__()
        self.enter, self.norm, self.out = (
            nn.Linear(inputs, hidden),
            ResidualNorm(hidden, norm),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits ``[*, classes]`` of ``x`` ``[*, inputs]``."""
        out: Tensor = self.out(F.silu(self.norm(self.enter(x), mask)[1]))
        return out


class BlockProperties(nn.Module):
    """Size and key of the next block from a sum over the nodes of all blocks before it.

    A key is the degree of a block's nodes, and up to ``walks`` further walk counts by which the block order compares
    nodes; each is read given those before it.

    Args:
        settings: shapes.
        inputs: channels of what is read of a node.
    """

    def __init__(self, settings: BlockSettings, inputs: int) -> None:
        super().__init__()
        s = self.settings = settings
        self.summary = nn.Linear(inputs, s.node_dim)
        self.size_table = nn.Embedding(s.max_nodes + 1, s.node_dim)
        self.size = Classifier(s.node_dim, s.node_dim, s.max_nodes + 1, s.norm)
        self.degree = Classifier(s.node_dim, s.node_dim, s.max_nodes, s.norm)
        self.first_degree = Classifier(s.node_dim, s.node_dim, s.max_nodes, s.norm)
        if s.conditions:
            self.first_size = nn.Linear(s.node_dim, s.max_nodes + 1)
            nn.init.zeros_(self.first_size.weight)
            nn.init.zeros_(self.first_size.bias)
        if s.walks:
            tables = [s.max_nodes] + (s.walks - 1) * [s.walk_classes]
            self.key_tables = nn.ModuleList(nn.Embedding(n, s.node_dim) for n in tables)
            heads = [Classifier(s.node_dim, s.node_dim, s.walk_classes, s.norm) for _ in range(s.walks)]
            self.walks = nn.ModuleList(heads)

    def rows(self, x: Tensor) -> Tensor:
        """Return ``[*, Dn]`` of ``x`` ``[*, inputs]`` per node; the heads read the sum over finished nodes."""
        return F.silu(self.summary(x))

    def sizes(self, total: Tensor) -> Tensor:
        """Return logits ``[*, max_nodes + 1]`` of the size of the next block, 0 to stop, of ``total`` ``[*, Dn]``."""
        out: Tensor = self.size(total)
        return out

    def degrees(self, total: Tensor, size: Tensor) -> Tensor:
        """Return logits ``[*, max_nodes]`` of the degree of the next block of ``size`` ``[*]`` nodes."""
        out: Tensor = self.degree(total + self.size_table(size))
        return out

    def first_sizes(self, counts: Tensor, start: Tensor) -> Tensor:
        """Return log p ``[*, max_nodes + 1]`` of the size of a first block.

        Args:
            counts: ``[max_nodes + 1]`` how many graphs of training began with each.
            start: ``[*, Dn]`` what is told of a graph before it begins.
        """
        logits = counts.double().log().expand(*start.shape[:-1], -1)
        return (logits + self.first_size(start) if self.settings.conditions else logits).log_softmax(-1)

    def first_degrees(self, size: Tensor, start: Tensor | float = 0.0) -> Tensor:
        """Return logits ``[*, max_nodes]`` of the degree of a first block of ``size`` ``[*]`` nodes."""
        out: Tensor = self.first_degree(start + self.size_table(size))
        return out

    def walk_counts(self, total: Tensor, size: Tensor, key: Tensor) -> Tensor:
        """Return logits ``[*, walk_classes]`` of the next entry of a key of which ``key`` ``[*, k]`` is there.

        ``total`` is what is told of the graph for a first block.
        """
        x, known = total + self.size_table(size), key.size(-1)
        for k in range(known):
            table = self.key_tables[k]
            assert isinstance(table, nn.Embedding)
            x = x + table(key[..., k].clamp(0, table.num_embeddings - 1))
        out: Tensor = self.walks[known - 1](x)
        return out


class Denoiser(nn.Module):
    """Types of noisy nodes and pairs from the output of the trunk."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        s = settings
        self.summary = nn.Linear(s.node_dim + 2 * s.edge_dim, s.node_dim)
        self.node_part = nn.Linear(s.node_dim, 4 * s.edge_dim, bias=False)
        self.pair_part = nn.Linear(s.edge_dim, 2 * s.edge_dim)
        self.node_gate, self.pair_gate = (nn.Linear(2 * s.edge_dim, 2 * s.edge_dim) for _ in range(2))
        self.node_types = Classifier(s.node_dim, s.node_dim, s.node_types, s.norm)
        self.edge_types = Classifier(2 * s.edge_dim, s.edge_dim, s.edge_types + 1, s.norm)

    def rows(self, x: Tensor, pairs: Tensor, layout: BlockLayout) -> Tensor:
        """Return ``[*, Dn]`` per node."""
        return F.silu(self.summary(torch.cat([layout.node_summary(pairs), x], -1)))

    def combine(self, ends: Tensor, pairs: Tensor) -> Tensor:
        """Return ``[*, 2 De]`` of the sum over both ends ``[*, 2 De]`` and the pair ``[*, De]``."""
        e = self.pair_part(pairs)
        return F.silu(torch.addcmul(ends + e, F.silu(self.node_gate(ends)), F.silu(self.pair_gate(e))))
