"""Directed edges of packed graphs turned into undirected bonds, each held once with local ids u < v.

An edge may be given in one direction or in both; anything an undirected simple graph cannot hold is an error.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch, pair_values

__all__ = ["Bonds", "undirected_bonds"]


@dataclass(frozen=True)
class Bonds:
    """E undirected bonds of B graphs.

    Attributes:
        ends: ``[E, 2]`` local node ids, u < v, in order within each graph.
        types: ``[E]`` int64.
        ptr: ``[B+1]`` int64, bonds of graph k are rows ``ptr[k]:ptr[k+1]``.
        columns: the edge columns, ``[E, *]`` each.
    """

    ends: Tensor
    types: Tensor
    ptr: Tensor
    columns: dict[str, Tensor]


def undirected_bonds(batch: GraphBatch) -> Bonds:
    """Return the bonds of packed graphs.

    Raises:
        InputError: a self loop, a repeated edge, two directions that differ in type or in a column, or an edge between
            two graphs.
    """
    node_ptr, edge_ptr, edges = batch.ptr.long(), batch.edge_ptr.long(), batch.edge_index.long()
    graph = torch.repeat_interleave(torch.arange(batch.num_graphs), edge_ptr.diff())
    outside = (edges < node_ptr[graph]) | (edges >= node_ptr[graph + 1])
    if bool(outside.any()):
        edge = int(outside.any(0).nonzero()[0])
        raise InputError(f"edge {edge} leaves its graph: {edges[:, edge].tolist()}; edges must be grouped by graph")
    loops = edges[0] == edges[1]
    if bool(loops.any()):
        raise InputError(f"node {int(edges[0][loops][0])} has a self loop; remove self loops first")
    directed = torch.unique(edges[0] * batch.num_nodes + edges[1])
    if directed.numel() != edges.size(1):
        raise InputError(f"{edges.size(1) - directed.numel()} edges are repeated; hold one edge per pair and direction")
    (low, high), pair = batch.pairs()
    types = pair_values(_edge_types(batch), pair, low.numel())
    if types is None:
        raise InputError("the two directions of an edge have different types; an undirected edge has one")
    columns: dict[str, Tensor] = {}
    for name, column in batch.edge_columns.items():
        once = pair_values(column, pair, low.numel()) if isinstance(column, Tensor) else None
        if once is None:
            raise InputError(
                f"the edge column {name!r} differs between the directions of an edge; a bond has one value"
            )
        columns[name] = once
    owner = torch.searchsorted(node_ptr, low.contiguous(), right=True) - 1
    ptr = torch.searchsorted(owner, torch.arange(batch.num_graphs + 1))
    return Bonds(torch.stack([low, high], 1) - node_ptr[owner, None], types, ptr, columns)


def _edge_types(batch: GraphBatch) -> Tensor:
    if batch.edge_attr is None:
        return torch.ones(batch.num_edges, dtype=torch.int64)
    if batch.edge_attr.dim() != 1 or batch.edge_attr.is_floating_point():
        raise InputError(
            f"a store holds integer edge types [E], got {batch.edge_attr.dtype} {list(batch.edge_attr.shape)}"
        )
    return batch.edge_attr.long()
