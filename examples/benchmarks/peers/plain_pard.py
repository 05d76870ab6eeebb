"""Train and sample steps of the plain block-autoregressive diffusion: what ``pard.py`` compares with.

The formulas of arXiv:2402.03687 one by one: peeling in a Python loop, n clean and n noisy rows per graph under one
mask, a separate network of block sizes, and sampling that recomputes the whole padded batch at every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, one_hot, pad, softmax

from tests.nn import plain_pard as networks


@dataclass(frozen=True)
class Setting:
    """Widths and depth of the networks, classes without the noise class, rows of the tables, and the process."""

    width: int = 256
    edge_width: int = 64
    layers: int = 8
    heads: int = 8
    node_classes: int = 5
    edge_classes: int = 4  # class 0 is no edge
    max_blocks: int = 16
    sizes: int = 22
    degrees: int = 6
    steps: int = 20
    hops: int = 3
    ce_weight: float = 0.1
    norm: str = "legacy_batch"  # as the official QM9 configuration; "batch" leaves the residual alone
    rate: float = 4e-4

    @property
    def classes(self) -> tuple[int, int]:
        """Node and edge classes with the noise class of each."""
        return self.node_classes + 1, self.edge_classes + 1


@dataclass(frozen=True)
class Molecule:
    """Node types [n] and edge types [n, n] (0: none, symmetric), int64."""

    nodes: Tensor
    edges: Tensor


@dataclass
class Batch:
    """A padded batch as the networks read it; ``block`` is -1 on padding."""

    x: Tensor  # [B, N, Cx] one-hot
    e: Tensor  # [B, N, N, Ce] one-hot
    block: Tensor  # [B, N]
    virtual: Tensor  # [B, N] bool
    sizes: Tensor  # [B, K], zero behind the last block
    degrees: Tensor  # [B, K]

    @property
    def degree(self) -> Tensor:
        """Degree of each row's block, [B, N]."""
        return self.degrees.gather(1, self.block.clamp(min=0))


def peel(edges: Tensor, hops: int) -> tuple[Tensor, list[int], list[int]]:
    """Return the block of each node [n], and size and degree of each block, in the order of generation."""
    adjacency = (edges > 0).long()
    alive = torch.ones(len(edges), dtype=torch.bool)
    round_of, sizes, degrees = torch.zeros(len(edges), dtype=torch.long), [], []
    while alive.any():
        here = adjacency * alive * alive.unsqueeze(1)
        walks, counts = torch.ones(len(edges), dtype=torch.long), []
        for _ in range(hops):
            walks = walks + here @ walks
            counts.append(walks)
        key = torch.stack(counts, 1).tolist() if hops else [[0]] * len(edges)
        low = min(key[i] for i in alive.nonzero()[:, 0].tolist())
        chosen = alive & torch.tensor([row == low for row in key])
        round_of[chosen] = len(sizes)
        sizes.append(int(chosen.sum()))
        degrees.append(int(here.sum(1)[chosen].min()))
        alive &= ~chosen
    return len(sizes) - 1 - round_of, sizes[::-1], degrees[::-1]


def dense(molecules: Sequence[Molecule], setting: Setting, copies: bool) -> Batch:
    """Return the padded batch, nodes sorted by block; ``copies`` appends a virtual row for each node."""
    peeled = [peel(m.edges, setting.hops) for m in molecules]
    n = max(len(m.nodes) for m in molecules) * (1 + copies)
    k = max(len(sizes) for _, sizes, _ in peeled)
    count, (node_classes, edge_classes) = len(molecules), setting.classes
    x, e = torch.zeros(count, n, node_classes), torch.zeros(count, n, n, edge_classes)
    block, virtual = torch.full((count, n), -1), torch.zeros(count, n, dtype=torch.bool)
    tables = torch.zeros(2, count, k, dtype=torch.long)
    for g, (m, (ids, sizes, degrees)) in enumerate(zip(molecules, peeled, strict=True)):
        order, rows = ids.argsort(stable=True), len(ids)
        x[g, :rows] = one_hot(m.nodes[order], node_classes).float()
        e[g, :rows, :rows] = one_hot(m.edges[order][:, order], edge_classes).float()
        e[g].diagonal().zero_()
        block[g, : rows * (1 + copies)] = ids[order].repeat(1 + copies)
        virtual[g, rows : rows * (1 + copies)] = True
        tables[0, g, : len(sizes)], tables[1, g, : len(sizes)] = torch.tensor(sizes), torch.tensor(degrees)
    return Batch(x, e, block, virtual, *tables)


def alpha_bar(t: Tensor, steps: int) -> Tensor:
    """Return the share of elements still clean at step ``t`` [*] of the cosine schedule."""
    curve = torch.cos((t / steps + 0.008) / 1.008 * math.pi / 2)
    return (curve / math.cos(0.008 / 1.008 * math.pi / 2)).clamp(1e-10, 1 - 1e-10)


def posterior(x_t: Tensor, x_0: Tensor, a: Tensor, b: Tensor, classes: int) -> Tensor:
    """Return q(x_s | x_t, x_0) [M, C] for the uniform limit; ``a`` and ``b`` [M] are alpha bar of t and of s < t."""
    m, here, clean = 1 / classes, one_hot(x_t, classes), one_hot(x_0, classes)
    lam = ((1 - b) * (1 - a / b) * m / (a + (1 - a) * m)).unsqueeze(1)
    mu = ((1 - b) / (1 - a)).unsqueeze(1)
    mua = mu * (a / b).unsqueeze(1)
    same = (1 - lam) * here + lam * m
    return torch.where((x_t == x_0).unsqueeze(1), same, (1 - mu) * clean + mua * here + (mu - mua) * m)


def reverse(x_t: Tensor, p: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return p(x_s | x_t) [M, C] from the prediction ``p`` of x_0 [M, C] for the uniform limit."""
    m, here = 1 / p.size(1), one_hot(x_t, p.size(1))
    mu = ((1 - b) / (1 - a)).unsqueeze(1)
    mua = mu * (a / b).unsqueeze(1)
    gamma = (mua[:, 0] * (b - a) / (a + (1 - a) * m)).unsqueeze(1) * (p * here).sum(1, keepdim=True)
    return ((1 - mu) * p + (mua + gamma) * here + (mu - mua - gamma) * m).clamp(min=0)


def noised(x_0: Tensor, t: Tensor, classes: int, steps: int) -> Tensor:
    """Return x_t [M]: each element kept with probability alpha bar of ``t`` [M], else uniform over the classes."""
    return torch.where(torch.rand(x_0.shape) < alpha_bar(t, steps), x_0, torch.randint(classes, x_0.shape))


def diffusion_loss(logits: Tensor, x_t: Tensor, x_0: Tensor, t: Tensor, setting: Setting) -> Tensor:
    """Return the sum over elements of KL (cross entropy at t = 1) + weight * cross entropy, without its constant."""
    a, b = alpha_bar(t, setting.steps), alpha_bar(t - 1, setting.steps)
    ce = -log_softmax(logits, -1).gather(1, x_0.unsqueeze(1))[:, 0]
    p = reverse(x_t, softmax(logits, -1), a, b).clamp(min=1e-30)
    kl = kl_div(p.log(), posterior(x_t, x_0, a, b, logits.size(1)), reduction="none").sum(1)
    return (torch.where(t == 1, ce, kl) + setting.ce_weight * ce).sum()


def targets(batch: Batch, read: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the pairs of virtual rows to predict [B, N, N] bool, each once: the later row first."""
    return read(batch.block, batch.virtual).tril(-1) & batch.virtual.unsqueeze(2)


def write(batch: Batch, on_pairs: Tensor, nodes: Tensor, edges: Tensor) -> None:
    """Put types into the virtual rows and, both ways round, into the pairs ``on_pairs``."""
    x, e = batch.x.clone(), batch.e.clone()
    x[batch.virtual] = one_hot(nodes, x.size(-1)).float()
    e[on_pairs] = e.transpose(1, 2)[on_pairs] = one_hot(edges, e.size(-1)).float()
    batch.x, batch.e = x, e


class Plain:
    """Two plain networks over ``molecules``: what trains, samples and takes one denoising step."""

    def __init__(self, molecules: Sequence[Molecule], setting: Setting) -> None:
        self.molecules, self.setting, self.read = list(molecules), setting, networks.read_mask
        shape = (setting.classes, setting.width, setting.edge_width, setting.layers, setting.heads)
        tables = {"max_blocks": setting.max_blocks, "degrees": setting.degrees, "norm": setting.norm}
        self.denoiser = networks.PlainDenoiser(*shape, steps=setting.steps, **tables)
        self.blocks = networks.PlainBlockModel(*shape, sizes=setting.sizes, **tables)
        self.nets = (self.denoiser, self.blocks)
        self.optimizers = [torch.optim.AdamW(net.parameters(), lr=setting.rate) for net in self.nets]
        self.clean, self.doubled = (dense(self.molecules, setting, copies) for copies in (False, True))

    @property
    def parameters(self) -> int:
        """Weights of both networks."""
        return sum(w.numel() for net in self.nets for w in net.parameters())

    def train_step(self) -> None:
        """Take one step of each network on all molecules."""
        self.denoiser.train(), self.blocks.train()
        for optimizer, loss in zip(self.optimizers, (self.denoising_loss, self.block_loss), strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            optimizer.step()

    def denoising_loss(self) -> Tensor:
        """Return the loss of the denoiser at random steps, per graph."""
        clean = self.doubled
        batch = Batch(**vars(clean))
        real, on_pairs = (clean.block >= 0) & ~clean.virtual, targets(clean, self.read)
        real_pairs = self.read(clean.block, clean.virtual).tril(-1) & real.unsqueeze(2)
        t = torch.randint(1, self.setting.steps + 1, (len(self.molecules),))
        clean_nodes, clean_edges = clean.x[real].argmax(-1), clean.e[real_pairs].argmax(-1)
        node_t, edge_t = t[real.nonzero()[:, 0]], t[real_pairs.nonzero()[:, 0]]
        nodes = noised(clean_nodes, node_t, self.setting.classes[0], self.setting.steps)
        edges = noised(clean_edges, edge_t, self.setting.classes[1], self.setting.steps)
        write(batch, on_pairs, nodes, edges)
        node_logits, edge_logits = self.denoiser(batch.x, batch.e, batch.block, batch.virtual, batch.degree, t)
        loss = diffusion_loss(node_logits[batch.virtual], nodes, clean_nodes, node_t, self.setting)
        return (loss + diffusion_loss(edge_logits[on_pairs], edges, clean_edges, edge_t, self.setting)) / len(t)

    def block_loss(self) -> Tensor:
        """Return the cross entropy of sizes and degrees, per graph."""
        batch = self.clean
        next_sizes, next_degrees = (pad(table[:, 1:], (0, 1)) for table in (batch.sizes, batch.degrees))
        size, degree, first = self.blocks(batch.x, batch.e, batch.block, batch.sizes, next_sizes)
        on = batch.sizes > 0
        pairs = ((size[on], next_sizes[on]), (degree[on], next_degrees[on]), (first, batch.degrees[:, 0]))
        return torch.stack([cross_entropy(*pair, reduction="sum") for pair in pairs]).sum() / len(self.molecules)

    @torch.no_grad()
    def sample(self) -> Batch:
        """Grow one graph per molecule with the block sizes and degrees of the molecules; both networks run."""
        self.denoiser.eval(), self.blocks.eval()
        sizes, degrees = self.clean.sizes, self.clean.degrees
        batch = empty(len(sizes), self.setting)
        for i in range(sizes.size(1)):
            batch = grow(batch, sizes[:, : i + 1], degrees[:, : i + 1])
            nodes, edges = self.noise(batch)
            for t in range(self.setting.steps, 0, -1):
                nodes, edges = self.denoise(batch, nodes, edges, t)
            write(batch, targets(batch, self.read), nodes, edges)
            batch.virtual = torch.zeros_like(batch.virtual)
            self.blocks(batch.x, batch.e, batch.block, batch.sizes, pad(batch.sizes[:, 1:], (0, 1)))
        return batch

    def noise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Draw types of the virtual rows and of their pairs from the limit."""
        pairs = int(targets(batch, self.read).sum())
        node_classes, edge_classes = self.setting.classes
        return torch.randint(node_classes, (int(batch.virtual.sum()),)), torch.randint(edge_classes, (pairs,))

    @torch.no_grad()
    def denoise(self, batch: Batch, nodes: Tensor, edges: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Go from step ``t`` to ``t - 1``; the last step draws from the prediction, without the noise class."""
        on_pairs, steps = targets(batch, self.read), torch.full((len(batch.x),), t)
        write(batch, on_pairs, nodes, edges)
        logits = self.denoiser(batch.x, batch.e, batch.block, batch.virtual, batch.degree, steps)
        drawn = []
        for x_t, score in ((nodes, logits[0][batch.virtual]), (edges, logits[1][on_pairs])):
            if t == 1:
                score[:, -1] = -torch.inf
            a, b = (alpha_bar(torch.full_like(x_t, s), self.setting.steps) for s in (t, t - 1))
            p = reverse(x_t, softmax(score, -1), a, b)
            drawn.append(p.multinomial(1)[:, 0] if len(p) else x_t)
        return drawn[0], drawn[1]

    def one_step(self, n: int, block: int) -> Callable[[], object]:
        """Return one denoising step of the last ``block`` nodes of a random graph of ``n`` nodes, blocks of as many."""
        self.denoiser.eval()
        batch = random_graph(n, block, self.setting)
        nodes, edges = self.noise(batch)
        return lambda: self.denoise(batch, nodes, edges, self.setting.steps)


def empty(count: int, setting: Setting) -> Batch:
    """Return ``count`` graphs without a node."""
    none = torch.zeros(count, 0, dtype=torch.long)
    x, e = (torch.zeros(count, *[0] * rank, c) for rank, c in enumerate(setting.classes, start=1))
    return Batch(x, e, none, none.bool(), none, none)


def grow(batch: Batch, sizes: Tensor, degrees: Tensor) -> Batch:
    """Append the last block of ``sizes`` [B, K] as virtual rows and pad to the largest graph."""
    counts = sizes.sum(1)
    more = int(counts.max()) - batch.x.size(1)
    block = pad(batch.block, (0, more), value=-1)
    new = (torch.arange(block.size(1)) < counts.unsqueeze(1)) & (block < 0)
    e = pad(batch.e, (0, 0, 0, more, 0, more))
    return Batch(pad(batch.x, (0, 0, 0, more)), e, block.masked_fill(new, sizes.size(1) - 1), new, sizes, degrees)


def random_graph(n: int, block: int, setting: Setting) -> Batch:
    """Return one random graph of ``n`` nodes in blocks of ``block``, the last one virtual."""
    generator = torch.Generator().manual_seed(0)
    node_classes, edge_classes = setting.classes
    ids = torch.arange(n) // block
    sizes, virtual = ids.bincount().unsqueeze(0), (ids == ids[-1]).unsqueeze(0)
    nodes = torch.randint(setting.node_classes, (1, n), generator=generator)
    edges = torch.randint(setting.edge_classes, (1, n, n), generator=generator).tril(-1)
    e = one_hot(edges + edges.transpose(1, 2), edge_classes).float()
    e[0].diagonal().zero_()
    return Batch(one_hot(nodes, node_classes).float(), e, ids.unsqueeze(0), virtual, sizes, torch.ones_like(sizes))
