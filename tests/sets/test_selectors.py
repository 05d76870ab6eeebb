from __future__ import annotations

import pytest
import torch
from torch import nn

from graphinv.aggr import LCMAggregation, MonoidBankAggregation
from graphinv.errors import InputError
from graphinv.sets import INSET, DeepSetsSelector, EquiVSet, SetBatch, SetTransformerSelector, two_moons
from graphinv.testing import assert_close

C = 8


def encoder():
    return nn.Sequential(nn.Linear(2, C), nn.ReLU(), nn.Linear(C, C))


NOISY = {
    "copula": lambda: EquiVSet(encoder, C, hidden=16),
    "independent": lambda: EquiVSet(encoder, C, hidden=16, posterior="independent", mode="independent"),
    "diffmf": lambda: EquiVSet(encoder, C, hidden=16, posterior="none", steps=3),
    "inset": lambda: INSET(encoder, C, hidden=16),
    "inset gate first order": lambda: INSET(encoder, C, hidden=16, superset="gate", mode="first_order"),
    "inset first order": lambda: INSET(encoder, C, hidden=16, mode="first_order"),
    "inset lcm": lambda: INSET(encoder, C, hidden=16, statistic=LCMAggregation(C, C)),
}
QUIET = {
    "expected": lambda: EquiVSet(encoder, C, hidden=16, mode="expected"),
    "inset monoids expected": lambda: INSET(
        encoder, C, hidden=16, mode="expected", statistic=MonoidBankAggregation(C, C)
    ),
    "diffmf enumerated": lambda: EquiVSet(encoder, C, hidden=16, posterior="none", steps=2, mode="enumerated"),
    "deep sets": lambda: DeepSetsSelector(encoder, C, hidden=16),
    "deep sets lcm": lambda: DeepSetsSelector(encoder, C, hidden=16, statistic=LCMAggregation(C, 5), negatives=1),
    "set transformer": lambda: SetTransformerSelector(encoder, C, hidden=16, heads=2),
}
EVERY = {**NOISY, **QUIET}
every = pytest.mark.parametrize("name", EVERY)


def make(name, dtype=torch.float64):
    torch.manual_seed(0)
    return EVERY[name]().to(dtype)


def batch(dtype=torch.float64):
    """Sets of 7, 1, 10, 7 and 3 elements, two of them equal."""
    sets = [two_moons(1, n=n, k=1, seed=n + 20 * j).x.to(dtype) for j, n in enumerate((7, 1, 10, 7, 3))]
    sets[2][4] = sets[2][1]
    return SetBatch.from_lists(sets, [[0, 3], [0], [1, 5, 6], [2], [0, 1, 2]])


@every
def test_scores_are_probabilities_that_the_seed_fixes(name):
    model, b = make(name), batch()
    psi = model.scores(b, seed=1)
    assert psi.shape == (28,) and not psi.requires_grad
    assert bool(((psi >= 0) & (psi <= 1)).all())
    state = torch.random.get_rng_state()
    assert torch.equal(model.scores(b, seed=1), psi)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(model.scores(b, seed=2), psi) == (name in QUIET)


@every
def test_scores_of_a_set_do_not_depend_on_its_batch(name):
    model, b = make(name), batch()
    together = model.scores(b, seed=1)
    for k in range(b.num_sets):
        alone = model.scores(b.select([k]), seed=1)
        assert_close(alone, together[b.ptr[k] : b.ptr[k + 1]], f"set {k}", tolerance=1e-10)
    order = [3, 0, 4, 2, 1]
    moved = model.scores(b.select(order), seed=1)
    expected = torch.cat([together[b.ptr[k] : b.ptr[k + 1]] for k in order])
    assert_close(moved, expected, "order of the sets", tolerance=1e-10)


@pytest.mark.parametrize("name", QUIET)
def test_permuting_the_elements_permutes_the_scores(name):
    model, b = make(name), batch()
    key = torch.rand(28, generator=torch.Generator().manual_seed(0)) + b.layout.index
    order = key.argsort()
    moved = SetBatch(b.x[order], b.ptr, b.selected[order])
    assert_close(model.scores(moved), model.scores(b)[order], "not equivariant", tolerance=1e-10)
    assert_close(model.scores(b)[8 + 4], model.scores(b)[8 + 1], "twins", tolerance=1e-10)


@every
def test_the_sizes_of_the_chosen_subsets(name):
    model, b = make(name), batch()
    scores = model.logits(b).detach()
    for sizes, expected in (
        ("oracle", [2, 1, 3, 1, 3]),
        (1, [1] * 5),
        (torch.tensor([4, 1, 10, 2, 1]), [4, 1, 10, 2, 1]),
    ):
        chosen = model.select(b, sizes)
        assert SetBatch(b.x, b.ptr, chosen).subset_sizes.tolist() == expected
        for k in range(5):
            rows = slice(int(b.ptr[k]), int(b.ptr[k + 1]))
            inside, outside = scores[rows][chosen[rows]], scores[rows][~chosen[rows]]
            assert not outside.numel() or float(inside.min()) >= float(outside.max())
    low, high = model.select(b, threshold=1e-9), model.select(b, threshold=1 - 1e-9)
    assert SetBatch(b.x, b.ptr, high).subset_sizes.tolist() == [1] * 5
    assert bool((low | ~high).all()) and int(low.sum()) > int(high.sum())
    assert torch.equal(model.select(b) & (model.scores(b) > 0.5), model.scores(b) > 0.5)


@every
def test_losses_are_finite_and_train_every_parameter(name):
    model, b = make(name), batch()
    losses = model.losses(b, torch.Generator().manual_seed(0))
    sum(losses.values()).backward()
    for label, p in model.named_parameters():
        if label == "utility.1.head.mlp.linears.1.bias":  # a constant in F cancels in every difference
            assert p.grad is None or float(p.grad.abs().max()) < 1e-12
        elif not label.endswith("identity"):
            assert p.grad is not None and bool(p.grad.isfinite().all()), label
    assert all(loss.dim() == 0 and bool(loss.isfinite()) for loss in losses.values())
    again = model.losses(b, torch.Generator().manual_seed(0))
    assert {k: float(v.detach()) for k, v in again.items()} == {k: float(v.detach()) for k, v in losses.items()}


@pytest.mark.parametrize("name", ["copula", "independent", "inset", "inset lcm", "expected"])
def test_each_network_gets_the_gradients_of_one_loss(name):
    model, b = make(name), batch()
    losses = model.losses(b, torch.Generator().manual_seed(0))
    assert sorted(losses) == ["function", "recognition"]
    for loss, own, other in (
        ("function", model.utility, model.recognition),
        ("recognition", model.recognition, model.utility),
    ):
        model.zero_grad()
        losses[loss].backward(retain_graph=True)
        assert all(p.grad is None for p in other.parameters())
        assert sum(float(p.grad.abs().sum()) > 0 for p in own.parameters() if p.grad is not None) > 3
    groups = model.networks()
    assert [len(g) for g in groups] == [len(list(m.parameters())) for m in (model.utility, model.recognition)]
    assert all(p.requires_grad for p in model.parameters())
    assert sorted(EVERY["diffmf"]().losses(batch(torch.float32))) == ["function"]


def test_the_recognition_loss_is_minus_the_elbo_with_the_entropy_of_coins():
    model, b = make("independent"), batch()
    with torch.no_grad():
        for p in model.function.parameters():
            p.zero_()  # F = 0, and all that is left is the entropy
        p = model.posterior(b).psi
        entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum() / 5
        assert_close(model.losses(b)["recognition"], -entropy, "entropy")


def test_only_sets_with_known_subsets_can_be_trained_on_and_all_can_be_chosen_from():
    b = batch()
    unknown = SetBatch(b.x, b.ptr)
    for name in EVERY:
        model = make(name)
        with pytest.raises(InputError, match="optimal subsets"):
            model.losses(unknown)
        with pytest.raises(InputError, match="optimal subsets"):
            model.select(unknown, "oracle")
        assert torch.equal(model.select(unknown), model.select(b))


def test_the_published_network_has_the_published_size_but_for_the_second_head():
    linear = 2 * 256 + 256
    model = EquiVSet(lambda: nn.Linear(2, 256))
    assert sum(p.numel() for p in model.parameters()) == 379_501 + 382_507 + 2 * linear
    larger = INSET(lambda: nn.Linear(2, 256))
    assert sum(p.numel() for p in larger.parameters()) == 379_501 + 382_507 + 2 * linear + 379_000


@every
def test_of_no_sets_nothing_is_chosen(name):
    model, nothing = make(name), batch().select([])
    assert model.scores(nothing).shape == (0,) and model.select(nothing).shape == (0,)
    assert model.select(nothing, "oracle").shape == (0,)


def test_a_saved_selector_comes_back():
    for name in EVERY:
        model, b = make(name), batch()
        torch.manual_seed(7)
        other = EVERY[name]().double()
        other.load_state_dict(model.state_dict())
        assert torch.equal(other.scores(b), model.scores(b))


SHARED = encoder()
BAD = {
    "sizes beyond the set": (lambda: make("inset").select(batch(), 2), "set 1 has 1 elements"),
    "no element": (lambda: make("inset").select(batch(), 0), "cannot be selected"),
    "unknown sizes": (lambda: make("inset").select(batch(), "best"), "unknown sizes 'best'"),
    "a threshold of one": (lambda: make("inset").select(batch(), threshold=1.0), "above 0 and below 1"),
    "unknown posterior": (lambda: EquiVSet(encoder, C, posterior="normal"), "copula, independent, none"),
    "no sample": (lambda: EquiVSet(encoder, C, samples=0), "samples, steps, rank >= 1"),
    "unknown mode": (lambda: EquiVSet(encoder, C, hidden=4, mode="fast").scores(batch(torch.float32)), "'fast'"),
    "no ground set for INSET": (lambda: INSET(encoder, C, superset=None), "EquiVSet is the one without"),
    "one encoder for both": (lambda: EquiVSet(lambda: SHARED, C), "the same module twice"),
    "heads that do not divide": (lambda: SetTransformerSelector(encoder, C, heads=3), "multiple of heads"),
    "no layer": (lambda: DeepSetsSelector(encoder, C, layers=0), "at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_refused(case):
    make_it, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make_it()
