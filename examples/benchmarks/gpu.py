r"""Kernels and generators beside the limits of the machine they run on: one command, some minutes on a GPU.

First the machine itself is measured: how fast it copies memory and multiplies matrices. Then each kernel, by every
implementation at hand, and the generators with untrained weights (what they cost does not depend on the weights).
JSON lines, one per side:

  seconds          median of the timed calls, after some that do not count
  gb_per_s         bytes that must be moved (every input read once, every output written once) over the time
  tflop_per_s      multiplications and additions of the matrix products over the time
  of_copy, of_matmul   these as shares of what the machine reached
  times            seconds of the reference (the side named first) over those of this one

Without a GPU it runs on the CPU on a hundredth of the rows, to see that it works (--scale 0.001 takes a minute); the
figures then say little.

Examples:
  python -m examples.benchmarks.gpu --out gpu.jsonl
  python -m examples.benchmarks.gpu --device cpu --scale 0.001 --only segments tree
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.aggr import lcm as pyg_lcm  # PyG's own, whatever is registered
from torch_geometric.utils import scatter, softmax
from tqdm import tqdm

from graphinv.aggr import GroupLayout, LCMAggregation
from graphinv.data import GraphStore
from graphinv.data.vocabulary import Vocabulary
from graphinv.models import GDSS, PARD, GraphGenerator
from graphinv.ops import available_backends, segment_reduce, segment_softmax, segment_sort_columns, use_backend
from graphinv.ops.replay import RECORDERS
from graphinv.testing import random_graphs

from .lines import add_output, emit, setting

Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """What is measured: its name, what must be moved and multiplied, and the sides; the first is the reference."""

    name: str
    sides: dict[str, Run]
    bytes: float = 0.0
    flops: float = 0.0
    dtype: torch.dtype = torch.float32
    items: int = 0  # graphs made or trained on per call
    calls: tuple[int, int] = (3, 5)  # that do not count, and at least that do


def sizes(kind: str, rows: int) -> Tensor:
    """Return the sizes of groups of ``rows`` rows in all: of 16 each, or by a power law up to a tenth of all rows."""
    if kind == "uniform":
        return torch.full((max(rows // 16, 1),), 16)
    ranks = torch.arange(1, rows + 1, dtype=torch.float64)
    wanted = (0.1 * rows / ranks).clamp(min=1).round().long()
    kept = wanted[wanted.cumsum(0) <= rows]
    return torch.cat([kept, torch.ones(rows - int(kept.sum()), dtype=torch.int64)])


def on_backend(name: str, run: Run) -> Run:
    """Return the call with ``name`` as the backend of the segment kernels."""

    def call() -> object:
        with use_backend(name):
            return run()

    return call


def launch_by_launch(run: Run) -> Run:
    """Return the call without replayed steps."""

    def call() -> object:
        kept = RECORDERS.copy()
        RECORDERS.clear()
        try:
            return run()
        finally:
            RECORDERS.update(kept)

    return call


def in_bfloat16(run: Run, device: torch.device) -> Run:
    """Return the call under autocast."""

    def call() -> object:
        with torch.autocast(device.type, torch.bfloat16):
            return run()

    return call


def both_ways(forward: Callable[[Tensor], Tensor], x: Tensor) -> Run:
    """Return a forward and a backward pass."""
    leaf = x.detach().requires_grad_()

    def call() -> None:
        out = forward(leaf)
        out.backward(torch.ones_like(out))
        leaf.grad = None

    return call


def segments(device: torch.device, scale: float) -> Iterator[Case]:
    """Reductions and the sort of rows of 64 channels, by every backend, PyG, and plain torch compiled."""
    rows = max(int(4_000_000 * scale), 1000)
    for kind in ("uniform", "power_law"):
        counts = sizes(kind, rows).to(device)
        ptr = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        index, groups = torch.repeat_interleave(torch.arange(len(counts), device=device), counts), len(counts)
        x = torch.randn(int(ptr[-1]), 64, device=device)
        # Beside x, as multiples of it: a sort writes values and rows, which take twice the bytes of a float32.
        for reduce, written in (("sum", groups / len(x)), ("max", groups / len(x)), ("softmax", 1), ("sort", 3)):
            ours, other = _functions(reduce, ptr, index, groups)
            moved = x.nbytes * (1 + written)
            sides = {"pyg": other, **dict.fromkeys(available_backends(), ours)}
            if device.type == "cuda":  # for a CPU the compiler takes minutes
                sides["torch compiled"] = torch.compile(ours)
            for way in ("forward", "both"):
                found = {}
                for side, function in sides.items():
                    run = partial(function, x) if way == "forward" else both_ways(function, x)
                    found[side] = on_backend(side if side in available_backends() else "torch", run)
                yield Case(f"{reduce} {kind} {way}", found, bytes=moved * (1 if way == "forward" else 2))


def _functions(
    reduce: str, ptr: Tensor, index: Tensor, groups: int
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    if reduce == "softmax":
        return lambda x: segment_softmax(x, ptr), lambda x: softmax(x, index, num_nodes=groups)
    if reduce == "sort":
        return lambda x: segment_sort_columns(x, ptr)[0], partial(_by_value_then_group, index=index)
    return lambda x: segment_reduce(x, ptr, reduce), lambda x: scatter(x, index, 0, groups, reduce)


def _by_value_then_group(x: Tensor, index: Tensor) -> Tensor:
    # As PyG's QuantileAggregation.
    values, rows = x.sort(dim=0)
    return values.gather(0, index[rows].sort(dim=0, stable=True).indices)


def tree(device: torch.device, scale: float) -> Iterator[Case]:
    """The LCM of graphinv on every backend beside PyG's; forward and backward count three products of the tree."""
    for kind, rows, channels, dtype in (
        ("uniform", 160_000, 64, torch.float32),
        ("power_law", 160_000, 64, torch.float32),
        ("uniform", 160_000, 256, torch.bfloat16),
        ("uniform", 10_000_000, 64, torch.float32),
    ):
        counts = sizes(kind, max(int(rows * scale), 320))
        index = torch.repeat_interleave(torch.arange(len(counts)), counts).to(device)
        x = torch.randn(len(index), channels, device=device, dtype=dtype)
        layout = GroupLayout.from_index(index, len(counts))
        own = LCMAggregation(channels, project=False, order="given").to(device, dtype)
        sides = {}
        if kind == "uniform" and rows < 1_000_000:
            peer = pyg_lcm.LCMAggregation(channels, channels, project=False).to(device, dtype)
            sides["pyg"] = both_ways(partial(peer, index=index, dim_size=len(counts)), x)
        for name in available_backends():
            sides[name] = on_backend(name, both_ways(partial(own, layout=layout), x))
        if "triton" in sides and kind == "uniform":  # with shapes that do not depend on the sizes
            bounded = GroupLayout.from_index(index, len(counts), max_num_elements=16)
            sides["triton static"] = on_backend("triton", both_ways(partial(own, layout=bounded), x))
        pairs = len(x) - len(counts)
        flops = 3 * pairs * 2 * 2 * channels * 6 * channels  # two operands by six weight matrices, three times
        label = f"lcm {kind} {len(x):,} x {channels}"
        yield Case(label, sides, bytes=3 * x.nbytes, flops=flops, dtype=dtype)


def gdss(device: torch.device, scale: float) -> Iterator[Case]:
    """Draw graphs with GDSS as it is shaped for QM9 and ZINC250k, 50 steps of one network call."""
    for name, types, most, count in (("qm9", 4, 9, 10_000), ("zinc250k", 9, 38, 1_000)):
        model = GDSS.preset(name, node_types=types).to(device).eval()
        number = max(int(count * scale), 4)
        nodes = torch.full((number,), most)
        draw = partial(model.sample, number, num_nodes=nodes, steps=50, batch_size=number)
        yield drawn(f"gdss {name} draw", draw, number, device)
        yield from steps(f"gdss {name} train", model, types, most, max(int(1024 * scale), 4))


def pard(device: torch.device, scale: float) -> Iterator[Case]:
    """Train and draw with PARD as it is shaped for QM9 with hydrogens, graphs of 18 nodes, at most 20 steps a block."""
    types, most = 5, 18
    model = PARD.preset("qm9", node_types=types, max_nodes=29).to(device)
    number = max(int(1_000 * scale), 4)
    yield from steps("pard qm9 train", model, types, most, max(int(256 * scale), 4))
    draw = partial(model.eval().sample, number, num_nodes=torch.full((number,), most), steps=20, batch_size=512)
    yield drawn("pard qm9 draw", draw, number, device)


def drawn(name: str, draw: Run, items: int, device: torch.device) -> Case:
    """Return a case of drawing: step by step on a GPU, as usual, and with products in bfloat16."""
    sides = {"launch by launch": launch_by_launch(draw)} if device.type in RECORDERS else {}
    return Case(name, {**sides, "ours": draw, "bfloat16": in_bfloat16(draw, device)}, items=items, calls=(1, 2))


def steps(name: str, model: GraphGenerator, types: int, most: int, count: int) -> Iterator[Case]:
    """Train on random graphs, in float32 and under bfloat16 autocast."""
    graphs = random_graphs(count, max_nodes=most, min_nodes=most, node_types=types)
    vocabulary = Vocabulary(tuple(map(str, range(types))), ("1", "2", "3"), "generic")
    store = model.prepare(GraphStore.from_graphs(graphs, vocabulary), progress=False)
    device = next(model.parameters()).device
    batch = model.pad(store.batch(store.indices())).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)

    def step(narrow: bool) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            loss = model.loss(batch)
        loss.backward()
        optimizer.step()

    model.train()
    yield Case(name, {"float32": partial(step, False), "bfloat16": partial(step, True)}, items=count)


PARTS = {"segments": segments, "tree": tree, "gdss": gdss, "pard": pard}


@dataclass(frozen=True)
class Machine:
    """A device and what it reaches: bytes copied (read and written) and matrix products by dtype, per second."""

    device: torch.device
    copy: float
    matmul: dict[torch.dtype, float]

    @staticmethod
    def measure(device: torch.device, seconds: float) -> Machine:
        """Measure both on tensors far larger than the caches."""
        small = device.type == "cpu"
        source = torch.ones((1 << 24) if small else (1 << 28), device=device)
        target = torch.empty_like(source)
        copied = 2 * source.nbytes / timed(lambda: target.copy_(source), device, seconds)
        rates, size = {}, 1024 if small else 8192
        for dtype in (torch.float32, torch.bfloat16):
            a = torch.randn(size, size, device=device, dtype=dtype)
            rates[dtype] = 2 * size**3 / timed(partial(torch.mm, a, a), device, seconds)
        return Machine(device, copied, rates)


def timed(run: Run, device: torch.device, seconds: float, calls: tuple[int, int] = (3, 5)) -> float:
    """Return the median time of a call: ``calls`` are those that do not count and the least that do, in ``seconds``."""
    spent: list[float] = []
    for turn in range(10_000):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn >= calls[0]:
            spent.append(time.perf_counter() - start)
        if len(spent) >= calls[1] and sum(spent) > seconds:
            break
    return statistics.median(spent)


def line(case: Case, side: str, seconds: float, reference: float, machine: Machine) -> dict[str, Any]:
    """Return the JSON line of one side."""
    figures = {"seconds": seconds, "times": reference / seconds}
    if case.bytes:
        figures |= {"gb_per_s": case.bytes / seconds / 1e9, "of_copy": case.bytes / seconds / machine.copy}
    if case.flops:
        rate = case.flops / seconds
        figures |= {"tflop_per_s": rate / 1e12, "of_matmul": rate / machine.matmul[case.dtype]}
    if case.items:
        figures |= {"items_per_s": case.items / seconds}
    rounded = {key: float(f"{value:.4g}") for key, value in figures.items()}
    return {"name": "gpu", "case": case.name, "side": side, "dtype": str(case.dtype).split(".")[1], **rounded}


def measured(case: Case, machine: Machine, seconds: float, until: float = math.inf) -> Iterator[dict[str, Any]]:
    """Measure the sides of a case; one that cannot run, or begins after ``until``, gives its error, and no other."""
    reference = None
    for side, run in case.sides.items():
        try:
            if time.monotonic() > until:
                raise RuntimeError("left out, the time was over")
            found = timed(run, machine.device, seconds, case.calls)
        except (RuntimeError, NotImplementedError) as error:  # out of memory is a RuntimeError
            yield {"name": "gpu", "case": case.name, "side": side, "error": str(error).splitlines()[0]}
            continue
        reference = found if reference is None else reference
        yield line(case, side, found, reference, machine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    add("--device", default=usual, help=f"default {usual}")
    add("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to measure (default: all)")
    add("--scale", type=float, help="share of the rows and graphs (default 1, on a CPU 0.01)")
    add("--seconds", type=float, default=1.0, help="that each side is timed for at least (default 1)")
    add("--minutes", type=float, default=8.0, help="after which no further side begins (default 8)")
    add_output(parser)
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here; --device cpu tries the script without one")
    if args.scale is not None and not args.scale > 0:
        parser.error(f"--scale must be above 0, got {args.scale}")
    torch.set_num_threads(args.threads)
    scale = args.scale or (1.0 if device.type == "cuda" else 0.01)
    machine = Machine.measure(device, args.seconds)
    common = {"scale": scale, **setting("gpu", args.threads)}
    if device.type == "cuda":
        common["device"] = torch.cuda.get_device_name(device)
    matmul = {f"matmul_{str(k).split('.')[1]}_tflop_per_s": round(v / 1e12, 3) for k, v in machine.matmul.items()}
    emit({"name": "machine", "copy_gb_per_s": round(machine.copy / 1e9, 1), **matmul, **common}, args.out)
    with tqdm(unit="side", disable=None) as bar:
        for name in args.only:
            for case in PARTS[name](device, scale):
                for found in measured(case, machine, args.seconds, until):
                    bar.set_postfix_str(f"{case.name} {found['side']}")
                    bar.update()
                    emit({**found, **common}, args.out)


if __name__ == "__main__":
    main()
