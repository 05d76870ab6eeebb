"""Anything people hold their samples in, as one of two things: a list of SMILES or packed plain graphs.

What is dropped on the way (self loops, repeated edges, weights) is said, in words that go into the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from graphinv.data import GraphStore
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.mol import MoleculeCodec

__all__ = ["as_samples", "plain_graphs", "split_of", "without_isolated"]

_EXPECTED = (
    "SMILES, RDKit molecules, networkx graphs, PyG Data, or a GraphBatch or GraphStore; a file is read by "
    "graphinv.data.read_smiles, read_graphs or GraphStore.open"
)


def as_samples(samples: Any, what: str = "samples") -> tuple[list[str] | GraphBatch, list[str]]:
    """Return the SMILES or the plain graphs of ``samples``, and notes on what was dropped.

    Args:
        samples: a sequence of SMILES (None, NaN and "" stand for a failure), of RDKit molecules, of networkx graphs or
            of PyG ``Data``; a GraphBatch; a GraphStore, of molecules (decoded as drawn) or of plain graphs.
        what: names them in errors.

    Raises:
        InputError: there is none, they are of another kind or of several, or graphs are directed.

    Example:
        >>> import networkx as nx
        >>> graphs, notes = as_samples([nx.path_graph(3), nx.Graph([(0, 0), (0, 1)])])
        >>> graphs.node_counts().tolist(), notes
        ([3, 2], ['samples: 1 self loop was dropped'])
    """
    if isinstance(samples, GraphStore):
        return split_of(samples, "all", what)
    if isinstance(samples, GraphBatch):
        return plain_graphs(samples, what)
    if isinstance(samples, (str, bytes)) or not isinstance(samples, (Sequence, Iterable)):
        raise InputError(f"{what}: expected {_EXPECTED}; got {type(samples).__name__}")
    if _kind(samples) == "torch_geometric":
        samples = samples.to_data_list() if hasattr(samples, "to_data_list") else [samples]
    items = list(samples)
    if not items:
        raise InputError(f"{what}: expected at least one, got none")
    items = [None if _is_missing(item) else item for item in items]
    kinds = {_kind(item) for item in items} - {"nothing"}
    if kinds <= {"text", "rdkit"}:
        return [_text(item) for item in items], []
    if kinds == {"networkx"} and None not in items:
        graphs, notes = plain_graphs(_from_networkx(items, what), what)
        weighted = sum(any("weight" in data for _, _, data in graph.edges(data=True)) for graph in items)
        return graphs, notes + ([f"{what}: weights of edges in {weighted:,} graphs were ignored"] if weighted else [])
    if kinds == {"torch_geometric"} and None not in items:
        return plain_graphs(GraphBatch.from_graphs([_from_pyg(item, k, what) for k, item in enumerate(items)]), what)
    found = ", ".join(sorted({type(item).__name__ for item in items}))
    raise InputError(f"{what}: expected one kind of {_EXPECTED}; got {found}")


def split_of(store: GraphStore, split: Any, what: str) -> tuple[list[str] | GraphBatch, list[str]]:
    """Return the molecules of a split as canonical SMILES, or its plain graphs.

    Raises:
        InputError: the split is empty.
    """
    index = store.indices(split)
    if not len(index):
        raise InputError(f"{what}: the store has no graphs in its split {split!r}; build it with another --split")
    if store.vocabulary.scheme == "generic":
        graphs, notes = plain_graphs(store.batch(index), what)
        loops = store.provenance.get("counts", {}).get("self_loops_removed", 0)
        return graphs, notes + ([f"{what}: {loops:,} self loops were dropped from the file"] if loops else [])
    if "smiles" in store.graph_columns:
        return store.smiles(index), []
    return MoleculeCodec(store.vocabulary).decode(store.batch(index)), []


def plain_graphs(graphs: GraphBatch, what: str = "samples") -> tuple[GraphBatch, list[str]]:
    """Return who is linked to whom, both directions, once, without types; and notes on what was dropped.

    An edge given in one direction counts as a link.

    Raises:
        InputError: there are no graphs.
    """
    if not graphs.num_graphs:
        raise InputError(f"{what}: expected at least one graph, got none")
    u, v = graphs.edge_index
    place = graphs.node_graph()
    stated = torch.repeat_interleave(torch.arange(graphs.num_graphs), graphs.edge_ptr.diff())
    if bool(((place[u] != stated) | (place[v] != stated)).any()):
        raise InputError(f"{what}: an edge leaves its graph; edges must be grouped by graph, as edge_ptr says")
    loops = len(u[u == v].unique())
    notes = [f"{what}: {loops:,} self loop{'s were' if loops > 1 else ' was'} dropped"] if loops else []
    linking = int((u != v).sum())
    directed = torch.unique(torch.stack([u, v])[:, u != v], dim=1).size(1)
    if directed < linking:
        notes.append(f"{what}: {linking - directed:,} repeated edges count once")
    low, high = graphs.pairs()[0]
    low, high = low[low != high], high[low != high]
    if directed < 2 * len(low):
        notes.append(f"{what}: {2 * len(low) - directed:,} edges given in one direction count as links")
    owner = place[low]
    index = torch.stack([torch.stack([low, high], 1), torch.stack([high, low], 1)]).flatten(1)
    counts = 2 * torch.bincount(owner, minlength=graphs.num_graphs)
    edge_ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    x = torch.zeros(graphs.num_nodes, dtype=torch.long)
    return GraphBatch(x, index, torch.ones(index.shape[1], dtype=torch.long), graphs.ptr, edge_ptr), notes


def without_isolated(graphs: GraphBatch) -> GraphBatch:
    """Take out nodes without edges, as GDSS does with what it generates; a graph of none but such keeps one node.

    Example:
        >>> two = GraphBatch.from_graphs([GraphBatch.single(torch.zeros(3), torch.tensor([[0, 2], [2, 0]]))])
        >>> without_isolated(two).edge_index.tolist()
        [[0, 1], [1, 0]]
    """
    linked = torch.bincount(graphs.edge_index[0], minlength=graphs.num_nodes) > 0
    owner = graphs.node_graph()
    bare = torch.bincount(owner[linked], minlength=graphs.num_graphs) == 0
    first = graphs.ptr[:-1][bare & (graphs.node_counts() > 0)]
    linked[first] = True
    counts = torch.bincount(owner[linked], minlength=graphs.num_graphs)
    ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    index = (linked.cumsum(0) - 1)[graphs.edge_index]
    return GraphBatch(graphs.x[linked], index, graphs.edge_attr, ptr, graphs.edge_ptr)


def _is_missing(item: object) -> bool:
    """Whether this is how a table says that a cell is empty: NaN of Python or numpy, NaT or NA of pandas."""
    return (isinstance(item, Real) and item != item) or type(item).__name__ in ("NAType", "NaTType")


def _kind(item: object) -> str:
    if item is None:
        return "nothing"
    return "text" if isinstance(item, str) else next(iter(_roots(item)), type(item).__name__)


def _roots(item: object) -> list[str]:
    known = ("rdkit", "networkx", "torch_geometric")
    return [name for kind in type(item).__mro__ if (name := kind.__module__.partition(".")[0]) in known]


def _text(item: Any) -> str:
    if item is None:
        return ""
    if isinstance(item, str):
        return item
    from graphinv.metrics.molecule.judged import text_of

    return text_of(item)


def _from_pyg(data: Any, k: int, what: str) -> GraphBatch:
    index = getattr(data, "edge_index", None)
    if (index is None and any(getattr(data, key, None) is not None for key in ("adj_t", "adj"))) or hasattr(
        data, "node_types"
    ):
        raise InputError(f"{what}: graph {k} has no edge_index of one kind of node; give homogeneous Data with one")
    count = int(data.num_nodes or 0)
    index = torch.zeros(2, 0, dtype=torch.long) if index is None else index.long()
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < count:
        raise InputError(
            f"{what}: graph {k} has {count} nodes, and its edges name nodes {int(index.min())} to {int(index.max())}"
        )
    return GraphBatch.single(torch.zeros(count, dtype=torch.long), index)


def _from_networkx(graphs: Sequence[Any], what: str) -> GraphBatch:
    if any(graph.is_directed() for graph in graphs):
        raise InputError(f"{what}: expected undirected graphs; networkx's to_undirected() makes them")
    packed = []
    for graph in graphs:
        number = {node: i for i, node in enumerate(graph.nodes)}
        ends: list[list[int]] = [[number[u], number[v]] for u, v in graph.edges()]
        index: Tensor = torch.tensor(ends, dtype=torch.long).reshape(-1, 2).t()
        both = torch.cat([index, index.flip(0)], 1)
        packed.append(GraphBatch.single(torch.zeros(len(number), dtype=torch.long), both))
    return GraphBatch.from_graphs(packed)
