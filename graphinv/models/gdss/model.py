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

from graphinv.data import GraphLoader, GraphStore
from graphinv.diffusion import (
    SDE,
    GeneratorNoise,
    GraphProcess,
    Noise,
    PerGraphNoise,
    Solver,
    integrate,
    network_error,
    network_input,
    network_score,
    time_grid,
)
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs, GraphBatch
from graphinv.models.base import GraphGenerator, PaddedBatch, SampleRequest
from graphinv.models.gdss.config import GDSSConfig, SamplerConfig
from graphinv.models.gdss.parts import in_parts, make_networks, make_sde, make_solver, quantise
from graphinv.models.gdss.presets import PRESETS
from graphinv.nn import JointScoreNetwork

__all__ = ["GDSS", "make_solver", "quantise"]

SPREAD = 0.5  # standard deviation of the data, for the network that reads the time


class GDSS(GraphGenerator):
    """Graph diffusion by a system of stochastic differential equations.

    Args:
        config: see ``GDSSConfig``; ``GDSS.preset(name)`` has those of the paper.

    Example:
        >>> from graphinv.testing import random_graphs
        >>> model = GDSS(GDSSConfig(node_types=4, max_nodes=6))
        >>> graphs = random_graphs(8, max_nodes=6, node_types=4, edge_types=3, seed=0)
        >>> model.loss(graphs, torch.Generator().manual_seed(0)).shape
        torch.Size([])
        >>> model.sample(3, seed=0, num_nodes=torch.tensor([2, 5, 6]), steps=4).num_graphs
        3
    """

    kind = "gdss"
    config_class = GDSSConfig
    description = (
        "GDSS (arXiv:2202.02514): all nodes and edges are denoised at once, as real numbers. Two score networks, or "
        "one that reads the time (presets with ppgn), undo two SDEs together. Nodes of molecules are told by their "
        "atoms, nodes of plain graphs by their degrees."
    )
    presets = PRESETS
    any_size = True
    config: GDSSConfig
    moments: Tensor

    def __init__(self, config: GDSSConfig) -> None:
        super().__init__(config, config.max_nodes)
        c = config
        self.process = GraphProcess(
            make_sde(c.node_sde, c.node_low, c.node_high), make_sde(c.edge_sde, c.edge_low, c.edge_high)
        )
        if c.network == "ppgn":
            self.joint_net = JointScoreNetwork(c.node_types, c.node_hidden, c.edge_hidden, c.edge_depth, c.heads)
        else:
            self.node_net, self.edge_net = make_networks(c)
        if c.prior == "matched":  # mean and variance of the entries of x, then of adj
            self.register_buffer("moments", torch.tensor([[0.0], [1.0]]).repeat(1, c.node_types + 1))

    @classmethod
    def config_for(cls, store: GraphStore) -> dict[str, Any]:
        """Return the sizes and types of a store; of plain graphs no types, which are classes of the degree then."""
        values = super().config_for(store)
        if store.vocabulary.scheme == "generic":
            del values["node_types"]
        return values

    def networks(self) -> dict[str, nn.Module]:
        """Return the node and the edge network, or the one for both."""
        if self.config.network == "ppgn":
            return {"joint": self.joint_net}
        return {"node": self.node_net, "edge": self.edge_net}

    def prepare(self, store: GraphStore, *, progress: bool = True) -> GraphStore:
        """Keep the node counts of the store and return it; see the base class."""
        known = len(store.vocabulary.nodes)
        if self.config.node_input == "type" and known != self.config.node_types:
            raise InputError(
                f"the store knows {known} node types {list(store.vocabulary.nodes)}, the model "
                f"{self.config.node_types}; set node_types = {known}, or build the store with the model's vocabulary"
            )
        store = super().prepare(store, progress=progress)
        if self.config.prior == "matched":
            self.moments.copy_(self._moments_of(store))
        return store

    def score(self, g: DenseGraphs, t: Tensor) -> DenseGraphs:
        """Return the scores of both fields of ``g`` at ``t`` (``[B]`` or ``[]``)."""
        return in_parts(self._score, g, t)

    def _score(self, g: DenseGraphs, t: Tensor) -> DenseGraphs:
        if self.config.network == "gdss":
            raw = DenseGraphs(self.node_net(g), self.edge_net(g), g.mask)
            return self.process.map(lambda sde, x: (sde.score(x, t),), raw)[0]
        out: DenseGraphs = self.joint_net(network_input(self.process, g, t, SPREAD), t)
        return network_score(self.process, g, out, t, SPREAD)

    def prior(self, like: DenseGraphs, noise: Noise) -> DenseGraphs:
        """Draw the graphs at t = 1, shaped like ``like``; see ``GDSSConfig.prior``."""
        if self.config.prior == "standard":
            return self.process.prior(like, noise)
        mean, variance = (
            DenseGraphs(row[:-1].expand_as(like.x), row[-1].expand_as(like.adj), like.mask) for row in self.moments
        )

        def update(sde: SDE, z: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, ...]:
            scale, std = sde.marginal(torch.ones_like(z), z.new_ones(()))
            return (scale * mean + (std.square() + scale.square() * variance).sqrt() * z,)

        free = self.process.map(update, self.process.noise(like, noise), mean, variance)[0].masked()
        return DenseGraphs(free.x, free.adj - torch.diag_embed(free.adj.diagonal(dim1=1, dim2=2)), free.mask)

    def _moments_of(self, store: GraphStore) -> Tensor:
        """Return ``[2, F + 1]`` means and variances over the training graphs."""
        sums, counts = torch.zeros(2, self.config.node_types + 1, dtype=torch.float64), torch.zeros(2)
        for batch in GraphLoader(store, "train", shuffle=False):
            g = self.to_fields(batch)
            for k, power in enumerate((1, 2)):
                fields = (g.x.double() ** power).sum((0, 1)), (g.adj.double() ** power).sum().reshape(1)
                sums[k] += torch.cat(fields).cpu()
            n = g.mask.sum(1).cpu()
            counts += torch.stack([n.sum(), (n * (n - 1)).sum()])
        mean, square = sums / counts.clamp(min=1)[[0] * self.config.node_types + [1]]
        return torch.stack([mean, (square - mean.square()).clamp(min=0)])

    def to_fields(self, batch: GraphBatch) -> DenseGraphs:
        """Return x ``[B, M, F]`` one-hot and adj ``[B, M, M]`` real, in the dtype of the weights.

        Raises:
            InputError: a node type is not below F, or a graph has more than max_nodes nodes.
        """
        dense = batch.to_dense()
        if dense.mask.size(1) > self.max_nodes:
            raise InputError(f"a graph has {dense.mask.size(1)} nodes, this model was built for {self.max_nodes}")
        dtype = next(self.parameters()).dtype
        size = self.config.node_types
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

    def pad(self, batch: GraphBatch) -> DenseGraphs:
        """Return the fields of ``batch``."""
        return self.to_fields(batch)

    def losses(self, batch: GraphBatch | PaddedBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the denoising score matching losses of nodes and edges (arXiv:2202.02514, equations 5 to 7).

        Each is the mean over graphs of half the sum over entries (both triangles) of (score std + z)^2, at one time
        per graph drawn from U(1e-5, 1). Of a network that reads the time: of (output - target)^2, see
        ``graphinv.diffusion.precondition``.
        """
        g0 = self.to_padded(batch, DenseGraphs)
        noise = GeneratorNoise(generator)
        t = torch.rand(len(g0.mask), generator=generator, device=g0.x.device, dtype=g0.x.dtype)
        return self.losses_at(g0, t * (1 - 1e-5) + 1e-5, self.process.noise(g0, noise))

    def losses_at(self, g0: DenseGraphs, t: Tensor, z: DenseGraphs) -> dict[str, Tensor]:
        """Return the losses at given times ``[B]`` and noise."""
        noisy = self.process.map(lambda sde, x, z: (sde.forward(x, t, z),), g0, z)[0]
        score = self.score(noisy, t)
        if self.config.network == "gdss":
            error = self.process.map(lambda sde, r, z: (r * sde.marginal(z, t)[1] + z,), score, z)[0].masked()
        else:
            error = network_error(self.process, score, z, t, SPREAD).masked()
        return {name: 0.5 * e.square().flatten(1).sum(1).mean() for name, e in (("node", error.x), ("edge", error.adj))}

    def batches(self, n: int, counts: Tensor | None, request: SampleRequest) -> list[Tensor]:
        """Batch graphs of like size; where norms are over the batch, graphs of all sizes as in the paper's code."""
        return super().batches(n, None if request.sampler.norm == "batch" else counts, request)

    def draw(self, request: SampleRequest, *, solver: Solver | None = None) -> GraphBatch:
        """Return the graphs of ``request``; a ``solver`` object overrides the sampler's."""
        assert request.counts is not None  # sizes are those asked for or of training
        graphs = self._sample_batch(request.counts, request.ids, request.seed, request.sampler, solver, request.step)
        if self.config.node_input == "degree":  # the classes of the degree are no types
            graphs = replace(graphs, x=torch.zeros_like(graphs.x))
        return graphs

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
        empty = weight.new_zeros(len(counts), size, self.config.node_types)
        like = DenseGraphs(empty, weight.new_zeros(len(counts), size, size), mask)
        noise: Noise = PerGraphNoise((ids + (seed << 32)).to(weight.device))
        times = time_grid(sampler.steps, early=sampler.early).to(weight.device)
        own = make_solver(sampler) if solver is None else solver
        prior = self.prior(like, noise.child(0))
        args = (own, self.process, self.score, prior, times, noise.child(1))
        g = integrate(*args, denoise=sampler.denoise, callback=callback, replay=solver is None)
        if self.config.node_input == "degree":
            return quantise(g, "argmax", edge_types=1).to("cpu")
        return quantise(g, sampler.decode).to("cpu")
