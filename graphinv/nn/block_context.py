"""What a network keeps of finished blocks so that no step computes them again: a key-value cache for graphs.

Finished blocks never read what comes after them, so per layer their node vectors and the two factors of their pair
products are constants. A context is made by ``StepLayout``, cut into graphs when blocks end and joined when they begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["BlockContext"]


@dataclass(frozen=True)
class BlockContext:
    """The finished blocks of B graphs, padded to c nodes, over L layers of node width V and pair width D.

    Attributes:
        mask: ``[B, c]`` bool, the nodes that exist.
        block: ``[B, c]`` int64, their blocks.
        total: ``[B, Dn]`` sum over them that sizes and degrees of the next block are read from.
        row: ``[L, B, c, D]`` what each adds to the pairs of its row.
        column: ``[L, B, c, D]`` and of its column.
        values: ``[L, B, c, V]`` what attention sums.
        left: ``[L, B, D, c, c]`` left factors of the pair products, 0 where the second node is padding.
        right: ``[L, B, D, c, c]`` right factors.
        end_row: ``[B, c, 2 D]`` as ``row``, at the output.
        end_column: ``[B, c, 2 D]`` as ``column``, at the output.
    """

    mask: Tensor
    block: Tensor
    total: Tensor
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

    def graphs(self, old: Sequence[int], new: Sequence[int]) -> list[BlockContext]:
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
                value = getattr(self, f.name)
                value = value[g : g + 1] if _batch_axis(f.name) == 0 else value[:, g : g + 1]
                for axis in _node_axes(f.name):
                    if a == start:
                        value = value.narrow(axis, 0, a + b)
                    else:
                        value = torch.cat([value.narrow(axis, 0, a), value.narrow(axis, start, b)], axis)
                parts[f.name] = value.clone(memory_format=torch.contiguous_format)
            out.append(BlockContext(**parts))
        return out

    @staticmethod
    def join(contexts: Sequence[BlockContext]) -> BlockContext:
        """Return the batch of ``contexts``, padded with zeros to the most nodes."""
        most = max(context.mask.size(1) for context in contexts)
        parts = {}
        for f in fields(BlockContext):
            values = [getattr(context, f.name) for context in contexts]
            axes, batch = _node_axes(f.name), _batch_axis(f.name)
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
        return BlockContext(**parts)


def _batch_axis(name: str) -> int:
    return 1 if name in ("row", "column", "values", "left", "right") else 0


def _node_axes(name: str) -> tuple[int, ...]:
    return {"total": (), "left": (3, 4), "right": (3, 4)}.get(name, (_batch_axis(name) + 1,))
