"""An invertible map of channels, to put before and, inverted, after a fold."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from graphinv.errors import InputError

__all__ = ["CouplingFlow", "affine"]


class CouplingFlow(nn.Module):
    """An invertible map of C channels: each half is scaled and shifted by functions of the other half.

    Two affine couplings (Real NVP, arXiv:1605.08803) of one hidden layer each; scales lie between 1/e and e. It
    starts as the identity.

    Args:
        channels: C, at least 2.

    Raises:
        InputError: there are fewer than 2 channels.

    Example:
        >>> flow, x = CouplingFlow(4), torch.randn(3, 4)
        >>> torch.allclose(flow.inverse(flow(x)), x)
        True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 2:
            raise InputError(f"a flow mixes channels and needs at least 2 of them in each head, got {channels}")
        self.sizes = [channels // 2, channels - channels // 2]
        self.first = _Coupling(self.sizes[0], self.sizes[1])
        self.second = _Coupling(self.sizes[1], self.sizes[0])

    def reset_parameters(self) -> None:
        """Draw the hidden layers anew and start again as the identity."""
        self.first.reset_parameters()
        self.second.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` [*, C]."""
        a, b = torch.split(x, self.sizes, -1)
        scale, shift = self.first(a)
        b = b * scale + shift
        scale, shift = self.second(b)
        return torch.cat([a * scale + shift, b], -1)

    def inverse(self, y: Tensor) -> Tensor:
        """Map ``y`` [*, C] back."""
        a, b = torch.split(y, self.sizes, -1)
        scale, shift = self.second(b)
        a = (a - shift) / scale
        scale, shift = self.first(a)
        return torch.cat([a, (b - shift) / scale], -1)


class _Coupling(nn.Module):
    """Scale and shift of some channels, as a function of the others."""

    def __init__(self, given: int, changed: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(given, given + changed)
        self.out = nn.Linear(given + changed, 2 * changed)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.hidden.reset_parameters()
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        # In the dtype of the rows, whatever that of the weights: rounding between the two ways would not cancel.
        hidden = affine(self.hidden.weight, self.hidden.bias, given).tanh()
        log_scale, shift = affine(self.out.weight, self.out.bias, hidden).chunk(2, -1)
        return log_scale.tanh().exp(), shift


def affine(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """Apply a linear layer in the dtype of ``x``."""
    return linear(x, weight.to(x.dtype), bias.to(x.dtype))
