"""GDSS: score-based generation of graphs by a system of SDEs over node features and adjacency (arXiv:2202.02514).

Nodes and edges each own an SDE under one time and a score network that reads both noisy fields. Bond types are one
real number per pair (0 none, 1 single, 2 double, 3 triple), as in the paper. Not autoregressive: all entries at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from graphinv.data import GraphStore
from graphinv.diffusion import (
    S4,
    SDE,
    VESDE,
    VPSDE,
    EulerMaruyama,
    Exponential,
    GeneratorNoise,
    GraphSDE,
    Heun,
    Langevin,
    Noise,
    PerGraphNoise,
    PredictorCorrector,
    ReverseDiffusion,
    Solver,
    SubVPSDE,
    integrate,
    time_grid,
)
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs, GraphBatch
from graphinv.models.base import GraphGenerator
from graphinv.models.settings import GDSSConfig, SamplerConfig
from graphinv.nn import ScoreNetworkA, ScoreNetworkX, ScoreNetworkX_GMH

__all__ = ["GDSS", "make_solver", "quantise"]


class GDSS(GraphGenerator):
    """Graph diffusion by a system of stochastic differential equations.

    Args:
        config: see ``GDSSConfig``; ``GDSS.preset(name)`` has those of the paper.

    Example:
        >>> from graphinv.testing import random_graphs
        >>> model = GDSS(GDSSConfig(features=4, max_nodes=6))
        >>> graphs = random_graphs(8, max_nodes=6, node_types=4, edge_types=3, seed=0)
        >>> model.loss(graphs, torch.Generator().manual_seed(0)).shape
        torch.Size([])
        >>> model.sample(3, seed=0, num_nodes=torch.tensor([2, 5, 6]), steps=4).num_graphs
        3
    """

    kind = "gdss"
    config_class = GDSSConfig
    config: GDSSConfig

    def __init__(self, config: GDSSConfig) -> None:
        super().__init__(config, config.max_nodes)
        c = config
        self.sde = GraphSDE(_sde(c.node_sde, c.node_low, c.node_high), _sde(c.edge_sde, c.edge_low, c.edge_high))
        self.node_net: nn.Module
        if c.node_network == "gcn":
            self.node_net = ScoreNetworkX(c.features, c.node_depth, c.node_hidden)
        else:
            self.node_net = ScoreNetworkX_GMH(
                c.features, c.node_depth, c.node_hidden, c.attention, c.mlp_layers, c.channels_init, c.channels, c.heads
            )
        self.edge_net = ScoreNetworkA(
            c.features,
            c.edge_depth,
            c.edge_hidden,
            c.attention,
            c.mlp_layers,
            c.channels_init,
            c.channels,
            c.channels_final,
            c.heads,
        )

    @classmethod
    def preset(cls, name: str, *, seed: int = 0, **changes: Any) -> GDSS:
        """Return an untrained model with the paper's settings for a data set.

        Args:
            name: qm9, zinc250k, zinc250k-gmh, ego_small, community_small, ENZYMES, grid or smallmol.
            seed: of the initial weights.
            changes: fields of ``GDSSConfig`` to replace.

        Example:
            >>> GDSS.preset("qm9", max_nodes=7).config.max_nodes
            7
        """
        from graphinv.models.presets import gdss_preset

        return cls.seeded(replace(gdss_preset(name).model, **changes), seed)

    def networks(self) -> dict[str, nn.Module]:
        """Return the node and the edge network."""
        return {"node": self.node_net, "edge": self.edge_net}

    def prepare(self, store: GraphStore, *, progress: bool = True) -> GraphStore:
        """Keep the node counts of the store and return it; see the base class."""
        known = len(store.vocabulary.nodes)
        if self.config.node_input == "type" and known != self.config.features:
            raise InputError(
                f"the store knows {known} node types {list(store.vocabulary.nodes)}, the model "
                f"{self.config.features}; set features = {known}, or build the store with the model's vocabulary"
            )
        return super().prepare(store, progress=progress)

    def score(self, g: DenseGraphs, t: Tensor) -> DenseGraphs:
        """Return the scores of both fields of ``g`` at ``t`` (``[B]`` or ``[]``)."""
        return self.sde.score(DenseGraphs(self.node_net(g), self.edge_net(g), g.mask), t)

    def to_fields(self, batch: GraphBatch) -> DenseGraphs:
        """Return x ``[B, M, F]`` one-hot and adj ``[B, M, M]`` real, in the dtype of the weights.

        Raises:
            InputError: a node type is not below F, or a graph has more than max_nodes nodes.
        """
        dense = batch.to_dense()
        if dense.mask.size(1) > self.max_nodes:
            raise InputError(f"a graph has {dense.mask.size(1)} nodes, this model was built for {self.max_nodes}")
        dtype = next(self.parameters()).dtype
        size = self.config.features
        if self.config.node_input == "degree":
            kind = (dense.adj != 0).sum(-1).clamp(max=size - 1)
        else:
            kind = dense.x.to(torch.long)
            if batch.x.dim() != 1 or (kind.numel() and int(kind.max()) >= size):
                raise InputError(
                    f"this model knows {size} node types (0..{size - 1}), the batch holds x {list(batch.x.shape)} "
                    f"up to {int(kind.max())}: store and model have different vocabularies"
                )
        x = nn.functional.one_hot(kind, size).to(dtype)
        return DenseGraphs(x, dense.adj.to(dtype), dense.mask).masked()

    def losses(self, batch: GraphBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the denoising score matching losses of nodes and edges (arXiv:2202.02514, equations 5 to 7).

        Each is the mean over graphs of half the sum over entries (both triangles) of (score std + z)^2, at one time
        per graph drawn from U(1e-5, 1).
        """
        g0 = self.to_fields(batch)
        noise = GeneratorNoise(generator)
        t = torch.rand(batch.num_graphs, generator=generator, device=g0.x.device, dtype=g0.x.dtype)
        return self.losses_at(g0, t * (1 - 1e-5) + 1e-5, self.sde.noise(g0, noise))

    def losses_at(self, g0: DenseGraphs, t: Tensor, z: DenseGraphs) -> dict[str, Tensor]:
        """Return the losses at given times ``[B]`` and noise."""
        mean, std = self.sde.marginal(g0, t)
        noisy = self.sde.apply(lambda sde, m, s, e: (m + s * e,), mean, std, z)[0]
        score = self.score(noisy, t)
        error = self.sde.apply(lambda sde, r, s, e: ((r * s + e).square(),), score, std, z)[0].masked()
        return {"node": 0.5 * error.x.flatten(1).sum(1).mean(), "edge": 0.5 * error.adj.flatten(1).sum(1).mean()}

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        num_nodes: Tensor | None = None,
        steps: int | None = None,
        batch_size: int = 1024,
        callback: Callable[[int, int, Any], None] | None = None,
        sampler: SamplerConfig | None = None,
        solver: Solver | None = None,
    ) -> GraphBatch:
        """Draw n graphs.

        Args:
            n: graphs to draw.
            seed: graph k depends on (seed, k) only (with the "graph" norm), up to floating-point rounding.
            num_nodes: ``[n]`` node counts; drawn from the training histogram if None.
            steps: solver steps, overriding the sampler's.
            batch_size: graphs per network call; graphs of like size go together.
            callback: called as ``callback(done, total, graphs)`` after every solver step of every batch.
            sampler: settings; the model's own if None.
            solver: a solver object, overriding the sampler's.
        """
        if n < 0 or batch_size < 1:
            raise InputError(f"expected n >= 0 and batch_size >= 1, got {n} and {batch_size}")
        if not 0 <= seed < 2**31:
            raise InputError(f"seed must be in 0..{2**31 - 1}, got {seed}")
        sampler = sampler or self.config.sampler
        sampler = sampler if steps is None else replace(sampler, steps=steps)
        counts = self.draw_node_counts(n, seed) if num_nodes is None else num_nodes.to("cpu", torch.long)
        if counts.shape != (n,) or (n and int(counts.min()) < 0):
            raise InputError(f"num_nodes must be [{n}] counts >= 0, got {list(counts.shape)}")
        # norms over the batch are of graphs of all sizes in the paper's code
        order = torch.arange(n) if sampler.norm == "batch" else torch.argsort(counts, stable=True)
        chunks = [order[k : k + batch_size] for k in range(0, n, batch_size)]
        parts = []
        for number, chunk in enumerate(chunks):
            tick = None if callback is None else _shifted(callback, number, len(chunks))
            parts.append(self._sample_batch(counts[chunk], chunk, seed, sampler, solver, tick))
        return GraphBatch.from_graphs(parts).select(torch.argsort(order)) if parts else _no_graphs()

    def _sample_batch(
        self,
        counts: Tensor,
        ids: Tensor,
        seed: int,
        sampler: SamplerConfig,
        solver: Solver | None,
        callback: Callable[[int, int, Any], None] | None,
    ) -> GraphBatch:
        weight = next(self.parameters())
        size = max(int(counts.max()), 1)
        mask = (torch.arange(size) < counts.unsqueeze(1)).to(weight.device)
        empty = weight.new_zeros(len(counts), size, self.config.features)
        like = DenseGraphs(empty, weight.new_zeros(len(counts), size, size), mask)
        noise: Noise = PerGraphNoise((ids + (seed << 32)).to(weight.device))
        times = time_grid(sampler.steps).to(weight.device)
        solver = solver or make_solver(sampler)
        prior = self.sde.prior(like, noise)
        args = (solver, self.sde, self.score, prior, times, noise)
        g = integrate(*args, denoise=sampler.denoise, callback=callback)
        if self.config.node_input == "degree":
            return quantise(g, "argmax", edge_types=1).to("cpu")
        return quantise(g, sampler.decode).to("cpu")


def make_solver(sampler: SamplerConfig) -> Solver:
    """Return the solver that ``sampler`` names."""
    corrector = Langevin(sampler.snr, sampler.scale_eps, norm=sampler.norm)
    if sampler.solver == "s4":
        return S4(corrector)
    if sampler.solver == "exponential":
        return Exponential(multistep=True, corrector=corrector)
    if sampler.solver == "heun":
        return Heun()
    predictor = ReverseDiffusion() if sampler.solver == "reverse" else EulerMaruyama()
    return PredictorCorrector(predictor, corrector if sampler.snr > 0 else None)


def quantise(g: DenseGraphs, decode: str = "argmax", edge_types: int = 3) -> GraphBatch:
    """Round real fields to a packed graph: edge types at the half integers, node types by ``decode``.

    Args:
        g: x ``[B, M, F]`` and adj ``[B, M, M]`` real.
        decode: "argmax" keeps every node of the mask; "threshold" takes the first entry above .5 and drops nodes
            without one.
        edge_types: K; values round to 0..K, the half rounding up.

    Example:
        >>> adj = torch.tensor([[[0.0, 1.5], [1.5, 0.0]]])
        >>> g = DenseGraphs(torch.tensor([[[0.2, 0.4], [0.9, 0.8]]]), adj, torch.ones(1, 2, dtype=torch.bool))
        >>> quantise(g).x.tolist(), quantise(g).edge_attr.tolist(), quantise(g, "threshold").x.tolist()
        ([1, 0], [2, 2], [0])
    """
    steps = torch.arange(edge_types, device=g.adj.device) + 0.5
    adj = (g.adj.unsqueeze(-1) >= steps).sum(-1)  # rounding adj + 0.5 down would lift the value just below a half
    # the first maximum of a 0/1 row is its first entry above .5
    kind = (g.x if decode == "argmax" else (g.x > 0.5).to(torch.uint8)).argmax(-1)
    mask = g.mask if decode == "argmax" else g.mask & (g.x > 0.5).any(-1)
    return DenseGraphs(kind, adj, mask).masked().to_packed()


def _sde(name: str, low: float, high: float) -> SDE:
    kinds: dict[str, type[VPSDE] | type[VESDE]] = {"vp": VPSDE, "subvp": SubVPSDE, "ve": VESDE}
    if name not in kinds:
        raise InputError(f"unknown SDE {name!r}; available: {', '.join(kinds)}")
    return kinds[name](low, high)


def _shifted(callback: Callable[[int, int, Any], None], part: int, parts: int) -> Callable[[int, int, Any], None]:
    return lambda k, total, g: callback(part * total + k, parts * total, g)


def _no_graphs() -> GraphBatch:
    empty = torch.zeros(0, dtype=torch.long)
    return GraphBatch(empty, empty.reshape(2, 0), empty, empty.new_zeros(1), empty.new_zeros(1))
