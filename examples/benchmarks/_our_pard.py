"""graphinv's PARD behind the same three calls as ``Plain`` and ``Peer``, in the variants that ``pard.py`` names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from _plain_pard import Molecule, Setting, peel, random_graph
from torch import Tensor

from graphinv.data import GraphStore
from graphinv.data.vocabulary import Vocabulary
from graphinv.graphs import DenseGraphs, GraphBatch
from graphinv.models import PARD, PARDConfig
from graphinv.models.pard.config import BlockSampler
from graphinv.models.pard.sampler import draw_graphs
from graphinv.nn.block_network import Contexts, NewBlock


@dataclass(frozen=True)
class Variant:
    """What a side changes: settings of the model, graphs per sampling batch, adaptive steps, or no kept past."""

    model: tuple[tuple[str, Any], ...] = ()
    times: int = 1  # graphs sampled, as a multiple of the reference's
    adaptive: bool = False
    cached: bool = True


VARIANTS = {
    "ours": Variant(),
    "ours_separate": Variant((("trunk", "separate"),)),
    "ours_batch_norm": Variant((("norm", "batch"),)),
    "ours_kept": Variant((("recompute", "none"),)),
    "ours_layers": Variant((("recompute", "layers"),)),
    "ours_x8": Variant(times=8),
    "ours_x32": Variant(times=32),
    "ours_adaptive": Variant(adaptive=True),
    "ours_uncached": Variant(cached=False),
}


def packed(molecules: Sequence[Molecule]) -> GraphBatch:
    """Return the molecules as one batch."""
    most = max(len(m.nodes) for m in molecules)
    x, adj = torch.zeros(len(molecules), most).long(), torch.zeros(len(molecules), most, most).long()
    for k, m in enumerate(molecules):
        x[k, : len(m.nodes)], adj[k, : len(m.nodes), : len(m.nodes)] = m.nodes, m.edges
    counts = torch.tensor([len(m.nodes) for m in molecules])
    return DenseGraphs(x, adj, torch.arange(most) < counts.unsqueeze(1)).to_packed()


class Ours:
    """``PARD`` over ``molecules``, for graphs of up to ``most`` nodes; blocks are computed beforehand."""

    def __init__(self, molecules: Sequence[Molecule], setting: Setting, variant: Variant, most: int) -> None:
        self.setting, self.variant = setting, variant
        config = PARDConfig(
            node_types=setting.node_classes,
            edge_types=setting.edge_classes - 1,
            max_nodes=max(most, *(len(m.nodes) for m in molecules)),
            max_hops=setting.hops,
            diffusion_steps=setting.steps,
            ce_weight=setting.ce_weight,
            node_dim=setting.width,
            edge_dim=setting.edge_width,
            layers=setting.layers,
            heads=setting.heads,
        )
        self.model = PARD(replace(config, **dict(variant.model)))
        labels = [tuple(str(i) for i in range(k)) for k in (config.node_types, config.edge_types)]
        store = GraphStore.from_graphs(packed(molecules), Vocabulary(*labels, "generic"))
        store = self.model.prepare(store, progress=False)
        self.batch = store.batch(store.indices())
        self.plans = [list(zip(*peel(m.edges, setting.hops)[1:], strict=True)) for m in molecules]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=setting.rate)

    @property
    def parameters(self) -> int:
        """Weights of the model."""
        return sum(w.numel() for w in self.model.parameters())

    def train_step(self) -> None:
        """Take one step of the model, denoiser and block heads, on all molecules."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.loss(self.batch).backward()
        self.optimizer.step()

    @torch.no_grad()
    def sample(self) -> GraphBatch:
        """Grow one graph per molecule with its block sizes and degrees; the block heads run and are not listened to."""
        self.model.eval()
        each = 1.0 if self.variant.adaptive else 1e9
        sampler = BlockSampler(steps=self.setting.steps, steps_per_element=each)
        count = len(self.plans)
        return draw_graphs(self.model, count, 0, None, sampler, count, None, plans=self.plans)

    def one_step(self, n: int, block: int) -> Callable[[], object]:
        """Return one denoising step of the last ``block`` nodes of a random graph of ``n`` nodes, blocks of as many.

        Without the kept past all n nodes are new: what a network costs that computes the whole graph at each step.
        """
        self.model.eval()
        graph = random_graph(n, block, self.setting)
        types, pairs = graph.x[0].argmax(-1), graph.e[0].argmax(-1)
        contexts, start = self.model.net.empty_contexts(1), 0
        while self.variant.cached and start + block < n:
            contexts = self.finish(contexts, types, pairs, start, block)
            start += block
        new, steps = new_block(types, pairs, start, n - start, start // block), float(self.setting.steps)
        t, s = (torch.tensor(v / steps, dtype=torch.float64) for v in (steps, steps - 1))

        @torch.no_grad()
        def run() -> list[Tensor]:
            logits = self.model.net.denoise(contexts, new, t.expand(1))
            old = zip(self.model.processes(), (new.types, new.pairs), logits, strict=True)
            return [process.step(x, out, t, s, torch.rand(x.shape)) for process, x, out in old]

        return run

    @torch.no_grad()
    def finish(self, contexts: Contexts, types: Tensor, pairs: Tensor, start: int, block: int) -> Contexts:
        """Return the contexts with the nodes from ``start`` on as one more block."""
        return self.model.net.finish(contexts, new_block(types, pairs, start, block, start // block))


def new_block(types: Tensor, pairs: Tensor, start: int, size: int, number: int) -> NewBlock:
    """Return the nodes ``start`` to ``start + size`` of one graph as block ``number`` of degree 1."""
    end, one = start + size, torch.ones(1, dtype=torch.long)
    of = types[start:end].unsqueeze(0), pairs[start:end, :end].unsqueeze(0)
    return NewBlock(*of, number * one, one, torch.ones(1, size, dtype=torch.bool))
