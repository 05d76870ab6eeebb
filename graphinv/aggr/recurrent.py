"""Recurrent aggregators without padding: a GRU or an LSTM reads the rows of each group, N cell rows in all.

Groups are packed position by position, largest first: the ranks that have position p are the first of those that have
p - 1, so that the state of all groups is one slice at each step. Order matters to a recurrent network: these are for
comparison with it, and for groups that are sequences. Forward and backward are written by hand: torch's own packed
kernels touch all N rows again at every step of the backward pass, quadratic in the longest group.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from graphinv.aggr._order import is_transformed
from graphinv.aggr._tree import aliases
from graphinv.aggr.base import GroupAggregation
from graphinv.aggr.layout import GroupLayout
from graphinv.errors import InputError
from graphinv.ops.tree import StaticPacked

__all__ = ["PackedGRUAggregation", "PackedLSTMAggregation"]


class _PackedRecurrent(GroupAggregation):
    """The last state of a recurrent network over each group. Parameters have the names of PyG's module."""

    kind: ClassVar[str]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, num_layers) < 1 or not 0 <= dropout <= 1:
            raise InputError(
                "in_channels, out_channels and num_layers must be at least 1 and dropout in 0 .. 1, got "
                f"{in_channels}, {out_channels}, {num_layers}, {dropout}"
            )
        self.in_channels, self.hidden_channels = in_channels, out_channels
        self.num_layers, self.bias, self.dropout, self.bidirectional = num_layers, bias, dropout, bidirectional
        self.out_channels = out_channels * (2 if bidirectional else 1)
        # torch.compile refuses to trace the modules of torch, so only their parameters are here.
        parameters = list(self._draw().named_parameters())  # a dict would be sorted by name
        self.add_module(self.kind.lower(), nn.ParameterDict(parameters))

    def _draw(self) -> nn.RNNBase:
        module: nn.RNNBase = getattr(nn, self.kind)(
            self.in_channels, self.hidden_channels, self.num_layers, self.bias,
            dropout=self.dropout if self.num_layers > 1 else 0.0, bidirectional=self.bidirectional,
        )  # fmt: skip
        return module

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        with torch.no_grad():
            for own, new in zip(self.parameters(), self._draw().parameters(), strict=True):
                own.copy_(new)

    def reduce_groups(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Return the state after the last row of each group, [G, F_out]; 0 for an empty group."""
        out = x.new_zeros(layout.num_groups, self.out_channels)
        if x.shape[0] == 0:
            return out + 0 * x.sum()
        dtype = torch.promote_types(next(self.parameters()).dtype, torch.float32)
        weights = [weight.to(dtype) for weight in self.parameters()]
        rows = layout.grouped(x).to(dtype)
        with torch.autocast(x.device.type, enabled=False):
            if torch.compiler.is_compiling():
                settings = _Settings(self.kind, self.num_layers, self.bias, self.bidirectional)
                dropout = self.dropout if self.training else 0.0
                groups, last = _last_states(rows, layout, weights, settings, dropout)
            else:
                groups, last = layout.packed().groups, self._packed(rows, layout, weights)
        return out.index_copy(0, groups, last.to(x.dtype))

    def _packed(self, grouped: Tensor, layout: GroupLayout, weights: list[Tensor]) -> Tensor:
        plan = layout.packed()
        sizes, ranks = plan.batch_sizes.tolist(), plan.groups.shape[0]
        rows = grouped.index_select(0, plan.perm)
        run = _plain_layer if is_transformed() else _packed_layer
        step, directions = (4 if self.bias else 2), (2 if self.bidirectional else 1)
        outputs: list[Tensor] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                rows = F.dropout(rows, self.dropout, self.training)
            outputs = []
            for direction in range(directions):
                first = step * (directions * layer + direction)
                outputs.append(run(rows, sizes, weights[first : first + step], self.kind, direction == 1))
            rows = torch.cat(outputs, 1)
        # A rank's last row: at its last position forwards, at its first backwards.
        last = plan.offsets[plan.sizes[:ranks] - 1] + torch.arange(ranks, device=rows.device)
        ends = [outputs[0].index_select(0, last), *(out[:ranks] for out in outputs[1:])]
        return torch.cat(ends, 1)

    def __repr__(self) -> str:
        layers = f", num_layers={self.num_layers}" if self.num_layers > 1 else ""
        both = ", bidirectional=True" if self.bidirectional else ""
        return f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}{layers}{both})"


class PackedGRUAggregation(_PackedRecurrent):
    """GRU over the rows of each group, in the order given: the last state of the last layer.

    A drop-in for PyG's ``GRUAggregation`` (arXiv:2211.04952) whose result does not depend on the other groups and
    which costs N cell rows, however unequal the groups are. An empty group gives 0.

    Args:
        in_channels: F, channels of a row.
        out_channels: H, channels of the state; the result has H channels, or 2 H if bidirectional.
        num_layers: recurrent layers, one above the other.
        bias: whether the gates have a bias.
        dropout: probability, between layers.
        bidirectional: read each group from the end too.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> aggregator = PackedGRUAggregation(4, 8)
        >>> aggregator(torch.randn(3, 4), torch.tensor([0, 2, 0]), dim_size=3).shape
        torch.Size([3, 8])
    """

    kind = "GRU"


class PackedLSTMAggregation(_PackedRecurrent):
    """LSTM over the rows of each group, in the order given: the last hidden state of the last layer.

    A drop-in for PyG's ``LSTMAggregation`` (GraphSAGE, arXiv:1706.02216) whose result does not depend on the other
    groups and which costs N cell rows, however unequal the groups are. An empty group gives 0. ``torch.compile``
    unrolls the steps: pass it ``max_num_elements``.

    Settings and results as of ``PackedGRUAggregation``: ``x`` [N, F] to [G, H], or [G, 2 H] if bidirectional.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> aggregator = PackedLSTMAggregation(4, 8)
        >>> aggregator(torch.randn(3, 4), torch.tensor([0, 2, 0]), dim_size=3).shape
        torch.Size([3, 8])
    """

    kind = "LSTM"


# --- one layer over packed rows ---


def _packed_layer(x: Tensor, sizes: list[int], weights: list[Tensor], kind: str, reverse: bool) -> Tensor:
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


def _plain_layer(x: Tensor, sizes: list[int], weights: list[Tensor], kind: str, reverse: bool) -> Tensor:
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
                out = _plain_layer(x, ctx.sizes, weights, ctx.kind, ctx.reverse)
            inputs = [t for t in (x, *weights) if t.requires_grad]
            slopes = iter(torch.autograd.grad(out, inputs, grad, create_graph=torch.is_grad_enabled()))
            by_input = [next(slopes) if t.requires_grad else None for t in (x, *weights)]
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


# --- for tracing: shapes that do not depend on the sizes of the groups ---
#
# Position j has min(G, N // (j + 1)) places, an upper bound since ranks are sorted by size, so that N (1 + ln L) cell
# rows are the worst case.

_Steps = list[tuple[Tensor, Tensor]]  # of each position: rows [P, F], and which of them exist [P, 1]


class _Settings(NamedTuple):
    """What the parameters of a recurrent network mean."""

    kind: str  # GRU or LSTM
    num_layers: int
    bias: bool
    bidirectional: bool


def _last_states(
    grouped: Tensor, layout: GroupLayout, weights: list[Tensor], settings: _Settings, dropout: float
) -> tuple[Tensor, Tensor]:
    """Return the group of each rank, [R], and the final state of its last layer, [R, H * directions].

    Args:
        grouped: [N, F] rows, group after group, N > 0.
        layout: of the groups; ranks of empty groups have state 0.
        weights: in the order of ``torch.nn.GRU``.
        settings: of the network.
        dropout: probability between layers; 0 in evaluation.
    """
    plan = layout.static_packed()
    steps = _positions(grouped.index_select(0, plan.perm), plan)
    directions = 2 if settings.bidirectional else 1
    size = 4 if settings.bias else 2
    runs: list[tuple[list[Tensor], Tensor]] = []
    for layer in range(settings.num_layers):
        first = layer * directions
        of_run = [weights[size * (first + d) : size * (first + d + 1)] for d in range(directions)]
        if layer and dropout:
            steps = [(F.dropout(rows, dropout), exists) for rows, exists in steps]
        runs = [_run(settings.kind, steps, w, reverse=d == 1) for d, w in enumerate(of_run)]
        outputs = [torch.cat(together, 1) for together in zip(*(outs for outs, _ in runs), strict=True)]
        steps = [(out, exists) for out, (_, exists) in zip(outputs, steps, strict=True)]
    last = torch.cat([state for _, state in runs], 1)
    return plan.groups[: last.shape[0]], last


def _positions(packed: Tensor, plan: StaticPacked) -> _Steps:
    num_rows, num_groups = packed.shape[0], plan.groups.shape[0]
    steps = []
    for position in range(plan.length):
        places, exists = plan.rows_between(position, position + 1, min(num_groups, num_rows // (position + 1)))
        steps.append((packed.index_select(0, places.clamp(max=num_rows - 1)), exists.unsqueeze(1)))
    return steps


def _run(kind: str, steps: _Steps, weights: list[Tensor], reverse: bool) -> tuple[list[Tensor], Tensor]:
    """Run one layer in one direction; return its outputs by position and the final state of each rank."""
    cell: Any = torch.lstm_cell if kind == "LSTM" else torch.gru_cell
    hidden = steps[0][0].new_zeros(steps[0][0].shape[0], weights[1].shape[1])
    memory = torch.zeros_like(hidden)
    outputs: list[Tensor] = []
    for rows, exists in reversed(steps) if reverse else steps:
        count = rows.shape[0]
        before = hidden[:count]
        if kind == "LSTM":
            new, new_memory = cell(rows, (before, memory[:count]), *weights)
            memory = torch.cat([torch.where(exists, new_memory, memory[:count]), memory[count:]])
        else:
            new = cell(rows, before, *weights)
        hidden = torch.cat([torch.where(exists, new, before), hidden[count:]])
        outputs.append(hidden[:count])
    return outputs[::-1] if reverse else outputs, hidden
