"""The loop and the interface of solvers: explicit carry, any process, NaN, categorical rules against enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch

from graphinv import testing
from graphinv.diffusion import (
    S4,
    VESDE,
    VPSDE,
    AdaptiveHeun,
    Ancestral,
    CosineSchedule,
    DiscreteDiffusion,
    EulerMaruyama,
    Exponential,
    GraphProcess,
    Heun,
    Langevin,
    LinearSchedule,
    PerGraphNoise,
    PredictorCorrector,
    ReverseDiffusion,
    TauLeaping,
    TypedGraphs,
    integrate,
    solve,
    time_grid,
)
from graphinv.diffusion.state import entry_numbers, fields_of
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs

GAUSSIAN = {
    "s4": S4(),
    "reverse": ReverseDiffusion(),
    "euler": EulerMaruyama(),
    "corrected": PredictorCorrector(),
    "shared": PredictorCorrector(shared=True),
    "exponential": Exponential(multistep=True, corrector=Langevin()),
    "flow": Exponential(stochastic=False, multistep=True),
    "heun": Heun(),
    "adaptive": AdaptiveHeun(),
    "ancestral": Ancestral(),
}
DISCRETE = {"ancestral": Ancestral(), "tau": TauLeaping()}
LIMITS = {
    "uniform": DiscreteDiffusion.uniform(3),
    "marginal": DiscreteDiffusion.marginal(torch.tensor([5.0, 1.0, 2.0])),
    "absorbing": DiscreteDiffusion.absorbing(3),
    "linear": DiscreteDiffusion.absorbing(3, LinearSchedule()),
}
T, S = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)


def gaussian_case():
    g = testing.random_dense(3, max_nodes=4, features=2, dtype=torch.float64, counts=[4, 2, 1])
    return GraphProcess(VPSDE(0.1, 5.0), VESDE()), lambda g, t: DenseGraphs(-g.x, -g.adj, g.mask), g


def typed(batch=3, size=4, states=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(size) < torch.tensor([size, 2, 1])[:batch, None]
    x = torch.randint(states, (batch, size), generator=generator)
    adj = torch.randint(states, (batch, size, size), generator=generator).triu(1)
    return DenseGraphs(x, adj + adj.transpose(1, 2), mask).masked()


def discrete_case(limit):
    def logits(g, t):
        rows = torch.arange(9, dtype=torch.float64).reshape(3, 3).sin() * 2
        rows = torch.cat([rows, rows[:1]])  # of the mask state
        return DenseGraphs(rows[g.x], rows[g.adj], g.mask)

    return GraphProcess(LIMITS[limit], LIMITS[limit]), logits, typed()


CASES = [
    *(pytest.param(solver, gaussian_case(), id=name) for name, solver in GAUSSIAN.items()),
    *(
        pytest.param(solver, discrete_case(limit), id=f"{name} {limit}")
        for (name, solver), limit in itertools.product(DISCRETE.items(), LIMITS)
    ),
]


@pytest.mark.parametrize(("solver", "case"), CASES)
def test_a_step_with_the_same_carry_gives_the_same_bits_whatever_came_between(solver, case):
    process, predict, g = case
    before, noise = vars(solver).copy(), PerGraphNoise(torch.arange(3))
    carry = solver.init(process, g)
    _, _, carry = solver.step(process, predict, g, T + 0.2, T, carry, noise.child(0))
    kept = [c.clone() for c in carry]
    first = solver.step(process, predict, g, T, S, carry, noise.child(1))
    solver.step(process, predict, first[0], S, S / 2, first[2], noise.child(2))
    again = solver.step(process, predict, g, T, S, carry, noise.child(1))
    for one, other in zip(first[:2], again[:2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(fields_of(one), fields_of(other), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first[2], again[2], strict=True))
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num())
               for a, b in zip(kept, carry, strict=True))  # fmt: skip
    assert vars(solver) == before


@pytest.mark.parametrize(("solver", "case"), CASES)
def test_a_run_depends_on_the_graph_alone_and_stays_mirrored_hollow_and_masked(solver, case):
    process, predict, g = case
    noise = PerGraphNoise(torch.arange(3) + 7)
    together = integrate(solver, process, predict, process.prior(g, noise), time_grid(5), noise.child(0))
    assert torch.equal(together.adj, together.adj.transpose(1, 2))
    assert not together.adj.diagonal(dim1=1, dim2=2).any()
    assert not together.adj[~g.pair_mask].any() and not together.x[~g.mask].any()
    for k, size in enumerate((4, 2, 1)):
        part = DenseGraphs(g.x[k : k + 1, :size], g.adj[k : k + 1, :size, :size], g.mask[k : k + 1, :size])
        own = PerGraphNoise(torch.tensor([k + 7]))
        alone = integrate(solver, process, predict, process.prior(part, own), time_grid(5), own.child(0))
        testing.assert_close(alone.x.double(), together.x[k : k + 1, :size].double(), "nodes")
        testing.assert_close(alone.adj.double(), together.adj[k : k + 1, :size, :size].double(), "edges")


def test_a_process_may_join_real_nodes_and_classes_of_edges():
    process = GraphProcess(VPSDE(0.1, 20.0), LIMITS["absorbing"])
    g = typed()
    like = DenseGraphs(torch.zeros(3, 4, 2, dtype=torch.float64), g.adj, g.mask)
    edge = torch.tensor([0.0, 0.0, 50.0], dtype=torch.float64)  # class 2, for certain

    def predict(g, t):
        scale, std = process.node.marginal(torch.ones_like(g.x), t)
        return DenseGraphs((scale * 0.7 - g.x) / std.square(), edge.expand(*g.adj.shape, 3), g.mask)

    noise = PerGraphNoise(torch.arange(3))
    start = process.prior(like, noise)
    assert start.x.is_floating_point() and set(start.adj[start.pair_mask].tolist()) == {0, 3}
    out = integrate(Ancestral(), process, predict, start, time_grid(8), noise.child(0))
    testing.assert_close(out.x[g.mask], torch.full_like(out.x[g.mask], 0.7), "nodes")
    own = torch.eye(4, dtype=torch.bool)
    assert torch.equal(out.adj, torch.where(g.pair_mask & ~own, 2, 0))


def test_noise_of_typed_pairs_follows_their_numbers():
    g = typed()
    rows = TypedGraphs(g.x[:, 2:], g.adj[:, 2:], entry_numbers(g, 0)[:, 2:], entry_numbers(g, 1)[:, 2:])
    process, noise = GraphProcess(LIMITS["uniform"], LIMITS["marginal"]), PerGraphNoise(torch.arange(3))
    whole, part = process.noise(g, noise), process.noise(rows, noise)
    full = g.pair_mask[:, 2:]
    assert torch.equal(part.nodes[g.mask[:, 2:]], whole.x[:, 2:][g.mask[:, 2:]])
    assert torch.equal(part.pairs[full], whole.adj[:, 2:][full])


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("when", [0, 2, 3])
@pytest.mark.parametrize("solver", [S4(), Ancestral(), Exponential(multistep=True)], ids=repr)
def test_a_prediction_without_numbers_is_reported(solver, when, denoise):
    calls = []

    def score(x, t):
        calls.append(float(t))
        return torch.where(torch.tensor([[len(calls) - 1 == when, False]]), torch.nan, -x)

    x = torch.ones(3, 2, dtype=torch.float64)
    with pytest.raises(InputError, match=r"no numbers \(NaN\)"):
        integrate(solver, VPSDE(), score, x, time_grid(4), PerGraphNoise(torch.arange(3)), denoise=denoise)


def test_solvers_say_what_they_cannot_move():
    process, predict, g = discrete_case("uniform")
    for solver in (S4(), Heun(), Exponential(), AdaptiveHeun()):
        with pytest.raises(InputError, match="follows scores, got DiscreteDiffusion.*take Ancestral"):
            integrate(solver, process, predict, g, time_grid(3), PerGraphNoise(torch.arange(3)))
    with pytest.raises(InputError, match="categorical fields, got VPSDE"):
        integrate(TauLeaping(), *gaussian_case(), time_grid(3), PerGraphNoise(torch.arange(3)))


@pytest.mark.parametrize("solver", ["heun", Heun, None])
def test_a_name_or_a_class_is_no_solver(solver):
    with pytest.raises(InputError, match="solver object such as"):
        integrate(solver, *gaussian_case(), time_grid(3), PerGraphNoise(torch.arange(3)))


def test_adaptive_steps_stop_at_every_time_asked_for():
    x, sde = torch.tensor([[30.0, -20.0], [0.1, 0.2]], dtype=torch.float64), VPSDE(0.1, 5.0)
    times = torch.tensor([1.0, 0.55, 0.1], dtype=torch.float64)
    noise, seen = PerGraphNoise(torch.arange(2)), []

    def score(x, t):
        return -torch.sin(x) * (1 + t.reshape(-1, 1))

    args = (AdaptiveHeun(1e-5), sde, score)
    whole = solve(*args, x, times, noise, callback=lambda k, total, x: seen.append((k, total)))
    half = solve(*args, x, times[:2], noise)
    rest = solve(*args, half.x, times[1:], noise)
    testing.assert_close(whole.x, rest.x, "by way of the middle", tolerance=1e-3)
    assert seen == [(1, 2), (2, 2)] and bool((whole.carry[0] == times[-1]).all())
    assert int(whole.carry[2][0]) > int(whole.carry[2][1]) > 0  # each graph its own number of calls


# --- categorical rules against the law of a variable of few classes, in closed form

PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)  # of the data


def law_at(process, t):
    """Return the law of x_t and p(x_0 | x_t) ``[C, K]``."""
    abar = process.schedule.alpha_bar(torch.as_tensor(t, dtype=torch.float64))
    chance = (1 - abar) * process.limit + abar * torch.eye(process.states, dtype=torch.float64)[: process.classes]
    joint = PRIOR.unsqueeze(1) * chance  # [K, C]
    return joint.sum(0), (joint / joint.sum(0).clamp(min=1e-300)).t()


def transition(rule, process, t, s):
    """Return p(x_s | x_t) ``[C, C]`` of a step with the exact p(x_0 | x_t)."""
    x, times = torch.arange(process.states), [torch.as_tensor(v, dtype=torch.float64) for v in (t, s)]
    logits = law_at(process, t)[1].clamp(min=1e-300).log()
    if rule == "tau":
        return process.leap(x, logits, *times)
    return process.reverse(x, process.predict(logits, x), *times)


def end_error(rule, process, steps, start=0.9, end=0.2):
    law, times = law_at(process, start)[0], torch.linspace(start, end, steps + 1, dtype=torch.float64).tolist()
    for t, s in itertools.pairwise(times):
        law = law @ transition(rule, process, t, s)
    return float((law - law_at(process, end)[0]).abs().max())


@pytest.mark.parametrize("name", LIMITS)
def test_tau_leaping_reaches_the_law_at_its_declared_order_and_ancestral_exactly(name):
    process = LIMITS[name]
    assert end_error("ancestral", process, 3) < 1e-12
    order = testing.fitted_order(lambda steps: end_error("tau", process, steps), (40, 80, 160))
    assert order == pytest.approx(TauLeaping().order, abs=0.15)


@pytest.mark.parametrize("schedule", [CosineSchedule(), LinearSchedule()], ids=str)
@pytest.mark.parametrize("kind", ["uniform", "absorbing"])
def test_leaps_are_distributions_and_short_ones_are_the_rates_of_the_reverse_process(kind, schedule):
    process = getattr(DiscreteDiffusion, kind)(3, schedule)
    for t, s in ((1.0, 0.7), (0.7, 0.3), (0.3, 0.0)):
        p = transition("tau", process, t, s)
        testing.assert_close(p.sum(1), torch.ones(process.states, dtype=torch.float64), "sums")
        assert bool((p >= 0).all())
    h = 1e-6
    exact, leap = (transition(rule, process, 0.5, 0.5 - h) for rule in ("ancestral", "tau"))
    off = ~torch.eye(process.states, dtype=torch.bool)
    torch.testing.assert_close(leap[off] / h, exact[off] / h, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("solver", DISCRETE.values(), ids=DISCRETE)
@pytest.mark.parametrize("name", ["marginal", "absorbing"])
def test_drawn_classes_have_the_law_of_the_data(solver, name):
    process, count = LIMITS[name], 20_000
    noise = PerGraphNoise(torch.arange(count))
    x = torch.zeros(count, 1, dtype=torch.long)

    def logits(x, t):
        return law_at(process, t)[1].clamp(min=1e-300).log()[x]

    out = integrate(solver, process, logits, process.prior(x, noise), time_grid(60), noise.child(0))
    frequency = torch.bincount(out.flatten(), minlength=process.states).double() / count
    assert frequency[3:].sum() == 0, "no element stays masked"
    spread = (PRIOR * (1 - PRIOR) / count).sqrt()
    assert float(((frequency[:3] - PRIOR).abs() / spread).max()) < 5
