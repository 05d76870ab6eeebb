"""What a GDSS model is made of, from its settings: SDEs, networks and solver, and how real fields become graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphinv.diffusion import (
    S4,
    SDE,
    VESDE,
    VPSDE,
    EulerMaruyama,
    Exponential,
    Heun,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    Solver,
    SubVPSDE,
)
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs, GraphBatch
from graphinv.models.gdss.config import GDSSConfig, SamplerConfig
from graphinv.nn import ScoreNetworkA, ScoreNetworkX, ScoreNetworkX_GMH

__all__ = ["in_parts", "make_networks", "make_sde", "make_solver", "quantise"]

PAIRS = 1 << 14  # entries of adj per call on a CPU: its caches hold the maps of so many


def in_parts(
    network: Callable[[DenseGraphs, Tensor], DenseGraphs], g: DenseGraphs, t: Tensor, pairs: int = PAIRS
) -> DenseGraphs:
    """Return ``network(g, t)``, on a CPU computed for few graphs of like size at a time; elsewhere in one call.

    Args:
        network: takes graphs and times ``[b]`` or ``[]``; one graph's result must not depend on the others.
        g: x ``[B, M, F]`` and adj ``[B, M, M]``.
        t: ``[B]`` or ``[]``.
        pairs: entries of adj per call, where more than one graph is left.

    Returns:
        x and adj as ``network`` shapes them, zero beyond each graph's last node.
    """
    if g.mask.device.type != "cpu" or g.adj.numel() <= pairs:
        return network(g, t)
    width = g.mask.size(1)
    sizes = (g.mask * torch.arange(1, width + 1)).amax(1).clamp(min=1)
    order, start = torch.argsort(sizes, descending=True, stable=True), 0
    ordered = sizes[order].tolist()
    x, adj = torch.zeros_like(g.x), torch.zeros_like(g.adj)
    while start < len(ordered):
        size = ordered[start]
        end = start + 1
        while end < len(ordered) and (end - start + 1) * size**2 <= pairs and ordered[end] >= 0.8 * size:
            end += 1
        ids = order[start:end]
        part = DenseGraphs(g.x[ids, :size], g.adj[ids, :size, :size], g.mask[ids, :size])
        out = network(part, t[ids] if t.dim() else t)
        x[ids, :size], adj[ids, :size, :size] = out.x.to(x.dtype), out.adj.to(adj.dtype)  # lower under autocast
        start = end
    return DenseGraphs(x, adj, g.mask)


def make_networks(c: GDSSConfig) -> tuple[nn.Module, nn.Module]:
    """Return the node and the edge network of ``c``, whose ``network`` is "gdss"."""
    node: nn.Module
    edges = (c.mlp_layers, c.channels_init, c.channels)
    if c.node_network == "gcn":
        node = ScoreNetworkX(c.node_types, c.node_depth, c.node_hidden)
    else:
        node = ScoreNetworkX_GMH(c.node_types, c.node_depth, c.node_hidden, c.attention, *edges, c.heads)
    widths = (c.edge_depth, c.edge_hidden, c.attention, *edges, c.channels_final, c.heads)
    return node, ScoreNetworkA(c.node_types, *widths)


def make_sde(name: str, low: float, high: float) -> SDE:
    """Return the SDE of that name, "vp", "ve" or "subvp", with beta or sigma from ``low`` to ``high``."""
    kinds: dict[str, type[VPSDE] | type[VESDE]] = {"vp": VPSDE, "subvp": SubVPSDE, "ve": VESDE}
    if name not in kinds:
        raise InputError(f"unknown SDE {name!r}; available: {', '.join(kinds)}")
    return kinds[name](low, high)


def make_solver(sampler: SamplerConfig) -> Solver:
    """Return the solver that ``sampler`` names."""
    corrector = Langevin(sampler.snr, sampler.scale_eps, norm=sampler.norm)
    if sampler.solver == "s4":
        return S4(corrector)
    if sampler.solver == "exponential":
        return Exponential(multistep=True, corrector=corrector)
    if sampler.solver == "flow":
        return Exponential(stochastic=False, multistep=True)
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
