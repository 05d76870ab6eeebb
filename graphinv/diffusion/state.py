"""What diffuses: a tensor, dense graphs, or typed nodes and pairs. A state is its fields; nothing else looks inside.

A field's entries are numbered within their graph, and mirrored entries share a number, so that noise is drawn once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from graphinv.graphs import DenseGraphs

__all__ = ["State", "TypedGraphs", "count_entries", "entry_numbers", "fields_of", "is_mirrored", "with_fields"]


@dataclass(frozen=True)
class TypedGraphs:
    """Types of R nodes of each of B graphs, and of the pairs that they form with C nodes.

    Attributes:
        nodes: ``[B, R]`` int64 types, or ``[B, R, *]`` what a network says of them.
        pairs: ``[B, R, C]`` int64 types, 0 for no edge, or ``[B, R, C, *]``.
        node_entry: ``[B, R]`` int64 number of each node within its graph.
        pair_entry: ``[B, R, C]`` int64 number of each pair; (i, j) and (j, i) share one.
    """

    nodes: Tensor
    pairs: Tensor
    node_entry: Tensor
    pair_entry: Tensor


State = Tensor | DenseGraphs | TypedGraphs
S = TypeVar("S", bound=State)


def fields_of(x: State) -> tuple[Tensor, ...]:
    """Return the tensors of a state: itself, or that of nodes and that of pairs."""
    if isinstance(x, DenseGraphs):
        return x.x, x.adj
    return (x.nodes, x.pairs) if isinstance(x, TypedGraphs) else (x,)


def with_fields(like: S, fields: Sequence[Tensor]) -> S:
    """Return a state of the kind of ``like`` with other ``fields``.

    Integer fields of dense graphs are 0 in the padding and on the diagonal, whatever came.
    """
    if isinstance(like, TypedGraphs):
        return replace(like, nodes=fields[0], pairs=fields[1])
    if not isinstance(like, DenseGraphs):
        return fields[0]  # type: ignore[return-value]
    x, adj = fields
    if not x.is_floating_point() and x.dim() == 2:
        x = torch.where(like.mask, x, 0)
    if not adj.is_floating_point() and adj.dim() == 3:
        own = torch.eye(adj.size(1), dtype=torch.bool, device=adj.device)
        adj = torch.where(like.pair_mask & ~own, adj, 0)
    return replace(like, x=x, adj=adj)


def is_mirrored(x: State, field: int) -> bool:
    """Return whether a field holds each of its values twice, as (i, j) and (j, i)."""
    return isinstance(x, DenseGraphs) and field == 1


def entry_numbers(x: State, field: int) -> Tensor:
    """Return int64 numbers of the entries of a field within their graph, ``[B, *]``, one per categorical variable."""
    if isinstance(x, TypedGraphs):
        return (x.node_entry, x.pair_entry)[field]
    if isinstance(x, DenseGraphs):
        count, size = x.mask.shape
        place = torch.arange(size, device=x.mask.device)
        if field == 0:
            return place.expand(count, -1)
        low, high = torch.minimum(place, place.unsqueeze(1)), torch.maximum(place, place.unsqueeze(1))
        return (high * (high - 1) // 2 + low).expand(count, -1, -1)
    return torch.arange(x[:1].numel(), device=x.device).reshape(x.shape[1:]).expand(x.shape)


def count_entries(x: State) -> Tensor:
    """Return how many independent real entries each graph of a state has, ``[B]`` in the dtype of its first field."""
    if isinstance(x, DenseGraphs):
        nodes = x.mask.sum(1)
        return (nodes * x.x.size(-1) + nodes * (nodes - 1) // 2).to(x.x.dtype)
    if isinstance(x, TypedGraphs):
        raise TypeError("typed graphs have no real entries")
    return torch.ones_like(x).flatten(1).sum(1)
