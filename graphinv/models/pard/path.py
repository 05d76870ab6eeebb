"""Which blocks data can have: peeling the graph so far takes them and nothing else, and they have the degree drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.models.pard.config import PARDConfig
from graphinv.nn.closing import leaf_sites
from graphinv.nn.pair_features import Sight, closing

__all__ = ["has_leaf_site", "keeps_path", "on_path"]


def keeps_path(past: Tensor, rows: Tensor, old: Tensor, new: Tensor, left: Tensor, config: PARDConfig) -> Tensor:
    """Return ``[B, s, c + s]`` bool: which edges may come: all, but of the last edges of a block those that keep to it.

    Args:
        past: ``[B, c, c]`` pair types of finished nodes.
        rows: ``[B, s, c + s]`` pair types of new nodes so far.
        old: ``[B, c]`` bool, the finished nodes that exist.
        new: ``[B, s]`` bool, the new nodes that exist.
        left: ``[B, s]`` edges that each new node still lacks.
        config: kinds of edges and H of the order.
    """
    sight = Sight.of_block(past, rows, old, new, torch.zeros_like(rows), config.edge_types)
    lacking = torch.cat([torch.zeros_like(old, dtype=left.dtype), left], 1).unsqueeze(1) * sight.same
    return ~closing(sight, lacking, config.max_hops)[1]


def has_leaf_site(past: Tensor, exists: Tensor, config: PARDConfig) -> Tensor:
    """Return ``[B]`` bool: whether a next block of one node of degree 1 can be what peeling takes.

    Args:
        past: ``[B, c, c]`` pair types or bool, the edges of the graph so far.
        exists: ``[B, c]`` bool.
        config: H of the order.
    """
    return leaf_sites(past > 0, exists, config.max_hops).any(1)


def on_path(past: Tensor, new: Tensor, mask: Tensor, degree: Tensor, config: PARDConfig) -> Tensor:
    """Return ``[B]`` bool: the new nodes have their degree and look alike, and all others come later.

    If blocks before were on the path, the whole graph then is: the rest of peeling does not see the new block.

    Args:
        past: ``[B, c, c]`` bool, edges between finished nodes.
        new: ``[B, s, c + s]`` bool, edges of the new nodes.
        mask: ``[B, c + s]`` bool, the nodes that exist; new ones are last.
        degree: ``[B]`` degree that was drawn for the block.
        config: H of the order.

    Example:
        >>> path = torch.tensor([[[False, True], [True, False]]])
        >>> leaf = torch.tensor([[[True, False, False]]])  # the other end of a path is least as well
        >>> on_path(path, leaf, torch.ones(1, 3, dtype=torch.bool), torch.tensor([1]), PARDConfig()).tolist()
        [False]
    """
    old = past.size(1)
    top = torch.cat([past, new[:, :, :old].transpose(1, 2)], 2)
    adjacency = torch.cat([top, new], 1).double()
    fresh = mask.clone()
    fresh[:, :old] = False
    x, chosen = mask.double(), mask
    fits = torch.ones_like(mask[:, 0])
    for hop in range(config.max_hops):
        x = (x + (adjacency @ x.unsqueeze(-1)).squeeze(-1)) * mask
        if hop == 0:
            fits = ((x == 1 + degree.unsqueeze(1)) | ~fresh).all(1)
        least = x.masked_fill(~chosen, torch.inf).amin(1, keepdim=True)
        chosen = chosen & (x == least)
    return fits & (chosen == fresh).all(1)
