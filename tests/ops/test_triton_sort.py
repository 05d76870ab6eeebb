"""The sort on Triton, run by Triton's interpreter where there is no GPU: every row against a plain Python sort."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphinv.ops import segment_sort_columns, use_backend

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHUNK = 256  # rows after which a segment is cut
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int32, torch.int16, torch.int8, torch.uint8)
SPECIAL = [math.nan, -math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-40, -1e-40, 1.0]  # 1e-40 is subnormal

pytestmark = pytest.mark.triton
both_ways = pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])


@pytest.fixture
def triton() -> Iterator[None]:
    with use_backend("triton"):
        yield


@pytest.fixture
def short_chunks(triton: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut after 16 rows: few rows then take many turns, and the interpreter's time is spent on those."""
    from graphinv.ops import _triton

    monkeypatch.setattr(_triton, "_CHUNK", 16)


def make_ptr(counts: list[int]) -> Tensor:
    return torch.tensor([0, *counts], device=DEVICE).cumsum(0)


def make_rows(rows: int, width: int, dtype: torch.dtype = torch.float32, high: int = 30, seed: int = 0) -> Tensor:
    """Return whole numbers of few values, so that many tie."""
    x = torch.randint(0, high, (rows, width), generator=torch.Generator().manual_seed(seed))
    return (x if dtype == torch.uint8 else x - high // 2).to(DEVICE, dtype)


def loop(x: Tensor, counts: list[int], descending: bool) -> Tensor:
    """Return the old rows by Python's sort, which is stable."""

    def rank(number: float) -> tuple[bool, float]:
        absent = math.isnan(number)
        value = 0 if absent else number
        return (not absent, -value) if descending else (absent, value)

    ranks = [[rank(number) for number in column] for column in x.t().tolist()]
    old: list[list[int]] = [[] for _ in ranks]
    first = 0
    for count in counts:
        for column, rows in zip(ranks, old, strict=True):
            rows += sorted(range(first, first + count), key=column.__getitem__)
        first += count
    return torch.tensor(old, dtype=torch.int64).reshape(x.shape[1], x.shape[0]).t()


def check(x: Tensor, counts: list[int], descending: bool = False) -> None:
    values, old = segment_sort_columns(x, make_ptr(counts), descending)
    assert values.dtype == x.dtype and old.dtype == torch.int64
    assert torch.equal(old.cpu(), loop(x, counts, descending))
    torch.testing.assert_close(values, x.gather(0, old), rtol=0, atol=0, equal_nan=True)


few = st.lists(st.sampled_from([0, 1, 2, 7, 16, 33]), min_size=1, max_size=6)
giant = st.sampled_from([CHUNK + 1, 2 * CHUNK + 1])
short_cases = st.tuples(few, st.sampled_from([1, 2, 3, 5, 8, 9, 31, 70]))
long_cases = st.tuples(
    st.tuples(few, giant, few).map(lambda parts: [*parts[0], parts[1], *parts[2]]), st.integers(1, 9)
)


@pytest.mark.usefixtures("triton")
@settings(max_examples=9, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=st.one_of(short_cases, long_cases),
    dtype=st.sampled_from(FLOATS + INTEGERS),
    high=st.sampled_from([2, 30, 120]),
    descending=st.booleans(),
)
def test_rows_equal_those_of_a_plain_stable_sort(case, dtype, high, descending):
    counts, width = case
    check(make_rows(sum(counts), width, dtype, high), counts, descending)


@pytest.mark.usefixtures("triton")
def test_segments_about_as_long_as_a_chunk_beside_each_other():
    counts = [CHUNK - 1, CHUNK, CHUNK + 1, 3, CHUNK + 2]
    check(make_rows(sum(counts), 1), counts)


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("width", [31, 70])
def test_a_long_segment_of_more_columns_than_a_tile(width):
    check(make_rows(45, width), [4, 40, 1], descending=True)


@pytest.mark.usefixtures("triton")
def test_long_segments_at_any_offset_beside_each_other():
    counts = [1, CHUNK + 1, 0, 2 * CHUNK - 1, 5, 700, CHUNK + 7]
    check(make_rows(sum(counts), 2), counts)


@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("length", [2 * CHUNK - 1, 4 * CHUNK + 1])
def test_as_many_turns_as_join_all_chunks(length):
    """A segment alone: a longer one beside it would hide that the turns end too early."""
    check(-make_rows(length, 1, high=10_000), [length])


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("length", [15, 16, 17, 63, 64, 65, 255, 257])
def test_as_many_turns_as_join_all_short_chunks(length):
    """Up to three turns, one for every fourfold of a chunk, in which the keys go to and fro."""
    check(-make_rows(length, 1, high=10_000), [length])


@pytest.mark.usefixtures("short_chunks")
def test_segments_of_other_numbers_of_turns_end_in_the_same_place(monkeypatch):
    from graphinv.ops import _triton

    monkeypatch.setattr(_triton, "_PROGRAMS", 7)  # so that a program takes many chunks
    counts = [20, 3, 257, 16, 0, 65]
    check(make_rows(sum(counts), 5), counts, descending=True)


@pytest.mark.usefixtures("triton")
@both_ways
def test_equal_numbers_keep_their_order(descending):
    counts = [20, CHUNK + 60]
    _, old = segment_sort_columns(torch.ones(sum(counts), 2, device=DEVICE), make_ptr(counts), descending)
    assert torch.equal(old, torch.arange(sum(counts), device=DEVICE).unsqueeze(1).expand(-1, 2))


@pytest.mark.usefixtures("short_chunks")
@both_ways
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nan_is_the_greatest_and_both_zeros_are_one(descending, dtype):
    counts = [16, 40]
    chosen = make_rows(sum(counts), 2, torch.int32, high=2 * len(SPECIAL)).cpu().long().remainder(len(SPECIAL))
    check(torch.tensor(SPECIAL)[chosen].to(DEVICE, dtype), counts, descending)


@pytest.mark.usefixtures("triton")
def test_every_nan_ties_whatever_its_bits():
    bits = [0x7FC00000, 0x7F800001, 0x7FFFFFFF, -1, -0x7FFFFF, 0x7F800000]
    x = torch.tensor(bits, dtype=torch.int32, device=DEVICE).view(torch.float32).unsqueeze(1)
    check(x, [6])
    check(x, [6], descending=True)


@pytest.mark.usefixtures("short_chunks")
@both_ways
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_the_ends_of_the_integers_are_in_order(descending, dtype):
    limits = torch.iinfo(dtype)
    numbers = torch.tensor([limits.max, limits.min, 0, limits.max - 1, limits.min + 1, 1], dtype=dtype, device=DEVICE)
    check(numbers.repeat(9).unsqueeze(1), [14, 40], descending)


@pytest.mark.usefixtures("triton")
def test_a_segment_alone_gives_the_rows_it_gives_among_others():
    counts = [3, 0, CHUNK + 11, 40]
    x = make_rows(sum(counts), 3)
    first = make_ptr(counts)[:-1].tolist()
    among = segment_sort_columns(x, make_ptr(counts))[1].split(counts)
    for begin, count, rows in zip(first, counts, among, strict=True):
        alone = segment_sort_columns(x[begin : begin + count], make_ptr([count]))[1]
        assert torch.equal(alone + begin, rows)


@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("width", [0, 5])
@pytest.mark.parametrize("counts", [[], [0], [0, 0, 0]], ids=str)
def test_nothing_is_sorted_to_nothing(counts, width):
    values, old = segment_sort_columns(torch.empty(0, width, device=DEVICE), make_ptr(counts))
    assert values.shape == old.shape == (0, width)


@pytest.mark.usefixtures("triton")
def test_rows_without_columns_and_rows_that_are_not_contiguous():
    check(make_rows(7, 0), [3, 4])
    check(make_rows(9, 6)[2:, ::3], [3, 4])
    check(make_rows(3, 7).t(), [3, 4])


@pytest.mark.usefixtures("triton")
def test_gradients_go_to_the_rows_that_the_values_came_from():
    counts = [3, 0, 20]
    x = make_rows(23, 3).requires_grad_()
    slope = torch.randn(23, 3, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    (segment_sort_columns(x, make_ptr(counts))[0] * slope).sum().backward()
    expected = torch.empty_like(slope).scatter(0, loop(x.detach(), counts, False).to(DEVICE), slope)
    assert torch.equal(x.grad, expected)


@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_batches_of_rows_are_sorted_under_vmap(dim):
    counts = [4, 0, 3]
    batch = make_rows(21, 2).reshape(3, 7, 2)
    rows = torch.func.vmap(segment_sort_columns, in_dims=(dim, None))(batch.movedim(0, dim), make_ptr(counts))[1]
    assert torch.equal(rows, torch.stack([segment_sort_columns(x, make_ptr(counts))[1] for x in batch]))


@pytest.mark.usefixtures("triton")
def test_batches_of_offsets_are_refused_under_vmap():
    from graphinv.ops import _triton

    with pytest.raises(NotImplementedError, match="one ptr for all"):
        torch.func.vmap(_triton.triton_segment_sort, (0, 0, None))(torch.ones(2, 3, 1), torch.zeros(2, 2).long(), False)


@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64], ids=str)
def test_wider_numbers_run_on_the_reference(dtype, monkeypatch):
    from graphinv.ops import _triton

    monkeypatch.setattr(_triton, "triton_segment_sort", None)
    x = make_rows(9, 2, dtype)
    x[0] = 2**53 - 1  # in float32 as great as 2**53
    x[1] = 2**53 - 2
    check(x, [5, 4])


@pytest.mark.usefixtures("triton")
def test_more_rows_than_a_key_has_places_for_run_on_the_reference(monkeypatch):
    from graphinv.ops import _triton

    monkeypatch.setattr(_triton, "_SORT_ROWS", 9)
    monkeypatch.setattr(_triton, "sort", None)
    check(make_rows(9, 2), [5, 4])


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_it_compiles_into_one_graph(compiler):
    counts = [3, 0, 18, 4]
    x, ptr = make_rows(sum(counts), 3).requires_grad_(), make_ptr(counts)
    torch.compiler.reset()
    out = torch.compile(segment_sort_columns, fullgraph=True, backend=compiler)(x, ptr, True)
    assert torch.equal(out[1].cpu(), loop(x.detach(), counts, True))
    (grad,) = torch.autograd.grad(out[0].sum(), x)
    assert torch.equal(grad, torch.ones_like(grad))


def test_the_operator_keeps_the_rules_of_torch():
    from graphinv.ops import _triton

    torch.library.opcheck(_triton.triton_segment_sort, (make_rows(5, 4), make_ptr([2, 0, 3]), False))
    torch.library.opcheck(_triton.triton_segment_sort, (make_rows(4, 5).t(), make_ptr([2, 0, 3]), True))
