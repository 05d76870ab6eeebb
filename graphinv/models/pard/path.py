"""Which blocks data can have: peeling the graph so far takes them and nothing else, and they have the key drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.models.pard.config import PARDConfig
from graphinv.nn.pair_features import Sight, count_walks, joined_walks

__all__ = ["keeps_key", "on_path"]


def keeps_key(
    past: Tensor, rows: Tensor, old: Tensor, new: Tensor, key: Tensor, left: Tensor, config: PARDConfig
) -> Tensor:
    """Return ``[B, s, c + s]`` bool: which further edges do not lift a new node above its key.

    The last edge of a block must bring its node to the key exactly. Walk counts beyond x_3 are not looked at.

    Args:
        past: ``[B, c, c]`` pair types of finished nodes.
        rows: ``[B, s, c + s]`` pair types of new nodes so far.
        old: ``[B, c]`` bool, the finished nodes that exist.
        new: ``[B, s]`` bool, the new nodes that exist.
        key: ``[B, W]`` degree and further walk counts of the block.
        left: ``[B, s]`` edges that each new node still lacks.
        config: kinds of edges and cap of the walk counts.
    """
    apart = torch.zeros_like(rows)
    sight = Sight.of_block(past, rows, old, new, apart, config.edge_types)
    walks = count_walks(sight, key.size(1))
    inner = torch.zeros_like(rows, dtype=torch.bool)
    inner[:, :, old.size(1) :] = True
    last = left.sum(1)[:, None, None] == 1 + inner.long()
    fine = torch.ones_like(inner)
    for h, count in enumerate(joined_walks(sight, rows, walks), 1):
        target = key[:, h][:, None, None]
        capped = count.clamp(max=config.walk_classes - 1)
        fine &= torch.where(last, capped == target, capped <= target)
    return fine


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
