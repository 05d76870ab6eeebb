"""Exactly commutative and associative folds with an identity, each over the channels of the rows of every group.

``fold`` maps rows to a state, ``merge`` joins the states of two parts of the same groups, ``finish`` reads the
result off. The state of no rows is the identity, so that folding at once and folding part by part are the same.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from graphinv.aggr import _group_folds as folds
from graphinv.aggr.layout import GroupLayout
from graphinv.errors import InputError

State = dict[str, Tensor]  # tensors [G, *]


class Monoid(nn.Module):
    """Base of the heads: rows [N, C], to a state of G groups, to a result of ``slots`` rows of C numbers each."""

    slots: int = 1

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise InputError(f"channels must be at least 1, got {channels}")
        self.channels = channels

    @property
    def out_channels(self) -> int:
        """Channels of a result, ``slots * channels``."""
        return self.slots * self.channels

    def forward(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Return the result [G, slots * C] of the rows ``x`` [N, C], float32 or float64."""
        return self.finish(self.fold(x, layout), layout.ptr.diff())

    def reset_parameters(self) -> None:
        """Set all parameters to their start; most have none."""

    @abstractmethod
    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return the state of the rows ``x`` [N, C]; an empty group has the identity."""

    def merge(self, a: State, b: State) -> State:
        """Return the state of the rows of ``a`` and of ``b`` together; their sum if not overridden."""
        return {name: a[name] + b[name] for name in a}

    @abstractmethod
    def finish(self, state: State, count: Tensor) -> Tensor:
        """Return the result [G, slots * C]; ``count`` [G] is the number of rows of each group."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels}" + (f", {self.slots})" if self.slots > 1 else ")")


class SumMonoid(Monoid):
    """Sum of each channel (Deep Sets, arXiv:1703.06114); an empty group gives 0.

    Example:
        >>> layout = GroupLayout.from_index(torch.tensor([0, 0]), dim_size=2)
        >>> SumMonoid(1)(torch.tensor([[1.0], [2.0]]), layout).tolist()
        [[3.0], [0.0]]
    """

    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return the sum."""
        return {"total": folds.group_sum(x, layout)}

    def finish(self, state: State, count: Tensor) -> Tensor:
        """Return the sum [G, C]."""
        return state["total"]


class MeanMonoid(SumMonoid):
    """Mean of each channel, from the pair of sum and count; an empty group gives 0.

    Example:
        >>> layout = GroupLayout.from_index(torch.tensor([0, 0]), dim_size=2)
        >>> MeanMonoid(1)(torch.tensor([[1.0], [2.0]]), layout).tolist()
        [[1.5], [0.0]]
    """

    def finish(self, state: State, count: Tensor) -> Tensor:
        """Return the mean [G, C]."""
        return state["total"] / count.clamp(min=1).unsqueeze(1)


class MaxMonoid(Monoid):
    """Greatest of each channel; an empty group gives 0 (its state is -inf). Rows that tie share the gradient.

    Example:
        >>> layout = GroupLayout.from_index(torch.tensor([0, 0]), dim_size=2)
        >>> MaxMonoid(1)(torch.tensor([[-1.0], [-2.0]]), layout).tolist()
        [[-1.0], [0.0]]
    """

    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return the greatest, -inf if there is none."""
        return {"greatest": folds.group_max(x, layout)}

    def merge(self, a: State, b: State) -> State:
        """Take the greater."""
        return {"greatest": torch.maximum(a["greatest"], b["greatest"])}

    def finish(self, state: State, count: Tensor) -> Tensor:
        """Return the greatest [G, C]."""
        return torch.where((count > 0).unsqueeze(1), state["greatest"], 0)


class MinMonoid(MaxMonoid):
    """Least of each channel; an empty group gives 0. Rows that tie share the gradient.

    Example:
        >>> layout = GroupLayout.from_index(torch.tensor([0, 0]), dim_size=2)
        >>> MinMonoid(1)(torch.tensor([[1.0], [2.0]]), layout).tolist()
        [[1.0], [0.0]]
    """

    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return the greatest of the negated rows."""
        return super().fold(-x, layout)

    def finish(self, state: State, count: Tensor) -> Tensor:
        """Return the least [G, C]."""
        return super().finish({"greatest": -state["greatest"]}, count)


class LogSumExpMonoid(Monoid):
    """t log(sum exp(x / t)) of each channel, with a learned ``temperature`` t > 0 per channel: a smooth maximum.

    An empty group gives 0; one of -inf only gives -inf. Parts are to be merged under the parameters that folded
    them.

    Raises:
        InputError: ``temperature`` is not positive.

    Example:
        >>> layout = GroupLayout.from_index(torch.tensor([0, 0]), dim_size=2)
        >>> LogSumExpMonoid(1)(torch.zeros(2, 1), layout).exp().round(decimals=4).tolist()
        [[2.0], [1.0]]
    """

    def __init__(self, channels: int, temperature: float = 1.0) -> None:
        super().__init__(channels)
        if not 0 < temperature < math.inf:
            raise InputError(f"temperature must be positive and finite, got {temperature}")
        self.start = temperature
        self.log_temperature = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the temperatures to the one given."""
        nn.init.constant_(self.log_temperature, math.log(self.start))

    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return the greatest of x / t, and the sum of exp(x / t - greatest)."""
        z = x / self.log_temperature.exp()
        greatest = folds.group_max(z.detach(), layout)  # only a shift: neither result nor gradients depend on it
        return {
            "greatest": greatest,
            "scaled": folds.group_sum((z - folds.finite(greatest)[layout.index]).exp(), layout),
        }

    def merge(self, a: State, b: State) -> State:
        """Bring both sums to the greater shift and add them."""
        greatest = torch.maximum(a["greatest"], b["greatest"])
        scaled = [part["scaled"] * (part["greatest"] - folds.finite(greatest)).exp() for part in (a, b)]
        return {"greatest": greatest, "scaled": scaled[0] + scaled[1]}

    def finish(self, state: State, count: Tensor) -> Tensor:
        """Return t log(sum) [G, C]."""
        nothing = state["scaled"] == 0
        logs = torch.where(nothing, 1, state["scaled"]).log() + folds.finite(state["greatest"])
        return torch.where(nothing & (count > 0).unsqueeze(1), -math.inf, logs) * self.log_temperature.exp()


class ComplexProductMonoid(Monoid):
    """Product of complex numbers; channels c and c + C/2 are the real and the imaginary part of number c.

    The product of Fourier coefficients is a convolution (Sequential Signal Mixing, arXiv:2409.19414). With
    r = max(|z|, floor), log r is added and z / r multiplied, so that nothing is singular at z = 0: the slope there
    is the product of the others. An empty group gives 1. With the rows, the product grows or shrinks exponentially
    and its relative rounding error linearly, at worst; ``normalize`` gives the geometric mean of r in place of its
    product, with slopes up to the order of 1 / floor.

    Raises:
        InputError: ``channels`` is odd, or ``floor`` is not positive.

    Example:
        >>> layout = GroupLayout.from_index(torch.tensor([0, 0]), dim_size=2)
        >>> ComplexProductMonoid(2)(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), layout).round(decimals=4).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """

    def __init__(self, channels: int, normalize: bool = False, floor: float = 1e-3) -> None:
        super().__init__(channels)
        if channels % 2 or not floor > 0:
            raise InputError(f"need an even number of channels and a floor > 0, got {channels} and {floor}")
        self.normalize, self.floor = normalize, floor

    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return real and imaginary part of the product of z / r, and the sum of log r: [G, 3, C/2]."""
        z = torch.unflatten(x, 1, (2, self.channels // 2))
        size = z.detach().abs().amax(1, keepdim=True).clamp(min=self.floor)  # keeps squares in range
        modulus = size * (z / size).square().sum(1, keepdim=True).clamp(min=(self.floor / size).square()).sqrt()
        one = torch.eye(3, 1, dtype=x.dtype, device=x.device).expand(3, z.shape[2])
        return {
            "product": folds.group_fold(torch.cat([z / modulus, modulus.log()], 1), layout, folds.complex_product, one)
        }

    def merge(self, a: State, b: State) -> State:
        """Multiply."""
        return {"product": folds.complex_product(a["product"], b["product"])}

    def finish(self, state: State, count: Tensor) -> Tensor:
        """Return real, then imaginary parts [G, C]."""
        phase, logs = torch.split(state["product"], [2, 1], 1)
        rows = count.clamp(min=1).view(-1, 1, 1) if self.normalize else 1
        return (phase * (logs / rows).exp()).flatten(1)


class TopKMonoid(Monoid):
    """The k largest of each channel, largest first; 0 where a group has fewer rows. k = 2 holds the 2nd largest.

    The gradient goes to the chosen rows; among equal ones, to those that come first.

    Raises:
        InputError: k is below 1.

    Example:
        >>> layout = GroupLayout.from_index(torch.tensor([0, 0, 0, 1]))
        >>> TopKMonoid(1, k=2)(torch.tensor([[1.0], [3.0], [2.0], [-5.0]]), layout).tolist()
        [[3.0, 2.0], [-5.0, 0.0]]
    """

    def __init__(self, channels: int, k: int = 2) -> None:
        super().__init__(channels)
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        self.slots = k

    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return the k largest, -inf for missing ones: [G, k, C]."""
        return {"largest": folds.group_largest(x, layout, self.slots)}

    def merge(self, a: State, b: State) -> State:
        """Take the k largest of both."""
        return {"largest": torch.cat([a["largest"], b["largest"]], 1).topk(self.slots, 1).values}

    def finish(self, state: State, count: Tensor) -> Tensor:
        """Return the largest of all channels, then the second largest, ...: [G, k * C]."""
        slot = torch.arange(self.slots, device=count.device).view(-1, 1)
        return torch.where(slot < count.view(-1, 1, 1), state["largest"], 0).flatten(1)


class ElementarySymmetricMonoid(Monoid):
    """e_1 .. e_degree of each channel, where e_j is the sum over all sets of j rows of the product of their values.

    They are the coefficients of the product of (1 + x z) over the rows, a polynomial in z that is cut after
    ``degree``. An empty group gives 0. e_j grows like n^j / j! with the number n of rows; ``normalize`` divides by
    the number of sets, n over j (0 where there are fewer than j rows); the sums before must fit the dtype.

    Raises:
        InputError: ``degree`` is below 1.

    Example:
        >>> layout = GroupLayout.from_index(torch.tensor([0, 0, 0]))
        >>> ElementarySymmetricMonoid(1)(torch.tensor([[1.0], [2.0], [3.0]]), layout).tolist()
        [[6.0, 11.0]]
    """

    def __init__(self, channels: int, degree: int = 2, normalize: bool = False) -> None:
        super().__init__(channels)
        if degree < 1:
            raise InputError(f"degree must be at least 1, got {degree}")
        self.slots, self.normalize = degree, normalize

    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return e_1 .. e_degree: [G, degree, C]."""
        rows = torch.cat([x.unsqueeze(1), x.new_zeros(x.shape[0], self.slots - 1, x.shape[1])], 1)
        identity = x.new_zeros(self.slots, x.shape[1])
        return {"symmetric": folds.group_fold(rows, layout, folds.truncated_product, identity)}

    def merge(self, a: State, b: State) -> State:
        """Multiply the polynomials."""
        return {"symmetric": folds.truncated_product(a["symmetric"], b["symmetric"])}

    def finish(self, state: State, count: Tensor) -> Tensor:
        """Return e_1 of all channels, then e_2, ...: [G, degree * C]."""
        terms = state["symmetric"]
        if self.normalize:
            taken = torch.arange(self.slots, device=count.device)
            sets = ((count.unsqueeze(1) - taken).clamp(min=0).to(terms.dtype) / (taken + 1)).cumprod(1)
            terms = terms / torch.where(sets > 0, sets, 1).unsqueeze(2)
        return terms.flatten(1)
