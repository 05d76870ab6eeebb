"""Worker processes: how many, how they start, and what is said when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait

from graphinv.errors import GraphinvError


def worker_count(workers: int | None) -> int:
    """Return ``workers``, or the CPUs that this process may use if None; 1 in one that may have no children."""
    if multiprocessing.current_process().daemon:  # of a multiprocessing.Pool, such as a data loader's worker
        return 1
    if workers is not None:
        return workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of ``workers`` processes; what has not begun is given up when the block is left.

    Workers end with this process, however it ends.

    Raises:
        GraphinvError: a worker ended early.
    """
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(start_method()), initializer=_begin)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise GraphinvError(
            "a worker process ended early: it ran out of memory, was killed, or the calling script lacks "
            '`if __name__ == "__main__":`; workers=1 works without processes'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Prepare a worker: it leaves interrupts to its parent, and ends when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), name="graphinv_parent", daemon=True).start()


def _follow(parent: int) -> None:
    wait([parent])
    os._exit(1)


def start_method() -> str:
    """Return "fork" where no thread of this program can hold a lock (workers then start at once), else "spawn"."""
    others = [t for t in threading.enumerate() if t.name != "tqdm_monitor"]  # holds no lock a worker takes
    return "fork" if sys.platform == "linux" and len(others) == 1 else "spawn"
