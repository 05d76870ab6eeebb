"""Settings refuse what cannot be meant, and durations read as they are written."""

from __future__ import annotations

import pytest

from graphinv.errors import InputError
from graphinv.models import GDSS, PARD, generator_class, generator_kinds
from graphinv.training import TrainConfig
from graphinv.training.config import parse_duration


@pytest.mark.parametrize(("text", "seconds"), [
    ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172_800), ("0.5h", 1800), ("1d1h1m1s", 90_061), ("1.5s", 1.5),
])  # fmt: skip
def test_durations_are_sums_of_their_parts(text, seconds):
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "1 h", "-5m", "1h-5m", "5w", "1..5h", "0s", "0h0m", "1e3s", "30M"])
def test_unreadable_durations_are_refused_with_examples(text):
    with pytest.raises(InputError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize("change", [
    {"max_epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": -1.0}, {"ema": 1.0}, {"ema": -0.1},
    {"gamma": 0.0}, {"gamma": 1.5}, {"max_time": "soon"}, {"validate_every": 0}, {"schedule": "linear"}, {"seed": -1},
    {"clip": -1.0}, {"weight_decay": -1.0}, {"learning_rate": float("nan")},
    {"learning_rate": float("inf")}, {"clip": float("inf")}, {"weight_decay": float("inf")},
])  # fmt: skip
def test_impossible_settings_are_refused(change):
    with pytest.raises(InputError):
        TrainConfig(**change)


@pytest.mark.parametrize(
    ("model", "name"), [(kind, name) for kind in generator_kinds() for name in generator_class(kind).presets]
)
def test_every_preset_has_settings(model, name):
    settings = TrainConfig.preset(name, model, max_epochs=3)
    assert settings.max_epochs == 3 and settings == TrainConfig.preset(name, generator_class(model), max_epochs=3)


def test_a_preset_is_of_the_first_generator_that_has_it_unless_told_otherwise_and_of_a_known_model():
    assert TrainConfig.preset("qm9") == TrainConfig.preset("qm9", GDSS) != TrainConfig.preset("qm9", PARD)
    assert TrainConfig.preset("planar") == TrainConfig.preset("planar", "pard")
    with pytest.raises(InputError, match="available: .*zinc250k-gmh"):
        TrainConfig.preset("nosuch")
    with pytest.raises(InputError, match="gdss, pard"):
        TrainConfig.preset("qm9", "nosuch")
    with pytest.raises(InputError, match="available: .*planar"):
        TrainConfig.preset("zinc250k-gmh", "pard")
