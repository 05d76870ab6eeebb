"""One layer of a GRU or LSTM over packed rows, forward and backward by hand.

Ranks are sorted by size, so the ranks that have position p are the first ``sizes[p]`` of those that have p - 1: the
state of all groups is one slice at each step. The products of the input are one matrix product for all rows. torch's
own packed kernels touch all N rows again at every step of the backward pass: quadratic in the longest group.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from graphinv.aggr._order import is_transformed
from graphinv.aggr._tree import aliases

__all__ = ["packed_layer", "plain_layer"]


def packed_layer(x: Tensor, sizes: list[int], weights: list[Tensor], kind: str, reverse: bool) -> Tensor:
    """Run one layer in one direction: ``x`` [N, F] to the state after each packed row, [N, H].

    Args:
        x: packed rows.
        sizes: rows of each position, never increasing.
        weights: w_ih, w_hh and, if there is a bias, b_ih, b_hh, as in ``torch.nn.GRU``.
        kind: GRU or LSTM.
        reverse: begin at the last row of each group.
    """
    out: Tensor = _Layer.apply(x, sizes, kind, reverse, *weights)  # type: ignore[no-untyped-call]
    return out


def plain_layer(x: Tensor, sizes: list[int], weights: list[Tensor], kind: str, reverse: bool) -> Tensor:
    """Do the same in plain autograd, for second derivatives and ``torch.func``."""
    hidden = x.new_zeros(sizes[0], weights[1].shape[1])
    memory = torch.zeros_like(hidden)
    rows = torch.split(x, sizes)
    outputs: list[Tensor] = []
    for position in reversed(range(len(sizes))) if reverse else range(len(sizes)):
        count = sizes[position]
        if kind == "LSTM":
            new, new_memory = _lstm_cell(rows[position], hidden[:count], memory[:count], weights)
            memory = torch.cat([new_memory, memory[count:]])
        else:
            new = torch.gru_cell(rows[position], hidden[:count], *weights)
        hidden = torch.cat([new, hidden[count:]])
        outputs.append(new)
    return torch.cat(outputs[::-1] if reverse else outputs)


def _lstm_cell(x: Tensor, hidden: Tensor, memory: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    # torch.lstm_cell cannot be used inside torch.func.vmap.
    w_ih, w_hh, *biases = weights
    i, f, g, o = (F.linear(x, w_ih, *biases[:1]) + F.linear(hidden, w_hh, *biases[1:])).chunk(4, 1)
    memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(memory), memory


class _Layer(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], kind: str, reverse: bool, *weights: Tensor) -> Tensor:
        w_ih, w_hh, *biases = weights
        hidden = w_hh.shape[1]
        # GRU: the hidden bias of n stays apart, since r multiplies it.
        inputs = torch.addmm(biases[0], x, w_ih.t()) if biases else x @ w_ih.t()  # [N, gates H]
        bias = biases[1] if biases else x.new_zeros(w_hh.shape[0])
        steps = _steps(sizes, reverse)
        out = x.new_empty(x.shape[0], hidden)
        extra = x.new_empty(x.shape[0], hidden)  # GRU: W_hn h + b_hn; LSTM: the memory
        start = x.new_zeros(sizes[0], 2 * hidden)
        forward = _lstm_forward if kind == "LSTM" else _gru_forward
        transposed = w_hh.t().contiguous()
        for own, before in steps:
            state, memory = _before(out, extra, before, own.stop - own.start, start)
            forward(inputs[own], torch.addmm(bias, state, transposed), state, memory, out[own], extra[own])
        ctx.save_for_backward(x, out, extra, inputs, *weights)  # inputs now holds the gates after their sigmoid, tanh
        ctx.sizes, ctx.kind, ctx.reverse = sizes, kind, reverse
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, out, extra, gates, *weights = ctx.saved_tensors
        # create_graph=True, where the gradient itself will be differentiated, or a vmapped gradient.
        if torch.is_grad_enabled() or is_transformed():
            x, *weights = aliases(x, *weights)
            with torch.enable_grad():
                again = plain_layer(x, ctx.sizes, weights, ctx.kind, ctx.reverse)
            inputs = [t for t in (x, *weights) if t.requires_grad]
            found = iter(torch.autograd.grad(again, inputs, grad, create_graph=torch.is_grad_enabled()))
            by_input = [next(found) if t.requires_grad else None for t in (x, *weights)]
            return (by_input[0], None, None, None, *by_input[1:])
        d_inputs, d_last, state = _backward(ctx, grad, out, extra, gates, weights[1])
        shared = d_inputs.shape[1] - d_last.shape[1]  # columns in which input and state have one gradient
        grads = [d_inputs.t() @ x, torch.cat([d_inputs[:, :shared].t() @ state, d_last.t() @ state])]
        if len(weights) == 4:
            sums = d_inputs.sum(0)
            grads += [sums, torch.cat([sums[:shared], d_last.sum(0)])]
        return (d_inputs @ weights[0] if ctx.needs_input_grad[0] else None, None, None, None, *grads)


def _backward(
    ctx: Any, grad: Tensor, out: Tensor, extra: Tensor, gates: Tensor, w_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the products of the input [N, gates H], of the last product of the state where that
    is another one (GRU; its r multiplies W_hn h) [N, H], and the states before each step [N, H]."""
    gru, hidden = ctx.kind == "GRU", out.shape[1]
    d_inputs = torch.empty_like(gates)
    d_last = torch.empty_like(out) if gru else d_inputs[:, 3 * hidden :]
    shared = (2 if gru else 3) * hidden
    states = torch.empty_like(out)
    start = out.new_zeros(ctx.sizes[0], 2 * hidden)
    flow = out.new_zeros(ctx.sizes[0], hidden)  # gradient of the state of each rank
    memory_flow = torch.zeros_like(flow)
    for own, before in reversed(_steps(ctx.sizes, ctx.reverse)):
        count = own.stop - own.start
        state, memory = _before(out, extra, before, count, start)
        states[own] = state
        d_in, d_lst, total = d_inputs[own], d_last[own], grad[own] + flow[:count]
        if gru:
            _gru_backward(total, gates[own], extra[own], state, d_in, d_lst)
            total.mul_(gates[own][:, hidden : 2 * hidden])
            torch.addmm(total, d_lst, w_hh[shared:], out=flow[:count]).addmm_(d_in[:, :shared], w_hh[:shared])
        else:
            _lstm_backward(total, gates[own], extra[own], memory, memory_flow[:count], d_in)
            torch.mm(d_in, w_hh, out=flow[:count])
        started = 0 if before is None else before.stop - before.start
        flow[started:count] = 0  # these ranks began here
        memory_flow[started:count] = 0
    return d_inputs, d_last, states


def _steps(sizes: list[int], reverse: bool) -> list[tuple[slice, slice | None]]:
    """Return, in the order of the steps, the rows of each and the rows of the step before that it continues."""
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    positions = list(reversed(range(len(sizes)))) if reverse else list(range(len(sizes)))
    steps: list[tuple[slice, slice | None]] = []
    for place, position in enumerate(positions):
        own = slice(starts[position], starts[position + 1])
        before = positions[place - 1] if place else None
        shared = min(sizes[position], sizes[before]) if before is not None else 0
        steps.append((own, None if before is None else slice(starts[before], starts[before] + shared)))
    return steps


def _before(out: Tensor, extra: Tensor, before: slice | None, count: int, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return state and memory before a step, [count, H]; 0 for the ranks that begin with it."""
    hidden = out.shape[1]
    if before is None:
        return start[:count, :hidden], start[:count, hidden:]
    missing = count - (before.stop - before.start)
    if not missing:
        return out[before], extra[before]
    zeros = start[:missing, :hidden]
    return torch.cat([out[before], zeros]), torch.cat([extra[before], zeros])


def _gru_forward(gates: Tensor, products: Tensor, state: Tensor, _: Tensor, out: Tensor, extra: Tensor) -> None:
    """Turn the products of the input into r, z, n, in place; write the new state, and W_hn h + b_hn."""
    h = state.shape[1]
    gates[:, : 2 * h].add_(products[:, : 2 * h]).sigmoid_()
    extra.copy_(products[:, 2 * h :])
    gates[:, 2 * h :].addcmul_(gates[:, :h], extra).tanh_()
    torch.lerp(gates[:, 2 * h :], state, gates[:, h : 2 * h], out=out)


def _gru_backward(total: Tensor, gates: Tensor, extra: Tensor, state: Tensor, d_in: Tensor, d_last: Tensor) -> None:
    """Write the gradients of the products of the input (r, z, n) and of W_hn h, from the one of the new state."""
    h = state.shape[1]
    r, z, n = torch.split(gates, h, 1)
    d_n = total * (1 - z) * (1 - n * n)
    torch.mul(d_n, r, out=d_last)
    d_in[:, 2 * h :] = d_n
    torch.mul(d_n * extra, r * (1 - r), out=d_in[:, :h])
    torch.mul(total * (state - n), z * (1 - z), out=d_in[:, h : 2 * h])


def _lstm_forward(gates: Tensor, products: Tensor, _: Tensor, memory: Tensor, out: Tensor, extra: Tensor) -> None:
    """Turn the products of the input into i, f, g, o, in place; write the new state and the new memory."""
    h = memory.shape[1]
    gates.add_(products)
    gates[:, : 2 * h].sigmoid_()
    gates[:, 2 * h : 3 * h].tanh_()
    gates[:, 3 * h :].sigmoid_()
    i, f, g, o = torch.split(gates, h, 1)
    torch.addcmul(f * memory, i, g, out=extra)
    torch.mul(o, extra.tanh(), out=out)


def _lstm_backward(total: Tensor, gates: Tensor, extra: Tensor, memory: Tensor, flow: Tensor, d_in: Tensor) -> None:
    """Write the gradients of the gates' products; ``flow``, the gradient of the memory, moves one step back."""
    h = memory.shape[1]
    i, f, g, o = torch.split(gates, h, 1)
    squashed = extra.tanh()
    torch.mul(total * squashed, o * (1 - o), out=d_in[:, 3 * h :])
    flow.addcmul_(total * o, 1 - squashed * squashed)
    torch.mul(flow * g, i * (1 - i), out=d_in[:, :h])
    torch.mul(flow * memory, f * (1 - f), out=d_in[:, h : 2 * h])
    torch.mul(flow * i, 1 - g * g, out=d_in[:, 2 * h : 3 * h])
    flow.mul_(f)
