"""Estimates of the mean-field step against the sum over all subsets, with stated bounds on the noise."""

from __future__ import annotations

import pytest
import torch

from graphinv.aggr import GroupLayout
from graphinv.errors import InputError
from graphinv.sets import (
    CopulaPosterior,
    IndependentPosterior,
    PerSetNoise,
    SetFunction,
    elbo,
    enumerated_differences,
    exact_posterior,
    mean_field,
    mean_field_logits,
)
from graphinv.testing import assert_close

MODES = ["shared", "independent", "first_order", "expected", "enumerated"]
LAYOUT = GroupLayout.from_ptr(torch.tensor([0, 5, 6, 10]), 10)
OF_SET = [(0, 5), (5, 6), (6, 10)]


def problem(superset="concat", seed=0):
    torch.manual_seed(seed)
    function = SetFunction(3, 8, superset=superset).double()
    function.first.weight.data.mul_(2)
    generator = torch.Generator().manual_seed(seed)
    phi = 2 * torch.randn(10, 3, generator=generator, dtype=torch.float64)
    return function, phi, torch.rand(10, generator=generator, dtype=torch.float64)


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mode", MODES)
def test_of_a_modular_function_one_step_gives_the_exact_marginals(modular, mode):
    phi = torch.randn(12, 1, generator=noise(), dtype=torch.float64)
    layout = GroupLayout.from_ptr(torch.tensor([0, 12]), 12)
    exact = exact_posterior(modular, phi).marginals
    for start in (torch.full((12,), 0.5).double(), exact):
        psi = mean_field(modular, phi, layout, start, mode=mode, generator=noise())
        assert_close(psi, exact, "fixed point", tolerance=1e-12)


@pytest.mark.parametrize(("mode", "per_set"), [("shared", True), ("shared", False), ("independent", True)])
def test_sampled_differences_average_to_the_enumerated_ones(mode, per_set):
    function, phi, psi = problem()
    exact = enumerated_differences(function, phi, LAYOUT, psi)
    runs, m = 150, 25
    with torch.no_grad():
        means = torch.stack([
            mean_field_logits(
                function, phi, LAYOUT, psi, samples=m, mode=mode,
                generator=PerSetNoise(torch.arange(3), seed) if per_set else noise(seed),
            )
            for seed in range(runs)
        ])  # fmt: skip
    spread = means.std(0) / runs**0.5
    z = (means.mean(0) - exact) / spread.clamp(min=1e-12)
    assert float(z.detach().abs().max()) < 4.5
    assert float(spread[:5].min()) > 1e-4  # there is noise to average


@pytest.mark.parametrize("mode", ["shared", "independent"])
def test_gradients_of_the_estimates_average_to_the_gradient_of_the_expectation(mode):
    function, phi, psi = problem()
    phi.requires_grad_()
    weight = torch.randn(10, generator=noise(5), dtype=torch.float64)
    wanted = [function.first.weight, function.head.mlp.linears[0].weight, function.theta.linears[0].weight, phi]

    def slope(logits):
        grads = torch.autograd.grad((weight * logits).sum(), wanted)
        return torch.cat([g.flatten() for g in grads])

    exact = slope(enumerated_differences(function, phi, LAYOUT, psi))
    runs = 120
    slopes = torch.stack([
        slope(mean_field_logits(function, phi, LAYOUT, psi, samples=20, mode=mode, generator=noise(seed)))
        for seed in range(runs)
    ])  # fmt: skip
    z = (slopes.mean(0) - exact) / (slopes.std(0) / runs**0.5).clamp(min=1e-9)
    assert float(z.abs().max()) < 5
    assert float(exact.abs().max()) > 0.01


def test_a_shared_sample_spreads_no_more_than_independent_ones_of_the_same_number():
    function, phi, psi = problem()
    spread = {}
    with torch.no_grad():
        for mode in ("shared", "independent"):
            runs = [
                mean_field_logits(function, phi, LAYOUT, psi, samples=5, mode=mode, generator=noise(seed))
                for seed in range(600)
            ]
            spread[mode] = torch.stack(runs).var(0)
    ratio = spread["shared"][[*range(5), *range(6, 10)]] / spread["independent"][[*range(5), *range(6, 10)]]
    assert 0.75 < float(ratio.min()) and float(ratio.max()) < 1.33  # one element alone sees the same distribution


def test_first_order_is_exact_where_the_function_is_linear_and_not_where_it_bends():
    function, phi, psi = problem(None)
    bent = mean_field_logits(function, phi, LAYOUT, psi, samples=4000, mode="first_order", generator=noise())
    exact = enumerated_differences(function, phi, LAYOUT, psi)
    assert float((bent - exact).detach().abs().max()) > 0.01
    for layer in (function.first, function.head.mlp.linears[0]):  # no unit ever closes
        layer.bias.data.add_(1e3)
    straight = mean_field_logits(function, phi, LAYOUT, psi, samples=2, mode="first_order", generator=noise())
    assert_close(straight, enumerated_differences(function, phi, LAYOUT, psi), "linear", tolerance=1e-9)


def test_expected_mode_is_two_evaluations_at_the_expected_sum():
    function, phi, psi = problem(None)
    out = mean_field_logits(function, phi, LAYOUT, psi, mode="expected")
    for begin, end in OF_SET:
        for i in range(begin, end):
            others = sum((psi[j] * phi[j] for j in range(begin, end) if j != i), torch.zeros(3).double())
            f = [function.head(function.first(total), None) for total in (others + phi[i], others)]
            assert_close(out[i], f[0] - f[1], "expected", tolerance=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_psi_of_a_set_does_not_depend_on_its_batch(mode):
    function, phi, psi = problem()
    keys = torch.tensor([4, 9, 2])

    def run(phi, layout, psi, keys):
        return mean_field(function, phi, layout, psi, steps=3, mode=mode, generator=PerSetNoise(keys, 6)).detach()

    together = run(phi, LAYOUT, psi, keys)
    for k, (a, b) in enumerate(OF_SET):
        alone = run(phi[a:b], GroupLayout.from_ptr(torch.tensor([0, b - a]), b - a), psi[a:b], keys[k : k + 1])
        assert_close(alone, together[a:b], f"set {k}", tolerance=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_permuting_the_elements_permutes_psi_exactly_or_in_the_mean(mode):
    function, phi, psi = problem()
    order = torch.tensor([3, 0, 4, 1, 2, 5, 9, 8, 6, 7])

    def run(phi, psi):
        with torch.no_grad():
            return torch.stack([
                mean_field_logits(function, phi, LAYOUT, psi, samples=20, mode=mode, generator=noise(seed))
                for seed in range(1 if mode in ("expected", "enumerated") else 80)
            ])  # fmt: skip

    moved, expected = run(phi[order], psi[order]), run(phi, psi)[:, order]
    gap = moved.mean(0) - expected.mean(0)
    if moved.shape[0] == 1:
        assert float(gap.abs().max()) < 1e-12
    else:
        error = ((moved.var(0) + expected.var(0)) / moved.shape[0]).sqrt()
        assert float((gap / error.clamp(min=1e-12)).abs().max()) < 4.5


def test_equal_rows_get_equal_psi_without_noise():
    function, phi, psi = problem()
    phi[3], psi[3] = phi[1], psi[1]
    for mode in ("expected", "enumerated"):
        out = mean_field(function, phi, LAYOUT, psi, steps=2, mode=mode)
        assert_close(out[3], out[1], "twins", tolerance=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_steps_are_single_steps_in_a_row(mode):
    function, phi, psi = problem()
    source, again = noise(), noise()
    expected = psi
    for _ in range(3):
        expected = mean_field(function, phi, LAYOUT, expected, mode=mode, generator=source)
    assert_close(mean_field(function, phi, LAYOUT, psi, steps=3, mode=mode, generator=again), expected, "steps")


def test_gradients_reach_the_start_where_it_enters_smoothly():
    function, phi, psi = problem()
    psi.requires_grad_()
    for mode in MODES:
        out = mean_field_logits(function, phi, LAYOUT, psi, steps=2, mode=mode, generator=noise())
        slope = torch.autograd.grad(out.sum(), psi, allow_unused=True)[0]
        assert (slope is not None) == (mode in ("expected", "enumerated"))
    few = GroupLayout.from_ptr(torch.tensor([0, 4]), 4)

    def twice(phi, psi):
        return mean_field_logits(function, phi, few, psi, steps=2, mode="expected")

    assert torch.autograd.gradcheck(twice, (phi[:4].clone().requires_grad_(), psi[:4].detach().requires_grad_()))


def test_iterated_enumerated_steps_end_in_a_fixed_point_near_the_marginals():
    function, phi, psi = problem(seed=1)
    psi = mean_field(function, phi, LAYOUT, psi, steps=200, mode="enumerated").detach()
    again = mean_field(function, phi, LAYOUT, psi, mode="enumerated")
    assert_close(again, psi, "fixed point", tolerance=1e-8)
    for begin, end in OF_SET:
        gap = psi[begin:end] - exact_posterior(function, phi[begin:end]).marginals
        assert float(gap.detach().abs().max()) < 0.1


def test_the_elbo_is_a_lower_bound_and_tight_for_a_modular_function(modular):
    m = 8_000
    function, phi, psi = problem()
    with torch.no_grad():
        q = IndependentPosterior(psi.logit())
        bound = elbo(function, phi, LAYOUT, q, samples=m, temperature=1e-3, generator=noise())
        for k, (a, b) in enumerate(OF_SET):
            assert float(bound[k]) < float(exact_posterior(function, phi[a:b]).log_partition) + 0.02
    weight = phi[:, :1]
    tight = elbo(modular, weight, LAYOUT, IndependentPosterior(weight[:, 0]), samples=m, generator=noise())
    for k, (a, b) in enumerate(OF_SET):
        p = weight[a:b].sigmoid()
        error = float((weight[a:b] ** 2 * p * (1 - p)).sum() / m) ** 0.5
        assert abs(float(tight[k] - exact_posterior(modular, weight[a:b]).log_partition)) < 4.5 * error


def test_the_elbo_trains_the_posterior_towards_the_marginals(modular):
    """With the straight-through draws of the paper, at its temperature, for the function with known marginals."""
    phi = torch.tensor([[1.5], [-1.0], [0.0], [0.5], [-2.0]], dtype=torch.float64)
    layout = GroupLayout.from_ptr(torch.tensor([0, 5]), 5)
    logits = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer, generator = torch.optim.Adam([logits], lr=0.05), noise()
    average = torch.zeros(5, dtype=torch.float64)
    for step in range(400):
        optimizer.zero_grad()
        (-elbo(modular, phi, layout, IndependentPosterior(logits), samples=50, generator=generator)).sum().backward()
        optimizer.step()
        average += logits.detach() / 200 if step >= 200 else 0
    assert float((average.sigmoid() - phi[:, 0].sigmoid()).abs().max()) < 0.05


def test_the_elbo_reaches_every_part_of_a_copula():
    function, phi, psi = problem()
    parts = [psi.logit().requires_grad_(), torch.ones(10).double().requires_grad_(), torch.rand(10, 2).double()]
    parts[2].requires_grad_()
    elbo(function, phi, LAYOUT, CopulaPosterior(*parts), generator=noise()).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 and bool(p.grad.isfinite().all()) for p in parts)


def test_bad_settings_are_refused():
    function, phi, psi = problem()
    for changes, message in (
        ({"mode": "fast"}, "unknown mode 'fast'"),
        ({"steps": 0}, "at least 1"),
        ({"samples": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            mean_field(function, phi, LAYOUT, psi, **changes)
    with pytest.raises(InputError, match=r"one probability per element, \[10\]"):
        mean_field(function, phi, LAYOUT, psi[1:])
