"""The part of a set function behind its first linear layer, and its slope written out."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from graphinv.errors import InputError
from graphinv.nn.embed import MLP

__all__ = ["Activation", "Head"]

Activation = Literal["relu", "silu"]


class Head(nn.Module):
    """First layer before its nonlinearity, [*, H], to F, [*]: nonlinearity, gate, ``layers`` linear maps.

    ``slope`` is a backward pass in plain operations: it works in inference mode and can be differentiated again.
    """

    def __init__(self, hidden: int, layers: int, activation: Activation) -> None:
        super().__init__()
        if activation not in get_args(Activation):
            raise InputError(f"unknown activation {activation!r}; available: {', '.join(get_args(Activation))}")
        self.smooth = activation == "silu"
        self.mlp = MLP(layers, hidden, hidden, 1, nn.functional.silu if self.smooth else torch.relu_)

    def forward(self, before: Tensor, gate: Tensor | None) -> Tensor:
        """Return F [*]; ``gate`` [*, H] multiplies the first layer, None is 1."""
        x = self._bend(before)
        out: Tensor = self.mlp(x if gate is None else x * gate)
        return out.squeeze(-1)

    def slope(self, before: Tensor, gate: Tensor | None) -> Tensor:
        """Return dF/d before, [*, H]."""
        *inner, last = (linear for linear in self.mlp.linears if isinstance(linear, nn.Linear))
        x = self._bend(before) if gate is None else self._bend(before) * gate
        slopes = []
        for linear in inner:
            x = linear(x)
            slopes.append(self._bend_slope(x))
            x = self._bend(x)
        out = last.weight.expand(*before.shape[:-1], -1)
        for linear, own in zip(reversed(inner), reversed(slopes), strict=True):
            out = (out * own) @ linear.weight
        return (out if gate is None else out * gate) * self._bend_slope(before)

    def _bend(self, x: Tensor) -> Tensor:
        return nn.functional.silu(x) if self.smooth else x.relu()

    def _bend_slope(self, x: Tensor) -> Tensor:
        if not self.smooth:
            return (x > 0).to(x.dtype)
        s = x.sigmoid()
        return s * (1 + x * (1 - s))
