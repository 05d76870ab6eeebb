"""``graphinv evaluate``: files of any kind in, the report as a table, as JSON and as a page out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphinv._files import atomic_path, keep_inputs
from graphinv.cli.arguments import column_of, make_parser
from graphinv.data import GraphStore, build_graphs, read_graphs, read_smiles
from graphinv.data.graph_files import is_graph_file
from graphinv.data.manifests import list_datasets, load_manifest
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.evaluation import evaluate
from graphinv.metrics.inputs import as_samples
from graphinv.metrics.table import format_report

__all__ = ["evaluate_verb", "read_samples"]

_PICTURES = 24  # of the page
_DRAWABLE = 2_000  # nodes


def evaluate_verb(args: list[str]) -> None:
    """Run ``evaluate``."""
    p = make_parser(
        "evaluate",
        "Judge molecules or plain graphs. Every rate of validity is over all samples, empty lines included. Under a "
        "protocol also distances to a reference, each with what training data scores (the floor) and an interval. "
        "FILE is .smi, .csv, .tsv or .txt, .graphs, or .g6, .s6, .pkl, .pt of plain graphs (.gz of each).",
    )
    p.add_argument("samples", metavar="FILE", help="the samples, or - for SMILES on standard input")
    p.add_argument("--reference", default=None, help="a store, a known set of graphs (planar), or a file")
    p.add_argument("--train", default=None, help="training data, if the reference has none: for novelty and floors")
    names = "gdss-2022, digress-2023, moses-2020, guacamol-2019, polygraph-2026"
    p.add_argument("--protocol", default=None, help=f"{names}; none: counts only")
    p.add_argument("--family", default=None, help="what a valid plain graph is: planar, tree, lobster, sbm")
    p.add_argument("--scaffolds", default=None, help="moses-2020: the scaffold test set, a second reference")
    p.add_argument("--mcf", default=None, help="moses-2020: its file of medicinal chemistry filters (mcf.csv)")
    p.add_argument("--column", default="smiles", help="column of a .csv or .tsv: name or 0-based number")
    p.add_argument("--no-header", dest="header", action="store_false", help="the tables have no header line")
    p.add_argument("--repeats", type=int, default=100, help="draws of the bootstrap, 0 for no intervals")
    p.add_argument("--seed", type=int, default=0, help="of the bootstrap and of the training data drawn for floors")
    p.add_argument("--json", default=None, help="write the report to this file")
    p.add_argument("--report", default=None, help="write the report as one page (.html)")
    for text in _judge(p.parse_args(args)):
        print(text, flush=True)


def _judge(values: Any) -> Iterator[str]:
    """Evaluate as the arguments say and write the files; yield what to print as soon as it is known."""
    for name, suffix in (("json", ".json"), ("report", ".html")):
        if getattr(values, name) and not getattr(values, name).lower().endswith(suffix):
            raise InputError(f"--{name} writes a {suffix} file, got {getattr(values, name)!r}")
    inputs = (values.samples, values.reference, values.train, values.scaffolds, values.mcf)
    keep_inputs({"--json": values.json, "--report": values.report}, inputs)
    column = column_of(values)

    def read(source: str | None) -> GraphStore | GraphBatch | list[str] | None:
        return read_samples(source, column, values.header) if source else None

    samples = read_samples(values.samples, column, values.header, whole=True)
    report = evaluate(
        samples,
        reference=read(values.reference),
        train=read(values.train),
        protocol=values.protocol,
        family=values.family,
        scaffolds=list(read_smiles(values.scaffolds, column, values.header)) if values.scaffolds else None,
        mcf=Path(values.mcf) if values.mcf else None,
        repeats=values.repeats,
        seed=values.seed,
    )
    yield format_report(report)
    if values.json:
        with atomic_path(values.json) as file:
            file.write_text(json.dumps(report, indent=2) + "\n")
        yield f"report: {values.json}"
    if values.report:
        from graphinv.metrics.page import write_page

        write_page(report, values.report, f"Evaluation of {Path(values.samples).name}", _pictures(samples))
        yield f"page: {values.report}"


def read_samples(
    source: str, column: str | int = "smiles", header: bool = True, whole: bool = False
) -> GraphStore | GraphBatch | list[str]:
    """Return what a file holds: a store (.graphs), plain graphs (.g6, .s6, .pkl, .pt) or SMILES.

    A file of graphs that names splits is a store with these, unless ``whole``; so is the name of a known set of plain
    graphs, such as "planar". ``column`` and ``header`` are of tables, as in ``read_smiles``.

    Raises:
        InputError: the file is missing, damaged or of another kind.

    Example:
        >>> file = Path(tempfile.mkdtemp()) / "a.smi"
        >>> _ = file.write_text("CCO\\n\\nC\\n")
        >>> read_samples(str(file))
        ['CCO', '', 'C']
    """
    path = Path(source)
    if path.suffix == ".graphs":
        store = GraphStore.open(path)
        store.verify()
        return store
    if is_graph_file(path):
        if whole:
            return build_graphs(path, split="none")[0]  # a store, which knows of dropped self loops
        graphs, splits = read_graphs(path)
        return graphs if splits is None else build_graphs(path)[0]
    if not path.exists() and source in list_datasets():
        if load_manifest(source).kind != "graphs":
            hint = f"graphinv data build {source} -o {source}.graphs"
            raise InputError(f"{source} is a known set of molecules; build it first ({hint}) and give that file")
        return build_graphs(source)[0]
    return list(read_smiles(source, column, header))


def _pictures(samples: GraphStore | GraphBatch | list[str]) -> str | None:
    """The first samples as the text of an SVG; of graphs those that can be drawn so that something is seen."""
    from graphinv.draw import graph_grid
    from graphinv.mol import molecule_grid

    items, _ = as_samples(samples)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "grid.svg"
        if isinstance(items, GraphBatch):
            drawable = (items.node_counts() <= _DRAWABLE).nonzero()[:_PICTURES, 0]
            if not len(drawable):
                return None
            graph_grid(items.select(drawable), file, limit=_PICTURES)
        else:
            molecule_grid(items, file, limit=_PICTURES)
        return file.read_text()
