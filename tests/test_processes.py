"""Processes end when they should: workers with their parent, commands at SIGTERM, with nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphinv._processes import process_pool, worker_count

ROOT = Path(__file__).parents[1]
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

POOL = """
import sys, time
from graphinv import _processes
if __name__ == "__main__":
    _processes.start_method = lambda: sys.argv[1]
    with _processes.process_pool(2) as pool:
        futures = [pool.submit(time.sleep, float(sys.argv[2])) for _ in range(2)]
        pool.submit(time.sleep, 0)
        print("begun", flush=True)
        [f.result() for f in futures]
"""


def children(pid):
    try:
        return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


@linux
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("busy", [0.01, 60])
def test_workers_end_with_their_parent(method, end, busy, tmp_path):
    (tmp_path / "pool.py").write_text(POOL + ("        time.sleep(60)\n" if busy < 1 else ""))
    command = [sys.executable, str(tmp_path / "pool.py"), method, str(busy)]
    with subprocess.Popen(command, cwd=ROOT, env={**ENV, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"begun\n"
        assert wait_for(lambda: len(children(parent.pid)) >= 2)
        time.sleep(1)  # spawned workers are still importing
        workers = children(parent.pid)
        parent.send_signal(end)
        parent.wait(20)
        assert wait_for(lambda: not any(map(alive, workers)), 10)


@linux
@pytest.mark.parametrize("verb", ["data build", "evaluate", "sample"])
def test_a_command_that_is_terminated_says_so_in_one_line_and_leaves_nothing(verb, tmp_path):
    with (tmp_path / "a.smi").open("w") as file:
        for k in range(300_000):
            file.write("c1ccccc1" + "C" * (1 + k % 40) + "O\n")
    arguments = {
        "data build": ["a.smi", "-o", "a.graphs", "--workers", "2", "--rejects", "r.txt"],
        "evaluate": ["a.smi", "--json", "a.json"],
        "sample": ["qm9", "-n", "1000000", "-o", "out.smi"],
    }[verb]
    command = [sys.executable, "-m", "graphinv.cli", *verb.split(), *arguments]
    environment = {**ENV, "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(8)
        assert process.poll() is None
        workers = children(process.pid)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and said == "graphinv: terminated\n"
    assert [f.name for f in tmp_path.iterdir()] == ["a.smi"]
    assert wait_for(lambda: not any(map(alive, workers)), 10)


def count(_):
    return worker_count(None), worker_count(8)


def test_a_process_that_may_have_no_children_works_alone():
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(count, [0]) == [(1, 1)]
    assert worker_count(8) == 8 and worker_count(None) >= 1
    with process_pool(1) as pool:  # of concurrent.futures, whose workers may have children
        assert pool.submit(count, 0).result()[1] == 8
