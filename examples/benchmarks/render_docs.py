"""Write the pages of docs/benchmarks from the JSON lines that lie beside them; numbers are never typed in by hand.

Where a file holds several lines for one row of a table, the last one counts, so a benchmark may be run again in part.
A row that was not measured is not in the table; a file that is missing leaves a section that says so.

Examples:
  python examples/benchmarks/render_docs.py
  python examples/benchmarks/render_docs.py --check
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import _gdss_page
import _sets_page
from _chart import line_chart
from _pages import Line, Section, markdown

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"
BEHAVIOUR = {
    "batch": "batch-mate joins",
    "permutation": "permutation",
    "unsorted": "unsorted index",
    "ptr": "ptr",
    "three_d": "3-D x",
    "empty_group": "empty group",
    "empty_input": "empty input",
    "graph_breaks": "graph breaks",
    "bf16": "bfloat16",
}

CURVES = {
    "valid_strict": "strictly valid",
    "unique": "distinct",
    "path_consistent": "on its path",
    "valid_loss": "validation",
    "train_loss": "training",
}


def speed(lines: list[Line]) -> str:
    """Return one table per case: seconds, memory, and the factors to the reference and to the floor."""
    latest = {(line["case"], line["side"]): line for line in lines if line["name"] == "aggregator"}
    parts = []
    for case in dict.fromkeys(case for case, _ in latest):
        rows = [line for (of, _), line in latest.items() if of == case]
        shape = rows[-1]
        parts.append(
            f"### {case}\n\n{shape['elements']:,} rows in {shape['groups']:,} groups, the largest of "
            f"{shape['largest']:,}; {shape['channels']} channels.\n"
        )
        header = ["side", "seconds", "CPU seconds", "extra MB", "times less time", "times less memory", "over floor"]
        parts.append(markdown(header, [speed_row(line) for line in rows]))
    return "\n".join(parts)


def speed_row(line: Line) -> list[str]:
    if line["status"] != "ok":
        asked = f", asked for {line['asked_mb'] / 1000:.1f} GB at once" if "asked_mb" in line else ""
        reason = line["message"] if line["status"] == "error" else line["status"]
        cap = f" (cap {line['memory_cap_gb']:g} GB{asked})" if line["status"] == "out of memory" else ""
        return [line["side"], reason + cap, *[""] * 5]
    seconds = f"{number(line['median_s'])} ± {number(line['iqr_s'])}" + (" (1 iteration)" * (line["iterations"] == 1))
    factors = [pair(line, "ratio_time", "ratio_cpu"), number(line.get("ratio_memory"))]
    if line.get("reference_status", "ok") != "ok":
        factors = [f"{line['reference']}: {line['reference_status']}", ""]
    elif line["side"] == line.get("reference"):
        factors = ["reference", "reference"]
    elif any(factors):
        factors[0] += f" ({line['reference']})"
    over = pair(line, "time_over_floor", "cpu_over_floor")
    return [line["side"], seconds, number(line["cpu_s"]), number(line["extra_mb"]), *factors, over]


def pair(line: Line, *keys: str) -> str:
    """Return two figures, of wall and of CPU seconds."""
    return " / ".join(number(line[key]) for key in keys if line.get(key) is not None)


def behaviour(lines: list[Line]) -> str:
    """Return the matrix of aggregators and columns."""
    latest = {line["aggregator"]: line for line in lines if line["name"] == "behaviour"}
    rows = [[name, *(cell(line[column], column) for column in BEHAVIOUR)] for name, line in latest.items()]
    return markdown(["aggregator", *BEHAVIOUR.values()], rows)


def task_tables(suite: str) -> Callable[[list[Line]], str]:
    """Return what makes the tables of aggregator_tasks.py, one per task."""

    def tables(lines: list[Line]) -> str:
        spec = importlib.util.spec_from_file_location(
            "aggregator_tasks", Path(__file__).with_name("aggregator_tasks.py")
        )
        tasks = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tasks)
        seeds = sorted({line["seed"] for line in lines})
        known = [name for name in tasks.models.AGGREGATORS if any(line["aggregator"] == name for line in lines)]
        return "\n".join(tasks.table(lines, suite, task, known, seeds) for task in tasks.TASKS[suite])

    return tables


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


def charts(folder: Path) -> dict[str, str]:
    """Return the SVG files that the pages show, by name."""
    made = pard_charts(read(folder / "pard_training.jsonl"))
    made |= _gdss_page.charts(read(folder / "gdss_sampling.jsonl"))
    return made | _sets_page.charts(read(folder / "subset_selection.jsonl"))


def read(path: Path) -> list[Line]:
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def pard_charts(lines: list[Line]) -> dict[str, str]:
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


def cell(value: object, column: str) -> str:
    if column in ("batch", "permutation") and isinstance(value, (int, float)):
        return "0" if value < 1e-12 else f"{value:.2g}"
    return str(value)


def number(value: float | None) -> str:
    """Return a figure with three digits; nothing for what was not measured."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if value >= 1e-4 else f"{value:.2g}"


PAGES: dict[str, list[Section]] = {
    "gdss.md": _gdss_page.SECTIONS,
    "sets.md": _sets_page.SECTIONS,
    "aggregators.md": [
        Section(
            "Time and memory",
            "One forward and backward in float32, each side in processes of its own, the sides of a case in "
            "turns: median wall seconds ± quartile distance, CPU seconds, and memory at the peak over what was "
            "held before (10^6 bytes). *Times less* is the reference divided by the side, both of the same run "
            "(time: by wall / by CPU seconds): `pyg_gru` for the GRUs, `pyg_lcm` for the others; below 1 the side "
            "needs more. *Over floor* is the time relative to `floor`: all operator rows of the GRU tree in a "
            "single level. Sides of graphinv find the groups anew in every iteration; `plan` is that part, "
            "`plan_cached` what it takes when the layout is reused.",
            "aggregators.jsonl",
            speed,
        ),
        Section(
            "Poolings: time and memory",
            "As above, in one process a side and beside other work, so that the CPU seconds are the ones to compare; "
            "every side maps 64 channels to 64. The reference is `pyg_set_transformer` for the Set "
            "Transformers, `pyg_deep_sets` (a linear map, a sum, a linear map) for the others. `set_transformer` has "
            "one block of full attention, `set_transformer_induced` one with 16 points; `janossy_1000` takes pairs, at "
            "most 1,000 of a group.",
            "poolings.jsonl",
            speed,
        ),
        Section(
            "Behaviour",
            "Freshly initialised, in float64. *Batch-mate joins*: relative change of the result of a group of 3 rows "
            "when a group of 37 joins the batch. *Permutation*: largest relative change when rows of a group change "
            "places. 0 stands for anything below 1e-12. *Empty group*: groups without rows, first, last and "
            "between. *Graph breaks* of `torch.compile` with the sizes as hints. *bfloat16*: dtype of the result.",
            "aggregator_behaviour.jsonl",
            behaviour,
        ),
    ],
    "aggregator_tasks.md": [
        Section(
            "Sets of integers",
            "Trained on sets of 2 to 16 elements, tested on 1,024 sets of each size n, most of them larger than any "
            "in training. All models have 20,000 parameters within 10%, the same data for the same seed, and "
            "the figures are those of the last step: mean ± standard deviation over seeds. *Flips at n*: share of "
            "predictions that change when a set is shuffled. Models named *random* were trained with a new order in "
            "each step and the associativity penalty, and are tested in the order given. Both errors are of the "
            "trained aggregator, the worst over seeds. One learning rate for all, chosen on other sets; a rate "
            "chosen per aggregator may rank them otherwise.",
            "aggregator_tasks.jsonl",
            task_tables("sets"),
        ),
        Section(
            "PNA multi-task graphs",
            "Distances, eccentricity, Laplacian features of nodes; connectedness, diameter, spectral radius of graphs "
            "(arXiv:2004.05718), generated anew: 512 training graphs of 15 to 24 nodes, the weights with the best of "
            "128 validation graphs are tested on 256 of the same and 64 of each larger size. Only the aggregator "
            "differs. log10 of the mean squared error, targets divided by their largest value in training. A "
            "budget for a CPU: the published figures come from ten times the graphs and ten thousand epochs and are "
            "lower.",
            "aggregator_tasks_pna.jsonl",
            task_tables("pna"),
        ),
    ],
    "pard.md": [
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
    ],
}


def page(name: str, folder: Path) -> str:
    """Return the Markdown of one page from the lines in ``folder``."""
    title = (
        name.removesuffix(".md").upper()
        if name in ("pard.md", "gdss.md")
        else name.removesuffix(".md").replace("_", " ").capitalize()
    )
    parts = [f"# {title}: measurements\n", "<!-- Made by examples/benchmarks/render_docs.py; do not edit. -->\n"]
    for section in PAGES[name]:
        parts.append(f"## {section.title}\n\n{section.text}\n")
        path = folder / section.file
        texts = path.read_text().splitlines() if path.exists() else []
        lines = [line for line in map(json.loads, texts) if section.name in (None, line.get("name"))]
        if not lines:
            parts.append(f"Not measured yet: there is no {section.file}.\n")
            continue
        parts += [provenance(lines), section.table(lines)]
    return "\n".join(parts)


def provenance(lines: list[Line]) -> str:
    """Return the commands that made the lines, and with what."""
    commands = "\n".join(dict.fromkeys(line["command"] if "command" in line else task_command(line) for line in lines))
    keys = {"device": "", "machine": "", "threads": "threads: ", "torch": "torch "}
    keys |= {"torch_geometric": "torch_geometric ", "peer_commit": "LingxiaoShawn/Pard "}
    found = {key: dict.fromkeys(str(line[key]) for line in lines if key in line) for key in keys}
    setting = [keys[key] + ", ".join(values) for key, values in found.items() if values]
    if "training" in lines[0]:
        setting.append(", ".join(f"{key} {value}" for key, value in lines[0]["training"].items()))
    return f"```\n{commands}\n```\n\nWith {'; '.join(setting)}.\n"


def task_command(line: Line) -> str:
    """Return the command of a line of aggregator_tasks.py, for all tasks and aggregators with its settings."""
    training, suite = line["settings"]["training"], line["suite"]
    one = f" --tasks {line['task']}" if suite == "sets" and training["steps"] != 1500 else ""
    return (
        f"python examples/benchmarks/aggregator_tasks.py --suite {suite}{one} --steps {training['steps']} "
        f"--lr {training['lr']:g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=DOCS, help="of the JSON lines and the pages (docs/benchmarks)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is not up to date")
    args = parser.parse_args()
    stale = []
    files = {name: page(name, args.folder) for name in PAGES} | charts(args.folder)
    for name, text in files.items():
        path = args.folder / name
        if args.check and (not path.exists() or path.read_text() != text):
            stale.append(str(path))
        elif not args.check:
            path.write_text(text)
    if stale:
        sys.exit(f"not what the JSON lines give: {', '.join(stale)}; run python examples/benchmarks/render_docs.py")


if __name__ == "__main__":
    main()
