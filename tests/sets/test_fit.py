from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from graphinv.errors import InputError
from graphinv.sets import INSET, DeepSetsSelector, EquiVSet, FitConfig, SetBatch, fit, mean_jaccard, top_k, two_moons


def encoder():
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16))


def small(seed=0):
    torch.manual_seed(seed)
    return EquiVSet(encoder, 16, hidden=32)


def data(count=40, seed=0):
    return two_moons(count, n=10, k=2, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [EquiVSet, INSET])
def test_training_on_two_moons_finds_the_few_points_of_the_other_moon(kind):
    train, validation, test = (two_moons(count, n=20, k=4, seed=s) for s, count in enumerate((300, 100, 100)))
    torch.manual_seed(0)
    model = kind(encoder, 16, hidden=48)
    chance = mean_jaccard(top_k(torch.rand(2000), test.ptr, 4), test.truth, test.ptr)
    config = FitConfig(learning_rate=3e-3, batch_size=32, max_epochs=14, max_time_s=60)
    result = fit(model, train, validation, config, progress=False)
    known = mean_jaccard(model.select(test, "oracle"), test.truth, test.ptr)
    unknown = mean_jaccard(model.select(test), test.truth, test.ptr)
    assert chance < 0.2 and result.validation[0] < 0.8
    assert known > 0.85 and unknown > 0.75


def test_the_weights_of_the_best_epoch_are_kept():
    model = small()
    result = fit(model, data(), data(20, 1), FitConfig(learning_rate=3e-2, max_epochs=8, batch_size=8), progress=False)
    validation = data(20, 1)
    assert len(result.validation) <= 8 and result.seconds > 0
    assert result.validation[result.best_epoch] == max(result.validation)
    assert result.best_epoch == result.validation.index(max(result.validation))
    again = mean_jaccard(model.select(validation, "oracle"), validation.truth, validation.ptr)
    assert again == pytest.approx(max(result.validation), abs=1e-12)
    assert not model.training


def test_equal_seeds_give_equal_weights_and_others_do_not():
    def run(seed):
        model = small()
        fit(model, data(), data(10, 1), FitConfig(max_epochs=2, batch_size=16, seed=seed), progress=False)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.manual_seed(123)
    first = run(0)
    torch.manual_seed(321)  # the global stream plays no part
    assert torch.equal(run(0), first) and not torch.equal(run(1), first)


def test_training_ends_when_validation_stops_getting_better():
    model = DeepSetsSelector(encoder, 16, hidden=8)
    config = FitConfig(learning_rate=1e-30, weight_decay=0, max_epochs=50, patience=3)
    result = fit(model, data(), data(10, 1), config, progress=False)
    assert result.best_epoch == 0 and len(result.validation) == 4


def test_training_ends_when_time_is_up_and_still_has_weights():
    result = fit(small(), data(), data(10, 1), FitConfig(max_time_s=1e-9), progress=False)
    assert len(result.validation) == 1


def test_gradients_are_clipped_network_by_network():
    model, seen = small(), []

    def norms(*_):
        seen.extend(torch.stack([p.grad.norm() for p in group]).norm() for group in model.networks())

    handle = register_optimizer_step_pre_hook(norms)
    try:
        fit(model, data(), data(10, 1), FitConfig(clip=1e-3, max_epochs=1, batch_size=40), progress=False)
    finally:
        handle.remove()
    assert len(seen) == 2 and all(float(norm) == pytest.approx(1e-3, rel=1e-2) for norm in seen)


def test_a_training_that_diverges_stops_with_an_error():
    with pytest.raises(InputError, match="stopped being finite"):
        fit(small(), data(), data(10, 1), FitConfig(learning_rate=1e30, max_epochs=5, batch_size=8), progress=False)


def test_bad_settings_and_sets_are_refused():
    for changes in ({"learning_rate": 0}, {"batch_size": 0}, {"patience": 0}, {"clip": -1}, {"max_time_s": 0}):
        with pytest.raises(InputError, match=next(iter(changes))):
            FitConfig(**changes)
    good = data()
    with pytest.raises(InputError, match="train must hold at least one set"):
        fit(small(), good.select([]), good)
    with pytest.raises(InputError, match="optimal subsets"):
        fit(small(), good, SetBatch(good.x, good.ptr))
