"""Normalisation: what becomes of the residual stream, and that "batch" is torch's on the rows that exist."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphinv.errors import InputError
from graphinv.nn.norm import MaskedBatchNorm, ResidualNorm
from graphinv.testing import assert_close

DTYPES = (torch.float32, torch.float64)


def rows(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) * 3 + 1


def scrambled(norm, dtype=torch.float64):
    for k, p in enumerate(norm.parameters()):
        p.data = rows(*p.shape, seed=k + 1).to(dtype)
    return norm.to(dtype)


def mask_of(*shape, seed=5):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.6


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_row_norms_leave_the_residual_alone_and_never_look_at_the_mask(kind, dtype):
    norm, x = scrambled(ResidualNorm(6, kind), dtype), rows(2, 5, 6, dtype=dtype)
    before = x.clone()
    for training in (True, False):
        residual, normal = norm.train(training)(x, mask_of(2, 5))
        assert residual is x and torch.equal(x, before)
        assert torch.equal(normal, norm(x)[1]) and not torch.equal(normal, x)
        for k in range(2):
            assert_close(norm(x[k, :1])[1], normal[k, :1], "a row alone")


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_replaces_the_residual_by_its_output_but_not_in_place(training):
    norm, x = scrambled(ResidualNorm(6, "batch")).train(training), rows(4, 3, 6)
    before = x.clone()
    residual, normal = norm(x, mask_of(4, 3))
    assert residual is normal and not torch.allclose(residual, x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_batch_norm_is_that_of_torch_on_the_rows_of_the_mask_with_its_running_statistics(dtype):
    own, theirs = scrambled(MaskedBatchNorm(5), dtype), scrambled(nn.BatchNorm1d(5), dtype)
    for step in range(3):
        x, mask = rows(3, 4, 4, 5, dtype=dtype, seed=step), mask_of(3, 4, 4, seed=step)
        assert_close(own(x, mask)[mask], theirs(x[mask]), "training")
        assert_close(own.running_mean, theirs.running_mean, "running mean")
        assert_close(own.running_var, theirs.running_var, "running variance")
    own.eval(), theirs.eval()
    x = rows(7, 5, dtype=dtype, seed=9)
    before = own.running_mean.clone()
    assert_close(own(x, mask_of(7)), theirs(x), "eval")
    assert torch.equal(own.running_mean, before)


def test_batch_norm_has_the_gradients_of_torch():
    own, theirs = scrambled(MaskedBatchNorm(3)), scrambled(nn.BatchNorm1d(3))
    mask, weight = mask_of(2, 6), rows(2, 6, 3, seed=8)
    grads = []
    for norm in (own, theirs):
        x = rows(2, 6, 3).requires_grad_()
        out = own(x, mask)[mask] if norm is own else theirs(x[mask])
        (out * weight[mask]).sum().backward()
        grads.append((x.grad, norm.weight.grad, norm.bias.grad))
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, "gradient")


def test_what_is_outside_the_mask_changes_neither_the_rows_nor_the_statistics():
    x, mask = rows(4, 5, 3), mask_of(4, 5)
    junk = torch.where(mask.unsqueeze(-1), x, 1e3 * rows(4, 5, 3, seed=1))
    a, b = (scrambled(MaskedBatchNorm(3)) for _ in range(2))
    assert_close(a(x, mask)[mask], b(junk, mask)[mask], "rows")
    assert_close(a.running_var, b.running_var, "statistics")
    everything = mask | True
    assert_close(scrambled(MaskedBatchNorm(3))(x), scrambled(MaskedBatchNorm(3))(x, everything), "no mask is all rows")


@pytest.mark.parametrize("rows_left", [0, 1])
def test_batch_norm_of_one_row_or_none_is_finite(rows_left):
    norm = MaskedBatchNorm(2).double()
    x = rows(3, 2).requires_grad_()
    out = norm(x, torch.arange(3) < rows_left)
    out.sum().backward()
    assert bool(out.isfinite().all()) and bool(x.grad.isfinite().all()) and bool(norm.running_var.isfinite().all())
    assert norm(torch.zeros(0, 2, dtype=torch.float64)).shape == (0, 2)


def test_an_unknown_norm_is_refused_by_name():
    with pytest.raises(InputError, match="layer, rms, batch, got 'instance'"):
        ResidualNorm(4, "instance")
