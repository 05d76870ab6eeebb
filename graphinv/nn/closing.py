"""The last edge of a block, judged exactly: with which of its choices does peeling take this block and no other node.

Walk counts after an edge (i, v) are those before, plus what the edge alone adds; so all v are judged at once, by one
product of matrices for each hop. Blocks of data always end so: the model is conditioned on it, in training as in
sampling, instead of having to learn it.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["closing_edges", "leaf_sites"]

_MOST = 2**22  # numbers of a piece of work


def closing_edges(adjacency: Tensor, row: Tensor, block: Tensor, others: Tensor, hops: int) -> Tensor:
    """Return ``[Q, n]`` bool: with an edge (row, v) the nodes of the block look alike, and the others come later.

    Args:
        adjacency: ``[Q, n, n]`` symmetric, 1 or True for an edge.
        row: ``[Q]`` the node that lacks an edge; no edge (row, v) may be there yet for a v that is asked about.
        block: ``[Q, n]`` bool, the nodes of its block.
        others: ``[Q, n]`` bool, nodes that peeling may take and must not; neither padding nor a core.
        hops: H >= 1 of ``graphinv.diffusion.block_order``, whose walk counts x_1, ..., x_H are compared in turn.

    Example:
        >>> triangle = torch.tensor([[[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]])  # and a node alone
        >>> block, row = torch.tensor([[False, False, False, True]]), torch.tensor([3])
        >>> closing_edges(triangle, row, block, ~block, 3).tolist()
        [[True, True, True, False]]
    """
    return _judge(adjacency, row, block, others, hops)[0]


def _judge(adjacency: Tensor, row: Tensor, block: Tensor, others: Tensor, hops: int) -> tuple[Tensor, Tensor]:
    """Return what ``closing_edges`` does, and ``[Q, n, H]`` the walk counts that the row then has."""
    count, size = others.shape
    piece = max(1, _MOST // max(size * size, 1))
    if count > piece:
        whole = (adjacency, row, block, others)
        parts = [_judge(a, r, b, e, hops) for a, r, b, e in zip(*(t.split(piece) for t in whole), strict=True)]  # type: ignore[no-untyped-call]
        return torch.cat([fine for fine, _ in parts]), torch.cat([counts for _, counts in parts])
    a = adjacency.double()
    index = torch.arange(count, device=a.device)
    own = torch.zeros_like(a[:, 0]).index_put((index, row), a.new_ones(()))  # [Q, n]
    eye = torch.eye(size, dtype=a.dtype, device=a.device)
    inside, outside = block.unsqueeze(1), others.unsqueeze(1)
    x = 1 + a.sum(-1)
    more = eye + own.unsqueeze(1)  # [Q, v, w]: by how much the edge (row, v) lifts the count of w
    fine, tied, counts = torch.ones_like(others), outside.expand(-1, size, -1), []
    for hop in range(hops):
        now = x.unsqueeze(1) + more
        target = now[index, :, row].unsqueeze(-1)
        counts.append(target.squeeze(-1))
        fine = fine & ((now == target) | ~inside).all(-1) & ~((now < target) & tied).any(-1)
        tied = tied & (now == target)
        if hop + 1 < hops:
            there = now.diagonal(dim1=1, dim2=2)  # of v itself
            more = more + more @ a + torch.diag_embed(target.squeeze(-1)) + there.unsqueeze(-1) * own.unsqueeze(1)
            x = x + (a @ x.unsqueeze(-1)).squeeze(-1)
    values = torch.stack(counts, -1) if counts else x.new_zeros(count, size, 0)
    return fine & ~tied.any(-1) & (own == 0), values


def leaf_sites(adjacency: Tensor, exists: Tensor, others: Tensor, hops: int) -> tuple[Tensor, Tensor]:
    """Return ``[Q, n]`` bool, where a single new leaf would be what peeling takes, and ``[Q, n, H]`` its walk counts.

    Args:
        adjacency: ``[Q, n, n]`` symmetric, 1 or True for an edge.
        exists: ``[Q, n]`` bool.
        others: ``[Q, n]`` bool, those that peeling may take; all but a core.
        hops: H >= 1 of ``graphinv.diffusion.block_order``.
    """
    count, size = exists.shape
    whole = torch.nn.functional.pad(adjacency.double(), (0, 1, 0, 1))
    block = torch.zeros(count, size + 1, dtype=torch.bool, device=exists.device)
    block[:, -1] = True
    row = torch.full((count,), size, device=exists.device)
    fine, counts = _judge(whole, row, block, torch.nn.functional.pad(others, (0, 1)), hops)
    return fine[:, :size] & exists, counts[:, :size].long()
