"""Graphs under way: what each holds, which of them come together in a batch, and the graphs that they end as."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graphinv.graphs import DenseGraphs, GraphBatch
from graphinv.nn.block_context import Context

__all__ = ["GrowingGraph", "as_column", "batches_of", "pack", "past_of"]

_Shape = tuple[int, int, int]  # steps, new and finished nodes of a block


@dataclass
class GrowingGraph:
    """A graph under way: finished blocks, size and key of the next, and how often it was drawn again."""

    number: int
    target: int | None
    plan: list[tuple[int, int]] | None = None
    core: tuple[Tensor, Tensor] | None = None  # node types [s] and pair types [s, s] that are there from the beginning
    size: int = 0
    key: list[int] = field(default_factory=list)
    contexts: tuple[Context, ...] = ()
    blocks: list[int] = field(default_factory=list)  # their sizes
    types: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    pairs: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    off_path: bool = False  # a block was kept that peeling does not take
    attempt: int = 0
    redraws: int = 0
    restarts: int = 0

    @property
    def nodes(self) -> int:
        """Return how many are finished."""
        return self.types.numel()

    @property
    def elements(self) -> int:
        """Return how many nodes and pairs the next block has."""
        return self.size + self.size * (self.size - 1) // 2 + self.size * self.nodes

    @property
    def core_nodes(self) -> int:
        """Return how many were there from the beginning."""
        return 0 if self.core is None else len(self.core[0])

    def drop(self) -> None:
        """Begin anew."""
        self.attempt, self.restarts, self.off_path = 0, self.restarts + 1, False
        self.blocks, self.types, self.pairs = [], self.types[:0], self.pairs[:0, :0]

    def grow(self, types: Tensor, rows: Tensor) -> None:
        """Add a block of types ``[s]`` and pair types ``[s, n + s]``."""
        old, self.attempt = self.nodes, 0
        self.blocks.append(len(types))
        self.types = torch.cat([self.types, types])
        self.pairs = torch.cat([torch.cat([self.pairs, rows[:, :old].t()], 1), rows])


def batches_of(
    graphs: list[GrowingGraph],
    steps: Callable[[GrowingGraph], int],
    cost: Callable[[int, int], float],
    mixes: bool,
    batch_size: int,
) -> Iterator[list[GrowingGraph]]:
    """Yield graphs whose next blocks are drawn together, cut where calls and padding together cost least.

    Blocks of unlike steps only come together if ``mixes``; ``cost`` says what a graph of a size and of finished nodes
    adds to a call.
    """
    by_steps: dict[int, dict[_Shape, list[GrowingGraph]]] = defaultdict(lambda: defaultdict(list))
    for g in graphs:
        by_steps[0 if mixes else steps(g)][steps(g), g.size, g.nodes].append(g)
    for _, alike in sorted(by_steps.items()):
        shapes = sorted(alike)
        for start, end in _cuts(shapes, [len(alike[shape]) for shape in shapes], cost, batch_size):
            together = [g for shape in shapes[start:end] for g in alike[shape]]
            for first in range(0, len(together), batch_size):
                yield together[first : first + batch_size]


def _cuts(
    shapes: list[_Shape], counts: list[int], cost: Callable[[int, int], float], most: int
) -> list[tuple[int, int]]:
    """Return the runs of ``shapes`` (sorted; ``counts`` graphs of each) that cost least.

    A run takes the most steps of its shapes and pads to their most nodes; each step costs one for every ``most`` graphs
    and the ``cost`` of each: the shortest path over places to cut.
    """
    best, before = [0.0] + [math.inf] * len(shapes), [0] * (len(shapes) + 1)
    for end in range(1, len(shapes) + 1):
        steps, size, nodes, count = shapes[end - 1][0], 0, 0, 0
        for start in range(end - 1, -1, -1):
            size, nodes, count = max(size, shapes[start][1]), max(nodes, shapes[start][2]), count + counts[start]
            total = best[start] + (1 + steps) * (math.ceil(count / most) + count * cost(size, nodes))
            if total < best[end]:
                best[end], before[end] = total, start
    runs, end = [], len(shapes)
    while end:
        runs.append((before[end], end))
        end = before[end]
    return runs[::-1]


def past_of(graphs: list[GrowingGraph], size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return pair types ``[B, c, c]`` of graphs so far, padded to c nodes, and which exist and are cores ``[B, c]``."""
    pairs = torch.zeros(len(graphs), size, size, dtype=torch.long)
    for k, g in enumerate(graphs):
        pairs[k, : g.nodes, : g.nodes] = g.pairs
    place = torch.arange(size)
    return pairs, place < as_column([g.nodes for g in graphs]), place < as_column([g.core_nodes for g in graphs])


def as_column(values: list[int] | list[bool]) -> Tensor:
    """Return ``[B, 1]``."""
    return torch.tensor(values, dtype=torch.bool if isinstance(next(iter(values), 0), bool) else torch.long).unsqueeze(
        1
    )


def pack(graphs: list[GrowingGraph]) -> GraphBatch:
    """Return the graphs with their columns: ``block`` and ``core`` of nodes, ``redraws`` and ``restarts`` of graphs."""
    size = max((g.nodes for g in graphs), default=0)
    x = torch.zeros(len(graphs), size, dtype=torch.long)
    adj = torch.zeros(len(graphs), size, size, dtype=torch.long)
    mask = torch.zeros(len(graphs), size, dtype=torch.bool)
    block = [torch.zeros(0, dtype=torch.long)]
    for k, g in enumerate(graphs):
        x[k, : g.nodes], adj[k, : g.nodes, : g.nodes], mask[k, : g.nodes] = g.types, g.pairs, True
        block.append(torch.arange(len(g.blocks)).repeat_interleave(torch.tensor(g.blocks, dtype=torch.long)))
    counts = {
        name: torch.tensor([getattr(g, name) for g in graphs], dtype=torch.long) for name in ("redraws", "restarts")
    }
    columns = {"block": torch.cat(block)}
    if any(g.core is not None for g in graphs):
        core = torch.arange(size) < as_column([g.core_nodes for g in graphs])
        columns["core"] = core[mask]
    return DenseGraphs(x, adj, mask).to_packed().with_columns(node=columns, graph=counts)
