"""Drawing graphs block by block with kept context, many graphs at once, each at a block of its own.

Graphs under way wait until their next block can be batched with blocks of like size; finished ones leave and new ones
enter. A graph's draws depend on its own key only, so the company it was drawn in does not change it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphinv.diffusion import Ancestral, GraphProcess, PerGraphNoise, TypedGraphs, integrate
from graphinv.diffusion.categorical import categorical
from graphinv.diffusion.state import with_fields
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs, GraphBatch
from graphinv.models.pard.config import BlockSampler
from graphinv.nn.block_context import BlockContext
from graphinv.nn.block_network import Contexts, NewBlock

if TYPE_CHECKING:
    from graphinv.models.base import Callback
    from graphinv.models.pard.model import PARD

__all__ = ["draw_graphs"]

_CALL = 256  # what a call of the network costs whatever its batch, in pairs
_POOL = 2**30  # bytes of context that graphs under way may come to; the largest go on beyond it, up to twice as much
_DAMAGED = "the model gives no numbers (NaN): its weights are damaged; take another checkpoint"
_SIZE, _DEGREE, _START, _STEPS = range(4)  # what noise of a block is for


@dataclass
class _Graph:
    """A graph under way: finished blocks, and size and degree of the next."""

    number: int
    target: int | None
    plan: list[tuple[int, int]] | None = None
    size: int = 0
    degree: int = 0
    contexts: Contexts = ()
    types: list[Tensor] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)

    @property
    def nodes(self) -> int:
        return sum(t.numel() for t in self.types)

    @property
    def elements(self) -> int:
        return self.size + self.size * (self.size - 1) // 2 + self.size * self.nodes

    @property
    def pairs(self) -> int:
        return self.size * (self.size + 2 * self.nodes)


def draw_graphs(
    model: PARD,
    n: int,
    seed: int,
    num_nodes: Tensor | None,
    sampler: BlockSampler,
    batch_size: int,
    callback: Callback | None,
    plans: list[list[tuple[int, int]]] | None = None,
) -> GraphBatch:
    """Draw n graphs; see ``PARD.draw``. ``plans`` gives size and degree of each block in place of drawing them."""
    if num_nodes is None and not int(model.first_sizes.sum()):
        raise InputError("this model holds no block sizes: train it first, or pass num_nodes")
    draw = _Drawing(model, seed, sampler)
    waiting = [
        _Graph(k, None if num_nodes is None else int(num_nodes[k]), None if plans is None else plans[k])
        for k in range(n - 1, -1, -1)
    ]
    active: list[_Graph] = []
    done: list[_Graph] = []
    while waiting or active:
        entering = [waiting.pop() for _ in range(min(len(waiting), 16 * batch_size - len(active)))]
        if entering:
            draw.enter(entering)
        active += entering
        for chunk in _batches(draw.affordable([g for g in active if g.size]), sampler, batch_size):
            draw.block(chunk)
        done += [g for g in active if not g.size]
        active = [g for g in active if g.size]
        if callback is not None:
            callback(len(done), n, "graphs")
    return _packed(sorted(done, key=lambda g: g.number))


def _batches(graphs: list[_Graph], sampler: BlockSampler, batch_size: int) -> Iterator[list[_Graph]]:
    """Yield graphs whose next blocks take equally many steps, cut where calls and padding together cost least."""
    by_steps: dict[int, dict[tuple[int, int], list[_Graph]]] = defaultdict(lambda: defaultdict(list))
    for g in graphs:
        by_steps[sampler.steps_of(g.elements)][g.size, g.nodes].append(g)
    for _, alike in sorted(by_steps.items()):
        shapes = sorted(alike)
        for start, end in _cuts(shapes, [len(alike[shape]) for shape in shapes], batch_size):
            together = [g for shape in shapes[start:end] for g in alike[shape]]
            for first in range(0, len(together), batch_size):
                yield together[first : first + batch_size]


def _cuts(shapes: list[tuple[int, int]], counts: list[int], most: int) -> list[tuple[int, int]]:
    """Return the runs of ``shapes`` (new and finished nodes, sorted; ``counts`` graphs of each) that cost least.

    A run costs its padded pairs and ``_CALL`` for every ``most`` graphs: the shortest path over places to cut.
    """
    best, before = [0.0] + [math.inf] * len(shapes), [0] * (len(shapes) + 1)
    for end in range(1, len(shapes) + 1):
        size, nodes, count = shapes[end - 1][0], 0, 0
        for start in range(end - 1, -1, -1):
            nodes, count = max(nodes, shapes[start][1]), count + counts[start]
            cost = best[start] + _CALL * math.ceil(count / most) + count * size * (size + 2 * nodes)
            if cost < best[end]:
                best[end], before[end] = cost, start
    runs, end = [], len(shapes)
    while end:
        runs.append((before[end], end))
        end = before[end]
    return runs[::-1]


class _Drawing:
    """The draws of one call: model, processes and the noise of each graph."""

    def __init__(self, model: PARD, seed: int, sampler: BlockSampler) -> None:
        self.model, self.net, self.seed, self.sampler = model, model.net, seed, sampler
        self.device = next(model.parameters()).device
        self.process = GraphProcess(*model.processes())
        sizes, degrees = model.sizes.cpu(), model.degrees.cpu()
        trained = bool(sizes.sum())
        self.known_sizes = sizes > 0 if trained else torch.ones_like(sizes, dtype=torch.bool)
        self.known_degrees = degrees > 0 if trained else torch.ones_like(degrees, dtype=torch.bool)

    def affordable(self, graphs: list[_Graph]) -> list[_Graph]:
        """Return the graphs that memory lets grow now: the largest ones, which soon leave, before the others."""
        room = _POOL - sum(self._bytes(g.nodes) for g in graphs)
        always = max(1, _POOL // self._bytes(self.model.max_nodes))
        chosen: list[_Graph] = []
        for g in sorted(graphs, key=lambda g: -g.nodes):
            growth = self._bytes(g.nodes + g.size) - self._bytes(g.nodes)
            if len(chosen) < always or growth <= room:
                chosen.append(g)
                room -= growth
        return chosen

    def _bytes(self, nodes: int) -> int:
        """Return the size of what is kept of a graph."""
        s = self.net.settings
        floats = s.layers * nodes * (2 * nodes * s.edge_dim + 2 * s.edge_dim + s.node_dim)
        return floats * len(self.model.evaluated()) * next(self.model.parameters()).element_size()

    def noise(self, graphs: list[_Graph]) -> PerGraphNoise:
        """Return the noise of the next block of each graph."""
        keys = torch.tensor([(self.seed << 32) + g.number for g in graphs])
        block = torch.tensor([len(g.types) for g in graphs])
        return PerGraphNoise(keys.to(self.device)).child(block.to(self.device))

    def enter(self, graphs: list[_Graph]) -> None:
        """Draw size and degree of the first block."""
        weights = self.model.first_sizes.cpu().to(torch.float64)
        logits = (weights if bool(weights.sum()) else torch.ones_like(weights)).log().expand(len(graphs), -1)
        noise = self.noise(graphs)
        empty = self.net.empty_contexts(1)
        for g, size in zip(graphs, self._sizes(graphs, logits, noise.child(_SIZE)), strict=True):
            g.size, g.contexts = size, empty
        sizes = torch.tensor([g.size for g in graphs], device=self.device)
        self._degrees(graphs, self.net.properties.first_degrees(sizes), noise.child(_DEGREE))

    def _sizes(self, graphs: list[_Graph], logits: Tensor, noise: PerGraphNoise) -> list[int]:
        """Draw sizes: known ones that leave the graph within its target, or within the largest of the model."""
        size = torch.arange(self.model.max_nodes + 1)
        room = torch.tensor([(self.model.max_nodes if g.target is None else g.target) - g.nodes for g in graphs])
        forced = torch.tensor([g.target is not None for g in graphs])
        fits = size <= room.unsqueeze(1)
        # with a target stopping is the one choice that is not open, until it is the only one
        fits &= (size > 0) | ~forced.unsqueeze(1) | (room == 0).unsqueeze(1)
        allowed = fits & self.known_sizes
        allowed = torch.where(allowed.any(1, keepdim=True), allowed, fits)
        return self._drawn(logits, allowed, noise)

    def _degrees(self, graphs: list[_Graph], logits: Tensor, noise: PerGraphNoise) -> None:
        degree = torch.arange(self.model.max_nodes)
        most = torch.tensor([max(g.nodes + g.size - 1, 0) for g in graphs]).unsqueeze(1)
        allowed = (degree <= most) & self.known_degrees
        allowed = torch.where(allowed.any(1, keepdim=True), allowed, degree <= most)
        for g, value in zip(graphs, self._drawn(logits, allowed, noise), strict=True):
            g.degree = value
            if g.plan is not None:
                g.size, g.degree = g.plan[len(g.types)] if len(g.types) < len(g.plan) else (0, 0)

    def _drawn(self, logits: Tensor, allowed: Tensor, noise: PerGraphNoise) -> list[int]:
        logits = logits.cpu().to(torch.float64)
        if bool(logits.isnan().any()):
            raise InputError(_DAMAGED)
        p = logits.masked_fill(~allowed, -torch.inf).softmax(-1)
        # all mass may lie on what is not allowed
        p = torch.where(p.isfinite().all(-1, keepdim=True), p, allowed / allowed.sum(-1, keepdim=True))
        out: list[int] = categorical(p, noise.uniform(torch.zeros(len(p), 1, dtype=torch.long)).squeeze(1)).tolist()
        return out

    def block(self, graphs: list[_Graph]) -> None:
        """Draw the next block of each graph, then size and degree of the one after it."""
        contexts = tuple(BlockContext.join(c) for c in zip(*(g.contexts for g in graphs), strict=True))
        old, new = [g.nodes for g in graphs], [g.size for g in graphs]
        finished = self._denoised(graphs, contexts)
        for g, x, e in zip(graphs, finished.types.cpu(), finished.pairs.cpu(), strict=True):
            c, s, start = g.nodes, g.size, max(old)
            g.types.append(x[:s])
            g.rows.append(torch.cat([e[:s, :c], e[:s, start : start + s]], 1))
        contexts = self.net.finish(contexts, finished)
        noise = self.noise(graphs)
        sizes = self._sizes(graphs, self.net.next_sizes(contexts), noise.child(_SIZE))
        for g, size in zip(graphs, sizes, strict=True):
            g.size = size
        logits = self.net.next_degrees(contexts, torch.tensor(sizes, device=self.device))
        self._degrees(graphs, logits, noise.child(_DEGREE))
        parts = [c.graphs(old, new) for c in contexts]
        for k, g in enumerate(graphs):
            g.contexts = tuple(part[k] for part in parts) if g.size else ()

    def _denoised(self, graphs: list[_Graph], contexts: Contexts) -> NewBlock:
        """Return the next block of each graph after all its diffusion steps."""
        numbers, old, degree, size = torch.tensor(
            [[len(g.types), g.nodes, g.degree, g.size] for g in graphs], device=self.device
        ).unbind(1)
        place = torch.arange(int(size.max()), device=self.device)
        mask = place < size.unsqueeze(1)
        noise = self.noise(graphs)
        nodes, pairs = _entries(old, place, contexts[0].mask.size(1))
        like = TypedGraphs(torch.zeros_like(nodes), torch.zeros_like(pairs), nodes, pairs)

        def predict(now: TypedGraphs, t: Tensor) -> TypedGraphs:
            block = NewBlock(now.nodes, now.pairs, numbers, degree, mask)
            logits = self.net.denoise(contexts, block, t.expand(len(graphs)))
            return with_fields(now, [self._tempered(out) for out in logits])

        steps = self.sampler.steps_of(graphs[0].elements)
        times = torch.arange(steps, -1, -1, dtype=torch.float64, device=self.device) / steps
        start, process = self.process.prior(like, noise.child(_START)), self.process
        args = (Ancestral(), process, predict, start, times, noise.child(_STEPS))
        end = integrate(*args, denoise=False, replay=True)
        end.pairs[:, place, contexts[0].mask.size(1) + place] = 0  # a node is not its own neighbour
        return NewBlock(end.nodes, end.pairs, numbers, degree, mask)

    def _tempered(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        return (logits - logits.amax(-1, keepdim=True)) / self.sampler.temperature


def _entries(old: Tensor, place: Tensor, padded: int) -> tuple[Tensor, Tensor]:
    """Return numbers of new nodes ``[B, s]`` and of their pairs ``[B, s, c + s]`` that padding does not change."""
    old = old.unsqueeze(1)
    own = old + place
    every = torch.cat([torch.arange(padded, device=old.device).expand(len(old), -1), own], 1)
    low = torch.minimum(own.unsqueeze(2), every.unsqueeze(1))
    high = torch.maximum(own.unsqueeze(2), every.unsqueeze(1))
    return own, high * (high - 1) // 2 + low


def _packed(graphs: list[_Graph]) -> GraphBatch:
    size = max((g.nodes for g in graphs), default=0)
    x = torch.zeros(len(graphs), size, dtype=torch.long)
    adj = torch.zeros(len(graphs), size, size, dtype=torch.long)
    block = torch.zeros(len(graphs), size, dtype=torch.long)
    mask = torch.zeros(len(graphs), size, dtype=torch.bool)
    for k, g in enumerate(graphs):
        start = 0
        for number, (types, rows) in enumerate(zip(g.types, g.rows, strict=True)):
            end = start + types.numel()
            x[k, start:end], block[k, start:end], mask[k, start:end] = types, number, True
            adj[k, start:end, :end], adj[k, :end, start:end] = rows, rows.t()
            start = end
    return DenseGraphs(x, adj, mask).to_packed().with_columns(node={"block": block[mask]})
