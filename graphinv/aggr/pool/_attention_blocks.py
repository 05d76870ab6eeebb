"""The blocks of the Set Transformer (Lee et al. 2019, arXiv:1810.00825) on rows of groups, without padding.

Rows lie group after group, divided by offsets ``ptr`` [G+1]; those of a group take from rows of the same group only.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from graphinv.aggr._flow import affine
from graphinv.errors import InputError
from graphinv.ops import segment_attention

__all__ = [
    "InducedSetAttentionBlock",
    "MultiheadAttentionBlock",
    "PoolingByMultiheadAttention",
    "SetAttentionBlock",
]


class MultiheadAttentionBlock(nn.Module):
    """MAB(X, Y) = LN(H + rFF(H)) with H = LN(X + Multihead(X, Y, Y)): rows X take from the rows Y of their group.

    rFF is one linear layer and ReLU. A group without rows Y gives nothing to take: the block of 0. All is computed
    in the dtype of the rows. O(n m) time and O(n + m) memory for n rows X and m rows Y of a group.

    Args:
        channels: C of X, Y and the result.
        heads: number of heads, a divisor of C.
        layer_norm: False leaves both LN out.
        dropout: chance of each number of either branch beside the sum to be 0 in training, from torch's generator.

    Raises:
        InputError: ``heads`` does not divide ``channels``, or ``dropout`` is not in [0, 1).

    Example:
        >>> block = MultiheadAttentionBlock(8, heads=2)
        >>> block(torch.randn(3, 8), torch.tensor([0, 1, 3]), torch.randn(4, 8), torch.tensor([0, 4, 4])).shape
        torch.Size([3, 8])
    """

    def __init__(self, channels: int, heads: int = 1, *, layer_norm: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if channels < 1 or heads < 1 or channels % heads:
            raise InputError(f"heads must divide channels, both at least 1, got {heads} and {channels}")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.channels, self.heads = channels, heads
        self.query, self.key, self.value, self.out, self.feed = (nn.Linear(channels, channels) for _ in range(5))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2 * layer_norm))
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in (self.query, self.key, self.value, self.out, self.feed, *self.norms):
            module.reset_parameters()

    def forward(self, x: Tensor, ptr: Tensor, y: Tensor, y_ptr: Tensor) -> Tensor:
        """Map ``x`` [M, C] to [M, C], by attention to ``y`` [N, C].

        Args:
            x: rows, group after group.
            ptr: [G+1] int64 offsets of the groups in ``x``.
            y: rows, group after group.
            y_ptr: [G+1] int64 offsets of the same groups in ``y``.

        Raises:
            InputError: the channels or offsets do not fit.
        """
        for name, rows in (("x", x), ("y", y)):
            if rows.dim() != 2 or rows.shape[1] != self.channels:
                raise InputError(f"{name} must be rows of {self.channels} channels, got shape {list(rows.shape)}")
        query, key, value = self._heads(self.query, x), self._heads(self.key, y), self._heads(self.value, y)
        taken = segment_attention(query, key, value, ptr, y_ptr).flatten(1)
        h = self._norm(0, x + self.dropout(_linear(self.out, taken)))
        return self._norm(1, h + self.dropout(_linear(self.feed, h).relu()))

    def _heads(self, linear: nn.Linear, x: Tensor) -> Tensor:
        return torch.unflatten(_linear(linear, x), 1, (self.heads, self.channels // self.heads))

    def _norm(self, place: int, x: Tensor) -> Tensor:
        if not self.norms:
            return x
        norm = cast(nn.LayerNorm, self.norms[place])
        return layer_norm(x, (self.channels,), norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"{self.channels}, heads={self.heads}"


class SetAttentionBlock(nn.Module):
    """SAB(X) = MAB(X, X): the rows of each group see one another. Equivariant; O(n^2) time for a group of n rows.

    Args:
        channels: C, in and out.
        heads: number of heads, a divisor of C.
        layer_norm: False leaves LN out.
        dropout: as in ``MultiheadAttentionBlock``.

    Raises:
        InputError: the settings do not fit.

    Example:
        >>> SetAttentionBlock(8, heads=2)(torch.randn(5, 8), torch.tensor([0, 2, 5])).shape
        torch.Size([5, 8])
    """

    def __init__(self, channels: int, heads: int = 1, *, layer_norm: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.block = MultiheadAttentionBlock(channels, heads, layer_norm=layer_norm, dropout=dropout)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.block.reset_parameters()

    def forward(self, x: Tensor, ptr: Tensor | None = None) -> Tensor:
        """Map rows ``x`` [N, C], group after group, to [N, C].

        Args:
            x: rows; or, without ``ptr``, G groups of n rows each, [G, n, C], with a result of the same shape.
            ptr: [G+1] int64 offsets of the groups.

        Raises:
            InputError: the channels or offsets do not fit.
        """
        rows = x
        if ptr is None:
            if x.dim() != 3:
                raise InputError(f"without ptr, x must be groups of as many rows each, [G, n, C], got {list(x.shape)}")
            rows, ptr = x.flatten(0, 1), _even(x.shape[0], x.shape[1], x.device)
        out: Tensor = self.block(rows, ptr, rows, ptr)
        return out.reshape(x.shape)


class InducedSetAttentionBlock(nn.Module):
    """ISAB(X) = MAB(X, MAB(I, X)): the rows see one another through m learned points I. Equivariant.

    O(n m) time for a group of n rows. Every group has m rows more, so it pays for groups much larger than m; smaller
    ones are cheaper with ``SetAttentionBlock``.

    Args:
        channels: C, in and out.
        points: m, the number of learned points, the same for every group.
        heads: number of heads, a divisor of C.
        layer_norm: False leaves LN out.
        dropout: as in ``MultiheadAttentionBlock``.

    Raises:
        InputError: the settings do not fit.

    Example:
        >>> InducedSetAttentionBlock(8, points=4)(torch.randn(5, 8), torch.tensor([0, 2, 5])).shape
        torch.Size([5, 8])
    """

    def __init__(
        self, channels: int, points: int, heads: int = 1, *, layer_norm: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.gather, self.spread = (
            MultiheadAttentionBlock(channels, heads, layer_norm=layer_norm, dropout=dropout) for _ in range(2)
        )
        self.points = nn.Parameter(_points(points, channels))

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        nn.init.xavier_uniform_(self.points)
        self.gather.reset_parameters()
        self.spread.reset_parameters()

    def forward(self, x: Tensor, ptr: Tensor) -> Tensor:
        """Map rows ``x`` [N, C], group after group with offsets ``ptr`` [G+1], to [N, C].

        Raises:
            InputError: the channels or offsets do not fit.
        """
        points, points_ptr = _for_each_group(self.points, ptr, x)
        out: Tensor = self.spread(x, ptr, self.gather(points, points_ptr, x, ptr), points_ptr)
        return out


class PoolingByMultiheadAttention(nn.Module):
    """PMA(X) = MAB(S, rFF(X)): k learned seeds S attend to each group. O(n k) time; invariant.

    Args:
        channels: C, in and out.
        seeds: k, results of each group.
        heads: number of heads, a divisor of C.
        layer_norm: False leaves LN out.
        dropout: as in ``MultiheadAttentionBlock``.

    Raises:
        InputError: the settings do not fit.

    Example:
        >>> PoolingByMultiheadAttention(8, seeds=2)(torch.randn(5, 8), torch.tensor([0, 2, 5, 5])).shape
        torch.Size([6, 8])
    """

    def __init__(
        self, channels: int, seeds: int = 1, heads: int = 1, *, layer_norm: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.feed = nn.Linear(channels, channels)
        self.block = MultiheadAttentionBlock(channels, heads, layer_norm=layer_norm, dropout=dropout)
        self.seeds = nn.Parameter(_points(seeds, channels))

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        nn.init.xavier_uniform_(self.seeds)
        self.feed.reset_parameters()
        self.block.reset_parameters()

    def forward(self, x: Tensor, ptr: Tensor) -> Tensor:
        """Map rows ``x`` [N, C], group after group with offsets ``ptr`` [G+1], to [G * k, C], k rows for each group.

        Raises:
            InputError: the channels or offsets do not fit.
        """
        seeds, seeds_ptr = _for_each_group(self.seeds, ptr, x)
        out: Tensor = self.block(seeds, seeds_ptr, _linear(self.feed, x).relu(), ptr)
        return out


def _linear(module: nn.Linear, x: Tensor) -> Tensor:
    return affine(module.weight, module.bias, x)


def _points(count: int, channels: int) -> Tensor:
    if count < 1 or channels < 1:
        raise InputError(f"the number of learned points must be at least 1, got {count} of {channels} channels")
    return nn.init.xavier_uniform_(torch.empty(count, channels))


def _for_each_group(points: Tensor, ptr: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the learned points [m, C] once for each group, [G * m, C] in the dtype of ``like``, and their offsets."""
    groups = ptr.shape[0] - 1
    return points.to(like.dtype).repeat(groups, 1), _even(groups, points.shape[0], ptr.device)


def _even(groups: int, size: int, device: torch.device) -> Tensor:
    """Return the offsets [G+1] of groups of equal size."""
    return torch.arange(groups + 1, device=device) * size
