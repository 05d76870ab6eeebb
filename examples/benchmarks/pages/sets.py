"""What docs/benchmarks/sets.md shows of the lines of ``subset_selection.py`` and ``compound_selection.py``."""

from __future__ import annotations

import re
import statistics

from . import Line, Section, markdown
from .chart import Point, cost_chart, row_chart

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
    """Return the mean over seeds and its standard deviation, "" where a selector has no such figure."""
    values = [line[name] for line in lines if name in line]
    if not values:
        return ""
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


def costs(lines: list[Line]) -> str:
    """Return what an epoch costs by each estimator, relative to the published one, and the Jaccard it leads to."""
    found = {mode: sizes for (_, _, _, mode), sizes in groups(lines).items()}
    seconds = {
        mode: statistics.mean(line["epoch_cpu_s"] for line in next(iter(sizes.values())))
        for mode, sizes in found.items()
    }
    rows = []
    for mode, sizes in found.items():
        own = next(iter(sizes.values()))
        ratio = f"{seconds[mode] / seconds['independent']:.3f}"
        rows.append([MODES[mode], str(len(own)), f"{seconds[mode]:.2f}", ratio, spread(own, "jaccard")])
    return markdown(["estimator", "seeds", "CPU s an epoch", "of independent", "n = 100"], rows)


def compounds(lines: list[Line]) -> str:
    """Return, for each task, the Jaccard of every selector and how much INSET is above it, paired by seed."""
    parts = []
    for (data, most), found in by_task(lines).items():
        some = next(iter(next(iter(found.values())).values()))
        title = f"{data}: {some['k']} of {some['n']}, up to {most} epochs"
        parts.append(f"### {title}\n\n![{title}](compounds_{data}_{most}.svg)\n")
        rows = []
        for model, seeds in found.items():
            own = list(seeds.values())
            cost = [line["epoch_cpu_s"] for line in own if "epoch_cpu_s" in line]
            row = [model, str(len(own)), spread(own, "jaccard"), above(found.get("inset", {}), seeds)]
            rows.append([*row, f"{statistics.mean(cost):.1f}" if cost else ""])
        parts.append(markdown(["selector", "seeds", "mean Jaccard", "INSET above it", "CPU s an epoch"], rows))
    return "\n".join(parts)


def compound_charts(lines: list[Line]) -> dict[str, str]:
    """Return the SVG of each task by file name: mean Jaccard of the selectors with the least and the greatest seed."""
    made = {}
    for (data, most), found in by_task(lines).items():
        rows = []
        for model, seeds in found.items():
            values = [line["jaccard"] for line in seeds.values()]
            rows.append(Point(statistics.mean(values), 0, min(values), max(values), model))
        made[f"compounds_{data}_{most}.svg"] = row_chart(
            data, "mean Jaccard; lines: least and greatest seed", rows, ("inset", "inset_sum")
        )
    return made


def by_task(lines: list[Line]) -> dict[tuple[str, int], dict[str, dict[int, Line]]]:
    """Return the last line of each seed of each selector, by data set and most epochs."""
    found: dict[tuple[str, int], dict[str, dict[int, Line]]] = {}
    for line in lines:
        if line["jaccard"] is not None:
            task = found.setdefault((line["data"], epochs(line)), {})
            task.setdefault(line["model"], {})[line["seed"]] = line
    return found


def epochs(line: Line) -> int:
    """Return how many epochs a selector had at most; 12 unless its command says otherwise."""
    said = re.search(r"--epochs (\d+)", line["command"])
    return int(said.group(1)) if said else 12


def above(one: dict[int, Line], other: dict[int, Line]) -> str:
    """Return the mean difference over the seeds of both, its standard error, and in how many it is above 0."""
    values = [one[seed]["jaccard"] - other[seed]["jaccard"] for seed in one if seed in other]
    if one == other or len(values) < 2:
        return ""
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):+.3f} ± {error:.3f} ({sum(v > 0 for v in values)} of {len(values)})"


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
    ),
    Section(
        "Cost of an epoch",
        "EquiVSet on the Gaussian mixture, 8 epochs by each estimator of F(S with i) - F(S without i): `independent` "
        "draws 5 subsets for each element, as published, `shared` 5 for each set, `expected` none, `first order` "
        "takes slopes.",
        "subset_selection_cost.jsonl",
        costs,
    ),
    Section(
        "Compound selection",
        "Ground sets of n compounds of one assay, of which the k most active and least alike are to be found (known "
        "size): the most active one, then again and again the one of the most active third that is least like those "
        "chosen. Davis and KIBA: kinases, other proteins in the test than in training; ZINC250k: 6,000 molecules by "
        "QED and log P, other molecules in the test. Selectors learn from molecule graphs end to end and know nothing "
        "of the protein; `inset` is told the mean of the ground set, `inset_sum` its sum, as published (the statistic "
        "was chosen on validation sets of ZINC250k); `regressor` takes the highest predicted activities, "
        "`mean_activity` the compounds most "
        "active on the proteins of training, `true_activity` those most active in the test itself, without regard to "
        "diversity. *INSET above it*: mean difference ± standard error over seeds, which draw splits, sets, weights "
        "and noise, and in how many seeds it is above.",
        "compound_selection.jsonl",
        compounds,
    ),
]
