"""What the monoid heads fold groups with: sums, extremes, the k largest and a tree.

Nothing is padded. While compiling, every shape follows from the shapes of the input and the hints of the layout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphinv.aggr.layout import GroupLayout
from graphinv.ops.tree import Combine

__all__ = ["complex_product", "finite", "group_fold", "group_largest", "group_max", "group_sum", "truncated_product"]


def group_sum(x: Tensor, layout: GroupLayout) -> Tensor:
    """Add the rows [N, C] of each group: [G, C]."""
    return x.new_zeros(layout.num_groups, x.shape[1]).index_add(0, layout.index, x)


def group_max(x: Tensor, layout: GroupLayout) -> Tensor:
    """Take the greatest of each channel and group, [G, C]; -inf if there is none."""
    index = layout.index.unsqueeze(1).expand_as(x)
    return x.new_full((layout.num_groups, x.shape[1]), -math.inf).scatter_reduce(0, index, x, "amax")


def group_largest(x: Tensor, layout: GroupLayout, k: int) -> Tensor:
    """Take the k largest of each channel and group, largest first: [N, C] -> [G, k, C], -inf where there are fewer.

    k rounds of a maximum, each without the rows of the rounds before; of equal rows the first one is taken, and
    NaN is the greatest of all, as in ``torch.topk``.
    """
    num_rows, index = x.shape[0], layout.index.unsqueeze(1).expand_as(x)
    row = torch.arange(num_rows, device=x.device).unsqueeze(1)
    keys = x.detach()
    free = torch.ones_like(keys, dtype=torch.bool)
    places = []
    for _ in range(k):
        left = torch.where(free, keys, -math.inf)
        hit = free & ((left == group_max(left, layout).index_select(0, layout.index)) | left.isnan())
        place = row.new_full((layout.num_groups, x.shape[1]), num_rows)
        place = place.scatter_reduce(0, index, torch.where(hit, row, num_rows), "amin")
        free = free & (row != place.index_select(0, layout.index))
        places.append(place)
    rows = torch.cat([x, x.new_full((1, x.shape[1]), -math.inf)])
    return torch.stack([rows.gather(0, place) for place in places], 1)


def group_fold(x: Tensor, layout: GroupLayout, combine: Combine, identity: Tensor) -> Tensor:
    """Fold ``combine`` over the rows [N, *] of each group as a balanced tree, [G, *]; ``identity`` [*] if empty.

    The rows of a group meet out of order: ``combine`` must be commutative as well as associative.
    """
    if layout.num_rows == 0:
        return identity.expand(layout.num_groups, *identity.shape) + 0 * x.sum()  # differentiable, of nothing
    plan = layout.plan()
    results = plan.fold(layout.grouped(x).index_select(0, plan.perm), combine)
    return plan.spread(results, layout.num_groups, identity)


def complex_product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply complex numbers (p + i q) exp(l), given as p, q and l: [R, 3, C] each."""
    (p, q, l), (s, t, m) = a.unbind(1), b.unbind(1)
    return torch.stack([p * s - q * t, p * t + q * s, l + m], 1)


def truncated_product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply polynomials 1 + a_1 z + .. + a_k z^k, cut after z^k: coefficients [R, k, C] from a_1 on."""
    product = []
    for j in range(a.shape[1]):
        crossed = (a[:, i] * b[:, j - 1 - i] for i in range(j))
        product.append(sum(crossed, a[:, j] + b[:, j]))
    return torch.stack(product, 1)


def finite(x: Tensor) -> Tensor:
    """Replace infinities and NaN by 0."""
    return torch.where(x.isfinite(), x, 0)
