"""Which graphs are the same, exactly, with a bound on the search that is reported.

Colour refinement (1-WL) of all graphs at once sorts them into buckets; a pair inside a bucket is decided by
individualisation and refinement. A pair whose search is cut off counts as different, and is counted.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch

__all__ = ["Classes", "isomorphism_classes", "matches", "refinement_keys", "stable_colours"]

_LIMIT = 100_000
_DEPTH = 150  # nested choices, so that Python's own limit is never met
_Cells = dict[int, list[int]]  # colour -> nodes of both graphs


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
        >>> classes = isomorphism_classes(GraphBatch.from_networkx([hexagon, triangles, nx.cycle_graph(6)]))
        >>> classes.label.tolist(), classes.undecided
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


def matches(
    graphs: GraphBatch, train: GraphBatch, search_limit: int = _LIMIT, progress: bool = True
) -> tuple[Tensor, int]:
    """Return ``[B]`` bool, which graphs are isomorphic to one of ``train``, and the undecided pairs.

    What counts as equal and the arguments are those of ``isomorphism_classes``.

    Example:
        >>> import networkx as nx
        >>> train = GraphBatch.from_networkx([nx.path_graph(3), nx.star_graph(3)])
        >>> same, undecided = matches(GraphBatch.from_networkx([nx.star_graph(2), nx.cycle_graph(3)]), train)
        >>> same.tolist(), undecided
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
                if _PairSearch(self.graph(k), there.graph(j), self.limit).succeeds():
                    return j, undecided
            except _LimitReached:
                undecided += 1
        return None, undecided

    def _graph(self, k: int) -> _LinkedGraph:
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
        return _LinkedGraph(list(zip(self.colour[low:high].tolist(), types, loops, strict=True)), links)

    def _code(self, there: list[tuple[int, ...]], back: list[tuple[int, ...]]) -> int:
        return self.codes.setdefault((tuple(there), tuple(back)), len(self.codes))


class _LinkedGraph(NamedTuple):
    """A graph as the search reads it.

    Attributes:
        colour: of each node, all that an isomorphism must keep.
        links: of each node, neighbour -> code of the edges that join the two, both ways.
    """

    colour: list[Hashable]
    links: list[dict[int, int]]


class _LimitReached(Exception):
    """More choices were needed than allowed."""


class _PairSearch:
    """The search on one pair of graphs, at most ``limit`` choices: individualisation and refinement, piece by piece.

    The disjoint union of both is split into cells that one could map; a choice joins a node of either in a cell of
    their own. Not a canonical form: only pairs are decided, and each choice tried is counted.

    A partition is equitable when the nodes of a cell have equally many links of each code to every cell, and
    balanced when every cell has as many nodes of either graph. One way in which the pairs of two cells are joined can
    be left out, since the others tell it; what then falls apart, also by cells of one pair, is decided piece by piece.
    """

    def __init__(self, one: _LinkedGraph, other: _LinkedGraph, limit: int) -> None:
        self.half, self.left, self.fresh = len(one.colour), limit, count()
        self.links = one.links + [{v + self.half: code for v, code in own.items()} for own in other.links]
        self.start = one.colour + other.colour

    def succeeds(self) -> bool:
        """Return whether there is an isomorphism that keeps colours and codes.

        Raises:
            _LimitReached: nothing was found within ``limit`` choices.
        """
        groups: dict[Hashable, list[int]] = defaultdict(list)
        for node, kind in enumerate(self.start):
            groups[kind].append(node)
        cells = {next(self.fresh): nodes for nodes in groups.values()}
        colour = {node: c for c, nodes in cells.items() for node in nodes}
        return all(map(self._balanced, cells.values())) and self._below(colour, cells, set(cells), 0)

    def _balanced(self, nodes: list[int]) -> bool:
        return 2 * sum(node < self.half for node in nodes) == len(nodes)

    def _below(self, colour: dict[int, int], cells: _Cells, changed: set[int], depth: int) -> bool:
        """Refine, after ``changed`` cells, and decide every piece of what is left; changes its arguments."""
        while changed:
            if not self._split_by(changed.pop(), colour, cells, changed):
                return False
        colour = {node: c for c, nodes in cells.items() if len(nodes) > 2 for node in nodes}
        pieces: dict[tuple[int, ...], tuple[list[list[int]], list[list[int]]]] = defaultdict(lambda: ([], []))
        for piece in self._pieces(colour, cells):
            pieces[tuple(sorted(colour[node] for node in piece))][piece[0] >= self.half].append(piece)
        for ones, others in pieces.values():
            if len(ones) != len(others):
                return False
            for one in ones:
                partner = next((other for other in others if self._same(one, other, colour, depth)), None)
                if partner is None:
                    return False
                others.remove(partner)
        return True

    def _split_by(self, splitter: int, colour: dict[int, int], cells: _Cells, changed: set[int]) -> bool:
        """Split every cell by the links of its nodes to one cell; return whether all are balanced."""
        heard: dict[int, list[int]] = defaultdict(list)
        for node in cells[splitter]:
            for other, code in self.links[node].items():
                if other in colour:
                    heard[other].append(code)
        groups: dict[int, dict[tuple[int, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
        for node, codes in heard.items():
            groups[colour[node]][tuple(sorted(codes))].append(node)
        for cell, group in groups.items():
            parts = list(group.values())
            if sum(map(len, parts)) < len(cells[cell]):
                parts.append([node for node in cells[cell] if node not in heard])
            if len(parts) == 1:
                continue
            if not all(map(self._balanced, parts)):
                return False
            parts.sort(key=len)
            cells[cell] = parts.pop()  # the largest needs no look of its own (Hopcroft 1971)
            for part in parts:
                new = next(self.fresh)
                cells[new] = part
                colour.update(dict.fromkeys(part, new))
                changed.add(new)
        return True

    def _pieces(self, colour: dict[int, int], cells: _Cells) -> Iterable[list[int]]:
        """Yield the connected pieces, each of one graph; how most pairs of two cells are joined is left out."""
        usual: dict[int, dict[int, int]] = defaultdict(dict)  # cell -> other cell -> code of most of their pairs
        for cell in set(colour.values()):
            node = cells[cell][0]
            joined = Counter((colour[v], code) for v, code in self.links[node].items() if v in colour)
            for (c, code), k in joined.items():
                if 2 * k > len(cells[c]) // 2 - (c == cell):
                    usual[cell][c] = code
        seen: set[int] = set()
        for start in colour:
            if start in seen:
                continue
            seen.add(start)
            piece = [start]
            for node in piece:
                for v in self._unusual(node, usual[colour[node]], colour, cells):
                    if v not in seen:
                        seen.add(v)
                        piece.append(v)
            yield piece

    def _unusual(self, node: int, usual: dict[int, int], colour: dict[int, int], cells: _Cells) -> Iterable[int]:
        links = self.links[node]
        for v in links:
            if v in colour and colour[v] not in usual:
                yield v
        for cell, code in usual.items():
            for v in cells[cell]:
                if links.get(v) != code and v != node and (v < self.half) == (node < self.half):
                    yield v

    def _same(self, one: list[int], other: list[int], colour: dict[int, int], depth: int) -> bool:
        """Return whether an isomorphism maps one piece to the other, which has the same colours."""
        if len(one) == 1:
            return True
        cells: _Cells = defaultdict(list)
        for node in one + other:
            cells[colour[node]].append(node)
        inside = {node: colour[node] for node in one + other}
        chosen = min(cells, key=lambda c: len(cells[c]))
        first, *rest = cells[chosen]
        if not rest[1:]:
            return self._below(inside, dict(cells), set(), depth + 1)
        for partner in rest:
            if partner < self.half:
                continue
            self.left -= 1
            if self.left < 0 or depth > _DEPTH:
                raise _LimitReached
            new = next(self.fresh)
            split = {**cells, chosen: [node for node in rest if node != partner], new: [first, partner]}
            if self._below({**inside, first: new, partner: new}, split, {new}, depth + 1):
                return True
        return False
