"""The verb ``evaluate``: files of any kind in, the report as a table, as JSON and as a page out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphinv._files import atomic_path
from graphinv.data import GraphStore, build_graphs, read_graphs, read_smiles
from graphinv.data.graph_files import is_graph_file
from graphinv.data.manifests import list_datasets, load_manifest
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.evaluation import evaluate
from graphinv.metrics.inputs import as_samples
from graphinv.metrics.table import format_report

__all__ = ["judge", "load"]

_PICTURES = 24  # of the page
_DRAWABLE = 2_000  # nodes


def judge(given: Any) -> Iterator[str]:
    """Evaluate as the arguments of ``evaluate`` say and write the files; yield what to print as soon as it is known."""
    for name, suffix in (("json", ".json"), ("report", ".html")):
        if getattr(given, name) and not getattr(given, name).lower().endswith(suffix):
            raise InputError(f"--{name} writes a {suffix} file, got {getattr(given, name)!r}")
    column: str | int = int(given.column) if given.column.isdecimal() else given.column

    def opened(source: str | None) -> GraphStore | GraphBatch | list[str] | None:
        return load(source, column, given.header) if source else None

    samples = load(given.samples, column, given.header, whole=True)
    report = evaluate(
        samples,
        reference=opened(given.reference),
        train=opened(given.train),
        protocol=given.protocol,
        family=given.family,
        scaffolds=list(read_smiles(given.scaffolds, column, given.header)) if given.scaffolds else None,
        mcf=Path(given.mcf) if given.mcf else None,
        repeats=given.repeats,
        seed=given.seed,
    )
    yield format_report(report)
    if given.json:
        with atomic_path(given.json) as file:
            file.write_text(json.dumps(report, indent=2) + "\n")
        yield f"report: {given.json}"
    if given.report:
        from graphinv.metrics.page import write_page

        write_page(report, given.report, f"Evaluation of {Path(given.samples).name}", _pictures(samples))
        yield f"page: {given.report}"


def load(
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
        >>> load(str(file))
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
