"""Train small models that differ in their aggregator alone, and print one JSON line per task, aggregator and seed.

Suite "sets": problems on multisets of integers (second minimum, median, ...), trained on 2 to 16 elements, tested on
16 to 128. Suite "pna": six properties of random graphs, learned together by one message passing network.

    python -m examples.benchmarks.aggregator_tasks --suite sets --tasks second_minimum --steps 1000 --out sets.jsonl
    python -m examples.benchmarks.aggregator_tasks --suite sets --aggregators sum monoid_bank --out sets.jsonl --resume
    python -m examples.benchmarks.aggregator_tasks --suite pna --steps 300 --out pna.jsonl
    python -m examples.benchmarks.aggregator_tasks --suite sets --table sets.jsonl

A line has the settings of its run, the number of parameters, the test figures, how far the trained aggregator is from
a function of sets (invariance_error, flip_share) and from one of its own group alone (batch_consistency_error).
With the same settings a seed gives every aggregator the same training and test data.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .tasks import models, pna, sets

TASKS = {"sets": list(sets.TASKS), "pna": ["multitask"]}
SUITES = {"sets": sets, "pna": pna}


def size_range(text: str) -> tuple[int, int]:
    """Return 25-30 as (25, 30)."""
    least, most = map(int, text.split("-"))
    if not 4 <= least <= most:
        raise ValueError(text)
    return least, most


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--suite", choices=list(TASKS), default="sets", help="which problems (default sets)")
    add("--tasks", nargs="+", metavar="TASK", help=f"default all; of sets: {', '.join(TASKS['sets'])}; pna has one")
    add("--aggregators", nargs="+", metavar="NAME", help=f"default all: {', '.join(models.AGGREGATORS)}")
    add("--seeds", type=int, default=3, help="runs of each, with seeds 0, 1, ... (default 3)")
    add("--first-seed", type=int, default=0, help="start at another seed (default 0)")
    add("--out", type=Path, help="file that each line is appended to, besides being printed")
    add("--resume", action="store_true", help="skip runs that --out has a line of, with the same settings")
    add("--budget-minutes", type=float, help="start no run after this time, and say which are missing")
    add("--threads", type=int, default=1, help="threads of torch (default 1)")
    add("--table", type=Path, nargs="+", metavar="FILE", help="train nothing; print these lines as Markdown tables")
    add_training_settings(parser.add_argument_group("training"))
    add_set_settings(parser.add_argument_group("suite sets"))
    protocol = "the published protocol: 5120, 640 and 1280 graphs, 10000 epochs"
    add_pna_settings(parser.add_argument_group(f"suite pna ({protocol})"))
    return parser


def add_training_settings(fit: argparse._ArgumentGroup) -> None:
    fit.add_argument("--steps", type=int, default=1000, help="optimiser steps (default 1000)")
    fit.add_argument("--lr", type=float, default=1e-3, help="learning rate of Adam (default 1e-3)")
    fit.add_argument(
        "--schedule", choices=["cosine", "constant"], default="cosine", help="of the rate (default cosine)"
    )
    fit.add_argument("--batch-size", type=int, help="sets or graphs per step (default: 128 sets, 32 graphs)")
    fit.add_argument("--clip", type=float, default=1.0, help="largest norm of the gradient (default 1)")
    fit.add_argument("--auxiliary", type=float, default=0.1, help="weight of the associativity penalty (default 0.1)")
    fit.add_argument("--params", type=int, help="parameters of each model, within 10%% (sets: 20000; pna: not matched)")


def add_set_settings(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dropout", type=float, default=0.0, help="in the encoder; half in the decoder (default 0)")
    group.add_argument("--test-sizes", type=int, nargs="+", default=[16, 32, 64, 128], help="default 16 32 64 128")
    group.add_argument("--test-sets", type=int, default=1024, help="test sets of each size (default 1024)")


def add_pna_settings(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--hidden", type=int, default=16, help="width, unless --params is given (default 16)")
    group.add_argument("--rounds", type=int, default=8, help="of message passing (default 8)")
    group.add_argument("--train-graphs", type=int, default=512, help="default 512")
    group.add_argument("--val-graphs", type=int, default=128, help="they choose the weights to test (default 128)")
    group.add_argument(
        "--test-graphs", type=int, default=256, help="a quarter as many of each larger size (default 256)"
    )
    group.add_argument(
        "--extrapolate",
        type=size_range,
        nargs="*",
        default=[(25, 30), (45, 50)],
        metavar="LEAST-MOST",
        help="nodes of further test graphs (default 25-30 45-50)",
    )
    group.add_argument("--patience", type=int, default=200, help="steps without a better validation (default 200)")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(argv)
    for given, known in ((args.tasks, TASKS[args.suite]), (args.aggregators, models.AGGREGATORS)):
        unknown = sorted(set(given or []) - set(known))
        if unknown:
            parser.error(f"unknown {', '.join(unknown)}; there are: {', '.join(known)}")
    args.tasks, args.aggregators = args.tasks or TASKS[args.suite], args.aggregators or list(models.AGGREGATORS)
    if args.batch_size is None:
        args.batch_size = 128 if args.suite == "sets" else 32
    if min(args.steps, args.seeds, args.batch_size, args.threads, *args.test_sizes) < 1:
        parser.error("--steps, --seeds, --batch-size, --threads and --test-sizes must be at least 1")
    if args.resume and not args.out:
        parser.error("--resume looks for finished runs in the file of --out; name one")
    if args.out and args.out.exists() and not args.resume and not args.table:
        parser.error(f"{args.out} exists; add --resume to go on with it, or name another file")
    return args


def planned_runs(args: argparse.Namespace) -> list[Any]:
    """Return all runs, one seed of everything after the other, so that an early end leaves few seeds of all."""
    training = models.Training(args.steps, args.lr, args.schedule, args.batch_size, args.clip, args.auxiliary)
    runs = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for task in args.tasks:
            for aggregator in args.aggregators:
                shared = {"task": task, "aggregator": aggregator, "seed": seed, "training": training}
                if args.suite == "sets":
                    settings = {"dropout": args.dropout, "test_sizes": tuple(args.test_sizes)}
                    settings |= {"params": args.params or 20_000, "test_sets": args.test_sets}
                    runs.append(sets.SetRun(**shared, **settings))
                else:
                    names = ("hidden", "rounds", "train_graphs", "val_graphs", "test_graphs", "patience")
                    settings = {name: getattr(args, name) for name in names} | {"params": args.params or 0}
                    settings["extrapolate"] = tuple(args.extrapolate)
                    runs.append(pna.PnaRun(**shared, **settings))
    return runs


def key(settings: dict[str, Any], without: Iterable[str] = ()) -> str:
    """Return the settings as one string, the same before and after they are written as JSON."""
    return json.dumps({name: value for name, value in settings.items() if name not in without}, sort_keys=True)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a results file; a last line cut off by an interruption does not count."""
    if not path.is_file():
        raise SystemExit(f"{path} is not a file; name one that --out has written")
    lines = []
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        if isinstance(line, dict) and {"suite", "settings"} <= line.keys():
            lines.append(line)
        else:
            print(f"{path}: skipped what is not a line of this script: {text[:60]}", file=sys.stderr)
    return lines


def run_all(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    done = set()
    if args.resume and args.out.exists():
        done = {key(line["settings"]) for line in read_lines(args.out) if line["suite"] == args.suite}
    runs = [run for run in planned_runs(args) if key(asdict(run)) not in done]
    start = time.monotonic()
    missing = []
    for run in tqdm(runs, unit="run", disable=None):
        if args.budget_minutes is not None and time.monotonic() - start > 60 * args.budget_minutes:
            missing.append(f"{run.task} {run.aggregator} seed {run.seed}")
        else:
            emit(args, run)
    if missing:
        print(f"out of time, {len(missing)} of {len(runs)} runs are missing (--resume makes them):", file=sys.stderr)
        print("\n".join(missing), file=sys.stderr)


def emit(args: argparse.Namespace, run: Any) -> None:
    """Make one run; print its line and append it to the file."""
    line = {"name": "aggregator_tasks", "suite": args.suite, "task": run.task, "aggregator": run.aggregator}
    line |= {"seed": run.seed, "steps": run.training.steps, **SUITES[args.suite].train_and_test(run)}
    line |= {"torch": torch.__version__, "threads": args.threads, "settings": asdict(run)}
    text = json.dumps(line, allow_nan=False)
    print(text, flush=True)
    if args.out:
        whole = not args.out.exists() or args.out.read_bytes()[-1:] in (b"", b"\n")
        with args.out.open("a") as file:
            file.write(("" if whole else "\n") + text + "\n")


def figures(line: dict[str, Any]) -> dict[str, float | None]:
    """Return the test figures of a line by column."""
    if line["suite"] == "sets":
        largest = max(line["flip_share"], key=int)
        columns = {f"n = {size}": value for size, value in line["accuracy"].items()}
        return columns | {f"flips at {largest}": line["flip_share"][largest]}
    (first, row), *further = line["log10_mse"].items()
    columns = {f"{name} {first}" if name == "mean" else name: value for name, value in row.items()}
    return columns | {f"mean {sizes}": row["mean"] for sizes, row in further}


def table(lines: list[dict[str, Any]], suite: str, task: str, aggregators: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the Markdown table of one task: a row per aggregator and settings, mean +- std over seeds.

    A row without lines says missing, and one with fewer seeds than asked for says how many it has.
    """
    mine = [line for line in lines if line["suite"] == suite and line["task"] == task and line["seed"] in seeds]
    mine = list({key(line["settings"]): line for line in mine}.values())
    columns = list(dict.fromkeys(column for line in mine for column in figures(line)))
    errors = ["invariance_error", "batch_consistency_error"]
    header = ["aggregator", "steps", "seeds", *columns, "parameters", "invariance error", "batch-consistency error"]
    rows = []
    for aggregator in aggregators:
        groups: dict[str, list[dict[str, Any]]] = {}
        for line in mine:
            if line["aggregator"] == aggregator:
                groups.setdefault(key(line["settings"], without=["seed"]), []).append(line)
        if not groups:
            rows.append([aggregator, "missing", f"0 of {len(seeds)}", *["missing"] * (len(columns) + 3)])
        for group in groups.values():
            cells = [spread([figures(line).get(column, "missing") for line in group]) for column in columns]
            cells += [f"{group[0]['params']:,}", *[largest([line[error] for line in group]) for error in errors]]
            rows.append([aggregator, f"{group[0]['steps']:,}", f"{len(group)} of {len(seeds)}", *cells])
    text = [f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows]]
    measure = "share of sets answered exactly" if suite == "sets" else "log10 of the mean squared error"
    return "\n".join([f"### {task.replace('_', ' ')}: {measure}", "", *text, ""])


def spread(values: list[Any]) -> str:
    """Return mean +- standard deviation over seeds."""
    if "missing" in values or not values:
        return "missing"
    if None in values:
        return "not finite"
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def largest(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{max(known):.2g}" if len(known) == len(values) else "not finite"


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    if args.table:
        lines = [line for path in args.table for line in read_lines(path)]
        seeds = range(args.first_seed, args.first_seed + args.seeds)
        for task in args.tasks:
            print(table(lines, args.suite, task, args.aggregators, seeds))
    else:
        run_all(args)


if __name__ == "__main__":
    main()
