"""Networks applied to every row, or to every entry of a channel-first map, and what they read of time.

Edge maps are held as pairs, channels first ``[C, B, P]``, so that a layer of an edge MLP is one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["MLP", "time_waves"]


class MLP(nn.Module):
    """``layers`` linear maps with an activation between them, on rows or on channel-first maps.

    Args:
        layers: number of linear maps, >= 1.
        inputs, hidden, outputs: channels.
        activation: elementwise function between the maps; it may work in place.

    Example:
        >>> net = MLP(2, 3, 8, 1)
        >>> net(torch.zeros(5, 3)).shape, net.channels_first(torch.zeros(3, 5)).shape
        (torch.Size([5, 1]), torch.Size([1, 5]))
    """

    def __init__(
        self,
        layers: int,
        inputs: int,
        hidden: int,
        outputs: int,
        activation: Callable[[Tensor], Tensor] = torch.nn.functional.elu_,
    ) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * (layers - 1) + [outputs]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.widths = widths
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[*, inputs]`` to ``[*, outputs]``."""
        last = len(self.linears) - 1
        for k, linear in enumerate(self.linears):
            x = linear(x) if k == last else self.activation(linear(x))
        return x

    def channels_first(self, x: Tensor) -> Tensor:
        """Map ``[inputs, *]`` to ``[outputs, *]``: the same function as ``forward`` on the transposed layout."""
        flat = x.flatten(1)
        last = len(self.linears) - 1
        for k, linear in enumerate(cast("list[nn.Linear]", self.linears)):
            flat = torch.addmm(linear.bias.unsqueeze(1), linear.weight, flat)
            flat = flat if k == last else self.activation(flat)
        return flat.reshape(self.widths[-1], *x.shape[1:])


def time_waves(time: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """Return ``[*, channels]``: sines, then cosines of 1000 t at frequencies from 1 down to 1e-4."""
    half = channels // 2
    rate = torch.exp(torch.arange(half, device=time.device, dtype=torch.float32) * (-math.log(1e4) / half))
    angle = 1000 * time.to(torch.float32).unsqueeze(-1) * rate
    return torch.cat([angle.sin(), angle.cos()], -1).to(dtype)
