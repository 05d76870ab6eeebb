"""What docs/benchmarks/gdss.md shows of the lines of ``gdss_sampling.py``, ``gdss_speed.py``, ``gdss_generic.py``."""

from __future__ import annotations

import statistics
from typing import Any

from _chart import Point, cost_chart

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


def charts(lines: list[Line]) -> dict[str, str]:
    """Return the SVG of FCD and of NSPDK against speed, by file name."""
    made = {}
    for name, title in (("fcd", "FCD"), ("nspdk", "NSPDK")):
        series: dict[str, list[Point]] = {}
        for (model, sampler), found in groups(lines).items():
            rate = statistics.mean(line["molecules_per_cpu_s"] for line in found)
            value = statistics.mean(line[name]["value"] for line in found)
            low, high = min(line[name]["low"] for line in found), max(line[name]["high"] for line in found)
            label = " ".join(sampler.split(":")[:2])
            series.setdefault(model, []).append(Point(rate, value, low, high, label))
        made[f"gdss_{name}.svg"] = cost_chart(f"{title}, less is better", "molecules per CPU second", series)
    return made


def speed(lines: list[Line]) -> list[list[str]]:
    """Return one row per side of ``gdss_speed.py``."""
    latest = {(line["name"], line["side"]): line for line in lines}.values()
    return [
        [f"`{line['side']}`", str(line["count"]), f"{line['per_cpu_s']:,.0f}", f"{line['times']:.2f}"]
        for line in latest
    ]


SPEED_HEADER = ["side", "graphs", "graphs per CPU s", "times the peer"]
DISTANCES = ("degree", "clustering", "orbit")


def generic(lines: list[Line]) -> list[list[str]]:
    """Return one row per set, model and sampler of ``gdss_generic.py``, and one of real graphs per set."""
    latest = {(line["data"], line["model"], line["sampler"], line["seed"]): line for line in lines}
    found: dict[str, dict[tuple[str, str], list[Line]]] = {}
    for (data, model, sampler, _), line in latest.items():
        found.setdefault(data, {}).setdefault((model, sampler), []).append(line)
    table = []
    for data, sides in found.items():
        for (model, sampler), same in sides.items():
            cells = [data, model, f"`{sampler}`", str(len(same))]
            cells += [spread([line[key]["value"] for line in same], "", 4) for key in DISTANCES]
            table.append([*cells, f"{statistics.median(line['seconds'] for line in same):.1f}"])
        last = same[-1]
        real = [f"{last[key]['draws']:.4f} ± {last[key]['draws_spread']:.4f}" for key in DISTANCES]
        table.append([data, "training graphs", "", "", *real, ""])
    return table


GENERIC_HEADER = ["set", "model", "sampler", "seeds", *DISTANCES, "seconds"]
HEADER = ["model", "sampler", "seeds", "calls", "molecules per CPU s", "valid", "unique"]
HEADER += ["FCD", "intervals", "NSPDK", "intervals"]


def spread(values: list[float], unit: str, digits: int) -> str:
    """Return the mean and the standard deviation over seeds."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{unit}{deviation}"
