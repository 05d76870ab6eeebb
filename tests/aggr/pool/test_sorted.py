"""FSPool, PSWE and FSW against loops over groups written from their formulas, and what each contains or forgets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from graphinv.aggr import GroupLayout
from graphinv.aggr.pool.sorted import FSPoolAggregation, FSWAggregation, PSWEAggregation
from graphinv.errors import InputError
from graphinv.testing import assert_close, assert_permutation_invariant

F, OUT = 3, 5
SIZES = (3, 1, 0, 2, 11, 0, 6, 1, 0)
GROUPS = len(SIZES)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}

POOLS = {
    "fspool": lambda: FSPoolAggregation(F),
    "fspool_mean": lambda: FSPoolAggregation(F, OUT, pieces=3, normalize=True),
    "pswe": lambda: PSWEAggregation(F, OUT, slices=4, points=6),
    "pswe_one_point": lambda: PSWEAggregation(F, OUT, slices=2, points=1),
    "fsw": lambda: FSWAggregation(F, OUT),
    "fsw_fixed": lambda: FSWAggregation(F, OUT, learnable=False, with_size=False),
}
every = pytest.mark.parametrize("name", POOLS)


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request):
    return request.param


def make(name, dtype=torch.float64):
    torch.manual_seed(0)
    pool = POOLS[name]()
    for parameter in pool.parameters():  # away from every special start, and no reference in order
        with torch.no_grad():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return pool.to(dtype)


def sets(dtype=torch.float64, ties=True):
    """Return rows of 9 groups, three of them empty and the last one too; some rows are equal, some share a channel."""
    index = torch.arange(GROUPS).repeat_interleave(torch.tensor(SIZES))
    x = torch.randn(index.numel(), F, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if ties:
        x[::4] = x[0]
        x[1::3, 1] = 0.5
    return x.to(dtype), index


def array(tensor):
    return tensor.detach().double().numpy()


def projected(rows, layer):
    return rows @ array(layer.weight).T + array(layer.bias)


def slices(rows, direction):
    return np.sort(rows @ np.stack([v / math.sqrt(sum(v * v)) for v in array(direction)]).T, axis=0)


def fspool_of(pool, rows):
    knots, n = array(pool.knots), len(rows)
    if pool.project is not None:
        rows = projected(rows, pool.project)
    out = np.zeros(knots.shape[1])
    for channel in range(knots.shape[1]):
        for j, value in enumerate(sorted(rows[:, channel], reverse=True)):
            place = j / (n - 1) if n > 1 else 0.0
            out[channel] += value * np.interp(place, np.linspace(0, 1, pool.pieces + 1), knots[:, channel])
    return out / max(n, 1) if pool.normalize else out


def pswe_of(pool, rows):
    reference, weight, n = np.sort(array(pool.reference), axis=0), array(pool.weight), len(rows)
    values = slices(rows, pool.direction)
    places = (np.arange(pool.points) + 0.5) / pool.points
    z = np.zeros(pool.slices)
    for slice_ in range(pool.slices):
        quantiles = np.interp(places, (np.arange(n) + 0.5) / n, values[:, slice_]) if n else np.zeros(pool.points)
        z[slice_] = sum(weight[:, slice_] * (quantiles - reference[:, slice_]))
    return projected(z, pool.project)


def fsw_of(pool, rows):
    out, n = [], len(rows)
    values = slices(rows, pool.direction)
    for slice_, xi in enumerate(abs(array(pool.frequency))):
        turn = 2 * math.pi * xi
        steps = (
            value * (math.sin(turn * (j + 1) / n) - math.sin(turn * j / n)) for j, value in enumerate(values[:, slice_])
        )
        out.append(2 * (1 + xi) * sum(steps) / turn)
    return np.array([*out, math.log(1 + n)] if pool.with_size else out)


LOOPS = {FSPoolAggregation: fspool_of, PSWEAggregation: pswe_of, FSWAggregation: fsw_of}


@every
def test_pooling_equals_a_loop_over_the_groups(name, dtype):
    pool, (x, index) = make(name, dtype), sets(dtype)
    loop = LOOPS[type(pool)]
    expected = np.stack([loop(pool, array(x[index == group])) for group in range(GROUPS)])
    assert_close(pool(x, index, dim_size=GROUPS), torch.from_numpy(expected), name, tolerance=10 * TOLERANCE[dtype])


@every
def test_gradients_of_rows_and_parameters_are_exact(name):
    pool, (x, index) = make(name), sets(ties=False)
    x.requires_grad_()
    parameters = [p for p in pool.parameters() if p.requires_grad]
    assert gradcheck(lambda x, *_: pool(x, index, dim_size=GROUPS), (x, *parameters))


@every
def test_permutation_inside_groups_changes_nothing(name, dtype):
    pool, (x, index) = make(name, dtype), sets(dtype)
    for seed in range(3):
        assert_permutation_invariant(
            lambda x, index: pool(x, index, dim_size=GROUPS), x, index, seed=seed, tolerance=TOLERANCE[dtype]
        )


@every
def test_a_group_alone_is_the_group_in_its_batch(name, dtype):
    pool, (x, index) = make(name, dtype), sets(dtype)
    together = pool(x, index, dim_size=GROUPS)
    for group in range(GROUPS):
        alone = pool(x[index == group], ptr=torch.tensor([0, SIZES[group]]))
        assert_close(alone, together[group : group + 1], f"group {group}", tolerance=TOLERANCE[dtype])
    shuffled = torch.randperm(len(index), generator=torch.Generator().manual_seed(1))
    apart = pool(x[shuffled], index[shuffled], dim_size=GROUPS)
    assert_close(apart, together, "unsorted", tolerance=TOLERANCE[dtype])


@every
def test_empty_groups_and_empty_input_give_what_is_documented(name):
    pool = make(name)
    none = torch.empty(0, F, dtype=torch.float64, requires_grad=True)
    index = torch.empty(0, dtype=torch.int64)
    out = pool(none, index, dim_size=2)
    expected = torch.zeros(2, out.shape[1], dtype=torch.float64)
    if isinstance(pool, PSWEAggregation):  # that of quantiles 0
        expected = expected + torch.from_numpy(pswe_of(pool, np.zeros((0, F))))
    assert_close(out, expected, "empty", tolerance=1e-12)
    out.sum().backward()
    assert none.grad.shape == (0, F)
    assert pool(none, index, dim_size=0).shape == (0, out.shape[1])


@every
def test_neither_nan_nor_infinity_leaves_its_group_forward_or_backward(name):
    pool, (x, index) = make(name), sets()
    clean = x.clone().requires_grad_()
    expected = pool(clean, index, dim_size=GROUPS)
    expected[4:].square().sum().backward()
    for value in (math.nan, math.inf):
        spoiled = torch.where((index == 3).unsqueeze(1), value, x).requires_grad_()
        out = pool(spoiled, index, dim_size=GROUPS)
        others = torch.arange(GROUPS) != 3
        assert_close(out[others], expected[others], "other groups", tolerance=1e-12)
        out[4:].square().sum().backward()
        assert_close(spoiled.grad[index > 3], clean.grad[index > 3], "gradient", tolerance=1e-11)


@every
def test_half_precision_and_autocast_are_computed_in_float32(name):
    pool, (x, index) = make(name, torch.float32), sets(torch.float32)
    pool, x = pool.bfloat16(), x.bfloat16()
    out = pool(x, index, dim_size=GROUPS)
    assert out.dtype == torch.bfloat16 and bool(out.isfinite().all())
    wide = pool.float()(x.float(), index, dim_size=GROUPS)
    assert torch.equal(out, wide.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pool(x.float(), index, dim_size=GROUPS), wide)


@pytest.mark.parametrize("name", ["fspool", "pswe_one_point", "fsw_fixed"])  # the behaviour matrix has the others
def test_compiled_without_a_graph_break_it_is_the_same(name):
    torch._dynamo.reset()
    pool, (x, index) = make(name), sets()
    x.requires_grad_()
    compiled = torch.compile(pool, fullgraph=True, backend="eager")
    outs = [m(x, index, dim_size=GROUPS, max_num_elements=16) for m in (compiled, pool)]
    assert_close(*outs, "compiled", tolerance=1e-12)
    assert_close(*(torch.autograd.grad(out.square().sum(), x)[0] for out in outs), "slope", tolerance=1e-11)


@every
def test_parameters_are_drawn_anew_and_named_settings_are_shown(name):
    pool, (x, index) = POOLS[name](), sets(torch.float32)
    before = pool(x, index, dim_size=GROUPS)
    pool.reset_parameters()
    assert not torch.allclose(pool(x, index, dim_size=GROUPS), before)
    assert repr(pool) == f"{type(pool).__name__}({pool.in_channels}, {pool.out_channels})"
    assert before.shape == (GROUPS, pool.out_channels)


def weighted(pieces, values, **settings):
    """Return FSPool of one channel whose f has these values at its knots, and is linear between."""
    pool = FSPoolAggregation(1, pieces=pieces, **settings).double()
    with torch.no_grad():
        pool.knots.copy_(torch.tensor(values, dtype=torch.float64).unsqueeze(1))
    return pool


def rows_of(*values):
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


SPECIAL = {
    "maximum": (weighted(4, [1, 0, 0, 0, 0]), lambda v: max(v)),
    "minimum": (weighted(4, [0, 0, 0, 0, 1]), lambda v: min(v) if len(v) > 1 else 0),
    "median": (weighted(4, [0, 0, 1, 0, 0]), lambda v: sorted(v)[len(v) // 2] if len(v) > 1 else 0),
    "sum": (weighted(4, [1, 1, 1, 1, 1]), lambda v: sum(v)),
    "mean": (weighted(1, [1, 1], normalize=True), lambda v: sum(v) / len(v)),
    "range": (weighted(4, [1, 0, 0, 0, -1]), lambda v: max(v) - min(v) if len(v) > 1 else v[0]),
    "ramp": (weighted(1, [0, 1]), lambda v: sum(j / 2 * u for j, u in enumerate(sorted(v)[::-1])) if v[1:] else 0),
}


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("values", [(3.0, -1.0, 7.0), (2.0, 2.0, -5.0), (-4.0,)], ids=str)
def test_fspool_contains(name, values):
    pool, function = SPECIAL[name]
    assert pool(rows_of(*values)).item() == pytest.approx(function(values), abs=1e-14)


def test_the_extremes_of_fspool_are_exact_up_to_one_row_more_than_pieces():
    values = torch.randn(5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert SPECIAL["maximum"][0](values).item() == values.max().item()
    more = torch.cat([values, values[:1]])
    assert SPECIAL["maximum"][0](more).item() != more.max().item()


def test_fspool_starts_near_the_sum_or_mean():
    x = torch.rand(1000, 4, generator=torch.Generator().manual_seed(0))
    assert_close(FSPoolAggregation(4)(x), x.sum(0, keepdim=True), "sum", tolerance=0.3)
    assert_close(FSPoolAggregation(4, normalize=True)(x), x.mean(0, keepdim=True), "mean", tolerance=0.3)


def quantiles(points):
    """Return the pooling of one channel that gives quantile number m alone as its m-th channel."""
    pools = []
    for m in range(points):
        pool = PSWEAggregation(1, 1, slices=1, points=points).double()
        with torch.no_grad():
            for parameter in pool.parameters():
                parameter.zero_()
            pool.direction.fill_(2)
            pool.weight[m] = 1
            pool.project.weight.fill_(1)
        pools.append(pool)
    return lambda x: torch.cat([pool(x) for pool in pools], 1).flatten()


def test_pswe_reads_the_sorted_values_where_there_are_as_many_points():
    assert quantiles(4)(rows_of(3.0, -1.0, 7.0, 0.0)).tolist() == [-1.0, 0.0, 3.0, 7.0]
    assert quantiles(2)(rows_of(3.0, -1.0, 7.0, 0.0)).tolist() == [-0.5, 5.0]
    assert quantiles(3)(rows_of(5.0)).tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize("times", [2, 3, 10])
@pytest.mark.parametrize("n", [1, 2, 5, 12, 15, 20])
def test_pswe_hardly_sees_that_every_row_is_repeated(n, times):
    points = 5
    x = torch.randn(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    gap = (quantiles(points)(x.repeat(times, 1)) - quantiles(points)(x)).abs().max().item()
    widest = x.sort(dim=0).values.diff(dim=0).max().item() if n > 1 else 0.0
    assert gap <= widest / 2 + 1e-12
    if n % points == 0:  # each point is in the middle of a step or of two
        assert gap <= 1e-12
    elif n > 1:
        assert gap > 1e-3


@pytest.mark.parametrize("name", ["pswe", "fsw"])
def test_directions_have_no_length_and_references_no_order(name):
    pool, (x, index) = make(name), sets()
    expected = pool(x, index, dim_size=GROUPS)
    with torch.no_grad():
        pool.direction.mul_(torch.rand(pool.direction.shape[0], 1, dtype=torch.float64) + 0.5)
        if name == "pswe":
            pool.reference.copy_(pool.reference.flip(0))
    assert_close(pool(x, index, dim_size=GROUPS), expected, "scaled", tolerance=1e-12)


def test_fsw_is_the_integral_of_the_quantile_function_that_is_a_step_at_each_row():
    pool, x = make("fsw_fixed"), sets()[0][:7]
    t = (torch.arange(70_000, dtype=torch.float64) + 0.5) / 70_000
    for number, (v, xi) in enumerate(zip(pool.direction, pool.frequency.abs(), strict=True)):
        quantile = (x @ (v / v.norm())).sort().values[(7 * t).long()]
        integral = 2 * (1 + xi) * (quantile * (2 * math.pi * xi * t).cos()).mean()
        assert pool(x)[0, number].item() == pytest.approx(integral.item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("xi", [0.0, 1e-30, 1e-6, -1e-6])
def test_fsw_near_frequency_zero_is_twice_the_mean_and_so_is_its_slope(xi, dtype):
    pool, x = FSWAggregation(1, 1, with_size=False).to(dtype), rows_of(3.0, -1.0, 7.0, 0.0).to(dtype)
    with torch.no_grad():
        pool.direction.fill_(1)
        pool.frequency.fill_(xi)
    out = pool(x)
    out.backward()
    assert out.item() == pytest.approx(2 * 9 / 4, rel=1e-5)
    assert pool.frequency.grad.item() == pytest.approx(math.copysign(1, xi) * 2 * 9 / 4 if xi else 0, rel=1e-3)
    assert pool.frequency.grad.isfinite().all()


def test_fsw_is_exact_on_both_sides_of_where_a_series_takes_over():
    pool, x = FSWAggregation(1, 1, with_size=False).double(), rows_of(3.0, -1.0, 7.0)
    for xi in (0.15, 0.235, 0.238, 0.2387, 0.2388, 0.24, 0.3):  # pi xi / n around 0.25
        pool.frequency.data.fill_(xi)
        assert pool(x).item() == pytest.approx(fsw_of(pool, array(x))[0], rel=1e-14)
        assert gradcheck(lambda xi: torch.func.functional_call(pool, {"frequency": xi}, x), pool.frequency)


def test_fsw_of_every_row_repeated_differs_in_the_size_alone():
    pool, x = FSWAggregation(F, 9).double(), sets()[0]
    once, often = pool(x), pool(x.repeat(4, 1))
    assert_close(often[:, :8], once[:, :8], "distribution", tolerance=1e-12)
    assert once[0, 8].item() == pytest.approx(math.log(1 + len(x)))
    assert often[0, 8].item() == pytest.approx(math.log(1 + 4 * len(x)))


@pytest.mark.parametrize(
    ("one", "other"),
    [((0.0, 2.0), (1.0, 1.0)), ((0.0, 1.0, 5.0), (0.0, 2.0, 5.0)), ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0))],
    ids=["equal mean", "equal extremes", "equal support"],
)
def test_fsw_tells_apart_sets_that_a_statistic_confuses(one, other):
    torch.manual_seed(0)
    pool = FSWAggregation(1, 8).double()
    assert (pool(rows_of(*one)) - pool(rows_of(*other))).norm().item() > 0.1


def test_what_is_not_learnable_keeps_out_of_training_but_is_saved():
    pool = FSWAggregation(F, OUT, learnable=False)
    x = sets(torch.float32)[0].requires_grad_()
    pool(x).sum().backward()
    assert all(parameter.grad is None for parameter in pool.parameters())
    assert x.grad.abs().sum() > 0
    other = FSWAggregation(F, OUT, learnable=False)
    other.load_state_dict(pool.state_dict())
    assert torch.equal(other(x), pool(x))


def test_a_layout_can_be_shared_by_poolings():
    x, index = sets()
    layout = GroupLayout.from_index(index, GROUPS)
    for name in POOLS:
        pool = make(name)
        assert torch.equal(pool(x, layout=layout), pool(x, index, dim_size=GROUPS))


BAD = {
    "no pieces": (lambda: FSPoolAggregation(3, pieces=0), "pieces must be at least 1, got 0"),
    "no channels": (lambda: FSPoolAggregation(0), "in_channels must be at least 1"),
    "no slices": (lambda: PSWEAggregation(3, 3, slices=0), "slices must be at least 1"),
    "no points": (lambda: PSWEAggregation(3, 3, points=-2), "points must be at least 1, got -2"),
    "no result": (lambda: FSWAggregation(3, 0), "out_channels must be at least 1"),
    "size and nothing else": (lambda: FSWAggregation(3, 1), "at least 2 to hold the size"),
    "other channels": (lambda: FSPoolAggregation(3)(torch.zeros(2, 4)), "made for 3 channels"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_refused(case):
    build, message = BAD[case]
    with pytest.raises(InputError, match=message):
        build()
