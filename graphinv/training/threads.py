"""How many threads train fastest here, by a short timing: a core that others use, or that waits, does not help."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from graphinv.data import GraphLoader, GraphStore
from graphinv.models import GraphGenerator

__all__ = ["choose_threads", "using_threads"]

_WORTH = 1.25  # how much faster twice the threads must be
_ENOUGH_S = 6.0  # what the timing may take, about


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Compute with ``count`` threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_threads(generator: GraphGenerator, store: GraphStore, batch_size: int, seed: int = 0) -> tuple[int, str]:
    """Return a number of threads, and in words how it was found.

    What the environment says (OMP_NUM_THREADS) is kept to. Otherwise steps on the first batch are timed with 1, 2, 4,
    ... threads, up to what torch would take, in turns; more are taken only where they pay. Weights stay as they are.

    Args:
        generator: prepared for ``store``.
        store: the graphs.
        batch_size: graphs per step.
        seed: of the batch and of the noise.
    """
    most = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ or most == 1:
        return most, "as the environment says" if "OMP_NUM_THREADS" in os.environ else "the one there is"
    batch = generator.pad(next(iter(GraphLoader(store, "train", batch_size, seed=seed))))
    counts = [1]
    while 2 * counts[-1] <= most:
        counts.append(2 * counts[-1])
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    start, turn = time.monotonic(), 0
    while turn < 2 or (turn < 6 and time.monotonic() - start < _ENOUGH_S):
        for count in counts if turn % 2 == 0 else counts[::-1]:
            seconds[count].append(_step(generator, batch, count, seed))
        turn += 1
    best = {count: min(values) for count, values in seconds.items()}
    chosen = 1
    for count in counts[1:]:
        if best[count] * _WORTH < best[chosen]:
            chosen = count
    told = ", ".join(f"{count}: {best[count]:.3g} s" for count in counts)
    return chosen, f"seconds of a step by threads: {told}"


def _step(generator: GraphGenerator, batch: object, threads: int, seed: int) -> float:
    """Return the seconds of a loss and its gradients; the gradients are dropped."""
    noise = torch.Generator().manual_seed(seed)
    with using_threads(threads):
        start = time.perf_counter()
        loss: Tensor = generator.loss(batch, noise)  # type: ignore[arg-type]
        torch.autograd.backward(loss)
        seconds = time.perf_counter() - start
    generator.zero_grad(set_to_none=True)
    return seconds
