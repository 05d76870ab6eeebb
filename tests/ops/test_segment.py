"""Every reduction against a float64 loop over the segments, its gradients, and what holds to the last bit."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from graphinv.errors import InputError
from graphinv.ops import index_to_ptr, ptr_to_index, segment_reduce, segment_softmax, segment_sort

REDUCTIONS = ("sum", "mean", "min", "max", "std", "var", "logsumexp")
INTEGER_REDUCTIONS = ("sum", "min", "max")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
COUNTS = {
    "mixed": [0, 3, 0, 0, 1, 7, 2, 0],
    "singles": [1] * 9,
    "one segment": [13],
    "only empty": [0, 0, 0],
    "no segment": [],
    "many": [(k * 7) % 11 for k in range(60)],
}
SHAPES = [(), (5,), (3, 7), (0,)]  # below and above the width at which the reference changes kernel

pytestmark = pytest.mark.usefixtures("backend")


def make_ptr(counts: list[int]) -> Tensor:
    return torch.tensor([0, *counts]).cumsum(0)


def make_rows(ptr: Tensor, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(int(ptr[-1]), *shape, generator=generator, dtype=torch.float64)).to(dtype)


def loop(x: Tensor, ptr: Tensor, reduce: str) -> Tensor:
    functions = {
        "sum": lambda rows: rows.sum(0),
        "mean": lambda rows: rows.mean(0),
        "min": lambda rows: rows.amin(0),
        "max": lambda rows: rows.amax(0),
        "std": lambda rows: rows.std(0, correction=0) if rows[1:].numel() else rows[0] * 0,
        "var": lambda rows: rows.var(0, correction=0) if rows[1:].numel() else rows[0] * 0,
        "logsumexp": lambda rows: rows.logsumexp(0),
    }
    empty = torch.full(x.shape[1:], -torch.inf if reduce == "logsumexp" else 0, dtype=x.dtype)
    slices = [x[a:b] for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)]
    rows = [functions[reduce](part) if len(part) else empty for part in slices]
    return torch.stack(rows) if rows else x.new_zeros(0, *x.shape[1:])


def assert_close(out: Tensor, expected: Tensor, rtol: float, atol: float, case: str) -> None:
    torch.testing.assert_close(out.double(), expected, rtol=rtol, atol=atol, msg=lambda text: f"{case}: {text}")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_reduction_equals_loop_in_float64(reduce, dtype):
    tolerance = TOLERANCE[dtype]
    for (name, counts), shape in product(COUNTS.items(), SHAPES):
        ptr = make_ptr(counts)
        x = make_rows(ptr, shape, dtype)
        out = segment_reduce(x, ptr, reduce)
        assert out.dtype == dtype and out.shape == (len(counts), *shape), f"{name}, rows of {shape}"
        assert_close(out, loop(x.double(), ptr, reduce), tolerance, 10 * tolerance, f"{name}, rows of {shape}")


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8], ids=str)
@pytest.mark.parametrize("reduce", INTEGER_REDUCTIONS)
def test_integers_are_reduced_exactly_in_their_dtype(reduce, dtype):
    for (name, counts), shape in product(COUNTS.items(), SHAPES):
        ptr = make_ptr(counts)
        x = make_rows(ptr, shape).abs().to(dtype) if dtype == torch.uint8 else (10 * make_rows(ptr, shape)).to(dtype)
        out = segment_reduce(x, ptr, reduce)
        assert out.dtype == dtype, f"{name}, rows of {shape}"
        assert torch.equal(out, loop(x, ptr, reduce).to(dtype)), f"{name}, rows of {shape}"


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_one_huge_segment_keeps_its_accuracy(reduce):
    ptr = make_ptr([0, 100_000, 1])
    x = make_rows(ptr, (2,), torch.float32)
    torch.testing.assert_close(
        segment_reduce(x, ptr, reduce).double(),
        loop(x.double(), ptr, reduce),
        rtol=1e-4,
        atol=0.1 if reduce == "sum" else 1e-4,
    )


def test_variance_survives_a_large_offset():
    ptr = make_ptr([1000, 10])
    x = make_rows(ptr, (), torch.float32) + 1e4
    torch.testing.assert_close(segment_reduce(x, ptr, "var").double(), loop(x.double(), ptr, "var"), rtol=1e-3, atol=0)


def test_logsumexp_and_softmax_do_not_overflow():
    x, ptr = torch.tensor([1000.0, 1000.0, -1000.0, -1000.0]), make_ptr([2, 2])
    assert torch.allclose(
        segment_reduce(x, ptr, "logsumexp"), torch.tensor([1000.0, -1000.0]) + torch.log(torch.tensor(2.0))
    )
    assert torch.equal(segment_softmax(x, ptr), torch.full((4,), 0.5))


def test_half_precision_is_accumulated_in_float32():
    ones = torch.ones(4000, dtype=torch.bfloat16)
    assert segment_reduce(ones, make_ptr([4000])).item() == 4000
    large = torch.full((4,), 40000.0, dtype=torch.float16)
    assert segment_reduce(large, make_ptr([4]), "mean").item() == 40000


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_nan_and_infinity_behave_as_in_torch_on_the_slice(reduce):
    inf, nan = torch.inf, torch.nan
    x = torch.tensor([1.0, nan, 2.0, inf, 1.0, -inf, 3.0, inf, -inf, -inf, -inf, 7.0, inf, inf, nan])
    ptr = make_ptr([3, 2, 2, 2, 2, 1, 2, 1])
    torch.testing.assert_close(segment_reduce(x, ptr, reduce), loop(x, ptr, reduce), equal_nan=True)


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("width", [2, 16])
def test_gradients_of_first_and_second_order(reduce, width):
    ptr = make_ptr([0, 3, 1, 0, 4])
    x = make_rows(ptr, (width,)).requires_grad_()

    def function(x: Tensor) -> Tensor:
        out = segment_reduce(x, ptr, reduce)
        # One row has no slope in std, and the finite difference sees its kink; empty rows may be -inf.
        return out[ptr.diff() > (1 if reduce == "std" else 0)]

    wide = width > 2  # along random directions, not entry by entry
    assert gradcheck(function, (x,), fast_mode=wide)
    assert gradgradcheck(function, (x,), fast_mode=wide)


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_gradient_equals_that_of_the_loop_in_float32(reduce):
    ptr = make_ptr(COUNTS["many"])
    x, weight = make_rows(ptr, (3,), torch.float32), make_rows(make_ptr([60]), (3,), torch.float32, seed=1)
    filled = ptr.diff() > 0
    grads = []
    for function, dtype in ((segment_reduce, torch.float32), (loop, torch.float64)):
        leaf = x.detach().clone().to(dtype).requires_grad_()
        (function(leaf, ptr, reduce) * weight.to(dtype))[filled].sum().backward()
        grads.append(leaf.grad.double())
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduce", ["min", "max"])
def test_ties_share_the_gradient_of_an_extreme_equally(reduce):
    x = torch.tensor([2.0, 2.0, 2.0, 5.0, torch.nan, 1.0]).requires_grad_()
    segment_reduce(x, make_ptr([3, 1, 2]), reduce).sum().backward()
    assert torch.allclose(x.grad, torch.tensor([1 / 3, 1 / 3, 1 / 3, 1, 1, 0]))


@pytest.mark.parametrize("reduce", ["sum", "mean", "min", "max", "std", "var"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [-100, -60, -20, 0, 20, 60, 100])
def test_reductions_have_the_scale_of_their_rows(reduce, dtype, power):
    """By a power of two nothing is rounded, so that the digits stay; a variance ends where its own square does."""
    x, ptr = torch.randn(300, 3, dtype=dtype, generator=torch.Generator().manual_seed(0)), make_ptr([1, 0, 200, 99])
    x = x + 3
    here, there = x.clone().requires_grad_(), (x * 2.0**power).requires_grad_()
    out, far = segment_reduce(here, ptr, reduce), segment_reduce(there, ptr, reduce)
    if reduce == "var":
        expected = out.double() * 2.0 ** (2 * power)
        inside = (expected == 0) | ((expected > 1e-37) & (expected < 1e38)) if dtype == torch.float32 else expected >= 0
        torch.testing.assert_close(far.double()[inside], expected[inside], rtol=1e-5, atol=0)
        return
    torch.testing.assert_close(far.double(), out.double() * 2.0**power, rtol=1e-6, atol=0)
    out.sum().backward(), far.sum().backward()
    torch.testing.assert_close(there.grad, here.grad, rtol=1e-4, atol=1e-6)


def test_gradient_of_std_is_zero_where_the_variance_is():
    x = torch.tensor([2.0, 2.0, 2.0, 7.0]).requires_grad_()
    out = segment_reduce(x, make_ptr([3, 0, 1]), "std")
    out.sum().backward()
    assert torch.equal(out, torch.zeros(3)) and torch.equal(x.grad, torch.zeros(4))


def test_gradient_of_logsumexp_is_zero_where_there_is_nothing():
    x = torch.tensor([-torch.inf, -torch.inf, 1.0]).requires_grad_()
    segment_reduce(x, make_ptr([2, 0, 1]), "logsumexp").sum().backward()
    assert torch.equal(x.grad, torch.tensor([0.0, 0.0, 1.0]))


@pytest.mark.parametrize("shape", [(), (3,), (64,)], ids=str)
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_result_and_gradient_are_the_same_bits_alone_and_among_others_and_again(reduce, shape):
    counts = [(k * 13) % 37 for k in range(200)]
    ptr = make_ptr(counts)

    def run(x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        out = segment_reduce(x, ptr, reduce)
        return out.detach(), torch.autograd.grad(out.nan_to_num(neginf=0.0).square().sum(), x)[0]

    x = make_rows(ptr, shape, torch.float32)
    out, grad = run(x, ptr)
    for first, again in zip((out, grad), run(x, ptr), strict=True):
        assert torch.equal(first, again)
    for k in range(0, 200, 9):
        rows = slice(int(ptr[k]), int(ptr[k + 1]))
        out_alone, grad_alone = run(x[rows], make_ptr([counts[k]]))
        assert torch.equal(out_alone[0], out[k]) and torch.equal(grad_alone, grad[rows])


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_one_bad_segment_leaves_the_others_alone(reduce):
    ptr = make_ptr([2, 3, 4])
    x = make_rows(ptr)
    clean = segment_reduce(x, ptr, reduce)
    x[2:5] = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=x.dtype)
    assert torch.equal(segment_reduce(x, ptr, reduce)[[0, 2]], clean[[0, 2]])


def test_rows_need_not_be_contiguous():
    ptr = make_ptr([2, 0, 5])
    x = make_rows(ptr, (3, 4))
    for view in (x.transpose(1, 2), x[:, :, ::2], x[:, :1].expand(-1, 3, -1)):
        for reduce in REDUCTIONS:
            torch.testing.assert_close(segment_reduce(view, ptr, reduce), loop(view, ptr, reduce))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_softmax_equals_loop_and_sums_to_one(dtype):
    for (name, counts), shape in product(COUNTS.items(), SHAPES):
        ptr = make_ptr(counts)
        x = make_rows(ptr, shape, dtype)
        out = segment_softmax(x, ptr)
        assert out.dtype == dtype and out.shape == x.shape, f"{name}, rows of {shape}"
        slices = [x.double()[a:b].softmax(0) for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)]
        expected = torch.cat(slices) if slices else x.double()
        assert_close(out, expected, TOLERANCE[dtype], TOLERANCE[dtype], f"{name}, rows of {shape}")
        total = segment_reduce(out.double(), ptr)[ptr.diff() > 0]
        assert_close(total, torch.ones_like(total), 0, 10 * TOLERANCE[dtype], f"sums of {name}, rows of {shape}")


def test_softmax_ignores_a_shift_and_minus_infinity():
    ptr = make_ptr([0, 4, 1, 3])
    x = make_rows(ptr)
    shift = torch.tensor([0.0, 50.0, -700.0, 1e3], dtype=x.dtype)[ptr_to_index(ptr)]
    torch.testing.assert_close(segment_softmax(x + shift, ptr), segment_softmax(x, ptr))
    x[1] = -torch.inf
    out = segment_softmax(x, ptr)
    assert out[1] == 0
    torch.testing.assert_close(out[[0, 2, 3]], x[[0, 2, 3]].softmax(0))
    assert segment_softmax(torch.full((2,), -torch.inf), make_ptr([2])).isnan().all()


def test_softmax_gradients():
    ptr = make_ptr([0, 3, 1, 4])
    x = make_rows(ptr, (2,)).requires_grad_()
    assert gradcheck(lambda x: segment_softmax(x, ptr), (x,))
    assert gradgradcheck(lambda x: segment_softmax(x, ptr), (x,))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.int32], ids=str)
def test_sort_is_the_stable_sort_of_each_segment(dtype, descending):
    for name, counts in COUNTS.items():
        ptr = make_ptr(counts)
        x = make_rows(ptr).round().to(dtype)  # rounded: many ties
        values, index = segment_sort(x, ptr, descending=descending)
        assert torch.equal(values, x[index]), name
        for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
            expected = torch.sort(x[a:b], stable=True, descending=descending)
            assert torch.equal(values[a:b], expected.values) and torch.equal(index[a:b], expected.indices + a), name


@pytest.mark.parametrize("descending", [False, True])
def test_sort_puts_nan_where_torch_does(descending):
    x = torch.tensor([1.0, torch.nan, -torch.inf, 0.0, torch.inf, torch.nan])
    values, _ = segment_sort(x, make_ptr([3, 3]), descending=descending)
    expected = torch.cat([part.sort(descending=descending).values for part in x.split(3)])
    torch.testing.assert_close(values, expected, equal_nan=True)


def test_sort_is_differentiable_in_its_values():
    ptr = make_ptr([3, 0, 2])
    assert gradcheck(lambda x: segment_sort(x, ptr)[0], (make_rows(ptr).requires_grad_(),))


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS.keys())
def test_index_and_ptr_are_inverse(counts):
    ptr = make_ptr(counts)
    index = ptr_to_index(ptr)
    assert index.tolist() == [s for s, count in enumerate(counts) for _ in range(count)]
    assert torch.equal(index_to_ptr(index, len(counts)), ptr)
    assert torch.equal(ptr_to_index(ptr, int(ptr[-1])), index)


@pytest.mark.parametrize(
    ("index", "num_segments", "message"),
    [
        (torch.tensor([0, 2, 1]), 3, "sorted"),
        (torch.tensor([0, 3]), 3, r"below 3, got 0 \.\. 3"),
        (torch.tensor([-1, 0]), 3, r"got -1 \.\. 0"),
        (torch.tensor([0.0, 1.0]), 2, "torch.int64"),
        (torch.tensor([[0, 1]]), 2, r"\[1, 2\]"),
        (torch.tensor([], dtype=torch.int64), -1, "at least 0"),
        (torch.tensor([0]), 0, "below 0"),
    ],
)
def test_index_to_ptr_says_what_is_wrong(index, num_segments, message):
    with pytest.raises(InputError, match=message):
        index_to_ptr(index, num_segments)


@pytest.mark.parametrize(
    ("ptr", "message"),
    [
        (torch.tensor([0, 2]), r"end at 3, the number of rows, got 0 \.\. 2"),
        (torch.tensor([1, 3]), r"start at 0"),
        (torch.tensor([0, 2, 1, 3]), "decrease"),
        (torch.tensor([0, 3], dtype=torch.int32), "torch.int32"),
        (torch.tensor([[0, 3]]), r"shape \[1, 2\]"),
        (torch.tensor([], dtype=torch.int64), "empty"),
        ([0, 3], "list"),
    ],
)
def test_a_wrong_ptr_is_explained_by_every_function(ptr, message):
    x = torch.ones(3)
    for function in (segment_reduce, segment_softmax, segment_sort):
        with pytest.raises(InputError, match=message):
            function(x, ptr)


def test_wrong_rows_and_reductions_are_explained():
    ptr = make_ptr([3])
    with pytest.raises(InputError, match="unknown reduce 'avg'; available: sum, mean, min, max"):
        segment_reduce(torch.ones(3), ptr, "avg")
    for reduce in set(REDUCTIONS) - set(INTEGER_REDUCTIONS):
        with pytest.raises(InputError, match=rf"{reduce} is not defined for torch.int64.*x\.float\(\)"):
            segment_reduce(torch.ones(3, dtype=torch.int64), ptr, reduce)
    for dtype in (torch.bool, torch.complex64):
        with pytest.raises(InputError, match="real numbers"):
            segment_reduce(torch.ones(3, dtype=dtype), ptr)
    with pytest.raises(InputError, match="softmax is not defined for torch.int64"):
        segment_softmax(torch.ones(3, dtype=torch.int64), ptr)
    with pytest.raises(InputError, match="scalar"):
        segment_reduce(torch.tensor(1.0), ptr)
    with pytest.raises(InputError, match=r"one key per row, \[N\], got shape \[3, 2\]"):
        segment_sort(torch.ones(3, 2), ptr)
    with pytest.raises(InputError, match="on one device, got meta and cpu"):
        segment_reduce(torch.ones(3, device="meta"), ptr)


def test_compiled_into_one_graph_the_bits_are_the_same(backend):
    if backend == "torch_scatter":
        pytest.skip("the operators of torch_scatter say nothing about their shapes to the compiler")
    names = [*REDUCTIONS, "softmax", "sort"]

    def function(tensors, ptr):  # each function has rows of its own, so that no gradient is a sum over functions
        *rows, last, keys = tensors
        reduced = [segment_reduce(x, ptr, reduce) for x, reduce in zip(rows, REDUCTIONS, strict=True)]
        return [*reduced, segment_softmax(last, ptr), segment_sort(keys[:, 0], ptr)[0]]

    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for counts in ([3, 0, 2], [1, 4]):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
        results = []
        for run in (compiled, function):
            tensors = [x.clone().requires_grad_() for _ in names]
            outs = run(tensors, make_ptr(counts))
            loss = sum(out.nan_to_num(neginf=0.0).square().sum() for out in outs)
            results.append(zip(names, outs, torch.autograd.grad(loss, tensors), strict=True))
        for (name, out, grad), (_, expected, slope) in zip(*results, strict=True):
            assert torch.equal(out, expected) and torch.equal(grad, slope), f"{name} of {counts}"
