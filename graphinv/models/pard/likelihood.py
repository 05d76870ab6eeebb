"""How likely a PARD model finds graphs: sizes and degrees exactly, the content of blocks by its variational bound.

The density is over graphs whose nodes are numbered inside their blocks and whose blocks come in the model's order;
graphs that leave this order while they are generated are not in its support (``path_consistency`` counts them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphinv.diffusion import PerGraphNoise, block_order
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.models.pard.batch import BlockBatch
from graphinv.ops import index_to_ptr, segment_reduce
from graphinv.ops.pairs import to_pairs

if TYPE_CHECKING:
    from graphinv.models.pard.model import PARD

__all__ = ["LogLikelihood", "log_likelihood", "path_consistency"]

_GRAPHS = 256  # evaluated at once


@dataclass(frozen=True)
class LogLikelihood:
    """Natural logarithms of probabilities of B graphs, in nats per graph.

    Attributes:
        sizes: ``[B]`` exact, all block sizes and the stop.
        degrees: ``[B]`` exact, all block degrees, and the walk counts of their keys where the model draws these.
        blocks: ``[B]`` estimate of a lower bound, node types and pairs of all blocks.
    """

    sizes: Tensor
    degrees: Tensor
    blocks: Tensor

    @property
    def total(self) -> Tensor:
        """``[B]`` estimate of a lower bound on log p(graph)."""
        return self.sizes + self.degrees + self.blocks


@torch.no_grad()
def log_likelihood(model: PARD, batch: GraphBatch, samples: int, seed: int) -> LogLikelihood:
    """Return the estimate for ``batch``; see ``PARD.log_likelihood``."""
    if samples < 1:
        raise InputError(f"samples must be at least 1, got {samples}")
    if not int(model.first_sizes.sum()):
        raise InputError("this model holds no block sizes: train it first, or call prepare(store)")
    parts = []
    for index in torch.split(torch.arange(batch.num_graphs), _GRAPHS):
        g = model.pad(batch.with_columns(node={"block": None}).select(index.to(batch.ptr.device)))
        parts.append(_of_graphs(model, g, PerGraphNoise(index.to(g.types.device) + (seed << 32)), samples))
    empty = torch.zeros(0, dtype=torch.float64)
    return LogLikelihood(*(torch.cat([empty, *part]) for part in zip(*parts, strict=True)) if parts else (empty,) * 3)


def _of_graphs(model: PARD, g: BlockBatch, noise: PerGraphNoise, samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p of sizes and of degrees and the bound of the blocks, ``[B]`` float64 each."""
    draw = _of_removal if model.config.prior == "empty" else _of_redraws
    total, heads = torch.zeros(len(g.types), dtype=torch.float64), None
    for k in range(samples):
        bound, heads = draw(model, g, noise.child(k))
        total += bound.cpu() / samples
    assert heads is not None
    if model.config.prior != "empty":
        node, pair = model.processes()
        pair_mask = to_pairs(g.mask.unsqueeze(1) & g.mask.unsqueeze(2))
        total -= torch.where(g.mask, node.prior_kl(g.types), 0.0).sum(1).cpu()
        total -= torch.where(pair_mask, pair.prior_kl(to_pairs(g.pairs)), 0.0).sum(1).cpu()
    return (*_properties(model, g, *heads), total)


Bound = tuple[Tensor, tuple[Tensor, Tensor, Tensor]]  # [B] float64, and losses of sizes, degrees and walk counts


def _of_redraws(model: PARD, g: BlockBatch, noise: PerGraphNoise) -> Bound:
    """Return T times minus the variational loss at random times."""
    steps, (times, *own) = model.config.diffusion_steps, (noise.child(part) for part in range(3))
    step = (times.uniform(g.block if model.config.block_time else torch.zeros_like(g.block)) * steps).long() + 1
    losses = model.losses_per_element(g, step, torch.cat(_uniform(g, *own), 1))
    parts = [torch.where(mask, vlb.double(), 0.0).sum(1) for vlb, _, mask in losses.diffused().values()]
    return -steps * (parts[0] + parts[1]), (losses.size, losses.degree, losses.walks)


def _of_removal(model: PARD, g: BlockBatch, noise: PerGraphNoise) -> Bound:
    """Return minus the loss at random levels of each block."""
    levels, *own = (noise.child(part) for part in range(3))
    blocks = torch.arange(model.max_nodes + 1, device=g.block.device).expand(len(g.block), -1)
    node, edge, *heads = model.removal_losses(g, levels.uniform(blocks), *_uniform(g, *own))
    return -(node.double() + edge.double()), (heads[0], heads[1], heads[2])


def _uniform(g: BlockBatch, node: PerGraphNoise, pair: PerGraphNoise) -> tuple[Tensor, Tensor]:
    """Return draws of nodes ``[B, M]`` and of pairs ``[B, P]`` that padding does not change."""
    count, size = g.types.shape
    later = torch.triu_indices(size, size, 1, device=g.types.device)
    pairs = later[1] * (later[1] - 1) // 2 + later[0]
    place = torch.arange(size, device=later.device)
    return node.uniform(place.expand(count, -1)), pair.uniform(pairs.expand(count, -1))


def _properties(model: PARD, g: BlockBatch, size: Tensor, degree: Tensor, walks: Tensor) -> tuple[Tensor, Tensor]:
    """Return exact log p of all sizes and of all degrees, ``[B]`` float64 each."""
    degree = degree + walks
    count, first = len(g.types), len(g.first_size)
    owner = torch.div(g.last, max(g.types.size(1), 1), rounding_mode="floor")
    begins = g.first_graph
    first_size = torch.zeros(count, dtype=torch.long, device=owner.device)
    first_size[begins] = g.first_size
    log_p = model.net.properties.first_sizes(model.first_sizes, model.net.start(g.condition))
    chance = log_p.gather(1, first_size.unsqueeze(1)).squeeze(1).masked_fill(g.core.any(1), 0.0)
    size = size[: len(g.last)]  # the loss of first blocks comes after
    ptr = index_to_ptr(owner, count)
    sizes = chance - segment_reduce(size.double(), ptr)
    degrees = -segment_reduce(torch.where(g.next_size > 0, degree[first:].double(), 0.0), ptr)  # a stop has none
    degrees[begins] -= degree[:first].double()
    return sizes.cpu(), degrees.cpu()


def path_consistency(batch: GraphBatch, max_hops: int, legacy: bool = False) -> Tensor:
    """Return ``[B]`` bool: whether the block order of each graph is the one in ``batch.block``.

    A column ``core`` of nodes says which were there from the beginning.

    Raises:
        InputError: the batch carries no blocks.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> ptr, edge_ptr, block = torch.tensor([0, 3]), torch.tensor([0, 4]), torch.tensor([1, 0, 1])
        >>> g = GraphBatch(torch.zeros(3), path, None, ptr, edge_ptr, {"block": block})
        >>> path_consistency(g, max_hops=1).tolist()
        [True]
    """
    if batch.block is None:
        raise InputError("these graphs carry no blocks; give graphs that a PARD model has drawn")
    core = batch.node_columns.get("core")
    core = core.bool() if isinstance(core, Tensor) else None
    same = block_order(batch.edge_index, batch.ptr, max_hops, legacy, core).block == batch.block
    return segment_reduce(same.long(), batch.ptr) == batch.node_counts()
