"""Packed graphs as PyG and networkx hold them, and back, columns and labels along.

Columns are plain attributes there. PyG does not say whether an attribute is of nodes, edges or graphs, so ``to_pyg``
writes that beside them; attributes of others are told by their lengths, or by the names the caller gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from graphinv.columns import Column
from graphinv.errors import InputError
from graphinv.graphs.batch import FIELDS, GraphBatch, Labels, pair_values
from graphinv.ops import index_to_ptr

__all__ = ["from_networkx", "from_pyg", "to_networkx", "to_pyg"]

KINDS = ("node", "edge", "graph")
MARK = "column_kinds"  # of a Data: JSON text, column -> kind
_PLAIN = ("y", "pos", "time", "edge_weight")  # names PyG has properties for and treats as any attribute
_SKIPPED = (*FIELDS, "batch", "num_nodes", "node_labels", "edge_labels", MARK)


def to_pyg(batch: GraphBatch, vocabulary: Labels | None = None) -> Any:
    """Return a ``torch_geometric.data.Batch`` of B ``Data``: ``x``, ``edge_index``, ``edge_attr`` and the columns.

    A column of nodes or edges is an attribute ``[n, *]`` or ``[e, *]`` of each ``Data``, one of graphs ``[1, *]`` or a
    text. With a vocabulary each has ``node_labels`` and ``edge_labels`` too, lists of n and e texts.

    Raises:
        InputError: a column has a name that PyG uses or shifts, or a type has no label.

    Example:
        >>> g = GraphBatch.single(torch.zeros(2), torch.tensor([[0, 1], [1, 0]]))
        >>> data = to_pyg(g.with_columns(node={"block": torch.tensor([0, 1])}, graph={"y": torch.tensor([0.5])}))
        >>> data[0].block.tolist(), from_pyg(data).graph_columns["y"].tolist()
        ([0, 1], [0.5])
    """
    from torch_geometric.data import Batch, Data

    names = [name for kind in KINDS for name in _columns(batch, kind)]
    kinds = {name: kind for kind in KINDS for name in _columns(batch, kind)}
    if len(kinds) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"PyG holds one attribute of a name, and {twice!r} is two columns; name one of them otherwise")
    for name in kinds:
        if (hasattr(Data, name) and name not in _PLAIN) or name in _SKIPPED or _is_shifted(name) or name[0] == "_":
            raise InputError(
                f"PyG cannot carry the column {name!r}: it has another meaning for that name, or shifts attributes "
                f"whose name holds 'index' or 'batch'; give the column another name by with_columns"
            )
    labels = None if vocabulary is None else _labels(batch, vocabulary)
    data = []
    for k in range(batch.num_graphs):
        g = batch.graph(k)
        parts: dict[str, Any] = {**g.node_columns, **g.edge_columns}
        parts |= {n: c if isinstance(c, Tensor) else c[0] for n, c in g.graph_columns.items()}
        if kinds:
            parts[MARK] = json.dumps(kinds)
        if labels is not None:
            parts["node_labels"] = labels[0][int(batch.ptr[k]) : int(batch.ptr[k + 1])]
            parts["edge_labels"] = labels[1][int(batch.edge_ptr[k]) : int(batch.edge_ptr[k + 1])]
        data.append(Data(x=g.x, edge_index=g.edge_index, edge_attr=g.edge_attr, num_nodes=g.num_nodes, **parts))
    return Batch.from_data_list(data)


def from_pyg(
    data: Any,
    *,
    node_columns: Sequence[str] | None = None,
    edge_columns: Sequence[str] | None = None,
    graph_columns: Sequence[str] | None = None,
) -> GraphBatch:
    """Pack a PyG ``Data``, ``Batch`` or list of ``Data``; edges are regrouped by graph, order kept inside.

    A ``Data`` without ``x`` gets node types 0. Tensors with one row a node, an edge or a graph become columns, and so
    do one number or one text a graph; attributes that fit none of these are left out. Where the numbers of nodes and
    edges are the same, a name with "edge" in it is of edges, as in PyG.

    Args:
        data: the graphs.
        node_columns: attributes that are columns of nodes, and no others are; None tells them by their lengths.
        edge_columns: likewise of edges.
        graph_columns: likewise of graphs.

    Raises:
        InputError: there is no ``edge_index``, only some ``Data`` have an attribute, an attribute named here is missing
            or does not fit, or one that is not named may be of nodes as well as of graphs.

    Example:
        >>> from torch_geometric.data import Data
        >>> one = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), z=torch.tensor([6, 8, 1]), y=0.5, num_nodes=3)
        >>> g = from_pyg([one, one])
        >>> list(g.node_columns), g.graph_columns["y"].tolist()
        (['z'], [0.5, 0.5])
    """
    from torch_geometric.data import Batch

    if isinstance(data, Sequence):
        _check_alike(data)
        data = Batch.from_data_list(list(data))
    elif getattr(data, "batch", None) is None:
        data = Batch.from_data_list([data])
    if data.edge_index is None:
        raise InputError("expected PyG Data with edge_index, got one without; an empty one is [2, 0] int64")
    count, size = int(data.num_nodes), int(data.num_graphs)
    x = data.x if data.x is not None else torch.zeros(count, dtype=torch.long)
    owner, order = torch.sort(data.batch[data.edge_index[0]], stable=True)
    attr = None if data.edge_attr is None else data.edge_attr[order]
    ptr, edge_ptr = index_to_ptr(data.batch, size), index_to_ptr(owner, size)
    parts = _pyg_columns(
        data, (ptr, edge_ptr), dict(zip(KINDS, (node_columns, edge_columns, graph_columns), strict=True))
    )
    parts["edge"] = {name: column[order] for name, column in parts["edge"].items() if isinstance(column, Tensor)}
    return GraphBatch(x, data.edge_index[:, order], attr, ptr, edge_ptr, *parts.values())


def to_networkx(batch: GraphBatch, vocabulary: Labels | None = None) -> list[Any]:
    """Return B ``networkx.Graph`` with integer nodes, attribute ``x`` per node, ``type`` per edge, and the columns.

    With a vocabulary nodes and edges have the text of their type as ``label`` too. Columns of graphs are in
    ``graph.graph``. Numbers are Python's, rows of several numbers lists.

    Raises:
        InputError: an edge column differs between the two directions of an edge, or is called "type"; a type has no
            label.

    Example:
        >>> g = GraphBatch.single(torch.tensor([1, 0]), torch.tensor([[0, 1], [1, 0]]))
        >>> graph = to_networkx(g.with_columns(graph={"name": ["a"]}))[0]
        >>> graph.nodes[0], graph.edges[0, 1], graph.graph
        ({'x': 1}, {'type': 1}, {'name': 'a'})
    """
    import networkx as nx

    _check_directions(batch)
    nodes: dict[str, list[Any]] = {"x": batch.x.tolist()}
    links: dict[str, list[Any]] = {"type": [1] * batch.num_edges}
    if batch.edge_attr is not None:
        links["type"] = batch.edge_attr.tolist()
    if vocabulary is not None:
        nodes["label"], links["label"] = _labels(batch, vocabulary)
    nodes |= {name: _listed(column) for name, column in batch.node_columns.items()}
    links |= {name: _listed(column) for name, column in batch.edge_columns.items()}
    of_graphs = {name: _listed(column) for name, column in batch.graph_columns.items()}
    node_rows = [dict(zip(nodes, row, strict=True)) for row in zip(*nodes.values(), strict=True)]
    link_rows = [dict(zip(links, row, strict=True)) for row in zip(*links.values(), strict=True)]
    ends, ptr, edge_ptr = batch.edge_index.t().tolist(), batch.ptr.tolist(), batch.edge_ptr.tolist()
    graphs = []
    for k, first in enumerate(ptr[:-1]):
        out = nx.Graph(**{name: values[k] for name, values in of_graphs.items()})
        out.add_nodes_from(enumerate(node_rows[first : ptr[k + 1]]))
        span = slice(edge_ptr[k], edge_ptr[k + 1])
        out.add_edges_from((u - first, v - first, row) for (u, v), row in zip(ends[span], link_rows[span], strict=True))
        graphs.append(out)
    return graphs


def from_networkx(
    graphs: Sequence[Any],
    node_attr: str = "x",
    edge_attr: str = "type",
    columns: Mapping[str, Sequence[str] | None] | None = None,
) -> GraphBatch:
    """Pack undirected networkx graphs; nodes keep their order, missing types are 0 (nodes) and 1 (edges).

    Attributes that every node, every edge or every graph has become columns, if they are numbers, bools or lists of as
    many of them, or, of graphs, text: floats are float64, integers int64. Without any row there is no column.

    Args:
        graphs: the graphs.
        node_attr: node attribute that holds the type, or the features.
        edge_attr: edge attribute that does.
        columns: kind ("node", "edge", "graph") -> attributes that are columns, and no others are; a kind that is left
            out or None takes all that fit.

    Raises:
        InputError: an attribute named in ``columns`` is missing somewhere or is of another form.

    Example:
        >>> import networkx as nx
        >>> g = from_networkx([nx.Graph([(0, 1, {"length": 1.5})], name="bond")])
        >>> g.edge_columns["length"].tolist(), g.graph_columns["name"]
        ([1.5, 1.5], ('bond',))
    """
    packed, node_rows, link_rows = [], [], []
    for graph in graphs:
        number = {node: i for i, node in enumerate(graph.nodes)}
        rows = [data for _, data in graph.nodes(data=True)]
        x = torch.tensor([data.get(node_attr, 0) for data in rows]) if rows else torch.zeros(0, dtype=torch.long)
        ends, links = [], []
        for u, v, data in graph.edges(data=True):
            pairs = [(number[u], number[v])] if u == v else [(number[u], number[v]), (number[v], number[u])]
            ends += pairs
            links += [data] * len(pairs)
        index = torch.tensor(ends, dtype=torch.long).reshape(-1, 2).t()
        types = torch.tensor([data.get(edge_attr, 1) for data in links]) if links else torch.zeros(0, dtype=torch.long)
        packed.append(GraphBatch.single(x, index, types))
        node_rows += rows
        link_rows += links
    wanted = columns or {}
    return GraphBatch.from_graphs(packed).with_columns(
        node=_attributes("node", node_rows, wanted.get("node"), (node_attr, "label")),
        edge=_attributes("edge", link_rows, wanted.get("edge"), (edge_attr, "label")),
        graph=_attributes("graph", [graph.graph for graph in graphs], wanted.get("graph"), ()),
    )


def _columns(batch: GraphBatch, kind: str) -> Mapping[str, Column]:
    columns: Mapping[str, Column] = getattr(batch, f"{kind}_columns")
    return columns


def _is_shifted(name: str) -> bool:
    return "index" in name or "batch" in name or name == "face"


def _labels(batch: GraphBatch, vocabulary: Labels) -> tuple[list[str], list[str]]:
    """The labels of all nodes and of all edges."""
    edges = torch.ones(batch.num_edges, dtype=torch.long) if batch.edge_attr is None else batch.edge_attr
    found = []
    for what, types, labels, first in (("node", batch.x, vocabulary.nodes, 0), ("edge", edges, vocabulary.edges, 1)):
        if types.dim() != 1 or types.is_floating_point():
            raise InputError(f"labels need integer {what} types [*], got {types.dtype} {list(types.shape)}")
        if types.numel() and not first <= int(types.min()) <= int(types.max()) < first + len(labels):
            raise InputError(
                f"the vocabulary has labels of {what} types {first}..{first + len(labels) - 1}, the batch holds "
                f"{int(types.min())}..{int(types.max())}; give the vocabulary of its store"
            )
        found.append([labels[i - first] for i in types.tolist()])
    return found[0], found[1]


def _check_alike(items: Sequence[Any]) -> None:
    """PyG takes the attributes of the first, and leaves out silently what only others have."""
    names = [{name for name in item.keys() if name not in _SKIPPED} for item in items]
    for name in sorted(set().union(*names)):
        count = sum(name in held for held in names)
        if count < len(items):
            raise InputError(f"{count} of {len(items)} Data have the attribute {name!r}; give it to all or to none")


def _pyg_columns(
    data: Any, ptrs: tuple[Tensor, Tensor], wanted: Mapping[str, Sequence[str] | None]
) -> dict[str, dict[str, Column]]:
    """The columns of a ``Batch`` by kind; those of edges in the order of its ``edge_index``."""
    marks = getattr(data, MARK, None)
    stated: dict[str, str] = json.loads(marks[0]) if isinstance(marks, list) and marks else {}
    stated |= {name: kind for kind, names in wanted.items() for name in names or ()}
    names = {str(name) for name in data.keys()}
    followed = {f"{name}_{tail}" for name in names for tail in ("batch", "ptr")}  # of a loader's follow_batch
    missing = [name for names_of in wanted.values() for name in names_of or () if name not in names]
    if missing:
        raise InputError(f"the Data have no attribute {missing[0]!r}; they have {', '.join(sorted(names))}")
    columns: dict[str, dict[str, Column]] = {kind: {} for kind in KINDS}
    for name in sorted(names):  # PyG keeps them in a set
        fitting = [] if name in _SKIPPED or name in followed else _kinds_of(data, name, ptrs)
        if name in stated:
            kind = stated[name]
            if kind not in fitting:
                raise InputError(
                    f"the attribute {name!r} is no {kind} column: it must have one row a {kind} and be numbers"
                )
        else:
            fitting = [kind for kind in fitting if wanted[kind] is None]
            if "node" in fitting and "edge" in fitting:
                fitting.remove("node" if "edge" in name else "edge")
            if len(fitting) > 1:
                raise InputError(
                    f"the attribute {name!r} may be of {' or of '.join(f'{kind}s' for kind in fitting)}, for each "
                    f"graph has one of these; say which, as in from_pyg(data, graph_columns=[{name!r}])"
                )
            kind = fitting[0] if fitting else ""
        if kind:
            columns[kind][name] = data[name]
    return columns


def _kinds_of(data: Any, name: str, ptrs: tuple[Tensor, Tensor]) -> list[str]:
    """The kinds of rows that an attribute of a ``Batch`` can be of."""
    value, size = data[name], ptrs[0].numel() - 1
    if isinstance(value, list):
        return ["graph"] if len(value) == size and all(isinstance(text, str) for text in value) else []
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.dim() == 0 or _is_shifted(name):
        return []
    own = getattr(data, "_slice_dict", {}).get(name)
    rows = (*ptrs, torch.arange(size + 1))
    fits = [value.size(0) == int(ptr[-1]) and (own is None or torch.equal(own.cpu(), ptr.cpu())) for ptr in rows]
    return [kind for kind, fit in zip(KINDS, fits, strict=True) if fit]


def _check_directions(batch: GraphBatch) -> None:
    if not batch.edge_columns:
        return
    ends, pair = batch.pairs()
    for name, column in batch.edge_columns.items():
        if name == "type":
            raise InputError("networkx holds edge types as 'type'; give the edge column of that name another one")
        if isinstance(column, Tensor) and pair_values(column, pair, ends.size(1)) is None:
            raise InputError(
                f"the edge column {name!r} differs between the directions of an edge; networkx.Graph holds one value"
            )


def _listed(column: Column) -> list[Any]:
    return column.tolist() if isinstance(column, Tensor) else list(column)


def _attributes(
    kind: str, rows: Sequence[Mapping[Any, Any]], wanted: Sequence[str] | None, others: Sequence[str]
) -> dict[str, Column | None]:
    """The columns among the attributes of all nodes, edges or graphs."""
    names = [name for name in (rows[0] if rows else ()) if _is_name(name) and name not in (*FIELDS, *others)]
    columns: dict[str, Column | None] = {}
    for name in names if wanted is None else wanted if rows else ():
        lacking = sum(name not in row for row in rows)
        column = None if lacking else _as_column([row[name] for row in rows], kind == "graph")
        if column is not None:
            columns[name] = column
        elif wanted is not None:
            why = f"{lacking} of {len(rows)} lack it" if lacking else "it holds other things than numbers"
            raise InputError(f"the {kind} attribute {name!r} is no column: {why}")
    return columns


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name) and name.isprintable()


def _as_column(values: list[Any], text: bool) -> Column | None:
    if all(isinstance(value, str) for value in values):
        return tuple(values) if text else None
    try:
        column = torch.tensor(values)
        return torch.tensor(values, dtype=torch.float64) if column.is_floating_point() else column
    except (TypeError, ValueError, RuntimeError):
        return None
