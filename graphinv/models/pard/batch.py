"""A packed batch as the parallel layout wants it: dense, nodes sorted by block, the targets of the block heads beside.

Sorting puts the later end of every pair i < j at j, so one triangle holds each pair once and knows whose time it has.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from graphinv.diffusion import BlockOrder, block_order
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.nn.block import BlockSettings
from graphinv.nn.pair_features import Sight, count_walks

__all__ = ["COLUMNS", "BlockBatch", "block_batch", "block_columns"]

COLUMNS = ("node_counts", "pair_counts", "first_sizes", "sizes", "degrees")


@dataclass(frozen=True)
class BlockBatch:
    """B graphs padded to M nodes, S blocks in all.

    Attributes:
        types: ``[B, M]`` node types, 0 in the padding.
        pairs: ``[B, M, M]`` edge types, 0 for none and in the padding.
        block: ``[B, M]`` block of each node; ``max_nodes``, above all blocks, in the padding.
        degree: ``[B, M]`` degree of its block.
        mask: ``[B, M]`` bool.
        core: ``[B, M]`` bool, nodes that are there from the beginning; then they are block 0, without degree and walks.
        first_graph: ``[B']`` int64, the graphs that have nodes and no core: whose block 0 is generated.
        first_size: ``[B']`` size of that block.
        first_degree: ``[B']`` its degree.
        last: ``[S]`` position in ``[B * M]`` of the last node of each block.
        next_size: ``[S]`` size of the block after it, 0 if there is none.
        next_degree: ``[S]`` degree of the block after it, 0 if there is none.
        walks: ``[B, M, W]`` further walk counts of the key of each node's block, capped.
        first_walks: ``[B', W]`` those of block 0.
        next_walks: ``[S, W]`` those of the block after, 0 if there is none.
        condition: ``[B, 2 P]`` what the network is told of each graph.
    """

    types: Tensor
    pairs: Tensor
    block: Tensor
    degree: Tensor
    mask: Tensor
    core: Tensor
    first_graph: Tensor
    first_size: Tensor
    first_degree: Tensor
    last: Tensor
    next_size: Tensor
    next_degree: Tensor
    walks: Tensor
    first_walks: Tensor
    next_walks: Tensor
    condition: Tensor

    def to(self, device: torch.device | str) -> BlockBatch:
        """Return the graphs with every tensor on ``device``."""
        return BlockBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def block_batch(batch: GraphBatch, settings: BlockSettings, max_hops: int, legacy: bool = False) -> BlockBatch:
    """Return ``batch`` sorted by its blocks, which are computed where it carries none.

    Raises:
        InputError: a graph is too large, or a node or edge type is not one of the model's.
    """
    _check(batch, settings)
    if batch.block is None:
        order = block_order(batch.edge_index, batch.ptr, max_hops, legacy)
    else:
        order = BlockOrder.from_blocks(batch.block, batch.edge_index, batch.ptr, legacy)
    graph = batch.node_graph()
    number = order.ptr[graph] + order.block  # block of each node among all S
    place = torch.argsort(number, stable=True)
    local = torch.empty_like(place)
    local[place] = torch.arange(place.numel(), device=place.device)
    local = local - batch.ptr[graph]
    count, size = batch.num_graphs, int(batch.node_counts().max()) if batch.num_graphs else 0
    types = batch.ptr.new_zeros(count, size)
    block = torch.full((count, size), settings.max_nodes, device=batch.x.device)
    degree = torch.zeros_like(block)
    mask = torch.zeros_like(block, dtype=torch.bool)
    types[graph, local], block[graph, local] = batch.x.long(), order.block
    degree[graph, local], mask[graph, local] = order.degrees[number], True
    pairs = types.new_zeros(count, size, size)
    u, v = batch.edge_index
    pairs[graph[u], local[u], local[v]] = torch.ones_like(u) if batch.edge_attr is None else batch.edge_attr.long()
    ends = order.sizes.cumsum(0) - 1  # last node of each block among all sorted nodes
    owner = graph[place[ends]]
    last = owner * size + ends - batch.ptr[owner]
    core = torch.zeros_like(mask)
    if isinstance(chosen := batch.node_columns.get("core"), Tensor):
        core[graph, local] = chosen.bool()
        degree = degree.masked_fill(core, 0)
    first_graph = ((order.ptr.diff() > 0) & ~core.any(1)).nonzero().squeeze(1)
    first = order.ptr[first_graph]
    follows = torch.ones_like(order.sizes, dtype=torch.bool)
    follows[order.ptr[1:][order.ptr.diff() > 0] - 1] = False
    after = [torch.where(follows, t.roll(-1), 0) for t in (order.sizes, order.degrees)]
    walks = _walks(pairs, block, mask, settings).masked_fill(core.unsqueeze(-1), 0)
    of_block = walks.flatten(0, 1)[last]
    next_walks = torch.where(follows.unsqueeze(1), of_block.roll(-1, 0), 0)
    return BlockBatch(
        types, pairs, block, degree, mask, core, first_graph, order.sizes[first], order.degrees[first], last,
        after[0], after[1], walks, of_block[first], next_walks, torch.zeros(count, 0, device=types.device),
    )  # fmt: skip


def _walks(pairs: Tensor, block: Tensor, mask: Tensor, settings: BlockSettings) -> Tensor:
    """Return ``[B, M, W]`` walk counts x_2, ... of each node in the graph up to its block."""
    if not settings.walks:
        return block.new_zeros(*block.shape, 0)
    row, column = block.unsqueeze(2), block.unsqueeze(1)
    own = torch.eye(block.size(1), dtype=torch.bool, device=block.device).expand_as(pairs)
    sight = Sight(
        pairs, None, row > column, row == column, row - column, own, settings.edge_types, torch.zeros_like(mask)
    )
    counts = [x.diagonal(dim1=1, dim2=2) for x in count_walks(sight, 1 + settings.walks)[1:]]
    return (torch.stack(counts, -1).clamp(max=settings.walk_classes - 1) * mask.unsqueeze(-1)).long()


def block_columns(batch: GraphBatch, legacy: bool = False) -> dict[str, Tensor]:
    """Return what a model counts of graphs that carry blocks: ``[*]`` int64 values for each of ``COLUMNS``.

    Node types; types of joined pairs, once each; sizes of first blocks, 0 for a graph without nodes; sizes of all
    blocks and 0 for each stop; degrees of all blocks.
    """
    block = batch.block if batch.block is not None else torch.zeros_like(batch.ptr[:0])
    order = BlockOrder.from_blocks(block, batch.edge_index, batch.ptr, legacy)
    ends, pair = batch.pairs()
    types = torch.ones_like(ends[0])
    if batch.edge_attr is not None:
        types[pair] = batch.edge_attr
    first = torch.zeros_like(batch.ptr[1:])
    filled = order.ptr.diff() > 0
    first[filled] = order.sizes[order.ptr[:-1][filled]]
    sizes = torch.cat([order.sizes, torch.zeros_like(first[filled])])
    return dict(zip(COLUMNS, (batch.x, types, first, sizes, order.degrees), strict=True))


def _check(batch: GraphBatch, settings: BlockSettings) -> None:
    largest = int(batch.node_counts().max()) if batch.num_graphs else 0
    if largest > settings.max_nodes:
        raise InputError(f"a graph has {largest} nodes, this model was built for {settings.max_nodes}")
    for name, types, first, count in (
        ("node", batch.x, 0, settings.node_types),
        ("edge", batch.edge_attr, 1, settings.edge_types),
    ):
        if types is None:
            continue
        if types.dim() != 1 or types.is_floating_point():
            raise InputError(f"expected integer {name} types [*], got {types.dtype} {list(types.shape)}")
        if types.numel() and not first <= int(types.min()) <= int(types.max()) < first + count:
            raise InputError(
                f"this model knows {name} types {first}..{first + count - 1}, the batch holds "
                f"{int(types.min())}..{int(types.max())}: store and model have different vocabularies"
            )
