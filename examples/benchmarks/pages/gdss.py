"""What docs/benchmarks/gdss.md shows of the lines of ``gdss_sampling.py``, ``gdss_speed.py``, ``gdss_generic.py``."""

from __future__ import annotations

import statistics

from . import Line, Section, markdown
from .chart import Point, cost_chart


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
    """Return the SVG of FCD and of NSPDK against speed, by file name; none without lines."""
    made: dict[str, str] = {}
    if not lines:
        return made
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


def samplers(lines: list[Line]) -> str:
    """Return the table of samplers, and the links to its charts."""
    table = markdown(HEADER, rows(lines))
    return f"![FCD against speed](gdss_fcd.svg)\n\n![NSPDK against speed](gdss_nspdk.svg)\n\n{table}"


def sides(lines: list[Line]) -> str:
    """Return the table of sides beside the official code."""
    return markdown(SPEED_HEADER, speed(lines))


def plain_graphs(lines: list[Line]) -> str:
    """Return the table of distances on sets of plain graphs."""
    return markdown(GENERIC_HEADER, generic(lines))


SECTIONS = [
    Section(
        "Samplers on QM9",
        "10,000 molecules per seed; *valid* without correction, over all samples; FCD and NSPDK under gdss-2022, "
        "corrected molecules against the 13,082 held out: mean ± standard deviation over seeds, and from the "
        "lowest to the highest end of the seeds' 95% intervals. The speed is of the drawing, on one thread, by a "
        "version without parts of like size, up to a third slower than the next table's. A call "
        "is of one network for one molecule. `norm=batch,denoise=false,decode=threshold` is how the official code "
        "samples. Models: `official` is the authors' checkpoint, converted. `ppgn-65min` was trained here on one "
        "thread beside other work, 27 epochs: `graphinv train gdss --data qm9.graphs --preset qm9-ppgn -o "
        "runs/ppgn-65min --trainer.max_time 65m`. `gdss-60min` likewise with the networks of the paper, 48 epochs: "
        "`--preset qm9 --trainer.batch_size 256 --trainer.schedule cosine --trainer.max_time 60m`, by a version "
        "whose edge network took half as much time again.",
        "gdss_sampling.jsonl",
        samplers,
    ),
    Section(
        "Drawing, beside the official code",
        "Graphs of QM9's node counts, sides in turns on one thread, medians; the peer is the official S4 sampler "
        "with 100 steps and the official weights. Decoding to molecules is on neither side.",
        "gdss_speed.jsonl",
        sides,
        "gdss_draw",
    ),
    Section(
        "A training step, beside the official code",
        "The same 1,024 random molecules of QM9: losses, gradients, clipping, optimisers. Averaging of weights is "
        "on neither side.",
        "gdss_speed.jsonl",
        sides,
        "gdss_step",
    ),
    Section(
        "Plain graphs",
        "As many graphs as the test split has, per seed; distances under gdss-2022 to the test graphs, mean ± "
        "standard deviation over seeds. *Training graphs*: as many drawn from the training split instead, the "
        "floor; its ± is over draws. Seconds are the median of the seeds, beside other work. `official` is the "
        "authors' checkpoint; `euler:1000` and `reverse:1000` sample as the paper does. `community-ppgn` was trained "
        "here in 15 minutes on one thread beside other work: `graphinv train gdss --data community_small.graphs "
        "--preset community_small-ppgn -o runs/community-ppgn --trainer.max_time 15m`; its weights are those in "
        "`last`, its sampler was chosen on seeds 0 to 14. Published (arXiv:2202.02514): community_small 0.045, 0.086, "
        "0.007; ego_small 0.021, 0.024, 0.007; enzymes 0.026, 0.061, 0.009; grid 0.111, 0.005, 0.070, for which a user "
        "of the official code and checkpoint found 0.093, 0.007, 0.102 (issue 5 of harryjo97/GDSS).",
        "gdss_generic.jsonl",
        plain_graphs,
    ),
]
