"""Solvers against hand-written loops over the same recorded noise, and what they promise about batches and calls."""

from __future__ import annotations

import math

import pytest
import torch

from graphinv import testing
from graphinv.diffusion import (
    S4,
    VESDE,
    VPSDE,
    EulerMaruyama,
    Exponential,
    GraphProcess,
    Heun,
    Langevin,
    PerGraphNoise,
    PredictorCorrector,
    ReverseDiffusion,
    SubVPSDE,
    integrate,
    time_grid,
)
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs

PAIRS = {
    "ve-ve": GraphProcess(VESDE(0.1, 1.0), VESDE(0.1, 1.0)),
    "vp-ve": GraphProcess(VPSDE(0.1, 1.0), VESDE(0.2, 1.0)),
    "vp-vp": GraphProcess(VPSDE(0.1, 1.0), VPSDE(0.2, 0.8)),
    "subvp-vp": GraphProcess(SubVPSDE(0.1, 20.0), VPSDE(0.1, 20.0)),
}
SOLVERS = {
    "s4": S4(),
    "s4 plain": S4(Langevin(snr=0)),
    "reverse": PredictorCorrector(ReverseDiffusion(), None),
    "reverse langevin": PredictorCorrector(),
    "euler": EulerMaruyama(),
    "euler flow": EulerMaruyama(probability_flow=True),
    "reverse flow": ReverseDiffusion(probability_flow=True),
    "euler langevin": PredictorCorrector(EulerMaruyama(), Langevin(steps=2)),
    "reverse shared": PredictorCorrector(shared=True),
    "exponential": Exponential(),
    "exponential flow": Exponential(stochastic=False, multistep=True),
    "exponential langevin": Exponential(multistep=True, corrector=Langevin()),
    "heun": Heun(),
}


def coupled_fields(x, a, mask):
    """Raw outputs in which each field reads the other, masked as a network's."""
    both = mask[:, :, None] & mask[:, None, :]
    fx = torch.tanh(a @ x) - 0.7 * x
    fa = torch.tanh(x @ x.transpose(1, 2)) - 0.5 * a
    fa = fa - torch.diag_embed(fa.diagonal(dim1=1, dim2=2))
    return fx * mask[:, :, None], fa * both


def score_of(system, calls=None):
    def score(g, t):
        if calls is not None:
            calls.append(float(t))
        x, a = coupled_fields(g.x, g.adj, g.mask)
        return system.map(lambda sde, x: (sde.score(x, t),), DenseGraphs(x, a, g.mask))[0]

    return score


def recorded(g, rounds, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draws = []
    for _ in range(rounds):
        draws.append(torch.randn(g.x.shape, generator=generator, dtype=g.x.dtype))
        upper = torch.randn(g.adj.shape, generator=generator, dtype=g.adj.dtype).triu(1)
        draws.append(upper + upper.transpose(1, 2))
    return [d * m for d, m in zip(draws, [g.mask.unsqueeze(-1), g.pair_mask] * rounds, strict=True)]


def start(seed=0):
    return testing.random_dense(4, max_nodes=5, features=3, seed=seed, dtype=torch.float64)


class Rules:
    """One SDE as numbers, written out without the library."""

    def __init__(self, sde):
        self.sde = sde
        self.ve = isinstance(sde, VESDE)

    def beta(self, t):
        return self.sde.beta_min + t * (self.sde.beta_max - self.sde.beta_min)

    def sigma(self, t):
        return self.sde.sigma_min * (self.sde.sigma_max / self.sde.sigma_min) ** t

    def std(self, t):
        low, high = self.sde.beta_min, self.sde.beta_max
        return math.sqrt(1 - math.exp(-0.5 * t * t * (high - low) - t * low))

    def score(self, raw, t):
        return raw if self.ve else -raw / self.std(t)

    def g_squared(self, t):
        if not self.ve:
            return self.beta(t)
        return self.sigma(t) ** 2 * 2 * math.log(self.sde.sigma_max / self.sde.sigma_min)

    def reverse(self, x, score, z, t, s):
        """Ancestral step of the reverse predictor: state and mean."""
        if self.ve:
            scale = math.sqrt(self.sigma(t) ** 2 - (self.sigma(s) ** 2 if s > 0 else 0.0))
            mean = x + scale**2 * score
        else:
            b = self.beta(t) * (t - s)
            scale = math.sqrt(b)
            mean = x - (math.sqrt(1 - b) * x - x) + b * score
        return mean + scale * z, mean

    def euler(self, x, score, z, t, s):
        drift = 0 * x if self.ve else -0.5 * self.beta(t) * x
        mean = x - (drift - self.g_squared(t) * score) * (t - s)
        return mean + math.sqrt(self.g_squared(t) * (t - s)) * z, mean

    def langevin(self, x, score, z, t, s, snr, scale_eps):
        grad_norm = sum(float(v.norm()) for v in score) / len(score)
        noise_norm = sum(float(v.norm()) for v in z) / len(z)
        alpha = 1.0 if self.ve else 1 - self.beta(t) * (t - s)
        step = 2 * alpha * (snr * noise_norm / grad_norm) ** 2
        return x + step * score + math.sqrt(2 * step) * z * scale_eps

    def transition(self, x, t, dt):
        """Mean and std of the noising part over dt < 0."""
        if self.ve:
            return x, math.sqrt(self.sigma(t) ** 2 - self.sigma(t + dt) ** 2)
        low, high = self.sde.beta_min, self.sde.beta_max
        half = 0.25 * dt * (2 * low + (2 * t + dt) * (high - low))
        return math.exp(-half) * x, math.sqrt(1 - math.exp(2 * half))


def loop_predictor_corrector(system, g, times, draws, predictor, snr, scale_eps):
    node, edge, draws = Rules(system.node), Rules(system.edge), list(draws)
    x, a, mask = g.x, g.adj, g.mask
    for t, s in zip(times[:-1], times[1:], strict=True):
        old = x
        if snr > 0:
            x = node.langevin(x, node.score(coupled_fields(x, a, mask)[0], t), draws.pop(0), t, s, snr, scale_eps)
            a = edge.langevin(a, edge.score(coupled_fields(old, a, mask)[1], t), draws.pop(0), t, s, snr, scale_eps)
        old = x
        x, x_mean = getattr(node, predictor)(x, node.score(coupled_fields(x, a, mask)[0], t), draws.pop(0), t, s)
        a, a_mean = getattr(edge, predictor)(a, edge.score(coupled_fields(old, a, mask)[1], t), draws.pop(0), t, s)
    assert not draws
    return x_mean, a_mean


def loop_s4(system, g, times, draws, snr, scale_eps):
    node, edge, draws = Rules(system.node), Rules(system.edge), list(draws)
    x, a, mask = g.x, g.adj, g.mask
    for t, s in zip(times[:-1], times[1:], strict=True):
        raw = coupled_fields(x, a, mask)
        score_x, score_a = node.score(raw[0], t), edge.score(raw[1], t)
        x = node.langevin(x, score_x, draws.pop(0), t, s, snr, scale_eps)
        a = edge.langevin(a, score_a, draws.pop(0), t, s, snr, scale_eps)
        dt = s - t
        (x_mean, x_std), (a_mean, a_std) = node.transition(x, t, dt / 2), edge.transition(a, t, dt / 2)
        x, a = x_mean + x_std * draws.pop(0), a_mean + a_std * draws.pop(0)
        x, a = x - node.g_squared(t) * score_x * dt, a - edge.g_squared(t) * score_a * dt
        (x_mean, x_std), (a_mean, a_std) = (
            node.transition(x, t + dt / 2, dt / 2),
            edge.transition(a, t + dt / 2, dt / 2),
        )
        x, a = x_mean + x_std * draws.pop(0), a_mean + a_std * draws.pop(0)
    assert not draws
    return x_mean, a_mean


@pytest.mark.parametrize("name", ["ve-ve", "vp-ve", "vp-vp"])
@pytest.mark.parametrize("predictor", ["reverse", "euler"])
@pytest.mark.parametrize("snr", [0.2, 0.0])
def test_predictor_corrector_equals_the_published_loop(name, predictor, snr, replayed):
    system, g, times = PAIRS[name], start(), time_grid(6, eps=0.01)
    draws = recorded(g, 6 * (2 if snr else 1))
    rule = ReverseDiffusion() if predictor == "reverse" else EulerMaruyama()
    solver = PredictorCorrector(rule, Langevin(snr, 0.7, norm="batch") if snr else None)
    out = integrate(solver, system, score_of(system), g, times, replayed(draws), denoise=False)
    x, a = loop_predictor_corrector(system, g, times.tolist(), draws, predictor, snr, 0.7)
    testing.assert_close(out.x, x, "nodes")
    testing.assert_close(out.adj, a, "edges")


def test_predictor_corrector_takes_the_published_variance_exploding_steps(replayed):
    system, g, steps = PAIRS["ve-ve"], start(1), 8
    sigmas = torch.linspace(math.log(0.1), math.log(1.0), steps, dtype=torch.float64).exp()
    times = torch.linspace(1, 0, steps, dtype=torch.float64)
    times = torch.cat([times[:-1], times.new_tensor([1e-12, 0.0])])  # the published grid, whose last index is 0
    draws = recorded(g, 2 * steps)
    rules, queue, x, a = Rules(system.node), list(draws), g.x, g.adj
    for i in range(steps - 1, -1, -1):
        scale = (sigmas[i] ** 2 - (sigmas[i - 1] ** 2 if i else 0)).sqrt()
        sx, sa = coupled_fields(x, a, g.mask)
        x, a = (rules.langevin(v, s, queue.pop(0), 1, 1, 0.2, 0.7) for v, s in ((x, sx), (a, sa)))
        sx, sa = coupled_fields(x, a, g.mask)
        x_mean, a_mean = x + scale**2 * sx, a + scale**2 * sa
        x, a = x_mean + scale * queue.pop(0), a_mean + scale * queue.pop(0)
    solver = PredictorCorrector(ReverseDiffusion(), Langevin(0.2, 0.7, norm="batch"))
    out = integrate(solver, system, score_of(system), g, times, replayed(draws), denoise=False)
    testing.assert_close(out.x, x_mean, "nodes")
    testing.assert_close(out.adj, a_mean, "edges")


@pytest.mark.parametrize("name", ["ve-ve", "vp-ve", "vp-vp"])
def test_s4_equals_the_published_loop(name, replayed):
    system, g = PAIRS[name], start(2)
    times = torch.linspace(1, 0.02, 7, dtype=torch.float64)
    draws = recorded(g, 3 * 6)
    solver = S4(Langevin(0.15, 0.7, norm="batch"))
    out = integrate(solver, system, score_of(system), g, times, replayed(draws), denoise=False)
    x, a = loop_s4(system, g, times.tolist(), draws, 0.15, 0.7)
    testing.assert_close(out.x, x, "nodes")
    testing.assert_close(out.adj, a, "edges")


def test_variance_exploding_reverse_step_is_x_plus_weighted_score_plus_noise(replayed):
    sde = VESDE(0.1, 1.0)
    x, grad, z = torch.randn(3, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    t, s = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    scale = math.sqrt(10 ** (2 * -0.4) - 10 ** (2 * -0.5))
    state, mean, _ = ReverseDiffusion().step(sde, lambda g, t: grad, x, t, s, (), replayed([z]))
    testing.assert_close(state, x + scale**2 * grad + scale * z, "state")
    testing.assert_close(mean, x + scale**2 * grad, "mean")
    flow, same, _ = ReverseDiffusion(probability_flow=True).step(sde, lambda g, t: grad, x, t, s, (), replayed([z]))
    testing.assert_close(flow, x + 0.5 * scale**2 * grad, "flow")
    assert torch.equal(flow, same)


@pytest.mark.parametrize(("name", "per_step"), [
    ("s4", 1), ("s4 plain", 1), ("reverse", 1), ("reverse langevin", 2), ("euler", 1), ("euler langevin", 3),
    ("reverse shared", 1), ("exponential", 1), ("exponential flow", 1), ("exponential langevin", 1),
])  # fmt: skip
@pytest.mark.parametrize("denoise", [True, False])
def test_score_evaluations_per_step(name, per_step, denoise):
    calls, system, g = [], PAIRS["vp-ve"], start()
    noise = PerGraphNoise(torch.arange(4))
    times = time_grid(5)
    integrate(SOLVERS[name], system, score_of(system, calls), g, times, noise, denoise=denoise)
    assert len(calls) == 5 * per_step - (per_step - 1 if denoise else 0)
    assert sorted(set(calls), reverse=True) == times[:-1].tolist()


@pytest.mark.parametrize("pair", ["vp-ve", "subvp-vp"])
@pytest.mark.parametrize("name", SOLVERS)
def test_solutions_stay_symmetric_hollow_masked_finite_and_independent_of_batch_and_padding(name, pair):
    system, g = (
        PAIRS[pair],
        testing.random_dense(5, max_nodes=4, features=3, dtype=torch.float64, counts=[4, 1, 2, 3, 1]),
    )

    def solve(part):
        keys = torch.arange(5) if part.mask.size(0) == 5 else torch.tensor([alone(part)])
        noise = PerGraphNoise(keys)
        prior = system.prior(part, noise)
        out = integrate(SOLVERS[name], system, score_of(system), prior, time_grid(4), noise)
        assert bool(out.x.isfinite().all()) and bool(out.adj.isfinite().all())
        assert torch.equal(out.adj, out.adj.transpose(1, 2)) and not out.adj.diagonal(dim1=1, dim2=2).any()
        assert not out.adj[~part.pair_mask].any() and not out.x[~part.mask].any()
        return out

    def alone(part):
        return next(k for k in range(5) if torch.equal(g.x[k], part.x[0]))

    for field in ("x", "adj"):
        testing.assert_batch_independent(lambda part, f=field: getattr(solve(part), f), g)
        testing.assert_no_padding_leak(lambda part, f=field: getattr(solve(part), f), g)


def test_batch_norm_couples_graphs_and_graph_norm_does_not():
    system, g = PAIRS["ve-ve"], start()
    first = DenseGraphs(g.x[:1], g.adj[:1], g.mask[:1])
    t, s = torch.tensor(0.5), torch.tensor(0.4)
    for norm, same in (("graph", True), ("batch", False)):
        rule = Langevin(norm=norm)
        together = rule.correct(system, score_of(system), g, t, s, PerGraphNoise(torch.arange(4)))
        alone = rule.correct(system, score_of(system), first, t, s, PerGraphNoise(torch.arange(1)))
        assert torch.allclose(together.x[:1], alone.x, rtol=1e-9) is same


def test_langevin_norms_agree_for_a_batch_of_one_within_the_cap(replayed):
    x, z = torch.randn(2, 1, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    t, s, sde = torch.tensor(0.5), torch.tensor(0.4), VESDE()
    grad = -z * 10  # |z| / |score| = 0.1, below twice sigma(.5) = .63
    moves = [Langevin(norm=n).move(sde, x, grad, t, s, replayed([z])) for n in ("graph", "batch")]
    testing.assert_close(moves[0], moves[1], "one graph")


@pytest.mark.parametrize("norm", ["graph", "batch"])
def test_langevin_is_finite_where_the_score_vanishes_and_capped_per_graph(norm, replayed):
    x = torch.zeros(2, 3, dtype=torch.float64)
    z, t, s = torch.ones_like(x), torch.tensor(0.5), torch.tensor(0.4)
    sde, rule = VESDE(), Langevin(snr=0.2, scale_eps=1.0, norm=norm)
    if norm == "graph":
        moved = rule.move(sde, x, torch.zeros_like(x), t, s, replayed([z]))
        step = 2 * (0.2 * 2 * math.sqrt(0.1)) ** 2
        testing.assert_close(moved, math.sqrt(2 * step) * z, "capped move", tolerance=1e-6)
    empty = rule.move(sde, x, torch.zeros_like(x), t, s, replayed([torch.zeros_like(x)]))
    assert not empty.any(), "a graph without noise and score must stay"


def test_langevin_with_zero_signal_is_the_identity_and_asks_for_nothing(replayed):
    calls, system, g = [], PAIRS["ve-ve"], start()
    t = torch.tensor(0.5)
    assert Langevin(snr=0).correct(system, score_of(system, calls), g, t, t / 2, replayed([])) is g
    assert not calls


@pytest.mark.parametrize("name", SOLVERS)
def test_a_rule_means_the_same_for_tensors_and_for_the_nodes_of_graphs(name, replayed):
    sde, g, times = VPSDE(), start(), time_grid(4)
    draws = recorded(g, 40)
    system = GraphProcess(sde, VESDE())
    both = integrate(SOLVERS[name], system, lambda g, t: DenseGraphs(-g.x, -g.adj, g.mask), g, times, replayed(draws))
    alone = integrate(SOLVERS[name], sde, lambda x, t: -x, g.x, times, replayed(draws[::2]))
    testing.assert_close(both.x, alone, "nodes")


@pytest.mark.parametrize("sde", [VPSDE(), VESDE(), SubVPSDE(0.1, 20.0)], ids=str)
def test_closing_step_returns_the_posterior_mean(sde, replayed):
    t, mean0, var0 = torch.tensor(0.3, dtype=torch.float64), 0.7, 0.5
    x = torch.tensor([[1.3], [-0.2]], dtype=torch.float64)
    scale, std = (float(v) for v in sde.marginal(torch.ones(1, dtype=torch.float64), t))
    variance = scale**2 * var0 + std**2

    out = integrate(S4(), sde, lambda x, t: -(x - scale * mean0) / variance, x, torch.stack([t, 0 * t]), replayed([]))
    expected = mean0 + var0 * scale / variance * (x - scale * mean0)
    testing.assert_close(out, expected, "E[x0 | xt]")


def test_closing_step_needs_an_interval_that_ends_in_zero(replayed):
    draws = [torch.ones(1, 1, dtype=torch.float64)] * 3
    times = torch.tensor([0.5, 0.1], dtype=torch.float64)
    x = torch.ones(1, 1, dtype=torch.float64)
    ends = [integrate(EulerMaruyama(), VESDE(), lambda x, t: -x, x, times, replayed(draws), denoise=d) for d in (0, 1)]
    assert torch.equal(*ends)


def test_integrate_returns_the_mean_of_the_last_step_and_reports_every_step(replayed):
    seen, x = [], torch.ones(2, 1, dtype=torch.float64)
    draws = [torch.full_like(x, k + 1.0) for k in range(3)]
    times = torch.tensor([0.9, 0.6, 0.4, 0.1], dtype=torch.float64)
    out = integrate(
        EulerMaruyama(), VESDE(), lambda x, t: -x, x, times, replayed(draws), callback=lambda *a: seen.append(a)
    )
    assert [s[:2] for s in seen] == [(1, 3), (2, 3), (3, 3)]
    rate = float(VESDE().coefficients(x, times[2])[1])
    testing.assert_close(seen[2][2], out + rate * math.sqrt(0.3) * 3.0, "last state")
    assert torch.equal(integrate(S4(), VESDE(), lambda x, t: -x, x, times[:1], replayed([])), x)


def test_integrate_keeps_no_graph():
    weight = torch.ones(1, requires_grad=True, dtype=torch.float64)
    x = torch.ones(2, 1, dtype=torch.float64)
    out = integrate(S4(), VPSDE(), lambda x, t: -x * weight, x, time_grid(3), PerGraphNoise(torch.arange(2)))
    assert not out.requires_grad


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_time_grid_falls_from_one_to_eps_evenly_then_to_zero(steps):
    times = time_grid(steps, eps=1e-3)
    assert times.dtype == torch.float64 and times.shape == (steps + 1,)
    assert float(times[0]) == 1 and float(times[-1]) == 0
    if steps > 1:
        assert float(times[-2]) == pytest.approx(1e-3)
        testing.assert_close(times[:-1].diff(), times.new_full((steps - 1,), -(1 - 1e-3) / (steps - 1)), "spacing")


def test_early_shortens_the_steps_near_noise_and_keeps_the_ends():
    times = time_grid(9, eps=1e-3, early=1.5)
    steps = times[:-1].diff().neg()
    assert float(times[0]) == 1 and float(times[-2]) == pytest.approx(1e-3) and float(times[-1]) == 0
    assert bool((steps.diff() > 0).all()) and bool((time_grid(9, early=0.5)[:-1].diff().neg().diff() < 0).all())


@pytest.mark.parametrize(
    "given", [(0, 0.1), (-1, 0.1), (3, 0.0), (3, 1.0), (3, -0.5), (3, 0.1, 0.0), (3, 0.1, float("inf"))], ids=str
)
def test_impossible_time_grids_are_refused(given):
    with pytest.raises(InputError, match="steps >= 1"):
        time_grid(*given)


@pytest.mark.parametrize("sde", [VPSDE(0.1, 20.0), SubVPSDE(0.1, 20.0), VESDE(0.01, 50.0)], ids=str)
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_very_long_steps_stay_finite(name, sde, steps):
    x = torch.ones(3, 4, dtype=torch.float64)
    noise = PerGraphNoise(torch.arange(3))
    out = integrate(SOLVERS[name], sde, lambda x, t: -x, x, time_grid(steps), noise, denoise=False)
    assert bool(out.isfinite().all())
