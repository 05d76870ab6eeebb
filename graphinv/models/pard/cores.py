"""Cores: parts of training graphs that count as there from the beginning, so that a model learns to continue a part.

A core is a scaffold (what is left when ends are taken away until none is left), a ring system (edges that lie on
cycles, connected) or any connected piece. Peeling then takes everything but the core.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphinv.diffusion import block_order
from graphinv.graphs import DenseGraphs
from graphinv.models.pard.batch import BlockBatch, block_batch
from graphinv.models.pard.config import PARDConfig

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["draw_core", "with_cores"]


def with_cores(g: BlockBatch, config: PARDConfig, generator: torch.Generator | None = None) -> BlockBatch:
    """Return the graphs with a random core each for a share of ``config.cores``, in the order that continues it."""
    count, size = g.types.shape
    draws = torch.rand(count, 2, generator=generator, device=g.types.device).tolist()
    packed = DenseGraphs(g.types, g.pairs, g.mask).to_packed()
    block, core = g.block[g.mask], torch.zeros(count, size, dtype=torch.bool, device=g.types.device)
    chosen = [k for k, (share, _) in enumerate(draws) if share < config.cores]
    if not chosen:
        return g
    for k in chosen:
        nodes = draw_core(g.pairs[k] > 0, int(g.mask[k].sum()), random.Random(draws[k][1]))
        core[k, nodes] = True
    part = packed.select(torch.tensor(chosen, device=packed.ptr.device))
    of_part = core[chosen][g.mask[chosen]]
    owner = torch.zeros(count, dtype=torch.bool, device=block.device)
    owner[chosen] = True
    block = block.clone()
    block[owner[packed.node_graph()]] = block_order(part.edge_index, part.ptr, config.max_hops, core=of_part).block
    columns = {"block": block, "core": core[g.mask]}
    made = block_batch(packed.with_columns(node=columns), config.shapes(), config.max_hops)
    return replace(made, condition=g.condition)


def draw_core(adjacency: Tensor, nodes: int, rng: random.Random) -> list[int]:
    """Return the nodes of a core of a graph, none or all but some; a kind that the graph lacks gives a piece.

    Args:
        adjacency: ``[M, M]`` bool.
        nodes: n <= M, of which the first are the graph.
        rng: what is drawn from.
    """
    import networkx as nx

    graph = nx.from_numpy_array(adjacency[:nodes, :nodes].cpu().numpy())
    if nodes < 2:
        return []
    kind = rng.choice(("scaffold", "rings", "piece"))
    core: set[int] = set()
    if kind == "scaffold":
        core = set(nx.k_core(graph, 2))
    elif kind == "rings":
        rings = graph.copy()
        rings.remove_edges_from(list(nx.bridges(graph)))
        systems = [part for part in nx.connected_components(rings) if len(part) > 2]
        core = set(rng.choice(systems)) if systems else set()
    return sorted(core if 0 < len(core) < nodes else _piece(graph, rng))


def _piece(graph: nx.Graph, rng: random.Random) -> set[int]:
    """Return a random connected piece of 1 to n - 1 nodes."""
    wanted = rng.randint(1, len(graph) - 1)
    core, border = set[int](), {rng.randrange(len(graph))}
    while border and len(core) < wanted:
        node = rng.choice(sorted(border))
        core.add(node)
        border = (border | set(graph[node])) - core
    return core
