from __future__ import annotations

import math

import pytest
import torch

from graphinv.aggr import GroupLayout
from graphinv.errors import InputError
from graphinv.sets import CopulaPosterior, IndependentPosterior, PerSetNoise, RecognitionNetwork
from graphinv.testing import assert_close

LAYOUT = GroupLayout.from_ptr(torch.tensor([0, 2, 5]), 5)
LOGITS = torch.tensor([-2.0, 0.0, 1.0, 0.3, -0.7], dtype=torch.float64)
FACTORS = torch.tensor([[1.0, 0.5], [0.8, 0.0], [1.0, 1.0], [-0.5, 1.0], [0.2, -1.0]], dtype=torch.float64)
SCALE = torch.tensor([0.5, 0.1, 1.0, 2.0, 0.3], dtype=torch.float64)
POSTERIORS = {
    "independent": IndependentPosterior(LOGITS),
    "copula": CopulaPosterior(LOGITS, SCALE, FACTORS, standardize=True),
}


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", POSTERIORS)
def test_draws_are_zeros_and_ones_with_the_probabilities_psi(name):
    m = 40_000
    s = POSTERIORS[name].sample(LAYOUT, m, noise(), temperature=1e-3)
    assert bool(((s == 0) | (s == 1)).all())
    psi = 1 / (1 + (-LOGITS).exp())
    assert_close(POSTERIORS[name].psi, psi, "psi")
    z = (s.mean(1) - psi) / (psi * (1 - psi) / m).sqrt()
    assert float(z.abs().max()) < 4.5


def test_the_copula_correlates_as_its_gaussian_does():
    """At psi = 1/2 both members are positive with probability 1/4 + asin(rho) / (2 pi)."""
    m = 40_000
    s = CopulaPosterior(torch.zeros(5), SCALE, FACTORS, standardize=True).sample(LAYOUT, m, noise(), 1e-3)
    covariance = torch.diag(SCALE**2) + FACTORS @ FACTORS.t()
    rho = covariance / (covariance.diagonal().sqrt().outer(covariance.diagonal().sqrt()))
    for i in range(5):
        for j in range(i):
            same_set = (i < 2) == (j < 2)
            p = 0.25 + math.asin(float(rho[i, j]) if same_set else 0.0) / (2 * math.pi)
            z = (float((s[i] * s[j]).mean()) - p) / math.sqrt(p * (1 - p) / m)
            assert abs(z) < 4.5, (i, j, z)


def test_the_published_copula_is_the_true_one_where_the_variance_is_one():
    unit = SCALE / (SCALE**2 + (FACTORS**2).sum(1)).sqrt()
    factors = FACTORS / (SCALE**2 + (FACTORS**2).sum(1)).sqrt().unsqueeze(1)
    drawn = [CopulaPosterior(LOGITS, unit, factors, flag).sample(LAYOUT, 500, noise()) for flag in (True, False)]
    assert float((drawn[0] != drawn[1]).double().mean()) < 1e-3
    narrow = CopulaPosterior(LOGITS, 0.1 * SCALE, 0.1 * FACTORS).sample(LAYOUT, 20_000, noise(), 1e-3)
    assert float(narrow[2].mean()) > 0.95 > 0.9 > float(POSTERIORS["copula"].psi[2])  # not psi


@pytest.mark.parametrize("name", POSTERIORS)
def test_the_gradient_passes_straight_through_to_the_relaxed_draw(name):
    logits = LOGITS.clone().requires_grad_()
    q = IndependentPosterior(logits) if name == "independent" else CopulaPosterior(logits, SCALE, FACTORS)
    s = q.sample(LAYOUT, 200, noise(), temperature=0.5)
    slope = torch.autograd.grad(s.sum(), logits)[0]
    # E[p (1 - p)] / 0.5 over the noise, from 1/4 / 0.5 down to 0: positive, and largest nowhere above 1/2 a draw
    assert bool((slope > 0).all()) and float(slope.max()) <= 200 * 0.25 / 0.5
    shifted = CopulaPosterior if name == "copula" else IndependentPosterior
    rest = (SCALE, FACTORS) if name == "copula" else ()
    soft = [
        shifted(LOGITS + d, *rest)._logistic(LAYOUT, 200, noise()).add((LOGITS + d).unsqueeze(1)).div(0.5).sigmoid()
        for d in (1e-5, -1e-5)
    ]
    assert_close(slope, ((soft[0] - soft[1]) / 2e-5).sum(1), "slope", tolerance=1e-6)


def test_entropy_is_that_of_coins_also_at_the_ends():
    logits = torch.tensor([0.0, 2.0, 800.0, -800.0, -1.0], dtype=torch.float64, requires_grad=True)
    entropy = IndependentPosterior(logits).entropy(LAYOUT)
    p = [1 / (1 + math.exp(-v)) for v in (0.0, 2.0, -1.0)]
    coins = [-v * math.log(v) - (1 - v) * math.log(1 - v) for v in p]
    expected = torch.tensor([coins[0] + coins[1], coins[2]], dtype=torch.float64)
    assert_close(entropy.detach(), expected, "entropy")
    assert bool(torch.autograd.grad(entropy.sum(), logits)[0].isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_and_scales_stay_finite(dtype):
    logits = torch.tensor([-90.0, 90.0, 0.0, 0.0, 0.0], dtype=dtype, requires_grad=True)
    scale = torch.tensor([30.0, 30.0, 1e-8, 1.0, 1.0], dtype=dtype, requires_grad=True)
    factors = torch.ones(5, 2, dtype=dtype, requires_grad=True)
    for seed in range(5):
        s = CopulaPosterior(logits, scale, factors).sample(LAYOUT, 50, PerSetNoise(torch.arange(2), seed))
        slopes = torch.autograd.grad(s.sum(), [logits, scale, factors])
        assert s.dtype == dtype and all(bool(g.isfinite().all()) for g in (s, *slopes))


def test_draws_of_a_set_do_not_depend_on_its_batch():
    alone = GroupLayout.from_ptr(torch.tensor([0, 3]), 3)
    q = CopulaPosterior(LOGITS[2:], SCALE[2:], FACTORS[2:])
    one = q.sample(alone, 100, PerSetNoise(torch.tensor([8])))
    both = CopulaPosterior(LOGITS, SCALE, FACTORS).sample(LAYOUT, 100, PerSetNoise(torch.tensor([3, 8])))
    assert torch.equal(one, both[2:])


def test_the_published_recognition_network_has_the_published_size_and_sees_one_element_at_a_time():
    network = RecognitionNetwork()
    assert sum(p.numel() for p in network.parameters()) == 382_507
    phi = torch.randn(6, 256)
    together, alone = network(phi), network(phi[2:3])
    for a, b in ((together.logits, alone.logits), (together.scale, alone.scale), (together.factors, alone.factors)):
        assert_close(b, a[2:3], "element")
    assert bool((together.scale > 0).all()) and together.factors.shape == (6, 5)
    assert type(RecognitionNetwork(rank=0)(phi)) is IndependentPosterior


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="rank >= 0"):
        RecognitionNetwork(rank=-1)
    for count, temperature in ((0, 0.1), (3, 0.0), (3, float("nan"))):
        with pytest.raises(InputError, match="temperature > 0"):
            POSTERIORS["independent"].sample(LAYOUT, count, temperature=temperature)
