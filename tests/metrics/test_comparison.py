"""Floors, verdicts and intervals of a distance."""

from __future__ import annotations

import pytest
import torch

from graphinv.metrics.comparison import Comparison
from graphinv.metrics.distance import Distance, Floor, figure

LOWER, SHARE = (
    Distance("x", "X", better, lambda samples, reference: None, bounds=bounds)
    for better, bounds in (("lower", (0.0, None)), ("higher", (0.0, 1.0)))
)


@pytest.mark.parametrize(
    ("better", "values", "inside", "beyond"),
    [
        ("lower", [1.0, 1.1, 0.9, 1.0], True, False),
        ("lower", [9.0, 9.1, 8.9, 9.0], False, False),
        ("lower", [0.1, 0.11, 0.09, 0.1], False, True),
        ("higher", [0.5, 0.51, 0.49, 0.5], False, False),
        ("higher", [0.99, 1.0, 0.99, 0.98], False, True),
    ],
)
def test_a_verdict_is_of_the_interval_beside_draws_of_real_data(better, values, inside, beyond):
    x = torch.tensor(values, dtype=torch.float64)
    floor = Floor(0.9, 9, (1.0, 0.1) if better == "lower" else (0.8, 0.05))
    distance = LOWER if better == "lower" else SHARE
    entry = figure(distance, Comparison(lambda weights: float(weights @ x), 4, 4), floor, repeats=50)
    assert (entry["inside_floor"], entry["beyond_floor"]) == (inside, beyond)
    assert entry["low"] <= entry["value"] <= entry["high"] and (better == "lower" or entry["high"] <= 1)
    assert (entry["draws"], entry["draws_spread"]) == floor.draws


def test_a_single_draw_of_real_data_tells_nothing_of_what_is_beyond_it():
    x = torch.tensor([1.0, 1.1, 0.9, 1.0], dtype=torch.float64)
    far = Comparison(lambda weights: float(weights @ x), 4, 4)
    assert figure(LOWER, far, Floor(9.0, 4, (9.0, None)), repeats=50)["beyond_floor"] is None
    assert figure(LOWER, far, Floor(9.0, 4, (9.0, None)), repeats=50)["inside_floor"] is True
    assert figure(LOWER, far, Floor(0.1, 4, (0.1, None)), repeats=50)["inside_floor"] is False
    assert figure(LOWER, far, Floor(9.0, 4, (9.0, None)), repeats=0)["inside_floor"] is None


def test_real_data_that_are_fewer_than_the_samples_give_no_verdict():
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    entry = figure(LOWER, Comparison(lambda weights: float(weights @ x), 2, 9), Floor(1.5, 1, None))
    assert (entry["floor"], entry["floor_count"], entry["draws"]) == (1.5, 1, None)
    assert entry["ratio"] is entry["inside_floor"] is entry["beyond_floor"] is None
