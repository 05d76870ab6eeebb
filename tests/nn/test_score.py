"""The fused score networks against their plain transcription, and the properties both papers rest on."""

from __future__ import annotations

import copy

import pytest
import torch

from graphinv import testing
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs
from graphinv.models import GDSS
from graphinv.nn import ScoreNetworkA, ScoreNetworkX, ScoreNetworkX_GMH

# published parameter counts of the node and edge networks
COUNTS = {
    "qm9": (8_564, 23_825),
    "zinc250k": (11_429, 62_873),
    "zinc250k-gmh": (22_721, 62_873),
    "ego_small": (44_093, 135_713),
    "community_small": (72_434, 134_369),
    "ENZYMES": (182_066, 204_113),
    "grid": (170_081, 203_153),
}
DTYPES = (torch.float32, torch.float64)


def plain_networks(plain, config):
    c = config
    if c.node_network == "gcn":
        node = plain.PlainScoreNetworkX(c.node_types, c.node_depth, c.node_hidden)
    else:
        node = plain.PlainScoreNetworkXGMH(c.node_types, c.node_depth, c.node_hidden, c.attention, c.mlp_layers)
    edge = plain.PlainScoreNetworkA(c.node_types, c.edge_depth, c.edge_hidden, c.attention, c.mlp_layers)
    return {"node": node, "edge": edge}


def size(parameters) -> int:
    return sum(p.numel() for p in parameters)


def graphs(features, dtype=torch.float64, seed=0, count=3, max_nodes=6):
    return testing.random_dense(count, max_nodes=max_nodes, features=features, seed=seed, dtype=dtype)


def networks(dtype=torch.float64):
    torch.manual_seed(0)
    return {
        "X": ScoreNetworkX(4, depth=2, hidden=8).to(dtype),
        "X_GMH": ScoreNetworkX_GMH(4, depth=3, hidden=8, attention=8, edge_layers=2).to(dtype),
        "A": ScoreNetworkA(4, layers=3, hidden=8, attention=8, edge_layers=3).to(dtype),
    }


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_published_ones_and_fused_ones_lack_only_the_dead(plain, name):
    config = GDSS.preset_settings(name).model
    fused, published = GDSS(config).networks(), plain_networks(plain, config)
    g = graphs(config.node_types)
    for key, expected in zip(("node", "edge"), COUNTS[name], strict=True):
        net = published[key].double()
        assert size(net.parameters()) == expected
        net(g.x, g.adj, g.mask.double()).sum().backward()
        dead = size(p for p in net.parameters() if p.grad is None)
        assert size(fused[key].parameters()) + dead == expected


@pytest.mark.parametrize(("name", "network", "tensors"), [
    ("qm9", "edge", 144), ("zinc250k", "edge", 318), ("community_small", "edge", 250), ("zinc250k-gmh", "node", 86),
])  # fmt: skip
def test_the_transcription_has_the_published_layout(plain, name, network, tensors):
    state = plain_networks(plain, GDSS.preset_settings(name).model)[network].state_dict()
    assert len(state) == tensors
    assert not any("mask" in key for key in state)


def test_dead_parameters_are_the_last_layers_unread_branch(plain):
    for name, network, dead in (("qm9", "edge", ("gnn_v", "multi_channel")), ("zinc250k-gmh", "node", None)):
        config = GDSS.preset_settings(name).model
        net, g = plain_networks(plain, config)[network].double(), graphs(config.node_types)
        net(g.x, g.adj, g.mask.double()).sum().backward()
        last = f"layers.{len(net.layers) - 1}."
        parts = dead or ("gnn_q", "gnn_k", f"{last}mlp")
        expected = {k for k, _ in net.named_parameters() if k.startswith(last) and any(p in k for p in parts)}
        assert {k for k, p in net.named_parameters() if p.grad is None} == expected


@pytest.mark.parametrize("name", [name for name in GDSS.presets if GDSS.preset_settings(name).model.network == "gdss"])
def test_fused_networks_equal_the_transcription_in_outputs_and_gradients(plain, name):
    config = GDSS.preset_settings(name).model
    torch.manual_seed(1)
    fused, published = GDSS(config).double().networks(), plain_networks(plain, config)
    g = graphs(config.node_types, seed=2)
    generator = torch.Generator().manual_seed(3)
    for key, net in fused.items():
        oracle = published[key].double()
        plain.copy_network(net, oracle)
        inputs = [g.x.clone().requires_grad_(), g.adj.clone().requires_grad_()]
        plain_inputs = [t.detach().clone().requires_grad_() for t in inputs]
        out, expected = net(DenseGraphs(*inputs, g.mask)), oracle(*plain_inputs, g.mask.double())
        testing.assert_close(out, expected, f"{name} {key} output", tolerance=1e-11)
        weight = torch.randn(out.shape, generator=generator, dtype=out.dtype)
        weight = weight + weight.transpose(1, 2) if key == "edge" else weight
        (out * weight).sum().backward()
        (expected * weight).sum().backward()
        assert_same_gradients(plain, net, oracle)
        testing.assert_close(inputs[0].grad, plain_inputs[0].grad, f"{name} {key} gradient of x")
        # fused reads one triangle and no padding: elsewhere only the symmetric part of the gradient is defined
        pair = [t.grad + t.grad.transpose(1, 2) for t in (inputs[1], plain_inputs[1])]
        real = g.pair_mask & ~torch.eye(g.adj.size(1), dtype=torch.bool)
        testing.assert_close(pair[0] * real, pair[1] * real, f"{name} {key} gradient of adj")


def assert_same_gradients(plain, net, oracle):
    gradients, expected = copy.deepcopy(oracle), copy.deepcopy(net)
    for p, source in zip(gradients.parameters(), oracle.parameters(), strict=True):
        p.data = torch.zeros_like(p) if source.grad is None else source.grad.clone()
    plain.copy_network(expected, gradients)
    for (name, p), want in zip(net.named_parameters(), expected.parameters(), strict=True):
        assert p.grad is not None, f"{name} is dead in the fused network"
        testing.assert_close(p.grad, want.detach(), f"gradient of {name}", tolerance=1e-9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["X", "X_GMH", "A"])
@pytest.mark.parametrize("seed", range(3))
def test_permutation_batch_and_padding_leave_scores_alone(name, dtype, seed):
    net, g = networks(dtype)[name].eval(), graphs(4, dtype, seed, count=4, max_nodes=7)
    with torch.no_grad():
        testing.assert_equivariant(net, g, seed=seed)
        testing.assert_batch_independent(net, g)
        testing.assert_no_padding_leak(net, g, seed=seed)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_edge_scores_are_symmetric_hollow_and_masked_and_node_scores_masked(dtype):
    g = graphs(4, dtype, count=5)
    for name, net in networks(dtype).items():
        out = net(g)
        assert out.dtype == dtype
        if name == "A":
            assert torch.equal(out, out.transpose(1, 2))
            assert not out.diagonal(dim1=1, dim2=2).any()
            assert not out[~g.pair_mask].any()
        else:
            assert not out[~g.mask].any()
        assert out.abs().sum() > 0


@pytest.mark.parametrize("name", ["qm9", "zinc250k", "zinc250k-gmh", "community_small"])
def test_float32_agrees_with_float64(name):
    config = GDSS.preset_settings(name).model
    torch.manual_seed(0)
    model = GDSS(config)
    g = graphs(config.node_types, max_nodes=9, count=16)
    for net in model.networks().values():
        with torch.no_grad():
            narrow = net(DenseGraphs(g.x.float(), g.adj.float(), g.mask))
            wide = copy.deepcopy(net).double()(g)
        testing.assert_close(narrow, wide, f"{name} in float32", tolerance=7e-6)


def test_empty_batches_single_nodes_and_fully_masked_graphs_are_fine():
    for name, net in networks().items():
        for count, nodes in ((0, 3), (2, 1)):
            g = graphs(4, count=count, max_nodes=nodes)
            assert net(g).shape == ((count, nodes, nodes) if name == "A" else (count, nodes, 4))
        g = testing.random_dense(2, max_nodes=3, features=4, dtype=torch.float64, counts=[0, 3])
        out = net(g)
        assert bool(out.isfinite().all()) and not out[0].any()


def test_other_feature_counts_are_refused_with_both_shapes():
    for net in networks().values():
        with pytest.raises(InputError, match=r"\[B, M, 4\].*\[3, 6, 5\]"):
            net(graphs(5))
