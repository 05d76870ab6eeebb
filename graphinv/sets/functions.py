"""The set function F(S; V): how good the subset S of the ground set V is, and what each element adds to it.

The first layer is linear in the sum over S, so taking an element in or out is one addition to it: all differences
F(S u {i}) - F(S minus {i}) of a set share one pooling. EquiVSet, arXiv:2203.01693; INSET, arXiv:2402.03139.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphinv.aggr import GroupAggregation, GroupLayout
from graphinv.errors import InputError
from graphinv.nn.embed import MLP
from graphinv.ops import segment_reduce
from graphinv.sets._head import Activation, Head
from graphinv.sets.noise import pairs

__all__ = ["SetFunction", "Utility"]

Superset = Literal["concat", "gate"]


class Utility(Protocol):
    """What the inference needs of a set function; ``SetFunction`` is one, and any other with these three will do.

    ``phi`` [N, C] are the elements, set after set; ``samples`` [N, M] are M subsets of every set, as bool, or as real
    numbers in [0, 1] where they are relaxed.
    """

    def values(self, phi: Tensor, layout: GroupLayout, samples: Tensor) -> Tensor:
        """Return F of every subset, [B, M]."""
        ...

    def differences(self, phi: Tensor, layout: GroupLayout, samples: Tensor, *, independent: bool = False) -> Tensor:
        """Return F with element i minus F without it, for every i and every subset, [N, M]."""
        ...

    def gradients(self, phi: Tensor, layout: GroupLayout, samples: Tensor) -> Tensor:
        """Return the slope of F in the membership of element i at every subset, [N, M]."""
        ...


class SetFunction(nn.Module):
    """F(S; V) = MLP(sum over S of phi_i), if asked for with a statistic of the whole ground set mixed in.

    With ``superset`` the statistic of V passes through a network of its own and enters the first layer, before its
    nonlinearity ("concat", as if both were concatenated) or as a factor in (0, 1) after it ("gate"). A term that is
    only added to F would cancel in every difference and change nothing.

    Use it as the utility of ``EquiVSet``. ``values`` costs O(B M) rows of the MLP, ``differences`` O(N M) rows and
    ``gradients`` O(B M); pooling costs O(N M C) in each.

    Args:
        channels: C of the elements.
        hidden: H, width of the MLP.
        layers: hidden layers, at least 1; 2 as in the papers.
        superset: None for F(S) (EquiVSet), "concat" or "gate" for F(S; V) (INSET).
        statistic: the aggregator of V; the sum if None.
        activation: "relu" as in the papers, or "silu", which ``gradients`` need where F is trained by them: a slope of
            ReLUs tells biases and a concatenated statistic nothing.
        recompute: compute hidden layers of ``differences`` a second time in the backward pass: a third slower, and
            the memory of training no longer grows with N M H.
        chunk: evaluations of ``differences`` at a time; bounds memory without gradients, or with ``recompute``.

    Raises:
        InputError: a setting is out of range, or a statistic is given without ``superset`` or does not fit.

    Example:
        >>> layout = GroupLayout.from_ptr(torch.tensor([0, 2, 5]), 5)
        >>> function, phi = SetFunction(4, hidden=8, superset="concat"), torch.randn(5, 4)
        >>> samples = torch.rand(5, 3) < 0.5
        >>> function.values(phi, layout, samples).shape, function.differences(phi, layout, samples).shape
        (torch.Size([2, 3]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        channels: int = 256,
        hidden: int = 500,
        layers: int = 2,
        superset: Superset | None = None,
        statistic: GroupAggregation | None = None,
        *,
        activation: Activation = "relu",
        recompute: bool = False,
        chunk: int = 8192,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("hidden", hidden), ("layers", layers), ("chunk", chunk)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if superset not in (None, "concat", "gate"):
            raise InputError(f"unknown superset {superset!r}; available: None, concat, gate")
        if statistic is not None and superset is None:
            raise InputError("a statistic of the ground set needs superset='concat' or 'gate'; None leaves it out")
        self.channels, self.hidden, self.superset = channels, hidden, superset
        self.recompute, self.chunk = recompute, chunk
        self.first = nn.Linear(channels, hidden)
        self.head = Head(hidden, layers, activation)
        self.statistic = statistic
        self.theta = (
            None if superset is None else MLP(2, statistic_width(statistic, channels), hidden, hidden, torch.relu_)
        )

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in self.modules():
            if module is not self and (isinstance(module, nn.Linear) or module is self.statistic):
                module.reset_parameters()

    def forward(self, phi: Tensor, layout: GroupLayout, samples: Tensor) -> Tensor:
        """Return ``values``."""
        return self.values(phi, layout, samples)

    def values(self, phi: Tensor, layout: GroupLayout, samples: Tensor) -> Tensor:
        """Return F of every subset, [B, M].

        Args:
            phi: [N, C] elements, set after set.
            layout: of the sets, made by ``GroupLayout.from_ptr``.
            samples: [N, M] bool or real; gradients flow into real ones.

        Raises:
            InputError: the shapes do not fit, or the rows do not lie set after set.
        """
        self._check(phi, layout, samples)
        before, gate = self._before(phi, layout, samples)
        value: Tensor = self.head(before, gate)
        return value

    def differences(self, phi: Tensor, layout: GroupLayout, samples: Tensor, *, independent: bool = False) -> Tensor:
        """Return F(S u {i}) - F(S minus {i}) for every element i, [N, M].

        Of a bool sample one of the two is F(S) itself, so only the other is computed; of a real sample both are,
        at the other elements' relaxed memberships.

        Args:
            phi: [N, C] elements, set after set.
            layout: of the sets, made by ``GroupLayout.from_ptr``.
            samples: [N, M], one subset for all elements of a set; with ``independent`` [P, M], P = sum of n_b^2, a
                subset for each element: rows are pairs (i, j) of one set, j running fastest.
            independent: pool a subset for each element, as the paper does: O(M n^2 C) in place of O(M n C).

        Raises:
            InputError: the shapes do not fit, or the rows do not lie set after set.
        """
        self._check(phi, layout, samples, independent)
        shift = nn.functional.linear(phi, self.first.weight).unsqueeze(1)  # [N, 1, H]
        if independent:
            return self._independent_differences(phi, layout, samples, shift)
        before, gate = self._before(phi, layout, samples)
        own = samples.unsqueeze(2).to(phi.dtype)  # [N, M, 1]
        if samples.is_floating_point():
            return self._in_chunks(self._both, before, gate, layout, own, shift)
        base: Tensor = self.head(before, gate).index_select(0, layout.index)
        sign = 1 - 2 * own  # what taking i in or out adds
        other = self._in_chunks(self._one, before, gate, layout, sign, shift)
        return sign.squeeze(2) * (other - base)

    def gradients(self, phi: Tensor, layout: GroupLayout, samples: Tensor) -> Tensor:
        """Return dF/ds_i at every subset, [N, M]: the first-order stand-in for ``differences``.

        Equal to them where F is linear in the membership of each element by itself; else biased, but with O(B M) rows
        of the MLP in place of O(N M). Differentiable itself, but see ``activation``; works in inference mode too.

        Args:
            phi: [N, C] elements, set after set.
            layout: of the sets, made by ``GroupLayout.from_ptr``.
            samples: [N, M] bool or real.

        Raises:
            InputError: the shapes do not fit, or the rows do not lie set after set.
        """
        self._check(phi, layout, samples)
        before, gate = self._before(phi, layout, samples)
        slope = self.head.slope(before, gate) @ self.first.weight  # [B, M, C], in the sum over S
        return torch.stack([(phi * part.index_select(0, layout.index)).sum(1) for part in slope.unbind(1)], 1)

    def _before(self, phi: Tensor, layout: GroupLayout, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the first layer before its nonlinearity, [B, M, H], and the gate [B, 1, H] after it."""
        before = self.first(_pool(phi, layout.ptr, samples))
        context = self._context(phi, layout)
        if context is not None and self.superset == "concat":
            return before + context, None
        return before, None if context is None else context.sigmoid()

    def _context(self, phi: Tensor, layout: GroupLayout) -> Tensor | None:
        """Return what the first layer is told about V, [B, 1, H]."""
        if self.theta is None:
            return None
        statistic = segment_reduce(phi, layout.ptr) if self.statistic is None else self.statistic(phi, layout=layout)
        context: Tensor = self.theta(statistic)
        return context.unsqueeze(1)

    def _one(self, before: Tensor, gate: Tensor | None, amount: Tensor, shift: Tensor) -> Tensor:
        value: Tensor = self.head(torch.addcmul(before, amount, shift), gate)
        return value

    def _both(self, before: Tensor, gate: Tensor | None, own: Tensor, shift: Tensor) -> Tensor:
        without = before - own * shift
        gain: Tensor = self.head(without + shift, gate) - self.head(without, gate)
        return gain

    def _in_chunks(
        self, part: _Part, before: Tensor, gate: Tensor | None, layout: GroupLayout, amount: Tensor, shift: Tensor
    ) -> Tensor:
        """Run ``part`` on rows of a few elements at a time: [N, M]."""

        def run(index: Tensor, amount: Tensor, shift: Tensor) -> Tensor:
            own_gate = None if gate is None else gate.index_select(0, index)
            return part(before.index_select(0, index), own_gate, amount, shift)

        rows = max(1, self.chunk // max(amount.shape[1], 1))
        chunks = zip(*(torch.split(t, rows) for t in (layout.index, amount, shift)), strict=True)
        if self.recompute and torch.is_grad_enabled():
            return torch.cat([checkpoint(run, *chunk, use_reentrant=False) for chunk in chunks])
        return torch.cat([run(*chunk) for chunk in chunks])

    def _independent_differences(self, phi: Tensor, layout: GroupLayout, samples: Tensor, shift: Tensor) -> Tensor:
        """Pool one subset per element, set by set, as a matrix product of the set's n M subsets with its elements."""
        context = self._context(phi, layout)
        sizes: list[int] = layout.counts.tolist()
        out = []
        subsets = torch.split(samples.to(phi.dtype), [n * n for n in sizes])
        for b, (rows, moves, chosen) in enumerate(
            zip(torch.split(phi, sizes), torch.split(shift, sizes), subsets, strict=True)
        ):
            n = sizes[b]
            cube = chosen.view(n, n, -1).transpose(1, 2)  # [n, M, n]: element, sample, member
            before, gate = self.first(cube @ rows), None
            if context is not None and self.superset == "concat":
                before = before + context[b]
            elif context is not None:
                gate = context[b].sigmoid()
            own = cube.diagonal(dim1=0, dim2=2).t().unsqueeze(2)  # [n, M, 1]
            out.append(self._both(before, gate, own, moves))
        return torch.cat(out) if out else samples.new_zeros(0, samples.shape[1], dtype=phi.dtype)

    def _check(self, phi: Tensor, layout: GroupLayout, samples: Tensor, independent: bool = False) -> None:
        if layout.order is not None or layout.num_rows != phi.shape[0]:
            raise InputError(
                f"elements must lie set after set, as GroupLayout.from_ptr says; got {layout} for {phi.shape}"
            )
        if phi.dim() != 2 or phi.shape[1] != self.channels:
            raise InputError(f"phi must be [N, {self.channels}], got {list(phi.shape)}")
        rows = pairs(layout)[0].numel() if independent else phi.shape[0]
        if samples.dim() != 2 or samples.shape[0] != rows or samples.shape[1] < 1:
            what = "pair of elements of one set" if independent else "element"
            raise InputError(f"samples must have one row per {what}, [{rows}, M], got {list(samples.shape)}")


class _Part(Protocol):
    def __call__(self, before: Tensor, gate: Tensor | None, amount: Tensor, shift: Tensor, /) -> Tensor: ...


def _pool(phi: Tensor, ptr: Tensor, samples: Tensor) -> Tensor:
    """Sum the elements of every subset: [B, M, C]. One subset at a time, so that [N, M, C] is never formed."""
    return torch.stack([segment_reduce(phi * s.unsqueeze(1), ptr) for s in samples.to(phi.dtype).unbind(1)], 1)


def statistic_width(statistic: GroupAggregation | None, channels: int) -> int:
    """Return the channels of a statistic of elements with ``channels``; the sum or mean if None."""
    if statistic is None:
        return channels
    if statistic.in_channels not in (-1, channels):
        raise InputError(f"the statistic must take {channels} channels as the elements have, got {statistic!r}")
    width = getattr(statistic, "out_channels", None)
    if not isinstance(width, int):
        raise InputError(f"the statistic must say its out_channels, got {statistic!r}")
    return width
