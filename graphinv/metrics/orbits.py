"""Orbits of the connected graphs of 2 to 4 nodes: how often each node is in each, counted exactly in 64 bits.

Every pattern is first counted as a subgraph, from degrees, triangles, 4-cycles and complete graphs of 4 nodes; what
patterns with more edges contain is then taken off (T. Hocevar, J. Demsar, Bioinformatics 30, 2014, has the relations).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from graphinv.graphs import GraphBatch
from graphinv.ops import index_to_ptr

__all__ = ["orbit_counts"]

_ENTRIES = 2**22  # numbers of one intermediate tensor


def orbit_counts(graphs: GraphBatch) -> Tensor:
    """Return how often each node is in each of the 15 orbits, [N, 15] int64, of simple undirected graphs.

    Orbits are numbered as by Przulj (Bioinformatics 23, 2007): 0 is the degree, 14 the complete graph of 4 nodes.

    Example:
        >>> path = GraphBatch.single(torch.zeros(3), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
        >>> orbit_counts(path)[:, :4].tolist()
        [[1, 1, 0, 0], [2, 0, 1, 0], [1, 1, 0, 0]]
    """
    n, (u, v) = graphs.num_nodes, graphs.edge_index
    d = torch.bincount(u, minlength=n)
    order = torch.argsort(d, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(n))
    keys = (rank[u] * n + rank[v]).sort().values  # nodes are named by rank of degree from here
    u, v, d = keys // max(n, 1), keys % max(n, 1), d[order]
    ptr = index_to_ptr(u, n)
    t, t_edge, n12, k = _triangles(u, v, keys, n)

    def total(values: Tensor) -> Tensor:
        return torch.zeros(n, dtype=torch.int64).index_add_(0, u, values)

    ends = total(d[v] - 1)
    o14 = k
    o13 = total(t_edge * (t_edge - 1) // 2) - 3 * k
    o12 = n12 - 3 * k
    o11 = t * (d - 2) - 2 * o13 - 3 * k
    o10 = total(t_edge * (d[v] - 2)) - 2 * o12 - 2 * o13 - 6 * k
    o9 = total(t[v] - t_edge) - 2 * o12 - 3 * k
    o8 = _squares(u, v, ptr, n) - o12 - o13 - 3 * k
    o7 = d * (d - 1) * (d - 2) // 6 - o11 - o13 - k
    o6 = total((d[v] - 1) * (d[v] - 2) // 2) - o9 - o10 - 2 * o12 - o13 - 3 * k
    o5 = (d - 1) * ends - 2 * t - 2 * o8 - o10 - 2 * o11 - 2 * o12 - 4 * o13 - 6 * k
    o4 = total(ends[v]) - d * (d - 1) - 2 * t - 2 * o8 - 2 * o9 - o10 - 4 * o12 - 2 * o13 - 6 * k
    o3, o2, o1 = t, d * (d - 1) // 2 - t, ends - 2 * t
    return torch.stack([d, o1, o2, o3, o4, o5, o6, o7, o8, o9, o10, o11, o12, o13, o14], 1)[rank]


def _triangles(u: Tensor, v: Tensor, keys: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Triangles at each node [N] and each edge [E], diamonds at nodes of degree 2 [N], complete graphs of 4 [N]."""
    up = u < v  # each edge once: no node has more than sqrt(2 E) edges upwards
    tail, head = u[up], v[up]
    found, ptr = tail * n + head, index_to_ptr(tail, n)
    t, fours, diamonds = (torch.zeros(n, dtype=torch.int64) for _ in range(3))
    t_up = torch.zeros(len(tail), dtype=torch.int64)
    for (a, b, c), edges in _closed_walks(tail, head, found, ptr, n):
        t += torch.bincount(torch.cat([a, b, c]), minlength=n)
        t_up += torch.bincount(torch.cat(edges), minlength=len(tail))
        for triangle, fourth in _walks(c, ptr):
            x = head[fourth]
            full = _find(found, a[triangle] * n + x)[1] & _find(found, b[triangle] * n + x)[1]
            clique = torch.stack([a[triangle], b[triangle], c[triangle], x])
            fours += torch.bincount(clique[:, full].flatten(), minlength=n)
    for corners, edges in _closed_walks(tail, head, found, ptr, n):
        for node, opposite in zip(corners, edges, strict=True):
            diamonds.index_add_(0, node, t_up[opposite] - 1)
    t_edge = t_up[_find(found, torch.minimum(u, v) * n + torch.maximum(u, v))[0]] if len(tail) else u
    return t, t_edge, diamonds, fours


def _closed_walks(
    tail: Tensor, head: Tensor, found: Tensor, ptr: Tensor, n: int
) -> Iterator[tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]]:
    """Yield the corners of triangles, some at a time, and the numbers of the edges opposite to each."""
    for edge, third in _walks(head, ptr):
        a, b, c = tail[edge], head[edge], head[third]
        other, closed = _find(found, a * n + c)
        yield (a[closed], b[closed], c[closed]), (third[closed], other[closed], edge[closed])


def _squares(u: Tensor, v: Tensor, ptr: Tensor, n: int) -> Tensor:
    """4-cycles through each node, [N]: the highest of a cycle reaches the opposite node over two lower ones."""
    counts = torch.zeros(n, dtype=torch.int64)
    down = v < u
    top, middle = u[down], v[down]
    for edge, second in _walks(middle, ptr, aligned=top):
        a, m, w = top[edge], middle[edge], v[second]
        below = w < a
        a, m, w = a[below], m[below], w[below]
        pairs, inverse, shared = torch.unique(a * n + w, return_inverse=True, return_counts=True)
        both = shared * (shared - 1) // 2
        counts.index_add_(0, pairs // n, both).index_add_(0, pairs % n, both).index_add_(0, m, shared[inverse] - 1)
    return counts


def _walks(ends: Tensor, ptr: Tensor, aligned: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield numbers of walks' first parts and of the edges that go on from their ends, some at a time.

    Walks of one value of ``aligned``, which is sorted, come together.
    """
    more = ptr.diff()[ends]
    part = more.cumsum(0) // _ENTRIES
    if aligned is not None and len(part):
        first = torch.searchsorted(aligned, aligned)
        part = part[first]
    for first in torch.split(torch.arange(len(ends)), torch.unique_consecutive(part, return_counts=True)[1].tolist()):
        count = more[first]
        walk = first.repeat_interleave(count)
        within = torch.arange(len(walk)) - (count.cumsum(0) - count).repeat_interleave(count)
        yield walk, ptr[ends[walk]] + within


def _find(keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Places of wanted keys among sorted ones, and whether they are there."""
    if not len(keys):
        return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return place, keys[place] == wanted
