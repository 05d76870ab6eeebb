"""The squared discrepancy against its definition written as loops, and what stays the same whatever the rows are."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphinv.errors import InputError
from graphinv.metrics.comparison import interval
from graphinv.metrics.mmd import Kernel, kernel_matrix, mmd

RBF = Kernel("rbf", sigmas=(0.1, 0.5, 1.0, 5.0))
PLAIN = [Kernel("tv", 0.3), Kernel("emd", 0.5), Kernel("emd", 0.1, bins=6, unit=6.0), Kernel("gaussian", 0.7)]
ALL = [*PLAIN, RBF]
UNEVEN = torch.tensor([2, 0, 1, 3], dtype=torch.float64) / 6


def histograms(rows: int, width: int, seed: int) -> Tensor:
    draws = torch.rand(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 3
    return draws / draws.sum(1, keepdim=True)


def kernel_by_hand(p: list[float], q: list[float], kernel: Kernel, sigma: float) -> float:
    if kernel.kind == "tv":
        distance = sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2
    elif kernel.kind == "emd":
        moved = carried = 0.0
        for a, b in zip(p, q, strict=True):
            carried += a - b
            moved += abs(carried)
        distance = moved / kernel.unit
    else:
        distance = math.dist(p, q)
    return math.exp(-(distance**2) / (2 * sigma**2))


def mmd_by_hand(x: Tensor, y: Tensor, kernel: Kernel) -> float:
    def mean(a: Tensor, b: Tensor, sigma: float) -> float:
        values = [kernel_by_hand(p, q, kernel, sigma) for p in a.tolist() for q in b.tolist()]
        return sum(values) / len(values)

    if kernel.kind == "rbf":
        squares = [math.dist(p, q) ** 2 for p in x.tolist() for q in y.tolist()]
        sigmas = [s * math.sqrt(sum(squares) / len(squares)) for s in kernel.sigmas]
    else:
        sigmas = [kernel.sigma]
    return max(mean(x, x, s) + mean(y, y, s) - 2 * mean(x, y, s) for s in sigmas)


@pytest.mark.parametrize("kernel", ALL, ids=str)
def test_mmd_is_its_definition(kernel):
    x, y = histograms(5, 6, 0), histograms(4, 6, 1)
    assert mmd(x, y, kernel).value == pytest.approx(mmd_by_hand(x, y, kernel), rel=1e-11, abs=1e-14)


@pytest.mark.parametrize("kernel", PLAIN, ids=str)
def test_kernel_matrix_is_its_definition(kernel):
    x, y = histograms(5, 6, 0), histograms(4, 6, 1)
    wanted = [[kernel_by_hand(p, q, kernel, kernel.sigma) for q in y.tolist()] for p in x.tolist()]
    torch.testing.assert_close(kernel_matrix(x, y, kernel), torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("kernel", ALL, ids=str)
def test_mmd_is_symmetric_and_blind_to_the_order_of_rows(kernel):
    x, y = histograms(7, 6, 2), histograms(5, 6, 3)
    value = mmd(x, y, kernel).value
    assert value == pytest.approx(mmd(y, x, kernel).value, rel=1e-11)
    assert value == pytest.approx(mmd(x.flip(0), y.roll(2, 0), kernel).value, rel=1e-11)


@pytest.mark.parametrize("kernel", ALL, ids=str)
def test_mmd_of_a_set_and_itself_is_zero(kernel):
    x = histograms(7, 6, 4)
    assert mmd(x, x, kernel).value == pytest.approx(0, abs=1e-15)
    assert mmd(x[:1].expand(7, -1), x[:1].expand(3, -1), kernel).value == 0.0


@pytest.mark.parametrize("kernel", PLAIN, ids=str)
def test_a_sample_twice_is_a_sample_of_twice_the_weight(kernel):
    x, y = histograms(4, 6, 5), histograms(5, 6, 6)
    repeated = x[torch.tensor([0, 0, 2, 3, 3, 3])]
    assert mmd(x, y, kernel).of(UNEVEN) == pytest.approx(mmd(repeated, y, kernel).value, rel=1e-11)


def test_rbf_weighs_samples_at_the_bandwidths_of_all_of_them():
    x, y = histograms(4, 6, 5), histograms(5, 6, 6)
    scale = math.sqrt(float(torch.cdist(x, y).square().mean()))
    single = [mmd(x, y, Kernel("gaussian", scale * sigma)).of(UNEVEN) for sigma in RBF.sigmas]
    assert mmd(x, y, RBF).of(UNEVEN) == pytest.approx(max(single), rel=1e-11)


@pytest.mark.parametrize("kernel", ALL, ids=str)
def test_an_interval_holds_the_value(kernel):
    comparison = mmd(histograms(20, 6, 7), histograms(30, 6, 8), kernel)
    low, high = interval(comparison, repeats=50)
    assert 0 <= low <= comparison.value <= high


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6))
def test_positive_definite_kernels_are_never_negative(seed, n, m):
    x, y = histograms(n, 4, seed), histograms(m, 4, seed + 1)
    for kernel in (Kernel("gaussian", 0.5), RBF):
        assert mmd(x, y, kernel).value >= -1e-15
    eigenvalues = torch.linalg.eigvalsh(kernel_matrix(x, x, Kernel("gaussian", 0.5)))
    assert float(eigenvalues.min()) >= -1e-12


def test_the_total_variation_kernel_is_not_positive_definite():
    rows = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)
    rows = torch.cat([rows, 1 - rows], 1) / 4
    assert float(torch.linalg.eigvalsh(kernel_matrix(rows, rows, Kernel("tv", 1.0))).min()) < -1e-3


def test_counts_of_unequal_width_are_padded_and_histograms_refused():
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.25, 0.25]])
    for kind in ("tv", "emd", "gaussian"):
        padded = kernel_matrix(torch.tensor([[1.0, 0.0, 0.0]]), y, Kernel(kind))
        assert torch.equal(kernel_matrix(x, y, Kernel(kind)), padded)
    with pytest.raises(InputError, match="equally wide"):
        mmd(x, y, Kernel("tv", bins=2))


def test_the_earth_mover_refuses_rows_of_unequal_mass():
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.25]])
    with pytest.raises(InputError, match="equal sum"):
        mmd(x, y, Kernel("emd"))


def test_close_rows_keep_their_digits():
    x = torch.zeros(1, 2, dtype=torch.float64)
    y = torch.tensor([[1e-9, 0.0]], dtype=torch.float64)
    assert mmd(x, y, Kernel("gaussian", 30.0)).value == pytest.approx(1e-18 / 900, rel=1e-9)


def test_far_rows_and_huge_numbers_are_defined():
    x, y = torch.full((3, 2), 1e100, dtype=torch.float64), torch.zeros(2, 2)
    for kernel in (Kernel("tv"), Kernel("gaussian", 30.0), RBF):
        assert 0 < mmd(x, y, kernel).value <= 2


@pytest.mark.parametrize(("x", "y", "kernel", "said"), [
    (torch.zeros(0, 2), torch.zeros(1, 2), Kernel("tv"), "0 and 1"),
    (torch.zeros(1, 2), torch.zeros(0, 2), RBF, "1 and 0"),
    (torch.zeros(2), torch.zeros(1, 2), Kernel("tv"), r"\[n, D\]"),
    (torch.tensor([[math.nan]]), torch.zeros(1, 1), Kernel("tv"), "finite"),
    (torch.zeros(1, 1), torch.zeros(1, 1), Kernel("rbf"), "bandwidths"),
    (torch.zeros(1, 1), torch.zeros(1, 1), Kernel("tv", 0.0), "positive"),
])  # fmt: skip
def test_what_has_no_discrepancy_is_an_error(x, y, kernel, said):
    with pytest.raises(InputError, match=said):
        mmd(x, y, kernel)


def test_rbf_has_no_single_matrix():
    with pytest.raises(InputError, match="gaussian"):
        kernel_matrix(torch.zeros(1, 1), torch.zeros(1, 1), RBF)
