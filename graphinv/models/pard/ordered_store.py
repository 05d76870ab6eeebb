"""A graph store with the generation block of every node, computed once and kept in the store.

Blocks depend on the graph alone, so a store that already has them by the same rule is returned as it is.
"""

from __future__ import annotations

import torch
from tqdm import tqdm

from graphinv.data import GraphStore
from graphinv.diffusion import block_order

__all__ = ["ordered_store"]

_CHUNK = 4096  # graphs peeled in lock step; bounds the memory and moves the bar


def ordered_store(store: GraphStore, max_hops: int, legacy: bool = False, *, progress: bool = True) -> GraphStore:
    """Return the store with the blocks of ``block_order(max_hops, legacy)``, itself if it has exactly these.

    Args:
        store: the graphs; blocks it holds by another rule are replaced.
        max_hops: H >= 0.
        legacy: the order of the published code, with its wrong ties.
        progress: show a bar where stderr is a terminal, after one second.

    Raises:
        InputError: ``max_hops`` is negative.

    Example:
        >>> from graphinv.testing import random_graphs
        >>> store = ordered_store(GraphStore.from_graphs(random_graphs(5)), max_hops=2)
        >>> store.block_rule, ordered_store(store, max_hops=2) is store
        ('hops:2', True)
    """
    rule = f"hops:{max_hops}:legacy" if legacy else f"hops:{max_hops}"
    if store.block_rule == rule:
        return store
    blocks = [torch.zeros(0, dtype=torch.int64)]
    hidden = None if progress else True
    with tqdm(total=len(store), desc="ordering graphs", unit=" graphs", delay=1.0, disable=hidden) as bar:
        for index in torch.split(store.indices(), _CHUNK):
            batch = store.batch(index)
            blocks.append(block_order(batch.edge_index, batch.ptr, max_hops, legacy).block)
            bar.update(index.numel())
    return store.with_blocks(torch.cat(blocks), rule)
