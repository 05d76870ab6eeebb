"""What a network of tokens knows of a pair: small integers of the graph that the row sees, computed once.

Row i of block b sees the finished graph of the blocks before b, its own block, and the bonds between them; nothing
later. Bonds, numbers of walks and degrees are counts, so that no order of nodes and no padding enters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from graphinv.nn.closing import closing_edges, leaf_sites

__all__ = ["Sight", "closing", "connected", "count_walks", "feature_count", "joined_walks", "pair_features"]

_APART, _WALKS, _VALENCE, _LEFT = 5, 8, 8, 4  # classes of blocks apart, longest walk, classes of valence and of stubs
_FAR = 24  # steps within which a node counts as connected


def feature_count(edge_types: int, hops: int, walks: int) -> int:
    """Return C, the features of a pair.

    Args:
        edge_types: kinds of edges.
        hops: H of the block order.
        walks: walk counts of a key beyond the degree.
    """
    counts = (edge_types + 2) + 1 + _APART + (_WALKS - 1) + _VALENCE + edge_types + _LEFT + 3 + 3
    return counts + 3 * min(walks, 2) + (3 * min(max(hops - 1, 0), 2) + 2 if hops else 0)


@dataclass(frozen=True)
class Sight:
    """What R rows of each of B graphs see of K nodes.

    Attributes:
        real: ``[B, K, K]`` int64 pair types of what is finished.
        noisy: ``[B, K, K]`` pair types of which (i, j) counts in the block of its later end; None where rows see
            ``real`` alone.
        later: ``[B, R, K]`` bool, the nodes of blocks before the row's own.
        same: ``[B, R, K]`` bool, the nodes of its own block.
        apart: ``[B, R, K]`` int64, by how many blocks the node comes before the row.
        own: ``[B, R, K]`` bool, the row itself.
        edge_types: kinds of edges; above them lies the class of a pair that is not known.
        core: ``[B, K]`` bool, nodes that peeling never takes.
    """

    real: Tensor
    noisy: Tensor | None
    later: Tensor
    same: Tensor
    apart: Tensor
    own: Tensor
    edge_types: int
    core: Tensor

    @staticmethod
    def of_block(
        past: Tensor, rows: Tensor, old: Tensor, new: Tensor, apart: Tensor, edge_types: int, core: Tensor
    ) -> Sight:
        """Return what s new nodes see beside c finished ones.

        Args:
            past: ``[B, c, c]`` pair types of finished nodes.
            rows: ``[B, s, c + s]`` pair types of new nodes; none with themselves.
            old: ``[B, c]`` bool, the finished nodes that exist.
            new: ``[B, s]`` bool, the new nodes that exist.
            apart: ``[B, s, c + s]`` by how many blocks a node comes before.
            edge_types: kinds of edges.
            core: ``[B, c]`` bool, finished nodes that peeling never takes.
        """
        count, before = new.size(1), old.size(1)
        exists = new.unsqueeze(2)
        none = torch.zeros_like(exists)
        later = torch.cat([exists & old.unsqueeze(1), none.expand(-1, -1, count)], 2)
        same = torch.cat([none.expand(-1, -1, before), exists & new.unsqueeze(1)], 2)
        own = torch.eye(before + count, dtype=torch.bool, device=new.device)[before:].expand_as(same)
        rows = rows * (later | same)
        whole = torch.cat([torch.cat([past, rows[:, :, :before].transpose(1, 2)], 2), rows], 1)
        return Sight(whole, None, later, same, apart, own, edge_types, F.pad(core, (0, count)))

    @property
    def reads(self) -> Tensor:
        """``[B, R, K]`` bool, the nodes that a row sees."""
        return self.later | self.same

    def bonds(self, kind: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Return finished and noisy adjacency ``[B, K, K]`` of edges of a kind, or of any."""
        types = (self.real, self.noisy)
        real, noisy = (None if t is None else (t == kind if kind else self._joined(t)).float() for t in types)
        assert real is not None
        return real, noisy

    def _joined(self, types: Tensor) -> Tensor:
        return (types > 0) & (types <= self.edge_types)

    def graphs(self, graph: Tensor, row: Tensor) -> Tensor:
        """Return the adjacency ``[Q, K, K]`` bool that rows ``row`` ``[Q]`` of graphs ``graph`` ``[Q]`` see."""
        reads = self.reads[graph, row]
        real = self._joined(self.real)[graph]
        if self.noisy is not None:
            past = self.later[graph, row]
            real = torch.where(past.unsqueeze(1) & past.unsqueeze(2), real, self._joined(self.noisy)[graph])
        return real & reads.unsqueeze(1) & reads.unsqueeze(2)

    def move(self, weight: Tensor, bonds: tuple[Tensor, Tensor | None]) -> Tensor:
        """Return weights ``[B, R, K]`` on nodes after one step along the bonds that each row sees."""
        real, noisy = bonds
        if noisy is None:
            return (weight @ real) * self.reads
        old = (weight * self.later) @ real + (weight * self.same) @ noisy
        return torch.where(self.later, old, (weight @ noisy) * self.same)


def count_walks(sight: Sight, hops: int) -> list[Tensor]:
    """Return x_1, ..., x_hops, each ``[B, R, K]``: (I + A)^k 1 of what each row sees, as the block order compares."""
    bonds, x, out = sight.bonds(), sight.reads.float(), []
    for _ in range(hops):
        x = x + sight.move(x, bonds)
        out.append(x)
    return out


def pair_features(sight: Sight, pairs: Tensor, key: Tensor, hops: int, finished: bool) -> tuple[Tensor, Tensor]:
    """Return the features ``[B, R, K, C]`` of pairs, 0 where a row does not read, and the stubs left ``[B, R, K]``.

    Args:
        sight: what rows see.
        pairs: ``[B, R, K]`` int64 types of the pairs of each row with what it reads.
        key: ``[B, R, 1 + W]`` int64 degree and further walk counts of the row's block.
        hops: H of the block order; 0 tells nothing of the order.
        finished: the blocks of the rows lack nothing; the last features then say where a new leaf may come.
    """
    with torch.autocast(pairs.device.type, enabled=False):
        reads, types = sight.reads, sight.edge_types
        by_type = [sight.move(reads.float(), sight.bonds(k)) for k in range(1, types + 1)]
        now = torch.stack(by_type).sum(0)
        valence = torch.stack([(k + 1) * d for k, d in enumerate(by_type)]).sum(0)
        walks = count_walks(sight, max(key.size(-1), min(hops, 3)))
        joined = joined_walks(sight, pairs, walks)
        left = (key[..., :1] - now) * sight.same  # bonds that a node of the block has yet to get
        parts = [
            F.one_hot(pairs * reads, types + 2),
            sight.own.unsqueeze(-1),
            F.one_hot(sight.apart.clamp(0, _APART - 1), _APART),
            torch.stack(paths := _paths(sight, pairs, now), -1),
            _company(sight, pairs, paths),
            F.one_hot(valence.long().clamp(max=_VALENCE - 1), _VALENCE),
            torch.stack([now.clamp(max=6), *(d.clamp(max=4) for d in by_type[1:])], -1),
            F.one_hot(left.long().clamp(0, _LEFT - 1), _LEFT),
            _compared(walks[: key.size(-1)], key),
            *(_signs(count - key[..., h : h + 1]) for h, count in enumerate(joined[: key.size(-1) - 1], 1)),
        ]
        if hops:
            parts += _like_mates(sight, walks, joined[: hops - 1], left)
            parts.append(torch.stack(_leaves(sight, hops) if finished else closing(sight, left, hops), -1))
        return torch.cat([part.float() for part in parts], -1) * reads.unsqueeze(-1), left


def closing(sight: Sight, left: Tensor, hops: int) -> tuple[Tensor, Tensor]:
    """Return ``[B, R, K]`` bool: which edges of a row are the last of its block, and end it as peeling takes it or not.

    Args:
        sight: what rows see.
        left: ``[B, R, K]`` edges that nodes of the row's block lack.
        hops: H of the block order; 0 takes every last edge for right.
    """
    own, other = ((left * part).sum(-1, keepdim=True) for part in (sight.own, ~sight.own))
    takes = sight.same & (left > 0) & ~sight.own
    last = (own == 1) & torch.where(takes, other == 1, sight.later & (other == 0))
    if not hops:
        return last, torch.zeros_like(last)
    right = torch.zeros_like(last)
    graph, row = last.any(-1).nonzero(as_tuple=True)
    if graph.numel():
        node = row + sight.own.size(2) - sight.own.size(1)
        adjacency = sight.graphs(graph, row)
        last[graph, row] &= ~adjacency[torch.arange(len(row), device=row.device), node]
        others = sight.later[graph, row] & ~sight.core[graph]
        right[graph, row] = closing_edges(adjacency, node, sight.same[graph, row], others, hops)
    return last & right, last & ~right


def _leaves(sight: Sight, hops: int) -> tuple[Tensor, Tensor]:
    """Return ``[B, R, K]`` bool: where a single leaf may come next or not; at the row itself, whether anywhere."""
    if not sight.own.numel():
        return sight.own, sight.own
    old = sight.own.size(2) - sight.own.size(1)
    first = sight.same.long().argmax(-1) - old  # of its block
    place = torch.arange(first.size(1), device=first.device)
    graph, row = ((first == place) & sight.same.any(-1)).nonzero(as_tuple=True)
    sites = torch.zeros_like(sight.own)
    exists = sight.reads[graph, row]
    sites[graph, row] = leaf_sites(sight.graphs(graph, row), exists, exists & ~sight.core[graph], hops)[0]
    sites = sites.gather(1, first.clamp(min=0).unsqueeze(-1).expand_as(sites))
    sites = torch.where(sight.own, sites.any(-1, keepdim=True), sites) & sight.reads
    return sites, ~sites & sight.reads


def _paths(sight: Sight, pairs: Tensor, degree: Tensor) -> list[Tensor]:
    """Return how many walks of 2, 3, ... steps that never turn back lead from row to node: 0, 1 or 2 and more."""
    bonds, out = sight.bonds(), []
    walk = ((pairs > 0) & (pairs <= sight.edge_types)).float() * sight.reads
    before = sight.own.float()
    for length in range(2, _WALKS + 1):
        turned = before * (degree if length == 2 else degree - 1)
        walk, before = sight.move(walk, bonds) - turned, walk
        out.append(walk.clamp(0, 2))
    return out


def _company(sight: Sight, pairs: Tensor, paths: list[Tensor]) -> Tensor:
    """Return ``[B, R, K, 3]`` bool: a node is neighbour of one other node of the row's block, of more, is connected.

    An edge to a node that is connected closes a ring, of which ``paths`` say the size if it is small.
    """
    mates = sight.move((sight.same & ~sight.own).float(), sight.bonds())
    near = sight.own | ((pairs > 0) & (pairs <= sight.edge_types) & sight.reads)
    for walk in paths:
        near = near | (walk > 0)
    steps = min(_FAR, sight.own.size(2)) - _WALKS
    return torch.stack([mates == 1, mates > 1, connected(sight, near, steps)], -1)


def _like_mates(sight: Sight, walks: list[Tensor], joined: list[Tensor], left: Tensor) -> list[Tensor]:
    """Return ``[B, R, K, 3]`` each: what an edge makes of a row's counts, beside those of its block that lack nothing.

    All 0 where no other node of the block lacks nothing.
    """
    done = sight.same & ~sight.own & (left == 0)
    there = done.any(-1, keepdim=True).unsqueeze(-1)
    out = []
    for before, count in zip(walks[1:], joined, strict=False):
        most = torch.where(done, before, 0).amax(-1, keepdim=True) if done.size(-1) else before
        out.append(_signs(count - most) & there)
    return out


def connected(sight: Sight, near: Tensor, steps: int) -> Tensor:
    """Return ``[B, R, K]`` bool, which nodes lie within so many steps of those that are ``near`` ``[B, R, K]``."""
    bonds = sight.bonds()
    for _ in range(steps):
        near = near | (sight.move(near.float(), bonds) > 0)
    return near


def joined_walks(sight: Sight, pairs: Tensor, walks: list[Tensor]) -> list[Tensor]:
    """Return x_2 and x_3 ``[B, R, K]`` that a row would have if an edge joined it to a node that is no neighbour.

    Counts only grow when more edges come: a node that would lift them above the key is no neighbour of the row.

    Args:
        sight: what rows see.
        pairs: ``[B, R, K]`` types of the pairs of each row with what it reads.
        walks: x_1, ... ``[B, R, K]`` of ``count_walks``; as many are returned as follow x_1, two at most.
    """
    own = [(count * sight.own).sum(-1, keepdim=True) for count in walks[:3]]  # of the row itself
    out = []
    if len(walks) > 1:
        out.append(own[1] + walks[0] + 2)  # the row counts once more, the new neighbour x_1 + 1 times
    if len(walks) > 2:
        adjacent = ((pairs > 0) & (pairs <= sight.edge_types)).float() * sight.reads
        common = sight.move(adjacent, sight.bonds())
        out.append(out[0] + own[2] - own[1] + own[0] - 1 + common + walks[1] + own[0] + 2)
    return out


def _signs(difference: Tensor) -> Tensor:
    """Return ``[*, 3]``: whether each number is negative, 0 or positive."""
    return torch.stack([difference < 0, difference == 0, difference > 0], -1)


def _compared(walks: list[Tensor], key: Tensor) -> Tensor:
    """Return ``[B, R, K, 3]``: whether walk counts so far lie below, at or above the key of the row's block."""
    equal = torch.ones_like(walks[0], dtype=torch.bool)
    below = torch.zeros_like(equal)
    for k, count in enumerate(walks):
        target = key[..., k : k + 1] + (k == 0)  # a key begins with the degree, walk counts with 1 + degree
        below |= equal & (count < target)
        equal &= count == target
    return torch.stack([below, equal, ~(below | equal)], -1)
