"""Sets of plain graphs in and out of files: graph6 and sparse6 lines, pickled networkx graphs, SPECTRE's .pt lists.

Only who is linked to whom is read: node and edge attributes are dropped, every node has type 0 and every edge type 1.
It is not a reader of molecules; those come as SMILES.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from graphinv._files import atomic_path
from graphinv.data._safe_pickle import PlainGraph, load_tensors, pickled_graphs
from graphinv.data._undirected import undirected_bonds
from graphinv.data.labelled import pack_labelled
from graphinv.data.manifests import load_manifest, locate
from graphinv.data.readers import file_sha256
from graphinv.data.splits import apply_split
from graphinv.data.store import SPLITS, GraphStore
from graphinv.data.vocabulary import Vocabulary
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch

__all__ = ["build_graphs", "is_graph_file", "read_graphs", "write_graphs"]

_SPLIT = "random:0.8/0.1/0.1:0"
_PLAIN = Vocabulary(("0",), ("1",), "generic")
_MOST_NODES = 1_000_000  # of one sparse6 graph: a few bytes can claim 2**36 nodes


@dataclass
class _Found:
    """Graphs as read, before they are packed; self loops are still among the pairs."""

    graphs: list[PlainGraph] = field(default_factory=list)
    splits: list[str] | None = None

    def packed(self) -> tuple[GraphBatch, int]:
        """The graphs without self loops, and how many of those there were."""
        loops = sum(u == v for _, pairs in self.graphs for u, v in pairs)
        kept = [sorted((u, v) for u, v in pairs if u != v) for _, pairs in self.graphs]
        counts = torch.tensor([n for n, _ in self.graphs], dtype=torch.long)
        edges = torch.tensor([2 * len(pairs) for pairs in kept], dtype=torch.long)
        ptr, edge_ptr = (torch.cat([c.new_zeros(1), c.cumsum(0)]) for c in (counts, edges))
        local = torch.tensor([pair for pairs in kept for u, v in pairs for pair in ((u, v), (v, u))], dtype=torch.long)
        index = local.reshape(-1, 2).t() + torch.repeat_interleave(ptr[:-1], edges)
        x, types = torch.zeros(int(ptr[-1]), dtype=torch.long), torch.ones(int(edge_ptr[-1]), dtype=torch.long)
        return GraphBatch(x, index.contiguous(), types, ptr, edge_ptr), loops


def is_graph_file(path: str | os.PathLike[str]) -> bool:
    """Return whether ``read_graphs`` reads files of this name: .g6, .s6, .pkl, .pickle or .pt, each plain or .gz.

    Example:
        >>> is_graph_file("sets/grid.pkl"), is_graph_file("qm9.csv.gz")
        (True, False)
    """
    return _kind(Path(path)) in _READERS


def read_graphs(path: str | os.PathLike[str]) -> tuple[GraphBatch, list[str] | None]:
    """Return the B graphs of a file and, where the file names splits, the split of each ("train", "valid", "test").

    .g6, .s6: one undirected graph a line in graph6 or sparse6 (B. McKay's formats), empty lines are skipped.
    .pkl: a list of networkx.Graph, or a dict of such lists by split; nothing of the file is run, and anything that
    is not networkx.Graph, a container, a number or text is refused. .pt: the list that SPECTRE (arXiv:2204.01613)
    saves, its first entry the adjacency matrices. Node order is the file's; attributes, weights and self loops
    are dropped.

    Raises:
        InputError: the file is missing, of another kind, damaged, or holds directed or multigraphs.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "two.g6"
        >>> _ = file.write_text("Bw\\nA?\\n")
        >>> batch, splits = read_graphs(file)
        >>> batch.node_counts().tolist(), batch.num_edges, splits
        ([3, 2], 6, None)
    """
    found = _read(Path(path))
    return found.packed()[0], found.splits


def write_graphs(path: str | os.PathLike[str], batch: GraphBatch, vocabulary: Vocabulary | None = None) -> None:
    """Write graphs as graph6, one a line (.g6), or as a store (.graphs) with their columns, atomically.

    graph6 holds no types, so graphs of more than one node or edge type are refused there. ``vocabulary`` has the
    labels for the store; without one they are the numbers.

    Raises:
        InputError: another suffix, types that graph6 would lose, self loops, repeated edges, or a refused write.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "path.g6"
        >>> write_graphs(file, GraphBatch.single(torch.zeros(2, dtype=torch.long), torch.tensor([[0, 1], [1, 0]])))
        >>> file.read_text()
        'A_\\n'
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix == ".graphs":
        GraphStore.from_graphs(batch, vocabulary).save(target)
        return
    if suffix != ".g6":
        raise InputError(f"graphs are written as .g6 or .graphs, got {os.fspath(path)!r}")
    import networkx as nx

    bonds = undirected_bonds(batch)
    if batch.x.dim() != 1 or any(torch.unique(types).numel() > 1 for types in (batch.x, bonds.types)):
        raise InputError("graph6 holds no node or edge types and these graphs have several; write a .graphs store")
    counts, pairs, ends = batch.node_counts().tolist(), bonds.ends.tolist(), bonds.ptr.tolist()
    with atomic_path(target) as temporary, open(temporary, "wb") as stream:
        for k, count in enumerate(counts):
            graph = nx.empty_graph(count)
            graph.add_edges_from(pairs[ends[k] : ends[k + 1]])
            stream.write(nx.to_graph6_bytes(graph, header=False))


def build_graphs(
    source: Any,
    *,
    split: str | None = None,
    vocabulary: Vocabulary | None = None,
    node_attr: str = "label",
    edge_attr: str = "label",
    progress: bool = True,
) -> tuple[GraphStore, str]:
    """Build the store of a known set of graphs, of one's own file or of graphs at hand; also say what was read.

    Args:
        source: a known set, a manifest (.toml) or a file, whose graphs are read without labels; or networkx graphs or
            PyG ``Data``, one or a list, with labels and columns as ``graphinv.data.labelled.pack_labelled`` reads them.
        split: a rule of ``split_ids``, or "given": the splits that the file names. None is the manifest's rule; for a
            file "given" if it names splits, else random:0.8/0.1/0.1:0.
        vocabulary: the labels allowed, for graphs at hand; None takes those that occur.
        node_attr: attribute of networkx nodes that holds their label.
        edge_attr: attribute of networkx edges that holds theirs.
        progress: show a bar of a download.

    Raises:
        InputError: there is no such set, the file cannot be read, or the rule or a label does not fit it.
        DownloadError: the set's file is neither at hand nor to be had.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "two.g6"
        >>> _ = file.write_text("Bw\\nA?\\n")
        >>> store, told = build_graphs(file, split="none")
        >>> len(store), told
        (2, '2 graphs, 0 self loops removed')
        >>> import networkx as nx
        >>> road = nx.Graph([("a", "b", {"label": "road"})])
        >>> build_graphs([road], split="none")[0].vocabulary.edges
        ('road',)
    """
    if not isinstance(source, (str, os.PathLike)):
        batch, vocabulary, loops = pack_labelled(source, vocabulary, node_attr, edge_attr)
        return _build_store(batch, vocabulary, loops, {"name": "memory", "sha256": None}, split or _SPLIT)
    if vocabulary is not None or (node_attr, edge_attr) != ("label", "label"):
        raise InputError(f"{os.fspath(source)} is read without labels; leave out vocabulary, node_attr and edge_attr")
    path, name, rule = Path(source), os.fspath(source), split
    if not is_graph_file(path):
        manifest = load_manifest(source)
        if manifest.kind != "graphs":
            raise InputError(f"data set {manifest.name} holds {manifest.kind}, not graphs; use graphinv.build")
        if len(manifest.files) != 1:
            raise InputError(f"data set {manifest.name} must have one file of graphs, got {len(manifest.files)}")
        path, name = locate(manifest.files[0], progress=progress), manifest.name
        rule = split or manifest.split
    found = _read(path)
    if not found.graphs:
        raise InputError(f"{path} holds no graph")
    batch, loops = found.packed()
    rule = rule or (_SPLIT if found.splits is None else "given")
    content = {"name": name, "sha256": file_sha256(path)}
    if rule != "given":
        return _build_store(batch, _PLAIN, loops, content, rule)
    store, told = _build_store(batch, _PLAIN, loops, content, "none")
    if found.splits is None:
        raise InputError(f"{path} names no splits; choose another rule than 'given'")
    numbers = {str(label): number for number, label in enumerate(SPLITS)}
    return store.with_split(torch.tensor([numbers[label] for label in found.splits]), rule), told


def _build_store(
    batch: GraphBatch, vocabulary: Vocabulary, loops: int, source: dict[str, Any], rule: str
) -> tuple[GraphStore, str]:
    counts = {"lines": batch.num_graphs, "kept": batch.num_graphs, "self_loops_removed": loops}
    store = GraphStore.from_graphs(batch, vocabulary, provenance={"sources": [source], "counts": counts})
    return apply_split(store, rule), f"{batch.num_graphs:,} graphs, {loops:,} self loops removed"


def _kind(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _read(path: Path) -> _Found:
    if _kind(path) not in _READERS:
        raise InputError(f"graphs are read from {', '.join(_READERS)} (each also .gz), got {os.fspath(path)!r}")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        return _READERS[_kind(path)](content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_lines(content: bytes) -> _Found:
    import networkx as nx

    found = _Found()
    for number, line in enumerate(content.splitlines(), 1):
        text = line.strip().removeprefix(b">>graph6<<").removeprefix(b">>sparse6<<")
        if not text:
            continue
        try:
            if text.startswith(b"&"):
                raise ValueError("digraph6 is directed")
            if not all(63 <= character <= 126 for character in text.removeprefix(b":")):
                raise ValueError("its characters must be those from ? to ~")
            if text.startswith(b":") and nx.readwrite.graph6.data_to_n([c - 63 for c in text[1:]])[0] > _MOST_NODES:
                raise ValueError(f"it claims more than {_MOST_NODES:,} nodes")
            graph = nx.from_sparse6_bytes(text) if text.startswith(b":") else nx.from_graph6_bytes(text)
            if graph.is_multigraph():
                raise ValueError("it repeats an edge (a multigraph)")
        except (ValueError, IndexError, nx.NetworkXException) as error:
            raise InputError(f"line {number} is no undirected simple graph in graph6 or sparse6: {error}") from error
        found.graphs.append((len(graph), {(min(u, v), max(u, v)) for u, v in graph.edges}))
    return found


def _read_pickle(content: bytes) -> _Found:
    return _Found(*pickled_graphs(content))


def _read_spectre(content: bytes) -> _Found:
    value = load_tensors(content)
    matrices = value[0] if isinstance(value, (list, tuple)) and value else None
    if not isinstance(matrices, (list, tuple)):
        raise InputError("expected SPECTRE's list, its first entry a list of adjacency matrices")
    found = _Found()
    for k, matrix in enumerate(matrices):
        try:
            graph = _of_matrix(matrix)
        except RuntimeError:  # a type of number that torch stores and does not compute with
            graph = None
        if graph is None:
            kind = type(matrix).__name__
            if isinstance(matrix, torch.Tensor):
                kind = f"tensor of {matrix.dtype}, {matrix.layout}, on {matrix.device}"
            raise InputError(
                f"adjacency matrix {k} must be a dense symmetric [n, n] CPU tensor that stores each element (graphs "
                f"are undirected); this {kind} is not"
            )
        found.graphs.append(graph)
    return found


def _of_matrix(matrix: object) -> PlainGraph | None:
    """The graph of a symmetric dense matrix; None for all else."""
    if not isinstance(matrix, torch.Tensor) or matrix.layout != torch.strided or matrix.is_nested:
        return None
    if matrix.is_quantized or matrix.device.type != "cpu" or matrix.dim() != 2 or matrix.size(0) != matrix.size(1):
        return None
    # A few bytes can be expanded to any shape.
    if matrix.untyped_storage().nbytes() < matrix.numel() * matrix.element_size():
        return None
    if not torch.equal(matrix, matrix.t()):
        return None
    return matrix.size(0), {(u, v) for u, v in matrix.triu().nonzero().tolist()}


_READERS: dict[str, Callable[[bytes], _Found]] = {
    ".g6": _read_lines,
    ".s6": _read_lines,
    ".pkl": _read_pickle,
    ".pickle": _read_pickle,
    ".pt": _read_spectre,
}
