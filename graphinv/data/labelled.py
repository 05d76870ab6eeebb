"""Graphs with labelled nodes and edges, as networkx or PyG hold them, packed with a vocabulary of their labels.

A label is any text or integer; it is not a feature: rows of numbers are read as labels only where they are one-hot, as
in the TU data sets.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphinv.data.vocabulary import Vocabulary
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch

__all__ = ["pack_labelled"]


def pack_labelled(
    graphs: Any,
    vocabulary: Vocabulary | None = None,
    node_attr: str = "label",
    edge_attr: str = "label",
) -> tuple[GraphBatch, Vocabulary, int]:
    """Return labelled graphs packed, their vocabulary, and how many self loops were dropped.

    Of networkx graphs the labels are the attributes ``node_attr`` and ``edge_attr``, where no node (or edge) has it
    ``x`` and ``type``, and without those all are alike. Of PyG ``Data`` they are lists of texts called ``node_labels``
    and ``edge_labels``, else the integers or one-hot rows of ``x`` and ``edge_attr``. Other attributes become columns
    as in ``GraphBatch.from_networkx`` and ``from_pyg``.

    Args:
        graphs: an undirected networkx graph or a PyG ``Data``, a list of one of these, or a PyG ``Batch``.
        vocabulary: the labels allowed; None takes those that occur, numbers in their order, before texts in theirs.
        node_attr: of networkx graphs.
        edge_attr: of networkx graphs.

    Raises:
        InputError: there are no graphs, some are directed or of another kind, only some nodes or edges are labelled, a
            label is not in the vocabulary, or features are no labels.

    Example:
        >>> import networkx as nx
        >>> graph = nx.Graph([("a", "b", {"label": "road"})])
        >>> nx.set_node_attributes(graph, {"a": "town", "b": "city"}, "label")
        >>> batch, words, _ = pack_labelled([graph])
        >>> batch.x.tolist(), words.nodes, words.edges
        ([1, 0], ('city', 'town'), ('road',))
    """
    one = hasattr(graphs, "edge_index") or hasattr(graphs, "is_directed")
    items = graphs.to_data_list() if hasattr(graphs, "to_data_list") else [graphs] if one else list(graphs)
    if not items:
        raise InputError("expected at least one graph, got none")
    if all(hasattr(item, "edge_index") for item in items):
        batch, nodes, edges = _of_pyg(items)
    elif all(hasattr(item, "adj") and hasattr(item, "is_directed") for item in items):
        batch, nodes, edges = _of_networkx(items, node_attr, edge_attr)
    else:
        kinds = ", ".join(sorted({type(item).__name__ for item in items}))
        raise InputError(f"expected networkx graphs or PyG Data, all of one kind, got {kinds}")
    loops = batch.edge_index[0] == batch.edge_index[1]
    if vocabulary is None:
        kept = [label for label, loop in zip(edges, loops.tolist(), strict=True) if not loop]
        vocabulary = Vocabulary(_in_order(nodes), _in_order(kept) or ("1",), "generic")
    x = _types("node", nodes, vocabulary.nodes)
    attr = _types("edge", edges, vocabulary.edges, loops.tolist()) + 1
    return _without_loops(replace(batch, x=x, edge_attr=attr), loops), vocabulary, int(loops.sum())


def _of_networkx(graphs: list[Any], node_attr: str, edge_attr: str) -> tuple[GraphBatch, list[Any], list[Any]]:
    for k, graph in enumerate(graphs):
        if graph.is_directed() or graph.is_multigraph():
            raise InputError(f"graph {k} is directed or a multigraph; expected undirected ones: nx.Graph(graph)")
    node_rows = [[data for _, data in graph.nodes(data=True)] for graph in graphs]
    edge_rows = [[data for *_, data in graph.edges(data=True)] for graph in graphs]
    # The attributes of types need not be numbers here, so they are kept from the packing.
    batch = GraphBatch.from_networkx(graphs, node_attr="", edge_attr="")
    batch = batch.with_columns(node={node_attr: None}, edge={edge_attr: None, "type": None})
    nodes = _labels_of("node", node_rows, node_attr, "x", 0)
    edges = _labels_of("edge", edge_rows, edge_attr, "type", 1)
    loops = [[u == v for u, v in graph.edges] for graph in graphs]
    both = [
        label
        for labels, held in zip(edges, loops, strict=True)
        for label, loop in zip(labels, held, strict=True)
        for _ in range(1 if loop else 2)
    ]
    return batch, [label for labels in nodes for label in labels], both


def _labels_of(kind: str, rows: list[list[Any]], name: str, other: str, default: int) -> list[list[Any]]:
    """The labels of each graph."""
    for attribute in (name, other):
        lacking = [(k, sum(attribute not in row for row in of)) for k, of in enumerate(rows)]
        without, count = sum(n for _, n in lacking), sum(map(len, rows))
        if without < count:
            if without:
                k = next(k for k, n in lacking if n)
                raise InputError(f"{without} of {count} {kind}s have no {attribute!r}, such as in graph {k}; label all")
            return [[row[attribute] for row in of] for of in rows]
    return [[default] * len(of) for of in rows]


def _of_pyg(items: list[Any]) -> tuple[GraphBatch, list[Any], list[Any]]:
    labels: dict[str, list[Any]] = {}
    for name, rows in (("node_labels", "num_nodes"), ("edge_labels", "num_edges")):
        held = [getattr(item, name, None) for item in items]
        if any(part is not None for part in held):
            for k, (part, item) in enumerate(zip(held, items, strict=True)):
                if not isinstance(part, list) or len(part) != getattr(item, rows):
                    raise InputError(
                        f"graph {k}: {name} must be a list of {getattr(item, rows)} labels; label all graphs"
                    )
            labels[name] = [label for part in held if part is not None for label in part]
    for k, item in enumerate(items):
        ends = item.edge_index
        if ends is None or (ends.numel() and not 0 <= int(ends.min()) <= int(ends.max()) < int(item.num_nodes)):
            raise InputError(f"graph {k} has {item.num_nodes} nodes, and no edge_index or one that names others")
    batch = GraphBatch.from_pyg(items)
    nodes = labels.get("node_labels") or _numbers("x", batch.x)
    attr = batch.edge_attr if batch.edge_attr is not None else torch.ones(batch.num_edges, dtype=torch.long)
    return batch, nodes, labels.get("edge_labels") or _numbers("edge_attr", attr)


def _numbers(name: str, values: Tensor) -> list[int]:
    """Labels [n] of integers or of one-hot rows."""
    if values.dim() == 2 and values.size(1) == 1:
        values = values[:, 0]
    if values.dim() == 2:
        hot = (values == 1).sum(1)
        if bool((hot != 1).any()) or bool(((values != 0) & (values != 1)).any()):
            raise InputError(
                f"{name} holds features {list(values.shape)}, not labels; expected integers or one-hot rows"
            )
        values = values.argmax(1)
    if values.dim() != 1 or bool((values != values.long()).any()):
        raise InputError(f"{name} holds {values.dtype} {list(values.shape)}; expected integer labels or one-hot rows")
    labels: list[int] = values.long().tolist()
    return labels


def _text(label: Any) -> str:
    if isinstance(label, str):
        return label
    try:
        return str(operator.index(label))
    except TypeError as error:
        raise InputError(f"a label is a text or an integer, got {label!r:.60}") from error


def _in_order(labels: Sequence[Any]) -> tuple[str, ...]:
    """Different labels: integers by value, then texts."""
    texts = {_text(label) for label in labels}
    numbers = {text for text in texts if text.lstrip("-").isdecimal()}
    return (*sorted(numbers, key=lambda text: (int(text), text)), *sorted(texts - numbers))


def _types(kind: str, labels: Sequence[Any], known: Sequence[str], skipped: Sequence[bool] | None = None) -> Tensor:
    place = {label: number for number, label in enumerate(known)}
    types = []
    for k, label in enumerate(labels):
        number = place.get(_text(label))
        if number is None and not (skipped and skipped[k]):
            shown = ", ".join(known[:20])
            raise InputError(f"the {kind} label {_text(label)!r} is not in the vocabulary, which holds {shown}")
        types.append(number or 0)
    return torch.tensor(types, dtype=torch.long)


def _without_loops(batch: GraphBatch, loops: Tensor) -> GraphBatch:
    if not bool(loops.any()):
        return batch
    kept = (~loops).nonzero().flatten()
    owner = torch.repeat_interleave(torch.arange(batch.num_graphs), batch.edge_ptr.diff())[kept]
    edge_ptr = torch.searchsorted(owner, torch.arange(batch.num_graphs + 1))
    columns = {name: column[kept] for name, column in batch.edge_columns.items() if isinstance(column, Tensor)}
    attr = None if batch.edge_attr is None else batch.edge_attr[kept]
    return replace(batch, edge_index=batch.edge_index[:, kept], edge_attr=attr, edge_ptr=edge_ptr, edge_columns=columns)
