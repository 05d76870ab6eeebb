"""Batches of a store, epoch after epoch, in an order that depends on the seed and the epoch and nothing else.

Size buckets: graphs are shuffled, then sorted by node count, then cut into batches, and the batches are shuffled. A
dense model that pads to [M, M] then wastes almost no cells. There are no worker processes: a batch is index arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from graphinv.data._columns import integers
from graphinv.data.store import SPLITS, GraphStore
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch

__all__ = ["GraphLoader"]


class GraphLoader:
    """An iterable of ``GraphBatch`` over the graphs ``index`` of a store.

    Args:
        store: the graphs.
        index: graph ids ``[K]``, a split name ("train", "valid", "test", "none", "all"), or None for all.
        batch_size: most graphs of a batch.
        shuffle: draw a new order each epoch; False keeps the order of ``index`` (or of node counts, with ``bucket``).
        seed: >= 0; with the epoch it fixes the order.
        bucket: batches of nearly equal node count; every graph still comes once per epoch.
        drop_last: leave out the graphs that do not fill a batch (random ones if shuffled, else the last of ``index``).
        rank: this process among ``world_size``, all of which get equally many batches and the same order.
        world_size: if the batches do not divide, the first ones of the epoch are given again to the last ranks, or
            left out for all with ``drop_last``.

    The epoch changes only through ``set_epoch``: without it, each pass has the same order. ``state_dict`` says how far
    the pass under way has come; a loader of the same settings that loads it gives the rest in its next pass.

    Raises:
        InputError: a setting out of range or an unknown split.

    Example:
        >>> from graphinv.data import Vocabulary
        >>> store = GraphStore.from_arrays([0] * 6, [0, 1, 3, 6], [], [], [0] * 4,
        ...     vocabulary=Vocabulary(("C",), ("single",), "element"))
        >>> [batch.num_graphs for batch in GraphLoader(store, batch_size=2, shuffle=False)]
        [2, 1]
    """

    def __init__(
        self,
        store: GraphStore,
        index: Tensor | Sequence[int] | str | None = None,
        batch_size: int = 1024,
        *,
        shuffle: bool = True,
        seed: int = 0,
        bucket: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or seed < 0 or not 0 <= rank < world_size:
            raise InputError(
                "expected batch_size >= 1, seed >= 0 and 0 <= rank < world_size, got "
                f"batch_size={batch_size}, seed={seed}, rank={rank}, world_size={world_size}"
            )
        self.store, self.batch_size, self.shuffle, self.seed = store, batch_size, shuffle, seed
        self.bucket, self.drop_last, self.rank, self.world_size = bucket, drop_last, rank, world_size
        self.index = _resolve(store, index)
        self._counts = store.node_counts(self.index)
        self._epoch = self._position = self._start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass.

        Raises:
            InputError: ``epoch`` is negative.
        """
        if epoch < 0:
            raise InputError(f"epoch must be >= 0, got {epoch}")
        self._epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(self.index.numel(), self.batch_size)
        batches = whole + (rest > 0 and not self.drop_last)
        return batches // self.world_size if self.drop_last else -(-batches // self.world_size)

    def __iter__(self) -> Iterator[GraphBatch]:
        start, self._start = self._start, 0
        for position, ids in enumerate(self.batch_indices()[start:], start + 1):
            self._position = position
            yield self.store.batch(ids)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches were given."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next pass where that of ``state`` stands; of another epoch, at its first batch."""
        self._start = state["position"] if state["epoch"] == self._epoch else 0

    def batch_indices(self) -> list[Tensor]:
        """Return the graph ids of each batch of this rank in the current epoch."""
        state = np.random.SeedSequence([self.seed, self._epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        size = self.index.numel()
        order = torch.randperm(size, generator=generator) if self.shuffle else torch.arange(size)
        if self.drop_last:
            order = order[: size - size % self.batch_size]
        if self.bucket:
            order = order[torch.sort(self._counts[order], stable=True).indices]
        batches = list(torch.split(self.index[order], self.batch_size)) if order.numel() else []
        if self.bucket and self.shuffle:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        mine = range(self.rank, len(self) * self.world_size, self.world_size)
        return [batches[i % len(batches)] for i in mine]


def _resolve(store: GraphStore, index: Tensor | Sequence[int] | str | None) -> Tensor:
    if index is None:
        return store.indices()
    if isinstance(index, str):
        if index not in (*SPLITS, "all"):
            raise InputError(f"unknown split {index!r}; available: {', '.join(SPLITS)}, all")
        return store.indices(index)
    return integers("index", index)
