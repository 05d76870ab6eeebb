"""The smallest generator there is, registered in a module of its own: types and edges drawn independently."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from graphinv.graphs import DenseGraphs
from graphinv.models import GraphGenerator, register
from graphinv.noise import PerGraphNoise


@dataclass(frozen=True)
class BernoulliConfig:
    """Settings of a Bernoulli model.

    Attributes:
        max_nodes: most nodes of a graph.
        node_types: kinds of nodes.
    """

    max_nodes: int = 9
    node_types: int = 4


@register
class Bernoulli(GraphGenerator):
    """Nodes and edges are drawn independently. A pair is joined with one probability, whatever its ends."""

    kind = "bernoulli"
    config_class = BernoulliConfig

    def __init__(self, config):
        super().__init__(config)
        self.net = nn.Linear(1, config.node_types + 1)

    def networks(self):
        return {"net": self.net}

    def pad(self, batch):
        dense = batch.to_dense()
        return DenseGraphs(dense.x.long(), dense.adj.float(), dense.mask)

    def losses(self, batch, generator=None):
        g = self.to_padded(batch, DenseGraphs)
        out = self.net(torch.ones(*g.mask.shape, 1, device=g.mask.device))
        joined = out[:, :1, -1:].expand_as(g.adj)[g.pair_mask]
        edge = F.binary_cross_entropy_with_logits(joined, (g.adj[g.pair_mask] > 0).to(joined.dtype))
        return {"node": F.cross_entropy(out[..., :-1][g.mask], g.x[g.mask]), "edge": edge}

    def draw(self, request):
        size = max(int(request.counts.max()), 1)
        mask = torch.arange(size) < request.counts.unsqueeze(1)
        out = self.net(self.net.weight.new_ones(*mask.shape, 1)).double()
        place = torch.arange(size).expand(len(mask), -1)
        x = (noise(request, 0, place).unsqueeze(-1) > out[..., :-1].softmax(-1).cumsum(-1)).sum(-1)
        low, high = (
            torch.minimum(place.unsqueeze(1), place.unsqueeze(2)),
            torch.maximum(place.unsqueeze(1), place.unsqueeze(2)),
        )
        adj = noise(request, 1, high * (high - 1) // 2 + low) < out[:, :1, -1:].sigmoid()
        adj = adj & ~torch.eye(size, dtype=torch.bool)
        return DenseGraphs(x.clamp(max=self.config.node_types - 1), adj.long(), mask).masked().to_packed()


def noise(request, part, entries):
    return PerGraphNoise(request.keys + (part << 62)).uniform(entries)
