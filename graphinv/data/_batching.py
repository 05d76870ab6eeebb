"""From the columns of a graph store to the chosen graphs as a packed batch, by index arithmetic alone.

A graph is a segment of nodes and one of bonds; a batch gathers the chosen segments back to back and shifts local node
ids to ids of the batch. Nothing is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphinv.columns import Columns
from graphinv.graphs import GraphBatch
from graphinv.ops.pointer import segment_rows


def gather_graphs(
    index: Tensor,
    ptrs: tuple[Tensor, Tensor],
    node_type: Tensor,
    bond: Tensor,
    bond_type: Tensor,
    columns: Sequence[Columns],
) -> GraphBatch:
    """Return the graphs ``index`` ``[K]`` as a batch; bond j of it is edges 2j (u -> v) and 2j + 1 (v -> u).

    ``ptrs`` are the offsets of nodes and of bonds, ``columns`` those of nodes, bonds and graphs.
    """
    ptr, nodes = segment_rows(ptrs[0], index)
    edge_ptr, bonds = segment_rows(ptrs[1], index)
    shift = torch.repeat_interleave(ptr[:-1], edge_ptr.diff(), output_size=bonds.numel())
    u, v = (ends + shift for ends in bond.index_select(0, bonds).unbind(1))
    edge_index = torch.stack([torch.stack([u, v], 1).view(-1), torch.stack([v, u], 1).view(-1)])
    types = bond_type.index_select(0, bonds).long()
    edge_attr = torch.stack([types, types], 1).view(-1)
    x = node_type.index_select(0, nodes).long()
    node, edge, graph = (
        part.take(rows).numbers(_wide) for part, rows in zip(columns, (nodes, bonds, index), strict=True)
    )
    edge = edge.numbers(lambda column: column.repeat_interleave(2, 0))
    return GraphBatch(x, edge_index, edge_attr, ptr, 2 * edge_ptr, node, edge, graph)


def _wide(column: Tensor) -> Tensor:
    return column if column.is_floating_point() or column.dtype == torch.bool else column.long()
