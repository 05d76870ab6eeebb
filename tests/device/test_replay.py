"""Samplers whose steps are replayed draw the same graphs: as CUDA graphs, or as operators traced once."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from graphinv.diffusion import VPSDE, Exponential, GeneratorNoise, PerGraphNoise, integrate, time_grid
from graphinv.models import GDSS, PARD
from graphinv.models.base import SampleRequest
from graphinv.models.gdss.config import SamplerConfig
from graphinv.models.pard.config import BlockSampler
from graphinv.ops import replay

NODES = torch.tensor([5, 2, 9, 1, 4, 7])


def traced(function, inputs):
    graph = make_fx(function)(*inputs)
    return lambda: graph(*inputs)


@pytest.fixture
def recorders(device, monkeypatch):
    """Return the recorder of the device, counting, and none."""
    counts = []
    own = replay.RECORDERS.get(device.type, traced)

    def recorder(*args):
        counts.append(1)
        return own(*args)

    monkeypatch.setitem(replay.RECORDERS, device.type, recorder)
    return counts


def drawn_both_ways(sample, recorders, device, monkeypatch):
    replayed = sample()
    assert recorders, "nothing was recorded"
    monkeypatch.delitem(replay.RECORDERS, device.type)
    return replayed, sample()


def assert_equal(one, other):
    for name in ("x", "edge_index", "edge_attr", "ptr"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


SOLVERS = ["s4", "exponential", "flow", "heun", "reverse", "euler"]
CASES = [*(("qm9", solver) for solver in SOLVERS), ("qm9-ppgn", "exponential"), ("zinc250k-gmh", "s4")]


@pytest.mark.parametrize(("preset", "solver"), CASES)
def test_gdss(preset, solver, device, recorders, monkeypatch):
    model = GDSS.preset(preset, node_types=4, max_nodes=9).eval().to(device)
    seen = []
    monkeypatch.setattr(SampleRequest, "step", lambda self, done, total, g: seen[-1].append(g))

    def sample():
        seen.append([])
        settings = SamplerConfig(solver=solver, steps=12)
        return model.sample(6, seed=3, num_nodes=NODES, batch_size=3, sampler=settings)

    assert_equal(*drawn_both_ways(sample, recorders, device, monkeypatch))
    assert len(recorders) == 2  # one for each batch
    assert len(seen[0]) == 2 * 12
    for one, other in zip(*seen, strict=True):  # the fields of every step, which rounding to a graph would hide
        assert torch.equal(one.x.cpu(), other.x.cpu()) and torch.equal(one.adj.cpu(), other.adj.cpu())


@pytest.mark.parametrize("prior", ["marginal", "absorbing"])
def test_pard(prior, device, recorders, monkeypatch):
    small = {"node_dim": 32, "edge_dim": 8, "layers": 2, "heads": 2, "prior": prior}
    model = PARD.preset("qm9", node_types=4, max_nodes=9, **small).eval().to(device)

    def sample():
        return model.sample(6, seed=3, num_nodes=NODES, sampler=BlockSampler(12, steps_per_element=99.0))

    assert_equal(*drawn_both_ways(sample, recorders, device, monkeypatch))


@pytest.mark.parametrize("noise", [PerGraphNoise, GeneratorNoise])
def test_tensors_under_one_process(noise, device, recorders):
    """Noise of a generator is not a function of a number, so that its steps are not recorded."""

    def run(replay):
        source = torch.arange(3, device=device) if noise is PerGraphNoise else torch.Generator(device).manual_seed(0)
        start, times = torch.ones(3, 2, device=device), time_grid(12).to(device)
        solver = Exponential(multistep=True)
        return integrate(solver, VPSDE(), lambda x, t: -x, start, times, noise(source), replay=replay)

    plain, count = run(False), len(recorders)
    assert torch.equal(run(True).cpu(), plain.cpu()) and count == 0
    assert len(recorders) == (noise is PerGraphNoise)
