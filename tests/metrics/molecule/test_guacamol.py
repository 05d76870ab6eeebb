"""The scores of GuacaMol equal those of its own code, and behave where it fails."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from graphinv.metrics.comparison import Comparison, interval
from graphinv.metrics.distance import Undefined
from graphinv.metrics.molecule.guacamol import _continuous, _discrete, fcd_score, guacamol_reference, kl_score

FIXTURE = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "metrics" / "guacamol_smallmol.json").read_text(encoding="utf-8")
)
SAMPLES, REFERENCE = FIXTURE["samples"], FIXTURE["reference"]


def equal(count: int) -> torch.Tensor:
    return torch.full((count,), 1 / count, dtype=torch.float64)


def test_the_kl_score_is_that_of_guacamol() -> None:
    score = kl_score(SAMPLES, REFERENCE)
    assert score.value == pytest.approx(FIXTURE["kl_score"], rel=1e-9)
    parts = [math.exp(-value) for value in FIXTURE["kl_divergences"].values()]
    assert score.value == pytest.approx(sum(parts) / 10, rel=1e-9)
    low, high = interval(score, repeats=20)
    assert low < score.value < high


def test_a_set_with_itself_scores_one_in_any_order_and_repeats_count_once() -> None:
    assert kl_score(SAMPLES, SAMPLES[::-1]).value == pytest.approx(1, abs=1e-9)
    again = kl_score([*SAMPLES[::-1], *SAMPLES[:30]], REFERENCE)
    assert again.count == len(SAMPLES) and again.value == pytest.approx(FIXTURE["kl_score"], rel=1e-9)


def test_the_fcd_score_falls_with_the_distance_at_every_weight() -> None:
    x = torch.arange(5, dtype=torch.float64)
    fcd = Comparison(lambda weights: float(weights @ x), 5, 7)
    score = fcd_score(fcd)
    assert score.value == pytest.approx(math.exp(-0.4)) and (score.count, score.reference_count) == (5, 7)
    assert score.of(torch.nn.functional.one_hot(torch.tensor(4), 5).double()) == pytest.approx(math.exp(-0.8))


def test_the_reference_is_guacamols_draw_of_ten_thousand() -> None:
    numbers = [str(k) for k in range(20_000)]
    chosen = guacamol_reference(numbers)
    assert len(set(chosen)) == 10_000
    assert chosen[:5] == ["10650", "2041", "8668", "1114", "13902"]  # guacamol 0.5.5, get_random_subset, seed 42
    assert chosen[-3:] == ["12777", "5279", "11624"]
    state = np.random.get_state()[1].copy()
    guacamol_reference(numbers)
    assert bool((state == np.random.get_state()[1]).all())
    assert guacamol_reference(chosen) == chosen


def test_densities_that_differ_more_diverge_more_and_weights_move_them() -> None:
    x = torch.randn(300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    far = [_continuous(x, x + shift, "x")(equal(300)) for shift in (0.0, 0.5, 1.0, 3.0)]
    assert far == sorted(far) and far[0] == pytest.approx(0, abs=1e-12)
    both = torch.cat([x, x + 3])
    weights = torch.cat([equal(300), torch.zeros(300, dtype=torch.float64)])
    divergence = _continuous(x, both, "x")
    assert divergence(weights) < divergence(equal(600)) < divergence(weights.flip(0))


def test_histograms_ignore_what_is_outside_of_the_reference() -> None:
    counts = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert _discrete(counts, counts)(equal(4)) == pytest.approx(0, abs=1e-12)
    assert _discrete(counts, torch.tensor([0.0, 1.0, 2.0, 3.0, 99.0, -4.0]))(equal(6)) == pytest.approx(0, abs=1e-12)
    assert _discrete(counts, torch.tensor([99.0]))(equal(1)) == math.inf
    assert _discrete(torch.zeros(3), torch.zeros(2))(equal(2)) == pytest.approx(0, abs=1e-12)


def test_a_descriptor_without_spread_is_refused_by_its_name() -> None:
    for samples in (["CCO"], ["CCO"] * 5, []):
        with pytest.raises(Undefined, match="samples with at least two different values of BertzCT"):
            kl_score(samples, REFERENCE[:20])
    with pytest.raises(Undefined, match="reference with at least two different values"):
        kl_score(SAMPLES[:20], ["CCO"])
    with pytest.raises(Undefined, match="different values of TPSA"):
        kl_score(["CC", "CCCC", "CCC1CC1"], REFERENCE[:20])
