"""What the benchmark scripts share: JSON lines printed and kept, the machine they ran on, the command of the run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from graphinv import __version__


def machine() -> str:
    """Return the name of the processor, or of its architecture where the system does not say."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} processors" if names else platform.machine()


def command_line(script: str) -> str:
    """Return the command of this run, without its output file and with the names alone of folders and stores."""
    arguments = [a for a in sys.argv[1:] if a != "--here"]  # which a script adds for itself
    kept = [a for before, a in zip(["", *arguments], arguments, strict=False) if "--out" not in (before, a)]
    names = (name_of(a) if "=" not in a else f"{name_of(a.split('=')[0])}={a.split('=', 1)[1]}" for a in kept)
    return shlex.join(["python", "-m", f"{__package__}.{script}", *names])


def python(script: str) -> list[str]:
    """Return what starts ``script`` of this package in a process of its own."""
    return [sys.executable, "-m", f"{__package__}.{script}"]


def environment(threads: int, checkout: Path | None = None) -> dict[str, str]:
    """Return the environment of such a process: its threads, and ``checkout``, whose modules it can import."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if checkout is not None:
        env["PYTHONPATH"] = os.pathsep.join([str(checkout.resolve()), *filter(None, [env.get("PYTHONPATH")])])
    return env


def name_of(argument: str) -> str:
    """Return the name alone of a path; of the weights in a run directory, the run's with theirs."""
    path = Path(argument)
    return f"{path.parent.name}/{path.name}" if path.name in ("best", "last") and path.parent.name else path.name


def setting(script: str, threads: int) -> dict[str, Any]:
    """Return what every line of a run on a CPU says of it: device, machine, threads, versions, command."""
    versions = {"torch": torch.__version__, "graphinv": __version__, "command": command_line(script)}
    return {"device": "cpu", "machine": machine(), "threads": threads, **versions}


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add --threads and --out."""
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    parser.add_argument("--out", type=Path, help="append the lines to this file as well")


def emit(line: Mapping[str, Any], out: Path | None = None) -> None:
    """Print a JSON line, and append it to ``out``."""
    text = json.dumps(line)
    print(text, flush=True)
    if out:
        with out.open("a") as file:
            file.write(text + "\n")


def watt_hours(watt: float, sampling: float, training: float, new: float) -> list[float]:
    """Return an estimate of the energy of 10,000 valid, new molecules: without and with the training.

    Args:
        watt: of one busy core.
        sampling: CPU seconds in which ``new`` of them were drawn.
        training: CPU seconds.
        new: distinct valid molecules that training did not show.
    """
    drawing = watt / 3600 * sampling * 1e4 / max(1.0, new)
    return [round(drawing, 4), round(drawing + watt / 3600 * training, 3)]
