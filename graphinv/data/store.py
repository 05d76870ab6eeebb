"""Graphs as columns in one memory-mapped file: types, bonds, offsets, split, source row, and columns by name.

Each undirected bond is held once, with local node ids u < v. A store has no download, no transform, no graph objects.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from graphinv.columns import Column, Columns, Text
from graphinv.data import _columns
from graphinv.data._batching import gather_graphs
from graphinv.data._undirected import undirected_bonds
from graphinv.data.vocabulary import Vocabulary
from graphinv.errors import InputError, StoreError, warn_old_name
from graphinv.graphs import GraphBatch
from graphinv.ops.labels import label_slots
from graphinv.ops.pointer import segment_rows

__all__ = ["SPLITS", "GraphStore", "Vocabulary"]

Split = Literal["train", "valid", "test", "none", "all"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test", "none")  # split_id i is SPLITS[i]; "none" belongs to no split


@dataclass(frozen=True, eq=False, repr=False)
class GraphStore:
    """G graphs in columns, N nodes and E undirected bonds in all.

    Attributes:
        node_type: ``[N]`` uint8, index into ``vocabulary.nodes``.
        bond: ``[E, 2]`` uint8 (int16 or int32 if a graph has more than 255 nodes), local node ids, u < v.
        bond_type: ``[E]`` uint8 in 1..K, K edge labels.
        node_ptr: ``[G+1]`` int32 (int64 if it would overflow), nodes of graph g are ``node_ptr[g]:node_ptr[g+1]``.
        bond_ptr: ``[G+1]`` likewise.
        split_id: ``[G]`` uint8, index into ``SPLITS``: 0 train, 1 valid, 2 test, 3 in none of them.
        row: ``[G]`` int32, 0-based data line each graph came from (header not counted, rejected lines counted).
        vocabulary: the labels of the types.
        provenance: JSON object: sources, settings, split rule, counts.
        node_columns: name -> ``[N, *]``: bool, integers (uint8, int16, int32 or int64), float32 or float64.
        edge_columns: name -> ``[E, *]``, one row a bond.
        graph_columns: name -> ``[G, *]``, NaN where unknown, or G texts, such as "smiles", the canonical SMILES.
        block_rule: what made the node column "block", such as "hops:3" or "hops:3:legacy"; None without it.

    Raises:
        InputError: the columns do not fit each other (rows are checked by ``from_arrays`` and ``verify``).

    Example:
        >>> store = GraphStore.from_arrays([0, 1, 0], [0, 2, 3], [[0, 1]], [2], [0, 1, 1],
        ...     vocabulary=Vocabulary(("C", "O"), ("single", "double"), "element"), smiles=["C=O", "C"])
        >>> store.batch(torch.tensor([1, 0])).edge_index.tolist(), store.smiles([1])
        ([[1, 2], [2, 1]], ['C'])
    """

    node_type: Tensor
    bond: Tensor
    bond_type: Tensor
    node_ptr: Tensor
    bond_ptr: Tensor
    split_id: Tensor
    row: Tensor
    vocabulary: Vocabulary
    provenance: dict[str, Any] = field(default_factory=dict)
    node_columns: Mapping[str, Column] = field(default_factory=Columns)
    edge_columns: Mapping[str, Column] = field(default_factory=Columns)
    graph_columns: Mapping[str, Column] = field(default_factory=Columns)
    block_rule: str | None = None

    def __post_init__(self) -> None:
        _columns.check_shapes(self._required())
        for kind, rows in self._rows().items():
            columns = _columns.check_named(kind, getattr(self, f"{kind}_columns"), rows)
            object.__setattr__(self, f"{kind}_columns", columns)
        if ("block" in self.node_columns) != (self.block_rule is not None):
            raise InputError("block and block_rule go together, but one of them is missing; use with_blocks")

    def _rows(self) -> dict[str, int]:
        return {"node": self.node_type.numel(), "edge": self.bond_type.numel(), "graph": self.split_id.numel()}

    @cached_property
    def _named(self) -> dict[str, Columns]:
        """The columns by kind; the constructor made them frozen."""
        return {kind: Columns(getattr(self, f"{kind}_columns")) for kind in _columns.KINDS}

    def _required(self) -> dict[str, Tensor]:
        names = ("node_type", "bond", "bond_type", "node_ptr", "bond_ptr", "split_id", "row")
        return {name: getattr(self, name) for name in names}

    def _tensors(self) -> dict[str, Tensor]:
        return self._required() | _columns.stored_columns(self._named)

    @classmethod
    def from_arrays(
        cls,
        node_type: Any,
        node_ptr: Any,
        bond: Any,
        bond_type: Any,
        bond_ptr: Any,
        *,
        vocabulary: Vocabulary,
        split_id: Any = None,
        row: Any = None,
        smiles: Sequence[str] | None = None,
        node_columns: Mapping[str, Any] | None = None,
        edge_columns: Mapping[str, Any] | None = None,
        graph_columns: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> GraphStore:
        """Build a store from tensors, numpy arrays or lists, narrowed to the column types and checked row by row.

        Without ``split_id`` every graph is in train; without ``row`` graph g is line g. ``smiles`` is the graph column
        of that name; ``edge_columns`` have one row a bond. ``properties`` is the old name of ``graph_columns``.

        Raises:
            InputError: shapes disagree, a bond is not u < v < nodes or is held twice, or a type has no label.
        """
        of_graphs = dict(graph_columns or {})
        if properties is not None:
            warn_old_name("properties of a GraphStore", "graph_columns")
            of_graphs |= properties
        if smiles is not None:
            of_graphs["smiles"] = Text.pack(smiles)
        wide_ptr, pairs = _columns.integers("node_ptr", node_ptr), _columns.integers("bond", bond)
        pairs = pairs if pairs.numel() else pairs.reshape(0, 2)
        num_graphs = max(wide_ptr.numel() - 1, 0)
        most = int(wide_ptr.diff().max()) if num_graphs else 0
        split_id = torch.zeros(num_graphs, dtype=torch.uint8) if split_id is None else split_id
        store = cls(
            node_type=_columns.to_uint8("node_type", node_type),
            bond=_columns.narrow_ids(pairs, max(most, int(pairs.max()) if pairs.numel() else 0)),
            bond_type=_columns.to_uint8("bond_type", bond_type),
            node_ptr=_columns.narrow_offsets(wide_ptr),
            bond_ptr=_columns.narrow_offsets(_columns.integers("bond_ptr", bond_ptr)),
            split_id=_columns.to_uint8("split_id", split_id),
            row=_columns.to_int32("row", torch.arange(num_graphs) if row is None else row),
            vocabulary=vocabulary,
            provenance=dict(provenance or {}),
        ).with_columns(node=node_columns, edge=edge_columns, graph=of_graphs)
        store._check_rows()
        return store

    @classmethod
    def from_graphs(cls, batch: GraphBatch, vocabulary: Vocabulary | None = None, **columns: Any) -> GraphStore:
        """Build a store from packed undirected graphs, their edges given in both directions or in one.

        Node types are ``batch.x`` ``[N]``, edge types ``batch.edge_attr`` ``[E]`` (1 without it). Without a vocabulary
        the labels are the numbers. ``columns`` are the keyword arguments of ``from_arrays``; those of the batch come
        along, except "block": a store holds blocks with the rule that made them (``with_blocks``).

        Raises:
            InputError: a self loop, a repeated edge, directions that differ in type or in a column, or features
                instead of types.

        Example:
            >>> path = GraphBatch.single(torch.tensor([0, 0]), torch.tensor([[0, 1], [1, 0]]))
            >>> len(GraphStore.from_graphs(path))
            1
        """
        bonds = undirected_bonds(batch)
        x = _columns.integers("GraphBatch.x", batch.x)
        if x.dim() != 1:
            raise InputError(f"a store holds node types [N], got features {list(x.shape)}; pass integer types as x")
        if vocabulary is None:
            most_node, most_edge = (int(t.max()) if t.numel() else 0 for t in (x, bonds.types))
            nodes = tuple(str(i) for i in range(most_node + 1))
            vocabulary = Vocabulary(nodes, tuple(str(i) for i in range(1, max(most_edge, 1) + 1)), "generic")
        nodes_only = {name: column for name, column in batch.node_columns.items() if name != "block"}
        held: dict[str, Mapping[str, Any]] = {
            "node_columns": nodes_only,
            "edge_columns": bonds.columns,
            "graph_columns": batch.graph_columns,
        }
        columns |= {name: {**column, **(columns.get(name) or {})} for name, column in held.items()}
        return cls.from_arrays(x, batch.ptr, bonds.ends, bonds.types, bonds.ptr, vocabulary=vocabulary, **columns)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GraphStore:
        """Memory-map a store; columns are read when they are used.

        Raises:
            StoreError: the file is missing, truncated, corrupt, not a graph store or of another format version.
        """
        columns, header = _columns.read_columns(Path(path))
        try:
            named = {f"{kind}_columns": held for kind, held in _columns.named_columns(columns).items()}
            vocabulary = Vocabulary.from_json(header["vocabulary"])
            provenance, saved_hash = dict(header["provenance"]), str(header["content_hash"])
            fields: dict[str, Any] = {**columns, **named, "vocabulary": vocabulary, "provenance": provenance}
            store = cls(block_rule=header.get("block_rule"), **fields)
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path} is corrupt ({error}); rebuild it with `graphinv data build`") from error
        vars(store)["content_hash"] = saved_hash  # fills the cache: hashing would read the whole file
        return store

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the store as one file, atomically.

        Raises:
            InputError: the provenance is not JSON, or the disk refuses the write; no partial file stays.
        """
        described = {"provenance": self.provenance, "block_rule": self.block_rule}
        header = {**described, "vocabulary": self.vocabulary.to_json(), "content_hash": self.content_hash}
        _columns.write_columns(Path(path), self._tensors(), header)

    def verify(self) -> None:
        """Read everything and check it: hash, offsets, bonds, types.

        Raises:
            StoreError: the content is not what was saved, or breaks a rule of the format.
        """
        found = _columns.content_hash(self._tensors(), self.vocabulary.to_json())
        if found != self.content_hash:
            raise StoreError(
                f"the graph store is corrupt: content hash {found[:12]}..., recorded {self.content_hash[:12]}...; "
                "rebuild it with `graphinv data build`"
            )
        try:
            self._check_rows()
        except InputError as error:
            raise StoreError(f"the graph store is corrupt: {error}; rebuild it with `graphinv data build`") from error

    def _check_rows(self) -> None:
        _columns.check_content(self._tensors(), len(self.vocabulary.nodes), len(self.vocabulary.edges))

    @cached_property
    def content_hash(self) -> str:
        """The sha256 of all columns, split included, and of the vocabulary; not of the provenance."""
        return _columns.content_hash(self._tensors(), self.vocabulary.to_json())

    @cached_property
    def _node_ptr(self) -> Tensor:
        return self.node_ptr.long()

    @cached_property
    def _bond_ptr(self) -> Tensor:
        return self.bond_ptr.long()

    @property
    def block(self) -> Tensor | None:
        """``[N]`` the node column "block", generation block of each node; None without it."""
        return self._named["node"].tensor("block")

    @property
    def properties(self) -> dict[str, Tensor]:
        """The graph columns of floats, by their old name; use ``graph_columns``."""
        warn_old_name("properties of a GraphStore", "graph_columns")
        return {n: c for n, c in self.graph_columns.items() if isinstance(c, Tensor) and c.is_floating_point()}

    @property
    def num_graphs(self) -> int:
        """G, the number of graphs."""
        return self.split_id.numel()

    def __len__(self) -> int:
        return self.num_graphs

    def __repr__(self) -> str:
        sizes = f"{self.num_graphs} graphs, {self.node_type.numel()} nodes, {self.bond_type.numel()} bonds"
        return f"GraphStore({sizes}, scheme {self.vocabulary.scheme})"

    def node_counts(self, index: Tensor | Sequence[int] | None = None) -> Tensor:
        """Return the number of nodes of each graph, or of the graphs ``index`` ``[K]``, as int64."""
        counts = self._node_ptr.diff()
        return counts if index is None else counts[self._index(index)]

    def indices(self, split: Split = "all") -> Tensor:
        """Return the ids of the graphs of a split in store order, int64; "all" is every graph.

        Raises:
            InputError: the split has another name than train, valid, test, none or all.
        """
        if split == "all":
            return torch.arange(self.num_graphs)
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}; available: {', '.join(SPLITS)}, all")
        return (self.split_id == SPLITS.index(split)).nonzero().flatten()

    def node_histogram(self, split: Split = "train") -> Tensor:
        """Return ``[max + 1]`` int64: entry n is how many graphs of the split have n nodes."""
        return torch.bincount(self.node_counts(self.indices(split)), minlength=1)

    def smiles(self, index: Tensor | Sequence[int] | None = None) -> list[str]:
        """Return the canonical SMILES of all graphs or of the graphs ``index`` ``[K]``.

        Raises:
            InputError: the store holds no SMILES, or a graph is out of range.
        """
        text = self.graph_columns.get("smiles")
        if not isinstance(text, Text):
            raise InputError("this store holds no SMILES; decode its graphs, or rebuild it keeping SMILES")
        return list(text if index is None else text.take(self._index(index)))

    def batch(self, index: Tensor | Sequence[int]) -> GraphBatch:
        """Return the graphs ``index`` ``[K]`` (repeats allowed), in that order, as a batch of K with int64 types.

        Bond j of the batch is edges 2j (u -> v) and 2j + 1 (v -> u). All columns come along: integers as int64, text
        read from the file when it is looked at.

        Raises:
            InputError: ``index`` is not integer or a graph is out of range.
        """
        ptrs, columns = (self._node_ptr, self._bond_ptr), tuple(self._named.values())
        return gather_graphs(self._index(index), ptrs, self.node_type, self.bond, self.bond_type, columns)

    def select(self, index: Tensor | Sequence[int]) -> GraphStore:
        """Return the graphs ``index`` ``[K]`` (repeats allowed), in that order, as a store of K with all their columns.

        Raises:
            InputError: ``index`` is not integer or a graph is out of range.
        """
        chosen = self._index(index)
        node_ptr, nodes = segment_rows(self._node_ptr, chosen)
        bond_ptr, bonds = segment_rows(self._bond_ptr, chosen)
        rows = {"node": nodes, "edge": bonds, "graph": chosen}
        columns = {kind: held.take(rows[kind]) for kind, held in self._named.items()}
        texts = {name: _columns.pack_text(c) for name, c in columns["graph"].items() if isinstance(c, Text)}
        return replace(
            self,
            node_type=self.node_type[nodes],
            bond=self.bond[bonds],
            bond_type=self.bond_type[bonds],
            node_ptr=_columns.narrow_offsets(node_ptr),
            bond_ptr=_columns.narrow_offsets(bond_ptr),
            split_id=self.split_id[chosen],
            row=self.row[chosen],
            node_columns=columns["node"],
            edge_columns=columns["edge"],
            graph_columns=columns["graph"].change(texts),
        )

    def with_split(self, split_id: Tensor, rule: str) -> GraphStore:
        """Return the store with another split: ``split_id`` ``[G]``, ``rule`` is what provenance says of it."""
        ids = _columns.to_uint8("split_id", split_id)
        _columns.check_range("split_id", ids, 0, len(SPLITS) - 1)
        return replace(self, split_id=ids, provenance={**self.provenance, "split": rule})

    def with_blocks(self, block: Any, rule: str) -> GraphStore:
        """Return the store with the generation block of each node, ``block`` ``[N]``, and the ``rule`` that made it.

        Raises:
            InputError: the blocks of a graph are not 0..k-1, each of at least one node.
        """
        ids = _columns.integers("block", block)
        label_slots("block", ids, self._node_ptr)
        block = _columns.narrow_ids(ids, int(ids.max()) if ids.numel() else 0)
        return replace(self, node_columns=self._named["node"].change({"block": block}), block_rule=rule)

    def with_columns(
        self,
        *,
        node: Mapping[str, Any] | None = None,
        edge: Mapping[str, Any] | None = None,
        graph: Mapping[str, Any] | None = None,
    ) -> GraphStore:
        """Return the store with columns added or put in place of others; a column given as None is taken out.

        Tensors, arrays or lists of numbers, of graphs also lists of text; integers are narrowed, half floats widened.

        Args:
            node: name -> ``[N, *]``.
            edge: name -> ``[E, *]``, one row a bond.
            graph: name -> ``[G, *]`` or G texts.

        Raises:
            InputError: a column does not fit its rows, or is the "block" of nodes, which ``with_blocks`` gives.

        Example:
            >>> store = GraphStore.from_arrays([0], [0, 1], [], [], [0, 0],
            ...     vocabulary=Vocabulary(("C",), ("single",), "element"))
            >>> store = store.with_columns(graph={"logp": [0.6], "name": ["methane"]})
            >>> store.batch([0, 0]).graph_columns["name"][1]
            'methane'
        """
        named, rows = dict(self._named), self._rows()
        for kind, changes in (("node", node), ("edge", edge), ("graph", graph)):
            added = {name: column for name, column in (changes or {}).items() if column is not None}
            removed = dict.fromkeys(name for name in changes or {} if name not in added)
            named[kind] = named[kind].change(_columns.narrow_columns(kind, added, rows[kind])).change(removed)
        columns = {f"{kind}_columns": held for kind, held in named.items()}
        rule = self.block_rule if "block" in named["node"] else None
        return replace(self, **columns, block_rule=rule)  # type: ignore[arg-type]

    def _index(self, index: Tensor | Sequence[int]) -> Tensor:
        chosen = _columns.integers("index", index)
        if chosen.dim() != 1:
            raise InputError(f"index must be [K], got shape {list(chosen.shape)}")
        _columns.check_range("index", chosen, 0, self.num_graphs - 1)
        return chosen
