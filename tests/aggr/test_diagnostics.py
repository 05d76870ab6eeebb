"""The two errors: known cases, of any callable, and bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.aggr import lcm as pyg_lcm  # PyG's own, whatever is registered

from graphinv.aggr import batch_consistency_error, invariance_error
from graphinv.errors import InputError

X = torch.tensor([[1.0], [3.0], [3.0]])


def first(x, index, dim_size):
    return x[:1].expand(dim_size, -1)


def test_known_errors():
    assert invariance_error(first, X, permutations=20) == 2.0
    assert batch_consistency_error(first, X, torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)
    index = torch.tensor([0, 1, 1])
    assert invariance_error(pyg.SumAggregation(), X, index) == 0
    assert batch_consistency_error(pyg.SumAggregation(), X, index) == 0
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    assert invariance_error(pyg_lcm.LCMAggregation(4, 4, project=False), rows, torch.arange(9) // 3) > 1e-3


def test_results_that_are_not_finite():
    assert math.isnan(invariance_error(lambda x, index, dim_size: x[:1] * math.nan, X))
    assert math.isnan(batch_consistency_error(lambda x, index, dim_size: x[:1] * math.nan, X))
    assert invariance_error(lambda x, index, dim_size: x[:1] / 0, X) == 0


def test_a_module_is_left_as_it_was():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(1, 1)).train()
    model[1].eval()
    invariance_error(lambda x, index, dim_size: model(x).sum(0, keepdim=True), X)

    class Pool(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x, index, dim_size):
            assert not self.training
            return self.inner(x).sum(0, keepdim=True)

    pool = Pool()
    assert invariance_error(pool, X) < 1e-6
    assert pool.training and model[0].training and not model[1].training


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: invariance_error(first, X, permutations=0), "permutations"),
        (lambda: batch_consistency_error(first, X, groups=0), "groups"),
        (lambda: invariance_error(first, X[0]), r"\[N, F\]"),
        (lambda: batch_consistency_error(first, X, torch.tensor([0, -1, 0])), "at least 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
