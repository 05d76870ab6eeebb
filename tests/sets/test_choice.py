from __future__ import annotations

import pytest
import torch

from graphinv.errors import InputError
from graphinv.sets import SetBatch, above_threshold, top_k
from graphinv.sets.choice import labelled, membership_loss
from graphinv.testing import assert_close

SIZES = (4, 1, 7, 2)
PTR = torch.tensor([0, 4, 5, 12, 14])


def scores(seed=0):
    return torch.randn(14, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sizes", [1, torch.tensor([2, 1, 5, 2]), torch.tensor([4, 1, 7, 2])])
def test_the_k_best_of_each_set_are_chosen(sizes):
    s = scores()
    chosen = top_k(s, PTR, sizes)
    for b, n in enumerate(SIZES):
        k = int(sizes) if isinstance(sizes, int) else int(sizes[b])
        own = s[PTR[b] : PTR[b] + n].tolist()
        best = sorted(range(n), key=lambda i, own=own: -own[i])[:k]
        assert chosen[PTR[b] : PTR[b] + n].nonzero().flatten().tolist() == sorted(best)


def test_of_equal_scores_the_earlier_is_chosen():
    flat = torch.zeros(14)
    assert top_k(flat, PTR, 1).nonzero().flatten().tolist() == [0, 4, 5, 12]
    assert above_threshold(flat, PTR, 0.5).nonzero().flatten().tolist() == [0, 4, 5, 12]


def test_above_a_threshold_there_is_always_one():
    s = scores()
    for threshold in (-10.0, 0.0, 10.0):
        chosen = above_threshold(s, PTR, threshold)
        for b, n in enumerate(SIZES):
            own, picked = s[PTR[b] : PTR[b] + n], chosen[PTR[b] : PTR[b] + n]
            above = (own > threshold).tolist()
            expected = above if any(above) else [i == int(own.argmax()) for i in range(n)]
            assert picked.tolist() == expected


@pytest.mark.parametrize(("sizes", "message"), [
    (2, "set 1 has 1 elements, of which 2 cannot"),
    (0, "set 0 has 4 elements, of which 0 cannot"),
    (torch.tensor([1, 1, 8, 1]), "set 2 has 7 elements"),
    (torch.tensor([1, 1]), "whole numbers"),
    (1.5, "whole numbers"),
    (torch.ones(4).bool(), "whole numbers"),
])  # fmt: skip
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        top_k(scores(), PTR, sizes)


def test_scores_that_are_nan_are_refused():
    s = scores()
    s[3] = float("nan")
    for choose in (lambda: top_k(s, PTR, 1), lambda: above_threshold(s, PTR, 0.5)):
        with pytest.raises(InputError, match="NaN"):
            choose()


def test_negatives_are_as_many_as_asked_for_and_drawn_evenly():
    chosen = torch.zeros(14, dtype=torch.bool)
    chosen[[1, 4, 5, 9, 12, 13]] = True
    batch = SetBatch(torch.zeros(14, 1), PTR, chosen)
    generator, runs = torch.Generator().manual_seed(0), 600
    for negatives, others in ((1, (1, 0, 2, 0)), (3, (3, 0, 5, 0)), (0, (0, 0, 0, 0))):
        drawn = torch.stack([labelled(batch, negatives, generator) for _ in range(runs)])
        assert bool(drawn[:, chosen].all())
        for b, n in enumerate(SIZES):
            rows = torch.arange(int(PTR[b]), int(PTR[b]) + n)
            rest = drawn[:, rows[~chosen[rows]]].double()
            assert bool((rest.sum(1) == others[b]).all())
            if rest.shape[1]:
                p = others[b] / rest.shape[1]
                error = (p * (1 - p) / runs) ** 0.5
                assert float((rest.mean(0) - p).abs().max()) <= 4.5 * error
    assert bool(labelled(batch, None, generator).all())


def test_the_loss_is_the_cross_entropy_of_the_labelled_elements_of_a_set():
    chosen = torch.zeros(14, dtype=torch.bool)
    chosen[[1, 4, 5, 9, 12, 13]] = True
    batch = SetBatch(torch.zeros(14, 1), PTR, chosen)
    which = chosen.clone()
    which[[0, 7]] = True
    logits = scores().double()
    expected = 0.0
    for i in range(14):
        if which[i]:
            p = 1 / (1 + (-logits[i]).exp())
            expected -= (p if chosen[i] else 1 - p).log() / 4
    assert_close(membership_loss(logits, batch, which), expected, "loss")
    far = membership_loss(torch.full((14,), 200.0, requires_grad=True), batch, which)
    assert_close(far.detach(), torch.tensor(200.0 * 2 / 4), "no rounding of psi to 1", tolerance=1e-6)
