"""Janossy pooling: a network of every k-tuple of distinct elements, averaged; pairs and triples see what sums cannot.

Tuples are numbered and found again by arithmetic, so that they can be taken a part at a time: memory is bounded
however many there are, and no group waits for another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch.utils.checkpoint import checkpoint

from graphinv.aggr._flow import affine
from graphinv.aggr._order import content_order, is_transformed
from graphinv.aggr.base import GroupAggregation
from graphinv.aggr.layout import GroupLayout
from graphinv.errors import InputError, check_positive
from graphinv.ops.pointer import repeat

__all__ = ["JanossyAggregation"]

Activation = Callable[[Tensor], Tensor]

_PART, _DEVICE_PART = 1 << 20, 1 << 24  # numbers of one layer of f in memory at a time; the second: off the CPU
_GOLDEN = 40503  # of 2^16: the golden section
_ACTIVATIONS: dict[str, tuple[Activation, Activation]] = {  # and their slopes
    "relu": (torch.relu, lambda h: (h > 0).to(h.dtype)),
    "silu": (silu, lambda h: h.sigmoid() * (1 + h * (1 - h.sigmoid()))),
    "square": (torch.square, lambda h: 2 * h),
}


class JanossyAggregation(GroupAggregation):
    """Mean over k-tuples of distinct elements (Janossy pooling, arXiv:1811.01900): ``x`` [N, F_in] to [G, F_out].

    rho( mean over ordered tuples of f(x_i1, .., x_ik) ), with rho linear and
    f = act(W_2 act(W_1 [x_i1 .. x_ik] + b_1) + b_2). A group of n >= k rows has n (n - 1) .. (n - k + 1) tuples. One
    with fewer rows has the n! orders of all its rows; each missing place is a learned vector in place of its part
    of W_1 [..] (as zeros with an indicator would be). An empty group gives zeros before rho.

    With ``max_tuples``, a group with more tuples takes an even choice of them: its rows lie on a circle in an order
    that their content decides, and for evenly spread distances c_2 .. c_k and every row i, (i, i + c_2, .., i + c_k)
    is taken. These are n floor(max_tuples / n) tuples, at least n. The choice is a function of the set alone; it
    jumps where two rows change places in that order.

    Use it where pairs or triples decide: variances, distances, numbers of different elements. Cost: T H^2 for T
    tuples and N k F_in H; T grows like n^k. Tuples are worked on in parts of 2^20 / H (2^24 / H off the CPU), which
    are computed again for the gradient if there are several. While compiling nothing can be differentiated twice.
    Computed in float32 at least; the result has the dtype of ``x``.

    Args:
        in_channels: F_in, at least 1.
        out_channels: F_out, at least 1.
        k: elements in a tuple, 1 to 3.
        hidden: H, width of both layers of f, at least 1.
        reduce: "mean", or "sum", which is the mean times the number of all tuples.
        activation: "relu", "silu" or "square" (f is a polynomial: variances and covariances are exact).
        max_tuples: tuples of one group beyond which some are chosen, at least 1; None takes all.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> aggregator = JanossyAggregation(4, 8, k=2, max_tuples=1000)
        >>> x, index = torch.randn(5, 4), torch.tensor([0, 2, 0, 2, 2])
        >>> aggregator(x, index, dim_size=3).shape
        torch.Size([3, 8])
        >>> aggregator.tuple_counts(torch.tensor([0, 1, 3, 100])).tolist()
        [0, 1, 6, 1000]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        k: int = 2,
        hidden: int = 64,
        reduce: Literal["mean", "sum"] = "mean",
        activation: Literal["relu", "silu", "square"] = "relu",
        max_tuples: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, out_channels=out_channels, hidden=hidden)
        if k not in (1, 2, 3):
            raise InputError(f"k must be 1, 2 or 3, got {k}")
        if reduce not in ("mean", "sum") or activation not in _ACTIVATIONS:
            raise InputError(f"reduce is mean or sum, activation {', '.join(_ACTIVATIONS)}; got {reduce}, {activation}")
        if max_tuples is not None and max_tuples < 1:
            raise InputError(f"max_tuples must be at least 1, or None for all; got {max_tuples}")
        self.in_channels, self.out_channels, self.k, self.hidden = in_channels, out_channels, k, hidden
        self.reduce, self.activation, self.max_tuples = reduce, activation, max_tuples
        self.first = nn.Linear(k * in_channels, hidden)
        self.missing = nn.Parameter(torch.empty(k - 1, hidden))
        self.second = nn.Linear(hidden, hidden)
        self.rho = nn.Linear(hidden, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for linear in (self.first, self.second, self.rho):
            linear.reset_parameters()
        bound = (self.k * self.in_channels) ** -0.5
        nn.init.uniform_(self.missing, -bound, bound)

    def tuple_counts(self, counts: Tensor) -> Tensor:
        """Return how many tuples groups of ``counts`` [G] int64 rows take, [G] int64."""
        return counts * _choices(counts, self.k, self.max_tuples or 0)

    def reduce_groups(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Return the mean or sum over the tuples of the rows ``x`` [N, F_in] of each group: [G, F_out]."""
        order = layout.order if self.max_tuples is None else content_order(x, layout)
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(self.first.weight.dtype, torch.float32)
            table = self._table((x if order is None else x.index_select(0, order)).to(dtype))
            weight, bias = self.second.weight.to(dtype), self.second.bias.to(dtype)
            settings = (layout.ptr, self.k, self.max_tuples or 0, self.activation)
            if torch.compiler.is_compiling():
                totals = _totals_op(table, weight, bias, *settings)
            else:
                totals = _totals(table, weight, bias, *settings)
            counts = layout.counts
            out = totals / self.tuple_counts(counts).clamp(min=1).to(dtype).unsqueeze(1)
            if self.reduce == "sum":
                out = out * (counts * _choices(counts, self.k, 0)).to(dtype).unsqueeze(1)
            return affine(self.rho.weight, self.rho.bias, out).to(x.dtype)

    def _table(self, x: Tensor) -> Tensor:
        """Return what a row adds to W_1 [..] + b_1 at each place of a tuple; in row N, a missing one: [N + 1, k, H]."""
        # W_1 of a tuple is a sum of k parts, each of one row: N products instead of one for each tuple.
        weight = self.first.weight.view(self.hidden, self.k, -1).transpose(0, 1).flatten(0, 1).to(x.dtype)
        bias = torch.cat([self.first.bias, self.missing.new_zeros((self.k - 1) * self.hidden)]).to(x.dtype)
        rows = torch.addmm(bias, x, weight.T).view(-1, self.k, self.hidden)
        absent = torch.cat([self.missing.new_zeros(1, self.hidden), self.missing]).to(x.dtype)
        return torch.cat([rows, absent.unsqueeze(0)])

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, k={self.k}, hidden={self.hidden}, "
            f"reduce={self.reduce!r}, activation={self.activation!r}, max_tuples={self.max_tuples})"
        )


class _Plan(NamedTuple):
    """Tuples in the order of their first rows; of the group of each row [N]: first row, rows, tuples of each row."""

    group: Tensor
    start: Tensor
    size: Tensor
    choices: Tensor
    ends: Tensor  # [N] one past the last tuple of each row
    k: int

    @staticmethod
    def of(ptr: Tensor, num_rows: int, k: int, limit: int) -> _Plan:
        counts = ptr.diff()
        group = repeat(counts, num_rows)
        choices = _choices(counts, k, limit)[group]
        return _Plan(group, ptr[group], counts[group], choices, choices.cumsum(0), k)

    def parts(self, hidden: int) -> list[_Part]:
        """Cut the tuples into parts of a bounded number; one read back to the host from an accelerator."""
        if not self.ends.numel():
            return []
        length = max(1, (_PART if self.ends.device.type == "cpu" else _DEVICE_PART) // hidden)
        total = int(self.ends[-1])
        begins = list(range(0, total, length))
        ends = [*begins[1:], total]
        bounds = torch.tensor([begins, [end - 1 for end in ends]], device=self.ends.device)
        first, last = torch.searchsorted(self.ends, bounds, right=True).tolist()
        return [_Part(*part) for part in zip(begins, ends, first, last, strict=True)]

    def tuples(self, part: _Part) -> Tensor:
        """Return the rows of the tuples of ``part``, [k, T]; N where a group has too few."""
        here = slice(part.first, part.last + 1)
        number = torch.arange(part.begin, part.end, device=self.ends.device)
        row = torch.searchsorted(self.ends[here], number, right=True) + part.first
        start, size, choices = self.start[row], self.size[row], self.choices[row]
        steps = _steps(number - self.ends[row] + choices, choices, size, self.k)
        missing = self.ends.shape[0]
        further = [start + (row - start + step) % size for step in steps]
        return torch.stack([row, *(torch.where(size > s, f, missing) for s, f in enumerate(further, 1))])


class _Part(NamedTuple):
    """Tuples ``begin`` .. ``end`` - 1, whose first rows are ``first`` .. ``last``."""

    begin: int
    end: int
    first: int
    last: int


def _choices(counts: Tensor, k: int, limit: int) -> Tensor:
    """Return, for groups of ``counts`` rows, how many tuples begin with each row, [G]; ``limit`` 0 is none."""
    every = torch.ones_like(counts)
    for place in range(1, k):
        every = every * (counts - place).clamp(min=1)
    return torch.minimum(every, (limit // counts.clamp(min=1)).clamp(min=1)) if limit else every


def _steps(choice: Tensor, choices: Tensor, size: Tensor, k: int) -> list[Tensor]:
    """Return choice number ``choice`` of ``choices`` even ones of k - 1 different steps from 1 .. size - 1."""
    if k == 1:
        return []
    width = (size - 1).clamp(min=1)
    second = (2 * choice + 1) * width // (2 * choices)  # the middle of each part
    if k == 2:
        return [second + 1]
    # Choices of one second place are consecutive. They spread their third place evenly, from a start that the golden
    # section moves on, so that third places are even over all second ones too.
    begin, end = (-((width - 2 * choices * s) // (2 * width)) for s in (second, second + 1))
    left = (size - 2).clamp(min=1)
    turn = second * _GOLDEN % (1 << 16) * left >> 16
    third = ((choice - begin) * left // (end - begin) + turn) % left + 1
    return [second + 1, third + (third > second)]


def _first_layer(places: Sequence[Tensor], rows: Tensor) -> Tensor:
    hidden = places[0].index_select(0, rows[0])
    for table, further in zip(places[1:], rows[1:], strict=True):
        hidden = hidden + table.index_select(0, further)
    return hidden


def _totals(table: Tensor, weight: Tensor, bias: Tensor, ptr: Tensor, k: int, limit: int, activation: str) -> Tensor:
    """Return the sum of f over the tuples of each group, [G, H], from ``table`` [N + 1, k, H]."""
    plan, act = _Plan.of(ptr, table.shape[0] - 1, k, limit), _ACTIVATIONS[activation][0]
    parts, places = plan.parts(weight.shape[0]), table.unbind(1)

    def by_row(part: _Part, *places: Tensor) -> Tensor:
        rows = plan.tuples(part)
        values = act(affine(weight, bias, act(_first_layer(places, rows))))
        total = values.new_zeros(part.last - part.first + 1, values.shape[1])
        return total.index_add(0, rows[0] - part.first, values)

    out = table.new_zeros(ptr.shape[0] - 1, table.shape[2])
    if not parts:
        return out + 0 * (table.sum() + weight.sum() + bias.sum())  # differentiable, of nothing
    if len(parts) > 1 and torch.is_grad_enabled() and not is_transformed():
        sums = [checkpoint(by_row, part, *places, use_reentrant=False, preserve_rng_state=False) for part in parts]
    else:
        sums = [by_row(part, *places) for part in parts]
    # By row, then by group: two short sums round less than a long one.
    return out.index_add(0, torch.cat([plan.group[part.first : part.last + 1] for part in parts]), torch.cat(sums))


# While compiling, the number of tuples is not known: one operator of known shapes, with a slope of its own.


@torch.library.custom_op("graphinv::janossy_totals", mutates_args=())
def _totals_op(table: Tensor, weight: Tensor, bias: Tensor, ptr: Tensor, k: int, limit: int, activation: str) -> Tensor:
    return _totals(table, weight, bias, ptr, k, limit, activation)


@_totals_op.register_fake
def _(table: Tensor, weight: Tensor, bias: Tensor, ptr: Tensor, *settings: Any) -> Tensor:
    return table.new_empty(ptr.shape[0] - 1, table.shape[2])


@torch.library.custom_op("graphinv::janossy_totals_slope", mutates_args=())
def _slope_op(
    grad: Tensor, table: Tensor, weight: Tensor, bias: Tensor, ptr: Tensor, k: int, limit: int, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    plan, (act, slope) = _Plan.of(ptr, table.shape[0] - 1, k, limit), _ACTIVATIONS[activation]
    by_table, by_weight, by_bias = torch.zeros_like(table), torch.zeros_like(weight), torch.zeros_like(bias)
    for part in plan.parts(weight.shape[0]):
        rows = plan.tuples(part)
        first = _first_layer(table.unbind(1), rows)
        second = affine(weight, bias, act(first))
        by_second = grad.index_select(0, plan.group[rows[0]]) * slope(second)
        by_weight += by_second.T @ act(first)
        by_bias += by_second.sum(0)
        by_first = by_second @ weight * slope(first)
        for place in range(k):
            by_table[:, place].index_add_(0, rows[place], by_first)
    return by_table, by_weight, by_bias


@_slope_op.register_fake
def _(grad: Tensor, table: Tensor, weight: Tensor, bias: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(table), torch.empty_like(weight), torch.empty_like(bias)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.settings = inputs[4:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*_slope_op(grad, *ctx.saved_tensors, *ctx.settings), None, None, None, None)


_totals_op.register_autograd(_backward, setup_context=_save)
