"""Normalisation of nodes and pairs: per row (layer, rms), or per channel over the rows that exist (batch).

Each takes the residual stream and returns ``(residual, normalised)``. "batch" returns its output as both: the network
of the PARD paper normalises in place, so its residual stream is replaced (arXiv:2402.03687 does not say so).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from graphinv.errors import InputError

__all__ = ["MaskedBatchNorm", "NormKind", "ResidualNorm"]

NormKind = Literal["layer", "rms", "batch"]


class ResidualNorm(nn.Module):
    """Normalise the residual stream ``x`` ``[*, C]``; see the module.

    Args:
        channels: C.
        kind: "layer", "rms" or "batch".

    Example:
        >>> residual, normal = ResidualNorm(4, "layer")(torch.arange(8.0).reshape(2, 4))
        >>> residual[0].tolist(), [round(v, 2) for v in normal[0].tolist()]
        ([0.0, 1.0, 2.0, 3.0], [-1.34, -0.45, 0.45, 1.34])
    """

    def __init__(self, channels: int, kind: NormKind) -> None:
        super().__init__()
        if kind not in get_args(NormKind):
            raise InputError(f"norm must be one of {', '.join(get_args(NormKind))}, got {kind!r}")
        self.kind = kind
        self.norm: nn.Module
        if kind == "batch":
            self.norm = MaskedBatchNorm(channels)
        else:
            self.norm = nn.LayerNorm(channels) if kind == "layer" else nn.RMSNorm(channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the residual stream to go on with and the normalised rows, both ``[*, C]``.

        Args:
            x: ``[*, C]``.
            mask: ``[*]`` bool, the rows that exist; only "batch" in training looks at it.
        """
        if self.kind == "batch":
            normal = self.norm(x, mask)
            return normal, normal
        return x, self.norm(x)


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over the rows of a mask; in eval mode by the running statistics.

    In training the batch and the blocks of a graph see each other through the statistics.

    Example:
        >>> norm = MaskedBatchNorm(1)
        >>> norm(torch.tensor([[1.0], [3.0], [99.0]]), torch.tensor([True, True, False]))[:2].round().tolist()
        [[-1.0], [1.0]]
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise ``x`` ``[*, C]`` with the statistics of the rows in ``mask`` ``[*]`` (all if None)."""
        mean, var = self._statistics(x, mask) if self.training else (self.running_mean, self.running_var)
        scale = self.weight * (var + self.eps).rsqrt()
        return torch.addcmul(self.bias - mean * scale, x.to(scale.dtype), scale)

    def _statistics(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        rows = x.flatten(0, -2).to(self.running_mean.dtype)  # under autocast x may be of half precision
        weight = rows.new_ones(len(rows), 1) if mask is None else mask.reshape(-1, 1).to(rows.dtype)
        count = weight.sum().clamp(min=1)
        mean = (weight * rows).sum(0) / count
        var = (weight * (rows - mean).square()).sum(0) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1).clamp(min=1), self.momentum)
        return mean, var
