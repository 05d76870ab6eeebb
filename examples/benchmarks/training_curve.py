"""Train a generator and judge what it draws along the way: one JSON line per snapshot of RUN/last.

The training is the command line's, as a child process; a copy of RUN/last is kept every few minutes, and each copy is
sampled afterwards, so that judging costs the training nothing. --no-train judges the snapshots that are there.

Examples:
  graphinv data build qm9 --atoms element+charge -o qm9.graphs
  python -m examples.benchmarks.training_curve --data qm9.graphs -o runs/qm9 pard --preset qm9
  python -m examples.benchmarks.training_curve --data qm9.graphs -o runs/qm9 --no-train --samples 10000
  graphinv data build tree --max-hops 3 -o tree.graphs
  python -m examples.benchmarks.training_curve --data tree.graphs -o runs/tree --family tree --samples 100 \\
    --protocol digress-2023 pard --preset tree-tokens --trainer.max_time 30m
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import graphinv

from .lines import watt_hours


def parse() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a store written by graphinv data build")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the run directory; snapshots in RUN/curve")
    parser.add_argument("--every", type=float, default=8, help="minutes between snapshots")
    parser.add_argument("--samples", type=int, default=1000, help="molecules or graphs drawn from each snapshot")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--steps-per-element", type=float, default=None, help="of the sampler of PARD")
    parser.add_argument("--steps", type=int, default=None, help="of the sampler")
    parser.add_argument("--tries", type=int, default=None, help="of the sampler of PARD; 1 draws every block once")
    parser.add_argument("--restarts", type=int, default=None, help="of the sampler of PARD")
    parser.add_argument("--valence", action="store_true", default=None, help="of the sampler of PARD")
    parser.add_argument("--protocol", help="distances by this protocol, such as gdss-2022")
    parser.add_argument("--family", help="of plain graphs: what a valid one is, such as tree")
    parser.add_argument("--last", action="store_true", help="judge the newest snapshot only")
    parser.add_argument("--watt", type=float, default=15.0, help="of one busy core (default 15, an assumption)")
    parser.add_argument("--threads", type=int, default=1, help="of the sampler, and of the training in its energy")
    parser.add_argument("--no-train", action="store_true", help="judge the snapshots that are there")
    return parser.parse_known_args()


def train(args: argparse.Namespace, settings: list[str]) -> None:
    """Run graphinv train and copy RUN/last as it goes."""
    command = [sys.executable, "-m", "graphinv.cli", "train", *settings, "--data", args.data, "-o", str(args.output)]
    with subprocess.Popen(command) as child:
        due = time.monotonic() + 60 * args.every
        while child.poll() is None:
            time.sleep(1)
            if time.monotonic() > due:
                due += 60 * args.every
                snapshot(args.output)
    if child.returncode:
        sys.exit(child.returncode)
    snapshot(args.output)


def snapshot(run: Path) -> None:
    """Copy RUN/last to RUN/curve/STEP unless it is there."""
    try:
        step = json.loads((run / "last" / "config.json").read_text())["metadata"]["progress"]["step"]
        target = run / "curve" / f"{step:08d}"
        if not target.exists():
            shutil.copytree(run / "last", target, ignore=shutil.ignore_patterns("trainer.ckpt"))
    except FileNotFoundError:
        return  # not written yet, or replaced this very moment


def judge(folder: Path, args: argparse.Namespace, store: Any) -> dict[str, Any]:
    """Draw molecules or graphs from a snapshot and return what they are worth."""
    generator = graphinv.load(folder)
    names = ("steps", "steps_per_element", "tries", "restarts", "valence")
    wanted = {k: getattr(args, k) for k in names if getattr(args, k) is not None}
    sampler = {**vars(generator.generator.config.sampler), **wanted}
    start = time.process_time()
    out = generator.sample(args.samples, seed=args.seed, sampler=type(generator.generator.config.sampler)(**sampler))
    seconds = time.process_time() - start
    molecules = isinstance(generator, graphinv.MoleculeGenerator)
    drawn = out.smiles if molecules else out.graphs
    report = graphinv.evaluate(drawn, reference=store, protocol=args.protocol, family=args.family)
    progress = generator.metadata["progress"]
    columns = out.graphs.graph_columns
    return {
        "name": "training_curve",
        "generator": generator.generator.kind,
        "data": Path(args.data).stem,
        **{k: progress[k] for k in ("epoch", "step", "seconds", "cpu_seconds")},
        **{k: v for k, v in progress.items() if k.endswith("loss")},
        **rates(report),
        "samples": args.samples,
        "seed": args.seed,
        "path_consistent": out.path_consistent,
        "network_calls": out.evaluations,
        "sampler": sampler,
        **{k: int(columns[k].sum()) / args.samples for k in ("redraws", "restarts") if k in columns},
        "sampling_seconds": out.seconds,
        "sample_cpu_s": seconds,
        "parameters": sum(p.numel() for p in generator.generator.parameters()),
        "watt": args.watt,
        "wh_10000": watt_hours(args.watt, seconds, progress["cpu_seconds"], count_new(report)),
        "ratio": report.get("ratio"),
        "distances": report.get("distances"),
        "training": generator.metadata["training"],
        "graphinv": generator.metadata["graphinv"],
        "command": "python -m examples.benchmarks.training_curve " + " ".join(sys.argv[1:]),
    }


def rates(report: dict[str, Any]) -> dict[str, float]:
    """Return the rates of a report of molecules or of graphs."""
    names = ("valid_strict", "valid_relaxed", "valid", "connected", "unique", "novel", "vun")
    return {k: report[k]["rate"] for k in names if k in report}


def count_new(report: dict[str, Any]) -> float:
    """Return how many samples are valid, new and distinct; connected ones where no family says what is valid."""
    if "vun" in report:
        return float(report["vun"]["count"])
    first = report.get("valid_strict") or report["connected"]
    return float(first["count"] * report["unique"]["rate"] * report["novel"]["rate"])


def main() -> None:
    args, settings = parse()
    if not args.no_train:
        if not settings:
            sys.exit("say what to train, such as: pard --preset qm9 (the arguments of graphinv train)")
        train(args, settings)
    torch.set_num_threads(args.threads)
    store = graphinv.GraphStore.open(args.data)
    folders = sorted((args.output / "curve").iterdir())
    for folder in folders[-1:] if args.last else folders:
        print(json.dumps(judge(folder, args, store)), flush=True)


if __name__ == "__main__":
    main()
