"""One layer on nodes and pairs: an edge transformer, then products of pair maps (PPGN), as in arXiv:2402.03687.

Pairs are narrow and nodes are wide. Attention sums pair features before projecting them, so nothing of node width is
ever held per pair. What reads what is the layout's business (``block_layout``); this layer knows channels only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from graphinv.nn.block_layout import BlockLayout
from graphinv.nn.norm import NormKind, ResidualNorm

__all__ = ["PPGN", "EdgeTransformer", "PPGNLayer", "Recompute", "again", "mlp"]

Recompute = Literal["none", "pairs", "layers"]


def again(wanted: bool, function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function``; if ``wanted``, keep its arguments only and call it again in the backward pass."""
    if wanted and torch.is_grad_enabled():
        return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False)
    return function(*args)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return Linear, SiLU, Linear."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class EdgeTransformer(nn.Module):
    """Attention whose logits and part of whose values are read off gated pair features.

    Z_ij = SiLU(Ek + SiLU(P) Eq + P) with P_ij = q_i + k_j;  E += O Z;
    X_i += O' sum_j softmax_j(A Z_ij) (V x_j + V' Z_ij);  X += MLP(X).

    Args:
        node_dim, edge_dim: channels of nodes and of pairs.
        heads: attention heads; must divide ``node_dim``.
        norm: "layer", "rms" or "batch".
        recompute: compute the gate again in the backward pass.
    """

    def __init__(self, node_dim: int, edge_dim: int, heads: int, norm: NormKind, recompute: bool = False) -> None:
        super().__init__()
        self.recompute = recompute
        self.norm_node, self.norm_pair = ResidualNorm(node_dim, norm), ResidualNorm(edge_dim, norm)
        self.norm_mlp = ResidualNorm(node_dim, norm)
        self.node_qk = nn.Linear(node_dim, 2 * edge_dim)
        self.pair_qk = nn.Linear(edge_dim, 2 * edge_dim)
        self.pair_out = nn.Linear(edge_dim, edge_dim)
        self.attention = nn.Linear(edge_dim, heads)
        self.value = nn.Linear(node_dim, node_dim)
        self.pair_value = nn.Linear(edge_dim, node_dim)
        self.node_out = nn.Linear(node_dim, node_dim)
        self.mlp = mlp(node_dim, 2 * node_dim, node_dim)

    def forward(self, x: Tensor, pairs: Tensor, layout: BlockLayout, k: int) -> tuple[Tensor, Tensor]:
        """Return nodes and pairs after the layer ``k``."""
        x, normal = self.norm_node(x, layout.node_mask)
        pairs, normal_pairs = self.norm_pair(pairs, layout.pair_mask)
        p = layout.pair_sum(k, *self.node_qk(normal).chunk(2, -1))
        z = again(self.recompute, _gated, p, self.pair_qk(normal_pairs))
        pairs = pairs + self.pair_out(z)
        summed, read = layout.attend(k, self.attention(z), z, self.value(normal))
        x = x + self.node_out(read.flatten(-2) + self._project(summed))
        x, normal = self.norm_mlp(x, layout.node_mask)
        return x + self.mlp(normal), pairs

    def _project(self, summed: Tensor) -> Tensor:
        """Return ``[*, Dn]``: V' applied to the pair features ``[*, H, De]`` that each head has summed."""
        weight = self.pair_value.weight.view(summed.size(-2), -1, summed.size(-1))  # [H, Dn / H, De]
        out = torch.einsum("...hd,hod->...ho", summed, weight)
        return out.flatten(-2) + self.pair_value.bias


def _gated(p: Tensor, qk: Tensor) -> Tensor:
    gate, shift = qk.chunk(2, -1)
    return F.silu(torch.addcmul(shift + p, F.silu(p), gate))


class PPGN(nn.Module):
    """Products of pair maps: E_ij += L sum_l SiLU(m1([E_il, E_li])) SiLU(m2(E_lj)), per channel, l over what is read.

    Args:
        edge_dim: channels of pairs.
        norm: "layer", "rms" or "batch".
        recompute: compute the factors and the hidden layer of the MLP again in the backward pass.
    """

    def __init__(self, edge_dim: int, norm: NormKind, recompute: bool = False) -> None:
        super().__init__()
        self.recompute = recompute
        self.norm, self.norm_mlp = ResidualNorm(edge_dim, norm), ResidualNorm(edge_dim, norm)
        self.left_in, self.left_out = nn.Linear(2 * edge_dim, edge_dim), nn.Linear(edge_dim, edge_dim)
        self.right = mlp(edge_dim, edge_dim, edge_dim)
        self.out = nn.Linear(edge_dim, edge_dim)
        self.mlp = mlp(edge_dim, 2 * edge_dim, edge_dim)

    def forward(self, pairs: Tensor, layout: BlockLayout, k: int) -> Tensor:
        """Return the pairs after the layer ``k``."""
        pairs, normal = self.norm(pairs, layout.pair_mask)
        left = again(self.recompute, self._left, normal, layout)
        right = again(self.recompute, self._right, normal)
        pairs = pairs + self.out(layout.product(k, left, right))
        pairs, normal = self.norm_mlp(pairs, layout.pair_mask)
        out: Tensor = pairs + again(self.recompute, self.mlp, normal)
        return out

    def _left(self, normal: Tensor, layout: BlockLayout) -> Tensor:
        own, mirror = self.left_in.weight.chunk(2, 1)  # of [E_ij, E_ji], without holding the two side by side
        left = F.linear(normal, own, self.left_in.bias) + layout.transpose(F.linear(normal, mirror))
        return F.silu(self.left_out(F.silu(left)))

    def _right(self, normal: Tensor) -> Tensor:
        return F.silu(self.right(normal))


class PPGNLayer(nn.Module):
    """An edge transformer followed by a PPGN; see the two."""

    def __init__(self, node_dim: int, edge_dim: int, heads: int, norm: NormKind, recompute: bool = False) -> None:
        super().__init__()
        self.transformer = EdgeTransformer(node_dim, edge_dim, heads, norm, recompute)
        self.ppgn = PPGN(edge_dim, norm, recompute)

    def forward(self, x: Tensor, pairs: Tensor, layout: BlockLayout, k: int) -> tuple[Tensor, Tensor]:
        """Return nodes ``[*, Dn]`` and pairs ``[*, De]`` after the layer ``k``."""
        x, pairs = self.transformer(x, pairs, layout, k)
        return x, self.ppgn(pairs, layout, k)
