"""Whatever graphs come as, to a store: data sets by name, files, lines of SMILES, networkx and PyG graphs.

One function finds out what it was given; reading and encoding are those of ``graphinv.data`` and ``graphinv.mol``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from graphinv._files import keep_inputs
from graphinv.data import GraphStore, Vocabulary, apply_split, build_graphs, file_sha256, is_graph_file, read_smiles
from graphinv.data.manifests import list_datasets, load_manifest
from graphinv.data.readers import read_rows
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.models import ordered_store
from graphinv.mol import Rejects, build_dataset, build_store

__all__ = ["build"]

_SPLIT = "random:0.8/0.1/0.1:0"
_BONDS = ("single", "double", "triple")
_FLAGS = {  # settings of molecules, as the command line calls them
    "scheme": "--atoms",
    "hydrogens": "--hydrogens",
    "max_nodes": "--max-atoms",
    "columns": "--columns",
    "properties": "--properties",
    "rejects_path": "--rejects",
    "vocabulary": "--vocabulary",
}


def build(
    source: Any,
    *,
    split: str | None = None,
    max_hops: int | None = None,
    vocabulary: Vocabulary | Sequence[str] | None = None,
    node_attr: str = "label",
    edge_attr: str = "label",
    scheme: str | None = None,
    hydrogens: bool = False,
    max_nodes: int | None = None,
    column: str | int = "smiles",
    header: bool = True,
    columns: Sequence[str] = (),
    properties: Sequence[str] = (),
    workers: int | None = None,
    rejects_path: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> tuple[GraphStore, Rejects | str]:
    """Build the store of a data set, a file, lines of SMILES or graphs; return it and what was read.

    Args:
        source: the name of a known data set (smallmol, qm9, planar, ...) or the path of a manifest (.toml); the path
            of a file of molecules (.smi, .csv, .tsv, .txt, each also .gz; "-" is standard input) or of plain graphs
            (.g6, .s6, .pkl, .pt), several files of molecules as a list of ``pathlib.Path``; lines of SMILES, any
            iterable of str; or graphs: a ``GraphBatch``, networkx graphs or PyG ``Data``, one or a list.
        split: a rule of ``graphinv.data.split_ids``; None is the published rule of a data set, the splits that a file
            names, else random:0.8/0.1/0.1:0.
        max_hops: H; the generation blocks of every node by this order go into the store.
        vocabulary: the atoms of molecules, such as ["C", "N", "O"], or the labels of graphs; None takes what occurs.
        node_attr, edge_attr: where networkx graphs keep their labels.
        scheme, hydrogens, max_nodes, workers, rejects_path: of molecules, as in ``graphinv.mol.build_store``.
        column, header: of a table, as in ``graphinv.data.read_smiles``.
        columns: of a table: numbers to keep beside each molecule.
        properties: numbers to compute of each molecule, as in ``graphinv.mol.build_store``.
        progress: show bars.

    Returns:
        the store, and what was read: ``Rejects`` of molecules (lines, kept, counts by reason), a line of graphs.

    Raises:
        InputError: there is no such source, it holds nothing, or a setting does not fit it.
        DownloadError: a file of a data set is neither at hand nor to be had.

    Example:
        >>> store, rejects = build(["CCO", "C1CC1", "C1CC"], split="none", workers=1, progress=False)
        >>> len(store), rejects.counts
        (2, {'unparsable': 1})
        >>> import networkx
        >>> store, told = build([networkx.path_graph(3), networkx.cycle_graph(4)], split="none")
        >>> store.node_counts().tolist(), told
        ([3, 4], '2 graphs, 0 self loops removed')
    """
    store: GraphStore
    told: Rejects | str
    graphs, lines, files = _parts(source)
    keep_inputs({"rejects_path": rejects_path}, files)
    molecular: dict[str, Any] = {"scheme": scheme, "hydrogens": hydrogens, "max_nodes": max_nodes}
    molecular |= {"columns": columns, "properties": properties, "rejects_path": rejects_path}
    if graphs is not None:
        _refuse(molecular, "the source")
        if isinstance(vocabulary, Vocabulary) or vocabulary is None:
            store, told = _of_graphs(graphs, split, vocabulary, (node_attr, edge_attr))
        else:
            raise InputError(f"the labels of graphs are a graphinv.Vocabulary, got {type(vocabulary).__name__}")
    elif any(_holds_graphs(file) for file in files):
        if len(files) > 1:
            raise InputError(f"a store of graphs is built from one file or data set, got {', '.join(files)}")
        _refuse({**molecular, "vocabulary": vocabulary}, files[0])
        store, told = build_graphs(files[0], split=split, progress=progress)
    else:
        if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
            vocabulary = Vocabulary(tuple(vocabulary), _BONDS, scheme or "element+charge")
        molecular |= {"vocabulary": vocabulary, "workers": workers, "progress": progress}
        store, told = _of_molecules(lines, files, split, (column, header), molecular)
    return (store if max_hops is None else ordered_store(store, max_hops, progress=progress)), told


def _parts(source: Any) -> tuple[Any, Iterable[str] | None, list[str]]:
    """Return graphs, lines of SMILES and the names of files and data sets; two of the three are not there."""
    if isinstance(source, (str, os.PathLike)):
        return None, None, [os.fspath(source)]
    if isinstance(source, GraphBatch) or _is_graph(source):
        return source, None, []
    if not isinstance(source, Iterable):
        raise InputError(f"expected a file, a data set, lines of SMILES or graphs, got {type(source).__name__}")
    rest = iter(source)
    first = next(rest, None)
    if first is None:
        raise InputError("there is nothing to build a store of: the source is empty")
    if isinstance(first, str):
        return None, chain([first], rest), []
    every = [first, *rest]
    if all(isinstance(item, os.PathLike) for item in every):
        return None, None, [os.fspath(item) for item in every]
    if all(isinstance(item, GraphBatch) for item in every):
        return GraphBatch.from_graphs(every), None, []
    if all(_is_graph(item) for item in every):
        return every, None, []
    kinds = ", ".join(sorted({type(item).__name__ for item in every}))
    raise InputError(f"expected lines of SMILES, paths or graphs, all of one kind, got {kinds}")


def _is_graph(item: Any) -> bool:
    """Whether this is a graph of PyG or networkx, neither of which is imported to find out."""
    return hasattr(item, "edge_index") or (hasattr(item, "nodes") and hasattr(item, "edges"))


def _holds_graphs(source: str) -> bool:
    known = source in list_datasets() or source.endswith(".toml")
    return load_manifest(source).kind == "graphs" if known else is_graph_file(source)


def _refuse(settings: dict[str, Any], source: str) -> None:
    foreign = [f"{name} ({_FLAGS[name]})" for name, value in settings.items() if value not in (None, False, (), [])]
    if foreign:
        raise InputError(f"{source} holds graphs, not molecules; leave out {', '.join(foreign)}, made for molecules")


def _of_graphs(
    graphs: Any, split: str | None, vocabulary: Vocabulary | None, labels: tuple[str, str]
) -> tuple[GraphStore, str]:
    if not isinstance(graphs, GraphBatch):
        return build_graphs(graphs, split=split, vocabulary=vocabulary, node_attr=labels[0], edge_attr=labels[1])
    count = {"lines": graphs.num_graphs, "kept": graphs.num_graphs}
    provenance = {"sources": [{"name": "memory", "sha256": None}], "counts": count}
    store = GraphStore.from_graphs(graphs, vocabulary, provenance=provenance)
    return apply_split(store, split or _SPLIT), f"{graphs.num_graphs:,} graphs"


def _of_molecules(
    lines: Any, files: list[str], split: str | None, table: tuple[str | int, bool], settings: dict[str, Any]
) -> tuple[GraphStore, Rejects]:
    if len(files) == 1 and (files[0] in list_datasets() or files[0].endswith(".toml")):
        return build_dataset(files[0], split=split, **settings)
    if any(file.endswith(".graphs") for file in files):
        raise InputError(f"{files[0]} is a store already; open it with GraphStore.open")
    origin: dict[str, Any] = {"name": "memory"}
    notes: list[str] = []
    columns = settings["columns"]
    if files:
        parts = [read_rows(f, columns, *table, notes) if columns else read_smiles(f, *table, notes) for f in files]
        lines = chain.from_iterable(parts)
        origin = {"name": ", ".join(files)}
        origin["sha256"] = file_sha256(files[0]) if len(files) == 1 and files[0] != "-" else None
    elif columns:
        raise InputError(f"lines of SMILES have no columns {', '.join(columns)}; give a .csv or .tsv file")
    settings = {**settings, **origin, "scheme": settings["scheme"] or "element+charge"}
    store, rejects = build_store(lines, split=split or _SPLIT, **settings)
    rejects.notes = notes
    return store, rejects
