from __future__ import annotations

import math

import pytest
import torch

from graphinv.errors import InputError
from graphinv.sets import gaussian_mixture, two_moons

MAKE = {"moons": two_moons, "mixture": gaussian_mixture}


@pytest.mark.parametrize("name", MAKE)
def test_sizes_are_those_asked_for_and_sets_do_not_depend_on_how_many_are_made(name):
    batch = MAKE[name](6, n=30, k=7, seed=3)
    assert batch.x.shape == (180, 2) and batch.x.dtype == torch.float32
    assert batch.sizes.tolist() == [30] * 6 and batch.subset_sizes.tolist() == [7] * 6
    fewer = MAKE[name](4, n=30, k=7, seed=3)
    assert torch.equal(fewer.x, batch.x[:120]) and torch.equal(fewer.selected, batch.selected[:120])
    assert not torch.equal(MAKE[name](4, n=30, k=7, seed=4).x, fewer.x)
    assert MAKE[name](0).num_sets == 0


@pytest.mark.parametrize("name", MAKE)
def test_the_places_of_the_few_are_even(name):
    count, n, k = 800, 12, 3
    share = MAKE[name](count, n=n, k=k, seed=1).selected.view(count, n).double().mean(0)
    p = k / n
    assert float((share - p).abs().max()) < 4.5 * math.sqrt(p * (1 - p) / count)


def test_moons_lie_on_their_arcs_with_the_noise_that_was_said():
    count, n = 60, 100
    batch = two_moons(count, seed=2)
    x = ((batch.x.double() - torch.tensor([-1.0, -0.2])) / 2).view(count, n, 2)
    few = batch.selected.view(count, n)
    t = torch.linspace(0, math.pi, 400).double()
    arcs = [torch.stack([t.cos(), t.sin()], 1), torch.stack([1 - t.cos(), 0.5 - t.sin()], 1)]
    distance = torch.stack([torch.cdist(x, arc).min(2).values for arc in arcs])  # [2, count, n]
    own = torch.where(few, 1.0, 0.0).mean()
    assert float(own) == pytest.approx(0.1)
    many_on = torch.where(few, 0, distance).sum(2).argmin(0)  # [count], the moon of the many
    assert abs(int(many_on.sum()) - count / 2) < 4.5 * math.sqrt(count) / 2
    on = torch.where(few, 1 - many_on.unsqueeze(1), many_on.unsqueeze(1))
    own_distance = distance.gather(0, on.unsqueeze(0))[0]
    for part in (own_distance[few], own_distance[~few]):
        assert 0.08 < float(part.square().mean().sqrt()) < 0.12  # noise across the arc: 0.1


def test_the_moons_are_evenly_spaced_along_the_arc():
    """Without the noise: sin and cos of n equal steps have known means and squares."""
    count, n = 300, 40
    batch = two_moons(count, n=n, k=1, seed=5)
    x = ((batch.x.double() - torch.tensor([-1.0, -0.2])) / 2).view(count, n, 2)
    centre = torch.where((x[..., 1].median(1).values > 0.25).unsqueeze(1), x[..., 0], 1 - x[..., 0])
    centre = centre[~batch.selected.view(count, n)]
    t = torch.linspace(0, math.pi, n).double()
    expected = float(t.cos().square().mean()) + 0.1**2
    error = float(centre.square().std()) / math.sqrt(centre.numel())
    assert abs(float(centre.square().mean()) - expected) < 4.5 * error
    assert abs(float(centre.mean())) < 4.5 * float(centre.std()) / math.sqrt(centre.numel())


def test_the_mixture_has_the_centres_and_the_spread_that_were_said():
    count, n, k = 200, 50, 10
    batch = gaussian_mixture(count, n=n, k=k, seed=2)
    x, few = batch.x.double().view(count, n, 2), batch.selected.view(count, n)
    side = torch.where((x * (~few).unsqueeze(2)).sum((1, 2)) > 0, 1.0, -1.0)  # of the many
    assert abs(float(side.mean())) < 4.5 / math.sqrt(count)
    sign = torch.where(few, -side.unsqueeze(1), side.unsqueeze(1)).unsqueeze(2)
    for part in ((x * sign)[few], (x * sign)[~few]):
        error = 0.5 / math.sqrt(part.shape[0])
        assert float((part.mean(0) - 1 / math.sqrt(2)).abs().max()) < 4.5 * error
        assert float((part.std(0) - 0.5).abs().max()) < 4.5 * error
        assert abs(float(torch.corrcoef(part.t())[0, 1])) < 4.5 / math.sqrt(part.shape[0])


@pytest.mark.parametrize("name", MAKE)
def test_impossible_sizes_are_refused(name):
    for count, n, k in ((-1, 10, 2), (3, 10, 0), (3, 10, 11)):
        with pytest.raises(InputError, match="1 <= k <= n"):
            MAKE[name](count, n=n, k=k)
    assert MAKE[name](2, n=5, k=5).subset_sizes.tolist() == [5, 5]
