r"""Speed of GDSS beside the official code: molecules drawn per CPU second, and a training step on the same batch.

Every side takes its turn --repeats times, so that a slow moment of the machine hits all; medians are over the turns.
The peer draws with its S4 sampler in 100 steps (200 network calls). JSON lines: cpu_s per turn, per_cpu_s (molecules
drawn, or graphs trained on), times (per_cpu_s over the peer's).

A side is RUN=SAMPLER, a run directory and a sampler as in gdss_sampling.py.

Example:
  python -m examples.benchmarks.gdss_speed --peer GDSS --checkpoint GDSS/checkpoints/QM9/gdss_qm9.pth \
      --reference qm9.graphs --sides runs/official=s4:100 runs/official=exponential:24:snr=0.22,early=1.75
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from graphinv import GraphLoader, GraphStore
from graphinv.graphs import GraphBatch
from graphinv.models import GDSS

from .gdss_sampling import Side
from .lines import add_output, emit, environment, python, setting
from .peers.gdss import Official

Turn = Callable[[], object]


def training_step(model: GDSS, batch: GraphBatch) -> Turn:
    """Return a training step of ``model`` on ``batch``: losses, gradients, clipping and one optimiser."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-4)
    noise = torch.Generator().manual_seed(0)

    def step() -> None:
        optimizer.zero_grad()
        model.loss(batch, noise).backward()
        for network in model.networks().values():
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def turns(sides: dict[str, Turn], repeats: int) -> dict[str, list[float]]:
    """Return the CPU seconds of every turn; each side has one before that does not count."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in tqdm(range(repeats + 1), unit="turn", disable=None):
        for side, run in sides.items():
            start = time.process_time()
            run()
            if turn:
                seconds[side].append(time.process_time() - start)
    return seconds


def lines(what: str, seconds: dict[str, list[float]], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one JSON line per side; the first side is what the others are compared with."""
    common = {"count": args.batch_size, **setting("gdss_speed", args.threads)}
    found, base = [], statistics.median(next(iter(seconds.values())))
    for side, times in seconds.items():
        middle = statistics.median(times)
        rates = {"per_cpu_s": float(f"{args.batch_size / middle:.4g}"), "times": float(f"{base / middle:.4g}")}
        found.append({"name": what, "side": side, **rates, "cpu_s": [float(f"{s:.4g}") for s in times], **common})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of harryjo97/GDSS")
    parser.add_argument("--checkpoint", type=Path, required=True, help="its checkpoint for QM9")
    parser.add_argument("--reference", required=True, help="store of QM9; its training graphs are the batch")
    parser.add_argument("--sides", nargs="*", default=[], metavar="RUN=SAMPLER", help="what is drawn with")
    parser.add_argument("--batch-size", type=int, default=1024, help="molecules drawn, graphs trained on (1024)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument("--here", action="store_true", help="measure in this process, which can import the checkout")
    add_output(parser)
    args = parser.parse_args()
    if not args.here:
        command = [*python("gdss_speed"), *sys.argv[1:], "--here"]
        sys.exit(subprocess.run(command, env=environment(args.threads, args.peer)).returncode)
    measure(args)


def measure(args: argparse.Namespace) -> None:
    """Print the lines of drawing and of training."""
    torch.set_num_threads(args.threads)
    store, peer = GraphStore.open(args.reference), Official(args.checkpoint)
    ours = GDSS.preset("qm9", node_types=len(store.vocabulary.nodes))
    ours.fit_node_counts(store.node_histogram("train"))
    counts = ours.draw_node_counts(args.batch_size, 0)
    batch = store.batch(next(iter(GraphLoader(store, "train", args.batch_size, bucket=False).batch_indices())))
    drawing: dict[str, Turn] = {"peer s4:100": partial(peer.draw, counts)}
    for side in map(Side.of, args.sides):
        draw = partial(side.model.generator.sample, len(counts), num_nodes=counts, batch_size=len(counts))
        drawing[f"{side.run} {side.text}"] = partial(draw, sampler=side.sampler)
    fields = peer.padded(ours.to_fields(batch))
    training: dict[str, Turn] = {"peer": partial(peer.step, fields), "preset qm9": training_step(ours, batch)}
    for what, sides in (("gdss_draw", drawing), ("gdss_step", training)):
        for line in lines(what, turns(sides, args.repeats), args):
            emit(line, args.out)


if __name__ == "__main__":
    main()
