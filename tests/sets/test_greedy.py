"""The probabilistic greedy model against loops over single sets, steps and elements."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from graphinv.errors import InputError
from graphinv.sets import FitConfig, GreedySelector, SetBatch, fit, gaussian_mixture, mean_jaccard
from graphinv.testing import assert_close

SIZES = (3, 1, 6, 4)
SUBSETS = ((0, 2), (0,), (5, 1, 2), (3,))


def batch(subsets=SUBSETS):
    x = torch.randn(14, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return SetBatch.from_lists(list(x.split(SIZES)), subsets)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GreedySelector(lambda: nn.Linear(4, 8), 8, hidden=5, temperature=0.3).double()


def gains(model, rows, chosen):
    """(F(S u {i}) - F(S)) / T of every element outside of S, one at a time."""
    f = model.function

    def value(members):
        x = f.first.weight @ model.encoder(rows[sorted(members)]).sum(0) + f.first.bias
        return f.head(x.view(1, 1, -1), None).flatten()[0]

    base = value(chosen)
    return {i: (value({*chosen, i}) - base) / model.temperature for i in range(len(rows)) if i not in chosen}


def test_greed_takes_the_largest_gain_in_every_step(model):
    b = batch()
    chosen, expected = model.select(b, "oracle"), []
    for rows, subset in zip(b.x.split(SIZES), SUBSETS, strict=True):
        taken: set[int] = set()
        for _ in subset:
            found = gains(model, rows, taken)
            taken.add(max(found, key=found.get))
        expected += [i in taken for i in range(len(rows))]
    assert chosen.tolist() == expected


def test_the_likelihood_is_a_product_of_softmaxes_in_some_order_of_the_subset(model):
    b = batch()
    found = model.log_likelihood(model.encoder(b.x), b, torch.Generator().manual_seed(3))
    for rows, subset, value in zip(b.x.split(SIZES), SUBSETS, found, strict=True):
        possible = []
        for order in itertools.permutations(subset):
            terms = [(gains(model, rows, set(order[:t])), i) for t, i in enumerate(order)]
            possible.append(sum(g[i] - torch.stack(list(g.values())).logsumexp(0) for g, i in terms).detach())
        assert min(float((value.detach() - p).abs()) for p in possible) < 1e-12


def test_the_probabilities_of_all_choices_in_all_orders_sum_to_one(model):
    rows, total = batch().x[4:10], 0.0
    for subset in itertools.combinations(range(6), 2):
        one = SetBatch.from_lists([rows], [subset])
        seen = {round(model.log_likelihood(model.encoder(rows), one).exp().item(), 12) for _ in range(40)}
        assert len(seen) == 2  # both orders were drawn
        total += sum(seen)
    assert abs(total - 1) < 1e-9


def test_logits_hold_the_whole_order_of_choice(model):
    b = batch()
    order = model.logits(b)
    assert order.dtype == torch.float64
    for count in (1, 2):
        kept = b.select([0, 2, 3])
        rows = torch.cat([order[:3], order[4:]])
        best = torch.cat([part >= part.sort(descending=True).values[count - 1] for part in rows.split((3, 6, 4))])
        assert torch.equal(model.select(kept, count), best)
    assert torch.equal(model.logits(b.select([2])), order[4:10])  # batch-mates change nothing


def test_gradients_reach_every_parameter(model):
    model.losses(batch(), torch.Generator().manual_seed(0))["likelihood"].backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 1e-12]
    assert len(still) == 1, still  # the last bias of F cancels in every gain


def test_a_view_of_the_ground_set_tells_which_cluster_is_the_smaller():
    train, other = gaussian_mixture(200, n=20, k=3, seed=0), gaussian_mixture(100, n=20, k=3, seed=1)
    found = []
    for superset in (None, "concat"):
        torch.manual_seed(0)
        learner = GreedySelector(lambda: nn.Linear(2, 16), 16, hidden=32, superset=superset)
        fit(learner, train, other, FitConfig(learning_rate=3e-3, max_epochs=12, batch_size=16), progress=False)
        found.append(mean_jaccard(learner.select(other, 3), other.truth, other.ptr))
    assert found[1] > found[0] + 0.2


def test_orders_average_the_bound(model):
    b = batch()
    model.orders = 300
    mean = -model.losses(b, torch.Generator().manual_seed(0))["likelihood"]
    every = torch.stack([model.log_likelihood(model.encoder(b.x), b).mean() for _ in range(300)])
    assert_close(mean, every.mean(), "bound", tolerance=6 * float(every.std()) / 300**0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.select(batch()), "cannot tell when to stop"),
        (lambda m: m.select(batch(), 2), "set 1 has 1 elements"),
        (lambda m: m.select(batch(), "best"), "unknown sizes 'best'"),
        (lambda m: GreedySelector(nn.Identity, 4, temperature=0), "temperature"),
        (lambda m: GreedySelector(nn.Identity, 4, orders=0), "orders"),
    ],
)
def test_mistakes_are_named(model, call, message):
    with pytest.raises(InputError, match=message):
        call(model)
