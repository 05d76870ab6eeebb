"""Graph convolution and attention against loops over nodes, heads and channels."""

from __future__ import annotations

import math

import pytest
import torch

from graphinv import testing
from graphinv.nn.attention import AttentionLayer, DenseGCNConv, normalise
from graphinv.nn.embed import MLP
from graphinv.ops.pairs import from_pairs, to_pairs


def looped_convolution(x, adj, weight, bias):
    size = len(adj)
    a = [[1.0 if i == j else adj[i][j] for j in range(size)] for i in range(size)]
    d = [max(1.0, sum(row)) ** -0.5 for row in a]
    out = []
    for i in range(size):
        row = []
        for k in range(len(bias)):
            total = bias[k]
            for j in range(size):
                total += d[i] * a[i][j] * d[j] * sum(x[j][f] * weight[f][k] for f in range(len(x[j])))
            row.append(total)
        out.append(row)
    return out


def with_unit_diagonal(adj):
    return adj.masked_fill(torch.eye(adj.size(-1), dtype=torch.bool), 1.0)


def example(features=3, seed=0, nodes=5):
    g = testing.random_dense(
        2, max_nodes=nodes, features=features, counts=[nodes, nodes - 2], seed=seed, dtype=torch.float64
    )
    return g, g.mask.unsqueeze(-1).double(), to_pairs(g.pair_mask).double()


def randomise(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return module.double()


def test_convolution_equals_the_loop_with_negative_rows_and_masked_nodes():
    g, _, _ = example()
    conv = randomise(DenseGCNConv(3, 4))
    out = conv(g.x, normalise(with_unit_diagonal(g.adj)))
    assert bool((with_unit_diagonal(g.adj).sum(-1) < 1).any()), "no row exercises the clamp"
    for b in range(2):
        expected = looped_convolution(g.x[b].tolist(), g.adj[b].tolist(), conv.weight.tolist(), conv.bias.tolist())
        testing.assert_close(out[b], torch.tensor(expected, dtype=torch.float64), "convolution")


def test_a_masked_node_keeps_its_unit_diagonal():
    adj = with_unit_diagonal(torch.zeros(1, 3, 3, dtype=torch.float64))
    conv = randomise(DenseGCNConv(3, 4))
    x = torch.eye(3, dtype=torch.float64).unsqueeze(0)
    testing.assert_close(conv(x, normalise(adj))[0], conv.weight + conv.bias, "convolution without edges")


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_scale_heads_symmetry_and_channel_order_equal_the_loop(heads):
    g, mask, pair_mask = example(seed=1)
    attention, outputs = 8, 5
    layer = randomise(AttentionLayer(3, attention, outputs, 1, 2, edge_layers=1, heads=heads))
    with torch.no_grad():  # the edge map returns [S, A] as they come in
        layer.edge_mlp.linears[0].weight.copy_(torch.eye(2))
        layer.edge_mlp.linears[0].bias.zero_()
    _, edges = layer(g.x, to_pairs(g.adj).unsqueeze(0), mask, pair_mask)
    for b in range(2):
        weight, bias = layer.weight[0].tolist(), layer.bias[0, 0].tolist()
        qkv = looped_convolution(g.x[b].tolist(), g.adj[b].tolist(), weight, bias)
        width, size = attention // heads, 5
        score = torch.zeros(size, size, dtype=torch.float64)
        for i in range(size):
            for j in range(size):
                for h in range(heads):
                    part = range(h * width, (h + 1) * width)
                    product = sum(qkv[i][f] * qkv[j][attention + f] for f in part)
                    score[i, j] += math.tanh(product / math.sqrt(outputs)) / heads
        score = (score + score.t()) / 2
        testing.assert_close(edges[0, b], 2 * to_pairs(score) * pair_mask[b], "attention channel")
        testing.assert_close(edges[1, b], 2 * to_pairs(g.adj[b]) * pair_mask[b], "adjacency channel")


def test_updates_that_are_switched_off_own_no_weights_and_return_none():
    g, mask, pair_mask = example()
    pairs = to_pairs(g.adj).unsqueeze(0)
    both = AttentionLayer(3, 4, 4, 1, 2, 2, 2).double()
    nodes_only = AttentionLayer(3, 4, 4, 1, 2, 2, 2, update_edges=False).double()
    edges_only = AttentionLayer(3, 4, 4, 1, 2, 2, 2, update_nodes=False).double()
    assert nodes_only(g.x, pairs, mask, pair_mask)[1] is None
    assert edges_only(g.x, pairs, mask, pair_mask)[0] is None
    sizes = [sum(p.numel() for p in m.parameters()) for m in (both, nodes_only, edges_only)]
    assert sizes[0] == sizes[1] + sizes[2]


def test_channels_first_is_the_same_network():
    net = randomise(MLP(3, 4, 6, 2))
    x = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    testing.assert_close(net.channels_first(x), net(x.permute(1, 2, 0)).permute(2, 0, 1), "channels first")


def test_reading_one_triangle_is_exact_for_symmetric_maps():
    g, _, _ = example()
    pairs = to_pairs(g.adj)
    assert torch.equal(from_pairs(pairs, 5), g.adj)
    net = randomise(MLP(2, 1, 4, 1))
    full = net(g.adj.unsqueeze(-1)).squeeze(-1)
    off = 1 - torch.eye(5, dtype=torch.float64)
    expected = (full + full.transpose(1, 2)) * off
    testing.assert_close(from_pairs(2 * net.channels_first(pairs.unsqueeze(0))[0], 5), expected, "one triangle")


def test_a_layer_used_in_inference_mode_trains_afterwards():
    g, mask, pair_mask = example(nodes=4)
    layer = randomise(AttentionLayer(3, 4, 4, 2, 3, 2, heads=2))
    pairs = torch.stack([to_pairs(g.adj), to_pairs(g.adj @ g.adj)])
    with torch.inference_mode():
        layer(g.x, pairs, mask, pair_mask)
    nodes, edges = layer(g.x, pairs, mask, pair_mask)
    (nodes.sum() + edges.sum()).backward()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters())
