"""Attention inside segments, against the formula written as loops, and what must not cross segments."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from graphinv.errors import InputError
from graphinv.ops import attention
from graphinv.ops.attention import segment_attention
from graphinv.testing import assert_close

QUERIES = (3, 0, 2, 1, 9, 10, 0, 40, 5, 1, 12, 11)
KEYS = (4, 5, 0, 1, 10, 9, 0, 37, 1, 30, 11, 12)
HEADS, D, E = 2, 4, 3


def offsets(sizes):
    return torch.tensor([0, *sizes]).cumsum(0)


def rows(seed=0, dtype=torch.float64, queries=QUERIES, keys=KEYS, values=E):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((sum(queries), HEADS, D), (sum(keys), HEADS, D), (sum(keys), HEADS, values))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def by_loops(query, key, value, queries=QUERIES, keys=KEYS, scale=None):
    """Evaluate the definition for each query and head on its own, in plain numbers."""
    scale = 1 / math.sqrt(query.shape[2]) if scale is None else scale
    out = torch.zeros(query.shape[0], query.shape[1], value.shape[2], dtype=torch.float64)
    query, key = query.tolist(), key.tolist()
    first_query = first_key = 0
    for count, others in zip(queries, keys, strict=True):
        own = range(first_key, first_key + others)
        for i in range(first_query, first_query + count):
            for h in range(out.shape[1]):
                scores = [scale * sum(a * b for a, b in zip(query[i][h], key[j][h], strict=True)) for j in own]
                weights = [math.exp(score - max(scores)) for score in scores]
                for weight, j in zip(weights, own, strict=True):
                    out[i, h] += weight / sum(weights) * value[j, h].double()
        first_query, first_key = first_query + count, first_key + others
    return out


@pytest.fixture
def small_tiles(monkeypatch):
    """Cut everything to many parts and tiles, as large segments are."""
    monkeypatch.setattr(attention, "_CPU_TILE", 64)
    monkeypatch.setattr(attention, "_PART_ELEMENTS", 200)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("scale", [None, 2.0])
def test_it_is_the_softmax_over_the_keys_of_the_own_segment(dtype, scale):
    q, k, v = rows(dtype=dtype)
    out = segment_attention(q, k, v, offsets(QUERIES), offsets(KEYS), scale)
    assert out.dtype == dtype
    limit = 1e-13 if dtype == torch.float64 else 2e-6
    assert_close(out.double(), by_loops(q, k, v, scale=scale), "loops", tolerance=limit)


def test_tiles_change_nothing(small_tiles):
    q, k, v = rows()
    out = segment_attention(q, k, v, offsets(QUERIES), offsets(KEYS))
    assert_close(out, by_loops(q, k, v), "loops", tolerance=1e-13)


def test_a_segment_without_keys_gives_zero_and_one_without_queries_nothing():
    q, k, v = rows()
    out = segment_attention(q, k, v, offsets(QUERIES), offsets(KEYS))
    assert bool((out[3:5] == 0).all()) and bool((out[5:] != 0).all())
    ptr = torch.zeros(4, dtype=torch.int64)
    none = torch.empty(0, HEADS, D)
    assert segment_attention(none, none, none, ptr, ptr).shape == (0, HEADS, D)
    assert segment_attention(none, none, none, ptr[:1], ptr[:1]).shape == (0, HEADS, D)


@pytest.mark.parametrize("second", [False, True])
def test_without_any_pair_all_gradients_are_zero(second):
    q, k, v = (t.requires_grad_() for t in rows(queries=(3, 0), keys=(0, 4)))
    out = segment_attention(q, k, v, offsets((3, 0)), offsets((0, 4)))
    for grad in torch.autograd.grad(out.sum(), (q, k, v), create_graph=second):
        assert bool((grad == 0).all())


QUERIES_FEW, KEYS_FEW = (3, 0, 2, 9, 10, 1), (4, 2, 0, 10, 9, 1)


def test_gradients_match_finite_differences_entry_by_entry(small_tiles):
    queries, keys = (3, 0, 1, 4), (4, 2, 0, 3)
    tensors = [t.requires_grad_() for t in rows(queries=queries, keys=keys)]
    assert torch.autograd.gradcheck(lambda *t: segment_attention(*t, offsets(queries), offsets(keys)), tensors)


@pytest.mark.parametrize("wanted", [(0, 1, 2), (0,), (1,), (2,)])
def test_gradients_match_finite_differences(wanted, small_tiles):
    tensors = rows(queries=QUERIES_FEW, keys=KEYS_FEW)
    for place in wanted:
        tensors[place].requires_grad_()
    pointers = offsets(QUERIES_FEW), offsets(KEYS_FEW)
    assert torch.autograd.gradcheck(lambda *t: segment_attention(*t, *pointers), tensors, fast_mode=True)


def test_second_derivatives_match_finite_differences():
    tensors = [t.requires_grad_() for t in rows(queries=QUERIES_FEW, keys=KEYS_FEW)]
    pointers = offsets(QUERIES_FEW), offsets(KEYS_FEW)
    assert torch.autograd.gradgradcheck(lambda *t: segment_attention(*t, *pointers), tensors, fast_mode=True)


def test_a_gradient_to_be_differentiated_counts_each_path_once():
    (x, *_), ptr = rows(queries=QUERIES, keys=QUERIES), offsets(QUERIES)
    weight = torch.randn(D, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)

    def twice():
        y = x @ weight
        return segment_attention(y, y, segment_attention(y, y, y, ptr, ptr) @ weight, ptr, ptr).square().sum()

    (plain,), (again,) = (torch.autograd.grad(twice(), weight, create_graph=kept) for kept in (False, True))
    assert_close(again.detach(), plain, "create_graph", tolerance=1e-12)


def test_torch_func_sees_a_plain_function(readable_transforms):
    (q, k, v), pointers = rows(), (offsets(QUERIES), offsets(KEYS))

    def total(q, k, v):
        return segment_attention(q, k, v, *pointers).square().sum()

    expected = torch.autograd.grad(total(q.requires_grad_(), k, v), q)[0]
    assert_close(torch.func.grad(total)(q.detach(), k, v), expected, "torch.func.grad", tolerance=1e-12)
    many = torch.stack([q.detach(), 2 * q.detach()])
    out = torch.func.vmap(lambda q: segment_attention(q, k, v, *pointers))(many)
    assert_close(out[1], segment_attention(many[1], k, v, *pointers), "vmap", tolerance=1e-12)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1, 2], ids=["query", "key", "value"])
def test_nan_and_infinity_stay_in_their_segment_and_their_share_of_it_is_that_of_the_segment_alone(value, place):
    """Segments 10 and 11, of 12 and 11 queries, and 4 and 5 are padded to one another's sizes."""
    tensors, sizes = rows(), (QUERIES, KEYS, KEYS)
    tensors[0][:, :, 0] = -tensors[0][:, :, 0].abs()  # a key of +inf there has weight 0: its neighbours stay finite
    grad = torch.randn(sum(QUERIES), HEADS, E, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    pointers = offsets(QUERIES), offsets(KEYS)

    def run(tensors, pointers, grad):
        tensors = [t.clone().requires_grad_() for t in tensors]
        out = segment_attention(*tensors, *pointers)
        return out.detach(), *torch.autograd.grad(out, tensors, grad)

    clean = run(tensors, pointers, grad)
    for segment in (4, 5, 10, 11):
        spoiled = [t.clone() for t in tensors]
        start = sum(sizes[place][:segment])
        spoiled[place][start + 1, 0, 0] = value
        results = run(spoiled, pointers, grad)
        parts = [slice(sum(size[:segment]), sum(size[: segment + 1])) for size in (QUERIES, *sizes)]
        alone = run(
            [t[part] for t, part in zip(spoiled, parts[1:], strict=True)],
            [offsets(size[segment : segment + 1]) for size in (QUERIES, KEYS)],
            grad[parts[0]],
        )
        for part, result, own, expected in zip(parts, results, alone, clean, strict=True):
            others = torch.ones(result.shape[0], dtype=torch.bool)
            others[part] = False
            assert_close(result[others], expected[others], f"next to segment {segment}", tolerance=1e-13)
            assert torch.allclose(result[part], own, rtol=1e-12, atol=1e-13, equal_nan=True)


def test_a_nan_key_is_seen_by_every_query_of_its_segment():
    q, k, v = rows()
    k[sum(KEYS[:7]) + 2] = float("nan")
    out = segment_attention(q, k, v, offsets(QUERIES), offsets(KEYS))
    spoiled = torch.zeros(out.shape[0], dtype=torch.bool)
    spoiled[sum(QUERIES[:7]) : sum(QUERIES[:8])] = True
    assert torch.equal(out.isnan().all(2).all(1), spoiled) and torch.equal(out.isnan().any(2).any(1), spoiled)


def test_one_segment_is_the_attention_of_torch():
    torch.manual_seed(0)
    module = torch.nn.MultiheadAttention(12, 3, bias=True, batch_first=True).double()
    x, y = torch.randn(5, 12, dtype=torch.float64), torch.randn(7, 12, dtype=torch.float64)
    expected = module(x[None], y[None], y[None])[0][0]
    q, k, v = (
        torch.nn.functional.linear(rows, weight, bias).view(-1, 3, 4)
        for rows, weight, bias in zip(
            (x, y, y), module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True
        )
    )
    out = segment_attention(q, k, v, torch.tensor([0, 5]), torch.tensor([0, 7]))
    assert_close(module.out_proj(out.flatten(1)), expected, "MultiheadAttention", tolerance=1e-13)


def test_the_order_of_keys_does_not_matter_and_that_of_queries_is_kept():
    q, k, v = rows()
    pointers = offsets(QUERIES), offsets(KEYS)
    expected = segment_attention(q, k, v, *pointers)
    moves = []
    for sizes in (QUERIES, KEYS):
        draws = [torch.randperm(size, generator=torch.Generator().manual_seed(size)) for size in sizes]
        moves.append(torch.cat([draw + start for draw, start in zip(draws, offsets(sizes)[:-1], strict=True)]))
    out = segment_attention(q[moves[0]], k[moves[1]], v[moves[1]], *pointers)
    assert_close(out, expected[moves[0]], "moved rows", tolerance=1e-13)


def test_equal_keys_share_their_weight_equally():
    q = torch.randn(1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = torch.tensor([1.0, 2.0, 6.0]).view(3, 1, 1)
    out = segment_attention(q, q.expand(3, 1, 2), value, torch.tensor([0, 1]), torch.tensor([0, 3]))
    assert_close(out.flatten(), torch.tensor([3.0], dtype=torch.float64), "mean", tolerance=1e-14)


def test_scores_beyond_the_range_of_exp_do_not_overflow():
    q, k, v = rows()
    out = segment_attention(q, k, v, offsets(QUERIES), offsets(KEYS), 1e6)
    assert_close(out, by_loops(q, k, v, scale=1e6), "large scores", tolerance=1e-9)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_is_computed_in_float32(half):
    tensors = [t.requires_grad_() for t in rows(dtype=half)]
    out = segment_attention(*tensors, offsets(QUERIES), offsets(KEYS))
    wide = segment_attention(*(t.float() for t in tensors), offsets(QUERIES), offsets(KEYS))
    assert out.dtype == half and torch.equal(out, wide.to(half))
    for grad in torch.autograd.grad(out.sum(), tensors):
        assert grad.dtype == half and bool(grad.isfinite().all())


def test_mixed_dtypes_and_autocast_compute_in_the_widest():
    q, k, v = rows(dtype=torch.float32)
    pointers = offsets(QUERIES), offsets(KEYS)
    expected = segment_attention(q.bfloat16().float(), k, v, *pointers)
    with torch.autocast("cpu", torch.bfloat16):
        out = segment_attention(q.bfloat16(), k, v, *pointers)
    assert out.dtype == torch.float32 and torch.equal(out, expected)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_to_one_operation_with_other_sizes_later(backend):
    torch._dynamo.reset()
    compiled = torch.compile(segment_attention, fullgraph=True, backend=backend)
    for queries, keys in ((QUERIES, KEYS), (KEYS, QUERIES), ((1, 2), (0, 3))):
        tensors = [t.requires_grad_() for t in rows(queries=queries, keys=keys)]
        pointers = offsets(queries), offsets(keys)
        outs = [function(*tensors, *pointers) for function in (compiled, segment_attention)]
        assert_close(*outs, "compiled", tolerance=1e-14)
        for one, other in zip(*(torch.autograd.grad(out.square().sum(), tensors) for out in outs), strict=True):
            assert_close(one, other, "slopes", tolerance=1e-13)


def test_inference_mode_gives_the_same():
    q, k, v = rows()
    with torch.inference_mode():
        out = segment_attention(q, k, v, offsets(QUERIES), offsets(KEYS))
    assert torch.equal(out, segment_attention(q, k, v, offsets(QUERIES), offsets(KEYS)))


class Largest(TorchDispatchMode):
    """Notes the elements of the largest tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            self.elements = max(self.elements, t.numel() if isinstance(t, torch.Tensor) else 0)
        return out


def test_no_tensor_is_padded_to_the_largest_segment_and_no_map_of_it_is_built():
    """300 rows of their own beside a segment of 3000: padded, the batch would be 273 times its size."""
    ptr = offsets((3000, *[1] * 300))
    x = torch.randn(3300, 1, 1, generator=torch.Generator().manual_seed(0))
    shift = torch.zeros(1, 3000, 1)
    with Largest() as seen:  # what is inside of an operation is hidden from a mode, so the parts are called
        attention._assembled(attention._fused, (x, x, x), ptr, ptr, 1.0)
        attention._part_slopes(*(x[:3000].view(1, 3000, 1),) * 4, shift, None, 1.0)
    assert 3300 < seen.elements <= attention._CPU_TILE < 3300 * 300


BAD = {
    "two dimensions": (lambda q, k, v, p, r: (q[:, 0], k, v, p, r), "rows, heads, channels"),
    "heads that differ": (lambda q, k, v, p, r: (q, k[:, :1], v, p, r), "equal N, H, D"),
    "rows that differ": (lambda q, k, v, p, r: (q, k, v[1:], p, r), "equal N, H, D"),
    "whole numbers": (lambda q, k, v, p, r: (q, k.long(), v, p, r), "key must be of a floating dtype"),
    "floating offsets": (lambda q, k, v, p, r: (q, k, v, p.float(), r), "query_ptr must be offsets"),
    "other segments": (lambda q, k, v, p, r: (q, k, v, p, r[:-1]), "same segments"),
    "offsets that end early": (lambda q, k, v, p, r: (q[1:], k, v, p, r), "end at"),
    "offsets that decrease": (lambda q, k, v, p, r: (q, k, v, p, r[[0, 2, 1, *range(3, len(r))]]), "never decrease"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    change, message = BAD[case]
    with pytest.raises(InputError, match=message):
        segment_attention(*change(*rows(), offsets(QUERIES), offsets(KEYS)))
