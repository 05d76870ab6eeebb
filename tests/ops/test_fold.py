"""The fold against functools.reduce, and the shape of its tree: rows combined, levels, order."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from graphinv.errors import InputError
from graphinv.ops import segment_fold

COUNTS = {
    "mixed": [0, 3, 0, 1, 7, 2, 0],
    "singles": [1] * 9,
    "powers": [1, 2, 4, 8, 16],
    "one segment": [13],
    "only empty": [0, 0, 0],
    "no segment": [],
    "many": [(k * 7) % 23 for k in range(60)],
}


def make_ptr(counts: list[int]) -> Tensor:
    return torch.tensor([0, *counts]).cumsum(0)


def make_rows(ptr: Tensor, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(int(ptr[-1]), *shape, generator=generator, dtype=torch.float64).to(dtype)


def matrix_product(left: Tensor, right: Tensor) -> Tensor:
    return (left.view(-1, 2, 2) @ right.view(-1, 2, 2)).view(-1, 4)


OPERATIONS = {
    "matrix product": (matrix_product, torch.eye(2).view(4)),
    "first": (lambda left, right: left, torch.zeros(4)),
    "last": (lambda left, right: right, torch.zeros(4)),
    "maximum": (torch.maximum, torch.full((4,), -torch.inf)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS.keys())
@pytest.mark.parametrize(("combine", "identity"), OPERATIONS.values(), ids=OPERATIONS.keys())
def test_fold_equals_reduce_from_the_left(combine, identity, counts, dtype):
    ptr, identity = make_ptr(counts), identity.to(dtype)
    x = make_rows(ptr, 4, dtype=dtype)
    out = segment_fold(x, ptr, combine, identity)
    assert out.shape == (len(counts), 4) and out.dtype == dtype
    tolerance = 1e-10 if dtype == torch.float64 else 1e-3
    for a, b, row in zip(ptr[:-1].tolist(), ptr[1:].tolist(), out, strict=True):
        parts = [x[k : k + 1] for k in range(a, b)]
        expected = functools.reduce(combine, parts)[0] if parts else identity
        torch.testing.assert_close(row, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS.keys())
def test_fold_combines_no_row_in_vain_in_the_fewest_levels(counts):
    ptr, calls = make_ptr(counts), []

    def add(left: Tensor, right: Tensor) -> Tensor:
        assert left.shape == right.shape
        calls.append(left.shape[0])
        return left + right

    x = torch.ones(int(ptr[-1]), 1, dtype=torch.int64)
    out = segment_fold(x, ptr, add, torch.zeros(1, dtype=torch.int64))
    assert out[:, 0].tolist() == counts
    assert sum(calls) == sum(counts) - sum(count > 0 for count in counts)
    assert len(calls) == (math.ceil(math.log2(max(counts))) if any(counts) else 0)


def test_fold_of_a_huge_segment_has_log_depth():
    n, calls = 100_000, []
    x = torch.ones(n + 1, 1, dtype=torch.float64)
    out = segment_fold(
        x, torch.tensor([0, n, n + 1]), lambda a, b: calls.append(len(a)) or a + b, torch.zeros(1).double()
    )
    assert out[:, 0].tolist() == [n, 1] and sum(calls) == n - 1 and len(calls) == 17


def test_the_tree_pairs_neighbours_and_lets_the_last_wait():
    # a * b + 1 is not associative: 5 rows fold as ((ab)(cd))e.
    x = torch.tensor([[2.0], [3.0], [5.0], [7.0], [11.0]])
    out = segment_fold(x, torch.tensor([0, 5]), lambda a, b: a * b + 1, torch.ones(1))
    assert out.item() == ((2 * 3 + 1) * (5 * 7 + 1) + 1) * 11 + 1


def test_fold_is_the_same_bits_alone_and_among_others():
    counts = COUNTS["many"]
    ptr = make_ptr(counts)
    x, identity = make_rows(ptr, 3, dtype=torch.float32), torch.zeros(3)
    weight = torch.linspace(0.5, 1.5, 3)

    def combine(left: Tensor, right: Tensor) -> Tensor:
        return (left * weight + right).tanh()

    out = segment_fold(x, ptr, combine, identity)
    for k, count in enumerate(counts):
        alone = segment_fold(x[ptr[k] : ptr[k + 1]], make_ptr([count]), combine, identity)
        assert torch.equal(alone[0], out[k])


def test_gradients_flow_through_rows_combine_and_identity():
    ptr = make_ptr([0, 5, 1, 0, 2])
    x = make_rows(ptr, 4).requires_grad_()
    identity = torch.eye(2, dtype=torch.float64).view(4).requires_grad_()
    weight = torch.linspace(0.5, 1.5, 4, dtype=torch.float64).requires_grad_()

    def function(x: Tensor, identity: Tensor, weight: Tensor) -> Tensor:
        return segment_fold(x, ptr, lambda a, b: matrix_product(a * weight, b), identity)

    assert gradcheck(function, (x, identity, weight))
    assert gradgradcheck(function, (x, identity, weight))


def test_rows_may_have_any_shape():
    ptr = make_ptr([3, 0, 2])
    x = make_rows(ptr, 2, 2)
    out = segment_fold(x, ptr, torch.matmul, torch.eye(2, dtype=x.dtype))
    torch.testing.assert_close(out, torch.stack([x[0] @ x[1] @ x[2], torch.eye(2, dtype=x.dtype), x[3] @ x[4]]))
    flat = segment_fold(x[:, 0, 0], ptr, torch.add, torch.tensor(0.0, dtype=x.dtype))
    torch.testing.assert_close(flat, torch.stack([x[:3, 0, 0].sum(), torch.tensor(0.0).double(), x[3:, 0, 0].sum()]))


def test_no_rows_give_identities_that_can_be_changed_one_by_one():
    out = segment_fold(torch.ones(0, 2), make_ptr([0, 0]), torch.add, torch.tensor([1.0, 2.0]))
    out[0] = 5
    assert out.tolist() == [[5, 5], [1, 2]]


def test_fold_says_what_is_wrong():
    x, ptr = torch.ones(4, 2), torch.tensor([0, 4])
    with pytest.raises(InputError, match=r"identity must have the shape of one row of x, \[2\], got \[3\]"):
        segment_fold(x, ptr, torch.add, torch.zeros(3))
    with pytest.raises(InputError, match=r"combine must keep the shape \[2, 2\], but returned \[2\]"):
        segment_fold(x, ptr, lambda a, b: a.sum(1), torch.zeros(2))
    with pytest.raises(InputError, match="number of rows"):
        segment_fold(x, torch.tensor([0, 3]), torch.add, torch.zeros(2))
