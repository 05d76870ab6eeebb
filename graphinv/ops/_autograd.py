"""The differentiable primitives of segments: sum, spread, minimum, maximum, variance and softmax.

Sum and spread (each row receives the row of its segment) are adjoint, so each is the gradient of the other:
gradients of any order are again deterministic kernels. The gradient of an extreme is shared by its ties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

from graphinv.ops._torch import Kernels
from graphinv.ops.backend import current_kernels
from graphinv.ops.pointer import repeat


class Segments:
    """S segments of N rows and the kernels that reduce them; the backend is fixed here, for backward too."""

    def __init__(self, ptr: Tensor, num_rows: int) -> None:
        self.ptr = ptr  # [S+1]
        self.count = ptr.diff()  # [S]
        self.index = repeat(self.count, num_rows)  # [N]
        self.kernels: Kernels = current_kernels()

    def size(self, dtype: torch.dtype) -> Tensor:
        """Return the number of rows to divide by, at least 1: [S, 1]."""
        return self.count.clamp(min=1).unsqueeze(1).to(dtype)

    def sum(self, x: Tensor) -> Tensor:
        """Add the rows of each segment: [N, F] -> [S, F]."""
        return _sum(x, self)

    def spread(self, x: Tensor) -> Tensor:
        """Give each row the row of its segment: [S, F] -> [N, F]."""
        return _spread(x, self)

    def mean(self, x: Tensor) -> Tensor:
        """Average the rows of each segment: [N, F] -> [S, F]."""
        return self.sum(x) / self.size(x.dtype)

    def var(self, x: Tensor) -> Tensor:
        """Average the squared distances from the mean, in two passes: [N, F] -> [S, F]."""
        return _var(x, self)

    def softmax(self, x: Tensor) -> Tensor:
        """Normalise exp(x) over each segment: [N, F] -> [N, F]."""
        return _softmax(x, self)

    def min(self, x: Tensor) -> Tensor:
        """Take the least of each segment: [N, F] -> [S, F]."""
        return _extreme(x, self, False)

    def max(self, x: Tensor) -> Tensor:
        """Take the greatest of each segment: [N, F] -> [S, F]."""
        return _extreme(x, self, True)


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        return segments.kernels.sum(x, segments.ptr, segments.index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.segments.spread(grad), None


class _Spread(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        return segments.kernels.spread(x, segments.ptr, segments.index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.segments.sum(grad), None


class _Extreme(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: Segments, largest: bool) -> Tensor:
        kernel = segments.kernels.max if largest else segments.kernels.min
        out = kernel(x, segments.ptr, segments.index)
        ctx.segments = segments
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        segments: Segments = ctx.segments
        x, out = (saved.detach() for saved in ctx.saved_tensors)
        # A NaN equals nothing, but where a row is NaN it is the extreme.
        other = segments.spread(out).ne_(x).masked_fill_(x.isnan(), 0)
        ties = segments.count.unsqueeze(1) - segments.sum(other)
        share = segments.spread(grad / ties.clamp_(min=1))
        return share.masked_fill_(other.bool(), 0), None, None


class _Var(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        ctx.save_for_backward(x)
        mean = segments.spread(segments.mean(x))
        return segments.mean(mean.sub_(x).square_())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        segments: Segments = ctx.segments
        (x,) = ctx.saved_tensors
        slope = segments.spread(2 * grad / segments.size(grad.dtype))
        return slope * (x - segments.spread(segments.mean(x))), None


class _Softmax(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: Segments) -> Tensor:
        out = segments.kernels.softmax(x, segments.ptr, segments.index)
        ctx.segments = segments
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        segments: Segments = ctx.segments
        (out,) = ctx.saved_tensors
        return out * (grad - segments.spread(segments.sum(grad * out))), None


_sum = cast(Callable[..., Tensor], _Sum.apply)
_spread = cast(Callable[..., Tensor], _Spread.apply)
_extreme = cast(Callable[..., Tensor], _Extreme.apply)
_var = cast(Callable[..., Tensor], _Var.apply)
_softmax = cast(Callable[..., Tensor], _Softmax.apply)
