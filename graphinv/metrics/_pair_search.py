"""Is there an isomorphism between two graphs: individualisation and refinement, piece by piece.

The disjoint union of both is split into cells that one could map; a choice joins a node of either in a cell of their
own. Not a canonical form: only pairs are decided, and each choice tried is counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from itertools import count
from typing import NamedTuple

__all__ = ["LimitReached", "LinkedGraph", "PairSearch"]

_DEPTH = 150  # nested choices, so that Python's own limit is never met
_Cells = dict[int, list[int]]  # colour -> nodes of both graphs


class LinkedGraph(NamedTuple):
    """A graph as the search reads it.

    Attributes:
        colour: of each node, all that an isomorphism must keep.
        links: of each node, neighbour -> code of the edges that join the two, both ways.
    """

    colour: list[Hashable]
    links: list[dict[int, int]]


class LimitReached(Exception):
    """More choices were needed than allowed."""


class PairSearch:
    """The search on one pair of graphs, at most ``limit`` choices.

    A partition is equitable when the nodes of a cell have equally many links of each code to every cell, and
    balanced when every cell has as many nodes of either graph. One way in which the pairs of two cells are joined can
    be left out, since the others tell it; what then falls apart, also by cells of one pair, is decided piece by piece.
    """

    def __init__(self, one: LinkedGraph, other: LinkedGraph, limit: int) -> None:
        self.half, self.left, self.fresh = len(one.colour), limit, count()
        self.links = one.links + [{v + self.half: code for v, code in own.items()} for own in other.links]
        self.start = one.colour + other.colour

    def succeeds(self) -> bool:
        """Return whether there is an isomorphism that keeps colours and codes.

        Raises:
            LimitReached: nothing was found within ``limit`` choices.
        """
        groups: dict[Hashable, list[int]] = defaultdict(list)
        for node, given in enumerate(self.start):
            groups[given].append(node)
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
                raise LimitReached
            new = next(self.fresh)
            split = {**cells, chosen: [node for node in rest if node != partner], new: [first, partner]}
            if self._below({**inside, first: new, partner: new}, split, {new}, depth + 1):
                return True
        return False
