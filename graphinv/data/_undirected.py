"""Directed edges of packed graphs turned into undirected bonds, each held once with local ids u < v.

An edge may be given in one direction or in both; anything an undirected simple graph cannot hold is an error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch


def undirected_bonds(batch: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return bonds ``[E, 2]`` (local, u < v, sorted within each graph), their types ``[E]`` and offsets ``[B+1]``.

    Raises:
        InputError: a self loop, a repeated edge, two directions of different type, or an edge between two graphs.
    """
    node_ptr, edge_ptr, ends = batch.ptr.long(), batch.edge_ptr.long(), batch.edge_index.long()
    graph = torch.repeat_interleave(torch.arange(batch.num_graphs), edge_ptr.diff())
    outside = (ends < node_ptr[graph]) | (ends >= node_ptr[graph + 1])
    if bool(outside.any()):
        edge = int(outside.any(0).nonzero()[0])
        raise InputError(f"edge {edge} leaves its graph: {ends[:, edge].tolist()}; edges must be grouped by graph")
    low, high = ends.amin(0), ends.amax(0)
    if bool((low == high).any()):
        raise InputError(f"node {int(low[low == high][0])} has a self loop; remove self loops first")
    types = _edge_types(batch)
    directed = torch.unique(ends[0] * batch.num_nodes + ends[1])
    if directed.numel() != ends.size(1):
        raise InputError(f"{ends.size(1) - directed.numel()} edges are repeated; hold one edge per pair and direction")
    pairs, inverse = torch.unique(low * batch.num_nodes + high, return_inverse=True)
    bond_type = types.new_zeros(pairs.numel()).index_copy(0, inverse, types)
    if bool((bond_type[inverse] != types).any()):
        raise InputError("the two directions of an edge have different types; an undirected edge has one")
    bond = torch.stack([pairs // max(batch.num_nodes, 1), pairs % max(batch.num_nodes, 1)], dim=1)
    owner = torch.searchsorted(node_ptr, bond[:, 0].contiguous(), right=True) - 1
    bond_ptr = torch.searchsorted(owner, torch.arange(batch.num_graphs + 1))
    return bond - node_ptr[owner, None], bond_type, bond_ptr


def _edge_types(batch: GraphBatch) -> Tensor:
    if batch.edge_attr is None:
        return torch.ones(batch.num_edges, dtype=torch.int64)
    if batch.edge_attr.dim() != 1 or batch.edge_attr.is_floating_point():
        raise InputError(
            f"a store holds integer edge types [E], got {batch.edge_attr.dtype} {list(batch.edge_attr.shape)}"
        )
    return batch.edge_attr.long()
