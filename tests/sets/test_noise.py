from __future__ import annotations

import pytest
import torch

from graphinv.aggr import GroupLayout
from graphinv.errors import InputError
from graphinv.sets import PerSetNoise
from graphinv.sets.noise import pair_uniform, pairs, row_uniform, set_uniform

DRAWS = {"row": row_uniform, "set": set_uniform, "pair": pair_uniform}


def layout(*sizes):
    return GroupLayout.from_ptr(torch.tensor([0, *sizes]).cumsum(0), sum(sizes))


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("per_set", [True, False])
def test_draws_are_uniform_and_uncorrelated(name, per_set):
    where = layout(*[30] * 40)
    noise = PerSetNoise(torch.arange(40), 3) if per_set else torch.Generator().manual_seed(0)
    first, second = (DRAWS[name](noise, where, 50).double() for _ in range(2))
    n = first.numel()
    assert 0 < float(first.min()) and float(first.max()) < 1 and first.unique().numel() > 0.9 * min(n, 1 << 23)
    for what in (first, second):
        assert abs(float(what.mean()) - 0.5) < 5 * (1 / 12 / n) ** 0.5
        assert abs(float(what.var()) - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    neighbours = [(first, second), (first[1:], first[:-1]), (first[:, 1:], first[:, :-1])]
    for a, b in neighbours:
        product = (a - 0.5) * (b - 0.5)
        assert abs(float(product.mean())) < 5 / 12 / product.numel() ** 0.5


@pytest.mark.parametrize("name", DRAWS)
def test_draws_of_a_set_depend_on_its_key_and_not_on_its_batch(name):
    together = PerSetNoise(torch.tensor([9, 4, 7]), 1)
    alone = PerSetNoise(torch.tensor([4]), 1)
    for _ in range(2):  # calls are counted
        a = DRAWS[name](together, layout(2, 5, 3), 4)
        b = DRAWS[name](alone, layout(5), 4)
        before = {"row": 2, "set": 1, "pair": 4}[name]
        assert torch.equal(a[before : before + b.shape[0]], b)
    assert not torch.equal(DRAWS[name](PerSetNoise(torch.tensor([4]), 2), layout(5), 4), b)


def test_pairs_are_all_pairs_of_one_set():
    row, column = pairs(layout(2, 1, 3))
    expected = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), *((i, j) for i in (3, 4, 5) for j in range(3))]
    assert list(zip(row.tolist(), column.tolist(), strict=True)) == expected


def test_keys_are_one_whole_number_per_set():
    for keys in (torch.zeros(2), torch.zeros(2, 2, dtype=torch.int64)):
        with pytest.raises(InputError, match="one int64 per set"):
            PerSetNoise(keys)
