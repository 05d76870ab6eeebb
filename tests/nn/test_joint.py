"""The network of both fields: the properties of any score network, and that the time matters."""

from __future__ import annotations

import pytest
import torch

from graphinv import testing
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs
from graphinv.nn import JointScoreNetwork

TIMES = torch.tensor([0.1, 0.4, 0.9])


def network(dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return JointScoreNetwork(4, node_dim=16, edge_dim=8, layers=2, heads=4).to(dtype)


def graphs(dtype=torch.float64):
    return testing.random_dense(3, max_nodes=6, features=4, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_outputs_are_masked_symmetric_and_hollow(dtype):
    g = graphs(dtype)
    out = network(dtype)(g, TIMES)
    assert out.x.dtype == out.adj.dtype == dtype and out.x.shape == g.x.shape and out.adj.shape == g.adj.shape
    testing.assert_close(out.adj, out.adj.transpose(1, 2), "transpose")
    assert not out.adj.diagonal(dim1=1, dim2=2).any()
    assert not out.x[~g.mask].any() and not out.adj[~g.pair_mask].any()


def test_order_padding_and_batch_mates_do_not_matter():
    net, g = network(), graphs()
    out = net(g, TIMES)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    moved, expected = net(testing.permute_dense(g, order), TIMES), testing.permute_dense(out, order)
    testing.assert_close(moved.x, expected.x, "nodes renumbered")
    testing.assert_close(moved.adj, expected.adj, "pairs renumbered")
    wild = DenseGraphs(g.x.masked_fill(~g.mask.unsqueeze(-1), 1e6), g.adj.masked_fill(~g.pair_mask, -1e6), g.mask)
    testing.assert_close(net(wild, TIMES).adj, out.adj, "with rubbish in the padding")
    for k in range(3):
        size = int(g.mask[k].sum())
        alone = net(
            DenseGraphs(g.x[k : k + 1, :size], g.adj[k : k + 1, :size, :size], g.mask[k : k + 1, :size]), TIMES[k]
        )
        testing.assert_close(alone.x[0], out.x[k, :size], "nodes of a graph alone")
        testing.assert_close(alone.adj[0], out.adj[k, :size, :size], "pairs of a graph alone")


def test_time_matters_to_nodes_and_pairs():
    net, g = network(), graphs()
    with torch.no_grad():
        early, late = net(g, torch.tensor(0.1)), net(g, torch.tensor(0.9))
    assert float((early.x - late.x).abs().max()) > 1e-3 and float((early.adj - late.adj).abs().max()) > 1e-4


def test_all_weights_are_used():
    net, g = network(), graphs()
    out = net(g, TIMES)
    (out.x.square().sum() + out.adj.square().sum()).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_another_number_of_features_is_refused():
    with pytest.raises(InputError, match="4"):
        network()(testing.random_dense(2, max_nodes=4, features=5, dtype=torch.float64), TIMES[:2])
