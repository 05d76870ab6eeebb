"""What docs/benchmarks/gdss.md shows of the lines of ``gdss_sampling.py``."""

from __future__ import annotations

import statistics
from typing import Any

Line = dict[str, Any]


def groups(lines: list[Line]) -> dict[tuple[str, str], list[Line]]:
    """Return the last line of each seed, by model and sampler."""
    latest = {(line["model"], line["sampler"], line["seed"]): line for line in lines}
    found: dict[tuple[str, str], list[Line]] = {}
    for (model, sampler, _), line in latest.items():
        found.setdefault((model, sampler), []).append(line)
    return found


def rows(lines: list[Line]) -> list[list[str]]:
    """Return one row per model and sampler: means over seeds, and the widest interval of a seed."""
    table = []
    for (model, sampler), found in groups(lines).items():
        cells = [model, f"`{sampler}`", str(len(found)), f"{found[0]['calls']:,.0f}"]
        cells.append(f"{statistics.mean(line['molecules_per_cpu_s'] for line in found):.0f}")
        cells += [spread([100 * line[key] for line in found], "%", 1) for key in ("valid", "unique")]
        for name, digits in (("fcd", 2), ("nspdk", 5)):
            cells.append(spread([line[name]["value"] for line in found], "", digits))
            low, high = min(line[name]["low"] for line in found), max(line[name]["high"] for line in found)
            cells.append(f"{low:.{digits}f} to {high:.{digits}f}")
        table.append(cells)
    return table


HEADER = ["model", "sampler", "seeds", "calls", "molecules per CPU s", "valid", "unique"]
HEADER += ["FCD", "intervals", "NSPDK", "intervals"]


def spread(values: list[float], unit: str, digits: int) -> str:
    """Return the mean and the standard deviation over seeds."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{unit}{deviation}"
