"""Sorting the columns of segments, against a plain Python sort of each, by every way it is computed."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from graphinv.errors import InputError
from graphinv.ops._torch import all_at_once
from graphinv.ops.columns import segment_sort_columns

COUNTS = {
    "mixed": [0, 3, 0, 0, 1, 7, 2, 3, 0, 7],
    "singles": [1] * 9,
    "one segment": [40],
    "only empty": [0, 0, 0],
    "no segment": [],
    "many": [(k * 7) % 11 for k in range(60)],
}
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8)

counted = pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS.keys())
both_ways = pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])


def make(counts, columns=3, dtype=torch.float64, high=5, seed=0):
    """Return offsets and rows of few different whole numbers: most tie."""
    ptr = torch.tensor([0, *counts]).cumsum(0)
    x = torch.randint(0, high, (int(ptr[-1]), columns), generator=torch.Generator().manual_seed(seed))
    return x.to(dtype), ptr


def loop(x, ptr, descending):
    index = torch.empty(x.shape, dtype=torch.int64)
    sign = -1 if descending else 1
    for begin, end in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
        for column in range(x.shape[1]):
            keys = x[:, column].tolist()
            order = sorted(range(begin, end), key=lambda row, keys=keys: sign * keys[row])  # stable
            index[begin:end, column] = torch.tensor(order, dtype=torch.int64)
    values = [[x[row, column].item() for column, row in enumerate(rows)] for rows in index.tolist()]
    return torch.tensor(values, dtype=x.dtype).reshape(x.shape), index


def sort_compiled(x, ptr, descending=False):
    torch._dynamo.reset()
    return torch.compile(segment_sort_columns, fullgraph=True, backend="aot_eager")(x, ptr, descending)


@counted
@both_ways
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_column_of_every_segment_is_sorted_stably(counts, descending, dtype):
    x, ptr = make(counts, dtype=dtype)
    values, index = segment_sort_columns(x, ptr, descending)
    expected_values, expected_index = loop(x, ptr, descending)
    assert values.dtype == dtype
    assert torch.equal(index, expected_index) and torch.equal(values, expected_values)


@counted
@both_ways
def test_compiled_without_a_graph_break_it_is_the_same_to_the_last_bit(counts, descending):
    x, ptr = make(counts)
    x[::3] = torch.nan
    for out, expected in zip(sort_compiled(x, ptr, descending), segment_sort_columns(x, ptr, descending), strict=True):
        torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)


@counted
@both_ways
def test_what_runs_on_an_accelerator_gives_the_same_rows(counts, descending):
    x, ptr = make(counts)
    x[::3] = torch.nan
    assert torch.equal(all_at_once(x, ptr, descending), segment_sort_columns(x, ptr, descending)[1])


@both_ways
def test_nan_and_infinity_are_ordered_as_by_torch_on_the_slice(descending):
    x, ptr = make(COUNTS["mixed"])
    x[::2], x[1::5], x[2::5] = torch.nan, torch.inf, -torch.inf
    values, _ = segment_sort_columns(x, ptr, descending)
    slices = [
        x[a:b].sort(dim=0, descending=descending).values
        for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)
    ]
    torch.testing.assert_close(values, torch.cat(slices), rtol=0, atol=0, equal_nan=True)


def test_rows_need_not_be_contiguous_and_columns_need_not_exist():
    x, ptr = make(COUNTS["many"], columns=6)
    for rows in (x[:, ::2], x.flip(0).t().contiguous().t(), x[:, :0]):
        assert torch.equal(segment_sort_columns(rows, ptr)[1], loop(rows, ptr, False)[1])


def test_gradients_of_first_and_second_order_are_exact():
    ptr = torch.tensor([0, *COUNTS["mixed"]]).cumsum(0)
    x = torch.randn(int(ptr[-1]), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    assert gradcheck(lambda x: segment_sort_columns(x, ptr)[0].square(), x)
    assert gradgradcheck(lambda x: segment_sort_columns(x, ptr, True)[0] ** 3, x)


def test_the_gradient_of_ties_is_that_of_a_stable_sort():
    x, ptr = make(COUNTS["many"], high=2)
    slope = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    expected = torch.empty_like(x).scatter(0, loop(x, ptr, False)[1], slope)
    for sort in (segment_sort_columns, sort_compiled):
        x = x.detach().requires_grad_()
        (sort(x, ptr)[0] * slope).sum().backward()
        assert torch.equal(x.grad, expected)


def test_it_can_be_vectorised_over_batches_of_rows():
    ptr = torch.tensor([0, *COUNTS["mixed"]]).cumsum(0)
    batch = torch.randn(3, int(ptr[-1]), 2, generator=torch.Generator().manual_seed(0))
    values, index = torch.func.vmap(segment_sort_columns, in_dims=(0, None))(batch, ptr)
    expected = [segment_sort_columns(x, ptr) for x in batch]
    assert torch.equal(values, torch.stack([v for v, _ in expected]))
    assert torch.equal(index, torch.stack([i for _, i in expected]))


def test_offsets_that_do_not_fit_are_refused_when_compiled_too():
    with pytest.raises(InputError, match="end at 3"):
        sort_compiled(torch.zeros(3, 2), torch.tensor([0, 2]))


BAD = {
    "vector": (torch.zeros(3), torch.tensor([0, 3]), r"\[N, C\], got shape \[3\]"),
    "list": ([[1.0]], torch.tensor([0, 1]), "must be tensors, got list"),
    "boolean": (torch.zeros(3, 1, dtype=torch.bool), torch.tensor([0, 3]), "real numbers"),
    "complex": (torch.zeros(3, 1, dtype=torch.complex64), torch.tensor([0, 3]), "real numbers"),
    "short ptr": (torch.zeros(3, 1), torch.tensor([0, 2]), "end at 3"),
    "decreasing ptr": (torch.zeros(3, 1), torch.tensor([0, 2, 1, 3]), "never decrease"),
    "floating ptr": (torch.zeros(3, 1), torch.tensor([0.0, 3.0]), "torch.int64"),
    "no ptr": (torch.zeros(0, 1), torch.tensor([], dtype=torch.int64), "at least the offset 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    x, ptr, message = BAD[case]
    with pytest.raises(InputError, match=message):
        segment_sort_columns(x, ptr)
