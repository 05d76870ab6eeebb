"""Two forms of a batch of graphs and the exact conversions between them.

``GraphBatch`` is packed (rows back to back, offsets beside them) and is the public form; ``DenseGraphs`` is padded
to ``[B, M, M]`` and carries its node mask: an isolated node is a node, and nothing is inferred from zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops import index_to_ptr, ptr_to_index

__all__ = ["DenseGraphs", "GraphBatch"]


@dataclass(frozen=True)
class GraphBatch:
    """B graphs packed back to back; an undirected edge is held in both directions.

    Attributes:
        x: ``[N]`` integer node types or ``[N, F]`` features.
        edge_index: ``[2, E]`` int64, node ids counted over the whole batch, edges grouped by graph.
        edge_attr: ``[E]`` integer edge types (0 is reserved for "no edge"), ``[E, D]`` features, or None.
        ptr: ``[B+1]`` int64, nodes of graph k are rows ``ptr[k]:ptr[k+1]``.
        edge_ptr: ``[B+1]`` int64, edges of graph k are columns ``edge_ptr[k]:edge_ptr[k+1]``.
        block: ``[N]`` int64 generation block of each node, or None; no other form of a batch carries it.

    Example:
        >>> water = GraphBatch.from_graphs([GraphBatch.single(torch.tensor([2]), torch.empty(2, 0, dtype=torch.long))])
        >>> water.num_graphs, water.num_nodes, water.num_edges
        (1, 1, 0)
    """

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor | None
    ptr: Tensor
    edge_ptr: Tensor
    block: Tensor | None = None

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
        if self.block is not None and (self.block.shape != self.x.shape[:1] or self.block.dtype != torch.int64):
            raise InputError(
                f"block must be one int64 per node, [{self.num_nodes}], got {list(self.block.shape)} {self.block.dtype}"
            )

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

    def node_counts(self) -> Tensor:
        """Return ``[B]`` int64, the number of nodes of each graph."""
        return self.ptr.diff()

    def node_graph(self) -> Tensor:
        """Return ``[N]`` int64, the graph of each node (PyG's ``batch``)."""
        return ptr_to_index(self.ptr)

    def to(self, device: torch.device | str) -> GraphBatch:
        """Return the batch with every tensor on ``device``."""
        return replace(self, **{name: t.to(device) for name, t in vars(self).items() if t is not None})

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
            InputError: no batch is given, or only some carry ``edge_attr`` or ``block``.
        """
        if not batches:
            raise InputError("from_graphs needs at least one batch, got none")
        node_counts = torch.cat([b.ptr.diff() for b in batches])
        edge_counts = torch.cat([b.edge_ptr.diff() for b in batches])
        shift, shifted = 0, []
        for b in batches:
            shifted.append(b.edge_index + shift)
            shift += b.num_nodes
        return GraphBatch(
            torch.cat([b.x for b in batches]),
            torch.cat(shifted, 1),
            _all_or_none("edge_attr", [b.edge_attr for b in batches]),
            _offsets(node_counts),
            _offsets(edge_counts),
            _all_or_none("block", [b.block for b in batches]),
        )

    def select(self, index: Tensor | Sequence[int]) -> GraphBatch:
        """Return the graphs ``index`` ``[K]`` (repeats allowed) as a batch of K, in that order."""
        index = torch.as_tensor(index, device=self.ptr.device, dtype=torch.long)
        ptr, rows = _ranges(self.ptr, index)
        edge_ptr, cols = _ranges(self.edge_ptr, index)
        shift = (ptr[:-1] - self.ptr[index]).repeat_interleave(edge_ptr.diff())
        attr = None if self.edge_attr is None else self.edge_attr[cols]
        block = None if self.block is None else self.block[rows]
        return GraphBatch(self.x[rows], self.edge_index[:, cols] + shift, attr, ptr, edge_ptr, block)

    def graph(self, k: int) -> GraphBatch:
        """Return graph ``k`` as a batch of one."""
        if not 0 <= k < self.num_graphs:
            raise InputError(f"graph {k} was asked for, but the batch holds graphs 0..{self.num_graphs - 1}")
        return self.select([k])

    def to_dense(self, max_nodes: int | None = None) -> DenseGraphs:
        """Pad to ``[B, M, *]`` with M = ``max_nodes`` or the most nodes of a graph.

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

    def to_pyg(self) -> Any:
        """Return a ``torch_geometric.data.Batch`` of B ``Data`` objects (``x``, ``edge_index``, ``edge_attr``)."""
        from torch_geometric.data import Batch, Data

        data = []
        for k in range(self.num_graphs):
            g = self.graph(k)
            data.append(Data(x=g.x, edge_index=g.edge_index, edge_attr=g.edge_attr, num_nodes=g.num_nodes))
        return Batch.from_data_list(data)

    @staticmethod
    def from_pyg(data: Any) -> GraphBatch:
        """Pack a PyG ``Data``, ``Batch`` or list of ``Data``; edges are regrouped by graph, order kept inside.

        A ``Data`` without ``x`` gets node types 0.
        """
        from torch_geometric.data import Batch

        if isinstance(data, Sequence):
            data = Batch.from_data_list(list(data))
        count = int(data.num_nodes)
        x = data.x if data.x is not None else torch.zeros(count, dtype=torch.long)
        graph = getattr(data, "batch", None)
        graph = torch.zeros(count, dtype=torch.long, device=x.device) if graph is None else graph
        size = int(data.num_graphs) if hasattr(data, "num_graphs") else 1
        owner = graph[data.edge_index[0]]
        owner, order = torch.sort(owner, stable=True)
        attr = None if data.edge_attr is None else data.edge_attr[order]
        return GraphBatch(x, data.edge_index[:, order], attr, index_to_ptr(graph, size), index_to_ptr(owner, size))

    def to_networkx(self) -> list[Any]:
        """Return B ``networkx.Graph`` with integer nodes, attribute ``x`` per node and ``type`` per edge."""
        import networkx as nx

        graphs = []
        for k in range(self.num_graphs):
            g, out = self.graph(k), nx.Graph()
            out.add_nodes_from((i, {"x": value}) for i, value in enumerate(g.x.tolist()))
            types = [1] * g.num_edges if g.edge_attr is None else g.edge_attr.tolist()
            ends = g.edge_index.t().tolist()
            out.add_edges_from((u, v, {"type": kind}) for (u, v), kind in zip(ends, types, strict=True))
            graphs.append(out)
        return graphs

    @staticmethod
    def from_networkx(graphs: Sequence[Any], node_attr: str = "x", edge_attr: str = "type") -> GraphBatch:
        """Pack undirected networkx graphs; nodes keep their order, missing types are 0 (nodes) and 1 (edges)."""
        packed = []
        for graph in graphs:
            number = {node: i for i, node in enumerate(graph.nodes)}
            x = torch.tensor([data.get(node_attr, 0) for _, data in graph.nodes(data=True)] or [], dtype=None)
            x = x if graph.number_of_nodes() else torch.zeros(0, dtype=torch.long)
            ends, types = [], []
            for u, v, data in graph.edges(data=True):
                pairs = [(number[u], number[v])] if u == v else [(number[u], number[v]), (number[v], number[u])]
                ends += pairs
                types += [data.get(edge_attr, 1)] * len(pairs)
            index = torch.tensor(ends, dtype=torch.long).reshape(-1, 2).t()
            packed.append(
                GraphBatch.single(x, index, torch.tensor(types) if types else torch.zeros(0, dtype=torch.long))
            )
        return GraphBatch.from_graphs(packed)


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


def _all_or_none(name: str, columns: Sequence[Tensor | None]) -> Tensor | None:
    given = [column for column in columns if column is not None]
    if given and len(given) != len(columns):
        raise InputError(f"{len(given)} of {len(columns)} batches carry {name}; give it to all or to none")
    return torch.cat(given) if given else None


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _ranges(ptr: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the offsets of the chosen segments and the rows ``ptr[i]:ptr[i+1]`` of each, back to back."""
    counts = ptr[index + 1] - ptr[index]
    offsets = _offsets(counts)
    shift = (ptr[index] - offsets[:-1]).repeat_interleave(counts)
    return offsets, torch.arange(shift.numel(), device=ptr.device) + shift
