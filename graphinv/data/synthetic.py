"""Sets of graphs made by rule instead of read from a file: two communities, grids, random trees.

They follow the recipes of the sets that papers compare on (community_small, grid: arXiv:1802.08773; tree:
arXiv:2312.11529), but other draws are other graphs: numbers of papers are compared on the published files alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch

__all__ = ["community_graphs", "grid_graphs", "tree_graphs"]


def community_graphs(count: int, seed: int = 0) -> GraphBatch:
    """Return ``count`` graphs of two equal communities: 6-10 nodes each, linked inside with probability 0.7.

    Between the communities there are max(1, 0.05 n rounded down) links of the n = 12-20 nodes, which is one. Nodes
    of the first community come first. Graph k depends on the seed and k alone.

    Raises:
        InputError: ``count`` is negative.

    Example:
        >>> graphs = community_graphs(3)
        >>> graphs.num_graphs, bool((graphs.node_counts() % 2 == 0).all())
        (3, True)
    """
    generator = _generator("community_graphs", count, 0, seed)
    graphs = []
    for _ in range(count):
        half = int(torch.randint(6, 11, (), generator=generator))
        linked = (torch.rand(2, half, half, generator=generator) < 0.7).triu(1)
        inside = [(part.nonzero() + k * half) for k, part in enumerate(linked)]
        between = torch.randperm(half * half, generator=generator)[: max(1, int(0.05 * 2 * half))]
        bridges = torch.stack([between // half, between % half + half], dim=1)
        graphs.append(_packed(2 * half, torch.cat([*inside, bridges])))
    return _joined(graphs)


def grid_graphs(low: int = 10, high: int = 20) -> GraphBatch:
    """Return the rectangular grids of i x j nodes for all i and j in ``low`` .. ``high`` - 1, j running fastest.

    Node (a, b) of a grid is number a j + b. The defaults give the 100 sizes of the published set, 100-361 nodes.

    Raises:
        InputError: ``low`` is below 1 or above ``high``.

    Example:
        >>> grid_graphs(2, 4).node_counts().tolist()
        [4, 6, 6, 9]
    """
    if not 1 <= low <= high:
        raise InputError(f"grid_graphs needs 1 <= low <= high, got low={low}, high={high}")
    graphs = []
    for i in range(low, high):
        for j in range(low, high):
            number = torch.arange(i * j).view(i, j)
            right = torch.stack([number[:, :-1], number[:, 1:]], dim=-1).view(-1, 2)
            down = torch.stack([number[:-1], number[1:]], dim=-1).view(-1, 2)
            graphs.append(_packed(i * j, torch.cat([right, down])))
    return _joined(graphs)


def tree_graphs(count: int, nodes: int = 64, seed: int = 0) -> GraphBatch:
    """Return ``count`` trees of ``nodes`` nodes, uniform among all labelled trees (Pruefer's bijection).

    Graph k depends on the seed, ``nodes`` and k alone.

    Raises:
        InputError: ``count`` is negative or ``nodes`` below 1.

    Example:
        >>> trees = tree_graphs(2, 5)
        >>> trees.num_edges // 2
        8
    """
    generator = _generator("tree_graphs", count, nodes - 1, seed)
    codes = torch.randint(nodes, (count, max(nodes - 2, 0)), generator=generator).tolist()
    return _joined([_packed(nodes, torch.tensor(_decoded(code, nodes)).reshape(-1, 2)) for code in codes])


def _decoded(code: list[int], nodes: int) -> list[tuple[int, int]]:
    """The links of the tree with this Pruefer code: the smallest leaf is tied to the next number and taken off."""
    links_left = [1] * nodes
    for node in code:
        links_left[node] += 1
    links, leaf, smallest = [], -1, 0
    for node in code:
        if leaf < 0:
            while links_left[smallest] != 1:
                smallest += 1
            leaf = smallest
        links.append((leaf, node))
        links_left[leaf] -= 1
        links_left[node] -= 1
        leaf = node if links_left[node] == 1 and node < smallest else -1
    rest = [node for node in range(nodes) if links_left[node] == 1]
    return [*links, (rest[0], rest[1])] if nodes > 1 else links


def _generator(name: str, count: int, size: int, seed: int) -> torch.Generator:
    if count < 0 or size < 0:
        raise InputError(
            f"{name} needs a count of 0 or more and at least one node, got count={count}, {size + 1} nodes"
        )
    return torch.Generator().manual_seed(seed)


def _packed(nodes: int, pairs: Tensor) -> GraphBatch:
    """One graph from its undirected pairs ``[e, 2]``: node types 0, edge types 1, each edge in both directions."""
    index = torch.stack([pairs, pairs.flip(1)], dim=1).view(-1, 2).t().long().contiguous()
    return GraphBatch.single(torch.zeros(nodes, dtype=torch.long), index, torch.ones(index.size(1), dtype=torch.long))


def _joined(graphs: list[GraphBatch]) -> GraphBatch:
    none = _packed(0, torch.zeros(0, 2, dtype=torch.long)).select([])
    return GraphBatch.from_graphs([none, *graphs])
