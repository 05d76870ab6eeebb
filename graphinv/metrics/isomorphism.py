"""Which graphs are the same, exactly, with a bound on the search that is reported.

Colour refinement (1-WL) of all graphs at once sorts them into buckets; a pair inside a bucket is decided by
individualisation and refinement. A pair whose search is cut off counts as different, and is counted.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from tqdm.auto import tqdm

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics._pair_search import LimitReached, LinkedGraph, PairSearch

__all__ = ["Classes", "isomorphism_classes", "known", "refinement_keys", "stable_colours"]

_LIMIT = 100_000


@dataclass(frozen=True)
class Classes:
    """Classes of equal graphs.

    Attributes:
        label: ``[B]`` int64, the same for isomorphic graphs, numbered by first occurrence.
        undecided: pairs of graphs whose search reached the limit; they count as different.
    """

    label: Tensor
    undecided: int


def isomorphism_classes(graphs: GraphBatch, search_limit: int = _LIMIT, progress: bool = True) -> Classes:
    """Return which of the B graphs are isomorphic.

    Node types ``x`` and edge types ``edge_attr`` count where they are integers, also several per node; real-valued
    features do not, and edges without a type have type 1. Edges may be directed, repeat or be loops.

    Args:
        graphs: B graphs.
        search_limit: choices tried for one pair of graphs, each a node of one and a node of the other, before the pair
            is given up as undecided; most pairs need none.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: ``search_limit`` is negative.

    Example:
        >>> import networkx as nx
        >>> hexagon, triangles = nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))
        >>> found = isomorphism_classes(GraphBatch.from_networkx([hexagon, triangles, nx.cycle_graph(6)]))
        >>> found.label.tolist(), found.undecided
        ([0, 1, 0], 0)
    """
    pool = _Pool(graphs, search_limit, {})
    label, classes, undecided = [], 0, 0
    leaders: dict[int, list[int]] = defaultdict(list)
    for k in _bar(graphs.num_graphs, progress):
        same, cut = pool.find(k, leaders[pool.keys[k]], pool)
        undecided += cut
        if same is None:
            leaders[pool.keys[k]].append(k)
            label.append(classes)
            classes += 1
        else:
            label.append(label[same])
    return Classes(torch.tensor(label, dtype=torch.long), undecided)


def known(
    graphs: GraphBatch, train: GraphBatch, search_limit: int = _LIMIT, progress: bool = True
) -> tuple[Tensor, int]:
    """Return ``[B]`` bool, which graphs are isomorphic to one of ``train``, and the undecided pairs.

    What counts as equal and the arguments are those of ``isomorphism_classes``.

    Example:
        >>> import networkx as nx
        >>> train = GraphBatch.from_networkx([nx.path_graph(3), nx.star_graph(3)])
        >>> found, undecided = known(GraphBatch.from_networkx([nx.star_graph(2), nx.cycle_graph(3)]), train)
        >>> found.tolist(), undecided
        ([True, False], 0)
    """
    codes: dict[Hashable, int] = {}
    here, there = _Pool(graphs, search_limit, codes), _Pool(train, search_limit, codes)
    buckets: dict[int, list[int]] = defaultdict(list)
    wanted = set(here.keys)
    for k, key in enumerate(there.keys):
        if key in wanted:
            buckets[key].append(k)
    found, undecided = [], 0
    for k in _bar(graphs.num_graphs, progress):
        same, cut = here.find(k, buckets.get(here.keys[k], []), there)
        undecided += cut
        found.append(same is not None)
    return torch.tensor(found, dtype=torch.bool), undecided


def refinement_keys(graphs: GraphBatch) -> Tensor:
    """Return ``[B]`` int64 keys, equal for isomorphic graphs and for few others, the same in any batch.

    A key hashes the number of nodes and edges and the stable colours of colour refinement (Weisfeiler, Leman 1968).

    Example:
        >>> import networkx as nx
        >>> keys = refinement_keys(GraphBatch.from_networkx([nx.path_graph(3), nx.star_graph(2), nx.cycle_graph(3)]))
        >>> bool(keys[0] == keys[1]), bool(keys[0] == keys[2])
        (True, False)
    """
    return _keys(graphs, stable_colours(graphs))


def stable_colours(graphs: GraphBatch) -> Tensor:
    """Return ``[N]`` int64 stable colours of colour refinement: hashes, comparable between graphs and batches.

    Each round hashes the colour of a node with the sum of the hashes of its edges' types and other ends, until the
    colours of its graph split no further. Nodes that an isomorphism maps to each other have equal colours.

    Example:
        >>> import networkx as nx
        >>> stable_colours(GraphBatch.from_networkx([nx.path_graph(5)])).unique().numel()
        3
    """
    nodes, edges = _types(graphs)
    colour, kind = _hashed(nodes), _hashed(edges)
    (source, target), owner = graphs.edge_index, graphs.node_graph()
    out, rows = colour.clone(), torch.arange(graphs.num_nodes, device=colour.device)
    distinct = _distinct(colour, owner, graphs.num_graphs)
    while rows.numel():
        heard = torch.zeros_like(colour).index_add_(0, source, _mix(colour[target] + kind))
        colour = _mix(colour + _mix(heard))
        out[rows] = colour
        before, distinct = distinct, _distinct(colour, owner, graphs.num_graphs)
        stays = (distinct > before)[owner]
        used, place = stays[source], stays.cumsum(0) - 1
        source, target, kind = place[source[used]], place[target[used]], kind[used]
        colour, owner, rows = colour[stays], owner[stays], rows[stays]
    return out


def _keys(graphs: GraphBatch, colour: Tensor) -> Tensor:
    total = torch.zeros_like(graphs.ptr[1:]).index_add_(0, graphs.node_graph(), _mix(colour))
    return _mix(_mix(total + graphs.node_counts()) + graphs.edge_ptr.diff())


def _types(graphs: GraphBatch) -> tuple[Tensor, Tensor]:
    """Return integer types of nodes [N, F] and edges [E, D]: 0 and 1 where there are none or they are real."""
    n, e = graphs.num_nodes, graphs.num_edges
    nodes, edges = graphs.ptr.new_zeros(n, 1), graphs.ptr.new_ones(e, 1)
    if not graphs.x.is_floating_point():
        nodes = graphs.x.long().reshape(n, math.prod(graphs.x.shape[1:]))
    if graphs.edge_attr is not None and not graphs.edge_attr.is_floating_point():
        edges = graphs.edge_attr.long().reshape(e, math.prod(graphs.edge_attr.shape[1:]))
    return nodes, edges


def _mix(x: Tensor) -> Tensor:
    """Scramble int64, wrapping: the last steps of SplitMix64 (Steele, Lea, Flood 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * (factor - (factor >> 63 << 64))
    return x


def _hashed(types: Tensor) -> Tensor:
    """Return one int64 per row of [n, F] integers."""
    out = types.new_ones(types.size(0))
    for column in types.unbind(1):
        out = _mix(_mix(out) + column)
    return out


def _distinct(colour: Tensor, owner: Tensor, owners: int) -> Tensor:
    """Return ``[owners]`` int64, the number of distinct colours of each owner."""
    order = torch.argsort(colour)
    order = order[torch.argsort(owner[order], stable=True)]
    colour, owner = colour[order], owner[order]
    first = torch.ones_like(owner)
    first[1:] = ((colour.diff() != 0) | (owner.diff() != 0)).long()
    return owner.new_zeros(owners).index_add_(0, owner, first)


def _bar(total: int, progress: bool) -> Iterable[int]:
    bar: Iterable[int] = tqdm(
        range(total), unit=" graphs", delay=2.0, disable=None if progress else True, file=sys.stderr
    )
    return bar


class _Pool:
    """A batch, the keys of its graphs, and the ones among them that a search looks at."""

    def __init__(self, graphs: GraphBatch, limit: int, codes: dict[Hashable, int]) -> None:
        if limit < 0:
            raise InputError(f"search_limit must be at least 0, got {limit}")
        self.graphs, self.limit, self.codes = graphs, limit, codes
        self.nodes, self.edges = _types(graphs)
        self.colour = stable_colours(graphs)
        self.keys: list[int] = _keys(graphs, self.colour).tolist()
        self.graph = lru_cache(maxsize=4096)(self._graph)

    def find(self, k: int, candidates: Sequence[int], there: _Pool) -> tuple[int | None, int]:
        """Return the first of ``there`` that graph k is isomorphic to, and the undecided pairs before it."""
        undecided = 0
        for j in candidates:
            try:
                if PairSearch(self.graph(k), there.graph(j), self.limit).succeeds():
                    return j, undecided
            except LimitReached:
                undecided += 1
        return None, undecided

    def _graph(self, k: int) -> LinkedGraph:
        (low, high), (first, last) = self.graphs.ptr[k : k + 2].tolist(), self.graphs.edge_ptr[k : k + 2].tolist()
        joined: dict[tuple[int, int], list[tuple[int, ...]]] = defaultdict(list)
        for u, v, *kind in torch.cat(
            [self.graphs.edge_index[:, first:last].t() - low, self.edges[first:last]], 1
        ).tolist():
            joined[u, v].append(tuple(kind))
        links: list[dict[int, int]] = [{} for _ in range(high - low)]
        for u, v in joined:
            there, back = sorted(joined[u, v]), sorted(joined.get((v, u), []))
            links[u][v] = self._code(there, back)
            links[v][u] = self._code(back, there)
        loops = [own.pop(u, -1) for u, own in enumerate(links)]
        types = map(tuple, self.nodes[low:high].tolist())
        return LinkedGraph(list(zip(self.colour[low:high].tolist(), types, loops, strict=True)), links)

    def _code(self, there: list[tuple[int, ...]], back: list[tuple[int, ...]]) -> int:
        return self.codes.setdefault((tuple(there), tuple(back)), len(self.codes))
