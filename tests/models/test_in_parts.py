"""Networks computed for few graphs of like size at a time: the same values and gradients as in one call."""

from __future__ import annotations

import pytest
import torch

from graphinv.graphs import DenseGraphs
from graphinv.models import GDSS, GDSSConfig
from graphinv.models.gdss.parts import in_parts

SMALL = GDSSConfig(node_types=3, max_nodes=9, node_hidden=8, edge_hidden=8, attention=8, edge_depth=2, mlp_layers=2)


def ragged(sizes, features=3, seed=0):
    """Fields of graphs of these sizes; the second node of the first graph is missing."""
    gen = torch.Generator().manual_seed(seed)
    width = max(*sizes, 2)
    mask = torch.arange(width) < torch.tensor(sizes)[:, None]
    mask[0, 1] = False
    upper = torch.randn(len(sizes), width, width, generator=gen, dtype=torch.float64).triu(1)
    x = torch.randn(len(sizes), width, features, generator=gen, dtype=torch.float64)
    return DenseGraphs(x, upper + upper.mT, mask).masked()


@pytest.mark.parametrize("network", ["gdss", "ppgn"])
@pytest.mark.parametrize("pairs", [1, 30, 100])
def test_values_and_gradients_are_those_of_one_call(network, pairs):
    model = GDSS.seeded(GDSSConfig(**{**vars(SMALL), "network": network, "node_hidden": 16}), 0).double()
    g, t = ragged([5, 9, 1, 3, 0, 9, 8, 2]), torch.linspace(0.1, 0.9, 8, dtype=torch.float64)
    found = []
    for split in (pairs, 1 << 30):
        out = in_parts(model._score, g, t, split).masked()
        model.zero_grad()
        (out.x.square().sum() + (out.adj**3).sum()).backward()
        found.append((out.x, out.adj, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    (x, adj, grads), (whole_x, whole_adj, whole_grads) = found
    torch.testing.assert_close(x, whole_x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(adj, whole_adj, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grads, whole_grads, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("pairs", [1, 50, 64, 200])
def test_calls_are_narrow_of_like_size_and_no_larger_than_asked(pairs):
    seen = []

    def network(g, t):
        seen.append(g.mask.clone())
        assert t.shape == (g.mask.size(0),)
        return g

    sizes = [4, 9, 1, 4, 0, 5, 9, 8]
    g, t = ragged(sizes), torch.arange(8.0)
    out = in_parts(network, g, t, pairs)
    assert torch.equal(out.x, g.x) and torch.equal(out.adj, g.adj) and out.mask is g.mask
    assert sum(m.size(0) for m in seen) == len(sizes)
    for mask in seen:
        count, width = mask.shape
        assert count == 1 or count * width**2 <= pairs
        last = (mask * torch.arange(1, width + 1)).amax(1).clamp(min=1)
        assert int(last.max()) == width and float(last.min()) >= 0.8 * width


def test_a_time_for_all_graphs_reaches_every_call():
    seen = []
    in_parts(lambda g, t: seen.append(t) or g, ragged([4, 9, 1]), torch.tensor(0.5), 1)
    assert [float(t) for t in seen] == [0.5] * 3
