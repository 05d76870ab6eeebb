"""Whether a block that was drawn is one that data can have: peeling the graph so far must take it and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.models.pard.config import PARDConfig

__all__ = ["on_path"]


def on_path(past: Tensor, new: Tensor, mask: Tensor, key: Tensor, config: PARDConfig) -> Tensor:
    """Return ``[B]`` bool: the new nodes have their key, and all others a larger one.

    If blocks before were on the path, the whole graph then is: the rest of peeling does not see the new block.

    Args:
        past: ``[B, c, c]`` bool, edges between finished nodes.
        new: ``[B, s, c + s]`` bool, edges of the new nodes.
        mask: ``[B, c + s]`` bool, the nodes that exist; new ones are last.
        key: ``[B, W]`` degree and further walk counts that were drawn for the block.
        config: order and cap of the walk counts.

    Example:
        >>> path = torch.tensor([[[False, True], [True, False]]])
        >>> leaf = torch.tensor([[[True, False, False]]])  # the other end of a path is least as well
        >>> on_path(path, leaf, torch.ones(1, 3, dtype=torch.bool), torch.tensor([[1]]), PARDConfig()).tolist()
        [False]
    """
    old = past.size(1)
    top = torch.cat([past, new[:, :, :old].transpose(1, 2)], 2)
    adjacency = torch.cat([top, new], 1).double()
    fresh = mask.clone()
    fresh[:, :old] = False
    x, fits = mask.double(), torch.ones_like(mask[:, 0])
    chosen = mask
    hops = max(config.max_hops, key.size(1))
    for hop in range(hops):
        x = (x + (adjacency @ x.unsqueeze(-1)).squeeze(-1)) * mask
        if hop < key.size(1):
            target = key[:, hop] + (hop == 0)
            capped = x if hop == 0 else x.clamp(max=config.walk_classes - 1)
            fits &= ((capped == target.unsqueeze(1)) | ~fresh).all(1)
        least = x.masked_fill(~chosen, torch.inf).amin(1, keepdim=True)
        chosen = chosen & (x == least)
    return fits & (chosen == fresh).all(1)
