"""The verb ``evaluate``: files of any kind in, the report as a table, as JSON and as a page out."""

from __future__ import annotations

import json
import tempfile
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


def judge(given: Any) -> str:
    """Evaluate as the arguments of ``evaluate`` say, write the files and return what to print."""
    for name, suffix in (("json", ".json"), ("report", ".html")):
        if getattr(given, name) and not getattr(given, name).lower().endswith(suffix):
            raise InputError(f"--{name} writes a {suffix} file, got {getattr(given, name)!r}")
    samples = load(given.samples, given.column, whole=True)
    report = evaluate(
        samples,
        reference=load(given.reference, given.column) if given.reference else None,
        train=load(given.train, given.column) if given.train else None,
        protocol=given.protocol,
        family=given.family,
        scaffolds=list(read_smiles(given.scaffolds, given.column)) if given.scaffolds else None,
        mcf=Path(given.mcf) if given.mcf else None,
        repeats=given.repeats,
        seed=given.seed,
    )
    told = [format_report(report)]
    if given.json:
        with atomic_path(given.json) as file:
            file.write_text(json.dumps(report, indent=2) + "\n")
        told.append(f"report: {given.json}")
    if given.report:
        from graphinv.metrics.page import write_page

        write_page(report, given.report, f"Evaluation of {Path(given.samples).name}", _pictures(samples))
        told.append(f"page: {given.report}")
    return "\n".join(told)


def load(source: str, column: str | int, whole: bool = False) -> GraphStore | GraphBatch | list[str]:
    """Return what a file holds: a store (.graphs), plain graphs (.g6, .s6, .pkl, .pt) or SMILES.

    A file of graphs that names splits is a store with these, unless ``whole``; so is the name of a known set of plain
    graphs, such as "planar".

    Raises:
        InputError: the file is missing, damaged or of another kind.

    Example:
        >>> file = Path(tempfile.mkdtemp()) / "a.smi"
        >>> _ = file.write_text("CCO\\n\\nC\\n")
        >>> load(str(file), "smiles")
        ['CCO', '', 'C']
    """
    path = Path(source)
    if path.suffix == ".graphs":
        store = GraphStore.open(path)
        store.verify()
        return store
    if is_graph_file(path):
        graphs, splits = read_graphs(path)
        return graphs if splits is None or whole else build_graphs(path)[0]
    if not path.exists() and source in list_datasets() and load_manifest(source).kind == "graphs":
        return build_graphs(source)[0]
    return list(read_smiles(source, column))


def _pictures(samples: GraphStore | GraphBatch | list[str]) -> str:
    """The first samples as the text of an SVG."""
    from graphinv.draw import graph_grid
    from graphinv.mol import molecule_grid

    items, _ = as_samples(samples)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "grid.svg"
        if isinstance(items, GraphBatch):
            graph_grid(items, file, limit=_PICTURES)
        else:
            molecule_grid(items, file, limit=_PICTURES)
        return file.read_text()
