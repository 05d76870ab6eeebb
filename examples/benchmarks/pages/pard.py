"""What docs/benchmarks/pard.md shows of the lines of ``pard.py`` and ``training_curve.py``."""

from __future__ import annotations

import math
import statistics

from . import Line, Section, markdown, number
from .chart import line_chart

CURVES = {
    "valid_strict": "strictly valid",
    "unique": "distinct",
    "path_consistent": "on its path",
    "valid_loss": "validation",
    "train_loss": "training",
}


def pard_train(lines: list[Line]) -> str:
    """Return the table of training steps."""
    header = ["side", "parameters", "CPU s per step", "CPU s per graph", "extra MB per graph"]
    rows = []
    for line in {line["side"]: line for line in lines}.values():
        seconds = f"{number(line['cpu_s'])} ± {number(line['iqr_s'])}"
        figures = [number(line[key]) for key in ("per_graph_s", "extra_mb_per_graph", "ratio_cpu", "ratio_memory")]
        rows.append([line["side"], f"{line['parameters'] / 1e6:.2f} M", seconds, *figures])
    return markdown([*header, "times less CPU", "times less memory"], rows)


def pard_sample(lines: list[Line]) -> str:
    """Return the table of samples."""
    keys = ("graphs_per_cpu_s", "ratio_cpu", "extra_mb")
    latest = {line["side"]: [str(line["graphs"]), *(number(line[key]) for key in keys)] for line in lines}
    header = ["side", "graphs", "graphs per CPU s", "times faster", "extra MB"]
    return markdown(header, [[side, *cells] for side, cells in latest.items()])


def pard_step(lines: list[Line]) -> str:
    """Return the table of denoising steps, with lines through CPU seconds over pairs."""
    latest = {(line["side"], line["nodes"]): line for line in lines}
    nodes, rows = sorted({n for _, n in latest}), []
    for side in dict.fromkeys(side for side, _ in latest):
        found = [latest[side, n] for n in nodes]
        pairs, seconds = [line["pairs"] for line in found], [line["cpu_s"] for line in found]
        slope, start = statistics.linear_regression(pairs, seconds)
        fit = (
            f"{1e3 * start:.1f} + {1e6 * slope:.1f} per 1,000 pairs ({statistics.correlation(pairs, seconds) ** 2:.3f})"
        )
        rows.append([side, *(f"{number(1e3 * line['cpu_s'])} ({line['pairs']:,})" for line in found), fit])
    return markdown(["side", *(f"n = {n}" for n in nodes), "line (R²)"], rows)


def pard_size(lines: list[Line]) -> str:
    """Return the table of training steps on one graph of n nodes, with powers of n, and the link to its chart."""
    latest = {(line["side"], line.get("nodes")): line for line in lines}
    nodes = sorted({n for _, n in latest if n})
    rows = []
    for side in dict.fromkeys(side for side, _ in latest):
        found = {n: latest[side, n] for n in nodes if (side, n) in latest}
        cells = [
            f"{number(f['per_graph_s'])} / {number(f['extra_mb_per_graph'])}" if (f := found.get(n)) else "-"
            for n in nodes
        ]
        powers = [_power(found, key) for key in ("per_graph_s", "extra_mb_per_graph")]
        rows.append([side, *cells, " / ".join(powers)])
    return "![cost of a step](pard_size.svg)\n\n" + markdown(["side", *(f"n = {n}" for n in nodes), "power of n"], rows)


def _power(found: dict[int, Line], key: str) -> str:
    """Return the slope of a figure over n, both as logarithms."""
    points = [(math.log(n), math.log(max(line[key], 1e-3))) for n, line in found.items()]
    return f"{statistics.linear_regression(*zip(*points, strict=True))[0]:.1f}" if len(points) > 1 else "-"


def pard_molecules(lines: list[Line]) -> str:
    """Return the table of molecules: ends of trainings, and the language model beside them, and links to the curves."""
    rate_names = ["strictly valid", "relaxed", "connected", "distinct", "new"]
    header = ["molecules", "model", "CPU min", *rate_names, "FCD", "NSPDK"]
    rows = []
    last = {_series(line): line for line in sorted(lines, key=_minutes)}
    for name, line in last.items():
        ours = line["name"] == "training_curve"
        rates = (f"{100 * line[key]:.1f}%" for key in ("valid_strict", "valid_relaxed", "connected", "unique", "novel"))
        distances = line.get("distances") or {}
        cells = [f"{d['value']:.3g} ({d['floor']:.2g})" if (d := distances.get(k)) else "-" for k in ("fcd", "nspdk")]
        path = f"{100 * line['path_consistent']:.1f}%" if ours else "-"
        energy = " / ".join(number(value) for value in line["wh_10000"])
        speed = number(line["samples"] / line["sample_cpu_s"])
        tail = [path, f"{line['redraws']:.1f}" if "redraws" in line else "-", speed, energy, f"{line['samples']:,}"]
        rows.append([line["data"], name.partition(": ")[2], f"{_minutes(line):.0f}", *rates, *cells, *tail])
    tail = ["on its path", "redraws", "molecules per CPU s", "Wh per 10,000 new", "samples"]
    links = "![strictly valid](pard_molecules_valid.svg)\n\n![FCD](pard_molecules_fcd.svg)\n\n"
    return links + markdown([*header, *tail], rows)


def pard_graphs(lines: list[Line]) -> str:
    """Return the table of plain graphs: ends of trainings for each way of sampling, and the link to the curve."""
    names = {"valid, distinct, new": "vun", "valid": "valid", "connected": "connected", "distinct": "unique"}
    rows = []
    for name, line in {_series(line): line for line in sorted(lines, key=_minutes)}.items():
        cells = [f"{100 * line[key]:.1f}%" for key in (*names.values(), "path_consistent")]
        tail = [f"{line['redraws']:.1f}", number(line["samples"] / line["sample_cpu_s"]), f"{line['samples']:,}"]
        ratio = number(line["ratio"]) if line["ratio"] else "-"
        rows.append([line["data"], name.partition(": ")[2], f"{_minutes(line):.0f}", *cells, ratio, *tail])
    header = ["graphs", "model", "CPU min", *names, "on its path", "ratio", "redraws", "graphs per CPU s", "samples"]
    return "![valid, distinct and new](pard_graphs_vun.svg)\n\n" + markdown(header, rows)


def _minutes(line: Line) -> float:
    seconds: float = line["cpu_seconds"] if line["name"] == "training_curve" else line["train_cpu_s"]
    return seconds / 60


def _series(line: Line) -> str:
    """Return what was trained and how it is sampled, the name of a curve."""
    if line["name"] != "training_curve":
        return f"{line['data']}: SMILES LSTM"
    sampler = line["sampler"]
    tries = "plain" if sampler["tries"] == 1 else f"{sampler['tries']} tries"
    return f"{line['data']}: PARD, {tries}" + (", in valence" if sampler["valence"] else "")


def molecule_charts(lines: list[Line]) -> dict[str, str]:
    """Return the SVG of strict validity and of FCD against CPU minutes of training, by file name."""
    valid: dict[str, list[tuple[float, float]]] = {}
    fcd: dict[str, list[tuple[float, float]]] = {}
    for line in sorted(lines, key=_minutes):
        valid.setdefault(_series(line), []).append((_minutes(line), 100 * line["valid_strict"]))
        if distance := (line.get("distances") or {}).get("fcd"):
            fcd.setdefault(_series(line), []).append((_minutes(line), distance["value"]))
    if not valid or not fcd:
        return {}
    top, axis = math.ceil(max(y for points in fcd.values() for _, y in points)), "CPU minutes of training"
    return {
        "pard_molecules_valid.svg": line_chart("strictly valid, per cent of samples", axis, valid, 0, 100),
        "pard_molecules_fcd.svg": line_chart("FCD", axis, fcd, 0, top),
    }


def graph_chart(lines: list[Line]) -> dict[str, str]:
    """Return the SVG of valid, distinct and new plain graphs against CPU minutes of training, by file name."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in sorted(lines, key=_minutes):
        series.setdefault(_series(line), []).append((_minutes(line), 100 * line["vun"]))
    title = "valid, distinct and new, per cent of samples"
    return {"pard_graphs_vun.svg": line_chart(title, "CPU minutes of training", series, 0, 100)} if series else {}


def pard_curve(lines: list[Line]) -> str:
    """Return the table of snapshots of a training, and the link to its charts."""
    columns = {"minutes": "seconds", "epoch": "epoch", "validation loss": "valid_loss"}
    rates = {"strictly valid": "valid_strict", "valid (relaxed)": "valid_relaxed", "distinct": "unique", "new": "novel"}
    rows = []
    for line in lines:
        cells = [f"{line['seconds'] / 60:.1f}", str(line["epoch"]), f"{line['valid_loss']:.3f}"]
        cells += [f"{100 * line[key]:.1f}%" for key in (*rates.values(), "path_consistent")]
        rows.append([*cells, f"{line['samples']:,}", number(line["network_calls"])])
    header = [*columns, *rates, "on its path", "samples", "network calls"]
    return "![validity](pard_validity.svg)\n\n![loss](pard_loss.svg)\n\n" + markdown(header, rows)


def size_chart(lines: list[Line]) -> dict[str, str]:
    """Return the SVG of CPU seconds of a training step against n, both as powers of ten; none without lines."""
    chosen = [line for line in lines if line.get("name") == "pard_size" and line["status"] == "ok"]
    if not chosen:
        return {}
    series: dict[str, list[tuple[float, float]]] = {}
    for line in sorted(chosen, key=lambda line: line["nodes"]):
        series.setdefault(line["side"], []).append((math.log10(line["nodes"]), math.log10(line["per_graph_s"])))
    heights = [y for points in series.values() for _, y in points]
    low, high = math.floor(min(heights)), math.ceil(max(heights))
    title = "CPU seconds of a training step for each graph, powers of ten"
    return {"pard_size.svg": line_chart(title, "nodes, powers of ten", series, low, max(high, low + 1))}


def charts(lines: list[Line]) -> dict[str, str]:
    """Return the SVG of quality and of losses against time, by file name; none without lines."""
    if not lines:
        return {}
    at = {key: [(line["seconds"] / 60, line[key]) for line in lines if key in line] for key in CURVES}
    rates = {name: [(x, 100 * y) for x, y in at[key]] for key, name in CURVES.items() if "loss" not in key}
    losses = {name: at[key] for key, name in CURVES.items() if "loss" in key}
    top = max(y for points in losses.values() for _, y in points)
    axis = "minutes of training"
    return {
        "pard_validity.svg": line_chart("per cent of samples", axis, rates, 50, 100),
        "pard_loss.svg": line_chart("loss, nats per graph", axis, losses, 0, top),
    }


SECTIONS = [
    Section(
        "Training on QM9",
        "Heavy atoms with their charges, the split of GDSS; molecules are judged as drawn, nothing repaired: "
        "*strictly valid* is sanitised by RDKit and of one fragment, *relaxed* lets N, O and S take a charge. "
        "*Distinct* is of the strictly valid, *new* of the distinct. *On its path*: graphs whose own block order "
        "is the one in which they were generated.",
        "pard_training.jsonl",
        pard_curve,
    ),
    Section(
        "Cost of training",
        "One step on 8 molecules of QM9 with hydrogens in float32: losses, backward and optimizer, given the block "
        "orders. The official code (`peer`) trains two networks, denoiser (`peer_denoiser`: it alone) and block "
        "model; `ours` is one that does both jobs, `ours_separate` two trunks. `ours_batch_norm` normalises as the "
        "official code. In the backward pass `ours` computes the inside of pair functions again, `ours_kept` "
        "nothing, `ours_layers` whole layers. Memory is the peak of the first step, gradients and optimizer state "
        "included. *Times less*: relative to `peer`.",
        "pard.jsonl",
        pard_train,
        "pard_train",
    ),
    Section(
        "Molecules on one core",
        "Heavy atoms with their charges, the split of GDSS; nothing is repaired. The network of tokens beside a "
        "language model of SMILES that was trained on the same split. *Plain* draws every block once; with *tries* a "
        "block that peeling would not take is drawn again, and *in valence* one whose atoms have more bonds than any "
        "of their type had in training, too. Distances by the protocol gdss-2022 at the number "
        "of samples that is said, beside the floor of that number. Energy is an estimate: CPU seconds times 15 W, for "
        "10,000 valid, new and distinct molecules, the training left out / included.",
        "pard_molecules.jsonl",
        pard_molecules,
    ),
    Section(
        "Plain graphs on one core",
        "128 graphs of training; the split of their file. Names of ways of sampling as above. *Ratio* of the protocol "
        "digress-2023: the mean over its distances of value to floor, where the floor is that of its own graphs of "
        "training against its test graphs.",
        "pard_graphs.jsonl",
        pard_graphs,
    ),
    Section(
        "Cost against the number of nodes",
        "A training step on two sparse planar graphs of n nodes in float32: CPU seconds / peak MB of each. `ours` "
        "keeps channels for every pair; `tokens` is the network without, which up to 100 nodes judges last edges "
        "of blocks, `tokens_layers` computes its layers again in the backward pass; `peer` is the official code. "
        "A side ends where it takes too long or too much.",
        "pard.jsonl",
        pard_size,
        "pard_size",
    ),
    Section(
        "Sampling",
        "Graphs grown together with the block sizes and degrees of molecules, the same blocks for all sides, at 20 "
        "denoising steps each; networks of block properties run and are not listened to. `peer_x8` and `ours_x8` "
        "grow 8 times the graphs, `ours_x32` 32 times; graphinv cuts its batches where padding and calls together "
        "cost least. `ours_adaptive`, the default of graphinv, takes a number of steps in "
        "proportion to the unknown nodes and pairs of a block: not a ratio at equal steps. Weights are random: "
        "costs, not the quality of samples. *Times faster*: per graph, relative to `peer`.",
        "pard.jsonl",
        pard_sample,
        "pard_sample",
    ),
    Section(
        "One denoising step",
        "CPU milliseconds, and in brackets the ordered pairs computed anew, of one step of the last 4 nodes of n. "
        "`ours` keeps what finished blocks have computed: 4 rows and columns remain. `ours_uncached` computes the "
        "whole graph, as do `peer` and its transcription `plain`. The line is a least-squares fit of milliseconds "
        "over pairs; products of pair maps sum over all nodes for each pair and bend it.",
        "pard.jsonl",
        pard_step,
        "pard_step",
    ),
]
