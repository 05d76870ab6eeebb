"""Drawing graphs block by block with kept context, many graphs at once, each at a block of its own.

Graphs under way wait until their next block can be batched with blocks of like size; finished ones leave and new ones
enter. A graph's draws depend on its own key only, so the company it was drawn in does not change it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from graphinv.diffusion import (
    Ancestral,
    GraphProcess,
    PerGraphNoise,
    Removal,
    Solver,
    StubMatching,
    TypedGraphs,
    integrate,
)
from graphinv.diffusion.categorical import categorical
from graphinv.diffusion.state import with_fields
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.models.pard.config import BlockSampler
from graphinv.models.pard.growing import GrowingGraph, as_column, batches_of, pack, past_of
from graphinv.models.pard.path import block_edges, keeps_valence, leaf_keys, next_counts, on_path
from graphinv.nn.block_context import Context
from graphinv.nn.block_network import NewBlock

if TYPE_CHECKING:
    from graphinv.models.base import Callback
    from graphinv.models.pard.model import PARD

__all__ = ["draw_graphs"]

_POOL = 2**30  # bytes of context that graphs under way may come to; the largest go on beyond it, up to twice as much
_DAMAGED = "the model gives no numbers (NaN): its weights are damaged; take another checkpoint"
_SIZE, _DEGREE, _START, _STEPS, _WALKS = (0, 1, 2, 3, 4)  # what noise of a block is for
_UNLIKELY = 1e9  # taken from the logits of what may not be, unless nothing else is there
_RESTART, _ATTEMPT = 2**20, 2**40  # above any number of blocks, and of restarts


Leaves = tuple[list[int], Tensor, Tensor]  # which graphs of a batch, where a leaf may join each, its walk counts there


def draw_graphs(
    model: PARD,
    n: int,
    seed: int,
    num_nodes: Tensor | None,
    sampler: BlockSampler,
    batch_size: int,
    callback: Callback | None,
    plans: list[list[tuple[int, int]]] | None = None,
    condition: Tensor | None = None,
    cores: list[tuple[Tensor, Tensor]] | None = None,
) -> GraphBatch:
    """Draw n graphs; see ``PARD.draw``. ``plans`` gives size and degree of each block in place of drawing them.

    ``condition`` ``[n, 2 P]`` says what the graphs are to be like (``Conditions``); ``cores`` has node types ``[s]``
    and pair types ``[s, s]`` of what each begins with.
    """
    if num_nodes is None and not int(model.first_sizes.sum()):
        raise InputError("this model holds no block sizes: train it first, or pass num_nodes")
    draw = _Drawing(model, seed, sampler, condition)
    waiting = [
        GrowingGraph(
            k,
            None if num_nodes is None else int(num_nodes[k]),
            None if plans is None else plans[k],
            None if cores is None else cores[k],
        )
        for k in range(n - 1, -1, -1)
    ]
    active: list[GrowingGraph] = []
    done: list[GrowingGraph] = []
    while waiting or active:
        entering = [waiting.pop() for _ in range(min(len(waiting), 16 * batch_size - len(active)))]
        if entering:
            draw.enter(entering)
        active += entering
        ready = draw.affordable([g for g in active if g.size])
        for chunk in batches_of(ready, draw.steps, draw.net.step_cost, draw.removes, batch_size):
            draw.block(chunk)
        done += [g for g in active if not g.size]
        active = [g for g in active if g.size]
        if callback is not None:
            callback(len(done), n, "graphs")
    return pack(sorted(done, key=lambda g: g.number))


class _Drawing:
    """The draws of one call: model, processes and the noise of each graph."""

    def __init__(self, model: PARD, seed: int, sampler: BlockSampler, condition: Tensor | None = None) -> None:
        self.model, self.net, self.seed, self.sampler, self.condition = model, model.net, seed, sampler, condition
        self.device = next(model.parameters()).device
        node, pair = model.processes()
        self.removes = model.config.prior == "empty"
        self.process = GraphProcess(node, Removal(model.config.edge_types) if self.removes else pair)
        self.judges = self.removes and model.config.closing_hops > 0  # where leaves and last edges may come
        self.follows = self.judges or sampler.tries > 1  # the path is looked at
        if sampler.tries > 1 and model.config.order != "tuple":
            raise InputError(f'tries look for the order "tuple", this model has {model.config.order!r}; set tries = 1')
        if sampler.valence and not self.removes:
            raise InputError(f'valence limits the prior "empty", this model has {model.config.prior!r}')
        sizes, degrees = model.sizes.cpu(), model.degrees.cpu()
        trained = bool(sizes.sum())
        self.known_sizes = sizes > 0 if trained else torch.ones_like(sizes, dtype=torch.bool)
        self.known_degrees = degrees > 0 if trained else torch.ones_like(degrees, dtype=torch.bool)

    def steps(self, g: GrowingGraph) -> int:
        """Return the steps of the next block of a graph: one for each type and stub at most, if edges are removed."""
        if self.removes:
            return max(1, min(self.sampler.steps, g.size * (1 + g.key[0])))
        return self.sampler.steps_of(g.elements)

    def affordable(self, graphs: list[GrowingGraph]) -> list[GrowingGraph]:
        """Return the graphs that memory lets grow now: the largest ones, which soon leave, before the others."""
        room = _POOL - sum(self._bytes(g.nodes) for g in graphs)
        always = max(1, _POOL // self._bytes(self.model.max_nodes))
        chosen: list[GrowingGraph] = []
        for g in sorted(graphs, key=lambda g: -g.nodes):
            growth = self._bytes(g.nodes + g.size) - self._bytes(g.nodes)
            if len(chosen) < always or growth <= room:
                chosen.append(g)
                room -= growth
        return chosen

    def _bytes(self, nodes: int) -> int:
        """Return the size of what is kept of a graph."""
        return self.net.kept_floats(nodes) * next(self.model.parameters()).element_size()

    def noise(self, graphs: list[GrowingGraph]) -> PerGraphNoise:
        """Return the noise of the next block of each graph."""
        keys = torch.tensor([(self.seed << 32) + g.number for g in graphs])
        block = torch.tensor([len(g.blocks) + _RESTART * g.restarts + _ATTEMPT * g.attempt for g in graphs])
        return PerGraphNoise(keys.to(self.device)).child(block.to(self.device))

    def enter(self, graphs: list[GrowingGraph]) -> None:
        """Draw size and key of the first block."""
        condition = None if self.condition is None else self.condition[[g.number for g in graphs]].to(self.device)
        contexts = self.net.empty_contexts(len(graphs), condition)
        parts = [c.graphs([0] * len(graphs), [0] * len(graphs)) for c in contexts]
        for k, g in enumerate(graphs):
            g.contexts = tuple(part[k] for part in parts)
        bare = [k for k, g in enumerate(graphs) if g.core is None]
        if bare:
            self._plan([graphs[k] for k in bare], tuple(c.select(bare) for c in contexts))
        with_core = [k for k, g in enumerate(graphs) if g.core is not None]
        if with_core:
            chosen = [graphs[k] for k in with_core]
            self._finish(
                list(range(len(with_core))), chosen, tuple(c.select(with_core) for c in contexts), self._core(chosen)
            )

    def _core(self, graphs: list[GrowingGraph]) -> NewBlock:
        """Return the block that each graph begins with."""
        most, none = max(g.core_nodes for g in graphs), torch.zeros(len(graphs), dtype=torch.long, device=self.device)
        types, pairs = torch.zeros(len(graphs), most).long(), torch.zeros(len(graphs), most, most).long()
        for k, g in enumerate(graphs):
            assert g.core is not None
            g.size = g.core_nodes
            types[k, : g.size], pairs[k, : g.size, : g.size] = g.core
        mask = torch.arange(most) < as_column([g.size for g in graphs])
        walks = none.new_zeros(len(graphs), count) if (count := self.net.settings.walks) else None
        types, pairs, mask = (t.to(self.device) for t in (types, pairs, mask))
        return NewBlock(types, pairs, none, none, mask, walks, torch.ones_like(none, dtype=torch.bool))

    def _plan(self, graphs: list[GrowingGraph], contexts: tuple[Context, ...]) -> None:
        """Draw size and key of the next block of each graph; one that is drawn again does not end the graph."""
        noise = self.noise(graphs)
        counts = self.model.first_sizes
        counts = counts if bool(counts.sum()) else torch.ones_like(counts)
        start = self.net.properties.first_sizes(counts, contexts[-1].total).cpu()
        logits = self.net.next_sizes(contexts).cpu().to(torch.float64)
        logits = torch.where(as_column([not g.blocks for g in graphs]), start, logits)
        leaves = self._leaves(graphs)
        if self.removes:
            logits[:, 1] += self._single_chance(contexts, leaves)
        for g, size in zip(graphs, self._sizes(graphs, logits, noise.child(_SIZE)), strict=True):
            g.size = size
            if g.plan is not None:
                g.size = g.plan[len(g.blocks)][0] if len(g.blocks) < len(g.plan) else 0
        self._keys(graphs, contexts, leaves, noise)

    def _single_chance(self, contexts: tuple[Context, ...], leaves: Leaves) -> Tensor:
        """Return ``[B]`` log p(a next block of one node can be): it is no leaf where peeling would take other nodes."""
        count = len(contexts[-1].total)
        ones = torch.ones(count, dtype=torch.long, device=self.device)
        p = self.net.next_degrees(contexts, ones).cpu().double().softmax(-1)[:, 1]
        none = torch.zeros(count, dtype=torch.bool)
        none[leaves[0]] = ~leaves[1].any(1)
        return torch.where(none, torch.log1p(-p), 0.0)

    def _sizes(self, graphs: list[GrowingGraph], logits: Tensor, noise: PerGraphNoise) -> list[int]:
        """Draw sizes: known ones that leave the graph within its target, or within the largest of the model."""
        size = torch.arange(self.model.max_nodes + 1)
        room = torch.tensor([(self.model.max_nodes if g.target is None else g.target) - g.nodes for g in graphs])
        forced = torch.tensor([g.target is not None for g in graphs])
        fits = size <= room.unsqueeze(1)
        # with a target stopping is the one choice that is not open, until it is the only one
        forced |= torch.tensor([g.attempt > 0 for g in graphs])
        fits &= (size > 0) | ~forced.unsqueeze(1) | (room == 0).unsqueeze(1)
        allowed = fits & self.known_sizes
        allowed = torch.where(allowed.any(1, keepdim=True), allowed, fits)
        return self._drawn(logits, allowed, noise)

    def _keys(
        self, graphs: list[GrowingGraph], contexts: tuple[Context, ...], leaves: Leaves, noise: PerGraphNoise
    ) -> None:
        """Draw the degree of the next block of each graph, and its further walk counts, for the size it has.

        A single leaf has those that it can have where peeling then takes it.
        """
        sizes = torch.tensor([g.size for g in graphs], device=self.device)
        first = as_column([not g.blocks for g in graphs]).to(self.device)
        logits = self.net.next_degrees(contexts, sizes)
        logits = torch.where(first, self.net.properties.first_degrees(sizes, contexts[-1].total), logits)
        degree = torch.arange(self.model.max_nodes)
        most = as_column([max(g.nodes + g.size - 1, 0) for g in graphs])
        alone = [i for i, k in enumerate(leaves[0]) if graphs[k].size == 1]
        single, sites, counts = [leaves[0][i] for i in alone], leaves[1][alone], leaves[2][alone]
        allowed = (degree <= most) & self.known_degrees
        allowed[single] &= (degree != 1) | sites.any(1, keepdim=True)
        allowed = torch.where(allowed.any(1, keepdim=True), allowed, degree <= most)
        for g, value in zip(graphs, self._drawn(logits, allowed, noise.child(_DEGREE)), strict=True):
            if g.plan is not None and g.size:
                value = g.plan[len(g.blocks)][1]
            g.key = [value]
        for k in range(self.net.settings.walks):
            key = torch.tensor([g.key for g in graphs])
            logits = self.net.properties.walk_counts(contexts[-1].total, sizes, key.to(self.device))
            allowed = torch.ones(logits.shape, dtype=torch.bool)
            if single:
                can = next_counts(sites, counts, key[single, 1:], allowed.size(1))
                allowed[single] = can | ~can.any(1, keepdim=True) | (key[single, :1] != 1)
            for g, value in zip(graphs, self._drawn(logits, allowed, noise.child(_WALKS + k)), strict=True):
                g.key.append(value)

    def _leaves(self, graphs: list[GrowingGraph]) -> Leaves:
        """Return which graphs are on their path, where a leaf may join them, and with which walk counts."""
        single = [k for k, g in enumerate(graphs) if g.blocks and not g.off_path and self.judges]
        chosen = [graphs[k] for k in single]
        past, exists, core = past_of(chosen, max((g.nodes for g in chosen), default=0))
        return single, *leaf_keys(past, exists, core, self.net.settings.walks, self.model.config)

    def _drawn(self, logits: Tensor, allowed: Tensor, noise: PerGraphNoise) -> list[int]:
        logits = logits.cpu().to(torch.float64)
        if bool(logits.isnan().any()):
            raise InputError(_DAMAGED)
        p = logits.masked_fill(~allowed, -torch.inf).softmax(-1)
        # all mass may lie on what is not allowed
        p = torch.where(p.isfinite().all(-1, keepdim=True), p, allowed / allowed.sum(-1, keepdim=True))
        out: list[int] = categorical(p, noise.uniform(torch.zeros(len(p), 1, dtype=torch.long)).squeeze(1)).tolist()
        return out

    def block(self, graphs: list[GrowingGraph]) -> None:
        """Draw the next block of each graph, then size and key of the one after.

        Where peeling does not take the block, size and key are drawn again instead, and the block with others to
        come; when its tries run out the graph begins anew, and in the end keeps what it has.
        """
        contexts = tuple(type(c[0]).join(c) for c in zip(*(g.contexts for g in graphs), strict=True))
        finished = self._denoised(graphs, contexts)
        path = self._on_path(graphs, finished) if self.follows else [True] * len(graphs)
        fits = self._in_valence(graphs, finished) if self.sampler.valence else path
        fine = [a and b for a, b in zip(path, fits, strict=True)]
        again, anew, kept = [], [], []
        for k, (g, passed) in enumerate(zip(graphs, fine, strict=True)):
            if not passed and g.attempt + 1 < self.sampler.tries:
                again.append(k)
            elif not passed and g.restarts < self.sampler.restarts:
                anew.append(g)
            else:
                kept.append(k)
                g.off_path |= not path[k]
        for k in again:
            graphs[k].attempt += 1
            graphs[k].redraws += 1
        for g in anew:
            g.drop()
        self._finish(kept, graphs, contexts, finished)
        if again:
            self._plan([graphs[k] for k in again], tuple(c.select(again) for c in contexts))
        if anew:
            self.enter(anew)

    def _on_path(self, graphs: list[GrowingGraph], new: NewBlock) -> list[bool]:
        """Return of each graph whether its new block is what peeling takes first."""
        past, exists, core = past_of(graphs, new.pairs.size(2) - new.pairs.size(1))
        mask = torch.cat([exists, new.mask.cpu()], 1)
        return on_path(past > 0, new.pairs.cpu() > 0, mask, new.key.cpu(), self.model.config, core).tolist()

    def _in_valence(self, graphs: list[GrowingGraph], new: NewBlock) -> list[bool]:
        """Return of each graph whether its new block leaves all nodes that it joins within their valence."""
        rows, valences = new.pairs.cpu(), self.model.valences.cpu()
        old = rows.size(2) - rows.size(1)
        types = pad_sequence([g.types for g in graphs], batch_first=True)
        most = torch.cat(
            [valences[F.pad(types, (0, old - types.size(1)))], valences[new.types.cpu().clamp(max=len(valences) - 1)]],
            1,
        )
        past, *_ = past_of(graphs, old)
        more = rows[:, :, :old].sum(1)
        used = torch.cat([torch.where(more > 0, past.sum(2) + more, 0), rows.sum(2)], 1)
        return (used <= most).all(1).tolist()

    def _finish(
        self, kept: list[int], graphs: list[GrowingGraph], contexts: tuple[Context, ...], finished: NewBlock
    ) -> None:
        """Keep the new blocks of the graphs numbered ``kept``, then draw size and key of the blocks after."""
        if not kept:
            return
        if len(kept) < len(graphs):
            contexts, finished = tuple(c.select(kept) for c in contexts), finished.select(kept)
            graphs = [graphs[k] for k in kept]
        old, new, start = [g.nodes for g in graphs], [g.size for g in graphs], contexts[0].mask.size(1)
        for g, x, e in zip(graphs, finished.types.cpu(), finished.pairs.cpu(), strict=True):
            g.grow(x[: g.size], torch.cat([e[: g.size, : g.nodes], e[: g.size, start : start + g.size]], 1))
        contexts = self.net.finish(contexts, finished)
        self._plan(graphs, contexts)
        parts = [c.graphs(old, new) for c in contexts]
        for k, g in enumerate(graphs):
            g.contexts = tuple(part[k] for part in parts) if g.size else ()

    def _denoised(self, graphs: list[GrowingGraph], contexts: tuple[Context, ...]) -> NewBlock:
        """Return the next block of each graph after all its diffusion steps."""
        numbers, old, size = torch.tensor(
            [[len(g.blocks), g.nodes, g.size] for g in graphs], device=self.device
        ).unbind(1)
        key = torch.tensor([g.key for g in graphs], device=self.device)
        degree, walks = key[:, 0], key[:, 1:] if key.size(1) > 1 else None
        place = torch.arange(int(size.max()), device=self.device)
        mask = place < size.unsqueeze(1)
        noise = self.noise(graphs)
        nodes, pairs = _entries(old, place, contexts[0].mask.size(1))
        like = TypedGraphs(torch.zeros_like(nodes), torch.zeros_like(pairs), nodes, pairs)

        def predict(now: TypedGraphs, t: Tensor) -> TypedGraphs:
            block = NewBlock(now.nodes, now.pairs, numbers, degree, mask, walks)
            logits = self.net.denoise(contexts, block, (0 * t if self.removes else t).expand(len(graphs)))
            nodes, pairs = (self._tempered(out) for out in logits)
            if self.removes and self.sampler.valence:
                nodes = nodes.masked_fill(self.model.valences < degree[:, None, None], -_UNLIKELY)
            return with_fields(now, [nodes, pairs])

        steps = max(map(self.steps, graphs))
        times = torch.arange(steps, -1, -1, dtype=torch.float64, device=self.device) / steps
        start, process = self.process.prior(like, noise.child(_START)), self.process
        solver = self._solver(graphs, contexts[0].mask, mask, key, steps) if self.removes else Ancestral()
        args = (solver, process, predict, start, times, noise.child(_STEPS))
        end = integrate(*args, denoise=False, replay=not self.removes)
        end.pairs[:, place, contexts[0].mask.size(1) + place] = 0  # a node is not its own neighbour
        return NewBlock(end.nodes, end.pairs, numbers, degree, mask, walks)

    def _solver(self, graphs: list[GrowingGraph], old: Tensor, new: Tensor, key: Tensor, steps: int) -> Solver:
        """Return what draws edges one by one, within the key and so that peeling takes the block, where that can be."""
        past, _, core = (t.to(self.device) for t in past_of(graphs, old.size(1)))
        types = pad_sequence([g.types for g in graphs], batch_first=True).to(self.device)
        config, valences = self.model.config, self.model.valences
        room = valences[types] - past.sum(2)

        def limits(nodes: Tensor, rows: Tensor, left: Tensor) -> list[Tensor]:
            out = [part.unsqueeze(-1) for part in block_edges(past, rows, old, new, key, left, core, config)]
            if self.sampler.valence:
                most = valences[nodes.clamp(max=config.node_types - 1)]  # unknown ones are not asked about
                out.append(keeps_valence(room, most, rows, left, config.edge_types))
            return out

        return StubMatching(torch.where(new, key[:, :1], 0), new, torch.cat([old, new], 1), steps, limits)

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
