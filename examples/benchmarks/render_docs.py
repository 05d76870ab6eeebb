"""Write the pages of docs/benchmarks from the JSON lines that lie beside them; numbers are never typed in by hand.

Where a file holds several lines for one row of a table, the last one counts, so a benchmark may be run again in part.
A row that was not measured is not in the table; a file that is missing leaves a section that says so.

Examples:
  python -m examples.benchmarks.render_docs
  python -m examples.benchmarks.render_docs --check
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .pages import Line, Section, aggregators, gdss, gpu, pard, sets

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"
PAGES: dict[str, list[Section]] = {
    "gdss.md": gdss.SECTIONS,
    "sets.md": sets.SECTIONS,
    "aggregators.md": aggregators.SECTIONS,
    "aggregator_tasks.md": aggregators.TASK_SECTIONS,
    "pard.md": pard.SECTIONS,
    "gpu.md": gpu.SECTIONS,
}


def charts(folder: Path) -> dict[str, str]:
    """Return the SVG files that the pages show, by name."""
    made = pard.charts(read(folder / "pard_training.jsonl"))
    made |= pard.size_chart(read(folder / "pard.jsonl"))
    made |= pard.molecule_charts(read(folder / "pard_molecules.jsonl"))
    made |= pard.graph_chart(read(folder / "pard_graphs.jsonl"))
    made |= gdss.charts(read(folder / "gdss_sampling.jsonl"))
    made |= sets.charts(read(folder / "subset_selection.jsonl"))
    return made | sets.compound_charts(read(folder / "compound_selection.jsonl"))


def read(path: Path) -> list[Line]:
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def page(name: str, folder: Path) -> str:
    """Return the Markdown of one page from the lines in ``folder``."""
    title = (
        name.removesuffix(".md").upper()
        if name in ("pard.md", "gdss.md", "gpu.md")
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
        f"python -m examples.benchmarks.aggregator_tasks --suite {suite}{one} --steps {training['steps']} "
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
        sys.exit(f"not what the JSON lines give: {', '.join(stale)}; run python -m examples.benchmarks.render_docs")


if __name__ == "__main__":
    main()
