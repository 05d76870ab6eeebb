"""Two forms of a batch of graphs and the exact conversions between them.

``GraphBatch`` is packed (rows back to back, offsets beside them, named columns along) and is the public form;
``DenseGraphs`` is padded to ``[B, M, M]`` and carries its node mask: an isolated node is a node, and nothing is
inferred from zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from graphinv.columns import Column, Columns, check_columns, join_columns
from graphinv.errors import InputError
from graphinv.ops import index_to_ptr, ptr_to_index
from graphinv.ops.pointer import segment_rows

__all__ = ["DenseGraphs", "GraphBatch", "Labels", "pair_values"]

FIELDS = ("x", "edge_index", "edge_attr", "ptr", "edge_ptr")  # no column has one of these names


class Labels(Protocol):
    """The labels of integer types, as a ``Vocabulary`` holds them."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Label of node type i."""

    @property
    def edges(self) -> tuple[str, ...]:
        """Label of edge type i + 1."""


@dataclass(frozen=True)
class GraphBatch:
    """B graphs packed back to back; an undirected edge is held in both directions.

    Attributes:
        x: ``[N]`` integer node types or ``[N, F]`` features.
        edge_index: ``[2, E]`` int64, node ids counted over the whole batch, edges grouped by graph.
        edge_attr: ``[E]`` integer edge types (0 is reserved for "no edge"), ``[E, D]`` features, or None.
        ptr: ``[B+1]`` int64, nodes of graph k are rows ``ptr[k]:ptr[k+1]``.
        edge_ptr: ``[B+1]`` int64, edges of graph k are columns ``edge_ptr[k]:edge_ptr[k+1]``.
        node_columns: name -> ``[N, *]`` numbers or bools, such as "block", the generation block of PARD.
        edge_columns: name -> ``[E, *]``.
        graph_columns: name -> ``[B, *]``, or B texts, such as "smiles".

    Columns go wherever their rows go, except into ``DenseGraphs``; they are frozen, ``with_columns`` gives others.

    Raises:
        InputError: parts do not fit each other, or a column does not fit its rows.

    Example:
        >>> water = GraphBatch.from_graphs([GraphBatch.single(torch.tensor([2]), torch.empty(2, 0, dtype=torch.long))])
        >>> water.num_graphs, water.num_nodes, water.num_edges
        (1, 1, 0)
        >>> water.with_columns(graph={"name": ["water"]}).select([0, 0]).graph_columns["name"]
        ('water', 'water')
    """

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor | None
    ptr: Tensor
    edge_ptr: Tensor
    node_columns: Mapping[str, Column] = field(default_factory=Columns)
    edge_columns: Mapping[str, Column] = field(default_factory=Columns)
    graph_columns: Mapping[str, Column] = field(default_factory=Columns)

    def __post_init__(self) -> None:
        if self.edge_index.dim() != 2 or self.edge_index.size(0) != 2:
            raise InputError(f"edge_index must be [2, E], got {list(self.edge_index.shape)}")
        if self.ptr.dim() != 1 or self.ptr.numel() < 1 or self.ptr.shape != self.edge_ptr.shape:
            raise InputError(
                f"ptr and edge_ptr must both be [B+1], got {list(self.ptr.shape)} and {list(self.edge_ptr.shape)}"
            )
        if self.edge_attr is not None and self.edge_attr.size(0) != self.edge_index.size(1):
            raise InputError(
                f"edge_attr has {self.edge_attr.size(0)} rows for {self.edge_index.size(1)} edges; give one per edge"
            )
        for kind, rows in (("node", self.num_nodes), ("edge", self.num_edges), ("graph", self.num_graphs)):
            columns = getattr(self, f"{kind}_columns")
            if columns or not isinstance(columns, Columns):
                object.__setattr__(self, f"{kind}_columns", check_columns(kind, columns, rows, FIELDS))

    @property
    def num_graphs(self) -> int:
        """B, the number of graphs."""
        return self.ptr.numel() - 1

    @property
    def num_nodes(self) -> int:
        """N, the number of nodes of all graphs."""
        return self.x.size(0)

    @property
    def num_edges(self) -> int:
        """E, the number of directed edges of all graphs."""
        return self.edge_index.size(1)

    @property
    def block(self) -> Tensor | None:
        """``[N]`` the node column "block", the generation block of each node; None without it."""
        return _frozen(self.node_columns).tensor("block")

    def node_counts(self) -> Tensor:
        """Return ``[B]`` int64, the number of nodes of each graph."""
        return self.ptr.diff()

    def node_graph(self) -> Tensor:
        """Return ``[N]`` int64, the graph of each node (PyG's ``batch``)."""
        return ptr_to_index(self.ptr)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Return the linked pairs, each once: ends ``[2, P]``, u <= v, in order, and the pair ``[E]`` of each edge.

        An edge may be held in one direction or in both, or repeat; a self loop is the pair (u, u).

        Example:
            >>> path = GraphBatch.single(torch.zeros(3), torch.tensor([[1, 2, 1, 0], [2, 1, 0, 1]]))
            >>> path.pairs()[0].tolist(), path.pairs()[1].tolist()
            ([[0, 1], [1, 2]], [1, 1, 0, 0])
        """
        low, high = self.edge_index.long().aminmax(dim=0)
        size = max(self.num_nodes, 1)
        code, pair = torch.unique(low * size + high, return_inverse=True)
        return torch.stack([code // size, code % size]), pair

    def with_columns(
        self,
        *,
        node: Mapping[str, Column | None] | None = None,
        edge: Mapping[str, Column | None] | None = None,
        graph: Mapping[str, Column | None] | None = None,
    ) -> GraphBatch:
        """Return the batch with columns added or put in place of others; a column given as None is taken out.

        Raises:
            InputError: a column does not fit its rows.

        Example:
            >>> g = GraphBatch.single(torch.zeros(2), torch.empty(2, 0, dtype=torch.long))
            >>> g = g.with_columns(node={"block": torch.tensor([0, 1])}, graph={"logp": torch.tensor([0.3])})
            >>> g.block.tolist(), list(g.with_columns(node={"block": None}).node_columns)
            ([0, 1], [])
        """
        parts = (self.node_columns, node), (self.edge_columns, edge), (self.graph_columns, graph)
        nodes, edges, graphs = (_frozen(columns).change(changes) for columns, changes in parts)
        return replace(self, node_columns=nodes, edge_columns=edges, graph_columns=graphs)

    def to(self, device: torch.device | str) -> GraphBatch:
        """Return the batch with every tensor on ``device``; text stays where it is."""
        moved: dict[str, Any] = {}
        for name, part in vars(self).items():
            moved[name] = part.numbers(lambda t: t.to(device)) if isinstance(part, Columns) else part
            if isinstance(part, Tensor):
                moved[name] = part.to(device)
        return GraphBatch(**moved)

    @staticmethod
    def single(x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> GraphBatch:
        """Pack one graph: ``x`` ``[n]`` or ``[n, F]``, ``edge_index`` ``[2, e]`` with node ids below n."""
        ptr = torch.tensor([0, x.size(0)], device=x.device)
        edge_ptr = torch.tensor([0, edge_index.size(1)], device=x.device)
        return GraphBatch(x, edge_index, edge_attr, ptr, edge_ptr)

    @staticmethod
    def from_graphs(batches: Sequence[GraphBatch]) -> GraphBatch:
        """Concatenate batches; the graphs keep their order.

        Raises:
            InputError: no batch is given, or only some carry ``edge_attr`` or a column.
        """
        if not batches:
            raise InputError("from_graphs needs at least one batch, got none")
        node_counts = torch.cat([b.ptr.diff() for b in batches])
        edge_counts = torch.cat([b.edge_ptr.diff() for b in batches])
        shift, shifted = 0, []
        for b in batches:
            shifted.append(b.edge_index + shift)
            shift += b.num_nodes
        attrs = [b.edge_attr for b in batches if b.edge_attr is not None]
        if attrs and len(attrs) != len(batches):
            raise InputError(f"{len(attrs)} of {len(batches)} batches carry edge_attr; give it to all or to none")
        return GraphBatch(
            torch.cat([b.x for b in batches]),
            torch.cat(shifted, 1),
            torch.cat(attrs) if attrs else None,
            _offsets(node_counts),
            _offsets(edge_counts),
            join_columns("node", [_frozen(b.node_columns) for b in batches]),
            join_columns("edge", [_frozen(b.edge_columns) for b in batches]),
            join_columns("graph", [_frozen(b.graph_columns) for b in batches]),
        )

    def select(self, index: Tensor | Sequence[int]) -> GraphBatch:
        """Return the graphs ``index`` ``[K]`` (repeats allowed) as a batch of K, in that order."""
        index = torch.as_tensor(index, device=self.ptr.device, dtype=torch.long)
        ptr, rows = segment_rows(self.ptr, index)
        edge_ptr, cols = segment_rows(self.edge_ptr, index)
        shift = (ptr[:-1] - self.ptr[index]).repeat_interleave(edge_ptr.diff())
        attr = None if self.edge_attr is None else self.edge_attr[cols]
        columns = zip((self.node_columns, self.edge_columns, self.graph_columns), (rows, cols, index), strict=True)
        chosen = [_frozen(part).take(place) for part, place in columns]
        return GraphBatch(self.x[rows], self.edge_index[:, cols] + shift, attr, ptr, edge_ptr, *chosen)

    def graph(self, k: int) -> GraphBatch:
        """Return graph ``k`` as a batch of one."""
        if not 0 <= k < self.num_graphs:
            raise InputError(f"graph {k} was asked for, but the batch holds graphs 0..{self.num_graphs - 1}")
        return self.select([k])

    def to_dense(self, max_nodes: int | None = None) -> DenseGraphs:
        """Pad to ``[B, M, *]`` with M = ``max_nodes`` or the most nodes of a graph; columns do not come along.

        ``adj`` holds ``edge_attr`` (ones without it) and 0 where there is no edge. ``to_packed`` is the exact inverse.

        Raises:
            InputError: a graph has more than ``max_nodes`` nodes, an edge repeats, or an integer edge type is 0.
        """
        counts = self.node_counts()
        most = int(counts.max()) if self.num_graphs else 0
        size = most if max_nodes is None else max_nodes
        if size < most:
            raise InputError(f"a graph has {most} nodes but max_nodes is {max_nodes}; raise it to at least {most}")
        mask = torch.arange(size, device=counts.device) < counts.unsqueeze(1)
        x = self.x.new_zeros(self.num_graphs, size, *self.x.shape[1:])
        x[mask] = self.x
        graph = ptr_to_index(self.edge_ptr)
        local = self.edge_index - self.ptr[graph]
        attr = self.edge_attr if self.edge_attr is not None else torch.ones_like(graph, dtype=torch.float32)
        adj = attr.new_zeros(self.num_graphs, size, size, *attr.shape[1:])
        adj[graph, local[0], local[1]] = attr
        if attr.dim() == 1 and int((adj != 0).sum()) != self.num_edges:
            raise InputError("edges repeat or have type 0, which a dense adjacency cannot hold; coalesce them first")
        return DenseGraphs(x, adj, mask)

    def to_pyg(self, vocabulary: Labels | None = None) -> Any:
        """Return a ``torch_geometric.data.Batch`` of B ``Data``; see ``graphs.exchange.to_pyg``.

        Raises:
            InputError: a column has a name that PyG uses or shifts, or a type has no label.
        """
        from graphinv.graphs.exchange import to_pyg

        return to_pyg(self, vocabulary)

    @staticmethod
    def from_pyg(
        data: Any,
        *,
        node_columns: Sequence[str] | None = None,
        edge_columns: Sequence[str] | None = None,
        graph_columns: Sequence[str] | None = None,
    ) -> GraphBatch:
        """Pack a PyG ``Data``, ``Batch`` or list of ``Data``; see ``graphs.exchange.from_pyg``.

        Raises:
            InputError: there are no edges, or an attribute named as a column does not fit or may be of two kinds.
        """
        from graphinv.graphs.exchange import from_pyg

        return from_pyg(data, node_columns=node_columns, edge_columns=edge_columns, graph_columns=graph_columns)

    def to_networkx(self, vocabulary: Labels | None = None) -> list[Any]:
        """Return B ``networkx.Graph``; see ``graphs.exchange.to_networkx``.

        Raises:
            InputError: an edge column differs between the two directions of an edge, or a type has no label.
        """
        from graphinv.graphs.exchange import to_networkx

        return to_networkx(self, vocabulary)

    @staticmethod
    def from_networkx(
        graphs: Sequence[Any],
        node_attr: str = "x",
        edge_attr: str = "type",
        *,
        node_columns: Sequence[str] | None = None,
        edge_columns: Sequence[str] | None = None,
        graph_columns: Sequence[str] | None = None,
    ) -> GraphBatch:
        """Pack undirected networkx graphs; see ``graphs.exchange.from_networkx``.

        Raises:
            InputError: an attribute named as a column is missing somewhere or holds no numbers.
        """
        from graphinv.graphs.exchange import from_networkx

        columns = {"node": node_columns, "edge": edge_columns, "graph": graph_columns}
        return from_networkx(graphs, node_attr, edge_attr, columns)


@dataclass(frozen=True)
class DenseGraphs:
    """B graphs padded to M nodes.

    Attributes:
        x: ``[B, M, *]`` node features, 0 in the padding.
        adj: ``[B, M, M]`` or ``[B, M, M, K]`` edge values, 0 in the padding and where there is no edge.
        mask: ``[B, M]`` bool, True for a node that exists.

    Example:
        >>> g = DenseGraphs(torch.zeros(1, 2), torch.zeros(1, 2, 2), torch.tensor([[True, False]]))
        >>> g.to_packed().num_nodes
        1
    """

    x: Tensor
    adj: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        size = (self.x.size(0), self.x.size(1), self.x.size(1))
        if self.adj.shape[:3] != size or self.mask.shape != size[:2] or self.mask.dtype != torch.bool:
            raise InputError(
                f"x {list(self.x.shape)}, adj {list(self.adj.shape)} and mask {list(self.mask.shape)} "
                f"({self.mask.dtype}) must be [B, M, *], [B, M, M, *] and [B, M] bool"
            )

    @property
    def pair_mask(self) -> Tensor:
        """``[B, M, M]`` bool, True where both nodes exist."""
        return self.mask.unsqueeze(1) & self.mask.unsqueeze(2)

    def masked(self) -> DenseGraphs:
        """Return the graphs with exact zeros in the padding, whatever was there (NaN included)."""
        x_mask = self.mask.reshape(self.mask.shape + (1,) * (self.x.dim() - 2))
        a_mask = self.pair_mask.reshape(self.pair_mask.shape + (1,) * (self.adj.dim() - 3))
        zero_x, zero_a = self.x.new_zeros(()), self.adj.new_zeros(())
        return replace(self, x=torch.where(x_mask, self.x, zero_x), adj=torch.where(a_mask, self.adj, zero_a))

    def to(self, device: torch.device | str) -> DenseGraphs:
        """Return the graphs with every tensor on ``device``."""
        return DenseGraphs(self.x.to(device), self.adj.to(device), self.mask.to(device))

    def to_packed(self) -> GraphBatch:
        """Pack the existing nodes; every nonzero ``adj`` entry between them is a directed edge."""
        counts = self.mask.sum(1)
        ptr = _offsets(counts)
        number = (self.mask.cumsum(1) - 1) + ptr[:-1, None]
        nonzero = self.adj != 0
        present = nonzero if nonzero.dim() == 3 else nonzero.flatten(3).any(-1)
        graph, u, v = (present & self.pair_mask).nonzero(as_tuple=True)
        edge_index = torch.stack([number[graph, u], number[graph, v]])
        edge_ptr = index_to_ptr(graph, self.mask.size(0))
        return GraphBatch(self.x[self.mask], edge_index, self.adj[graph, u, v], ptr, edge_ptr)


def pair_values(values: Tensor, pair: Tensor, count: int) -> Tensor | None:
    """Return the value ``[count, *]`` of each pair; None if edges of one pair have different values.

    Args:
        values: ``[E, *]``, one of each edge; NaN equals NaN.
        pair: ``[E]`` the pair of each edge, as ``GraphBatch.pairs`` gives it.
        count: P, the number of pairs.

    Example:
        >>> pair_values(torch.tensor([5, 7, 5]), torch.tensor([1, 0, 1]), 2)
        tensor([7, 5])
        >>> pair_values(torch.tensor([5, 6]), torch.tensor([0, 0]), 1) is None
        True
    """
    each = values.new_zeros(count, *values.shape[1:])
    each[pair] = values
    same = each[pair] == values
    if values.is_floating_point():
        same |= each[pair].isnan() & values.isnan()
    return each if bool(same.all()) else None


def _frozen(columns: Mapping[str, Column]) -> Columns:
    assert isinstance(columns, Columns)  # what the constructor makes of any mapping
    return columns


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
