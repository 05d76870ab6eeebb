"""The structural partial order of PARD: which nodes of a graph are generated together, and in which sequence.

Nodes are peeled off round by round, least connected first; the reverse of the rounds is the order of generation. Ranks
are walk counts up to ``max_hops`` (arXiv:2402.03687, as its code computes them), not sizes of neighbourhoods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops import ptr_to_index
from graphinv.ops.labels import label_slots

__all__ = ["BlockOrder", "block_order"]

_LEGACY_HOPS = 64  # at 65 an even n gives x_1, the degree, the weight n^64 = 0 modulo 2^64
_LARGEST = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class BlockOrder:
    """The generation blocks of B graphs with N nodes in all; S blocks in all.

    Attributes:
        block: ``[N]`` int64, block of each node inside its graph; 0 is generated first (peeled last).
        sizes: ``[S]`` int64, nodes of each block, graph after graph, block 0 first.
        degrees: ``[S]`` int64, block degree: neighbours of a node of the block in blocks up to its own.
        ptr: ``[B+1]`` int64, blocks of graph g are rows ``ptr[g]:ptr[g+1]``.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> order = BlockOrder.from_blocks(torch.tensor([1, 0, 1]), path, torch.tensor([0, 3]))
        >>> order.sizes.tolist(), order.degrees.tolist(), order.ptr.tolist()
        ([1, 2], [0, 1], [0, 2])
    """

    block: Tensor
    sizes: Tensor
    degrees: Tensor
    ptr: Tensor

    @staticmethod
    def from_blocks(block: Tensor, edge_index: Tensor, ptr: Tensor, legacy: bool = False) -> BlockOrder:
        """Rebuild sizes and degrees from the block of each node.

        Nodes of one block may differ in degree only at ``max_hops=0`` and in wrong ties of ``legacy``; the block's
        degree is then the least, or with ``legacy`` that of its first node, which depends on the order of the nodes.

        Args:
            block: ``[N]`` integers; those of each graph are 0..k-1 without gaps.
            edge_index: ``[2, E]`` int64, each edge in both directions (ends are checked, pairs are not).
            ptr: ``[B+1]`` int64, nodes of graph g are ``ptr[g]:ptr[g+1]``.
            legacy: the degree of the first node, as the code of the paper takes it.

        Raises:
            InputError: a shape or dtype does not fit, an edge leaves its graph, or blocks of a graph are not 0..k-1.
        """
        graph = _node_graph(ptr)
        _check_edges(edge_index, graph)
        slot, sizes, block_ptr = label_slots("block", block, ptr)
        block = block.long()
        u, v = edge_index
        degree = torch.zeros_like(block).index_add(0, u, (block[v] <= block[u]).long())
        if legacy:
            node = torch.arange(block.numel(), device=block.device)
            first = node.new_full(sizes.shape, _LARGEST).scatter_reduce(0, slot, node, "amin")
            return BlockOrder(block, sizes, degree[first], block_ptr)
        degrees = block.new_full(sizes.shape, _LARGEST).scatter_reduce(0, slot, degree, "amin")
        return BlockOrder(block, sizes, degrees, block_ptr)


def block_order(
    edge_index: Tensor, ptr: Tensor, max_hops: int, legacy: bool = False, core: Tensor | None = None
) -> BlockOrder:
    """Return the generation blocks of packed undirected simple graphs.

    Per round the nodes left in a graph are compared by (x_1, ..., x_H), lexicographically, where x_k = (I + A)^k 1
    counts the walks of k steps in what is left, and all nodes that tie for the least leave together. Integers are exact
    at every ``max_hops`` and degree. Relabelling nodes relabels blocks; a graph does not depend on its batch.

    Args:
        edge_index: ``[2, E]`` int64, each edge once in both directions, no self loops.
        ptr: ``[B+1]`` int64, nodes of graph g are ``ptr[g]:ptr[g+1]``; empty graphs have no block.
        max_hops: H >= 0; 0 puts each graph in one block, larger values make more and smaller blocks.
        legacy: compare sum_k x_k n^(H-k) in wrapping int64 instead, n the nodes of the whole graph, as the code of the
            paper does. It ties or inverts nodes of different degree where x_k > n (K_{2,17} + K_4 at H = 2), and
            takes H <= 64: beyond, x_1 no longer counts in a graph of even n.
        core: ``[N]`` bool, nodes that never leave: what is left of a graph in the end, its block 0 if there are any.

    Raises:
        InputError: ``max_hops`` is negative, or above 64 with ``legacy``, ``ptr`` is no offsets, ``core`` does not fit,
            or an edge is a self loop, repeats, leaves its graph or lacks its other direction.

    Example:
        >>> star = torch.tensor([[0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]])
        >>> block_order(star, torch.tensor([0, 4]), max_hops=1).block.tolist()
        [0, 1, 1, 1]
        >>> block_order(star, torch.tensor([0, 4]), max_hops=1, core=torch.tensor([True, True, False, False])).sizes
        tensor([2, 2])
    """
    if isinstance(max_hops, bool) or not isinstance(max_hops, int) or max_hops < 0:
        raise InputError(f"max_hops must be a whole number >= 0, got {max_hops!r}")
    if legacy and max_hops > _LEGACY_HOPS:
        raise InputError(f"max_hops must be at most {_LEGACY_HOPS} with the legacy order, got {max_hops}; lower it")
    graph = _node_graph(ptr)
    _check_edges(edge_index, graph)
    _check_undirected(edge_index, graph.numel())
    if core is not None and (core.dtype != torch.bool or core.shape != graph.shape):
        raise InputError(f"core must be [{graph.numel()}] bool, got {list(core.shape)} {core.dtype}")
    block = _peel(
        edge_index, graph, ptr.diff(), max_hops, legacy, torch.zeros_like(graph).bool() if core is None else core
    )
    return BlockOrder.from_blocks(block, edge_index, ptr, legacy)


def _peel(ends: Tensor, graph: Tensor, counts: Tensor, max_hops: int, legacy: bool, core: Tensor) -> Tensor:
    """Remove the least nodes of every graph in lock step and number the rounds backwards, ``[N]``.

    Nodes of a core stay, and leave together in a round after all others.
    """
    if not graph.numel():
        return graph
    # Walk counts of two nodes that agree for n - 1 hops agree for ever (Cayley-Hamilton): n - 1 hops decide everything.
    hops = max_hops if legacy else min(max_hops, int(counts.max()) - 1)
    digits, bits = _digits(ends, graph.numel(), hops)
    whole, every, node = graph, core, torch.arange(graph.numel(), device=graph.device)
    peeled, rounds = torch.zeros_like(graph), torch.zeros_like(counts)
    step = 0
    while not bool(core.all()):
        if legacy:
            keys: Iterable[Tensor] = [_legacy_weight(ends, counts[graph], hops)]
        else:
            keys = _walk_counts(ends, node.numel(), hops, digits, bits)
        least = _least(keys, graph, counts.numel(), core)
        peeled[node[least]] = step
        step += 1
        rounds[graph[least]] = step
        stay = torch.ones_like(node, dtype=torch.bool)
        stay[least] = False
        place = stay.cumsum(0) - 1
        kept = (stay.index_select(0, ends[0]) & stay.index_select(0, ends[1])).nonzero().flatten()
        ends = place.index_select(0, ends.index_select(1, kept).flatten()).view(2, -1)
        node, graph, core = node[stay], graph[stay], core[stay]
    peeled[every] = rounds[whole[every]]
    rounds[whole[every]] = peeled[every] + 1
    return rounds[whole] - 1 - peeled


def _least(keys: Iterable[Tensor], graph: Tensor, num_graphs: int, core: Tensor) -> Tensor:
    """Return the nodes whose keys, compared in turn, are the least of their graph without its ``core``."""
    chosen = (~core).nonzero().squeeze(1)
    for key in keys:
        value, owner = key.index_select(0, chosen), graph.index_select(0, chosen)
        least = value.new_full((num_graphs,), _LARGEST).scatter_reduce(0, owner, value, "amin")
        chosen = chosen[value == least.index_select(0, owner)]
    return chosen


def _digits(ends: Tensor, num_nodes: int, hops: int) -> tuple[int, int]:
    """Return how many digits of how many bits hold every x_k <= (1 + degree)^hops."""
    most = int(torch.bincount(ends[0], minlength=num_nodes).max())
    needed = hops * (most + 1).bit_length()
    return (1, 62) if needed <= 62 else (-(-needed // 31), 31)


def _walk_counts(ends: Tensor, num_nodes: int, hops: int, digits: int, bits: int) -> Iterator[Tensor]:
    """Yield x_1, ..., x_hops, each ``[n]``, as its digits in base 2^bits, the most significant first."""
    x = [torch.zeros(num_nodes, dtype=torch.int64, device=ends.device) for _ in range(digits)]
    x[0] += 1
    for _ in range(hops):
        carry: Tensor | int = 0
        for i, digit in enumerate(x):
            total = _with_neighbours(digit, ends) + carry
            x[i], carry = total & (2**bits - 1), total >> bits
        yield from reversed(x)


def _legacy_weight(ends: Tensor, original: Tensor, hops: int) -> Tensor:
    """Return sum_k x_k n^(H-k) modulo 2^64, ``[n]``; ``original`` ``[n]`` is n, the size before any removal."""
    x, weight = torch.ones_like(original), torch.zeros_like(original)
    for _ in range(hops):
        x = _with_neighbours(x, ends)
        weight = weight * original + x
    return weight


def _with_neighbours(x: Tensor, ends: Tensor) -> Tensor:
    return x.index_add(0, ends[0], x.index_select(0, ends[1]))


def _node_graph(ptr: Tensor) -> Tensor:
    if not isinstance(ptr, Tensor):
        raise InputError(f"ptr must be a tensor [B+1] of int64, got {type(ptr).__name__}")
    return ptr_to_index(ptr)


def _check_edges(edge_index: Tensor, graph: Tensor) -> None:
    if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.int64:
        raise InputError(f"edge_index must be [2, E] int64, got {list(edge_index.shape)} {edge_index.dtype}")
    if not edge_index.numel():
        return
    least, most = (int(bound) for bound in torch.aminmax(edge_index))
    if least < 0 or most >= graph.numel():
        raise InputError(f"edge_index must lie in 0..{graph.numel() - 1}, got {least}..{most}")
    u, v = edge_index
    if bool((graph[u] != graph[v]).any()):
        raise InputError("an edge joins two graphs; node ids of edge_index are counted over the whole batch")


def _check_undirected(edge_index: Tensor, num_nodes: int) -> None:
    u, v = edge_index
    if bool((u == v).any()):
        at = int(u[(u == v).nonzero()[0]])
        raise InputError(f"node {at} has a self loop; remove it with torch_geometric.utils.remove_self_loops")
    # An edge and its reverse are neighbours in this order: 2c and 2c + 1.
    key = ((torch.minimum(u, v) * num_nodes + torch.maximum(u, v)) * 2 + (u > v)).sort().values
    forward, back = key[0::2], key[1::2]
    if key.numel() % 2 or bool(((forward % 2 != 0) | (back != forward + 1)).any()):
        raise InputError(
            f"edge_index holds {u.numel()} edges of which one repeats or lacks its other direction; "
            "give each edge once in both, for example with torch_geometric.utils.to_undirected"
        )
