"""The score behind a network of inputs and targets of unit variance."""

from __future__ import annotations

import pytest
import torch

from graphinv import testing
from graphinv.diffusion import VESDE, VPSDE, SubVPSDE, network_error, network_input, network_score

SDES = {"ve": VESDE(0.01, 50.0), "vp": VPSDE(0.1, 20.0), "subvp": SubVPSDE(0.1, 1.0)}
TIMES = torch.tensor([1e-4, 0.1, 0.5, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("name", SDES)
def test_for_gaussian_data_of_that_deviation_the_best_output_is_zero(name):
    sde, x = SDES[name], torch.randn(4, 3, 2, dtype=torch.float64)
    scale, std = sde.marginal(torch.ones_like(x), TIMES)
    exact = -x / (std.square() + 0.49 * scale.square())
    testing.assert_close(network_score(sde, x, torch.zeros_like(x), TIMES, 0.7), exact, "score")


@pytest.mark.parametrize("name", SDES)
def test_input_and_target_have_unit_variance_and_the_target_gives_the_score_of_the_noise(name):
    sde, generator = SDES[name], torch.Generator().manual_seed(0)
    data, z = (torch.randn(4, 20000, generator=generator, dtype=torch.float64) for _ in range(2))
    mean, std = sde.marginal(0.7 * data, TIMES)
    x = mean + std * z
    target = network_error(sde, network_score(sde, x, torch.zeros_like(x), TIMES, 0.7), z, TIMES, 0.7).neg()
    for field in (network_input(sde, x, TIMES, 0.7), target):
        assert float((field.var(1) - 1).abs().max()) < 0.05
    score = network_score(sde, x, target, TIMES, 0.7)
    torch.testing.assert_close(score * std, -z, atol=1e-6, rtol=0)
    assert float(network_error(sde, score, z, TIMES, 0.7).abs().max()) < 1e-6


def test_one_time_for_all_equals_the_same_time_for_each():
    x, out = torch.randn(2, 4, 3, 2, dtype=torch.float64).unbind(0)
    for sde in SDES.values():
        each = network_score(sde, x, out, torch.full((4,), 0.3, dtype=torch.float64), 0.5)
        testing.assert_close(network_score(sde, x, out, torch.tensor(0.3, dtype=torch.float64), 0.5), each, "score")
