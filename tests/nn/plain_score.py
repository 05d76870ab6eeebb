"""The score networks transcribed from their formulas, one operation at a time: the oracle for the fused ones.

Parameter names follow the published layout, so the counts and keys of the paper's models can be checked on it.
"""

from __future__ import annotations

import math

import torch
from torch import nn


class PlainMLP(nn.Module):
    def __init__(self, layers, inputs, hidden, outputs, act=nn.functional.elu):
        super().__init__()
        widths = [inputs] + [hidden] * (layers - 1) + [outputs]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.act = act

    def forward(self, x):
        for linear in self.linears[:-1]:
            x = self.act(linear(x))
        return self.linears[-1](x)


class PlainGCN(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-0.1, 0.1))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        adj = adj.clone()
        index = torch.arange(adj.size(-1))
        adj[:, index, index] = 1
        degree = adj.sum(-1).clamp(min=1).pow(-0.5)
        return (degree.unsqueeze(-1) * adj * degree.unsqueeze(-2)) @ (x @ self.weight) + self.bias


class PlainAttention(nn.Module):
    def __init__(self, inputs, attention, outputs, heads):
        super().__init__()
        self.heads, self.outputs = heads, outputs
        self.gnn_q = PlainGCN(inputs, attention)
        self.gnn_k = PlainGCN(inputs, attention)
        self.gnn_v = PlainGCN(inputs, outputs)

    def forward(self, x, adj):
        q, k, v = self.gnn_q(x, adj), self.gnn_k(x, adj), self.gnn_v(x, adj)
        width = q.size(-1) // self.heads
        q, k = torch.cat(q.split(width, -1)), torch.cat(k.split(width, -1))
        s = torch.tanh(q @ k.transpose(-1, -2) / math.sqrt(self.outputs))
        s = s.reshape(self.heads, *adj.shape).mean(0)
        return v, (s + s.transpose(-1, -2)) / 2


class PlainAttentionLayer(nn.Module):
    def __init__(self, edge_layers, inputs, attention, outputs, c_in, c_out, heads):
        super().__init__()
        hidden = 2 * max(c_in, c_out)
        self.attn = nn.ModuleList(PlainAttention(inputs, attention, outputs, heads) for _ in range(c_in))
        self.mlp = PlainMLP(edge_layers, 2 * c_in, hidden, c_out)
        self.multi_channel = PlainMLP(2, c_in * outputs, hidden, outputs)

    def forward(self, x, adjc, flags):
        values, scores = zip(*(a(x, adjc[:, c]) for c, a in enumerate(self.attn)), strict=True)
        x = torch.tanh(self.multi_channel(torch.cat(values, -1)) * flags[:, :, None])
        e = torch.stack([*scores, *adjc.unbind(1)], -1)
        o = self.mlp(e).permute(0, 3, 1, 2)
        o = o + o.transpose(-1, -2)
        return x, o * flags[:, None, None, :] * flags[:, None, :, None]


def _powers(adj, count):
    out = [adj]
    for _ in range(count - 1):
        out.append(out[-1] @ adj)
    return torch.stack(out, 1)


def _layers(depth, features, hidden, attention, edge_layers, c_init, c_hid, c_final, heads):
    for k in range(depth):
        last = k == depth - 1 and k > 0
        yield PlainAttentionLayer(
            edge_layers,
            hidden if k else features,
            attention if k else hidden,
            hidden,
            c_hid if k else c_init,
            c_final if last else c_hid,
            heads,
        )


class PlainScoreNetworkX(nn.Module):
    def __init__(self, features, depth, hidden):
        super().__init__()
        self.layers = nn.ModuleList(PlainGCN(hidden if k else features, hidden) for k in range(depth))
        total = features + depth * hidden
        self.final = PlainMLP(3, total, 2 * total, features)

    def forward(self, x, adj, flags):
        kept = [x]
        for layer in self.layers:
            kept.append(torch.tanh(layer(kept[-1], adj)))
        return self.final(torch.cat(kept, -1)) * flags[:, :, None]


class PlainScoreNetworkXGMH(nn.Module):
    def __init__(self, features, depth, hidden, attention, edge_layers, c_init=2, c_hid=8, c_final=4, heads=4):
        super().__init__()
        self.c_init = c_init
        args = (depth, features, hidden, attention, edge_layers, c_init, c_hid, c_final, heads)
        self.layers = nn.ModuleList(_layers(*args))
        total = features + depth * hidden
        self.final = PlainMLP(3, total, 2 * total, features)

    def forward(self, x, adj, flags):
        adjc, kept = _powers(adj, self.c_init), [x]
        for layer in self.layers:
            x, adjc = layer(x, adjc, flags)
            x = torch.tanh(x)
            kept.append(x)
        return self.final(torch.cat(kept, -1)) * flags[:, :, None]


class PlainScoreNetworkA(nn.Module):
    def __init__(self, features, layers, hidden, attention, edge_layers, c_init=2, c_hid=8, c_final=4, heads=4):
        super().__init__()
        self.c_init = c_init
        args = (layers, features, hidden, attention, edge_layers, c_init, c_hid, c_final, heads)
        self.layers = nn.ModuleList(_layers(*args))
        total = c_init + c_hid * (layers - 1) + c_final
        self.final = PlainMLP(3, total, 2 * total, 1)

    def forward(self, x, adj, flags):
        adjc = _powers(adj, self.c_init)
        kept = [adjc]
        for layer in self.layers:
            x, adjc = layer(x, adjc, flags)
            kept.append(adjc)
        s = self.final(torch.cat(kept, 1).permute(0, 2, 3, 1)).squeeze(-1)
        s = s * (1 - torch.eye(s.size(-1), dtype=s.dtype, device=s.device))
        return s * flags[:, None, :] * flags[:, :, None]


def copy_mlp(fused, plain):
    fused.load_state_dict(plain.state_dict())


@torch.no_grad()
def copy_layer(fused, plain):
    """Stack the weights of a plain attention layer into a fused one, leaving out what the fused one has not."""
    parts = (["gnn_q", "gnn_k"] if fused.edge_mlp is not None else []) + (
        ["gnn_v"] if fused.node_mlp is not None else []
    )
    for c, attn in enumerate(plain.attn):
        fused.weight[c] = torch.cat([getattr(attn, p).weight for p in parts], 1)
        fused.bias[c, 0] = torch.cat([getattr(attn, p).bias for p in parts])
    if fused.edge_mlp is not None:
        copy_mlp(fused.edge_mlp, plain.mlp)
    if fused.node_mlp is not None:
        copy_mlp(fused.node_mlp, plain.multi_channel)


def copy_network(fused, plain):
    """Give a fused network the weights of a plain one."""
    for f, p in zip(fused.layers, plain.layers, strict=True):
        f.load_state_dict(p.state_dict()) if isinstance(p, PlainGCN) else copy_layer(f, p)
    copy_mlp(fused.final, plain.final)
