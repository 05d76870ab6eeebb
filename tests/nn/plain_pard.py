"""The block-autoregressive denoiser transcribed from its formulas, dense and uncached: the oracle for the fast ones.

One padded row per node, one entry per ordered pair, every mask multiplied out, three matrix products per PPGN layer and
edge values of the attention materialised, as arXiv:2402.03687 describes the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, silu


def read_mask(block: Tensor, virtual: Tensor) -> Tensor:
    """Return M [B, N, N]: row i may read row k. ``block`` is -1 on padding; ``virtual`` rows are read by their own."""
    valid = block >= 0
    own = (block[:, :, None] == block[:, None]) & (virtual[:, :, None] == virtual[:, None])
    past = (block[:, :, None] > block[:, None]) & ~virtual[:, None]
    return (own | past) & valid[:, :, None] & valid[:, None]


def waves(x: Tensor, channels: int, period: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines [*, channels / 2] of ``x`` [*] times powers of 1 / period."""
    half = channels // 2
    angle = x.unsqueeze(-1) * period ** (-torch.arange(half, dtype=x.dtype, device=x.device) / half)
    return angle.cos(), angle.sin()


class PlainMLP(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int, norm: str | None = None) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
        self.norm = PlainNorm(hidden, norm) if norm else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.first(x)
        if self.norm is not None:
            x = self.norm(x, torch.ones_like(x[..., 0], dtype=torch.bool) if mask is None else mask)[1]
        return self.second(silu(x))


class PlainNorm(nn.Module):
    """Normalise the rows of the mask; "legacy_batch" also replaces the residual by the normalised rows."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.norm = nn.LayerNorm(channels) if kind == "layer" else nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the residual and the normalised rows, both like ``x`` [*, C]; ``mask`` [*] bool."""
        if self.kind == "layer":
            return x, self.norm(x) * mask.unsqueeze(-1)
        out = x.clone()
        out[mask] = self.norm(x[mask])
        return (out if self.kind == "legacy_batch" else x), out


class PlainAttention(nn.Module):
    def __init__(self, width: int, edge_width: int, heads: int, norm: str) -> None:
        super().__init__()
        self.heads = heads
        self.node_norm, self.edge_norm = PlainNorm(width, norm), PlainNorm(edge_width, norm)
        self.mlp_norm = PlainNorm(width, norm)
        self.node_qk, self.edge_qk = nn.Linear(width, 2 * edge_width), nn.Linear(edge_width, 2 * edge_width)
        self.node_value, self.edge_value = nn.Linear(width, width), nn.Linear(edge_width, width)
        self.node_out, self.edge_out = nn.Linear(width, width), nn.Linear(edge_width, edge_width)
        self.logits = nn.Linear(edge_width, heads)
        self.mlp = PlainMLP(width, 2 * width, width)

    def forward(self, x: Tensor, e: Tensor, valid: Tensor, read: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        on_nodes, on_pairs = valid.unsqueeze(-1), pairs.unsqueeze(-1)
        x, xn = self.node_norm(x, valid)
        e, en = self.edge_norm(e, pairs)
        q, k = self.node_qk(xn).chunk(2, -1)
        scale, shift = self.edge_qk(en).chunk(2, -1)
        p = q.unsqueeze(2) + k.unsqueeze(1)
        z = silu(shift + silu(p) * scale + p) * on_pairs
        e = e + self.edge_out(z) * on_pairs

        attention = self.logits(z).masked_fill(~read.unsqueeze(-1), -torch.inf).softmax(2).nan_to_num()
        node_value = (self.node_value(xn) * on_nodes).unflatten(-1, (self.heads, -1))
        edge_value = (self.edge_value(z) * on_pairs).unflatten(-1, (self.heads, -1))
        value = (attention.unsqueeze(-1) * (node_value.unsqueeze(1) + edge_value)).sum(2).flatten(2)
        x = x + self.node_out(value) * on_nodes
        x, xn = self.mlp_norm(x, valid)
        return x + self.mlp(xn) * on_nodes, e


class PlainPPGN(nn.Module):
    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.norm, self.mlp_norm = PlainNorm(channels, norm), PlainNorm(channels, norm)
        self.left, self.right = PlainMLP(2 * channels, channels, channels), PlainMLP(channels, channels, channels)
        self.out = nn.Linear(channels, channels)
        self.mlp = PlainMLP(channels, 2 * channels, channels)

    def forward(self, e: Tensor, read: Tensor, pairs: Tensor) -> Tensor:
        on_pairs = pairs.unsqueeze(-1)
        e, en = self.norm(e, pairs)
        left = silu(self.left(torch.cat([en, en.transpose(1, 2)], -1))) * on_pairs
        right = silu(self.right(en)) * on_pairs
        left, right = left.permute(0, 3, 1, 2), right.permute(0, 3, 1, 2)
        read_left, read_right = left * read.unsqueeze(1), right * read.transpose(1, 2).unsqueeze(1)
        product = read_left @ right + left @ read_right - read_left @ read_right
        e = e + self.out(product.permute(0, 2, 3, 1)) * on_pairs
        e, en = self.mlp_norm(e, pairs)
        return e + self.mlp(en) * on_pairs


class PlainTrunk(nn.Module):
    def __init__(self, width: int, edge_width: int, layers: int, heads: int, norm: str) -> None:
        super().__init__()
        self.attention = nn.ModuleList(PlainAttention(width, edge_width, heads, norm) for _ in range(layers))
        self.ppgn = nn.ModuleList(PlainPPGN(edge_width, norm) for _ in range(layers))
        self.node_norm, self.edge_norm = PlainNorm(width, norm), PlainNorm(edge_width, norm)
        self.node_mlp, self.edge_mlp = PlainMLP(width, width, width), PlainMLP(edge_width, edge_width, edge_width)

    def forward(self, x: Tensor, e: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        """Return node [B, N, Dn] and pair [B, N, N, De] features; ``read`` [B, N, N] is M."""
        pairs = read | read.transpose(1, 2)
        valid = pairs.any(-1)
        x, e = x * valid.unsqueeze(-1), e * pairs.unsqueeze(-1)
        for attention, ppgn in zip(self.attention, self.ppgn, strict=True):
            x, e = attention(x, e, valid, read, pairs)
            e = ppgn(e, read, pairs)
        x = self.node_mlp(self.node_norm(x, valid)[1]) * valid.unsqueeze(-1)
        return x, self.edge_mlp(self.edge_norm(e, pairs)[1]) * pairs.unsqueeze(-1)


class PlainInput(nn.Module):
    """Encode types, block ids and distances between blocks."""

    def __init__(self, classes: tuple[int, int], width: int, edge_width: int, max_blocks: int) -> None:
        super().__init__()
        self.edge_width = edge_width
        self.node, self.edge = nn.Linear(classes[0], width), nn.Linear(classes[1], edge_width)
        self.block = nn.Embedding(max_blocks + 1, width)
        self.distance = PlainMLP(edge_width, 2 * edge_width, edge_width)

    def forward(self, x: Tensor, e: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
        apart = (block[:, :, None] - block[:, None]).abs()
        near = torch.cat(waves(1 / (apart + 1).to(x.dtype), self.edge_width, 10.0), -1)
        return self.node(x) + self.block(block + 1), self.edge(e) + self.distance(near)


def nodes_of_pairs(e: Tensor, read: Tensor) -> Tensor:
    """Return [B, N, 2 De]: the diagonal, and the mean over what a row reads of both directions."""
    read = read.unsqueeze(-1)
    mean = ((e + e.transpose(1, 2)) * read).sum(2) / 2 / read.sum(2).clamp(min=1)
    return torch.cat([e.diagonal(dim1=1, dim2=2).transpose(1, 2), mean], -1)


class PlainCombiner(nn.Module):
    def __init__(self, width: int, edge_width: int, outputs: int) -> None:
        super().__init__()
        self.node, self.edge = nn.Linear(width, 2 * outputs), nn.Linear(edge_width, outputs)
        self.node_gate, self.edge_gate = nn.Linear(outputs, outputs), nn.Linear(outputs, outputs)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        column, row = self.node(x).chunk(2, -1)
        both, e = column.unsqueeze(1) + row.unsqueeze(2), self.edge(e)
        return silu(both + e + silu(self.node_gate(both)) * silu(self.edge_gate(e)))


class PlainRise(nn.Module):
    """A number in [0, 1] that never falls when its input rises."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1, self.w2, self.b2 = (nn.Parameter(torch.rand(*s)) for s in ((1, 128), (128,), (128, 1), (1,)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(silu(x @ self.w1.abs() + self.b1) @ self.w2.abs() + self.b2)


class PlainDenoiser(nn.Module):
    """Predict the clean types of virtual rows. ``classes`` counts node and edge classes, noise class included.

    ``time_on_all`` adds the step to all rows, else to virtual ones alone; then real rows are the same at every step.
    """

    def __init__(
        self, classes: tuple[int, int], width: int, edge_width: int, layers: int, heads: int, *,
        max_blocks: int, degrees: int, steps: int, norm: str = "layer", time_on_all: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.steps, self.time_on_all = width, steps, time_on_all
        self.input = PlainInput(classes, width, edge_width, max_blocks)
        self.degree = nn.Embedding(degrees, width)
        self.time = PlainMLP(width, width, width)
        self.trunk = PlainTrunk(width, edge_width, layers, heads, norm)
        self.join = nn.Linear(2 * edge_width + width, width)
        self.combine = PlainCombiner(width, edge_width, 2 * edge_width)
        self.node_head = PlainMLP(width, width, classes[0], norm)
        self.edge_head = PlainMLP(2 * edge_width, edge_width, classes[1], norm)
        self.node_rise, self.edge_rise = PlainRise(), PlainRise()

    def features(
        self, x: Tensor, e: Tensor, block: Tensor, virtual: Tensor, degree: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the trunk's node and pair features; arguments as in ``forward``."""
        cosine, sine = waves(t.to(x.dtype), self.width, 10_000.0)
        time = self.time(torch.cat([sine, cosine], -1)).unsqueeze(1)
        nodes, pairs = self.input(x, e, block)
        nodes = nodes + self.degree(degree) + (time if self.time_on_all else time * virtual.unsqueeze(-1))
        features: tuple[Tensor, Tensor] = self.trunk(nodes, pairs, read_mask(block, virtual))
        return features

    def forward(
        self, x: Tensor, e: Tensor, block: Tensor, virtual: Tensor, degree: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return node [B, N, Cx] and pair [B, N, N, Ce] logits; pair logits are symmetric.

        Args:
            x, e: one-hot types [B, N, Cx] and [B, N, N, Ce], zero on padding and the diagonal.
            block, virtual, degree: [B, N] block ids (-1 is padding), whether a row is virtual, its block's degree.
            t: [B] steps, 1 to ``steps``.
        """
        u, pairs = self.features(x, e, block, virtual, degree, t)
        read = read_mask(block, virtual)
        valid, either = block >= 0, read | read.transpose(1, 2)
        u = silu(self.join(torch.cat([nodes_of_pairs(pairs, read), u], -1))) * valid.unsqueeze(-1)
        pairs = self.combine(u, pairs)
        pairs = (pairs + pairs.transpose(1, 2)) * either.unsqueeze(-1)
        left = (1 - t.to(x.dtype) / self.steps).view(-1, 1, 1)
        node_logits = self.node_head(u, valid) + self.node_rise(left) * x
        return node_logits, self.edge_head(pairs, either) + self.edge_rise(left.unsqueeze(1)) * e


class PlainBlockHeads(nn.Module):
    """Predict size and degree of the block after each block, and the degree of the first from its size."""

    def __init__(self, width: int, edge_width: int, sizes: int, degrees: int, norm: str) -> None:
        super().__init__()
        self.join = nn.Linear(2 * edge_width + width, width)
        self.size, self.degree = PlainMLP(width, width, sizes, norm), PlainMLP(width, width, degrees, norm)
        self.first_degree = PlainMLP(width, width, degrees, norm)
        self.size_table = nn.Embedding(sizes, width)

    def forward(
        self, x: Tensor, e: Tensor, block: Tensor, virtual: Tensor, sizes: Tensor, next_sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of the next size [B, K, S], the next degree [B, K, D] and the first degree [B, D].

        ``sizes`` and ``next_sizes`` are [B, K], zero behind the last block; the rest is as the trunk gave or read it.
        """
        nodes = silu(self.join(torch.cat([nodes_of_pairs(e, read_mask(block, virtual)), x], -1)))
        nodes = nodes * ((block >= 0) & ~virtual).unsqueeze(-1)
        member = one_hot(block.clamp(min=0), sizes.size(1)).to(x.dtype)
        exists = sizes > 0
        past = (member.transpose(1, 2) @ nodes).cumsum(1) * exists.unsqueeze(-1)
        degree = self.degree(past + self.size_table(next_sizes), exists)
        return self.size(past, exists), degree, self.first_degree(self.size_table(sizes[:, 0]))


class PlainBlockModel(nn.Module):
    """The separate network of block sizes and degrees; it reads clean graphs."""

    def __init__(
        self, classes: tuple[int, int], width: int, edge_width: int, layers: int, heads: int, *,
        max_blocks: int, sizes: int, degrees: int, norm: str = "layer",
    ) -> None:  # fmt: skip
        super().__init__()
        self.input = PlainInput(classes, width, edge_width, max_blocks)
        self.trunk = PlainTrunk(width, edge_width, layers, heads, norm)
        self.heads = PlainBlockHeads(width, edge_width, sizes, degrees, norm)

    def forward(
        self, x: Tensor, e: Tensor, block: Tensor, sizes: Tensor, next_sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what ``PlainBlockHeads`` does, of graphs without virtual rows."""
        virtual = torch.zeros_like(block, dtype=torch.bool)
        nodes, pairs = self.trunk(*self.input(x, e, block), read_mask(block, virtual))
        out: tuple[Tensor, Tensor, Tensor] = self.heads(nodes, pairs, block, virtual, sizes, next_sizes)
        return out
