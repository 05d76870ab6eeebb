"""One network for nodes and adjacency that reads the time, of the layers of PARD (arXiv:2402.03687).

Of real fields it returns not a score but the network of ``graphinv.diffusion.precondition``: inputs and targets of unit
variance at every time. Of one-hot classes it returns logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs
from graphinv.nn.block_layout import WholeLayout
from graphinv.nn.embed import time_waves
from graphinv.nn.norm import ResidualNorm
from graphinv.nn.ppgn import PPGNLayer, mlp

__all__ = ["JointScoreNetwork"]


class JointScoreNetwork(nn.Module):
    """Nodes and adjacency from the layers of PARD with the whole graph as one block.

    Args:
        features: F, node features.
        node_dim, edge_dim: channels of nodes and of pairs.
        layers, heads: of the trunk; heads must divide ``node_dim``.
        edge_features: D, features of a pair; None for one real number.
        classes: how many numbers to return of a node and of a pair; None for F and D of them.

    Example:
        >>> net = JointScoreNetwork(4, node_dim=16, edge_dim=8, layers=2, heads=4)
        >>> g = DenseGraphs(torch.zeros(2, 5, 4), torch.zeros(2, 5, 5), torch.ones(2, 5, dtype=torch.bool))
        >>> out = net(g, torch.tensor(0.5))
        >>> out.x.shape, out.adj.shape
        (torch.Size([2, 5, 4]), torch.Size([2, 5, 5]))
    """

    def __init__(
        self,
        features: int,
        node_dim: int,
        edge_dim: int,
        layers: int,
        heads: int,
        edge_features: int | None = None,
        classes: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.features, self.edge_features = features, edge_features
        pair_features = 1 if edge_features is None else edge_features
        self.node_in, self.pair_in = nn.Linear(features, node_dim), nn.Linear(pair_features + 1, edge_dim)
        self.time = nn.Sequential(nn.Linear(node_dim, node_dim), nn.SiLU(), nn.Linear(node_dim, node_dim + edge_dim))
        self.layers = nn.ModuleList(PPGNLayer(node_dim, edge_dim, heads, "layer") for _ in range(layers))
        self.node_norm, self.pair_norm = ResidualNorm(node_dim, "layer"), ResidualNorm(edge_dim, "layer")
        nodes, pairs = classes or (features, pair_features)
        self.node_out, self.pair_out = mlp(node_dim, node_dim, nodes), mlp(edge_dim, edge_dim, pairs)

    def forward(self, g: DenseGraphs, t: Tensor) -> DenseGraphs:
        """Return x ``[B, M, F]`` and adj ``[B, M, M]`` (or ``[B, M, M, D]``), symmetric and hollow, of ``g`` at ``t``.

        ``t`` is ``[B]`` or ``[]``.

        Raises:
            InputError: x or adj has other features than the network reads.
        """
        pair = [] if self.edge_features is None else [self.edge_features]
        if g.x.dim() != 3 or g.x.size(-1) != self.features or list(g.adj.shape[3:]) != pair:
            raise InputError(
                f"this network reads x [B, M, {self.features}] and adj {['B', 'M', 'M', *pair]}, "
                f"got {list(g.x.shape)} and {list(g.adj.shape)}".replace("'", "")
            )
        clean, size = g.masked(), g.mask.size(1)
        layout = WholeLayout(g.mask)
        width = self.node_in.out_features
        time = self.time(time_waves(t, width, g.x.dtype)).reshape(-1, 1, width + self.pair_in.out_features)
        node_time, pair_time = time.split([width, self.pair_in.out_features], -1)
        x = self.node_in(clean.x) + node_time
        adj = clean.adj.unsqueeze(-1) if self.edge_features is None else clean.adj
        self_pairs = torch.eye(size, dtype=g.x.dtype, device=g.x.device).expand(adj.shape[:3]).unsqueeze(-1)
        pairs = self.pair_in(torch.cat([adj, self_pairs], -1)) + pair_time.unsqueeze(1)
        for k, layer in enumerate(self.layers):
            x, pairs = layer(x, pairs, layout, k)
        _, x = self.node_norm(x)
        _, pairs = self.pair_norm(pairs + pairs.transpose(1, 2))
        out = self.pair_out(pairs).masked_fill(self_pairs.bool(), 0)
        out = out.squeeze(-1) if self.edge_features is None else out
        return DenseGraphs(self.node_out(x), out, g.mask).masked()
