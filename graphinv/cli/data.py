"""``graphinv data``: stores built, described and listed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from graphinv._files import keep_inputs
from graphinv.cli.arguments import column_of, make_parser
from graphinv.data import SPLITS, GraphStore
from graphinv.data.manifests import list_datasets, load_manifest
from graphinv.ops import segment_reduce
from graphinv.sources import build

__all__ = ["build_verb", "info_verb", "list_verb", "store_info", "store_lines"]


def build_verb(args: list[str]) -> None:
    """Run ``data build``."""
    p = make_parser(
        "data build",
        "Encode SMILES into a store: one file, opened without reading it. Every line is kept or counted as a reject. "
        "FILE is .smi, .csv, .tsv or .txt (.gz of each), - for standard input, or the name of a known data set. Graphs "
        "without labels come as one .g6, .s6, .pkl (networkx; nothing of it is run) or .pt (SPECTRE) file.",
    )
    p.add_argument("files", nargs="+", metavar="FILE", help="files, -, or one of the known data sets (data list)")
    p.add_argument("-o", "--output", required=True, help="the store to write, such as molecules.graphs")
    p.add_argument("--column", default="smiles", help="column of a .csv or .tsv: name or 0-based number")
    p.add_argument("--no-header", dest="header", action="store_false", help="the tables have no header line")
    p.add_argument(
        "--atoms",
        default=None,
        choices=["element", "element+charge"],
        help="what tells atoms apart: element drops charges, as some data sets do; element+charge unless those say so",
    )
    p.add_argument("--vocabulary", default=None, help="atoms allowed, such as C,N,O,F; others become rejects")
    p.add_argument("--hydrogens", action="store_true", help="make hydrogens nodes, as H in --vocabulary does")
    p.add_argument("--max-atoms", type=int, default=None, help="most heavy atoms of a molecule")
    p.add_argument("--columns", default=None, help="columns of the tables to keep as numbers, such as logp,activity")
    p.add_argument("--properties", default=None, help="numbers to compute of molecules: logp,qed,sa,tpsa,mw,rings")
    p.add_argument("--max-hops", type=int, default=None, metavar="H", help="keep the blocks of this order in the store")
    p.add_argument("--split", default=None, help="random:0.8/0.1/0.1:SEED, head:0.2, given, gdss-qm9, index:FILE, none")
    p.add_argument("--rejects", default=None, help="write rejected lines with their reason to this file")
    p.add_argument("--workers", type=int, default=None, help="processes; all cores if not given")
    values = p.parse_args(args)
    keep_inputs({"--output": values.output, "--rejects": values.rejects}, values.files)
    store, told = build(
        values.files[0] if len(values.files) == 1 else [Path(file) for file in values.files],
        split=values.split,
        max_hops=values.max_hops,
        column=column_of(values),
        header=values.header,
        scheme=values.atoms,
        vocabulary=None if values.vocabulary is None else _names(values.vocabulary),
        columns=_names(values.columns),
        properties=_names(values.properties),
        hydrogens=values.hydrogens,
        max_nodes=values.max_atoms,
        workers=values.workers,
        rejects_path=values.rejects,
    )
    store.save(values.output)
    print(told)
    print(f"{values.output}: {Path(values.output).stat().st_size / 1e6:.2f} MB, hash {store.content_hash[:12]}")


def info_verb(args: list[str]) -> None:
    """Run ``data info``."""
    p = make_parser("data info", "Check a store and say what it holds.")
    p.add_argument("store", help="a store written by graphinv data build")
    p.add_argument("--json", action="store_true", help="print JSON")
    values = p.parse_args(args)
    content = store_info(values.store)
    print(json.dumps(content, indent=2) if values.json else "\n".join(store_lines(values.store, content)))


def list_verb(args: list[str]) -> None:
    """Run ``data list``."""
    make_parser("data list", "List the data sets that data build knows by name.").parse_args(args)
    for name in list_datasets():
        manifest = load_manifest(name)
        print(f"{name:15} {manifest.kind:9} {manifest.title} (split {manifest.split}; licence: {manifest.licence})")


def store_info(path: str) -> dict[str, Any]:
    """Check a store and return what it holds; text and numbers alone."""
    store = GraphStore.open(path)
    store.verify()
    blocks = _mean_blocks(store)
    return {
        "graphs": store.num_graphs,
        "splits": {s: n for s in SPLITS if (n := store.indices(s).numel())},
        "nodes": dict(enumerate(store.node_histogram("all").tolist())),
        "vocabulary": store.vocabulary.to_json(),
        "blocks": None if blocks is None else {"rule": store.block_rule, "mean": blocks},
        "columns": {
            "node": _columns_info({k: v for k, v in store.node_columns.items() if k != "block"}),
            "edge": _columns_info(store.edge_columns),
            "graph": _columns_info(store.graph_columns),
        },
        "hash": store.content_hash,
        "provenance": store.provenance,
    }


def store_lines(path: str, content: Mapping[str, Any]) -> list[str]:
    """Return what a store holds as lines for a person to read."""
    vocabulary, blocks = content["vocabulary"], content["blocks"]
    lines = [
        f"{path}: {content['graphs']:,} graphs, hash {content['hash'][:12]}",
        "splits     " + ", ".join(f"{k} {v:,}" for k, v in content["splits"].items()),
        f"node types {' '.join(vocabulary['nodes'])} ({vocabulary['scheme']})",
        "edge types " + " ".join(vocabulary["edges"]),
        "node count " + ", ".join(f"{k}: {v:,}" for k, v in content["nodes"].items() if v),
    ]
    if blocks is not None:
        lines.append(f"blocks     {blocks['rule']}, {blocks['mean']:.2f} a graph on average")
    for kind, columns in content["columns"].items():
        if columns:
            lines.append(f"columns    of {kind}s: " + ", ".join(_column_text(k, v) for k, v in columns.items()))
    return [*lines, "provenance " + json.dumps(content["provenance"])]


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _columns_info(columns: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return type, least, mean and most of each named column, and how many are not finite; of text the type."""
    content: dict[str, dict[str, Any]] = {}
    for name, column in columns.items():
        if not isinstance(column, torch.Tensor):
            content[name] = {"type": "text"}
            continue
        numbers = column.to(torch.uint8) if column.dtype == torch.bool else column
        known = numbers[numbers.isfinite()] if numbers.is_floating_point() else numbers
        content[name] = {"type": str(column.dtype).removeprefix("torch."), "shape": list(column.shape[1:])}
        if known.numel():
            bounds = {"least": known.min().item(), "most": known.max().item()}
            content[name] |= bounds | {"mean": known.double().mean().item()}
        content[name]["unknown"] = column.numel() - known.numel()
    return content


def _column_text(name: str, info: Mapping[str, Any]) -> str:
    bounds = f", {info['least']:g} to {info['most']:g}, mean {info['mean']:g}" if "least" in info else ""
    unknown = f", {info['unknown']:,} unknown" if info.get("unknown") else ""
    return f"{name} ({info['type']}{bounds}{unknown})"


def _mean_blocks(store: GraphStore) -> float | None:
    """Return the mean number of generation blocks of a graph; None if the store holds no blocks."""
    if store.block is None:
        return None
    last = segment_reduce(store.block.long(), store.node_ptr.long(), "max")
    return float((last + 1)[store.node_counts() > 0].sum()) / max(len(store), 1)
