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
  python examples/benchmarks/gpu.py --out gpu.jsonl
  python examples/benchmarks/gpu.py --device cpu --scale 0.001 --only segments tree
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from _gpu_cases import Case, Run, gdss, pard, segments, tree
from _lines import add_output, emit, setting
from tqdm import tqdm

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
    common = {"scale": scale, **setting("gpu.py", args.threads)}
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
