"""The order in which a tree meets the rows of a group: by their content, as given, or at random.

By content means by one number per row, a fixed linear combination of its channels in float64, so that rounding
further up moves a row only past rows it nearly ties with; rows that tie exactly are ordered by all their channels.
Rows that are equal are interchangeable, so the result does not depend on the order of the input at all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.aggr.layout import GroupLayout

__all__ = ["content_order", "is_transformed", "random_order"]

_CHUNK_ELEMENTS = 1 << 16


def random_order(layout: GroupLayout) -> Tensor:
    """Return the rows group after group, [N], each group in a random order, from torch's default generator."""
    return _by_group(torch.rand(layout.num_rows, device=layout.device), layout)


def content_order(x: Tensor, layout: GroupLayout) -> Tensor:
    """Return the rows of ``x`` [N, F] group after group, [N], each group in an order that its content decides.

    Off the CPU, and while tracing, rows of equal score but other channels (one chance in 10^15 a pair) keep the
    order of the input, since to find them would read back to the host.
    """
    x = x.detach()
    score = _score(x)
    order = _by_group(score, layout)
    return _break_ties(x, score, order, layout) if _can_read(x) else order


def is_transformed() -> bool:
    """Return whether this runs inside torch.func, where only plain operations work; there is no public way to ask."""
    return bool(torch._C._are_functorch_transforms_active())


def _can_read(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not is_transformed()


def _score(x: Tensor) -> Tensor:
    # Element by element: a matrix product may round equal rows differently at different places.
    # Sines of whole numbers are linearly independent over the rationals (Lindemann-Weierstrass): rows of whole
    # numbers that differ have different scores.
    weight = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=torch.float64).sin() + 1.5
    x = x.contiguous()
    if not _can_read(x):
        return (x.double() * weight).sum(1)
    rows = max(1, _CHUNK_ELEMENTS // max(x.shape[1], 1))
    score = torch.empty(x.shape[0], dtype=torch.float64, device=x.device)
    products = score.new_empty(min(rows, x.shape[0]), x.shape[1])
    for part, out in zip(torch.split(x, rows), torch.split(score, rows), strict=True):
        torch.sum(torch.mul(part, weight, out=products[: part.shape[0]]), dim=1, out=out)
    return score


def _by_group(key: Tensor, layout: GroupLayout) -> Tensor:
    by_key = torch.sort(key, stable=True).indices
    return by_key[torch.sort(layout.index[by_key], stable=True).indices]


def _break_ties(x: Tensor, score: Tensor, order: Tensor, layout: GroupLayout) -> Tensor:
    key, group = score[order], layout.index[order]
    tied = (key[1:] == key[:-1]) & (group[1:] == group[:-1])
    place = tied.nonzero().flatten()
    if not place.numel() or bool((x[order[place]] == x[order[place + 1]]).all()):
        return order
    in_tie = torch.zeros(order.shape[0], dtype=torch.bool)
    in_tie[place] = in_tie[place + 1] = True
    rows = order[in_tie]
    rank = torch.zeros(order.shape[0], dtype=torch.int64)
    rank[rows] = torch.unique(x[rows], dim=0, return_inverse=True)[1]
    by_row = torch.sort(rank, stable=True).indices
    by_score = by_row[torch.sort(score[by_row], stable=True).indices]
    return by_score[torch.sort(layout.index[by_score], stable=True).indices]
