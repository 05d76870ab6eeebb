"""Which node and pair reads which, in the two layouts of a block-autoregressive network (arXiv:2402.03687, section 3).

A node of block b reads the nodes of earlier blocks as they are and its own block; a pair belongs to its later end.
``ParallelLayout`` does all blocks of a graph at once (training): n x n real pairs, and n x n pairs whose later end is
noisy. ``StepLayout`` does one block, its rows and columns only, beside the kept results of finished blocks.
A layout computes nothing learnable: the layer is the same module in both.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from graphinv.nn.block_context import BlockContext

__all__ = ["BlockLayout", "CleanLayout", "ParallelLayout", "StepLayout", "WholeLayout"]


class BlockLayout(Protocol):
    """What a layer asks of a layout; ``k`` is the number of the layer, pairs are ``[*, D]`` in the layout's order."""

    node_mask: Tensor
    pair_mask: Tensor

    def pair_sum(self, k: int, row: Tensor, column: Tensor) -> Tensor:
        """Return row_i + column_j of each pair, from one vector per node."""
        ...

    def attend(self, k: int, logits: Tensor, pairs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return per node the sums over what it reads of attention x pairs ``[*, H, D]`` and x values ``[*, H, V]``."""
        ...

    def transpose(self, pairs: Tensor) -> Tensor:
        """Return for each pair (i, j) the row of (j, i)."""
        ...

    def product(self, k: int, left: Tensor, right: Tensor) -> Tensor:
        """Return sum over l of left_il * right_lj per channel, l over what the later of i and j reads."""
        ...

    def node_summary(self, pairs: Tensor) -> Tensor:
        """Return ``[*, 2 D]`` per node i: pair (i, i), and the mean of (i, j) and (j, i) over the j that i reads."""
        ...


class CleanLayout:
    """All blocks at once, nothing noisy: nodes ``[B, M, *]`` and pairs ``[B, M, M, *]``.

    Args:
        block: ``[B, M]`` int64 block of each node; in the padding any number above all blocks (nothing reads it).
        mask: ``[B, M]`` bool, the nodes that exist.
    """

    def __init__(self, block: Tensor, mask: Tensor) -> None:
        row, column = block.unsqueeze(2), block.unsqueeze(1)
        self.later, self.same = row > column, row == column  # [B, M, M]
        self.reads = self.later | self.same
        self.node_mask = mask
        self.pair_mask = mask.unsqueeze(1) & mask.unsqueeze(2)

    def pair_sum(self, k: int, row: Tensor, column: Tensor) -> Tensor:
        """Return ``[B, M, M, D]`` of ``row`` and ``column`` ``[B, M, D]``."""
        return row.unsqueeze(-2) + column.unsqueeze(-3)

    def attend(self, k: int, logits: Tensor, pairs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``[B, M, H, D]`` and ``[B, M, H, V]`` of logits ``[B, M, M, H]`` and values ``[B, M, HV]``."""
        weight, values = self._weights(logits), self._by_head(logits, values)
        return weight @ pairs, (weight.transpose(-3, -2) @ values).transpose(-3, -2)

    def transpose(self, pairs: Tensor) -> Tensor:
        """Return ``pairs`` ``[*, M, M, D]`` with their ends exchanged."""
        return pairs.transpose(-3, -2)

    def product(self, k: int, left: Tensor, right: Tensor) -> Tensor:
        """Return the products ``[B, M, M, D]``."""
        left, right, reads = left.movedim(-1, 1), right.movedim(-1, 1), self.reads.unsqueeze(1)
        low, high = left.where(reads, 0) @ right, left @ right.where(reads.transpose(-1, -2), 0)
        return low.where(reads, high).movedim(1, -1)

    def node_summary(self, pairs: Tensor) -> Tensor:
        """Return ``[*, M, 2 D]``."""
        weight = self.reads.to(pairs.dtype)
        weight = (weight / (2 * weight.sum(-1, keepdim=True))).unsqueeze(-2)  # [B, M, 1, M]
        mean = weight @ pairs + weight @ pairs.transpose(-3, -2)
        return torch.cat([pairs.diagonal(dim1=-3, dim2=-2).transpose(-1, -2), mean.squeeze(-2)], -1)

    def _weights(self, logits: Tensor) -> Tensor:
        """Return the attention ``[*, M, H, M]`` of each node over what it reads."""
        return logits.masked_fill(~self.reads.unsqueeze(-1), -torch.inf).softmax(-2).transpose(-1, -2)

    def _by_head(self, logits: Tensor, values: Tensor) -> Tensor:
        heads = logits.size(-1)
        return values.reshape(*values.shape[:-1], heads, values.size(-1) // heads).transpose(-3, -2)  # [*, H, M, V]


class WholeLayout(CleanLayout):
    """The whole graph as one block: every node and pair reads all nodes that exist.

    Args:
        mask: ``[B, M]`` bool, the nodes that exist.
    """

    def __init__(self, mask: Tensor) -> None:
        super().__init__((~mask).to(torch.long), mask)

    def product(self, k: int, left: Tensor, right: Tensor) -> Tensor:
        """Return the products ``[B, M, M, D]``; one matrix product of M x M per channel."""
        left = left * self.node_mask[:, None, :, None].to(left.dtype)
        return _channels_last(_channels(left) @ _channels(right))


class ParallelLayout(CleanLayout):
    """All blocks at once: nodes ``[2, B, M, *]`` and pairs ``[2, B, M, M, *]``, entry 0 real and entry 1 noisy.

    Noisy pair (i, j) has its later end noisy and its earlier end real; both are noisy inside a block. These are all
    2 n^2 pairs that anything reads, of the (2n)^2 between n real and n noisy nodes.

    Args:
        block: ``[B, M]`` int64 block of each node; in the padding any number above all blocks (nothing reads it).
        mask: ``[B, M]`` bool, the nodes that exist.
    """

    def __init__(self, block: Tensor, mask: Tensor) -> None:
        super().__init__(block, mask)
        self.node_mask = mask.expand(2, *mask.shape)
        self.pair_mask = self.pair_mask.expand(2, *self.pair_mask.shape)

    def pair_sum(self, k: int, row: Tensor, column: Tensor) -> Tensor:
        """Return ``[2, B, M, M, D]`` of ``row`` and ``column`` ``[2, B, M, D]``."""
        return torch.stack([super().pair_sum(k, row[0], column[0]), self.noisy_sum(row, column)])

    def noisy_sum(self, row: Tensor, column: Tensor) -> Tensor:
        """Return the noisy half ``[B, M, M, D]`` of ``pair_sum``."""
        rows = torch.where(self.reads.unsqueeze(-1), row[1].unsqueeze(2), row[0].unsqueeze(2))
        return rows + torch.where(self.later.unsqueeze(-1), column[0].unsqueeze(1), column[1].unsqueeze(1))

    def attend(self, k: int, logits: Tensor, pairs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``[2, B, M, H, D]`` and ``[2, B, M, H, V]``."""
        weight, values = self._weights(logits), self._by_head(logits, values)
        edge, weight = weight @ pairs, weight.transpose(2, 3)  # [2, B, M, H, D], [2, B, H, M, M]
        later, same = (m.unsqueeze(1).to(weight.dtype) for m in (self.later, self.same))
        # masked before the product: what a noisy node must not see has to be an exact zero
        past = torch.stack([weight[0], weight[1] * later]) @ values[0]
        own = (weight[1] * same) @ values[1]
        return edge, torch.stack([past[0], past[1] + own]).transpose(2, 3)

    def product(self, k: int, left: Tensor, right: Tensor) -> Tensor:
        """Return the products ``[2, B, M, M, D]``; seven batched matrix products of M x M per channel."""
        reads, later, same = (m.unsqueeze(-1).to(left.dtype) for m in (self.reads, self.later, self.same))
        (clean, noisy), (clean_right, noisy_right) = left, right
        earlier = later.transpose(1, 2)
        past, own = _channels(noisy * later), _channels(noisy * same)
        clean, noisy = _channels(clean), _channels(noisy)
        right_past, right_own = _channels(clean_right), _channels(noisy_right)
        # pairs whose row is the later end, or both ends: what the row reads
        clean_low = _channels(left[0] * reads) @ right_past
        noisy_low = past @ right_past + own @ right_own
        noisy_block = (past + own) @ right_own
        # pairs whose column is the later end: what the column reads
        clean_high = clean @ _channels(clean_right * reads.transpose(1, 2))
        noisy_high = clean @ _channels(noisy_right * earlier) + noisy @ _channels(noisy_right * same)
        parts = (_channels_last(p) for p in (clean_low, clean_high, noisy_low, noisy_block, noisy_high))
        clean_low, clean_high, noisy_low, noisy_block, noisy_high = parts
        return torch.stack(
            [clean_low * reads + clean_high * earlier, noisy_low * later + noisy_block * same + noisy_high * earlier]
        )


def _channels(pairs: Tensor) -> Tensor:
    """Return ``[B, D, M, M]`` of ``[B, M, M, D]``, contiguous."""
    return pairs.movedim(-1, 1).contiguous()


def _channels_last(pairs: Tensor) -> Tensor:
    return pairs.movedim(1, -1)


@dataclass
class StepLayout:
    """One new block: nodes ``[B, s, *]`` and pairs ``[B, s (c + s) + c s, *]``: its rows, then its columns to the past.

    Args:
        context: the finished blocks.
        mask: ``[B, s]`` bool, the nodes of the new block that exist.
        keep: collect what later blocks will read, for ``grown_context`` (for a block that is finished).
    """

    context: BlockContext
    node_mask: Tensor
    keep: bool = False
    _kept: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        old, new = self.context.mask, self.node_mask
        self.old, self.new = old.size(1), new.size(1)
        self.all_mask = torch.cat([old, new], 1)
        rows = new.unsqueeze(2) & self.all_mask.unsqueeze(1)
        columns = old.unsqueeze(2) & new.unsqueeze(1)
        self.pair_mask = torch.cat([rows.flatten(1), columns.flatten(1)], 1)

    def rows(self, pairs: Tensor) -> Tensor:
        """Return ``[B, s, c + s, D]``: the pairs (new, any)."""
        width = self.old + self.new
        return pairs[:, : self.new * width].reshape(len(pairs), self.new, width, pairs.size(-1))

    def columns(self, pairs: Tensor) -> Tensor:
        """Return ``[B, c, s, D]``: the pairs (finished, new)."""
        return pairs[:, self.new * (self.old + self.new) :].reshape(len(pairs), self.old, self.new, pairs.size(-1))

    def join(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the pairs of ``rows`` ``[B, s, c + s, D]`` and ``columns`` ``[B, c, s, D]``."""
        return torch.cat([rows.flatten(1, 2), columns.flatten(1, 2)], 1)

    def pair_sum(self, k: int, row: Tensor, column: Tensor) -> Tensor:
        """Return the sums of ``row`` and ``column`` ``[B, s, D]`` with each other and with the past."""
        rows = torch.cat([self.context.row[k], row], 1)
        columns = torch.cat([self.context.column[k], column], 1)
        self._keep(row=rows, column=columns)
        return self._sum(rows, columns)

    def noisy_sum(self, row: Tensor, column: Tensor) -> Tensor:
        """Return the sums of the output layer, as ``pair_sum``."""
        rows, columns = torch.cat([self.context.end_row, row], 1), torch.cat([self.context.end_column, column], 1)
        self._keep(end_row=rows, end_column=columns)
        return self._sum(rows, columns)

    def _sum(self, rows: Tensor, columns: Tensor) -> Tensor:
        c = self.old
        return self.join(
            rows[:, c:].unsqueeze(2) + columns.unsqueeze(1), rows[:, :c].unsqueeze(2) + columns[:, c:].unsqueeze(1)
        )

    def _keep(self, **tensors: Tensor) -> None:
        if self.keep:
            for name, value in tensors.items():
                self._kept[name].append(value)

    def grown_context(self, block: Tensor, total: Tensor) -> BlockContext:
        """Return the context once the new block ``block`` ``[B]`` is finished, its nodes behind the padding of the old.

        ``total`` is ``[B, Dn]``, see ``BlockContext``.
        """
        past = self.context.end_row
        none = past.new_zeros(past.size(0), self.all_mask.size(1), past.size(2))  # a trunk without a denoiser
        ends = {name: self._kept[name][0] if name in self._kept else none for name in ("end_row", "end_column")}
        layers = {name: torch.stack(self._kept[name]) for name in ("row", "column", "values", "left", "right")}
        number = torch.cat([self.context.block, block.unsqueeze(1).expand(-1, self.new)], 1)
        return BlockContext(self.all_mask, number, total, **layers, **ends)

    def attend(self, k: int, logits: Tensor, pairs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``[B, s, H, D]`` and ``[B, s, H, V]``."""
        heads = logits.size(-1)
        values = torch.cat([self.context.values[k], values], 1)
        self._keep(values=values)
        unread = ~self.all_mask[:, None, :, None]
        weight = self.rows(logits).masked_fill(unread, -torch.inf).softmax(-2).transpose(-1, -2)  # [B, s, H, c + s]
        every = values.reshape(*values.shape[:2], heads, -1).transpose(1, 2)
        return weight @ self.rows(pairs), (weight.transpose(1, 2) @ every).transpose(1, 2)

    def transpose(self, pairs: Tensor) -> Tensor:
        """Return the pairs with their ends exchanged."""
        rows, columns = self.rows(pairs), self.columns(pairs)
        past, own = rows[:, :, : self.old], rows[:, :, self.old :]
        return self.join(torch.cat([columns.transpose(1, 2), own.transpose(1, 2)], 2), past.transpose(1, 2))

    def product(self, k: int, left: Tensor, right: Tensor) -> Tensor:
        """Return the products of the new pairs; their cost is (new rows) x (all rows)^2 per channel."""
        past_left, past_right, c = self.context.left[k], self.context.right[k], self.old
        reads = self.all_mask[:, None, :, None]
        left_rows = _channels(self.rows(left).where(reads, 0))  # [B, D, s, c + s]
        left_columns = _channels(self.columns(left).where(reads[:, :, c:], 0))  # [B, D, c, s]
        right_rows, right_columns = _channels(self.rows(right)), _channels(self.columns(right))
        if self.keep:
            grown = {"left": (past_left, left_rows, left_columns), "right": (past_right, right_rows, right_columns)}
            self._keep(**{name: _grown(*parts) for name, parts in grown.items()})
        past, own = left_rows[..., :c].contiguous(), left_rows[..., c:].contiguous()
        rows = torch.cat([past @ past_right, past @ right_columns], -1) + own @ right_rows
        columns = past_left @ right_columns + left_columns @ right_rows[..., c:].contiguous()
        return self.join(_channels_last(rows), _channels_last(columns))

    def node_summary(self, pairs: Tensor) -> Tensor:
        """Return ``[B, s, 2 D]``."""
        rows, back = self.rows(pairs), self.rows(self.transpose(pairs))
        weight = self.all_mask.to(pairs.dtype).unsqueeze(1)  # [B, 1, c + s]
        weight = (weight / (2 * weight.sum(-1, keepdim=True))).unsqueeze(1)
        own = rows[:, :, self.old :].diagonal(dim1=1, dim2=2).transpose(-1, -2)
        return torch.cat([own, (weight @ (rows + back)).squeeze(-2)], -1)


def _grown(past: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``[B, D, c + s, c + s]`` of ``past`` ``[B, D, c, c]`` and the new rows and columns."""
    return torch.cat([torch.cat([past, columns], -1), rows], -2)
