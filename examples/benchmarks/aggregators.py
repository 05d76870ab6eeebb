"""Time and memory of aggregators, forward and backward, on even groups, power-law groups, and one giant group.

Every measurement is a process of its own. Within a turn all sides of a case run one after the other, the next turn
in the opposite order, so that a slow moment of the machine hits all of them; ratios never mix runs. JSON lines:

  median_s, iqr_s, cpu_s  wall seconds of one forward and backward, their quartile distance, CPU seconds (medians)
  extra_mb                10^6 bytes at the peak of the first one in a process, over what was held before (median)
  iterations              timed per process; 1 where the first took more than 10 s, and then none goes before it
  ratio_time, ratio_cpu   seconds of the reference over those of this side: 5.0 is five times less; also ratio_memory
  ratio_time_range        the smallest and largest ratio_time of a single turn
  time_over_floor         seconds of a tree over those of the side floor; also cpu_over_floor
  status                  ok, out of memory, timeout or error, the last three with a message

Sides of graphinv start without a cached layout in every iteration, so that finding the groups is part of their time;
plan and plan_cached say how much of it. Side floor is the price of the operators of a GRU tree: all N - G operator
rows in one level, on N - G pairs of their own, with the layout given. The sizes of the groups are Pareto quantiles,
shuffled with seed 0; the values are normal, seed 0, 64 channels, float32, rows group after group.

Examples:
  python -m examples.benchmarks.aggregators --cases power_law_4k --sides pyg_lcm lcm_gru --turns 5
  python -m examples.benchmarks.aggregators --out docs/benchmarks/aggregators.jsonl
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch_geometric
from torch import Tensor, nn
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.aggr import lcm as pyg_lcm  # PyG's own, whatever is registered
from torch_geometric.nn.aggr import set_transformer as pyg_set_transformer
from tqdm import tqdm

from graphinv import aggr as ours
from graphinv.aggr.base import find_layout

from .lines import command_line, emit, environment, python

H = 64  # channels
SLOW_S = 10.0  # an iteration above this is not repeated
Line = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A batch of ``groups`` groups with ``elements`` rows in all, the largest of ``largest`` rows."""

    elements: int
    groups: int
    largest: int

    def scaled(self, scale: float) -> Case:
        """Return the same shape with about ``scale`` times the rows."""
        groups, largest = max(round(self.groups * scale), 1), max(round(self.largest * scale), 2)
        if self.groups == 1:
            return Case(largest, 1, largest)
        if self.elements == self.groups * self.largest:
            return Case(groups * self.largest, groups, self.largest)
        groups = max(groups, 2)
        elements = max(round(self.elements * scale), 2 * groups)
        return Case(elements, groups, min(max(largest, elements // groups + 1), elements - groups + 1))

    def sizes(self) -> Tensor:
        """Return the rows of each group, [groups] int64: a Pareto(1.2) law between 1 and ``largest``, shuffled.

        The quantiles of the law are scaled, by a factor near 1, until elements, groups and largest all agree; the
        few rows that rounding leaves over go to the smallest groups.
        """
        quantiles = ((torch.arange(self.groups, dtype=torch.float64) + 0.5) / self.groups) ** (-1 / 1.2)
        low, high = 0.0, float(self.largest)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (
                (low, middle) if int(self._rounded(quantiles * middle).sum()) > self.elements else (middle, high)
            )
        sizes = self._rounded(quantiles * low)
        sizes[self.groups - self.elements + int(sizes.sum()) :] += 1
        return sizes[torch.randperm(self.groups, generator=torch.Generator().manual_seed(0))]

    def _rounded(self, sizes: Tensor) -> Tensor:
        sizes = sizes.floor().long().clamp(1, self.largest)
        sizes[0] = self.largest
        return sizes


CASES = {
    "uniform": Case(160_000, 10_000, 16),
    "power_law": Case(160_000, 30_893, 10_000),
    "power_law_4k": Case(4_000, 1_002, 656),
    "one_100k": Case(100_000, 1, 100_000),
}


def lcm(op: str = "gru", order: str = "given", **settings: Any) -> nn.Module:
    return ours.LCMAggregation(H, project=False, op=op, order=order, **settings)


AGGREGATORS: dict[str, Callable[[], nn.Module]] = {
    "pyg_lcm": lambda: pyg_lcm.LCMAggregation(H, H, project=False),
    "lcm_gru": lcm,
    "lcm_gru_kept": lambda: lcm(recompute=False),
    "lcm_gated_sum": lambda: lcm("gated_sum"),
    "lcm_max_min": lambda: lcm("max_min"),
    "lcm_mlp": lambda: lcm("mlp"),
    "lcm_gru_canonical": lambda: lcm("gru", "canonical"),
    "lcm_gated_sum_canonical": lambda: lcm("gated_sum", "canonical"),
    "monoid_bank": lambda: ours.MonoidBankAggregation(H, heads=("sum", "mean", "max", "logsumexp"), project=False),
    "pyg_gru": lambda: pyg.GRUAggregation(H, H),
    "packed_gru": lambda: ours.PackedGRUAggregation(H, H),
    "sum": pyg.SumAggregation,
    "pyg_deep_sets": lambda: pyg.DeepSetsAggregation(nn.Linear(H, H), nn.Linear(H, H)),
    "pyg_set_transformer": lambda: pyg_set_transformer.SetTransformerAggregation(H, heads=4),
    "set_transformer": lambda: ours.SetTransformerAggregation(H, H),
    "set_transformer_induced": lambda: ours.SetTransformerAggregation(H, H, induced=16),
    "slot_set": lambda: ours.SlotSetAggregation(H, H),
    "fspool": lambda: ours.FSPoolAggregation(H, H),
    "pswe": lambda: ours.PSWEAggregation(H, H),
    "fsw": lambda: ours.FSWAggregation(H, H),
    "ot_kernel": lambda: ours.OTKernelAggregation(H, H),
    "janossy_1000": lambda: ours.JanossyAggregation(H, H, max_tuples=1000),
    "gen_agg": lambda: ours.GenAggAggregation(H, H),
    "fishnets": lambda: ours.FishnetsAggregation(H, H),
}
SIDES = [*AGGREGATORS, "floor", "plan", "plan_cached"]
REFERENCES = {  # elsewhere pyg_lcm
    "pyg_gru": ("pyg_gru", "packed_gru"),
    "pyg_set_transformer": ("pyg_set_transformer", "set_transformer", "set_transformer_induced"),
    "pyg_deep_sets": (
        *("pyg_deep_sets", "slot_set", "fspool", "pswe", "fsw"),
        *("ot_kernel", "janossy_1000", "gen_agg", "fishnets"),
    ),
}


class MemoryMeter:
    """Peak memory inside the ``with`` block over what was held at its start: ``extra_mb``, in 10^6 bytes.

    On Linux the peak of the resident set is reset first; elsewhere it is that of the whole life of the process, so
    that a block below an earlier peak counts as 0. ``method`` says which.
    """

    method = "ru_maxrss"
    extra_mb = 0.0

    def __init__(self, device: str = "cpu") -> None:
        if device != "cpu":
            self.method = "max_memory_allocated"

    def __enter__(self) -> MemoryMeter:
        gc.collect()
        if self.method == "max_memory_allocated":
            torch.cuda.reset_peak_memory_stats()
        elif sys.platform == "linux" and os.access("/proc/self/clear_refs", os.W_OK):
            if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
                libc.malloc_trim(0)  # freed memory that the process still holds would hide what the block needs
            Path("/proc/self/clear_refs").write_text("5")
            self.method = "VmHWM"
        self._before = self._peak()
        return self

    def __exit__(self, *error: object) -> None:
        self.extra_mb = (self._peak() - self._before) / 1e6

    def _peak(self) -> int:
        if self.method == "max_memory_allocated":
            return torch.cuda.max_memory_allocated()
        if self.method == "VmHWM":
            return proc_bytes("VmHWM")
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def proc_bytes(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) * 1024


def make_step(side: str, case: Case, device: str) -> Callable[[], object]:
    """Return what is timed: one forward and backward, or the building of a plan."""
    sizes = case.sizes() if side != "floor" else torch.full((max(case.elements - case.groups, 1),), 2)
    index = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(device)
    if side.startswith("plan"):
        return lambda: plan(index, len(sizes), cached=side == "plan_cached")
    x = torch.randn(len(index), H, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    torch.manual_seed(0)
    aggregator = (lcm() if side == "floor" else AGGREGATORS[side]()).to(device)
    settings: dict[str, Any] = {"index": index, "dim_size": len(sizes)}
    if side == "floor":
        settings = {"layout": ours.GroupLayout.from_index(index, len(sizes))}

    def step() -> None:
        out = aggregator(x, **settings)
        out.backward(torch.ones_like(out))
        x.grad = None  # all is given back at the end: what is left over would not count in the next reading
        aggregator.zero_grad(set_to_none=True)
        ours.forget_layouts()

    return step


def plan(index: Tensor, groups: int, cached: bool) -> None:
    """Find the groups and the tree over them; if ``cached``, look up what an earlier call found."""
    find_layout(index, len(index), index, None, groups, None).packed().tiles(768)
    if not cached:
        ours.forget_layouts()


def measure(side: str, case: Case, repeats: int, device: str) -> Line:
    """Return seconds and memory of every timed iteration in this process."""
    make_step(side, Case(8, 4, 2), device)()  # libraries and kernels are loaded before the first reading
    step = make_step(side, case, device)
    rows: list[tuple[float, float, float]] = []
    while len(rows) <= repeats and (not rows or rows[-1][0] <= SLOW_S):
        with MemoryMeter(device) as meter:
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if device != "cpu":
                torch.cuda.synchronize()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        rows.append((wall, cpu, meter.extra_mb))
    walls, cpus, _ = zip(*(rows[1:] or rows), strict=True)
    # Memory of the first: a module may hold on to what it made until the next call, which would hide as much then.
    return {"status": "ok", "wall": walls, "cpu": cpus, "extra": [rows[0][2]], "memory_method": meter.method}


def run_one(args: argparse.Namespace) -> None:
    """Measure one side of one case here, under the memory cap, and print the readings."""
    side, case = args.one
    torch.set_num_threads(args.threads)
    cap = int(args.memory_cap * 1e9)
    if args.device != "cpu":
        torch.cuda.set_per_process_memory_fraction(min(cap / torch.cuda.get_device_properties(0).total_memory, 1.0))
    elif sys.platform == "linux":
        torch.ones(1, requires_grad=True).sum().backward()  # what torch starts for itself does not count
        resource.setrlimit(resource.RLIMIT_AS, (proc_bytes("VmSize") + cap,) * 2)
    try:
        result = measure(side, CASES[case].scaled(args.scale), args.repeats, args.device)
    except Exception as error:  # whatever a library raises becomes a line
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        memory = isinstance(error, MemoryError) or re.search(r"out of memory|allocate memory", message)
        result = {"status": "out of memory" if memory else "error", "message": message}
        if asked := re.search(r"allocate (\d+) bytes", message):
            result["asked_mb"] = round(int(asked[1]) / 1e6)
    print(json.dumps(result))


def start(side: str, case: str, args: argparse.Namespace) -> Line:
    """Measure one side of one case in a new process."""
    command = [*python("aggregators"), "--one", side, case]
    for name in ("repeats", "threads", "device", "scale", "memory_cap"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    env = environment(args.threads)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=args.limit_s, env=env)
    except subprocess.TimeoutExpired:
        return {"status": "timeout", "message": f"not finished after {args.limit_s:g} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"status": "error", "message": f"exit status {done.returncode}: {last}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def summary(turns: list[Line]) -> Line:
    """Return medians over all turns of one side, or how it failed."""
    if turns[-1]["status"] != "ok":
        return {**turns[-1], "turns": len(turns)}
    wall, cpu, extra = (sum((turn[key] for turn in turns), []) for key in ("wall", "cpu", "extra"))
    low, _, high = statistics.quantiles(wall, n=4, method="inclusive") if len(wall) > 1 else wall * 3
    medians = {"median_s": statistics.median(wall), "iqr_s": high - low, "cpu_s": statistics.median(cpu)}
    counts = {"iterations": min(len(turn["wall"]) for turn in turns), "turns": len(turns)}
    memory = {"extra_mb": round(statistics.median(extra), 1), "memory_method": turns[0]["memory_method"]}
    return {"status": "ok", **{key: float(f"{value:.4g}") for key, value in medians.items()}, **memory, **counts}


def ratios(side: str, turns: dict[str, list[Line]], done: dict[str, Line]) -> Line:
    """Return the figures of ``side`` against the reference of its case and against the floor."""
    reference = next((name for name, sides in REFERENCES.items() if side in sides), "pyg_lcm")
    own, out = done[side], Line()
    peer = done.get(reference)
    if side.startswith("plan"):
        return out
    if peer:
        out = {"reference": reference, "reference_status": peer["status"]}
    if own["status"] == "ok" and peer and peer["status"] == "ok":
        for name, key in (("ratio_time", "median_s"), ("ratio_cpu", "cpu_s"), ("ratio_memory", "extra_mb")):
            out[name] = float(f"{peer[key] / own[key]:.3g}") if own[key] > 0 else None
        pairs = zip(turns[reference], turns[side], strict=True)
        single = [statistics.median(a["wall"]) / statistics.median(b["wall"]) for a, b in pairs]
        out["ratio_time_range"] = [float(f"{value:.3g}") for value in (min(single), max(single))]
    if own["status"] == "ok" and side.startswith("lcm") and done.get("floor", {}).get("status") == "ok":
        for name, key in (("time_over_floor", "median_s"), ("cpu_over_floor", "cpu_s")):
            out[name] = float(f"{own[key] / done['floor'][key]:.3g}")
    return out


def run_case(case: str, args: argparse.Namespace, bar: Any, emit: Callable[[Line], None]) -> None:
    """Measure all sides of a case in turns; a side that failed is not tried again."""
    shape = CASES[case].scaled(args.scale)
    device = torch.cuda.get_device_name(args.device) if args.device != "cpu" else "cpu"
    common = {"elements": shape.elements, "groups": shape.groups, "largest": shape.largest, "channels": H}
    common |= {"device": device, "threads": args.threads, "memory_cap_gb": args.memory_cap, "torch": torch.__version__}
    common |= {"torch_geometric": torch_geometric.__version__, "command": command_line("aggregators")}
    turns: dict[str, list[Line]] = {side: [] for side in args.sides}
    for turn in range(args.turns):
        for side in args.sides if turn % 2 == 0 else args.sides[::-1]:
            bar.set_postfix_str(f"{case} {side}")
            if all(result["status"] == "ok" for result in turns[side]):
                turns[side].append(start(side, case, args))
                emit({"name": "turn", "case": case, "side": side, "turn": turn, **summary(turns[side][-1:]), **common})
            bar.update()
    done = {side: summary(results) for side, results in turns.items()}
    for side in args.sides:
        emit({"name": "aggregator", "case": case, "side": side, **done[side], **ratios(side, turns, done), **common})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, help="default: all")
    parser.add_argument("--turns", type=int, default=3, help="processes per side and case (default 3)")
    parser.add_argument("--repeats", type=int, default=3, help="timed iterations per process (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process (default 1)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default cpu")
    parser.add_argument("--limit-s", type=float, default=180.0, help="seconds until a process is ended (default 180)")
    parser.add_argument("--memory-cap", type=float, default=9.0, help="GB a side may take (default 9)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows of each case (default 1)")
    parser.add_argument("--out", type=Path, help="append the lines to this file as well")
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "CASE"), help="measure here, in this process, and once")
    args = parser.parse_args()
    if args.one:
        run_one(args)
        return

    with tqdm(total=len(args.cases) * len(args.sides) * args.turns, unit="process") as bar:
        for case in args.cases:
            run_case(case, args, bar, lambda line: emit(line, args.out))


if __name__ == "__main__":
    main()
