"""Which blocks data can have: peeling the graph so far takes them and nothing else, and they have the key drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from graphinv.models.pard.config import PARDConfig
from graphinv.nn.closing import leaf_sites
from graphinv.nn.pair_features import Sight, closing, count_walks, joined_walks

__all__ = ["block_edges", "edges_to_come", "keeps_valence", "leaf_keys", "next_counts", "on_path"]


def edges_to_come(sight: Sight, pairs: Tensor, left: Tensor, key: Tensor, config: PARDConfig) -> tuple[Tensor, Tensor]:
    """Return ``[B, R, K]`` bool, twice: which edges of a row keep to the key of its block, and which to the path.

    No edge lifts its row above the key; the last one brings it there exactly, and ends the block so that peeling takes
    it. Walk counts beyond x_3 are looked at with the last edge only.

    Args:
        sight: what rows see.
        pairs: ``[B, R, K]`` types of the pairs of each row with what it reads.
        left: ``[B, R, K]`` edges that nodes of the row's block lack.
        key: ``[B, R, 1 + W]`` degree and further walk counts of the row's block.
        config: H of the order and cap of the walk counts.
    """
    right, wrong = closing(sight, left, config.closing_hops)
    last, fine = right | wrong, torch.ones_like(right)
    for h, count in enumerate(joined_walks(sight, pairs, count_walks(sight, key.size(-1))), 1):
        capped, target = count.clamp(max=config.walk_classes - 1), key[..., h : h + 1]
        fine &= torch.where(last, capped == target, capped <= target)
    return fine, ~wrong


def block_edges(
    past: Tensor, rows: Tensor, old: Tensor, new: Tensor, key: Tensor, left: Tensor, core: Tensor, config: PARDConfig
) -> tuple[Tensor, Tensor]:
    """Return ``edges_to_come`` of one block, ``[B, s, c + s]`` bool each.

    Args:
        past: ``[B, c, c]`` pair types of finished nodes.
        rows: ``[B, s, c + s]`` pair types of new nodes so far.
        old: ``[B, c]`` bool, the finished nodes that exist.
        new: ``[B, s]`` bool, the new nodes that exist.
        key: ``[B, 1 + W]`` degree and further walk counts of the block.
        left: ``[B, s]`` edges that each new node still lacks.
        core: ``[B, c]`` bool, finished nodes that peeling never takes.
        config: kinds of edges, H of the order and cap of the walk counts.
    """
    sight = Sight.of_block(past, rows, old, new, torch.zeros_like(rows), config.edge_types, core)
    lacking = torch.cat([torch.zeros_like(old, dtype=left.dtype), left], 1).unsqueeze(1) * sight.same
    return edges_to_come(sight, rows * sight.reads, lacking, key.unsqueeze(1).expand(-1, new.size(1), -1), config)


def keeps_valence(room: Tensor, most: Tensor, rows: Tensor, left: Tensor, edge_types: int) -> Tensor:
    """Return ``[B, s, c + s, E]`` bool: which edges leave both ends within their valence, the sum of edge types.

    A new node keeps room for every further edge that it lacks.

    Args:
        room: ``[B, c]`` what finished nodes could take before this block.
        most: ``[B, s]`` valence of new nodes.
        rows: ``[B, s, c + s]`` pair types of new nodes so far.
        left: ``[B, s]`` edges that each new node still lacks.
        edge_types: E.
    """
    kind = torch.arange(1, edge_types + 1, device=rows.device)
    own = most - rows.sum(2) - (left - 1).clamp(min=0)
    old = room - rows[:, :, : room.size(1)].sum(1)
    return (kind <= own[:, :, None, None]) & (kind <= torch.cat([old, own], 1)[:, None, :, None])


def leaf_keys(past: Tensor, exists: Tensor, core: Tensor, walks: int, config: PARDConfig) -> tuple[Tensor, Tensor]:
    """Return ``[B, c]`` bool, where a next block of one node of degree 1 may join, and ``[B, c, W]`` its walk counts.

    Args:
        past: ``[B, c, c]`` pair types or bool, the edges of the graph so far.
        exists: ``[B, c]`` bool.
        core: ``[B, c]`` bool, nodes that peeling never takes.
        walks: W, those that a key has beyond the degree.
        config: H of the order and cap of the walk counts.
    """
    sites, counts = leaf_sites(past > 0, exists, exists & ~core, config.closing_hops)
    return sites, counts[..., 1 : 1 + walks].clamp(max=config.walk_classes - 1)


def next_counts(sites: Tensor, counts: Tensor, before: Tensor, classes: int) -> Tensor:
    """Return ``[B, classes]`` bool: which walk counts can follow those ``before`` in the key of a single leaf.

    Args:
        sites: ``[B, c]`` bool, where it may join.
        counts: ``[B, c, W]`` its walk counts there.
        before: ``[B, k]`` those drawn; ``k < W``.
        classes: how many are told apart.
    """
    known = before.size(1)
    fits = sites & (counts[..., :known] == before.unsqueeze(1)).all(-1)
    out = torch.zeros(len(sites), classes, dtype=torch.int32, device=sites.device)
    return out.scatter_add_(1, counts[..., known], fits.int()) > 0


def on_path(
    past: Tensor, new: Tensor, mask: Tensor, key: Tensor, config: PARDConfig, core: Tensor | None = None
) -> Tensor:
    """Return ``[B]`` bool: the new nodes have their key and look alike, and all others come later.

    If blocks before were on the path, the whole graph then is: the rest of peeling does not see the new block.

    Args:
        past: ``[B, c, c]`` bool, edges between finished nodes.
        new: ``[B, s, c + s]`` bool, edges of the new nodes.
        mask: ``[B, c + s]`` bool, the nodes that exist; new ones are last.
        key: ``[B, 1 + W]`` degree and further walk counts that were drawn for the block.
        config: H of the order and cap of the walk counts.
        core: ``[B, c]`` bool, finished nodes that peeling never takes; None for none.

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
    x, chosen = mask.double(), mask.clone()
    if core is not None:
        chosen[:, :old] &= ~core
    fits = torch.ones_like(mask[:, 0])
    for hop in range(config.max_hops):
        x = (x + (adjacency @ x.unsqueeze(-1)).squeeze(-1)) * mask
        if hop < key.size(1):
            target = key[:, hop] + (hop == 0)
            capped = x if hop == 0 else x.clamp(max=config.walk_classes - 1)
            fits &= ((capped == target.unsqueeze(1)) | ~fresh).all(1)
        least = x.masked_fill(~chosen, torch.inf).amin(1, keepdim=True)
        chosen = chosen & (x == least)
    return fits & (chosen == fresh).all(1)
