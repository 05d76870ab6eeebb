"""From the columns of a graph store to the chosen graphs as a packed batch, by index arithmetic alone.

A graph is a segment of nodes and one of bonds (and one of text); a batch gathers the chosen segments back to back and
shifts local node ids to ids of the batch. Nothing is checked here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.columns import Columns
from graphinv.graphs import GraphBatch


def _widen(ptr: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the offsets ``[K+1]`` of the segments ``index`` ``[K]`` and the rows they are gathered from."""
    start = ptr[index]
    counts = ptr[index + 1] - start
    offsets = torch.zeros(index.numel() + 1, dtype=torch.int64)
    torch.cumsum(counts, 0, out=offsets[1:])
    total = int(offsets[-1])
    rows = torch.repeat_interleave(start - offsets[:-1], counts, output_size=total) + torch.arange(total)
    return offsets, rows


def gather_graphs(
    index: Tensor,
    node_ptr: Tensor,
    bond_ptr: Tensor,
    node_type: Tensor,
    bond: Tensor,
    bond_type: Tensor,
    block: Tensor | None,
) -> GraphBatch:
    """Return the graphs ``index`` ``[K]`` as a batch; bond j of it is edges 2j (u -> v) and 2j + 1 (v -> u)."""
    ptr, nodes = _widen(node_ptr, index)
    edge_ptr, bonds = _widen(bond_ptr, index)
    shift = torch.repeat_interleave(ptr[:-1], edge_ptr.diff(), output_size=bonds.numel())
    u, v = (ends + shift for ends in bond.index_select(0, bonds).unbind(1))
    edge_index = torch.stack([torch.stack([u, v], 1).view(-1), torch.stack([v, u], 1).view(-1)])
    types = bond_type.index_select(0, bonds).long()
    edge_attr = torch.stack([types, types], 1).view(-1)
    x = node_type.index_select(0, nodes).long()
    blocks = None if block is None else block.index_select(0, nodes).long()
    return GraphBatch(
        x, edge_index, edge_attr, ptr, 2 * edge_ptr, Columns() if blocks is None else Columns({"block": blocks})
    )


def gather_text(index: Tensor, ptr: Tensor, characters: Tensor) -> list[str]:
    """Return the texts ``index`` ``[K]`` of UTF-8 ``characters`` ``[C]`` uint8 with offsets ``ptr``."""
    offsets, rows = _widen(ptr, index)
    text, ends = characters[rows].numpy().tobytes(), offsets.tolist()
    return [text[a:b].decode() for a, b in zip(ends[:-1], ends[1:], strict=True)]
