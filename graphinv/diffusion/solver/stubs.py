"""Undoing the removal of edges where every node's degree is given: one type or one edge at a time, exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graphinv.diffusion.categorical import DiscreteDiffusion, categorical
from graphinv.diffusion.process import Process
from graphinv.diffusion.removal import Removal
from graphinv.diffusion.solver.base import Carry, Predict, Solver
from graphinv.diffusion.state import S, State, TypedGraphs, with_fields
from graphinv.errors import InputError
from graphinv.noise import Noise

__all__ = ["StubMatching"]


def rows_to_ask(left: Tensor, degree: Tensor, asked: Tensor, together: Tensor | None = None) -> Tensor:
    """Return ``[B, R]`` bool, the rows of which one of each block is joined next, each as likely as the others.

    The row that is under way while it lacks edges, then those that have some, then those that have none.

    Args:
        left: ``[B, R]`` edges that each row lacks.
        degree: ``[B, R]`` edges that it gets in all.
        asked: ``[B, R]`` bool, rows that were joined before.
        together: ``[B, R, R]`` bool, which rows are of one block; None for all.
    """
    rows = left > 0
    for first in (rows & (left < degree), rows & asked):
        there = first.any(1, keepdim=True) if together is None else (together & first.unsqueeze(1)).any(2)
        rows = torch.where(there, first, rows)
    return rows


@dataclass(frozen=True, eq=False)
class StubMatching(Solver):
    """First the types of nodes, in random order; then edges, node after node: each until it lacks none.

    The next node is a random one of those that lack edges and have some, else of all that lack edges (``rows_to_ask``):
    a block grows from where it has begun, so that the rings that an edge closes are seen. The node's row gives p(other
    end, type) as a softmax over the nodes that may take the edge: all that are read, without itself and its neighbours,
    and inside the block only those that lack an edge themselves. Every node so ends with exactly its degree, unless
    none may take an edge. A step joins one edge of each graph, or as many as are left over the steps that are left;
    more are exact no longer, since they share a prediction.

    Args:
        degree: ``[B, R]`` int64 edges of each new node; 0 in the padding.
        rows: ``[B, R]`` bool, the new nodes that exist.
        columns: ``[B, C]`` bool, the nodes that exist, of which the last R are the new ones.
        steps: steps to come.
        limits: says of node types ``[B, R]``, pairs so far ``[B, R, C]`` and edges lacking ``[B, R]`` which edges of
            which kind may come, ``[B, R, C, E]`` or ``[B, R, C, 1]`` each; a row that one leaves nothing is not bound
            by it, so the first ones count most.
    """

    degree: Tensor
    rows: Tensor
    columns: Tensor
    steps: int
    limits: Callable[[Tensor, Tensor, Tensor], Sequence[Tensor]] | None = None
    order: int = field(default=1, init=False)

    def init(self, process: Process, x: State) -> Carry:
        """Return the edges lacking ``[B, R]``, which rows were joined ``[B, R]`` bool, and the steps left ``[]``."""
        kinds = process.fields
        if not isinstance(x, TypedGraphs) or not isinstance(kinds[-1], Removal):
            raise InputError("StubMatching undoes the removal of edges of TypedGraphs; take Ancestral for others")
        none = torch.zeros_like(self.degree, dtype=torch.bool)
        return self.degree, none, torch.tensor(self.steps, device=self.degree.device)

    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state with one more type or edge of each graph, twice, and the next carry."""
        out = predict(x, t)
        assert isinstance(x, TypedGraphs) and isinstance(out, TypedGraphs)
        node = process.fields[0]
        assert isinstance(node, DiscreteDiffusion)
        nodes, pairs, left, asked = x.nodes.clone(), x.pairs.clone(), carry[0].clone(), carry[1].clone()
        unknown = ((nodes == node.classes) & self.rows).sum(1)
        picks = torch.div(unknown + left.sum(1) + carry[2] - 1, carry[2], rounding_mode="floor")
        entries = torch.arange(2, device=nodes.device).expand(len(nodes), -1)
        for pick in range(int(picks.max()) if picks.numel() else 0):
            u = noise.child(pick).uniform(entries)
            typed = self._type(nodes, out.nodes, node.classes, u, picks > pick)
            self._join(nodes, pairs, left, asked, out.pairs, u, (picks > pick) & ~typed)
        moved = with_fields(x, [nodes, pairs])
        return moved, moved, (left, asked, carry[2] - 1)

    def _type(self, nodes: Tensor, logits: Tensor, unknown: int, u: Tensor, active: Tensor) -> Tensor:
        """Give one unknown node of each active graph a type, in place; return ``[B]`` bool, who had one."""
        waiting = (nodes == unknown) & self.rows
        active = active & waiting.any(1)
        graph = active.nonzero().squeeze(1)
        row = categorical(waiting[graph].double(), u[graph, 0])
        p = logits[graph, row].double().softmax(-1)
        nodes[graph, row] = categorical(p, u[graph, 1])
        return active

    def _join(
        self, nodes: Tensor, pairs: Tensor, left: Tensor, asked: Tensor, logits: Tensor, u: Tensor, active: Tensor
    ) -> None:
        """Join one edge of each active graph that lacks some, in place."""
        active = active & (left > 0).any(1)
        graph = active.nonzero().squeeze(1)
        row = categorical(rows_to_ask(left, self.degree, asked)[graph].double(), u[graph, 0])
        asked[graph, row] = True
        allowed = self.allowed(pairs, left)[graph, row].unsqueeze(-1).expand(-1, -1, logits.size(-1) - 1)
        for limit in [] if self.limits is None else self.limits(nodes, pairs, left):
            limited = allowed & limit[graph, row]
            allowed = torch.where(limited.flatten(1).any(1)[:, None, None], limited, allowed)
        scores = logits[graph, row, :, 1:].double().masked_fill(~allowed, -torch.inf).flatten(1)
        stuck = ~allowed.flatten(1).any(1)
        left[graph[stuck], row[stuck]] = 0
        graph, row, scores, u = graph[~stuck], row[~stuck], scores[~stuck], u[graph[~stuck], 1]
        choice = categorical(scores.softmax(-1), u)
        kinds = logits.size(-1) - 1
        column, kind = torch.div(choice, kinds, rounding_mode="floor"), choice % kinds + 1
        old = pairs.size(2) - pairs.size(1)
        pairs[graph, row, column] = kind
        left[graph, row] -= 1
        inner = column >= old
        graph, row, column, kind = graph[inner], row[inner], column[inner], kind[inner]
        pairs[graph, column - old, row + old] = kind
        left[graph, column - old] -= 1

    def allowed(self, pairs: Tensor, left: Tensor) -> Tensor:
        """Return ``[B, R, C]`` bool, which nodes may take a stub of which row, for pairs so far and stubs ``left``."""
        count, every = pairs.shape[1:]
        old = every - count
        own = torch.eye(every, dtype=torch.bool, device=pairs.device)[old:]
        open_ = torch.cat([self.columns[:, :old], self.columns[:, old:] & (left > 0)], 1)
        return (pairs == 0) & open_.unsqueeze(1) & self.rows.unsqueeze(2) & ~own
