"""Binary operators on tiles of rows, forward and backward written by hand, gates recomputed or kept.

A tile holds its left operands a in rows 0 .. P - 1 and its right ones b in rows P .. 2 P - 1, so that everything
linear is one matrix product. ``plain`` is the same formula in autograd, for what the hand-written backward cannot do:
second derivatives and ``torch.func``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from graphinv.ops.tree import Tile

__all__ = ["GRUKernel", "GatedSumKernel", "Kernel", "MLPKernel", "MaxMinKernel", "Work"]


Kept = list[Tensor]  # gates of a tile for its backward pass; empty if they are to be computed again


class Work:
    """Scratch memory by name, reused from tile to tile."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.memory: dict[str, Tensor] = {}

    def __call__(self, name: str, rows: int, columns: int) -> Tensor:
        """Return [rows, columns] uninitialised; what was there under this name is lost."""
        held = self.memory.get(name)
        if held is None or held.shape[0] < rows:
            held = self.memory[name] = self.like.new_empty(rows, columns)
        return held[:rows]


class Kernel(ABC):
    """One operator with its weights, for tiles of a tree; gathers the gradients of its weights over tiles."""

    @abstractmethod
    def __init__(self, *weights: Tensor) -> None: ...

    @staticmethod
    @abstractmethod
    def plain(a: Tensor, b: Tensor, *weights: Tensor) -> Tensor:
        """Combine [P, H] and [P, H] in plain autograd."""

    def fold(self, tree: Tensor, tile: Tile, lefts: Tensor | None, work: Work, keep: bool) -> Kept:
        """Combine the pairs of a tile of ``tree`` [N, H]: each result replaces its left operand.

        The P left operands are saved to ``lefts`` [P, H], unless there will be no backward pass. Return, if ``keep``,
        what else the backward pass may use.
        """
        half = tile.end - tile.begin
        c = work("c", 2 * half, tree.shape[1])
        if tile.first is None:
            torch.index_select(tree, 0, tile.left, out=c[:half])
        else:
            c[:half] = tree[tile.first : tile.first + half]
        c[half:] = tree[tile.begin : tile.end]
        y, kept = self.forward(c, work, keep)
        _write(tree, tile, y)
        if lefts is not None:
            lefts.copy_(c[:half])
        return kept

    def unfold(self, flow: Tensor, tree: Tensor, tile: Tile, lefts: Tensor, work: Work, kept: Kept) -> None:
        """Carry gradients back through a tile: add to those of the weights and to the rows of ``flow`` [N, H].

        ``flow`` holds at ``tile.left`` the gradients of the results, afterwards those of the left operands.
        """
        half = tile.end - tile.begin
        c = work("c", 2 * half, tree.shape[1])
        c[:half] = lefts
        c[half:] = tree[tile.begin : tile.end]
        above = flow[tile.first : tile.first + half] if tile.first is not None else flow.index_select(0, tile.left)
        below = self.backward(above, c, work, kept)
        flow[tile.begin : tile.end] += below[half:]
        _write(flow, tile, below[:half])

    @abstractmethod
    def forward(self, c: Tensor, work: Work, keep: bool) -> tuple[Tensor, Kept]:
        """Combine the halves of ``c`` [2P, H]; return [P, H] and, if ``keep``, what the backward needs."""

    @abstractmethod
    def backward(self, grad: Tensor, c: Tensor, work: Work, kept: Kept) -> Tensor:
        """Return the gradient of ``c`` [2P, H] from the one of the result [P, H]; add to those of the weights."""

    @abstractmethod
    def weight_gradients(self) -> tuple[Tensor, ...]:
        """Return the gathered gradients, in the order of the weights."""


class GRUKernel(Kernel):
    """Mean of GRU(a, b) and GRU(b, a), the operator of arXiv:2212.08541; weights as in ``torch.nn.GRUCell``.

    tanh(v) is computed as 2 sigmoid(2 v) - 1, which is several times cheaper on a CPU; the 2 is in the weights.
    """

    def __init__(self, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> None:
        hidden = w_hh.shape[1]
        self.hidden = hidden
        # Rows: r and z of the input role, r and z of the hidden role, n of the input role, n of the hidden role.
        self.weight = torch.cat(
            [w_ih[: 2 * hidden], w_hh[: 2 * hidden], 2 * w_ih[2 * hidden :], 2 * w_hh[2 * hidden :]]
        )
        gates = b_ih[: 2 * hidden] + b_hh[: 2 * hidden]
        self.bias = torch.cat([gates, torch.zeros_like(gates), 2 * b_ih[2 * hidden :], 2 * b_hh[2 * hidden :]])
        self.transposed = self.weight.t().contiguous()
        self.grad_weight = torch.zeros_like(self.weight)
        self.grad_bias = torch.zeros_like(self.bias)

    @staticmethod
    def plain(a: Tensor, b: Tensor, *weights: Tensor) -> Tensor:
        """Combine in plain autograd."""
        w_ih, w_hh, b_ih, b_hh = weights
        inputs = F.linear(torch.cat([a, b]), w_ih, b_ih)
        hidden = F.linear(torch.cat([b, a]), w_hh, b_hh)
        i_r, i_z, i_n = inputs.chunk(3, 1)
        h_r, h_z, h_n = hidden.chunk(3, 1)
        reset, update = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
        new = torch.tanh(i_n + reset * h_n)
        out = new + update * (torch.cat([b, a]) - new)
        return 0.5 * (out[: a.shape[0]] + out[a.shape[0] :])

    def forward(self, c: Tensor, work: Work, keep: bool) -> tuple[Tensor, Kept]:
        """Combine a tile. Row k < P of the gates is of GRU(a, b), row P + k of GRU(b, a)."""
        half, h = c.shape[0] // 2, self.hidden
        p = torch.addmm(self.bias, c, self.transposed, out=work("p", 2 * half, 6 * h))
        gates = c.new_empty(2 * half, 2 * h) if keep else work("gates", 2 * half, 2 * h)
        new = torch.empty_like(c) if keep else work("new", 2 * half, h)
        for own, other in _orders(half):
            torch.add(p[own, : 2 * h], p[other, 2 * h : 4 * h], out=gates[own])
        gates.sigmoid_()
        for own, other in _orders(half):
            torch.addcmul(p[own, 4 * h : 5 * h], gates[own, :h], p[other, 5 * h :], out=new[own])
        new.sigmoid_().mul_(2).sub_(1)
        y = torch.lerp(new[:half], c[half:], gates[:half, h:])
        y.add_(torch.lerp(new[half:], c[:half], gates[half:, h:], out=work("t", 2 * half, h)[half:])).mul_(0.5)
        return y, [gates, new] if keep else []

    def backward(self, grad: Tensor, c: Tensor, work: Work, kept: Kept) -> Tensor:
        """Differentiate a tile; d holds the gradients of the six pre-activations at the row of their operand."""
        half, h = c.shape[0] // 2, self.hidden
        if not kept:
            self.forward(c, work, keep=False)
            gates, new = work("gates", 2 * half, 2 * h), work("new", 2 * half, h)
            hidden_n = work("p", 2 * half, 6 * h)[:, 5 * h :]
        else:  # one sixth of the products again is cheaper than to keep a quarter more
            gates, new = kept
            hidden_n = work("hidden_n", 2 * half, h)
            torch.addmm(self.bias[5 * h :], c, self.transposed[:, 5 * h :], out=hidden_n)
        d, t, u = work("d", 2 * half, 6 * h), work("t", 2 * half, h), work("u", 2 * half, h)
        g = work("g", 2 * half, 2 * h)
        torch.mul(new, new, out=t).neg_().add_(1)  # new = 2 sigmoid(v) - 1, so its slope is (1 - new^2) / 2
        t.mul_(torch.sub(1, gates[:, h:], out=u))
        for own, other in _orders(half):
            t[own].mul_(grad)
            torch.sub(c[other], new[own], out=g[own, h:])
            g[own, h:].mul_(grad)
        t.mul_(0.25)  # the slope's 1/2 times the mean's 1/2
        d[:, 4 * h : 5 * h] = t
        for own, other in _orders(half):
            torch.mul(t[own], gates[own, :h], out=d[other, 5 * h :])
            torch.mul(t[own], hidden_n[other], out=g[own, :h])
        g[:, h:].mul_(0.5)
        g.mul_(torch.addcmul(gates, gates, gates, value=-1, out=work("s", 2 * half, 2 * h)))
        d[:, : 2 * h] = g
        for own, other in _orders(half):
            d[other, 2 * h : 4 * h] = g[own]
        grad_c = torch.mm(d, self.weight, out=work("grad_c", 2 * half, h))
        for own, other in _orders(half):
            grad_c[other].addcmul_(grad, gates[own, h:], value=0.5)
        self.grad_weight.addmm_(d.t(), c)
        self.grad_bias.add_(d.sum(0))
        return grad_c

    def weight_gradients(self) -> tuple[Tensor, ...]:
        """Return the gradients of w_ih, w_hh, b_ih, b_hh."""
        h = self.hidden
        w, b = self.grad_weight, self.grad_bias
        return (
            torch.cat([w[: 2 * h], 2 * w[4 * h : 5 * h]]),
            torch.cat([w[2 * h : 4 * h], 2 * w[5 * h :]]),
            torch.cat([b[: 2 * h], 2 * b[4 * h : 5 * h]]),
            torch.cat([b[: 2 * h], 2 * b[5 * h :]]),
        )


def _orders(half: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the rows of the two orders of the operands: (input a, hidden b) and (input b, hidden a)."""
    first, second = slice(0, half), slice(half, 2 * half)
    return (first, second), (second, first)


def _write(tree: Tensor, tile: Tile, values: Tensor) -> None:
    if tile.first is None:
        tree.index_copy_(0, tile.left, values)
    else:
        tree[tile.first : tile.first + values.shape[0]] = values


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
        for own, other in _orders(half):
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
        for own, other in _orders(half):
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
