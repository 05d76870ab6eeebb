"""What a network keeps of finished blocks so that no step computes them again: a key-value cache for graphs.

Finished blocks never read what comes after them, so per layer their node vectors and the two factors of their pair
products are constants. A context is made by ``StepLayout``, cut into graphs when blocks end and joined when they begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

__all__ = ["BlockContext", "Context", "TokenContext"]

C = TypeVar("C", bound="Context")


@dataclass(frozen=True)
class Context:
    """What any network keeps of finished blocks.

    Attributes:
        axes: of each tensor, the axis of graphs and those of nodes; the axis of graphs alone is 0, that of nodes 1.
        mask: ``[B, c]`` bool, the nodes that exist.
        block: ``[B, c]`` int64, their blocks.
        total: ``[B, Dn]`` what size and key of the next block are read from.
    """

    axes: ClassVar[Mapping[str, tuple[int, tuple[int, ...]]]] = {"total": (0, ())}
    mask: Tensor
    block: Tensor
    total: Tensor

    @classmethod
    def axes_of(cls, name: str) -> tuple[int, tuple[int, ...]]:
        """Return the axis of graphs and the axes of nodes of a tensor."""
        return cls.axes.get(name, (0, (1,)))

    def graphs(self: C, old: Sequence[int], new: Sequence[int]) -> list[C]:
        """Return one context per graph, of its ``old[g] + new[g]`` nodes only.

        Args:
            old: finished nodes of each graph before its last block.
            new: nodes of its last block, which start where the padding of the old ones ends.
        """
        start = self.mask.size(1) - max(new)
        out = []
        for g, (a, b) in enumerate(zip(old, new, strict=True)):
            parts = {}
            for f in fields(self):
                batch, axes = self.axes_of(f.name)
                value = getattr(self, f.name).narrow(batch, g, 1)
                for axis in axes:
                    if a == start:
                        value = value.narrow(axis, 0, a + b)
                    else:
                        value = torch.cat([value.narrow(axis, 0, a), value.narrow(axis, start, b)], axis)
                parts[f.name] = value.clone(memory_format=torch.contiguous_format)
            out.append(type(self)(**parts))
        return out

    def select(self: C, graphs: Sequence[int]) -> C:
        """Return the contexts of the graphs of these numbers."""
        index = torch.tensor(graphs, device=self.mask.device)
        parts = {f.name: getattr(self, f.name).index_select(self.axes_of(f.name)[0], index) for f in fields(self)}
        return type(self)(**parts)

    @classmethod
    def join(cls: type[C], contexts: Sequence[C]) -> C:
        """Return the batch of ``contexts``, padded with zeros to the most nodes."""
        most = max(context.mask.size(1) for context in contexts)
        parts = {}
        for f in fields(cls):
            values = [getattr(context, f.name) for context in contexts]
            batch, axes = cls.axes_of(f.name)
            if not axes or all(value.size(axes[0]) == most for value in values):
                parts[f.name] = torch.cat(values, batch)
                continue
            shape = [len(values) if i == batch else most if i in axes else n for i, n in enumerate(values[0].shape)]
            joined = values[0].new_zeros(shape)
            for g, value in enumerate(values):
                place = joined.narrow(batch, g, 1)
                for axis in axes:
                    place = place.narrow(axis, 0, value.size(axis))
                place.copy_(value)
            parts[f.name] = joined
        return cls(**parts)


@dataclass(frozen=True)
class BlockContext(Context):
    """The finished blocks of B graphs, padded to c nodes, over L layers of node width V and pair width D.

    Attributes:
        row: ``[L, B, c, D]`` what each adds to the pairs of its row.
        column: ``[L, B, c, D]`` and of its column.
        values: ``[L, B, c, V]`` what attention sums.
        left: ``[L, B, D, c, c]`` left factors of the pair products, 0 where the second node is padding.
        right: ``[L, B, D, c, c]`` right factors.
        end_row: ``[B, c, 2 D]`` as ``row``, at the output.
        end_column: ``[B, c, 2 D]`` as ``column``, at the output.
    """

    axes: ClassVar[Mapping[str, tuple[int, tuple[int, ...]]]] = {
        **Context.axes,
        **dict.fromkeys(("row", "column", "values"), (1, (2,))),
        **dict.fromkeys(("left", "right"), (1, (3, 4))),
    }
    row: Tensor
    column: Tensor
    values: Tensor
    left: Tensor
    right: Tensor
    end_row: Tensor
    end_column: Tensor

    @staticmethod
    def empty(batch: int, layers: int, node_dim: int, edge_dim: int, like: Tensor) -> BlockContext:
        """Return the context of ``batch`` graphs without any node, of the dtype and device of ``like``.

        Example:
            >>> BlockContext.empty(2, 3, 8, 4, torch.zeros(())).left.shape
            torch.Size([3, 2, 4, 0, 0])
        """
        ids = torch.zeros(batch, 0, dtype=torch.long, device=like.device)
        vector, end = like.new_zeros(layers, batch, 0, edge_dim), like.new_zeros(batch, 0, 2 * edge_dim)
        values, factor = like.new_zeros(layers, batch, 0, node_dim), like.new_zeros(layers, batch, edge_dim, 0, 0)
        total = like.new_zeros(batch, node_dim)
        return BlockContext(ids.bool(), ids, total, vector, vector, values, factor, factor, end, end)


@dataclass(frozen=True)
class TokenContext(Context):
    """The finished blocks of B graphs as a network of tokens keeps them, over L layers.

    Attributes:
        pairs: ``[B, c, c]`` int64 pair types.
        values: ``[L, B, c, V]`` keys, values and messages of each node.
        ends: ``[B, c, 2 P]`` what each adds to the pairs of which it is the earlier end.
        sum: ``[B, Dn]`` sum over the nodes that ``total`` is made of.
        condition: ``[B, 2 P]`` what was told of the graph.
        core: ``[B, c]`` bool, the nodes that were there from the beginning.
    """

    axes: ClassVar[Mapping[str, tuple[int, tuple[int, ...]]]] = {
        **Context.axes,
        "pairs": (0, (1, 2)),
        "values": (1, (2,)),
        "sum": (0, ()),
        "condition": (0, ()),
    }
    pairs: Tensor
    values: Tensor
    ends: Tensor
    sum: Tensor
    condition: Tensor
    core: Tensor
