"""Graph convolutions and the graph multi-head attention of GDSS on dense, noisy adjacencies.

arXiv:2202.02514, section 3.3 and appendix C. All channels of a layer run together: one normalised adjacency per
channel serves queries, keys and values, and edges live in the pair layout of ``embed``. Not a softmax attention.
"""

from __future__ import annotations

import math
from functools import lru_cache

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
        width = self.qk_width // 2
        split = [width, self.weight.size(-1) - width]
        (weight_q, weight), (bias_q, bias) = torch.split(self.weight, split, -1), torch.split(self.bias, split, -1)
        kv = torch.baddbmm(bias, mixed, weight).reshape(channels, *x.shape[:2], split[1])  # [C, B, M, width]
        nodes = edges = None
        if self.node_mlp is not None:
            values = kv[..., width:]
            nodes = torch.tanh(self.node_mlp(values.permute(1, 2, 0, 3).flatten(2)) * mask)
        if self.edge_mlp is not None:
            score = self._score(mixed, weight_q, bias_q, kv[..., :width])
            edges = 2 * self.edge_mlp.channels_first(torch.cat([score, pairs])) * pair_mask
        return nodes, edges

    def _score(self, mixed: Tensor, weight: Tensor, bias: Tensor, keys: Tensor) -> Tensor:
        """Return the symmetrised scores ``[C, B, P]`` of keys ``[C, B, M, attention]`` and queries yet to be made.

        tanh(s) is computed as 2 sigmoid(2 s) - 1, several times faster on a CPU; factor and shift follow the mean.
        """
        channels, batch, size, width = keys.shape
        weight, bias = 2 * self.scale * weight, 2 * self.scale * bias
        if size <= _FEW_NODES:  # one product with zeros outside the head beats a tiny product per head
            heads = torch.eye(self.heads, dtype=weight.dtype, device=weight.device)
            heads = heads.repeat_interleave(width // self.heads, 1)  # [H, attention]
            weight, bias = ((t.unsqueeze(2) * heads).flatten(2) for t in (weight, bias))
            queries = torch.baddbmm(bias, mixed, weight).reshape(channels * batch, size * self.heads, width)
            score = (keys.flatten(0, 1) @ queries.transpose(-1, -2)).sigmoid_().flatten(1)  # [C*B, M*M*H]
            shift, mean = _pair_means(size, self.heads, score.dtype, score.device)
            return torch.addmm(shift, score, mean).reshape(channels, batch, shift.numel())
        upper, lower, _ = pair_index(size, keys.device)
        queries = torch.baddbmm(bias, mixed, weight)
        shape = (channels, batch, size, self.heads, width // self.heads)
        q, k = (t.reshape(shape).permute(3, 0, 1, 2, 4) for t in (queries, keys))
        score = (q @ k.transpose(-1, -2)).sigmoid_().sum(0).flatten(-2)
        return (score.index_select(-1, upper) + score.index_select(-1, lower)) * (1 / self.heads) - 1


@lru_cache(maxsize=64)
def _pair_means(size: int, heads: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return -1 ``[P]`` and the map ``[M*M*H, P]`` of sigmoids (j, i, h) to twice their mean over (i, j) and heads."""
    with torch.inference_mode(False):  # what is kept must serve training as well
        upper, _, _ = pair_index(size, device)
        row, column, pair = upper // size, upper % size, torch.arange(len(upper), device=device)
        mean = torch.zeros(size, size, heads, len(upper), dtype=dtype, device=device)
        mean[row, column, :, pair] = mean[column, row, :, pair] = 1 / heads
        return mean.new_full((len(upper),), -1.0), mean.flatten(0, 2)
