"""Training under the prior "empty": types of a block are hidden and its edges removed, up to a random level.

Levels 0 .. s + m - 1 of a block of s nodes and m edges are equally likely. Up to level s that many nodes, drawn at
random, have types and no edge is there; beyond, all have types and nodes are joined one after the other, in the order
of ``rows_to_ask``. The loss of a level is -log p of what ``StubMatching`` draws next, times s + m: the mean over levels
is the bound on -log p(block) that the sampler at one element a step attains.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from graphinv.diffusion.solver.stubs import rows_to_ask
from graphinv.models.pard.batch import BlockBatch
from graphinv.models.pard.config import PARDConfig
from graphinv.models.pard.path import edges_to_come
from graphinv.nn.pair_features import Sight
from graphinv.ops.pairs import from_pairs, to_pairs

__all__ = ["Remainder", "remove"]


@dataclass(frozen=True)
class Remainder:
    """What is left of B graphs of M nodes, each block at a level of its own.

    Attributes:
        types: ``[B, M]`` node types, the unknown one where hidden.
        pairs: ``[B, M, M]`` pair types, symmetric.
        node_weight: ``[B, M]`` float32 weight of the cross entropy of each node.
        row_weight: ``[B, M]`` float32 weight of every missing edge of each node, 0 where another is asked next.
        missing: ``[B, M, M]`` bool, edges (i, j) to come that count in the block of i.
        allowed: ``[B, M, M]`` bool, nodes j that may take a stub of i and do not lead off the path
            (``graphinv.models.pard.path``).
    """

    types: Tensor
    pairs: Tensor
    node_weight: Tensor
    row_weight: Tensor
    missing: Tensor
    allowed: Tensor

    def losses(self, nodes: Tensor, pairs: Tensor, g: BlockBatch) -> tuple[Tensor, Tensor]:
        """Return the bounds ``[B]`` in nats of node types and of edges, for logits as in ``ParallelOutput``."""
        ce = F.cross_entropy(nodes.float().transpose(1, 2), g.types, reduction="none")
        scores = from_pairs(pairs.float().movedim(-1, 1)[:, 1:].contiguous(), g.types.size(1))  # [B, E, M, M]
        masked = scores.masked_fill(~self.allowed.unsqueeze(1), -torch.inf).transpose(1, 2).flatten(2)
        total = masked.logsumexp(-1)  # [B, M]
        chosen = scores.gather(1, (g.pairs - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        count = self.missing.sum(-1)
        lacking = torch.where(count > 0, count * total, 0.0) - torch.where(self.missing, chosen, 0.0).sum(-1)
        return (self.node_weight * ce).sum(1), (self.row_weight * lacking).sum(1)


def remove(g: BlockBatch, config: PARDConfig, level: Tensor, node: Tensor, pair: Tensor) -> Remainder:
    """Return what is left of ``g`` at random levels.

    Args:
        g: the graphs.
        config: kinds of nodes and edges, and H of the order.
        level: ``[B, M]`` uniform draws in [0, 1), the same for all nodes of a block.
        node: ``[B, M]`` uniform draws, by which nodes are ordered.
        pair: ``[B, P]`` uniform draws, by which the edges of a node are ordered, then the nodes after it.
    """
    count, size = g.types.shape
    row, column = g.block.unsqueeze(2), g.block.unsqueeze(1)
    valid = g.mask.unsqueeze(1) & g.mask.unsqueeze(2)
    same, reads = (row == column) & valid, (row >= column) & valid
    nodes = same.sum(-1)  # s of each node's block
    edge = to_pairs(g.pairs) > 0
    graph, place = edge.nonzero(as_tuple=True)
    early, late = torch.triu_indices(size, size, 1, device=row.device)[:, place]
    inner = g.block[graph, early] == g.block[graph, late]
    whole = (g.pairs > 0) & reads & ~g.core.unsqueeze(2)
    total = whole.sum(-1)  # edges of each row
    turn = _turns(whole & same, total, same, node, from_pairs(pair, size))
    owner = torch.where(inner & (turn[graph, early] < turn[graph, late]), early, late)  # the row that asks for it
    draws = (turn[graph, owner] + pair[graph, place].double()) / (size + 1)
    slot = graph * (size + 1) + g.block[graph, late].clamp(max=size)
    rank = _rank(slot, draws)
    edges = torch.bincount(slot, minlength=count * (size + 1)).view(count, size + 1)
    edges = edges.gather(1, g.block.clamp(max=size))  # m of each node's block
    elements = nodes + edges
    reached = torch.minimum((level * elements).long(), elements - 1)
    before = ((node.unsqueeze(1) < node.unsqueeze(2)) & same).sum(-1)
    hidden = (before >= reached) & g.mask
    there = rank < (reached - nodes)[graph, late]
    pairs = torch.zeros_like(g.pairs)
    at = graph[there], early[there], late[there]
    pairs[at] = g.pairs[at]
    pairs = pairs + pairs.transpose(1, 2)
    missing = whole & (pairs == 0)
    left = missing.sum(-1)
    asked = torch.zeros_like(g.mask).index_put((graph[there], owner[there]), g.mask.new_ones(()))
    rows = rows_to_ask(left, total, asked, same)
    choices = (same & rows.unsqueeze(1)).sum(-1)
    in_nodes = (reached < nodes) & g.mask
    node_weight = torch.where(hidden, elements / (nodes - reached).clamp(min=1), 0.0)
    row_weight = torch.where(rows & ~in_nodes, elements / (choices * left).clamp(min=1), 0.0)
    open_ = (row > column) | (left > 0).unsqueeze(1)
    own = torch.eye(size, dtype=torch.bool, device=row.device)
    allowed = reads & (pairs == 0) & open_ & ~own
    apart = torch.zeros_like(pairs)
    sight = Sight(g.pairs, pairs, (row > column) & valid, same, apart, own.expand_as(same), config.edge_types, g.core)
    key = torch.cat([g.degree.unsqueeze(-1), g.walks], -1)
    of_key, on_path = edges_to_come(sight, pairs * reads, left.unsqueeze(1) * same, key, config)
    allowed &= of_key & on_path
    node_weight = node_weight.masked_fill(g.core, 0.0)
    return Remainder(torch.where(hidden, config.node_types, g.types), pairs, node_weight, row_weight, missing, allowed)


def _turns(inner: Tensor, total: Tensor, same: Tensor, node: Tensor, pair: Tensor) -> Tensor:
    """Return ``[B, M]`` at which turn of its block each row is joined; M for rows that others have joined by then.

    Args:
        inner: ``[B, M, M]`` bool, edges inside blocks.
        total: ``[B, M]`` edges of each row.
        same: ``[B, M, M]`` bool, nodes of one block.
        node: ``[B, M]`` uniform draws in [0, 1); the row with the least is joined first.
        pair: ``[B, M, M]`` those of pairs; after row i it is the row with the least beside i.
    """
    size, draws = total.size(1), node
    left, turn, none = total, torch.full_like(total, size), torch.zeros_like(total, dtype=torch.bool)
    for k in range(int(same.sum(-1).max()) if same.numel() else 0):
        rows = rows_to_ask(left, total, none, same)
        least = torch.where(same & rows.unsqueeze(1), draws.unsqueeze(1), 2.0).amin(-1)
        pick = rows & (draws == least)
        turn = torch.where(pick, k, turn)
        near = (inner & pick.unsqueeze(1)).any(-1) & (turn == size)
        left = torch.where(pick, 0, left - near.long())
        last = (same & pick.unsqueeze(1)).long().argmax(-1, keepdim=True)
        draws = pair.gather(2, last).squeeze(2)
    return turn


def _rank(group: Tensor, value: Tensor) -> Tensor:
    """Return the place ``[n]`` of each entry among those of its ``group`` ``[n]``, by ``value`` ``[n]`` in [0, 1)."""
    order = (group + value.clamp(max=1 - 1e-9)).argsort()
    counts = torch.bincount(group) if group.numel() else group
    start = counts.cumsum(0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel(), device=order.device) - start[group[order]]
    return rank
