"""The GRU tree on Triton, under its interpreter or on a GPU: the same function as the formula in float64."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.autograd.functional import hvp
from torch.func import grad, jacrev

from graphinv.aggr import LCMAggregation, _triton_gru
from graphinv.aggr._kernels import GRUKernel
from graphinv.aggr._tree import fold_on_triton
from graphinv.aggr.layout import GroupLayout
from graphinv.ops import use_backend
from graphinv.testing import assert_close

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
SIZES = [3, 0, 1, 7, 16, 2, 40, 0, 5, 33]
INDEX = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
TOLERANCE = 2e-6  # of float32, relative to the largest number


def draw(*shape, seed=0, dtype=torch.float32):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(DEVICE, dtype)


def weights(hidden, dtype=torch.float32, size=1.0):
    scale = size / hidden**0.5
    shapes = ((3 * hidden, hidden), (3 * hidden, hidden), (3 * hidden,), (3 * hidden,))
    return [(scale * draw(*shape, seed=5 + k)).to(dtype) for k, shape in enumerate(shapes)]


def assert_same_bits(got, wanted, what, products=torch.float32):
    """Assert equal bits; up to rounding if interpreted: matrices are then multiplied by numpy, whose last bit depends
    on how many rows there are, on some processors."""
    if INTERPRETED:
        assert_close(got, wanted, what, tolerance=10 * TOLERANCE if products == torch.float32 else 4e-2)
    else:
        assert torch.equal(got, wanted), what


def combine_by_hand(a, b, w_ih, w_hh, b_ih, b_hh):
    """Return the mean of GRU(a, b) and GRU(b, a) from the formula of the cell."""

    def cell(given, state):
        i_r, i_z, i_n = (given @ w_ih.t() + b_ih).chunk(3, 1)
        h_r, h_z, h_n = (state @ w_hh.t() + b_hh).chunk(3, 1)
        update = torch.sigmoid(i_z + h_z)
        return (1 - update) * torch.tanh(i_n + torch.sigmoid(i_r + h_r) * h_n) + update * state

    return (cell(a, b) + cell(b, a)) / 2


def fold_by_hand(rows, given):
    """Return the fold of the rows of one group, position p with p + stride."""
    rows = list(rows.split(1))
    stride = 1 << max(len(rows) - 1, 0).bit_length() >> 1
    while stride:
        for place in range(stride, len(rows)):
            rows[place - stride] = combine_by_hand(rows[place - stride], rows[place], *given)
        rows, stride = rows[:stride], stride >> 1
    return rows[0]


def layout_of(sizes):
    return GroupLayout.from_index(torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(DEVICE))


def fold(x, layout, given, products=None, static=False):
    """Return the results of the ranks."""
    plan = layout.static_packed() if static else layout.packed()
    fold_packed = fold_on_triton(GRUKernel, x) or plainly
    return fold_packed(x.index_select(0, plan.perm), plan, tuple(given), products)[: len(plan.groups)]


def plainly(x, plan, given, products):
    return plan.table(x, lambda a, b: GRUKernel.plain(a, b, *given))


def module(hidden=5, dtype=torch.float32, **settings):
    torch.manual_seed(0)
    m = LCMAggregation(**{"in_channels": 3, "out_channels": hidden, "order": "given", **settings})
    torch.nn.init.normal_(m.identity)
    return m.to(DEVICE, dtype)


def gradients(m, x, index, groups):
    out = m(x, index, dim_size=groups)
    loss = (out * draw(*out.shape, seed=3).to(out.dtype)).sum() + m.auxiliary_loss().to(out.dtype)
    return [out, *torch.autograd.grad(loss, [x, *m.parameters()])]


@pytest.mark.triton
@pytest.mark.parametrize("hidden", [1, 5, 16, 33, 70])
def test_levels_and_every_gradient_equal_the_formula_in_float64(hidden):
    sizes = SIZES if hidden == 33 else [70, 0, 3, *[2] * 140] if hidden == 5 else [6, 2, 1, 3]
    layout = layout_of(sizes)
    x, given = draw(sum(sizes), hidden).requires_grad_(), [w.requires_grad_() for w in weights(hidden)]
    exact = [t.detach().double().requires_grad_() for t in (x, *given)]
    with use_backend("triton"):
        assert fold_on_triton(GRUKernel, x) is not None
        out = fold(x, layout, given)
    expected = torch.cat([fold_by_hand(rows, exact[1:]) for rows in exact[0].split(sizes) if rows.shape[0]])
    groups = layout.packed().groups
    expected = expected[(groups[:, None] > groups).sum(1)]  # in the order of the ranks
    assert_close(out.double(), expected, "result", tolerance=TOLERANCE)
    slope = draw(*out.shape, seed=3)
    got = torch.autograd.grad((out * slope).sum(), [x, *given])
    wanted = torch.autograd.grad((expected * slope).sum(), exact)
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == torch.float32
        assert_close(one.double(), other, f"gradient {list(one.shape)}", tolerance=5 * TOLERANCE)


@pytest.mark.triton
@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 2, 3, 5, 9, 33]), max_size=6).map(lambda found: [*found, 2]),
    hidden=st.sampled_from([1, 3, 17]),
    products=st.sampled_from([torch.float32, torch.bfloat16]),
)
@example(sizes=[3, 130, 0, 66, 1], hidden=2, products=torch.float32)
def test_every_way_through_the_tree_has_the_same_bits(sizes, hidden, products):
    """All short strides in one launch, each in its own, or with shapes that do not depend on the sizes."""
    layout, x, weight = layout_of(sizes), draw(sum(sizes), hidden), weights(hidden)
    bounded = GroupLayout.from_index(layout.index, len(sizes), max_num_elements=max(sizes) + 7)
    found = []
    with use_backend("triton"), pytest.MonkeyPatch.context() as patch:
        for static in (False, True):
            for numbers in (_triton_gru._DEFERRED, 500 * hidden):  # the latter: pairs in parts of 41
                patch.setattr(_triton_gru, "_DEFERRED", numbers)
                inputs = [t.clone().requires_grad_() for t in (x, *weight)]
                out = fold(inputs[0], bounded if static else layout, inputs[1:], products, static)
                out = out[: layout.packed().groups.shape[0]]
                found.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    for out, grad_x, *of_weights in found[1:]:
        assert_same_bits(out, found[0][0], "results", products)
        assert_same_bits(grad_x, found[0][1], "gradient of rows", products)
        for got, wanted in zip(of_weights, found[0][2:], strict=True):
            assert_close(
                got, wanted, "gradient of a weight", tolerance=10 * TOLERANCE if products == torch.float32 else 4e-2
            )


@pytest.mark.triton
@pytest.mark.parametrize(("largest", "launches"), [(1, 0), (64, 1), (65, 2), (200, 3)])
def test_groups_of_up_to_64_rows_are_one_launch(largest, launches, monkeypatch):
    started = []
    monkeypatch.setattr(_triton_gru._Launch, "_start", lambda self, kernel, *args: started.append(kernel))
    with use_backend("triton"):
        x = draw(largest + 43, 4).requires_grad_()
        out = fold(x, layout_of([1, largest, *[1] * 42]), weights(4))
        assert len(started) == launches
        out.sum().backward()
    assert len(started) == 2 * launches


@pytest.mark.triton
@pytest.mark.parametrize("settings", [{"recompute": True}, {"recompute": False}, {"pairing": "neighbours"}])
def test_the_module_and_its_penalty_have_the_gradients_of_the_torch_backend_in_float64(settings):
    shuffle = torch.randperm(INDEX.numel(), generator=torch.Generator().manual_seed(1))
    index, x = INDEX[shuffle].to(DEVICE), draw(INDEX.numel(), 3)
    with use_backend("triton"):
        got = gradients(module(**settings), x.clone().requires_grad_(), index, 11)
    with use_backend("torch"):
        wanted = gradients(module(dtype=torch.float64, **settings), x.double().requires_grad_(), index, 11)
    for one, other in zip(got, wanted, strict=True):
        assert_close(one.double(), other, f"gradient {list(one.shape)}", tolerance=10 * TOLERANCE)


@pytest.mark.triton
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_of_half_precision_leave_states_and_gradients_in_float32(dtype):
    """The result is nearer to the exact one than a state of half precision could be; so are the gradients."""
    layout = layout_of([9, 1, 4, 2])
    x, given = draw(16, 20).requires_grad_(), [w.requires_grad_() for w in weights(20)]
    exact = [t.detach().double().requires_grad_() for t in (x, *given)]
    results = []
    for tensors, products in (((x, *given), dtype), (exact, None)):
        with use_backend("triton"):
            out = fold(tensors[0], layout, tensors[1:], products=products)
        results.append([out, *torch.autograd.grad(out.sum(), tensors)])
    for one, other in zip(*results, strict=True):
        assert one.dtype == torch.float32
        assert_close(one.double(), other, f"{list(one.shape)}", tolerance=8 * torch.finfo(dtype).eps)
        assert not torch.equal(one, one.to(dtype).float())
    # A group of one row is that row, to the last bit of float32.
    single = layout.packed().groups.tolist().index(1)
    assert torch.equal(results[0][0][single], x[9])


@pytest.mark.triton
@pytest.mark.parametrize("way", ["autocast", "parameters"])
def test_a_module_in_half_precision_multiplies_in_it(way):
    x, dtype = draw(INDEX.numel(), 3), torch.bfloat16
    expected = module()(x, INDEX.to(DEVICE))
    with use_backend("triton"):
        m = module() if way == "autocast" else module(dtype=dtype)
        with torch.autocast(DEVICE, dtype, enabled=way == "autocast"):
            out = m(x if way == "autocast" else x.to(dtype), INDEX.to(DEVICE))
        exact = module()(x, INDEX.to(DEVICE))
    assert out.dtype == (x.dtype if way == "autocast" else dtype)
    assert_close(exact, expected, "without it", tolerance=10 * TOLERANCE)
    assert_close(out.float(), expected, way, tolerance=0.03)
    assert not torch.equal(out.float(), exact)
    out.float().sum().backward()
    assert all(p.grad.dtype == p.dtype and bool(p.grad.isfinite().all()) for p in m.op.parameters())


@pytest.mark.triton
def test_a_group_alone_has_the_bits_it_has_in_its_batch():
    sizes = [3, 0, 70, 1, 16, 65, 2, 40]
    latent, given = draw(sum(sizes), 18), weights(18)
    layout = layout_of(sizes)
    with use_backend("triton"):
        together = fold(latent, layout, given)
        for rank, group in enumerate(layout.packed().groups.tolist()):
            alone = fold(latent[layout.index == group], layout_of([sizes[group]]), given)
            assert_same_bits(alone[0], together[rank], f"group {group} of {sizes[group]} rows")


@pytest.mark.triton
def test_the_operator_commutes_to_the_last_bit():
    pairs, given = draw(30, 2, 17), weights(17)
    with use_backend("triton"):
        results = [fold(p.reshape(60, 17), layout_of([2] * 30), given) for p in (pairs, pairs.flip(1))]
    assert torch.equal(*results)


@pytest.mark.triton
def test_two_runs_give_equal_bits():
    x, index = draw(INDEX.numel(), 3), INDEX.to(DEVICE)
    with use_backend("triton"):
        first, second = (gradients(module(), x.clone().requires_grad_(), index, 10) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.triton
def test_large_numbers_saturate_and_nan_stays_in_its_group():
    x = 1e4 * draw(12, 6)
    x[1, 2] = float("nan")
    x.requires_grad_()
    with use_backend("triton"):
        out = fold(x, layout_of([4, 4, 4]), weights(6))
    (slope,) = torch.autograd.grad(out[1:].sum(), x)
    assert bool(out[0].isnan().all()) and bool(out[1:].isfinite().all()) and bool(slope[4:].isfinite().all())


@pytest.mark.triton
def test_sets_without_pairs_and_without_rows_have_gradients():
    with use_backend("triton"):
        for rows, groups in ((0, 0), (0, 2), (3, 3)):
            m, x = module(aux_triples=0), draw(rows, 3).requires_grad_()
            out = m(x, torch.arange(rows, device=DEVICE), dim_size=groups)
            got = torch.autograd.grad(out.sum(), [x, *m.op.parameters()], allow_unused=True, materialize_grads=True)
            assert out.shape == (groups, 5) and all(bool(g.isfinite().all()) for g in got)
            assert all(not bool(g.any()) for g in got[1:])


@pytest.mark.triton
def test_a_gradient_of_the_input_alone_and_no_gradient_at_all_work():
    m, x, index = module().requires_grad_(False), draw(INDEX.numel(), 3), INDEX.to(DEVICE)
    with use_backend("triton"):
        expected = m(x, index)
        with torch.inference_mode():
            assert torch.equal(m(x, index), expected)
        given = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(m(given, index).sum(), given)
    assert_close(slope, jacrev(lambda x: m(x, index).sum())(x), "gradient", tolerance=10 * TOLERANCE)


@pytest.mark.triton
def test_second_derivatives_and_torch_func_give_what_the_torch_backend_gives():
    m, x = module().requires_grad_(False), draw(12, 3)
    index = torch.arange(4, device=DEVICE).repeat_interleave(3)

    def loss(x):
        return m(x, index).square().sum()

    found = {}
    for backend in ("triton", "torch"):
        with use_backend(backend):
            found[backend] = (hvp(loss, x, draw(12, 3, seed=4))[1], grad(loss)(x), jacrev(loss)(x))
    for one, other in zip(found["triton"], found["torch"], strict=True):
        assert_close(one, other, "derivative", tolerance=10 * TOLERANCE)


@pytest.mark.triton
def test_a_backward_pass_outside_the_block_runs_the_kernels_of_its_forward_pass():
    m, x, index = module(), draw(INDEX.numel(), 3), INDEX.to(DEVICE)
    with use_backend("triton"):
        within = torch.autograd.grad(m(x, index).sum(), m.op.cell.weight_ih)[0]
        out = m(x, index)
    with use_backend("torch"):
        outside = torch.autograd.grad(out.sum(), m.op.cell.weight_ih)[0]
    assert torch.equal(within, outside)


@pytest.mark.triton
def test_float64_and_other_operators_keep_their_bits():
    x, index = draw(INDEX.numel(), 3), INDEX.to(DEVICE)
    for changes in ({"dtype": torch.float64}, {"op": "mlp"}, {"op": "gated_sum"}, {"op": "max_min"}):
        kind = changes.pop("dtype", torch.float32)
        torch.manual_seed(0)
        m = LCMAggregation(3, 5, order="given", **changes).to(DEVICE, kind)
        results = []
        for backend in ("triton", "torch"):
            with use_backend(backend):
                out = m(x.to(kind), index)
                results.append([out, *torch.autograd.grad(out.sum(), list(m.op.parameters()))])
        assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.triton
@pytest.mark.parametrize("bound", [None, 8])
def test_compiled_without_a_break_the_kernels_run_forward_and_backward(bound):
    torch._dynamo.reset()
    m, index = module(aux_triples=0), torch.arange(20, device=DEVICE) % 6
    compiled = torch.compile(m, fullgraph=True, backend="aot_eager")
    found = []
    with use_backend("triton"):
        for run in (compiled, m):
            x = draw(20, 3).requires_grad_()
            out = run(x, index, dim_size=6, max_num_elements=bound)
            found.append([out, *torch.autograd.grad(out.square().sum(), [x, *m.parameters()])])
    for got, wanted in zip(*found, strict=True):
        assert_close(got, wanted, f"{list(got.shape)}", tolerance=TOLERANCE)


@pytest.mark.triton
@pytest.mark.parametrize("static", [False, True])
def test_the_compiler_is_told_the_truth_about_the_operators(static):
    layout = layout_of([5, 0, 2, 1])
    plan = _triton_gru._Plan.of(layout.static_packed() if static else layout.packed())
    weight, bias = draw(24, 4).requires_grad_(), draw(16).requires_grad_()
    args = (draw(8, 4).requires_grad_(), weight, bias, *vars(plan).values(), torch.float32)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_static")
    torch.library.opcheck(_triton_gru.gru_tree, args, test_utils=tests)


def test_the_torch_backend_keeps_its_kernel_and_needs_no_triton():
    program = """
import sys
sys.modules["triton"] = None  # every import of it fails
import torch
from graphinv.aggr import LCMAggregation
from graphinv.aggr._kernels import GRUKernel
from graphinv.aggr._tree import fold_on_triton
from graphinv.ops import use_backend

with use_backend("torch"):
    LCMAggregation(3, 4)(torch.randn(5, 3)).sum().backward()
    assert fold_on_triton(GRUKernel, torch.ones(2, 2)) is None
assert not [name for name in sys.modules if name.startswith("graphinv") and "triton" in name]
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
