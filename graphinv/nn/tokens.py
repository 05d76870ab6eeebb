"""The network of PARD without channels per pair: attention between nodes, biased by what their pair is.

A pair contributes a short vector F of small integers, computed once from the graph that the row sees
(``pair_features``) and shared by all layers: a bias F W of each attention head, sums of F weighted by attention, and
one sum over the neighbours of each kind of edge. Pairs are predicted from both ends and F. Memory grows with n^2 C
instead of the L n^2 D of ``BlockNetwork``, whose interface this is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphinv.nn.block import BlockProperties, BlockSettings
from graphinv.nn.block_context import TokenContext
from graphinv.nn.block_network import BlockInput, Contexts, NewBlock, ParallelOutput, mirror_inner
from graphinv.nn.embed import time_waves
from graphinv.nn.pair_features import Sight, feature_count, pair_features
from graphinv.nn.ppgn import again, mlp
from graphinv.ops.pairs import pair_index

__all__ = ["TokenNetwork"]

_STUBS = 8  # classes of bonds that a node has yet to get: -1 .. 6
_HIDDEN = -1e4  # added to the logit of what a row does not read
_GAIN = 8.0  # of maps of features
_Kept = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class _Reading:
    """Who reads whom in a pass over R rows of tokens: K columns, those of kept tokens before those of the rows' own.

    Attributes:
        features: ``[B, R, K, C + 1]`` of each pair, 0 and a last 1 where the row does not read the column.
        bonds: ``[B, E R, K]``, one block of rows for each kind of edge: 1 for an edge that the row reads.
        edge_types: E, kinds of edges.
    """

    features: Tensor
    bonds: Tensor
    edge_types: int

    @staticmethod
    def of(sight: Sight, pairs: Tensor, features: Tensor, twice: bool = False) -> _Reading:
        """Return the reading of ``sight``; ``twice``: kept and own tokens are of the same nodes (all blocks at once).

        A row then reads nodes of earlier blocks among the kept tokens, and its own block among its own.
        """
        halves = (sight.later, sight.same) if twice else (sight.reads,)
        parts = [(features * half.unsqueeze(-1), ~half.unsqueeze(-1)) for half in halves]
        whole = torch.cat([torch.cat([f, hidden.to(f.dtype)], -1) for f, hidden in parts], 2)
        kinds = torch.cat([pairs == k for k in range(1, sight.edge_types + 1)], 1)
        read = torch.cat([kinds & half.repeat(1, sight.edge_types, 1) for half in halves], 2)
        return _Reading(whole, read.to(features.dtype), sight.edge_types)

    def messages(self, sent: Tensor) -> Tensor:
        """Return the sums over the neighbours of each kind ``[B, R, E V]`` of what columns ``[B, K, V]`` send."""
        out = self.bonds @ sent.to(self.bonds.dtype)
        by_kind: Tensor = out.view(out.size(0), self.edge_types, self.features.size(1), out.size(-1)).transpose(1, 2)
        return by_kind.flatten(2)


class FeatureMap(nn.Linear):
    """A linear map of features, of which few are not 0: weights count ``_GAIN`` times.

    Adam moves every weight alike, so that a sum over all channels of a token outgrows one over a few features.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        with torch.no_grad():
            self.weight /= _GAIN

    @property
    def table(self) -> Tensor:
        """The map itself, ``[outputs, inputs]``."""
        return _GAIN * self.weight

    def forward(self, features: Tensor) -> Tensor:
        """Return ``[*, outputs]`` of ``features`` ``[*, inputs]``."""
        return F.linear(features, self.table, self.bias)


class TokenLayer(nn.Module):
    """Pre-norm attention with pair features and sums over neighbours, then an MLP.

    x_i += O [sum_j a_ij v_j, sum_j a_ij F_ij of each head, sum over bonds (i, j) of kind k of u_j], with
    a_i = softmax_j(q_i . k_j / sqrt(d) + F_ij W);  x += MLP(x).
    """

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        s = settings
        self.heads, self.message = s.heads, s.edge_dim
        self.norm, self.norm_mlp = nn.LayerNorm(s.node_dim), nn.LayerNorm(s.node_dim)
        self.enter = nn.Linear(s.node_dim, 3 * s.node_dim + s.edge_dim)
        read = s.node_dim + s.heads * feature_count(s.edge_types, s.hops, s.walks) + s.edge_types * s.edge_dim
        self.out = nn.Linear(read, s.node_dim)
        self.mlp = mlp(s.node_dim, 2 * s.node_dim, s.node_dim)

    def forward(self, x: Tensor, kept: _Kept | None, reading: _Reading, bias: Tensor) -> tuple[Tensor, _Kept]:
        """Return ``x`` ``[B, R, Dn]`` after the layer, and keys, values and messages of its tokens."""
        width = x.size(-1)
        q, k, v, u = torch.split(self.enter(self.norm(x)), [width, width, width, self.message], -1)
        q, k, v = (_by_head(t, self.heads) for t in (q, k, v))
        columns = [(k, v, u)] if kept is None else [tuple(t.to(u.dtype) for t in kept), (k, v, u)]
        q = q * (q.size(-1) ** -0.5)
        logits = torch.cat([q @ keys.transpose(-1, -2) for keys, _, _ in columns], -1) + bias
        exact = torch.float32 if logits.dtype in (torch.bfloat16, torch.float16) else logits.dtype
        weight = logits.softmax(-1, dtype=exact).to(v.dtype)
        counts = (weight.transpose(1, 2) @ reading.features.to(v.dtype))[..., :-1]  # [B, R, H, C]
        parts = torch.split(weight, [keys.size(-2) for keys, _, _ in columns], -1)
        sums = [part @ values for part, (_, values, _) in zip(parts, columns, strict=True)]
        read = sums[0] if kept is None else sums[0] + sums[1]
        summed = reading.messages(torch.cat([sent for _, _, sent in columns], 1))
        x = x + self.out(torch.cat([read.transpose(1, 2).flatten(2), counts.flatten(2), summed.to(v.dtype)], -1))
        return x + self.mlp(self.norm_mlp(x)), (k, v, u)


class TokenTrunk(nn.Module):
    """All layers; the same in every layout."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        s = settings
        self.heads, self.recompute = s.heads, s.recompute == "layers"
        self.bias = FeatureMap(feature_count(s.edge_types, s.hops, s.walks), s.layers * s.heads, bias=False)
        self.layers = nn.ModuleList(TokenLayer(s) for _ in range(s.layers))
        self.norm = nn.LayerNorm(s.node_dim)

    def forward(self, x: Tensor, reading: _Reading, kept: list[_Kept] | None = None) -> tuple[Tensor, list[_Kept]]:
        """Return the tokens ``[B, R, Dn]`` after all layers, and what each layer keeps of them."""
        batch, rows, nodes, _ = reading.features.shape
        table = F.pad(self.bias.table, (0, 1), value=_HIDDEN).to(reading.features.dtype)
        bias = table @ reading.features.flatten(1, 2).transpose(1, 2)
        bias = bias.view(batch, len(self.layers), self.heads, rows, nodes)
        out = []
        for k, layer in enumerate(self.layers):
            x, own = again(self.recompute, layer, x, None if kept is None else kept[k], reading, bias[:, k])
            out.append(own)
        return self.norm(x), out


class TokenNetwork(nn.Module):
    """Tokens of finished and of noisy nodes, heads for the types of both nodes and pairs, and for the next block.

    Args:
        settings: shapes; ``edge_dim`` is the width of messages and of the head of pairs.

    Example:
        >>> net = TokenNetwork(BlockSettings(4, 3, 9, node_dim=16, edge_dim=8, layers=2, heads=2))
        >>> first = NewBlock(torch.tensor([[0, 1]]), torch.tensor([[[0, 1], [1, 0]]]), torch.tensor([0]),
        ...     torch.tensor([1]), torch.ones(1, 2, dtype=torch.bool))
        >>> contexts = net.finish(net.empty_contexts(1), first)
        >>> net.next_sizes(contexts).shape
        torch.Size([1, 10])
    """

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        s = self.settings = settings
        d, c, hidden = s.node_dim, feature_count(s.edge_types, s.hops, s.walks), s.edge_dim
        self.node_type, self.degree = nn.Embedding(s.node_types + 1, d), nn.Embedding(s.max_nodes, d)
        self.walks = nn.ModuleList(nn.Embedding(s.walk_classes, d) for _ in range(s.walks))
        self.size, self.before = nn.Embedding(s.max_nodes + 1, d), nn.Embedding(s.max_nodes + 1, d)
        self.stubs, self.noisy = nn.Embedding(_STUBS, d), nn.Parameter(torch.zeros(d))
        self.core = nn.Parameter(torch.zeros(d)) if s.continues else None
        self.own, self.time = FeatureMap(c, d), mlp(d, d, d)
        self.trunk = TokenTrunk(s)
        self.node_types = mlp(d, d, s.node_types)
        self.new_end, self.old_end = nn.Linear(d, 2 * hidden), nn.Linear(d, 2 * hidden)
        self.pair_in, self.pair_skip = FeatureMap(c, hidden), FeatureMap(c, s.edge_types + 1)
        self.pair_out = mlp(hidden, hidden, s.edge_types + 1)
        self.readout = nn.Sequential(nn.LayerNorm(2 * d), mlp(2 * d, 2 * d, d))
        self.properties = BlockProperties(s, d)
        if s.conditions:
            self.condition = mlp(2 * s.conditions, d, d)
            for p in self.condition[-1].parameters():
                nn.init.zeros_(p)  # training begins as if nothing were told
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.3)

    def forward(self, g: BlockInput) -> ParallelOutput:
        """Return the logits of all blocks of ``g``."""
        row, column = g.block.unsqueeze(2), g.block.unsqueeze(1)
        later, same = row > column, row == column
        own = torch.eye(g.block.size(1), dtype=torch.bool, device=g.block.device).expand_as(same)
        valid = (g.mask.unsqueeze(1) & g.mask.unsqueeze(2)) & ~own
        pairs = g.pairs * valid
        core = torch.zeros_like(g.mask) if g.core is None else g.core
        seen = [pairs[0], later, same, (row - column).clamp(min=0), own, core]
        size, before, key = same.sum(-1), later.sum(-1), g.key
        start = self.start(
            self.noisy.new_zeros(len(g.block), 2 * self.settings.conditions) if g.condition is None else g.condition
        )
        sight = self._sight(None, *seen)
        f, _ = self._features(sight, pairs[0], key, True)
        x = self._tokens(g.types[0], key, size, before, f, start)
        if self.core is not None:
            x = x + core.unsqueeze(-1) * self.core
        x, kept = self.trunk(x, _Reading.of(sight, pairs[0], f))
        sums = (self.properties.rows(x) * g.mask.unsqueeze(-1)).cumsum(1)
        last = (same.to(x.dtype) @ x) / size.clamp(min=1).unsqueeze(-1)
        totals = self.readout(torch.cat([sums / (size + before).clamp(min=1).unsqueeze(-1), last], -1))
        copies, noisy = len(g.types) - 1, pairs[1:].flatten(0, 1)
        seen, (key, size, before, start, time) = (
            [torch.cat([t] * copies) for t in part] for part in (seen, (key, size, before, start, g.time))
        )
        sight = self._sight(noisy, *seen)
        f, left = self._features(sight, noisy, key, False)
        y = self._tokens(g.types[1:].flatten(0, 1), key, size, before, f, start, time, left)
        kept = [(torch.cat([k] * copies), torch.cat([v] * copies), torch.cat([u] * copies)) for k, v, u in kept]
        y, _ = self.trunk(y, _Reading.of(sight, noisy, f, twice=True), kept)
        logits = self._parallel_pairs(torch.cat([x] * copies), y, f, sight.same)
        return ParallelOutput(self.node_types(y), logits, totals)

    def _sight(
        self, noisy: Tensor | None, real: Tensor, later: Tensor, same: Tensor, apart: Tensor, own: Tensor, core: Tensor
    ) -> Sight:
        return Sight(real, noisy, later, same, apart, own, self.settings.edge_types, core)

    def _parallel_pairs(self, x: Tensor, y: Tensor, f: Tensor, same: Tensor) -> Tensor:
        """Return logits ``[B, P, E + 1]`` of real tokens ``x``, noisy ones ``y`` and the features of noisy rows."""
        size = x.size(1)
        upper, lower, _ = pair_index(size, x.device)
        early, late = torch.triu_indices(size, size, 1, device=x.device)
        inside = same.flatten(1).index_select(1, upper).unsqueeze(-1)
        flat = f.flatten(1, 2)
        seen = flat.index_select(1, lower)  # as the later end sees the earlier one
        seen = torch.where(inside, 0.5 * (seen + flat.index_select(1, upper)), seen)
        ends = self.new_end(y)
        other = torch.where(inside, ends.index_select(1, early), self.old_end(x).index_select(1, early))
        return self._pair_logits(ends.index_select(1, late), other, seen)

    def start(self, condition: Tensor) -> Tensor:
        """Return ``[B, Dn]`` what is told of graphs before they begin, of ``condition`` ``[B, 2 P]``."""
        if not self.settings.conditions:
            return self.noisy.new_zeros(len(condition), self.settings.node_dim)
        out: Tensor = self.condition(condition.to(self.noisy.dtype))
        return out

    def empty_contexts(self, batch: int, condition: Tensor | None = None) -> Contexts:
        """Return the contexts of ``batch`` graphs without nodes, which are to be as ``condition`` ``[B, 2 P]`` says."""
        s, like = self.settings, self.noisy
        condition = like.new_zeros(batch, 2 * s.conditions) if condition is None else condition
        ids = torch.zeros(batch, 0, dtype=torch.long, device=like.device)
        total, pairs = like.new_zeros(batch, s.node_dim), ids.new_zeros(batch, 0, 0)
        values = like.new_zeros(s.layers, batch, 0, 2 * s.node_dim + s.edge_dim)
        ends = like.new_zeros(batch, 0, 2 * s.edge_dim)
        return (
            TokenContext(ids.bool(), ids, self.start(condition), pairs, values, ends, total, condition, ids.bool()),
        )

    def kept_floats(self, nodes: int) -> int:
        """Return how many numbers the context of one graph of ``nodes`` finished nodes holds."""
        s = self.settings
        return nodes * (s.layers * (2 * s.node_dim + s.edge_dim) + 2 * s.edge_dim + 2 * nodes)

    def step_cost(self, size: int, nodes: int) -> float:
        """Return what a block of ``size`` nodes beside ``nodes`` adds to a call, which costs 1 whatever its batch."""
        return 0.013 * (1 + size) + 0.0004 * nodes * (1 + size / 2)

    def denoise(self, contexts: Contexts, new: NewBlock, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, s, K]`` of nodes and ``[B, s, c + s, E + 1]`` of pairs at ``time`` ``[B]``."""
        y, _, f = self._step(contexts[0], new, time)
        ends = self.new_end(y)
        other = torch.cat([contexts[0].ends.to(ends.dtype), ends], 1)
        logits = self._pair_logits(ends.unsqueeze(2), other.unsqueeze(1), mirror_inner(f))
        return self.node_types(y), mirror_inner(logits)

    def finish(self, contexts: Contexts, new: NewBlock) -> Contexts:
        """Return the contexts with the block ``new`` finished."""
        context = contexts[0]
        x, kept, _ = self._step(context, new, None)
        exists = new.mask.unsqueeze(-1)
        sums = context.sum + (self.properties.rows(x) * exists).sum(1)
        count = new.mask.sum(1, keepdim=True)
        nodes = (count + context.mask.sum(1, keepdim=True)).clamp(min=1)
        total = self.readout(torch.cat([sums / nodes, (x * exists).sum(1) / count.clamp(min=1)], -1))
        values = torch.stack([torch.cat([k.transpose(1, 2).flatten(2), v.transpose(1, 2).flatten(2), u], -1)
                              for k, v, u in kept])  # fmt: skip
        number = new.block.unsqueeze(1).expand_as(new.mask)
        return (
            TokenContext(
                torch.cat([context.mask, new.mask], 1),
                torch.cat([context.block, number], 1),
                total.to(context.total.dtype),
                _joined(context.pairs, _hollow(new)),
                torch.cat([context.values, values.to(context.values.dtype)], 2),
                torch.cat([context.ends, self.old_end(x).to(context.ends.dtype)], 1),
                sums.to(context.sum.dtype),
                context.condition,
                torch.cat([context.core, new.mask & _core_of(new).unsqueeze(1)], 1),
            ),
        )

    def next_sizes(self, contexts: Contexts) -> Tensor:
        """Return logits ``[B, max_nodes + 1]`` of the size of the next block, 0 to stop."""
        return self.properties.sizes(contexts[0].total)

    def next_degrees(self, contexts: Contexts, size: Tensor) -> Tensor:
        """Return logits ``[B, max_nodes]`` of the degree of a next block of ``size`` ``[B]`` nodes."""
        return self.properties.degrees(contexts[0].total, size)

    def _step(self, context: TokenContext, new: NewBlock, time: Tensor | None) -> tuple[Tensor, list[_Kept], Tensor]:
        """Return tokens ``[B, s, Dn]`` of one block, what each layer keeps of them, and their features."""
        count, old = new.mask.size(1), context.mask.size(1)
        number = torch.cat([context.block, new.block.unsqueeze(1).expand(-1, count)], 1)
        apart = (new.block[:, None, None] - number.unsqueeze(1)).expand(-1, count, -1)
        pairs = _hollow(new)
        sight = Sight.of_block(
            context.pairs, pairs, context.mask, new.mask, apart, self.settings.edge_types, context.core
        )
        if time is None:
            sight = replace(sight, core=sight.core | F.pad(new.mask & _core_of(new).unsqueeze(1), (old, 0)))
        pairs = pairs * sight.reads
        key = new.key.unsqueeze(1).expand(-1, count, -1)
        f, left = self._features(sight, pairs, key, time is None)
        size, before = sight.same.sum(-1), sight.later.sum(-1)
        when = None if time is None else time.unsqueeze(1).expand(-1, count)
        x = self._tokens(
            new.types, key, size, before, f, self.start(context.condition), when, None if time is None else left, old
        )
        if self.core is not None and new.core is not None:
            x = x + new.core[:, None, None] * self.core
        x, kept = self.trunk(x, _Reading.of(sight, pairs, f), self._split(context))
        return x, kept, f

    def _split(self, context: TokenContext) -> list[_Kept]:
        """Return keys, values and messages of each layer."""
        width, heads = self.settings.node_dim, self.settings.heads
        out = []
        for layer in context.values:
            k, v, u = layer.split([width, width, self.settings.edge_dim], -1)
            out.append((_by_head(k, heads), _by_head(v, heads), u))
        return out

    def _features(self, sight: Sight, pairs: Tensor, key: Tensor, finished: bool) -> tuple[Tensor, Tensor]:
        f, left = pair_features(sight, pairs, key, self.settings.hops, finished)
        device = f.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.noisy.dtype
        return f.to(dtype), left

    def _tokens(
        self,
        types: Tensor,
        key: Tensor,
        size: Tensor,
        before: Tensor,
        features: Tensor,
        start: Tensor,
        time: Tensor | None = None,
        left: Tensor | None = None,
        old: int = 0,
    ) -> Tensor:
        """Return tokens ``[B, R, Dn]``, each with ``start`` ``[B, Dn]``.

        Noisy ones have times ``[B, R]`` and stubs ``left`` ``[B, R, K]``. Row r is node ``old + r`` of what is read.
        """
        most, classes = self.settings.max_nodes, self.settings.walk_classes
        x: Tensor = self.node_type(types) + self.degree(key[..., 0].clamp(0, most - 1))
        for k, table in enumerate(self.walks):
            x = x + table(key[..., k + 1].clamp(0, classes - 1))
        x = x + self.size(size.clamp(max=most)) + self.before(before.clamp(max=most))
        x = x + start.unsqueeze(1) + self.own(features.diagonal(old, 1, 2).transpose(1, 2))
        if time is not None and left is not None:
            stubs = (left.diagonal(old, 1, 2).long() + 1).clamp(0, _STUBS - 1)
            x = x + self.noisy + self.stubs(stubs) + self.time(time_waves(time, x.size(-1), self.noisy.dtype))
        return x

    def _pair_logits(self, end: Tensor, other: Tensor, features: Tensor) -> Tensor:
        """Return logits ``[*, E + 1]`` of pairs of ends ``[*, 2 P]`` with features ``[*, C]``, the same both ways."""
        (a, p), (b, q) = end.chunk(2, -1), other.chunk(2, -1)
        hidden = F.silu(a + b + p * q + self.pair_in(features))
        out: Tensor = self.pair_out(hidden) + self.pair_skip(features)
        return out


def _by_head(x: Tensor, heads: int) -> Tensor:
    """Return ``[B, H, R, D / H]`` of ``x`` ``[B, R, D]``."""
    out: Tensor = x.view(*x.shape[:2], heads, x.size(-1) // heads).transpose(1, 2)
    return out


def _core_of(new: NewBlock) -> Tensor:
    """Return ``[B]`` bool, which blocks are cores."""
    return torch.zeros_like(new.mask[:, 0]) if new.core is None else new.core


def _hollow(new: NewBlock) -> Tensor:
    """Return the pairs ``[B, s, c + s]`` of a block; a node has none with itself."""
    count, every = new.pairs.shape[1:]
    own = torch.eye(every, dtype=torch.bool, device=new.pairs.device)[every - count :]
    return new.pairs.masked_fill(own, 0)


def _joined(pairs: Tensor, rows: Tensor) -> Tensor:
    """Return ``[B, c + s, c + s]`` of ``pairs`` ``[B, c, c]`` and the ``rows`` ``[B, s, c + s]`` of new nodes."""
    old = pairs.size(1)
    return torch.cat([torch.cat([pairs, rows[:, :, :old].transpose(1, 2)], 2), rows], 1)
