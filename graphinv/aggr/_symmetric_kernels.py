"""Operators that are commutative by construction or cheap to symmetrise, as kernels: see ``_kernels``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphinv.aggr._kernels import Kept, Kernel, Work, orders

__all__ = ["GatedSumKernel", "MLPKernel", "MaxMinKernel"]


class GatedSumKernel(Kernel):
    """a + b + z n with u = a + b, v = a b, z = sigmoid(W u + V v + c), n = tanh(N v).

    Commutative by construction, and 0 is an exact identity: b = 0 makes v = 0, n = 0 and the result a. tanh(v) is
    2 sigmoid(2 v) - 1, which is exactly 0 at 0.
    """

    def __init__(self, w: Tensor, v: Tensor, n: Tensor, bias: Tensor) -> None:
        self.hidden = w.shape[0]
        self.sum_weight, self.bias = w, bias
        self.product_weight = torch.cat([v, 2 * n])
        self.grad_sum, self.grad_bias = torch.zeros_like(w), torch.zeros_like(bias)
        self.grad_product = torch.zeros_like(self.product_weight)

    @staticmethod
    def plain(a: Tensor, b: Tensor, *weights: Tensor) -> Tensor:
        """Combine in plain autograd."""
        w, v, n, bias = weights
        total, product = a + b, a * b
        gate = torch.sigmoid(F.linear(total, w, bias) + F.linear(product, v))
        return total + gate * torch.tanh(F.linear(product, n))

    def forward(self, c: Tensor, work: Work, keep: bool) -> tuple[Tensor, Kept]:
        """Combine a tile."""
        half, h = c.shape[0] // 2, self.hidden
        a, b = c[:half], c[half:]
        total = torch.add(a, b, out=work("total", half, h))
        product = torch.mul(a, b, out=work("product", half, h))
        p = torch.mm(product, self.product_weight.t(), out=c.new_empty(half, 2 * h) if keep else work("p", half, 2 * h))
        p[:, :h] += torch.addmm(self.bias, total, self.sum_weight.t(), out=work("t", half, h))
        p.sigmoid_()
        p[:, h:].mul_(2).sub_(1)
        return torch.addcmul(total, p[:, :h], p[:, h:]), [p] if keep else []

    def backward(self, grad: Tensor, c: Tensor, work: Work, kept: Kept) -> Tensor:
        """Differentiate a tile."""
        half, h = c.shape[0] // 2, self.hidden
        if not kept:
            self.forward(c, work, keep=False)
            kept = [work("p", half, 2 * h)]
        a, b = c[:half], c[half:]
        total = torch.add(a, b, out=work("total", half, h))
        product = torch.mul(a, b, out=work("product", half, h))
        gate, new = kept[0][:, :h], kept[0][:, h:]
        d, t = work("d", half, 2 * h), work("t", half, h)
        torch.mul(gate, new, out=t).mul_(grad)
        d[:, :h] = torch.addcmul(t, t, gate, value=-1)  # grad n z (1 - z)
        torch.mul(grad, gate, out=t).mul_(0.5)
        d[:, h:] = torch.addcmul(t, t * new, new, value=-1)  # grad z (1 - n^2) / 2
        grad_total = torch.addmm(grad, d[:, :h], self.sum_weight, out=work("grad_total", half, h))
        grad_product = torch.mm(d, self.product_weight, out=work("grad_product", half, h))
        self.grad_sum.addmm_(d[:, :h].t(), total)
        self.grad_product.addmm_(d.t(), product)
        self.grad_bias.add_(d[:, :h].sum(0))
        grad_c = work("grad_c", 2 * half, h)
        torch.addcmul(grad_total, grad_product, b, out=grad_c[:half])
        torch.addcmul(grad_total, grad_product, a, out=grad_c[half:])
        return grad_c

    def weight_gradients(self) -> tuple[Tensor, ...]:
        """Return the gradients of w, v, n, bias."""
        h = self.hidden
        return self.grad_sum, self.grad_product[:h], 2 * self.grad_product[h:], self.grad_bias


class MLPKernel(Kernel):
    """(a + b) / 2 + mean of f(a, b) and f(b, a), f(x, y) = W2 silu(W1 [x, y] + b1) + b2: two layers, symmetrised."""

    def __init__(self, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> None:
        self.hidden = w2.shape[0]
        self.first = torch.cat([w1[:, : self.hidden], w1[:, self.hidden :]])  # [2K, H]: as x, as y
        self.first_bias, self.second, self.second_bias = b1, w2, b2
        self.grad_first, self.grad_first_bias = torch.zeros_like(self.first), torch.zeros_like(b1)
        self.grad_second, self.grad_second_bias = torch.zeros_like(w2), torch.zeros_like(b2)

    @staticmethod
    def plain(a: Tensor, b: Tensor, *weights: Tensor) -> Tensor:
        """Combine in plain autograd."""
        w1, b1, w2, b2 = weights
        inner = F.silu(F.linear(torch.cat([torch.cat([a, b], 1), torch.cat([b, a], 1)]), w1, b1))
        mean = 0.5 * (inner[: a.shape[0]] + inner[a.shape[0] :])
        return 0.5 * (a + b) + F.linear(mean, w2, b2)

    def forward(self, c: Tensor, work: Work, keep: bool) -> tuple[Tensor, Kept]:
        """Combine a tile."""
        half, k = c.shape[0] // 2, self.first_bias.shape[0]
        p = torch.mm(c, self.first.t(), out=work("p", 2 * half, 2 * k))
        inner = c.new_empty(2 * half, k) if keep else work("inner", 2 * half, k)
        for own, other in orders(half):
            torch.add(p[own, :k], p[other, k:], out=inner[own])
        inner.add_(self.first_bias)
        active = F.silu(inner)
        mean = torch.add(active[:half], active[half:], out=work("mean", half, k)).mul_(0.5)
        y = torch.addmm(self.second_bias, mean, self.second.t())
        return y.add_(c[:half], alpha=0.5).add_(c[half:], alpha=0.5), [inner] if keep else []

    def backward(self, grad: Tensor, c: Tensor, work: Work, kept: Kept) -> Tensor:
        """Differentiate a tile."""
        half, k = c.shape[0] // 2, self.first_bias.shape[0]
        if not kept:
            self.forward(c, work, keep=False)
            kept = [work("inner", 2 * half, k)]
        (inner,) = kept
        active = F.silu(inner)
        mean = torch.add(active[:half], active[half:], out=work("mean", half, k)).mul_(0.5)
        self.grad_second.addmm_(grad.t(), mean)
        self.grad_second_bias.add_(grad.sum(0))
        grad_mean = torch.mm(grad, self.second, out=work("grad_mean", half, k)).mul_(0.5)
        d = work("d", 2 * half, 2 * k)
        for own, other in orders(half):
            d[own, :k] = torch.ops.aten.silu_backward(grad_mean, inner[own])
            d[other, k:] = d[own, :k]
        grad_c = torch.mm(d, self.first, out=work("grad_c", 2 * half, self.hidden))
        self.grad_first.addmm_(d.t(), c)
        self.grad_first_bias.add_(d[:, :k].sum(0))
        grad_c[:half].add_(grad, alpha=0.5)
        grad_c[half:].add_(grad, alpha=0.5)
        return grad_c

    def weight_gradients(self) -> tuple[Tensor, ...]:
        """Return the gradients of w1, b1, w2, b2."""
        k = self.first_bias.shape[0]
        w1 = torch.cat([self.grad_first[:k], self.grad_first[k:]], 1)
        return w1, self.grad_first_bias, self.grad_second, self.grad_second_bias


class MaxMinKernel(Kernel):
    """max(hi, A hi + B lo + c) with hi = max(a, b) and lo = min(a, b): one matrix product of 2 H channels a pair."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias  # [H, 2H]: A, then B
        self.grad_weight, self.grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)

    @staticmethod
    def plain(a: Tensor, b: Tensor, *weights: Tensor) -> Tensor:
        """Combine in plain autograd."""
        hi = torch.maximum(a, b)
        return torch.maximum(hi, F.linear(torch.cat([hi, torch.minimum(a, b)], 1), *weights))

    def forward(self, c: Tensor, work: Work, keep: bool) -> tuple[Tensor, Kept]:
        """Combine a tile; nothing but the operands is worth keeping."""
        sides, other = self._sides(c, work)
        return torch.maximum(sides[:, : c.shape[1]], other), []

    def backward(self, grad: Tensor, c: Tensor, work: Work, kept: Kept) -> Tensor:
        """Differentiate a tile; operands that tie share the gradient, as in torch."""
        half, h = c.shape[0] // 2, c.shape[1]
        sides, other = self._sides(c, work)
        d = torch.mul(_share(other, sides[:, :h]), grad, out=work("d", half, h))
        d_sides = torch.mm(d, self.weight, out=work("d_sides", half, 2 * h))
        d_sides[:, :h] += grad - d
        self.grad_weight.addmm_(d.t(), sides)
        self.grad_bias.add_(d.sum(0))
        grad_c, first = work("grad_c", 2 * half, h), _share(c[:half], c[half:])
        torch.lerp(d_sides[:, h:], d_sides[:, :h], first, out=grad_c[:half])
        torch.lerp(d_sides[:, :h], d_sides[:, h:], first, out=grad_c[half:])
        return grad_c

    def weight_gradients(self) -> tuple[Tensor, ...]:
        """Return the gradients of the weight and the bias."""
        return self.grad_weight, self.grad_bias

    def _sides(self, c: Tensor, work: Work) -> tuple[Tensor, Tensor]:
        half, h = c.shape[0] // 2, c.shape[1]
        sides = work("sides", half, 2 * h)
        sides[:, :h] = torch.maximum(c[:half], c[half:])
        sides[:, h:] = torch.minimum(c[:half], c[half:])
        return sides, torch.addmm(self.bias, sides, self.weight.t(), out=work("other", half, h))


def _share(x: Tensor, y: Tensor) -> Tensor:
    """Return the share of the gradient of max(x, y) that belongs to x: 1, 0, or 1/2 where they tie."""
    return torch.heaviside(x - y, x.new_tensor(0.5))
