"""What docs/benchmarks/gpu.md shows of the lines of ``gpu.py``."""

from __future__ import annotations

from . import Line, Section, markdown, number

FIGURES = {
    "seconds": "seconds",
    "times": "times faster",
    "gb_per_s": "GB/s",
    "of_copy": "of copying",
    "tflop_per_s": "TFLOP/s",
    "of_matmul": "of the matrix rate",
    "items_per_s": "graphs/s",
}


def limits(lines: list[Line]) -> str:
    """Return what the machine reaches."""
    last = lines[-1]
    rates = {key: value for key, value in last.items() if key.startswith(("copy_", "matmul_"))}
    rows = [[key.replace("_", " "), number(value)] for key, value in rates.items()]
    return markdown(["limit", "measured"], rows)


def kernels(lines: list[Line]) -> str:
    """Return one row per case and side; the last line of each counts."""
    latest = {(line["case"], line["side"]): line for line in lines}
    used = {key: title for key, title in FIGURES.items() if any(key in line for line in latest.values())}
    rows = []
    for (case, side), line in latest.items():
        cells = [line["error"], *[""] * (len(used) - 1)] if "error" in line else [number(line.get(key)) for key in used]
        rows.append([case, side, line.get("dtype", ""), *cells])
    return markdown(["case", "side", "dtype", *used.values()], rows)


SECTIONS = [
    Section("Limits of the machine", "Copying counts bytes read and written.", "gpu.jsonl", limits, "machine"),
    Section(
        "Kernels and generators",
        "Bytes are those that must be moved, floating point operations those of matrix products; *times faster* is "
        "relative to the first side of the case. Generators have untrained weights.",
        "gpu.jsonl",
        kernels,
        "gpu",
    ),
]
