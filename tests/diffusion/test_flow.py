"""The probability flow as a map: adaptive steps meet their tolerance, densities of Gaussians are those known."""

from __future__ import annotations

import math

import pytest
import torch

from graphinv import testing
from graphinv.diffusion import (
    VESDE,
    VPSDE,
    GeneratorNoise,
    GraphProcess,
    PerGraphNoise,
    SubVPSDE,
    follow_flow,
    log_density,
)
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs
from graphinv.models import GDSS, GDSSConfig

SDES = [VPSDE(0.1, 1.0), VPSDE(0.1, 20.0), VESDE(0.1, 1.0), SubVPSDE(0.1, 5.0)]
MEAN, VARIANCE = 0.8, 0.3


def moments(sde, t):
    scale, std = (float(v) for v in sde.marginal(torch.ones((), dtype=torch.float64), torch.as_tensor(t)))
    return scale * MEAN, scale**2 * VARIANCE + std**2


def score_for(sde):
    def score(x, t):
        scale, std = sde.marginal(torch.ones_like(x), t)
        return -(x - scale * MEAN) / (scale.square() * VARIANCE + std.square())

    return score


@pytest.mark.parametrize("sde", SDES, ids=str)
@pytest.mark.parametrize("way", [(1.0, 0.01), (0.01, 1.0)])
def test_the_flow_is_followed_within_the_tolerance_and_back(sde, way):
    start, end = way
    (a, u), (b, v) = moments(sde, start), moments(sde, end)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = b + math.sqrt(v / u) * (x - a)
    calls = []
    for tolerance in (1e-3, 1e-5):
        found, used = follow_flow(sde, score_for(sde), x, start, end, tolerance)
        assert float((found - exact).abs().max()) < 20 * tolerance
        calls.append(int(used.max()))
    assert calls[1] > calls[0]


def test_each_graph_has_steps_of_its_own():
    sde = VPSDE(0.1, 5.0)
    x = torch.tensor([[0.0, 0.1], [30.0, -20.0], [1.0, 1.0]], dtype=torch.float64)

    def score(x, t):
        return -torch.sin(3 * x) * (1 + x.square()) / (1 + 10 * t.reshape(-1, 1))

    together, calls = follow_flow(sde, score, x, tolerance=1e-3)
    for k in range(3):
        alone, own = follow_flow(sde, score, x[k : k + 1], tolerance=1e-3)
        testing.assert_close(together[k : k + 1], alone, f"graph {k}")
        assert int(calls[k]) == int(own)
    assert len(set(calls.tolist())) > 1


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_the_density_of_gaussian_data_is_that_of_the_flow_in_closed_form(sde):
    (a, u), (b, v) = moments(sde, 1e-3), moments(sde, 1.0)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ended = b + math.sqrt(v / u) * (x - a)
    normal = -0.5 * (ended.square() + math.log(2 * math.pi)) + 0.5 * math.log(v / u)
    found = log_density(sde, score_for(sde), x, GeneratorNoise(torch.Generator().manual_seed(1)), steps=400)
    torch.testing.assert_close(found, normal.sum(1), rtol=0, atol=2e-3)


@pytest.mark.parametrize("sde", [VPSDE(0.1, 5.0), VESDE(0.1, 1.0)], ids=str)
def test_with_the_prior_where_the_process_ends_the_density_is_that_of_the_data(sde):
    (a, u), (b, v) = moments(sde, 1e-3), moments(sde, 1.0)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def normal(x, mean, variance):
        return (-0.5 * (x - mean).square() / variance - 0.5 * math.log(2 * math.pi * variance)).sum(1)

    found = log_density(sde, score_for(sde), x, GeneratorNoise(), steps=400, prior=lambda end: normal(end, b, v))
    torch.testing.assert_close(found, normal(x, a, u), rtol=0, atol=2e-3)


def test_the_density_of_graphs_counts_each_pair_once_and_nothing_of_the_padding():
    system = GraphProcess(VPSDE(0.1, 5.0), VESDE(0.1, 1.0))
    g = testing.random_dense(4, max_nodes=5, features=2, seed=0, dtype=torch.float64)

    def score(state, t):
        x, adj = score_for(system.node)(state.x, t), score_for(system.edge)(state.adj, t)
        return DenseGraphs(x, adj - torch.diag_embed(adj.diagonal(dim1=1, dim2=2)), state.mask).masked()

    found = log_density(system, score, g, PerGraphNoise(torch.arange(4)), steps=400)
    expected = []
    for k in range(4):
        n = int(g.mask[k].sum())
        upper = torch.triu_indices(n, n, 1)
        total = 0.0
        for sde, values in ((system.node, g.x[k, :n].flatten()), (system.edge, g.adj[k][upper[0], upper[1]])):
            (a, u), (b, v) = moments(sde, 1e-3), moments(sde, 1.0)
            ended = b + math.sqrt(v / u) * (values - a)
            total += float((-0.5 * (ended.square() + math.log(2 * math.pi)) + 0.5 * math.log(v / u)).sum())
        expected.append(total)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-2)


def test_the_density_of_a_model_does_not_depend_on_node_order_nor_batch():
    model = GDSS.seeded(GDSSConfig(node_types=3, max_nodes=5, node_hidden=8, edge_hidden=8, attention=8), 0).double()
    g = testing.random_dense(3, max_nodes=5, features=3, seed=0, dtype=torch.float64, counts=[5, 5, 3])
    keys = torch.arange(3)

    def density(g, keys, probes=1):
        noise = PerGraphNoise(keys)
        return log_density(model.process, model.score, g, noise, steps=6, probes=probes)

    whole = density(g, keys)
    assert bool(whole.isfinite().all())
    alone = density(DenseGraphs(g.x[1:2], g.adj[1:2], g.mask[1:2]), keys[1:2])
    testing.assert_close(whole[1:2], alone, "batch")
    order = torch.tensor([4, 2, 0, 1, 3])
    shuffled = DenseGraphs(g.x[:2, order], g.adj[:2][:, order][:, :, order], g.mask[:2])
    many = [density(state, keys[:2], probes=100) for state in (DenseGraphs(g.x[:2], g.adj[:2], g.mask[:2]), shuffled)]
    assert float((many[0] - many[1]).abs().max()) < 0.15 * float(many[0].abs().max())


@pytest.mark.parametrize("change", [{"start": 0.0}, {"start": 0.5, "end": 0.5}, {"end": 2.0}, {"tolerance": 0.0}])
def test_a_flow_that_cannot_be_followed_is_refused(change):
    with pytest.raises(InputError, match="tolerance"):
        follow_flow(VPSDE(), lambda x, t: -x, torch.ones(1, 1), **change)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_without_numbers_ends_the_flow(bad):
    def score(x, t):
        return torch.stack([-x[0], x[1] * bad])

    with pytest.raises(InputError, match="finite"):
        follow_flow(VPSDE(0.1, 5.0), score, torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("change", [{"steps": 0}, {"probes": 0}, {"start": 1.0}])
def test_a_density_that_cannot_be_computed_is_refused(change):
    with pytest.raises(InputError, match="probes"):
        log_density(VPSDE(), lambda x, t: -x, torch.ones(1, 1), GeneratorNoise(), **change)
