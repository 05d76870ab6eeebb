"""PARD: graphs generated block after block, each block by discrete diffusion beside the finished ones.

arXiv:2402.03687. The order of blocks is a property of the graph, so nothing depends on how nodes are numbered. All
blocks of a graph train at once; sampling keeps what finished blocks have computed. Not a sequence model over nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphinv.data import GraphStore
from graphinv.diffusion import DiscreteDiffusion
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.models.base import GraphGenerator, PaddedBatch, SampleRequest, evaluation
from graphinv.models.pard.batch import COLUMNS, BlockBatch, block_batch, block_columns
from graphinv.models.pard.conditions import Conditions
from graphinv.models.pard.config import PARDConfig
from graphinv.models.pard.cores import with_cores
from graphinv.models.pard.likelihood import LogLikelihood, log_likelihood, path_consistency
from graphinv.models.pard.ordered_store import ordered_store
from graphinv.models.pard.path import leaf_keys, next_counts
from graphinv.models.pard.presets import PRESETS, TRAINING
from graphinv.models.pard.removal import remove
from graphinv.nn.block_network import BlockInput, BlockNetwork, ParallelOutput
from graphinv.nn.tokens import TokenNetwork
from graphinv.ops.pairs import from_pairs, to_pairs

__all__ = ["PARD"]


_FEW_NODES = 12  # up to here a network with channels for every pair is as fast


class ElementLosses(NamedTuple):
    """Losses in nats of every part of B graphs; VLB, CE and mask of nodes ``[B, M]`` and pairs ``[B, P]``.

    The heads of blocks have S sizes, and B' + S degrees and further walk counts of keys.
    """

    node: tuple[Tensor, Tensor, Tensor]
    edge: tuple[Tensor, Tensor, Tensor]
    size: Tensor
    degree: Tensor
    walks: Tensor

    def diffused(self) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Return the parts that diffuse, by name."""
        return {"node": self.node, "edge": self.edge}


class PARD(GraphGenerator):
    """Permutation-invariant autoregressive diffusion.

    Args:
        config: see ``PARDConfig``; ``PARD.preset(name)`` has those of the paper.

    Example:
        >>> from graphinv.testing import random_graphs
        >>> model = PARD(PARDConfig(max_nodes=6, node_dim=16, edge_dim=8, layers=2, heads=2))
        >>> graphs = random_graphs(8, max_nodes=6, node_types=4, edge_types=3, seed=0)
        >>> model.loss(graphs, torch.Generator().manual_seed(0)).shape
        torch.Size([])
        >>> model.sample(3, seed=0, num_nodes=torch.tensor([2, 5, 6])).node_counts().tolist()
        [2, 5, 6]
    """

    kind = "pard"
    config_class = PARDConfig
    description = (
        "PARD (arXiv:2402.03687): a graph grows block after block, each by a discrete diffusion beside the finished "
        "ones. A block holds the nodes that look alike H hops around (--model.max_hops), so nothing depends on how "
        "nodes are numbered. H = 0 is one block, plain diffusion of the whole graph; more hops make more, smaller and "
        "easier blocks. Molecules take 3 (about 7 blocks with hydrogens), large plain graphs 1. The order is computed "
        "first, or once and for all by data build --max-hops. On two CPU cores the preset smallmol takes minutes and "
        "qm9 hours; presets that end in -tokens are for larger graphs and small machines, and graphs of more than 12 "
        "nodes take the preset tokens if none is asked for; the presets of the paper want a GPU."
    )
    presets = PRESETS
    training_defaults = TRAINING
    default_batch_size = 512
    draws_sizes = True
    config: PARDConfig
    node_counts: Tensor
    pair_counts: Tensor
    first_sizes: Tensor
    sizes: Tensor
    degrees: Tensor
    valences: Tensor

    def __init__(self, config: PARDConfig) -> None:
        super().__init__(config, config.max_nodes)
        c = config
        self.net: BlockNetwork | TokenNetwork
        if c.network == "tokens":
            self.net = TokenNetwork(c.shapes())
        else:
            self.net = BlockNetwork(c.shapes(), shared=c.trunk == "shared")
        lengths = (c.node_types, c.edge_types + 1, c.max_nodes + 1, c.max_nodes + 1, c.max_nodes)
        for name, length in zip(COLUMNS, lengths, strict=True):
            self.register_buffer(name, torch.zeros(length, dtype=torch.long))
        self.conditions = Conditions(c.conditions)
        self.register_buffer("valences", torch.zeros(c.node_types, dtype=torch.long))
        self._made: tuple[Any, list[DiscreteDiffusion]] | None = None

    @classmethod
    def preset_for(cls, store: GraphStore) -> str | None:
        """Return "tokens" for graphs of which channels for every pair would be most of the work."""
        return "tokens" if store.node_histogram("all").numel() - 1 > _FEW_NODES else None

    def networks(self) -> dict[str, nn.Module]:
        """Return the one network, denoiser and block heads together."""
        return {"net": self.net}

    def evaluated(self) -> list[nn.Module]:
        """Return the trunks: they run once per denoising step, and once more for each finished block."""
        trunks = self.net.trunk, getattr(self.net, "block_trunk", None)
        return [trunk for trunk in trunks if trunk is not None]

    def prepare(self, store: GraphStore, *, progress: bool = True) -> GraphStore:
        """Return the store with the blocks of this model's order; keep the statistics that sampling needs.

        Raises:
            InputError: the store has no training graphs, larger ones than the model allows, or other types.
        """
        known = (len(store.vocabulary.nodes), len(store.vocabulary.edges))
        if known[0] != self.config.node_types or known[1] > self.config.edge_types:
            raise InputError(
                f"the store knows {known[0]} node types {list(store.vocabulary.nodes)} and {known[1]} edge types, the "
                f"model {self.config.node_types} and {self.config.edge_types}; set node_types = {known[0]} and "
                f"edge_types = {known[1]}, or build the store with the model's vocabulary"
            )
        store = ordered_store(
            super().prepare(store, progress=progress), self.config.max_hops, self._legacy, progress=progress
        )
        train = store.indices("train")
        self.conditions.fit(store, train)
        counts = {name: getattr(self, name).zero_() for name in COLUMNS}
        valences = torch.zeros(len(self.valences), dtype=torch.long)
        for index in torch.split(train, 4096):
            batch = store.batch(index)
            bonds = torch.ones_like(batch.edge_index[0]) if batch.edge_attr is None else batch.edge_attr.long()
            used = torch.zeros_like(batch.x, dtype=torch.long).index_add_(0, batch.edge_index[0], bonds)
            valences.scatter_reduce_(0, batch.x.long(), used, "amax")
            for name, values in block_columns(batch, self._legacy).items():
                counts[name] += torch.bincount(values, minlength=len(counts[name])).to(counts[name].device)
        self.valences.copy_(valences)
        nodes = store.node_counts(train)
        self.pair_counts[0] += int((nodes * (nodes - 1) // 2).sum()) - int(self.pair_counts.sum())
        return store

    @property
    def _judges(self) -> bool:
        """Whether keys of single leaves are those that they can have."""
        return self.config.prior == "empty" and self.net.settings.walks > 0 and self.config.closing_hops > 0

    @property
    def _legacy(self) -> bool:
        return self.config.order == "legacy"

    def pad(self, batch: GraphBatch) -> BlockBatch:
        """Return ``batch`` dense and sorted by block.

        Raises:
            InputError: a graph is too large, or a node or edge type is not one of the model's.
        """
        g = block_batch(batch, self.net.settings, self.config.max_hops, self._legacy)
        return replace(g, condition=self.conditions.of(batch))

    def processes(self) -> tuple[DiscreteDiffusion, DiscreteDiffusion]:
        """Return the diffusions of node types and of pair types; marginals are uniform before ``prepare``."""
        node, pair, *_ = self._processes()
        return node, pair

    def _processes(self) -> list[DiscreteDiffusion]:
        """Return the diffusions of node and pair types, then those that ``_disturbed`` draws from."""
        counts = (self.node_counts, self.pair_counts)
        key = [(id(c), c._version, c.device) for c in counts]  # looking at the counts would wait for a GPU
        if self._made is None or self._made[0] != key:
            others = [DiscreteDiffusion.marginal(c.cpu().double() + 1e-3).to(c.device) for c in counts]
            self._made = key, [*map(self._process, counts), *others]
        return self._made[1]

    def _process(self, counts: Tensor) -> DiscreteDiffusion:
        if self.config.prior in ("absorbing", "empty"):  # the latter for nodes; edges have a process of their own
            process = DiscreteDiffusion.absorbing(counts.numel())
        elif self.config.prior == "uniform":
            process = DiscreteDiffusion.uniform(counts.numel())
        else:
            known = counts.cpu().double()
            process = DiscreteDiffusion.marginal(known if bool(known.any()) else torch.ones_like(known))
        return process.to(counts.device)

    def losses(self, batch: GraphBatch | PaddedBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the losses in nats per graph: of node types, pair types, block sizes, block degrees and walk counts.

        Each element has VLB + ce_weight CE at one time t of 1/T .. 1 (VLB: the term of t, not multiplied by T), summed
        over all blocks; each pair counts once. A stop is a next block of size 0 and degree 0. ``batch.block``, where a
        batch carries it, is taken for this model's order, as ``prepare`` makes it. Under the prior "empty" nodes and
        pairs have the bound at a random level alone (``graphinv.models.pard.removal``), times 1 + ce_weight.
        """
        g = self.to_padded(batch, BlockBatch)
        if self.config.conditions:
            g = replace(g, condition=self.conditions.drop(g.condition, self.config.condition_dropout, generator))
        if self.config.cores:
            g = with_cores(g, self.config, generator)
        if self.config.prior == "empty":
            return self._removal_parts(g, generator)
        step, uniform = self.draw_noise(g, generator)
        e = self.losses_per_element(g, step, uniform, self._disturbed(g, generator))
        weight = self.config.ce_weight
        parts = {name: torch.where(mask, vlb + weight * ce, 0.0) for name, (vlb, ce, mask) in e.diffused().items()}
        return self._parts(parts["node"], parts["edge"], e.size, e.degree, e.walks)

    def _removal_parts(self, g: BlockBatch, generator: torch.Generator | None) -> dict[str, Tensor]:
        size, count, device = g.types.size(1), len(g.types), g.types.device
        copies = self.config.copies
        shapes = (1, count, self.max_nodes + 1), (copies, count, size), (copies, count, size * (size - 1) // 2)
        level, node, pair = (torch.rand(shape, generator=generator, device=device) for shape in shapes)
        level = (level + torch.arange(copies, device=device)[:, None, None] / copies) % 1
        nodes, edges, *heads = self.removal_losses(g, level, node, pair, self._disturbed(g, generator))
        weight = 1 + self.config.ce_weight
        return self._parts(weight * nodes, weight * edges, *heads)

    def _parts(self, *losses: Tensor) -> dict[str, Tensor]:
        """Return the losses per graph of nodes ``[B, *]``, edges ``[B, *]`` and block heads, by name."""
        names = ("node", "edge", "size", "degree", "walks")[: 5 if self.net.settings.walks else 4]
        count = max(len(losses[0]), 1)
        return {name: part.sum() / count for name, part in zip(names, losses, strict=False)}

    def removal_losses(
        self,
        g: BlockBatch,
        level: Tensor,
        node: Tensor,
        pair: Tensor,
        context: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the bounds ``[B]`` of nodes and edges under the prior "empty", and losses of sizes, degrees and walks.

        Args:
            g: the graphs.
            level: ``[B, max_nodes + 1]`` or ``[C, B, max_nodes + 1]`` in [0, 1), how far each block has come; the
                bounds are means over C.
            node: ``[B, M]`` or ``[C, B, M]`` in [0, 1), which nodes have come first.
            pair: ``[B, P]`` or ``[C, B, P]`` in [0, 1), which edges.
            context: as in ``losses_per_element``.
        """
        drawn = ([t] if t.dim() == 2 else list(t) for t in (level, node, pair))
        left = [remove(g, self.config, at.gather(1, g.block), *order) for at, *order in zip(*drawn, strict=True)]
        types, pairs = (g.types, g.pairs) if context is None else context
        time = torch.zeros_like(left[0].node_weight, dtype=next(self.parameters()).dtype)
        shown = torch.stack([types, *(r.types for r in left)]), torch.stack([pairs, *(r.pairs for r in left)])
        out = self.net(BlockInput(*shown, g.block, g.degree, time, g.mask, g.walks, g.condition, g.core))
        parts = zip(out.nodes.chunk(len(left)), out.pairs.chunk(len(left)), strict=True)
        bounds = [r.losses(*part, g) for r, part in zip(left, parts, strict=True)]
        node_bound, edge_bound = (torch.stack(bound).mean(0) for bound in zip(*bounds, strict=True))
        return node_bound, edge_bound, *self._block_losses(g, out)

    def draw_noise(self, g: BlockBatch, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw times t T ``[B, M]`` in 1..T, one per block or per graph, and uniform noise ``[B, M + P]``."""
        size, device = g.types.size(1), g.types.device
        shape = (g.block.size(0), self.max_nodes + 1 if self.config.block_time else 1)
        step = torch.randint(1, self.config.diffusion_steps + 1, shape, generator=generator, device=device)
        step = step.expand(-1, self.max_nodes + 1).gather(1, g.block)
        return step, torch.rand(shape[0], size + size * (size - 1) // 2, generator=generator, device=device)

    def losses_per_element(
        self, g: BlockBatch, step: Tensor, uniform: Tensor, context: tuple[Tensor, Tensor] | None = None
    ) -> ElementLosses:
        """Return the losses of every node, pair, block size and block degree at given times and noise.

        Args:
            g: the graphs.
            step: ``[B, M]`` times t T in 1..T of each node's block.
            uniform: ``[B, M + P]`` in [0, 1): noise of the nodes, then of the pairs.
            context: node types ``[B, M]`` and pair types ``[B, M, M]`` to show as finished; the true ones if None.
        """
        size, steps = g.types.size(1), self.config.diffusion_steps
        later = step[
            :, torch.triu_indices(size, size, 1, device=step.device)[1]
        ]  # a pair has the time of its later end
        node, pair = self.processes()
        targets, times = (g.types, to_pairs(g.pairs)), (step.double() / steps, later.double() / steps)
        u = torch.split(uniform, [size, later.size(1)], 1)
        noisy = (node.q_sample(targets[0], times[0], u[0]), pair.q_sample(targets[1], times[1], u[1]))
        shown = (g.types, g.pairs) if context is None else context
        types, pairs = torch.stack([shown[0], noisy[0]]), torch.stack([shown[1], from_pairs(noisy[1], size)])
        out = self.net(BlockInput(types, pairs, g.block, g.degree, step / steps, g.mask, g.walks, g.condition, g.core))
        before = (times[0] - 1 / steps).clamp(min=0), (times[1] - 1 / steps).clamp(min=0)
        pair_mask = to_pairs(g.mask.unsqueeze(1) & g.mask.unsqueeze(2) & ~(g.core.unsqueeze(1) & g.core.unsqueeze(2)))
        return ElementLosses(
            (*node.losses(out.nodes.float(), targets[0], noisy[0], times[0], before[0]), g.mask & ~g.core),
            (*pair.losses(out.pairs.float(), targets[1], noisy[1], times[1], before[1]), pair_mask),
            *self._block_losses(g, out),
        )

    def _block_losses(self, g: BlockBatch, out: ParallelOutput) -> tuple[Tensor, Tensor, Tensor]:
        heads = self.net.properties
        totals = out.totals.flatten(0, 1)[g.last]
        size = F.cross_entropy(heads.sizes(totals), g.next_size, reduction="none")
        start = self.net.start(g.condition).index_select(0, g.first_graph).to(totals.dtype)
        if self.config.conditions:  # else the size of a first block has nothing to learn
            first = -heads.first_sizes(self.first_sizes, start).gather(1, g.first_size.unsqueeze(1)).squeeze(1)
            size = torch.cat([size, first.to(size.dtype)])
        degrees = torch.cat([heads.first_degrees(g.first_size, start), heads.degrees(totals, g.next_size)])
        target = torch.cat([g.first_degree, g.next_degree])
        degree = F.cross_entropy(degrees, target, reduction="none")
        before = torch.cat([start, totals])
        sizes = torch.cat([g.first_size, g.next_size])
        key = torch.cat([target.unsqueeze(1), torch.cat([g.first_walks, g.next_walks])], 1)
        walks = torch.zeros_like(degree)
        leaf, sites, counts = self._leaves(g) if self._judges else (None, None, None)
        for k in range(1, key.size(1)):
            logits = heads.walk_counts(before, sizes, key[:, :k])
            if leaf is not None and sites is not None and counts is not None:
                can = next_counts(sites, counts, key[leaf, 1:k], logits.size(1))
                logits[leaf] = logits[leaf].masked_fill(~can, -torch.inf)
            walks = walks + F.cross_entropy(logits, key[:, k], reduction="none")
        return size, degree, torch.where(sizes > 0, walks, 0.0)

    def _leaves(self, g: BlockBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return which keys ``[Q]`` of all are of single leaves, where those may join and with which walk counts."""
        following = torch.cat([torch.zeros_like(g.first_size), g.next_size])
        degree = torch.cat([g.first_degree, g.next_degree])
        leaf = ((following == 1) & (degree == 1)).nonzero().squeeze(1)
        last = g.last[leaf - len(g.first_size)]
        graph = torch.div(last, max(g.types.size(1), 1), rounding_mode="floor")
        exists = (g.block[graph] <= g.block.flatten()[last].unsqueeze(1)) & g.mask[graph]
        past = g.pairs[graph] * (exists.unsqueeze(1) & exists.unsqueeze(2))
        return leaf, *leaf_keys(past, exists, g.core[graph], self.net.settings.walks, self.config)

    def _disturbed(self, g: BlockBatch, generator: torch.Generator | None) -> tuple[Tensor, Tensor] | None:
        """Return the context with a share of its entries redrawn from the marginals: what sampling errors look like."""
        share, shown = self.config.context_noise, []
        if share == 0:
            return None
        for marginal, x in zip(self._processes()[2:], (g.types, to_pairs(g.pairs)), strict=True):
            u = torch.rand(2, *x.shape, generator=generator, device=x.device)
            shown.append(torch.where(u[1] < share, marginal.start(u[0]), x))
        return shown[0], from_pairs(shown[1], g.types.size(1))

    def log_likelihood(self, batch: GraphBatch, *, samples: int = 16, seed: int = 0) -> LogLikelihood:
        """Estimate a lower bound on the log probability of each graph, in nats.

        Sizes and degrees are exact, as the heads give them (sampling also leaves out what was never seen in training);
        blocks get their variational bound at ``samples`` random times and noises each.

        Args:
            batch: the graphs; their blocks are those of their own order, whatever they carry.
            samples: draws per graph; the error of the estimate falls with their square root.
            seed: graph k depends on (seed, k) only.

        Raises:
            InputError: the model was not trained, or a graph does not fit it.
        """
        with evaluation(self):
            return log_likelihood(self, batch, samples, seed)

    def path_consistency(self, batch: GraphBatch) -> Tensor:
        """Return ``[B]`` bool: whether each drawn graph's own block order is the path on which it was generated."""
        return path_consistency(batch, self.config.max_hops, self._legacy)

    def batches(self, n: int, counts: Tensor | None, request: SampleRequest) -> list[Tensor]:
        """Return all graphs in one: many are under way, and the blocks of like size are batched as they come."""
        return [torch.arange(n)]

    def draw(
        self,
        request: SampleRequest,
        *,
        condition: Mapping[str, float | Tensor | Sequence[float]] | None = None,
        core: GraphBatch | None = None,
    ) -> GraphBatch:
        """Return the graphs of ``request``; ``block`` is the block in which each node was generated.

        ``condition`` says which values of the numbers that the model is told graphs should have, one for all or one
        for each; those left out may have any value. Graphs begin with the graph of ``core``, one for all or one for
        each, whose nodes come first; none of its edges changes and none is added between its nodes.

        The model stops where it likes if there are no counts. A call of the network takes one block each of up to
        ``batch_size`` graphs; more are under way, as memory allows.
        """
        from graphinv.models.pard.sampler import draw_graphs

        r = request
        wanted = self.conditions.request(condition or {}, len(r.ids))
        cores = None if core is None else self._cores(core, len(r.ids))
        return draw_graphs(
            self, len(r.ids), r.seed, r.counts, r.sampler, r.batch_size, r.tick, condition=wanted, cores=cores
        )

    def _cores(self, core: GraphBatch, count: int) -> list[tuple[Tensor, Tensor]]:
        """Return node types ``[s]`` and pair types ``[s, s]`` of what each of ``count`` graphs begins with."""
        if not self.config.cores:
            raise InputError("this model was not trained to continue cores; train it with cores = 0.3, for example")
        if core.num_graphs not in (1, count):
            raise InputError(f"core must hold one graph or {count}, got {core.num_graphs}")
        sizes = core.node_counts()
        if not int(sizes.min()) or int(sizes.max()) >= self.max_nodes:
            raise InputError(
                f"a core has 1 .. {self.max_nodes - 1} nodes, below the {self.max_nodes} of the largest graph; "
                f"got {int(sizes.min())} .. {int(sizes.max())}"
            )
        self.pad(core)  # checks its types
        dense = core.to_dense()
        parts = [(dense.x[k, :n].long().cpu(), dense.adj[k, :n, :n].long().cpu()) for k, n in enumerate(sizes.tolist())]
        return parts * (count if core.num_graphs == 1 else 1)
