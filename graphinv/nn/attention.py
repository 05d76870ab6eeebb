"""Graph convolutions and the graph multi-head attention of GDSS on dense, noisy adjacencies.

arXiv:2202.02514, section 3.3 and appendix C. All channels of a layer run together: one normalised adjacency per
channel serves queries, keys and values, and edges live in the pair layout of ``embed``. Not a softmax attention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphinv.nn.embed import MLP
from graphinv.ops.pairs import from_pairs, pair_index

__all__ = ["AttentionLayer", "DenseGCNConv", "normalise"]

_FEW_NODES = 12  # on a CPU; examples/benchmarks/score_network.py --max-nodes compares sizes


def normalise(adj: Tensor) -> Tensor:
    """Return D^-1/2 A D^-1/2 of ``adj`` ``[*, M, M]``, whose diagonal the caller has set to 1.

    The row sum is clamped at 1 from below: a noisy adjacency has negative entries.
    """
    scale = adj.sum(-1).clamp(min=1).rsqrt()
    return scale.unsqueeze(-1) * adj * scale.unsqueeze(-2)


class DenseGCNConv(nn.Module):
    """Graph convolution ``Â x W + b`` with an already normalised adjacency.

    Args:
        inputs, outputs: features. ``weight`` is ``[inputs, outputs]``, not transposed.

    Example:
        >>> conv = DenseGCNConv(4, 8)
        >>> conv(torch.zeros(2, 5, 4), normalise(torch.eye(5).expand(2, 5, 5))).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, adj: Tensor) -> Tensor:
        """Map ``x`` ``[B, M, inputs]`` to ``[B, M, outputs]``; ``adj`` ``[B, M, M]`` as from ``normalise``."""
        return (adj @ x) @ self.weight + self.bias


class AttentionLayer(nn.Module):
    """One layer of graph multi-head attention: nodes and C edge channels in, nodes and edge channels out.

    Each input channel c has its own convolutions q, k, v; S_c = mean over heads of tanh(q k^T / sqrt(outputs)),
    symmetrised. The edge MLP reads [S_1..S_C, A_1..A_C] of every pair; the node MLP reads [v_1..v_C].
    A channel's diagonal never reaches anything but diagonals, so pairs i < j are all that is computed.

    Args:
        inputs, attention, outputs: node features in, of q and k, and out.
        channels_in, channels_out: edge channels.
        edge_layers: linear maps of the edge MLP.
        heads: attention heads; must divide ``attention``.
        update_nodes, update_edges: compute (and own the weights of) that output; the other one is returned as None.
    """

    def __init__(
        self,
        inputs: int,
        attention: int,
        outputs: int,
        channels_in: int,
        channels_out: int,
        edge_layers: int,
        heads: int = 4,
        *,
        update_nodes: bool = True,
        update_edges: bool = True,
    ) -> None:
        super().__init__()
        hidden = 2 * max(channels_in, channels_out)
        self.heads = heads
        self.scale = 1 / math.sqrt(outputs)
        self.qk_width = 2 * attention if update_edges else 0
        parts = ([attention, attention] if update_edges else []) + ([outputs] if update_nodes else [])
        weights = [nn.init.xavier_uniform_(torch.empty(inputs, p)) for _ in range(channels_in) for p in parts]
        self.weight = nn.Parameter(
            torch.cat(weights, 1).reshape(inputs, channels_in, sum(parts)).transpose(0, 1).contiguous()
        )
        self.bias = nn.Parameter(torch.zeros(channels_in, 1, sum(parts)))
        self.node_mlp = MLP(2, channels_in * outputs, hidden, outputs) if update_nodes else None
        self.edge_mlp = MLP(edge_layers, 2 * channels_in, hidden, channels_out) if update_edges else None

    def forward(self, x: Tensor, pairs: Tensor, mask: Tensor, pair_mask: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return new nodes ``[B, M, outputs]`` and new pairs ``[channels_out, B, P]``.

        Args:
            x: ``[B, M, inputs]``.
            pairs: ``[channels_in, B, P]``.
            mask: ``[B, M, 1]`` of the dtype of x, 1 where the node exists.
            pair_mask: ``[B, P]`` likewise.
        """
        channels, size = pairs.size(0), x.size(1)
        adj = normalise(from_pairs(pairs, size, diagonal=1.0))  # [C, B, M, M]
        mixed = (adj @ x).flatten(1, 2)  # [C, B*M, inputs]
        qkv = torch.baddbmm(self.bias, mixed, self.weight)
        qkv = qkv.reshape(channels, *x.shape[:2], self.weight.size(-1))  # [C, B, M, width]
        nodes = edges = None
        qk, values = torch.split(qkv, [self.qk_width, qkv.size(-1) - self.qk_width], -1)
        if self.node_mlp is not None:
            nodes = torch.tanh(self.node_mlp(values.permute(1, 2, 0, 3).flatten(2)) * mask)
        if self.edge_mlp is not None:
            score = self._score(qk)
            edges = 2 * self.edge_mlp.channels_first(torch.cat([score, pairs])) * pair_mask
        return nodes, edges

    def _score(self, qk: Tensor) -> Tensor:
        """Return the symmetrised scores ``[C, B, P]`` of ``qk`` ``[C, B, M, 2*attention]``."""
        channels, batch, size, width = qk.shape
        upper, lower, _ = pair_index(size, qk.device)
        q, k = torch.split(qk, [width // 2, width // 2], -1)
        q, k = q * self.scale, k.transpose(-1, -2)
        if size <= _FEW_NODES:  # one product with zeros outside the head beats a tiny product per head
            heads = torch.eye(self.heads, dtype=q.dtype, device=q.device).repeat_interleave(width // 2 // self.heads, 1)
            stacked = (q.unsqueeze(2) * heads.unsqueeze(1)).reshape(channels, batch, self.heads * size, width // 2)
            score = (stacked @ k).tanh_().reshape(channels, batch, self.heads, size * size).sum(2)
        else:
            shape = (channels, batch, size, self.heads, width // 2 // self.heads)
            q, k = (t.reshape(shape).permute(3, 0, 1, 2, 4) for t in (q, k.transpose(-1, -2)))
            score = (q @ k.transpose(-1, -2)).tanh_().sum(0).flatten(-2)
        return (score.index_select(-1, upper) + score.index_select(-1, lower)) * (0.5 / self.heads)
