"""What docs/benchmarks/aggregators.md and aggregator_tasks.md show of the lines of the aggregator scripts."""

from __future__ import annotations

from collections.abc import Callable

from .. import aggregator_tasks as tasks
from . import Line, Section, markdown, number

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


def cell(value: object, column: str) -> str:
    if column in ("batch", "permutation") and isinstance(value, (int, float)):
        return "0" if value < 1e-12 else f"{value:.2g}"
    return str(value)


def task_tables(suite: str) -> Callable[[list[Line]], str]:
    """Return what makes the tables of aggregator_tasks.py, one per task."""

    def tables(lines: list[Line]) -> str:
        seeds = sorted({line["seed"] for line in lines})
        known = [name for name in tasks.models.AGGREGATORS if any(line["aggregator"] == name for line in lines)]
        return "\n".join(tasks.table(lines, suite, task, known, seeds) for task in tasks.TASKS[suite])

    return tables


SECTIONS = [
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
]
TASK_SECTIONS = [
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
]
