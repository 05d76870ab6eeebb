"""The score networks of GDSS: one for node features, one for adjacencies.

arXiv:2202.02514, equations 9 and 10. Both read the noisy pair (x, adj) and the node mask; neither sees the time.
``adj`` must be symmetric (the diffusion keeps it so); its diagonal is ignored except in the square of adj.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs
from graphinv.nn.attention import AttentionLayer, DenseGCNConv, normalise
from graphinv.nn.embed import MLP
from graphinv.ops.pairs import from_pairs, to_pairs

__all__ = ["ScoreNetworkA", "ScoreNetworkX", "ScoreNetworkX_GMH"]


class ScoreNetworkX(nn.Module):
    """Node scores from ``depth`` graph convolutions.

    Args:
        features: F, node features.
        depth: number of convolutions.
        hidden: width of each.

    Example:
        >>> net = ScoreNetworkX(4, depth=2, hidden=16)
        >>> g = DenseGraphs(torch.zeros(2, 5, 4), torch.zeros(2, 5, 5), torch.ones(2, 5, dtype=torch.bool))
        >>> net(g).shape, sum(p.numel() for p in net.parameters())
        (torch.Size([2, 5, 4]), 8564)
    """

    def __init__(self, features: int, depth: int, hidden: int) -> None:
        super().__init__()
        widths = [features] + [hidden] * depth
        self.layers = nn.ModuleList(DenseGCNConv(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        total = features + depth * hidden
        self.final = MLP(3, total, 2 * total, features)

    def forward(self, g: DenseGraphs) -> Tensor:
        """Return ``[B, M, F]``, zero in the padding."""
        x, adj = _checked(g, self.final.widths[-1])
        unit = torch.eye(adj.size(-1), dtype=torch.bool, device=adj.device)
        adj = normalise(adj.masked_fill(unit, 1.0))
        kept = [x]
        for layer in self.layers:
            kept.append(torch.tanh(layer(kept[-1], adj)))
        out: Tensor = self.final(torch.cat(kept, -1))
        return out * g.mask.unsqueeze(-1).to(out.dtype)


class ScoreNetworkX_GMH(nn.Module):
    """Node scores from ``depth`` layers of graph multi-head attention; used by the second ZINC250k model.

    Args:
        features, depth, hidden: as in ``ScoreNetworkX``.
        attention: width of queries and keys after the first layer.
        channels_init, channels: powers of adj read, edge channels between layers.
        edge_layers: linear maps of the edge MLPs.
        heads: attention heads.

    Example:
        >>> net = ScoreNetworkX_GMH(9, depth=2, hidden=16, attention=16, edge_layers=3)
        >>> g = DenseGraphs(torch.zeros(2, 5, 9), torch.zeros(2, 5, 5), torch.ones(2, 5, dtype=torch.bool))
        >>> net(g).shape
        torch.Size([2, 5, 9])
    """

    def __init__(
        self,
        features: int,
        depth: int,
        hidden: int,
        attention: int,
        edge_layers: int,
        channels_init: int = 2,
        channels: int = 8,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.channels_init = channels_init
        self.layers = nn.ModuleList(
            AttentionLayer(
                hidden if k else features,
                attention if k else hidden,
                hidden,
                channels if k else channels_init,
                channels,
                edge_layers,
                heads,
                update_edges=k < depth - 1,
            )
            for k in range(depth)
        )
        total = features + depth * hidden
        self.final = MLP(3, total, 2 * total, features)

    def forward(self, g: DenseGraphs) -> Tensor:
        """Return ``[B, M, F]``, zero in the padding."""
        x, adj = _checked(g, self.final.widths[-1])
        mask = g.mask.unsqueeze(-1).to(x.dtype)
        pair_mask = to_pairs(g.pair_mask).to(x.dtype)
        pairs, kept = _powers(adj, self.channels_init), [x]
        for layer in self.layers:
            x, edges = layer(kept[-1], pairs, mask, pair_mask)
            pairs = pairs if edges is None else edges
            kept.append(torch.tanh(x))  # a second tanh: the layer ends in one
        out: Tensor = self.final(torch.cat(kept, -1)) * mask
        return out


class ScoreNetworkA(nn.Module):
    """Adjacency scores from ``layers`` layers of graph multi-head attention.

    Args:
        features: F, node features.
        layers: attention layers.
        hidden, attention: width of nodes, and of queries and keys after the first layer.
        edge_layers: linear maps of the edge MLPs.
        channels_init, channels, channels_final: powers of adj read, edge channels between and after the layers.
        heads: attention heads.

    Example:
        >>> net = ScoreNetworkA(4, layers=3, hidden=16, attention=16, edge_layers=3)
        >>> g = DenseGraphs(torch.zeros(2, 5, 4), torch.zeros(2, 5, 5), torch.ones(2, 5, dtype=torch.bool))
        >>> net(g).shape
        torch.Size([2, 5, 5])
    """

    def __init__(
        self,
        features: int,
        layers: int,
        hidden: int,
        attention: int,
        edge_layers: int,
        channels_init: int = 2,
        channels: int = 8,
        channels_final: int = 4,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.features, self.channels_init = features, channels_init
        self.layers = nn.ModuleList(
            AttentionLayer(
                hidden if k else features,
                attention if k else hidden,
                hidden,
                channels if k else channels_init,
                channels_final if k == layers - 1 else channels,
                edge_layers,
                heads,
                update_nodes=k < layers - 1,
            )
            for k in range(layers)
        )
        total = channels_init + channels * (layers - 1) + channels_final
        self.final = MLP(3, total, 2 * total, 1)

    def forward(self, g: DenseGraphs) -> Tensor:
        """Return ``[B, M, M]``: symmetric, zero on the diagonal and in the padding."""
        x, adj = _checked(g, self.features)
        mask = g.mask.unsqueeze(-1).to(x.dtype)
        pair_mask = to_pairs(g.pair_mask).to(x.dtype)
        kept = [_powers(adj, self.channels_init)]
        for layer in self.layers:
            nodes, edges = layer(x, kept[-1], mask, pair_mask)
            x = x if nodes is None else nodes
            kept.append(edges)
        out = self.final.channels_first(torch.cat(kept)).squeeze(0) * pair_mask
        return from_pairs(out, adj.size(-1))


def _powers(adj: Tensor, count: int) -> Tensor:
    """Return A, A^2, .. A^count of ``adj`` ``[B, M, M]`` as pairs ``[count, B, P]``."""
    powers = [adj]
    for _ in range(count - 1):
        powers.append(powers[-1] @ adj)
    return torch.stack([to_pairs(p) for p in powers])


def _checked(g: DenseGraphs, features: int) -> tuple[Tensor, Tensor]:
    """Return x and adj with zeros in the padding, so that whatever stood there cannot reach a real node."""
    if g.x.dim() != 3 or g.x.size(-1) != features or g.adj.dim() != 3:
        raise InputError(
            f"this network reads x [B, M, {features}] and adj [B, M, M], got {list(g.x.shape)} and {list(g.adj.shape)}"
        )
    clean = g.masked()
    return clean.x, clean.adj
