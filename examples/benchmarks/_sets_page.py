"""What docs/benchmarks/sets.md shows of the lines of ``subset_selection.py``."""

from __future__ import annotations

import statistics

from _chart import Point, cost_chart
from _pages import Line, Section, markdown

Key = tuple[str, str, str, str]  # data, model, encoder, mode
MODES = {"": "", "shared": "shared", "independent": "independent", "expected": "expected", "first_order": "first order"}


def groups(lines: list[Line]) -> dict[Key, dict[int, list[Line]]]:
    """Return the last line of each seed, by data, model, encoder and mode, then by size of the test sets."""
    found: dict[Key, dict[int, dict[int, Line]]] = {}
    for line in lines:
        key = (line["data"], line["model"], line.get("encoder", ""), line.get("mode", ""))
        found.setdefault(key, {}).setdefault(line["n"], {})[line["seed"]] = line
    return {key: {n: list(seeds.values()) for n, seeds in sizes.items()} for key, sizes in found.items()}


def spread(lines: list[Line], name: str) -> str:
    """Return the mean over seeds and its standard deviation."""
    values = [line[name] for line in lines]
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"


def tables(lines: list[Line]) -> str:
    """Return, for each data set, Jaccard at known and at unknown size, and Jaccard at known size by size of the set."""
    found, parts = groups(lines), []
    for data in dict.fromkeys(key[0] for key in found):
        own = {key: sizes for key, sizes in found.items() if key[0] == data}
        sizes = sorted({n for counts in own.values() for n in counts})
        parts.append(f"### {data}\n\n![{data}: Jaccard against size](sets_{data}.svg)\n")
        header = ["selector", "encoder", "estimator", "seeds", "CPU s an epoch", f"unknown size, n = {sizes[0]}"]
        rows = []
        for (_, model, encoder, mode), counts in own.items():
            first = counts[min(counts)]
            cost = [line["epoch_cpu_s"] for line in first if "epoch_cpu_s" in line]
            row = [model, encoder, MODES[mode], str(len(first)), f"{statistics.mean(cost):.2f}" if cost else ""]
            row.append(spread(first, "jaccard_unknown"))
            rows.append([*row, *(spread(counts[n], "jaccard") if n in counts else "" for n in sizes)])
        parts.append(markdown([*header, *(f"n = {n}" for n in sizes)], rows))
    return "\n".join(parts)


def charts(lines: list[Line]) -> dict[str, str]:
    """Return the SVG of Jaccard at known size against the size of the test sets, by file name; none without lines."""
    found = groups(lines)
    made: dict[str, str] = {}
    for data in dict.fromkeys(key[0] for key in found):
        series: dict[str, list[Point]] = {}
        for (of, model, encoder, mode), sizes in found.items():
            if of != data or len(sizes) < 2:
                continue
            name = " ".join(part for part in (model, encoder, MODES[mode]) if part)
            for n, same in sorted(sizes.items()):
                values = [line["jaccard"] for line in same]
                point = Point(n, statistics.mean(values), min(values), max(values), "")
                series.setdefault(name, []).append(point)
        if series:
            made[f"sets_{data}.svg"] = cost_chart("mean Jaccard, more is better", "points of a test set", series)
    return made


SECTIONS = [
    Section(
        "Subset selection",
        "Trained on 1,000 sets of 100 points, 10 of them from the other cluster; tested on 1,000 sets of n points, "
        "a tenth of them from there. Mean Jaccard ± standard deviation over seeds (of data, weights and noise): at "
        "*known* size as many points are chosen as are to be found, as in the papers; at *unknown* size those "
        "above a threshold that was chosen on validation sets. Encoder `linear` is that of the papers. `deep_sets` "
        "here puts a network on each point together with the pooled set, more than its namesake in the papers. "
        "Published for two moons (arXiv:2203.01693, arXiv:2402.03139): EquiVSet 0.58 to 0.59 at n = 100; 0.538, "
        "0.513, 0.482, 0.473, 0.471 at 200, 400, 600, 800, 1000; INSET 0.547, 0.518, 0.502, 0.486, 0.485 there, "
        "where the papers may have left another share of points to be found. For the Gaussian mixture about 0.91. The "
        "papers' networks have 256 channels and width 500; the command says which were taken here.",
        "subset_selection.jsonl",
        tables,
    )
]
