"""Poolings that sort each channel inside each group: FSPool, and two embeddings of sliced Wasserstein distances.

All see a group through its sorted channels, v_0, v_1, ..., v_(n-1), or through the quantile function they are steps
of: FSPool weights the positions, PSWE reads the function at fixed places, FSW takes its Fourier coefficients. Nothing
is padded. Each is continuous in the rows: where two values change places they are equal. Of equal values the gradient
takes the first row for the first one.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphinv.aggr._flow import affine
from graphinv.aggr.base import GroupAggregation
from graphinv.aggr.layout import GroupLayout
from graphinv.errors import InputError, check_positive
from graphinv.ops import segment_sort_columns
from graphinv.ops.pointer import repeat

__all__ = ["FSPoolAggregation", "FSWAggregation", "PSWEAggregation"]


class _SortedAggregation(GroupAggregation):
    """Rows group after group, in float32 at least and outside autocast, for ``reduce_sorted``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels

    def reduce_groups(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Return the result [G, F_out] of the rows ``x`` [N, F], in the dtype of ``x``."""
        with torch.autocast(x.device.type, enabled=False):
            own = torch.promote_types(next(self.parameters()).dtype, torch.float32)
            return self.reduce_sorted(layout.grouped(x).to(own), layout).to(x.dtype)

    @abstractmethod
    def reduce_sorted(self, rows: Tensor, layout: GroupLayout) -> Tensor:
        """Map rows [N, F] that lie group after group to [G, F_out]; what a subclass implements."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels})"


class FSPoolAggregation(_SortedAggregation):
    """Sum of each channel, each value weighted by its place in descending order (FSPool, arXiv:1906.02795).

    y_c = sum_j f_c(j / (n - 1)) v_jc, v_0c the greatest of the n values of channel c, and f_c learned, continuous and
    linear on each of ``pieces`` equal parts of [0, 1]. It contains the sum (f = 1) and, for groups of at most
    ``pieces`` + 1 rows, the maximum, the minimum and (for an even number of pieces) the median of an odd number of
    rows. It starts near the sum. The only row of a group is at 0, the place of the maximum; an empty group gives 0.
    Use it where it is to be learned whether the extremes, the middle or the spread of a channel matter. Cost: one
    sort of each channel.

    Args:
        in_channels: F, channels of a row.
        out_channels: C; a learned linear map takes the rows there first. Without it there is none, and C = F.
        pieces: parts of [0, 1] on which f is linear.
        normalize: whether y is divided by n, so that it starts near the mean.

    Raises:
        InputError: a number of channels or pieces is below 1.

    Example:
        >>> pool = FSPoolAggregation(4, pieces=10)
        >>> pool(torch.randn(3, 4), torch.tensor([0, 2, 0]), dim_size=3).shape
        torch.Size([3, 4])
        >>> with torch.no_grad():
        ...     pool.knots.zero_()[0] = 1  # f(0) = 1, and 0 from 1/10 on: the maximum
        >>> pool(torch.tensor([[0.0, 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, 0.0]])).tolist()
        [[3.0, 2.0, 2.0, 3.0]]
    """

    def __init__(
        self, in_channels: int, out_channels: int | None = None, *, pieces: int = 20, normalize: bool = False
    ) -> None:
        super().__init__(in_channels, in_channels if out_channels is None else out_channels)
        check_positive(pieces=pieces)
        self.pieces, self.normalize = pieces, normalize
        self.project = None if out_channels is None else nn.Linear(in_channels, out_channels)
        self.knots = nn.Parameter(torch.empty(pieces + 1, self.out_channels))  # f at 0, 1 / pieces, ..., 1
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projection anew, and f near 1."""
        if self.project is not None:
            self.project.reset_parameters()
        nn.init.normal_(self.knots, 1.0, 0.1)

    def reduce_sorted(self, rows: Tensor, layout: GroupLayout) -> Tensor:
        """Return the weighted sums [G, C]."""
        if self.project is not None:
            rows = affine(self.project.weight, self.project.bias, rows)
        values, _ = segment_sort_columns(rows, layout.ptr, descending=True)
        group, position = _positions(layout)
        steps = (layout.counts - 1).clamp(min=1).index_select(0, group)
        weight = _interpolate(self.knots.to(rows.dtype), position * self.pieces, steps, 0, self.pieces)
        total = _sum(weight * values, group, layout)
        return total / _size(layout, total.dtype) if self.normalize else total


class PSWEAggregation(_SortedAggregation):
    """Quantiles of learned projections, relative to a learned reference set (PSWE, NeurIPS 2021).

    "Pooling by Sliced-Wasserstein Embedding" of Naderializadeh et al. Slice l of a group is the sorted numbers
    <theta_l, x>, theta_l a unit vector. Its quantile function Q_l is v_j at (j + 1/2) / n, linear between and
    constant outside, read at t_m = (m + 1/2) / M. The embedding z_lm = Q_l(t_m) - r_lm, with the sorted reference r,
    is weighted, summed over m and mapped to the result: y = W sum_m w_lm z_lm + b. For n = M the quantiles are the
    sorted numbers themselves. The size is hardly seen: to have every row k times changes nothing if n is a
    multiple of M, and else no quantile by more than half the gap between two neighbours. An empty group has Q = 0.
    Use it for point clouds and other samples of a distribution, where the size says nothing. Cost: a sort of the N
    rows in L channels, and G M L numbers read.

    Args:
        in_channels: F, channels of a row.
        out_channels: channels of the result.
        slices: L, projections.
        points: M, places at which each quantile function is read; rows of the reference.

    Raises:
        InputError: a number of channels, slices or points is below 1.

    Example:
        >>> pool = PSWEAggregation(4, 8, slices=16, points=5)
        >>> pool(torch.randn(3, 4), torch.tensor([0, 2, 0]), dim_size=3).shape
        torch.Size([3, 8])
    """

    def __init__(self, in_channels: int, out_channels: int, *, slices: int = 32, points: int = 16) -> None:
        super().__init__(in_channels, out_channels)
        check_positive(slices=slices, points=points)
        self.slices, self.points = slices, points
        self.direction = nn.Parameter(torch.empty(slices, in_channels))  # theta, of any length
        self.reference = nn.Parameter(torch.empty(points, slices))  # r, in any order
        self.weight = nn.Parameter(torch.empty(points, slices))
        self.project = nn.Linear(slices, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw directions, weights and projection anew; the reference becomes that of standard normal rows."""
        nn.init.normal_(self.direction)
        nn.init.normal_(self.weight, std=self.points**-0.5)
        self.project.reset_parameters()
        middle = (torch.arange(self.points, dtype=torch.float64) + 0.5) / self.points
        with torch.no_grad():
            self.reference.copy_(torch.special.ndtri(middle).unsqueeze(1))

    def reduce_sorted(self, rows: Tensor, layout: GroupLayout) -> Tensor:
        """Return the mapped embedding [G, F_out]."""
        values, _ = segment_sort_columns(_slices(rows, self.direction), layout.ptr)
        reference = self.reference.to(rows.dtype).sort(dim=0).values
        weight = self.weight.to(rows.dtype)
        embedding = _quantiles(values, layout, self.points) - reference  # [G, M, L]
        out, empty = (
            affine(self.project.weight, self.project.bias, (z * weight).sum(1)) for z in (embedding, -reference[None])
        )
        return torch.where(layout.counts.unsqueeze(1) > 0, out, empty)  # a product may round equal rows differently


class FSWAggregation(_SortedAggregation):
    """Fourier coefficients of the quantile functions of projections (FSW, arXiv:2405.16519).

    E_l = 2 (1 + xi_l) integral over [0, 1] of Q_l(t) cos(2 pi xi_l t) dt, with Q_l the quantile function of the
    numbers <v_l, x>, v_l a unit vector: v_j on all of [j / n, (j + 1) / n). The integral is exact, and xi_l = 0 gives
    twice the mean. By the paper, L = 2 n F + 1 slices tell apart all sets of at most n rows in F channels, for almost
    all directions and frequencies, and the distance of two embeddings is the Wasserstein distance of the sets up to
    bounded factors, which does not hold for sums and maxima of networks. A set and the set with each row k times are
    one distribution, with the same E; the size tells them apart. An empty group gives 0. Use it before an MLP, where
    sets that differ little are to stay apart. Cost: a sort and a cosine of the N rows in L channels.

    Args:
        in_channels: F, channels of a row.
        out_channels: numbers of the embedding; L is as many, or one less with the size.
        learnable: whether directions v and frequencies xi are learned; they stay as drawn otherwise.
        with_size: whether the last number is log(1 + n).

    Raises:
        InputError: a number of channels is below 1, or there is none for a slice.

    Example:
        >>> pool = FSWAggregation(4, 9)
        >>> x = torch.randn(3, 4)
        >>> once, twice = pool(x), pool(torch.cat([x, x]))
        >>> torch.allclose(once[:, :8], twice[:, :8], atol=1e-3), once[0, 8].exp().round().item()
        (True, 4.0)
    """

    def __init__(self, in_channels: int, out_channels: int, *, learnable: bool = True, with_size: bool = True) -> None:
        super().__init__(in_channels, out_channels)
        if with_size and out_channels < 2:
            raise InputError(f"out_channels must be at least 2 to hold the size and a slice, got {out_channels}")
        self.with_size = with_size
        slices = out_channels - with_size
        self.direction = nn.Parameter(torch.empty(slices, in_channels), requires_grad=learnable)  # v, of any length
        self.frequency = nn.Parameter(torch.empty(slices), requires_grad=learnable)  # xi, of any sign
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the directions anew; the frequencies become quantiles of the density 1 / (1 + xi)^2 of the paper."""
        nn.init.normal_(self.direction)
        slices = self.frequency.shape[0]
        below = (torch.arange(slices, dtype=torch.float64) + 0.5) / slices
        with torch.no_grad():
            self.frequency.copy_(below / (1 - below))

    def reduce_sorted(self, rows: Tensor, layout: GroupLayout) -> Tensor:
        """Return the embedding [G, F_out]."""
        values, _ = segment_sort_columns(_slices(rows, self.direction), layout.ptr)
        frequency = self.frequency.to(rows.dtype).abs()  # [L]
        size = _size(layout, rows.dtype)
        group, position = _positions(layout)
        middle = (position.to(rows.dtype) + 0.5).unsqueeze(1) / size.index_select(0, group)
        waves = _sum(values * (2 * math.pi * frequency * middle).cos(), group, layout)
        # The difference of the sines at both ends of a step, over 2 pi xi, is its cosine in the middle times this.
        embedding = 2 * (1 + frequency) * _sinc(frequency / size) / size * waves
        if not self.with_size:
            return embedding
        return torch.cat([embedding, layout.counts.to(rows.dtype).log1p().unsqueeze(1)], 1)


def _slices(rows: Tensor, direction: Tensor) -> Tensor:
    """Project rows [N, F] on L directions of unit length: [N, L]."""
    return functional.linear(rows, functional.normalize(direction.to(rows.dtype), dim=1))


def _positions(layout: GroupLayout) -> tuple[Tensor, Tensor]:
    """Return the group and the place in it, from 0, of rows that lie group after group: [N] each."""
    group = repeat(layout.counts, layout.num_rows)
    return group, torch.arange(layout.num_rows, device=layout.device) - layout.ptr.index_select(0, group)


def _size(layout: GroupLayout, dtype: torch.dtype) -> Tensor:
    """Return the number of rows to divide by, at least 1: [G, 1]."""
    return layout.counts.clamp(min=1).to(dtype).unsqueeze(1)


def _sum(x: Tensor, group: Tensor, layout: GroupLayout) -> Tensor:
    """Add the rows [N, C] of each group: [G, C]."""
    return x.new_zeros(layout.num_groups, x.shape[1]).index_add(0, group, x)


def _quantiles(values: Tensor, layout: GroupLayout, points: int) -> Tensor:
    """Read the quantile functions of sorted ``values`` [N, L] at (m + 1/2) / M: [G, M, L]; 0 for an empty group."""
    if layout.num_rows == 0:  # there is no row to read
        return values.new_zeros(layout.num_groups, points, values.shape[1]) + values.sum()
    counts = layout.counts.unsqueeze(1)  # [G, 1]
    steps = (counts - 1).clamp(min=0)
    middle = 2 * torch.arange(points, device=layout.device) + 1
    # (m + 1/2) / M = (j + 1/2) / n at j = ((2m + 1) n - M) / 2M
    place = torch.minimum((middle * counts - points).clamp(min=0), 2 * points * steps)
    first = layout.ptr[:-1].clamp(max=layout.num_rows - 1).unsqueeze(1)
    read = _interpolate(values, place, 2 * points, first, first + steps)
    return torch.where((counts > 0).unsqueeze(2), read, 0)


def _interpolate(table: Tensor, place: Tensor, unit: Tensor | int, first: Tensor | int, last: Tensor | int) -> Tensor:
    """Read ``table`` [R, C] linearly ``place / unit`` rows after ``first``, not beyond ``last``: [*, C].

    Whole numbers, so that a place on a row reads that row and nothing of the next.
    """
    whole = torch.div(place, unit, rounding_mode="floor")
    below = whole + first
    above = torch.clamp(below + 1, max=last)
    part = ((place - whole * unit).to(table.dtype) / unit).unsqueeze(-1)
    low, high = (torch.unflatten(table.index_select(0, at.flatten()), 0, place.shape) for at in (below, above))
    return torch.lerp(low, high, part)


def _sinc(x: Tensor) -> Tensor:
    """Return sin(pi x) / (pi x), with a derivative that is exact at and around 0 as well."""
    z = math.pi * x
    small = z.abs() < 0.25
    square = torch.where(small, z, 0).square()
    series = 1 - square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72 * (1 - square / 110))))
    away = torch.where(small, 1, z)
    return torch.where(small, series, away.sin() / away)
