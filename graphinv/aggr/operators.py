"""Commutative operators for ``LCMAggregation``: maps (a, b) of two latents to one latent, with a o b = b o a.

Commutativity is structural (symmetrised, or built of a + b and a b); associativity is learned.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from graphinv.aggr._kernels import GatedSumKernel, GRUKernel, Kernel, MaxMinKernel, MLPKernel
from graphinv.errors import InputError

__all__ = ["BinaryOp", "GRUOp", "GatedSumOp", "MLPOp", "MaxMinOp"]


class BinaryOp(nn.Module):
    """A binary operator on latents; subclass it and write ``forward`` to fold sets with your own.

    Args:
        channels: H, channels of a latent.

    Attributes:
        exact_identity: whether a o 0 = a exactly; then an empty group gives 0 instead of a learned vector.

    Example:
        >>> class Mean(BinaryOp):
        ...     def forward(self, a, b):
        ...         return (a + b) / 2
        >>> from graphinv.aggr import LCMAggregation
        >>> LCMAggregation(1, 1, project=False, op=Mean(1))(torch.tensor([[1.0], [3.0]])).tolist()
        [[2.0]]
    """

    exact_identity: bool = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise InputError(f"channels must be at least 1, got {channels}")
        self.channels = channels

    @abstractmethod
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Combine ``a`` [P, H] and ``b`` [P, H] to [P, H], row by row."""

    def reset_parameters(self) -> None:
        """Draw all parameters anew; those of the children unless overridden."""
        for child in self.children():
            reset = getattr(child, "reset_parameters", None)
            if callable(reset):
                reset()

    def extra_repr(self) -> str:
        """Name the channels."""
        return str(self.channels)


class KernelOp(BinaryOp):
    """An operator with a hand-written kernel."""

    kernel: ClassVar[type[Kernel]]

    @abstractmethod
    def weights(self) -> tuple[Tensor, ...]:
        """Return the parameters in the order of the kernel."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Combine ``a`` [P, H] and ``b`` [P, H] to [P, H], in plain autograd."""
        return self.kernel.plain(a, b, *self.weights())


class GRUOp(KernelOp):
    """Mean of GRU(a, b) and GRU(b, a): the operator of Learnable Commutative Monoids (arXiv:2212.08541).

    12 H^2 multiply-adds a pair. No channel of the result is larger in size than 1 and both operands.

    Example:
        >>> op, a, b = GRUOp(4), torch.randn(2, 4), torch.randn(2, 4)
        >>> torch.allclose(op(a, b), op(b, a))
        True
    """

    kernel = GRUKernel

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.cell = nn.GRUCell(channels, channels)

    def weights(self) -> tuple[Tensor, ...]:
        """Return w_ih, w_hh, b_ih, b_hh of the cell."""
        return self.cell.weight_ih, self.cell.weight_hh, self.cell.bias_ih, self.cell.bias_hh


class GatedSumOp(KernelOp):
    """a + b + sigmoid(W (a + b) + V a b + c) tanh(N a b): commutative by construction, 0 its exact identity.

    The sum is the special case N = 0, logical or is near it. A quarter of the products of ``GRUOp``. Latents may
    grow as a sum does.

    Example:
        >>> op, a = GatedSumOp(4), torch.randn(2, 4)
        >>> torch.equal(op(a, torch.zeros(2, 4)), a)
        True
    """

    kernel = GatedSumKernel
    exact_identity = True

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.sum_weight = nn.Parameter(torch.empty(channels, channels))
        self.product_weight = nn.Parameter(torch.empty(channels, channels))
        self.new_weight = nn.Parameter(torch.empty(channels, channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights uniformly from -1/sqrt(H) .. 1/sqrt(H)."""
        bound = 1 / math.sqrt(self.channels)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def weights(self) -> tuple[Tensor, ...]:
        """Return W, V, N and the bias."""
        return self.sum_weight, self.product_weight, self.new_weight, self.bias


class MLPOp(KernelOp):
    """(a + b) / 2 plus the mean of f(a, b) and f(b, a), f a network with one hidden layer and SiLU.

    Args:
        channels: H, channels of a latent.
        hidden: K, width of the hidden layer; 2 H if not given.

    Example:
        >>> MLPOp(4)(torch.randn(2, 4), torch.randn(2, 4)).shape
        torch.Size([2, 4])
    """

    kernel = MLPKernel

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        super().__init__(channels)
        hidden = 2 * channels if hidden is None else hidden
        if hidden < 1:
            raise InputError(f"hidden must be at least 1, got {hidden}")
        self.first = nn.Linear(2 * channels, hidden)
        self.second = nn.Linear(hidden, channels)

    def weights(self) -> tuple[Tensor, ...]:
        """Return the weight and bias of the first and of the second layer."""
        return self.first.weight, self.first.bias, self.second.weight, self.second.bias


class MaxMinOp(KernelOp):
    """max(hi, A hi + B lo + c) with hi = max(a, b), lo = min(a, b): commutative by construction.

    The maximum is the special case c = -inf, and two channels hold the largest and the second largest exactly
    (A = 0, B the other channel), so it keeps what a set is asked about as sets grow. A sixth of the products of
    ``GRUOp``. Starts near the maximum.

    Example:
        >>> op, a, b = MaxMinOp(4), torch.randn(2, 4), torch.randn(2, 4)
        >>> torch.equal(op(a, b), op(b, a)), bool((op(a, b) >= torch.maximum(a, b)).all())
        (True, True)
    """

    kernel = MaxMinKernel

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.linear = nn.Linear(2 * channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw A and B as ``torch.nn.Linear`` does; c starts at -0.1."""
        self.linear.reset_parameters()
        nn.init.constant_(self.linear.bias, -0.1)

    def weights(self) -> tuple[Tensor, ...]:
        """Return [A, B] and c."""
        return self.linear.weight, self.linear.bias
