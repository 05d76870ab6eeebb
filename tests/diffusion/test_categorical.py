"""Discrete diffusion against Bayes' rule on the enumerated chain, its draws and losses against their definitions."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphinv.diffusion import CosineSchedule, DiscreteDiffusion
from graphinv.diffusion.categorical import categorical
from graphinv.errors import InputError

DTYPES = (torch.float32, torch.float64)
SPANS = [(1.0, 0.98), (1.0, 0.0), (0.7, 0.2), (0.5, 0.499), (0.02, 0.0), (1e-3, 1e-4), (0.999, 1e-6)]
DIFFUSIONS = [
    *(DiscreteDiffusion.uniform(k) for k in (1, 2, 5)),
    DiscreteDiffusion.marginal(torch.tensor([1.0, 2.0, 7.0])),
    DiscreteDiffusion.marginal(torch.tensor([1000, 0, 3, 1])),
    DiscreteDiffusion(torch.tensor([0.25, 0.75]), 2, CosineSchedule(0.1)),
    *(DiscreteDiffusion.absorbing(k) for k in (1, 2, 4)),
]
MASKING = [d for d in DIFFUSIONS if d.absorbs]


def name(diffusion):
    return f"{'mask' if diffusion.absorbs else 'limit'}{[round(v, 3) for v in diffusion.limit.tolist()]}"


each_diffusion = pytest.mark.parametrize("diffusion", DIFFUSIONS, ids=name)
each_span = pytest.mark.parametrize(("t", "s"), SPANS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def f64(*values):
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


def abar(diffusion, t: float) -> float:
    return float(diffusion.schedule.alpha_bar(f64(t))) if t > 0 else 1.0


def chain(diffusion, s: float, t: float):
    """Return the matrix [C, C] of q(x_t | x_s), mask row included."""
    keep = abar(diffusion, t) / abar(diffusion, s)
    return keep * torch.eye(diffusion.states, dtype=torch.float64) + (1 - keep) * diffusion.limit


def bayes(diffusion, early, late):
    """Return q(x_s | x_t, x_0) [x_t, x_0, x_s] of the matrices of 0 -> s and s -> t, and which rows can occur."""
    joint = torch.einsum("js,st->tjs", early, late)[:, : diffusion.classes]
    norm = joint.sum(-1, keepdim=True)
    return joint / norm, norm.squeeze(-1) > 0


def states(diffusion):
    """Return every (x_t, x_0), both [C, K]."""
    return torch.meshgrid(torch.arange(diffusion.states), torch.arange(diffusion.classes), indexing="ij")


def random_log_p(diffusion, x_t, seed=0, dtype=torch.float64):
    logits = 3 * torch.randn(*x_t.shape, diffusion.classes, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return logits, diffusion.predict(logits, x_t)


def possible(diffusion, x_t, x_0):
    return (x_t == x_0) | (x_t == diffusion.classes) if diffusion.absorbs else torch.ones_like(x_t, dtype=torch.bool)


def test_the_schedule_falls_from_one_to_zero_within_its_clip():
    t = torch.linspace(0, 1, 1001)
    for offset in (0.0, 0.008, 0.3):
        value = CosineSchedule(offset).alpha_bar(t)
        assert value.dtype == torch.float64 and value.shape == t.shape
        assert value[0] == 1 - 1e-10 and value[-1] == 1e-10
        assert bool((value.diff() < 0).all())
    half = math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
    assert float(CosineSchedule().alpha_bar(torch.tensor(0.5))) == pytest.approx(half, rel=1e-14)


@each_diffusion
@each_span
def test_the_posterior_is_bayes_rule_on_the_enumerated_chain(diffusion, t, s):
    x_t, x_0 = states(diffusion)
    q = diffusion.posterior(x_t, x_0, f64(t), f64(s))
    expected, occurs = bayes(diffusion, chain(diffusion, 0.0, s), chain(diffusion, s, t))
    assert torch.equal(occurs, possible(diffusion, x_t, x_0))
    torch.testing.assert_close(q[occurs], expected[occurs], rtol=1e-6, atol=1e-13)


@each_diffusion
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.4), (0.7, 0.2), (0.3, 0.0)])
def test_the_posterior_of_a_long_step_is_that_of_many_small_ones(diffusion, t, s):
    def compose(begin, end, steps=40):
        out = torch.eye(diffusion.states, dtype=torch.float64)
        for k in range(steps):
            out = out @ chain(diffusion, *(begin + (end - begin) * j / steps for j in (k, k + 1)))
        return out

    x_t, x_0 = states(diffusion)
    expected, occurs = bayes(diffusion, compose(0.0, s), compose(s, t))
    q = diffusion.posterior(x_t, x_0, f64(t), f64(s))
    torch.testing.assert_close(q[occurs], expected[occurs], rtol=1e-9, atol=1e-12)


@each_diffusion
def test_skipping_a_time_equals_marginalising_it(diffusion):
    t, u, s = f64(0.9), f64(0.5), f64(0.1)
    x_t, x_0 = states(diffusion)
    step = diffusion.posterior(x_t, x_0, t, u)
    middle = torch.arange(diffusion.states).expand(*x_t.shape, -1)
    onward = diffusion.posterior(middle, x_0.unsqueeze(-1).expand_as(middle).contiguous(), u, s)
    two = (step.unsqueeze(-1) * onward).sum(-2)
    occurs = possible(diffusion, x_t, x_0)
    torch.testing.assert_close(two[occurs], diffusion.posterior(x_t, x_0, t, s)[occurs], rtol=1e-10, atol=1e-14)


@each_diffusion
@each_span
@each_dtype
def test_the_reverse_step_is_the_posterior_averaged_over_the_prediction(diffusion, t, s, dtype):
    x_t = torch.arange(diffusion.states).repeat(20)
    _, log_p = random_log_p(diffusion, x_t, dtype=dtype)
    t, s = torch.tensor(t, dtype=dtype), torch.tensor(s, dtype=dtype)
    rows = diffusion.reverse(x_t, log_p, t, s)
    data = torch.arange(diffusion.classes).expand(len(x_t), -1)
    q = diffusion.posterior(x_t.unsqueeze(-1).expand_as(data).contiguous(), data, t.double(), s.double())
    expected = (log_p.double().exp().unsqueeze(-1) * q).sum(-2)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(rows.double(), expected, rtol=10 * tolerance, atol=tolerance)


@given(
    logits=st.lists(st.floats(-60, 60), min_size=4, max_size=4),
    times=st.tuples(st.floats(1e-4, 1), st.floats(0, 0.99)),
    x=st.integers(0, 3),
    dtype=st.sampled_from(DTYPES),
)
def test_rows_are_distributions(logits, times, x, dtype):
    t = torch.tensor(times[0], dtype=dtype)
    s = t * times[1]
    for diffusion in (DiscreteDiffusion.uniform(4), DIFFUSIONS[4], DiscreteDiffusion.absorbing(4)):
        for x_t in {x, diffusion.states - 1}:
            x_t = torch.tensor(x_t)
            log_p = diffusion.predict(torch.tensor(logits, dtype=dtype), x_t)
            for rows in (
                diffusion.reverse(x_t, log_p, t, s),
                diffusion.posterior(x_t, torch.tensor(x), t, s),
            ):
                assert bool((rows >= 0).all()), rows
                assert float(rows.sum()) == pytest.approx(1, abs=1e-5 if dtype == torch.float32 else 1e-13)


@each_diffusion
@each_dtype
def test_the_last_step_samples_the_prediction_itself(diffusion, dtype):
    x_t = torch.arange(diffusion.states)
    logits, log_p = random_log_p(diffusion, x_t, dtype=dtype)
    logits[:, 0] = -torch.inf if diffusion.classes > 1 else 0.0
    log_p = diffusion.predict(logits, x_t)
    p = diffusion.reverse(x_t, log_p, torch.tensor(0.3, dtype=dtype), torch.tensor(0.0, dtype=dtype))
    assert torch.equal(p[:, : diffusion.classes], log_p.exp())
    assert not bool(p[:, diffusion.classes :].any())
    for u in (0.0, 0.5, 1 - 2**-24):
        x_0 = diffusion.step(x_t, logits, f64(0.3), f64(0.0), torch.full(x_t.shape, u))
        assert bool((log_p.gather(-1, x_0.unsqueeze(-1)) > -torch.inf).all())


@each_diffusion
@pytest.mark.parametrize("t", [1e-4, 0.3, 0.8, 1.0])
def test_noisy_classes_come_at_their_forward_probabilities(diffusion, t):
    n = 20_000
    for x0 in range(diffusion.classes):
        u = torch.rand(n, generator=torch.Generator().manual_seed(7 * x0), dtype=torch.float64)
        x_t = diffusion.q_sample(torch.full((n,), x0), f64(t), u)
        expected = chain(diffusion, 0.0, t)[x0]
        z = (x_t.bincount(minlength=diffusion.states) / n - expected) / (expected * (1 - expected) / n).sqrt()
        z = z[(expected > 20 / n) & (expected < 1 - 20 / n)]  # 4.5 sigma over about 250 frequencies: 1 in 500
        assert not z.numel() or float(z.abs().max()) < 4.5, z


@each_diffusion
def test_the_forward_draw_is_the_inverse_of_its_cumulative_sum_and_clean_at_time_zero(diffusion):
    x0 = torch.arange(diffusion.classes).repeat(50)
    u = torch.rand(len(x0), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.equal(diffusion.q_sample(x0, f64(0.6), u), categorical(chain(diffusion, 0.0, 0.6)[x0], u))
    assert torch.equal(diffusion.q_sample(x0, f64(0.0), u), x0)
    assert torch.equal(diffusion.start(u), categorical(diffusion.limit.expand(len(u), -1), u))


def test_steps_from_the_prior_with_the_true_posterior_return_the_data_distribution():
    data, n = f64(0.1, 0.6, 0.3), 40_000
    for diffusion in (DiscreteDiffusion.uniform(3), DiscreteDiffusion.absorbing(3)):
        generator = torch.Generator().manual_seed(0)
        x = diffusion.start(torch.rand(n, generator=generator))
        times = torch.linspace(1, 0, 6, dtype=torch.float64)
        for t, s in zip(times[:-1], times[1:], strict=True):
            likelihood = chain(diffusion, 0.0, float(t))[:3, x].T  # q(x_t | x_0), so Bayes gives p(x_0 | x_t)
            x = diffusion.step(x, (data * likelihood).log(), t, s, torch.rand(n, generator=generator))
        z = (x.bincount(minlength=3) / n - data) / (data * (1 - data) / n).sqrt()
        assert x.max() < 3 and float(z.abs().max()) < 4.5, z


@each_diffusion
@each_span
def test_the_losses_are_the_divergence_by_enumeration_and_the_cross_entropy(diffusion, t, s):
    x_t, x_0 = (x.reshape(-1).repeat(5) for x in states(diffusion))
    keep = possible(diffusion, x_t, x_0)
    x_t, x_0 = x_t[keep], x_0[keep]
    logits, log_p = random_log_p(diffusion, x_t)
    vlb, ce = diffusion.losses(logits, x_0, x_t, f64(t), f64(s))
    torch.testing.assert_close(ce, -log_p.gather(-1, x_0.unsqueeze(-1)).squeeze(-1))
    q, p = diffusion.posterior(x_t, x_0, f64(t), f64(s)), diffusion.reverse(x_t, log_p, f64(t), f64(s))
    expected = torch.nn.functional.kl_div(p.log().masked_fill(q == 0, 0), q, reduction="none").sum(-1)
    torch.testing.assert_close(vlb, expected, rtol=1e-7, atol=1e-12)
    assert bool((vlb >= 0).all())
    if s == 0:
        assert torch.equal(vlb, ce)


@each_diffusion
@each_span
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_single_precision_losses_and_gradients_are_close_to_double(diffusion, t, s, scale):
    x_t, x_0 = (x.reshape(-1).repeat(20) for x in states(diffusion))
    keep = possible(diffusion, x_t, x_0)
    x_t, x_0, results = x_t[keep], x_0[keep], []
    for dtype in DTYPES:
        logits = (scale * random_log_p(diffusion, x_t)[0]).float().to(dtype).requires_grad_()
        vlb, ce = diffusion.losses(logits, x_0, x_t, f64(t), f64(s))
        assert vlb.dtype == ce.dtype == dtype
        results.append((vlb.double(), *(g.double() for g in torch.autograd.grad(vlb.sum(), logits))))
    for single, double in zip(*results, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-6)


@each_diffusion
@each_dtype
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_losses_and_gradients_stay_finite_at_extreme_logits_and_times(diffusion, dtype, scale):
    x_t, x_0 = (x.reshape(-1) for x in states(diffusion))
    spans = [*SPANS, (1e-6, 1e-7), (1e-6, 0.0), (1e-9, 1e-10), (1.0, 0.9999), (1.0, 1e-7)]
    t, s = torch.tensor(spans, dtype=dtype).unsqueeze(1).unbind(-1)
    shape = (2 * diffusion.classes, len(spans), len(x_t))
    extremes = scale * torch.eye(diffusion.classes, dtype=dtype)
    logits = torch.cat([2 * extremes - scale, scale - 2 * extremes])[:, None, None].repeat(1, *shape[1:], 1)
    logits.requires_grad_()
    vlb, ce = diffusion.losses(logits, x_0.expand(shape), x_t.expand(shape), t, s)
    (gradient,) = torch.autograd.grad(vlb.sum() + ce.sum(), logits)
    for value in (vlb, ce, gradient):
        assert bool(value.isfinite().all())
    assert bool((vlb > -1e-6).all()) and bool((ce >= 0).all())
    assert float(gradient.abs().max()) < 2.01, "the gradient of either loss is below 1 in each logit"


@each_diffusion
def test_losses_pass_the_gradient_check(diffusion):
    x_t, x_0 = (x.reshape(-1) for x in states(diffusion))
    t, s = f64(0.9, 0.4, 0.05).unsqueeze(1), f64(0.7, 0.0, 0.04).unsqueeze(1)
    shape = (3, len(x_t))
    logits = random_log_p(diffusion, x_t.expand(shape))[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda z: diffusion.losses(z, x_0.expand(shape), x_t.expand(shape), t, s), logits)


@pytest.mark.parametrize("diffusion", MASKING, ids=name)
@each_dtype
def test_predictions_of_seen_elements_carry_no_loss_and_no_gradient(diffusion, dtype):
    x = torch.arange(diffusion.classes)
    logits = random_log_p(diffusion, x, dtype=dtype)[0].requires_grad_()
    t, s = torch.tensor(0.5, dtype=dtype), torch.tensor(0.3, dtype=dtype)
    assert not any(bool(loss.any()) for loss in diffusion.losses(logits, x, x, t, s))
    rows = diffusion.reverse(x, diffusion.predict(logits, x), t, s)
    assert torch.equal(rows, torch.eye(diffusion.states, dtype=dtype)[:-1])
    (gradient,) = torch.autograd.grad((rows * rows).sum(), logits)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@each_diffusion
def test_the_end_of_the_noising_is_the_prior(diffusion):
    x_0 = torch.arange(diffusion.classes).repeat(2, 1)
    divergence = diffusion.prior_kl(x_0)
    assert divergence.shape == x_0.shape and float(divergence.min()) >= 0 and float(divergence.max()) < 1e-12


@given(
    weights=st.lists(st.sampled_from([0.0, 1e-30, 1e-7, 0.1, 1 / 3, 1.0, 0.7]), min_size=1, max_size=9),
    u=st.one_of(st.sampled_from([0.0, 1 - 2**-24, 0.5]), st.floats(0, 1, exclude_max=True, width=32)),
    dtype=st.sampled_from(DTYPES),
)
def test_draws_invert_the_cumulative_sum_and_never_pick_an_impossible_class(weights, u, dtype):
    weights.append(0.2)
    for order in (weights, weights[::-1]):
        p = torch.tensor(order, dtype=dtype)
        for row in (p, p / p.sum(), p / p.sum() * (1 - 1e-5)):
            k = int(categorical(row, torch.tensor(u, dtype=dtype)))
            assert row[k] > 0
            total, target = row.double().sum(), u * row.double().sum()
            assert row[:k].double().sum() <= target + 1e-6 * total and row[: k + 1].double().sum() >= target * (
                1 - 1e-6
            )


@each_dtype
def test_draws_at_both_ends_of_the_unit_interval_are_possible_classes(dtype):
    p = torch.tensor([[0, 0.3, 0.7, 0], [0, 0, 1, 0], [0, 1e-30, 0, 0], [0.1, 0.2, 0.3, 0.4 - 1e-6]], dtype=dtype)
    last = torch.nextafter(torch.ones((), dtype=dtype), torch.zeros((), dtype=dtype))
    assert categorical(p, torch.zeros(4, dtype=dtype)).tolist() == [1, 2, 1, 0]
    assert categorical(p, last.expand(4)).tolist() == [2, 2, 1, 3]
    assert categorical(p.float(), torch.nextafter(f64(1.0), f64(0.0)).expand(4)).tolist() == [2, 2, 1, 3]


@each_diffusion
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (2, 0, 0), (4, 3, 3)])
def test_any_layout_gives_what_its_elements_give_alone(diffusion, shape):
    generator = torch.Generator().manual_seed(1)
    x_0 = torch.randint(diffusion.classes, shape, generator=generator)
    u = torch.rand(shape, generator=generator)
    t = torch.rand([n if k == 0 else 1 for k, n in enumerate(shape)], generator=generator) * 0.8 + 0.1
    s = t * torch.randint(2, t.shape, generator=generator) / 2
    logits = torch.randn(*shape, diffusion.classes, generator=generator)
    flat_t, flat_s, flat_u = (v.expand(shape).reshape(-1) for v in (t, s, u))
    x_t = diffusion.q_sample(x_0, t, u)
    log_p = diffusion.predict(logits, x_t)
    flat_x, flat_0, flat_logits = x_t.reshape(-1), x_0.reshape(-1), logits.reshape(-1, diffusion.classes)
    pairs = [
        (x_t, diffusion.q_sample(flat_0, flat_t, flat_u)),
        (diffusion.posterior(x_t, x_0, t, s), diffusion.posterior(flat_x, flat_0, flat_t, flat_s)),
        (diffusion.reverse(x_t, log_p, t, s), diffusion.reverse(flat_x, log_p.flatten(0, -2), flat_t, flat_s))
        if shape
        else (x_t, x_t),
        (diffusion.step(x_t, logits, t, s, u), diffusion.step(flat_x, flat_logits, flat_t, flat_s, flat_u)),
        (diffusion.start(u), diffusion.start(flat_u)),
        (diffusion.prior_kl(x_0), diffusion.prior_kl(flat_0)),
        *zip(
            diffusion.losses(logits, x_0, x_t, t, s),
            diffusion.losses(flat_logits, flat_0, flat_x, flat_t, flat_s),
            strict=True,
        ),
    ]
    for whole, flat in pairs:
        assert whole.shape[: len(shape)] == shape
        torch.testing.assert_close(whole.reshape(flat.shape), flat)


@each_diffusion
def test_nothing_off_the_cpu_reads_a_value_back(diffusion):
    away = copy.copy(diffusion)
    object.__setattr__(away, "limit", diffusion.limit.to("meta"))  # a meta tensor raises when its value is asked for
    x = torch.zeros(2, 3, 3, dtype=torch.int64, device="meta")
    t = s = torch.zeros(2, 1, 1, device="meta")
    u, logits = torch.zeros(2, 3, 3, device="meta"), torch.zeros(2, 3, 3, away.classes, device="meta")
    for x_t in (away.q_sample(x, t, u), away.start(u), away.step(x, logits, t, s, u)):
        assert x_t.shape == x.shape and x_t.dtype == torch.int64
    assert away.posterior(x, x, t, s).shape == (2, 3, 3, away.states)
    assert all(loss.shape == x.shape for loss in (*away.losses(logits, x, x, t, s), away.prior_kl(x)))


def test_a_class_that_was_never_seen_keeps_a_tiny_probability():
    diffusion = DiscreteDiffusion.marginal(torch.tensor([3, 0, 1]))
    torch.testing.assert_close(diffusion.limit, f64(0.75, 1e-6, 0.25), rtol=2e-6, atol=0)
    assert float(diffusion.limit.sum()) == pytest.approx(1, abs=1e-15)


def test_a_diffusion_is_frozen_copies_its_limit_and_moves():
    limit = f64(0.5, 0.5)
    diffusion = DiscreteDiffusion(limit, 2)
    limit[0] = 9
    assert diffusion.limit.tolist() == [0.5, 0.5]
    assert diffusion.to("cpu") is diffusion and diffusion.states == 2
    with pytest.raises(AttributeError):
        diffusion.classes = 3


@pytest.mark.parametrize(("build", "message"), [
    (lambda: DiscreteDiffusion(f64(0.5, 0.6), 2), "sum to 1"),
    (lambda: DiscreteDiffusion(f64(1.0, 0.0), 2), "positive"),
    (lambda: DiscreteDiffusion(f64(1.5, -0.5), 2), "positive"),
    (lambda: DiscreteDiffusion(f64(math.nan, 0.5), 2), "positive"),
    (lambda: DiscreteDiffusion(f64(0.5, 0.5), 3), "K = 3"),
    (lambda: DiscreteDiffusion(f64(0.5, 0.5), 1), "1 on the last"),
    (lambda: DiscreteDiffusion(torch.full((2, 1), 0.5), 2), "shape"),
    (lambda: DiscreteDiffusion.uniform(0), "K = 0"),
    (lambda: DiscreteDiffusion.absorbing(-1), "K = -1"),
    (lambda: DiscreteDiffusion.marginal(torch.zeros(3)), "positive sum"),
    (lambda: DiscreteDiffusion.marginal(torch.tensor([3, -1])), ">= 0"),
    (lambda: DiscreteDiffusion.marginal(torch.tensor([])), "positive sum"),
    (lambda: DiscreteDiffusion.marginal(torch.ones(2, 2)), "vector"),
    (lambda: CosineSchedule(-0.1), "offset"),
    (lambda: CosineSchedule(math.nan), "offset"),
])  # fmt: skip
def test_limits_that_are_no_distribution_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize(("changes", "message"), [
    ({"x_0": torch.tensor([0, 3])}, r"0\.\.2, got 0\.\.3"),
    ({"x_t": torch.tensor([0, 4])}, r"0\.\.3, got 0\.\.4"),
    ({"x_t": torch.tensor([-1, 0])}, "x_t"),
    ({"x_0": torch.tensor([0.0, 1.0])}, "int64"),
    ({"x_0": torch.tensor([0])}, "x_0 must be"),
    ({"logits": torch.zeros(2, 4)}, "logits"),
    ({"t": torch.tensor([0.5, 0.5, 0.5])}, "broadcast"),
    ({"t": torch.tensor([[0.5]])}, "broadcast"),
    ({"t": torch.tensor(1)}, "floating"),
    ({"t": torch.tensor(1.1)}, "0 <= s < t <= 1"),
    ({"s": torch.tensor(0.5)}, "0 <= s < t <= 1"),
    ({"s": torch.tensor(-0.1)}, "0 <= s < t <= 1"),
])  # fmt: skip
def test_elements_logits_and_times_that_do_not_fit_are_refused(changes, message):
    good = {
        "logits": torch.zeros(2, 3),
        "x_0": torch.tensor([0, 2]),
        "x_t": torch.tensor([3, 2]),
        "t": torch.tensor(0.5),
        "s": torch.tensor(0.4),
    }
    diffusion = DiscreteDiffusion.absorbing(3)
    diffusion.losses(**good)
    with pytest.raises(InputError, match=message):
        diffusion.losses(**{**good, **changes})


def test_uniforms_must_be_one_per_element():
    diffusion = DiscreteDiffusion.uniform(2)
    with pytest.raises(InputError, match="one per element"):
        diffusion.q_sample(torch.tensor([0, 1]), torch.tensor(0.5), torch.zeros(()))
