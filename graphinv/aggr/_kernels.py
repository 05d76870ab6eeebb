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

from graphinv.aggr.layout import Tile

__all__ = ["GRUKernel", "Kept", "Kernel", "Work", "orders"]


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
        for own, other in orders(half):
            torch.add(p[own, : 2 * h], p[other, 2 * h : 4 * h], out=gates[own])
        gates.sigmoid_()
        for own, other in orders(half):
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
        for own, other in orders(half):
            t[own].mul_(grad)
            torch.sub(c[other], new[own], out=g[own, h:])
            g[own, h:].mul_(grad)
        t.mul_(0.25)  # the slope's 1/2 times the mean's 1/2
        d[:, 4 * h : 5 * h] = t
        for own, other in orders(half):
            torch.mul(t[own], gates[own, :h], out=d[other, 5 * h :])
            torch.mul(t[own], hidden_n[other], out=g[own, :h])
        g[:, h:].mul_(0.5)
        g.mul_(torch.addcmul(gates, gates, gates, value=-1, out=work("s", 2 * half, 2 * h)))
        d[:, : 2 * h] = g
        for own, other in orders(half):
            d[other, 2 * h : 4 * h] = g[own]
        grad_c = torch.mm(d, self.weight, out=work("grad_c", 2 * half, h))
        for own, other in orders(half):
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


def orders(half: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the rows of the two orders of the operands: (input a, hidden b) and (input b, hidden a)."""
    first, second = slice(0, half), slice(half, 2 * half)
    return (first, second), (second, first)


def _write(tree: Tensor, tile: Tile, values: Tensor) -> None:
    if tile.first is None:
        tree.index_copy_(0, tile.left, values)
    else:
        tree[tile.first : tile.first + values.shape[0]] = values
