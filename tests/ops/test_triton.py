"""The Triton kernels, run by Triton's interpreter where there is no GPU: against a loop, and bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from graphinv.ops import segment_reduce, segment_softmax, use_backend
from graphinv.ops._autograd import Segments
from graphinv.ops.backend import runs_triton

ROOT = Path(__file__).parents[2]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHUNK = 256  # rows after which a segment is cut
REDUCTIONS = ("sum", "mean", "min", "max", "std", "var", "logsumexp")
TOLERANCE = {torch.float64: 1e-11, torch.float32: 3e-5}


@pytest.fixture
def triton() -> Iterator[None]:
    with use_backend("triton"):
        yield


def make_ptr(counts: list[int]) -> Tensor:
    return torch.tensor([0, *counts], device=DEVICE).cumsum(0)


def make_rows(counts: list[int], width: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = 3 * torch.randn(sum(counts), width, generator=generator, dtype=torch.float64)
    return rows.to(DEVICE, dtype)


def loop(x: Tensor, counts: list[int], reduce: str) -> Tensor:
    out = []
    for rows in x.split(counts):
        n = len(rows)
        if n == 0:
            out.append(rows.sum(0) - (torch.inf if reduce == "logsumexp" else 0))
            continue
        variance = ((rows - rows.sum(0) / n) ** 2).sum(0) / n
        out.append(
            {
                "sum": lambda rows=rows: rows.sum(0),
                "mean": lambda rows=rows, n=n: rows.sum(0) / n,
                "min": lambda rows=rows: rows.amin(0),
                "max": lambda rows=rows: rows.amax(0),
                "var": lambda v=variance: v,
                "std": lambda v=variance: torch.where(v > 0, v.clamp(min=1e-300).sqrt(), 0),
                "logsumexp": lambda rows=rows: rows.logsumexp(0),
            }[reduce]()
        )
    return torch.stack(out)


small = st.lists(st.sampled_from([0, 1, 2, 7, 16, 33]), min_size=1, max_size=9)
giant = st.sampled_from([CHUNK, CHUNK + 1, 2 * CHUNK + 5])
counts_of = st.one_of(small, st.tuples(small, giant, small).map(lambda parts: [*parts[0], parts[1], *parts[2]]))
widths = st.one_of(st.integers(1, 9), st.sampled_from([16, 31, 70]))


@pytest.mark.triton
@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("reduce", [*REDUCTIONS, "softmax"])
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=counts_of, width=widths, dtype=st.sampled_from(list(TOLERANCE)))
def test_values_and_gradients_equal_the_loop_in_float64(reduce, counts, width, dtype):
    x = make_rows(counts, width, dtype).requires_grad_()
    oracle = x.detach().double().requires_grad_()
    if reduce == "softmax":
        out = segment_softmax(x, make_ptr(counts))
        expected = torch.cat([rows.softmax(0) for rows in oracle.split(counts)])
    else:
        out, expected = segment_reduce(x, make_ptr(counts), reduce), loop(oracle, counts, reduce)
    weight = make_rows([len(out)], width, seed=1) / 3
    (out * weight.to(dtype)).nan_to_num(posinf=0, neginf=0).sum().backward()
    (expected * weight).nan_to_num(posinf=0, neginf=0).sum().backward()
    tolerance = TOLERANCE[dtype]
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=100 * tolerance)
    torch.testing.assert_close(x.grad.double(), oracle.grad, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.triton
@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=counts_of, width=widths)
def test_integers_are_exact(dtype, counts, width):
    big = 2**20 if dtype == torch.int32 else 2**53 + 1
    x = (make_rows(counts, width) * 5).to(dtype) * big
    for reduce in ("sum", "min", "max"):
        out = segment_reduce(x, make_ptr(counts), reduce)
        rows = [part if len(part) else x.new_zeros(1, width) for part in x.split(counts)]
        function = {"sum": lambda r: r.sum(0, dtype=dtype), "min": lambda r: r.amin(0), "max": lambda r: r.amax(0)}[
            reduce
        ]
        assert out.dtype == dtype and torch.equal(out, torch.stack([function(part) for part in rows]))


@pytest.mark.triton
@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("offset", [0, 1, CHUNK - 1])
@pytest.mark.parametrize("length", [CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1])
def test_every_row_of_a_long_segment_counts_once_wherever_it_begins(offset, length):
    counts = [offset, length, 0, CHUNK + 1, CHUNK - 1, CHUNK + 2]
    x = torch.arange(sum(counts), device=DEVICE).unsqueeze(1)
    assert torch.equal(segment_reduce(x, make_ptr(counts)), torch.stack([rows.sum(0) for rows in x.split(counts)]))


@pytest.mark.triton
@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_nothing_reduces_to_nothing(reduce):
    for counts, width in product(([], [0], [0, 0, 0]), (0, 5)):
        x = make_rows(counts, width).requires_grad_()
        out = segment_reduce(x, make_ptr(counts), reduce)
        assert torch.equal(out, torch.full_like(out, -torch.inf if reduce == "logsumexp" else 0))
        out.sum().backward()
        assert out.shape == (len(counts), width) and x.grad.shape == x.shape


@pytest.mark.triton
@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("reduce", ["sum", "min", "max", "softmax"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, in the interpreter: inf - inf
@pytest.mark.parametrize(
    ("place", "special"),
    [
        *(
            (CHUNK, s)
            for s in ([torch.nan], [torch.inf], [-torch.inf], [torch.inf, -torch.inf], [torch.nan, torch.inf])
        ),
        *((place, [value]) for place in (0, 1, 2 * CHUNK + 40) for value in (torch.nan, -torch.inf)),
    ],
)
def test_nan_and_infinity_are_found_in_every_chunk(reduce, place, special):
    counts = [5, 2 * CHUNK + 60, 50]
    x = make_rows(counts, 2, torch.float32)
    x[5 + place : 5 + place + len(special), 1] = torch.tensor(special, device=DEVICE)
    x[-1, 0] = special[0]
    if reduce == "softmax":
        expected = torch.cat([rows.softmax(0) for rows in x.double().split(counts)])
        out = segment_softmax(x, make_ptr(counts))
    else:
        function = {"sum": lambda r: r.sum(0), "min": lambda r: r.amin(0), "max": lambda r: r.amax(0)}[reduce]
        expected = torch.stack([function(rows) for rows in x.double().split(counts)])
        out = segment_reduce(x, make_ptr(counts), reduce)
    torch.testing.assert_close(out.double(), expected, equal_nan=True, rtol=1e-5, atol=1e-3)


@pytest.mark.triton
@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("length", [3, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
@pytest.mark.parametrize("place", ["first", "last", "spread"])
def test_a_softmax_of_huge_and_of_absent_logits_keeps_its_digits(length, place):
    """The greatest logit may come at any time; what came before shrinks with it, and -inf counts for nothing."""
    x = make_rows([length], 2, torch.float32) + 3e4
    x[::3, 0] = -torch.inf
    if place != "spread":
        x[0 if place == "first" else -1] = 3.01e4
    out = segment_softmax(x, make_ptr([length]))
    assert bool((out[::3, 0][1:-1] == 0).all())
    torch.testing.assert_close(out.double(), x.double().softmax(0), rtol=2e-5, atol=1e-12)
    torch.testing.assert_close(out.sum(0), torch.ones(2, device=DEVICE), rtol=1e-5, atol=0)


@pytest.mark.triton
@pytest.mark.usefixtures("triton")
def test_segments_of_one_infinity_or_nan_only_keep_it():
    for value in (torch.inf, -torch.inf, torch.nan):
        x = torch.full((CHUNK + 3, 1), value, device=DEVICE)
        for reduce in ("min", "max"):
            out = segment_reduce(x, make_ptr([3, CHUNK]), reduce)
            torch.testing.assert_close(out, torch.full_like(out, value), equal_nan=True)
            out = segment_reduce(x, make_ptr([CHUNK + 3]), reduce)
            torch.testing.assert_close(out, torch.full_like(out, value), equal_nan=True)


@pytest.mark.triton
@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("width", [1, 3, 40])
@pytest.mark.parametrize("reduce", ["sum", "logsumexp", "softmax"])
def test_result_and_gradient_are_the_same_bits_alone_among_others_and_again(reduce, width):
    counts = [3, 0, 2 * CHUNK + 11, 40, CHUNK]
    x = make_rows(counts, width, torch.float32)

    def run(x: Tensor, counts: list[int]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the results and the gradients of each segment."""
        x, ptr = x.clone().requires_grad_(), make_ptr(counts)
        out = segment_softmax(x, ptr) if reduce == "softmax" else segment_reduce(x, ptr, reduce)
        (grad,) = torch.autograd.grad(out.nan_to_num(neginf=0.0).square().sum(), x)
        return out.detach().split(counts if reduce == "softmax" else 1), grad.split(counts)

    everything = run(x, counts)
    again = run(x, counts)
    for k, rows in enumerate(x.split(counts)):
        alone = run(rows, [counts[k]])
        for one, other, lone in zip(everything, again, alone, strict=True):
            assert torch.equal(one[k], other[k]) and torch.equal(one[k], lone[0])
    turned, _ = run(torch.cat(x.split(counts)[::-1]), counts[::-1])
    assert torch.equal(torch.cat(turned[::-1]), torch.cat(everything[0]))


@pytest.mark.triton
@pytest.mark.usefixtures("triton")
def test_a_view_at_an_odd_address_gives_the_bits_of_its_copy():
    x = make_rows([101], 1, torch.float32).squeeze(1)
    ptr = make_ptr([60, 40])
    assert x[1:].data_ptr() % 16
    assert torch.equal(segment_reduce(x[1:], ptr), segment_reduce(x[1:].clone(), ptr))
    strided = make_rows([50], 12)[:, ::3]
    assert torch.equal(segment_reduce(strided, make_ptr([50])), segment_reduce(strided.contiguous(), make_ptr([50])))


@pytest.mark.triton
@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("reduce", [*REDUCTIONS, "softmax"])
def test_gradients_are_those_of_finite_differences(reduce):
    counts = [0, 3, 2, 0, 4]
    ptr = make_ptr(counts)
    filled = torch.tensor(counts, device=DEVICE) > 0

    def function(x: Tensor) -> Tensor:
        return segment_softmax(x, ptr) if reduce == "softmax" else segment_reduce(x, ptr, reduce)[filled]

    assert gradcheck(function, (make_rows(counts, 2).requires_grad_(),))


@pytest.mark.triton
@pytest.mark.usefixtures("triton")
def test_dtypes_without_a_kernel_run_on_the_reference():
    counts = [2, 0, 3]
    for dtype in (torch.uint8, torch.int16, torch.bfloat16):
        x = make_rows(counts, 3).abs().to(dtype)
        out = segment_reduce(x, make_ptr(counts))
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), loop(x.double(), counts, "sum"), rtol=1e-2, atol=0)


@pytest.mark.triton
def test_runs_triton_asks_for_the_backend_and_a_floating_dtype():
    x = torch.ones(2, device=DEVICE)
    with use_backend("triton"):
        assert runs_triton(x) and not runs_triton(x.long())
    with use_backend("torch"):
        assert not runs_triton(x)


@pytest.mark.triton
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
@pytest.mark.parametrize("reduce", ["sum", "max", "var", "softmax"])
def test_segments_compile_into_one_graph_and_keep_their_bits(reduce, compiler):
    counts = [3, 0, CHUNK + 9, 4]
    ptr = make_ptr(counts)
    x = make_rows(counts, 3, torch.float32).requires_grad_()

    def function(x: Tensor, ptr: Tensor) -> Tensor:
        return getattr(Segments(ptr, x.shape[0]), reduce)(x)

    torch.compiler.reset()
    with use_backend("triton"):
        out = torch.compile(function, fullgraph=True, backend=compiler)(x, ptr)
        expected = function(x, ptr)
    assert torch.equal(out, expected)
    grads = [torch.autograd.grad(y.square().sum(), x)[0] for y in (out, expected)]
    assert torch.equal(*grads)


@pytest.mark.triton
def test_the_operator_keeps_the_rules_of_torch():
    from graphinv.ops import _triton

    ptr = make_ptr([2, 0, 3])
    rows = (make_rows([5], 4), ptr, torch.tensor([0, 0, 2, 2, 2], device=DEVICE))
    for reduce in ("sum", "min", "max"):
        torch.library.opcheck(_triton.triton_segment_reduce, (*rows, reduce))
    torch.library.opcheck(_triton.triton_segment_softmax, rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU Triton is the default and is imported on first use")
def test_without_a_gpu_triton_is_neither_imported_nor_the_default():
    code = (
        "import sys, torch, graphinv.ops as o; o.segment_reduce(torch.ones(2), torch.tensor([0, 2])); "
        "assert o.available_backends()[-1] != 'triton' and o.current_backend() == 'torch'; "
        "assert 'no CUDA device' in o.backend_report()['triton']; assert 'triton' not in sys.modules"
    )
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True)
