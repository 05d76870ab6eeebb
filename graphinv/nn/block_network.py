"""The whole network of PARD in its two uses: all blocks at once for training, one block beside the kept past to sample.

Both give the same logits; the second is the first with everything that cannot change taken from a ``BlockContext``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from graphinv.nn.block import BlockProperties, BlockSettings, Denoiser, Trunk
from graphinv.nn.block_layout import BlockLayout, CleanLayout, ParallelLayout, StepLayout
from graphinv.ops.pairs import pair_index

__all__ = ["BlockInput", "BlockNetwork", "Contexts", "NewBlock", "ParallelOutput", "mirror_inner"]

Contexts = tuple[Any, ...]
"""One ``Context`` per trunk, of the network's own kind: the shared one, or the denoiser's and the block heads' own."""


@dataclass(frozen=True)
class BlockInput:
    """B graphs padded to M nodes that are sorted by block, clean and noisy.

    Attributes:
        types: ``[1 + C, B, M]`` node types, 0 clean, then noisy copies, of which a network of tokens takes more than
            one; the mask type is ``node_types``.
        pairs: ``[1 + C, B, M, M]`` pair types, symmetric, 0 for none; the mask type is ``edge_types + 1``.
        block: ``[B, M]`` block of each node; any number above all blocks in the padding.
        degree: ``[B, M]`` degree of its block.
        time: ``[B, M]`` diffusion time in [0, 1] of its block.
        mask: ``[B, M]`` bool.
        walks: ``[B, M, W]`` further walk counts of its block's key; None for none.
        condition: ``[B, 2 P]`` numbers that the graph is to have, and whether each is there; None for none.
        core: ``[B, M]`` bool, nodes that are there from the beginning; None for none.
    """

    types: Tensor
    pairs: Tensor
    block: Tensor
    degree: Tensor
    time: Tensor
    mask: Tensor
    walks: Tensor | None = None
    condition: Tensor | None = None
    core: Tensor | None = None

    @property
    def key(self) -> Tensor:
        """``[B, M, 1 + W]``, degree and walk counts of each node's block."""
        return _key(self.degree, self.walks)


@dataclass(frozen=True)
class ParallelOutput:
    """What the network says of all blocks.

    Attributes:
        nodes: ``[C B, M, K]`` logits of the noisy nodes, copy after copy.
        pairs: ``[C B, P, E + 1]`` logits of the noisy pairs i < j, row by row (``graphinv.ops.pairs``).
        totals: ``[B, M, Dn]`` sums over nodes 0..i; at the last node of a block, what the next one is read from.
    """

    nodes: Tensor
    pairs: Tensor
    totals: Tensor


@dataclass(frozen=True)
class NewBlock:
    """One block of s nodes per graph beside c finished nodes.

    Attributes:
        types: ``[B, s]`` node types.
        pairs: ``[B, s, c + s]`` pair types to the finished and to the new nodes.
        block: ``[B]`` its number.
        degree: ``[B]`` its degree.
        mask: ``[B, s]`` bool, the nodes that exist.
        walks: ``[B, W]`` further walk counts of its key; None for none.
        core: ``[B]`` bool, blocks that are cores; None for none.
    """

    types: Tensor
    pairs: Tensor
    block: Tensor
    degree: Tensor
    mask: Tensor
    walks: Tensor | None = None
    core: Tensor | None = None

    @property
    def key(self) -> Tensor:
        """``[B, 1 + W]``, degree and walk counts."""
        return _key(self.degree, self.walks)

    def select(self, graphs: Sequence[int]) -> NewBlock:
        """Return the blocks of the graphs of these numbers."""
        index = torch.tensor(graphs, device=self.mask.device)
        walks, core = (None if t is None else t[index] for t in (self.walks, self.core))
        types, pairs, block = (t.index_select(0, index) for t in (self.types, self.pairs, self.block))
        return NewBlock(types, pairs, block, self.degree[index], self.mask[index], walks, core)


def _key(degree: Tensor, walks: Tensor | None) -> Tensor:
    degree = degree.unsqueeze(-1)
    return degree if walks is None else torch.cat([degree, walks], -1)


class BlockNetwork(nn.Module):
    """Trunk, denoiser and block heads.

    Args:
        settings: shapes.
        shared: one trunk for both jobs (the paper's ``combine_training``), or a second one for the block heads.

    Example:
        >>> net = BlockNetwork(BlockSettings(4, 3, 9, node_dim=16, edge_dim=8, layers=2, heads=2))
        >>> first = NewBlock(torch.tensor([[0, 1]]), torch.tensor([[[0, 1], [1, 0]]]), torch.tensor([0]),
        ...     torch.tensor([1]), torch.ones(1, 2, dtype=torch.bool))
        >>> contexts = net.finish(net.empty_contexts(1), first)
        >>> net.next_sizes(contexts).shape
        torch.Size([1, 10])
    """

    def __init__(self, settings: BlockSettings, shared: bool = True) -> None:
        super().__init__()
        self.settings = settings
        self.trunk = Trunk(settings)
        self.denoiser = Denoiser(settings)
        self.block_trunk = None if shared else Trunk(settings, timed=False)
        self.properties = BlockProperties(settings, settings.node_dim + 2 * settings.edge_dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, gain=0.5 if settings.norm == "batch" else 1.0)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, g: BlockInput) -> ParallelOutput:
        """Return the logits of all blocks of ``g``."""
        layout = ParallelLayout(g.block, g.mask)
        apart = (g.block.unsqueeze(2) - g.block.unsqueeze(1)).abs()
        eye = torch.eye(g.block.size(1), dtype=torch.bool, device=g.block.device)
        types = torch.where(eye, self.settings.self_type, g.pairs)
        trunk = self.trunk
        clean = trunk.nodes(g.types[0], g.block, g.degree, None)
        noisy = trunk.nodes(g.types[1], g.block, g.degree, g.time)
        x, pairs = trunk(torch.stack([clean, noisy]), trunk.pairs(types, apart), layout)
        u = self.denoiser.rows(x, pairs, layout)
        ends = layout.noisy_sum(*self.denoiser.node_part(u).chunk(2, -1))
        both = self.denoiser.combine(ends, pairs[1]).flatten(1, 2)
        upper, lower, _ = pair_index(g.block.size(1), g.block.device)
        pair_mask = layout.pair_mask[1].flatten(1).index_select(1, upper)
        logits = self.denoiser.edge_types(both[:, upper] + both[:, lower], pair_mask)
        if self.block_trunk is None:
            rows = self._rows(x, pairs, layout)[0]
        else:
            rows = self._block_rows(g, CleanLayout(g.block, g.mask), types[0], apart)
        return ParallelOutput(self.denoiser.node_types(u[1], g.mask), logits, rows.cumsum(1))

    def _block_rows(self, g: BlockInput, layout: CleanLayout, types: Tensor, apart: Tensor) -> Tensor:
        trunk = self.block_trunk
        assert trunk is not None
        x = trunk.nodes(g.types[0], g.block, g.degree, None)
        x, pairs = trunk(x, trunk.pairs(types, apart), layout)
        return self._rows(x, pairs, layout)

    def _rows(self, x: Tensor, pairs: Tensor, layout: BlockLayout) -> Tensor:
        return self.properties.rows(torch.cat([layout.node_summary(pairs), x], -1))

    def start(self, condition: Tensor) -> Tensor:
        """Return 0 ``[B, Dn]``, what is told of B graphs before they begin."""
        return self.properties.size_table.weight.new_zeros(len(condition), self.settings.node_dim)

    def empty_contexts(self, batch: int, condition: Tensor | None = None) -> Contexts:
        """Return the contexts of ``batch`` graphs without nodes, which are told nothing."""
        trunks = [self.trunk] + ([] if self.block_trunk is None else [self.block_trunk])
        return tuple(trunk.empty_context(batch) for trunk in trunks)

    def kept_floats(self, nodes: int) -> int:
        """Return how many numbers the contexts of one graph of ``nodes`` finished nodes hold."""
        s = self.settings
        trunks = 1 if self.block_trunk is None else 2
        return trunks * s.layers * nodes * (2 * nodes * s.edge_dim + 2 * s.edge_dim + s.node_dim)

    def step_cost(self, size: int, nodes: int) -> float:
        """Return what a block of ``size`` nodes beside ``nodes`` adds to a call, which costs 1 whatever its batch."""
        return size * (size + 2 * nodes) / 256

    def denoise(self, contexts: Contexts, new: NewBlock, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, s, K]`` of nodes and ``[B, s, c + s, E + 1]`` of pairs at ``time`` ``[B]``."""
        layout = StepLayout(contexts[0], new.mask)
        x, pairs = self._run(self.trunk, layout, new, time)
        u = self.denoiser.rows(x, pairs, layout)
        ends = layout.noisy_sum(*self.denoiser.node_part(u).chunk(2, -1))
        both = self.denoiser.combine(ends, pairs)
        both = layout.rows(both) + layout.rows(layout.transpose(both))
        return self.denoiser.node_types(u), mirror_inner(self.denoiser.edge_types(both))

    def finish(self, contexts: Contexts, new: NewBlock) -> Contexts:
        """Return the contexts with the block ``new`` finished."""
        layout = StepLayout(contexts[0], new.mask, keep=True)
        x, pairs = self._run(self.trunk, layout, new, None)
        layout.noisy_sum(*self.denoiser.node_part(self.denoiser.rows(x, pairs, layout)).chunk(2, -1))
        grown = layout.grown_context(new.block, contexts[0].total)
        out = [grown]
        if self.block_trunk is not None:
            layout = StepLayout(contexts[1], new.mask, keep=True)
            x, pairs = self._run(self.block_trunk, layout, new, None)
            out.append(layout.grown_context(new.block, contexts[1].total))
        rows = self._rows(x, pairs, layout) * new.mask.unsqueeze(-1)
        out[-1] = replace(out[-1], total=contexts[-1].total + rows.sum(1))
        return tuple(out)

    def next_sizes(self, contexts: Contexts) -> Tensor:
        """Return logits ``[B, max_nodes + 1]`` of the size of the next block, 0 to stop."""
        return self.properties.sizes(contexts[-1].total)

    def next_degrees(self, contexts: Contexts, size: Tensor) -> Tensor:
        """Return logits ``[B, max_nodes]`` of the degree of a next block of ``size`` ``[B]`` nodes."""
        return self.properties.degrees(contexts[-1].total, size)

    def _run(self, trunk: Trunk, layout: StepLayout, new: NewBlock, time: Tensor | None) -> tuple[Tensor, Tensor]:
        count = new.types.size(1)
        block = new.block.unsqueeze(1).expand(-1, count)
        when = None if time is None else time.unsqueeze(1).expand(-1, count)
        x = trunk.nodes(new.types, block, new.degree.unsqueeze(1).expand(-1, count), when)
        numbers = torch.cat([layout.context.block, block], 1)
        apart = (block.unsqueeze(2) - numbers.unsqueeze(1)).abs()
        own = torch.arange(count, device=block.device)
        types = new.pairs.clone()
        types[:, own, layout.old + own] = self.settings.self_type
        rows = trunk.pairs(types, apart)
        out: tuple[Tensor, Tensor] = trunk(x, layout.join(rows, rows[:, :, : layout.old].transpose(1, 2)), layout)
        return out


def mirror_inner(logits: Tensor) -> Tensor:
    """Return logits ``[B, s, c + s, *]`` of pairs with those inside the block the same both ways, to the last bit.

    They are to rounding before, but a product of matrices may round one row otherwise than another.
    """
    old, inner = torch.split(logits, [logits.size(2) - logits.size(1), logits.size(1)], 2)
    return torch.cat([old, 0.5 * (inner + inner.transpose(1, 2))], 2)
