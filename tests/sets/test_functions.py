"""The set function against a loop over subsets written from the formula: sums, matrix products and maxima."""

from __future__ import annotations

import pytest
import torch

from graphinv.aggr import GroupLayout, LCMAggregation, MonoidBankAggregation
from graphinv.errors import InputError
from graphinv.sets import SetFunction
from graphinv.testing import assert_close

C, H = 3, 7
LAYOUT = GroupLayout.from_ptr(torch.tensor([0, 4, 5, 11]), 11)
OF_SET = [(0, 4), (4, 5), (5, 11)]
FUNCTIONS = {
    "plain": {},
    "one layer": {"layers": 1},
    "three layers": {"layers": 3},
    "concat": {"superset": "concat"},
    "gate": {"superset": "gate"},
    "smooth": {"layers": 3, "activation": "silu"},
    "smooth gate": {"superset": "gate", "activation": "silu"},
    "concat, one layer": {"superset": "concat", "layers": 1},
    "concat, lcm": {"superset": "concat", "statistic": lambda: LCMAggregation(C, C)},
    "gate, monoids": {"superset": "gate", "statistic": lambda: MonoidBankAggregation(C, 5)},
}
every = pytest.mark.parametrize("name", FUNCTIONS)


def make(name, **changes):
    torch.manual_seed(0)
    settings = {**FUNCTIONS[name], **changes}
    if "statistic" in settings:
        settings["statistic"] = settings["statistic"]()
    function = SetFunction(C, H, **settings).double()
    for p in function.parameters():
        p.data.mul_(2)  # kinks matter
    return function


def elements(seed=0):
    x = torch.randn(11, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[2] = x[0]
    return x


def subsets(m=3, real=False, seed=1):
    drawn = torch.rand(11, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn if real else drawn < 0.5


def naive(function, rows, membership):
    """F of one set: rows [n, C], membership [n]."""
    a = function.first.weight @ sum(w * row for w, row in zip(membership, rows, strict=True)) + function.first.bias
    if function.theta is not None:
        statistic = rows.sum(0) if function.statistic is None else function.statistic(rows)[0]
        context = linears(function.theta.linears, statistic)
        a = a + context if function.superset == "concat" else a
    bend = (lambda x: x / (1 + (-x).exp())) if function.head.smooth else (lambda x: x.clamp(min=0))
    x = bend(a)
    x = x / (1 + (-context).exp()) if function.superset == "gate" else x
    return linears(function.head.mlp.linears, x, bend)[0]


def linears(layers, x, bend=lambda x: x.clamp(min=0)):
    for k, layer in enumerate(layers):
        x = layer.weight @ (bend(x) if k else x) + layer.bias
    return x


def naive_differences(function, phi, samples, rows=range(11)):
    """[N, M], each with two evaluations of its own; of all rows or those said."""
    out = []
    for begin, end in OF_SET:
        for i in (row - begin for row in rows if begin <= row < end):
            for m in range(samples.shape[1]):
                both = []
                for value in (1.0, 0.0):
                    membership = samples[begin:end, m].double().clone()
                    membership[i] = value
                    both.append(naive(function, phi[begin:end], membership))
                out.append(both[0] - both[1])
    return torch.stack(out).view(-1, samples.shape[1])


@every
@pytest.mark.parametrize("real", [False, True])
def test_values_are_those_of_the_formula(name, real):
    function, phi, s = make(name), elements(), subsets(real=real)
    expected = [naive(function, phi[a:b], s[a:b, m].double()) for a, b in OF_SET for m in range(3)]
    assert_close(function.values(phi, LAYOUT, s), torch.stack(expected).view(3, 3), "values", tolerance=1e-12)
    assert torch.equal(function(phi, LAYOUT, s), function.values(phi, LAYOUT, s))


@every
@pytest.mark.parametrize("real", [False, True])
def test_shared_differences_are_two_evaluations_each(name, real):
    function, phi, s = make(name), elements(), subsets(real=real)
    expected = naive_differences(function, phi, s)
    assert float(expected.detach().std()) > 0.01
    assert_close(function.differences(phi, LAYOUT, s), expected, "differences", tolerance=1e-12)


@every
def test_independent_differences_take_a_subset_for_each_element(name):
    function, phi, m = make(name), elements(), 2
    generator = torch.Generator().manual_seed(2)
    cubes = [torch.rand(n, n, m, generator=generator) < 0.5 for n in (4, 1, 6)]
    samples = torch.cat([cube.view(-1, m) for cube in cubes])
    out = function.differences(phi, LAYOUT, samples, independent=True)
    for (begin, end), cube in zip(OF_SET, cubes, strict=True):
        for i in range(end - begin):
            shared = torch.zeros(11, m, dtype=torch.bool)
            shared[begin:end] = cube[i]
            expected = naive_differences(function, phi, shared, [begin + i])[0]
            assert_close(out[begin + i], expected, f"element {i}", tolerance=1e-12)


@every
@pytest.mark.parametrize("real", [False, True])
def test_parameters_and_elements_get_the_gradient_of_the_two_evaluations(name, real):
    function, s = make(name), subsets(real=real)
    phi = elements().requires_grad_()
    weight = torch.randn(11, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    wanted = [*function.parameters(), phi]
    routes = (function.differences(phi, LAYOUT, s), naive_differences(function, phi, s))
    slopes = [torch.autograd.grad((weight * out).sum(), wanted, materialize_grads=True) for out in routes]
    for a, b in zip(*slopes, strict=True):
        assert_close(a, b, "slope")
    assert sum(bool(b.abs().sum() > 0) for b in slopes[1]) >= 3


@every
def test_real_samples_get_gradients(name):
    function, phi, s = make(name), elements(), subsets(2, real=True)
    assert torch.autograd.gradcheck(lambda s: function.values(phi, LAYOUT, s), s.requires_grad_())
    assert torch.autograd.gradcheck(lambda s: function.differences(phi, LAYOUT, s), s)


@every
@pytest.mark.parametrize("real", [False, True])
def test_the_written_out_slopes_are_those_of_autograd_and_so_are_their_gradients(name, real):
    function, phi = make(name), elements().requires_grad_()
    s = subsets(real=real)
    relaxed = s.double().requires_grad_()
    value = function.values(phi, LAYOUT, relaxed).sum()
    expected = torch.autograd.grad(value, relaxed, create_graph=True)[0]
    out = function.gradients(phi, LAYOUT, s)
    assert_close(out, expected, "slope", tolerance=1e-12)
    wanted = [*function.parameters(), phi]
    again = [torch.autograd.grad(g.square().sum(), wanted, materialize_grads=True) for g in (out, expected)]
    for a, b in zip(*again, strict=True):
        assert_close(a, b, "slope of the slope")
    with torch.inference_mode():
        assert_close(function.gradients(phi, LAYOUT, s), expected, "inference mode", tolerance=1e-12)


@every
def test_a_set_alone_is_the_set_in_its_batch(name):
    function, phi, s = make(name), elements(), subsets()
    for k, (a, b) in enumerate(OF_SET):
        own = GroupLayout.from_ptr(torch.tensor([0, b - a]), b - a)
        for what in (function.values, function.differences, function.gradients):
            together = what(phi, LAYOUT, s)
            part = together[k : k + 1] if together.shape[0] == 3 else together[a:b]
            assert_close(what(phi[a:b], own, s[a:b]), part, f"set {k}", tolerance=1e-12)


@every
def test_permuting_the_elements_permutes_the_differences(name):
    function, phi, s = make(name), elements(), subsets()
    order = torch.cat([torch.randperm(b - a, generator=torch.Generator().manual_seed(a)) + a for a, b in OF_SET])
    assert_close(function.values(phi[order], LAYOUT, s[order]), function.values(phi, LAYOUT, s), "F", tolerance=1e-12)
    for what in (function.differences, function.gradients):
        expected = what(phi, LAYOUT, s)[order]
        assert_close(what(phi[order], LAYOUT, s[order]), expected, "not equivariant", tolerance=1e-12)


@every
@pytest.mark.parametrize("real", [False, True])
def test_chunks_and_recomputation_change_nothing(name, real):
    phi, s = elements().requires_grad_(), subsets(real=real)
    results = []
    for changes in ({}, {"chunk": 1}, {"chunk": 7, "recompute": True}):
        function = make(name, **changes)
        out = function.differences(phi, LAYOUT, s)
        slope = torch.autograd.grad(out.square().sum(), [phi, function.first.weight])
        results.append((out, *slope))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert_close(a, b, "chunked", tolerance=1e-11)


def test_recomputation_keeps_no_hidden_layers_for_the_backward_pass():
    phi, s = elements().requires_grad_(), subsets(60)
    kept = {}
    for recompute in (False, True):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, n=sizes: n.append(t.numel()) or t, lambda t: t):
            make("plain", chunk=64, recompute=recompute).differences(phi, LAYOUT, s)
        kept[recompute] = sum(sizes)
    hidden = 11 * 60 * H
    assert kept[False] - kept[True] > 2 * hidden - 11 * 60  # both hidden layers of every evaluation


def test_an_added_statistic_cancels_and_a_mixed_one_does_not():
    phi, s = elements(), subsets()
    more = torch.cat([phi[:4], torch.ones(1, C, dtype=torch.float64), phi[4:]])  # an element that is never chosen
    never = torch.cat([s[:4], torch.zeros(1, 3, dtype=torch.bool), s[4:]])
    larger = GroupLayout.from_ptr(torch.tensor([0, 5, 6, 12]), 12)
    change = {}
    for name in ("plain", "concat", "gate"):
        function = make(name)
        gap = function.differences(more, larger, never)[:4] - function.differences(phi, LAYOUT, s)[:4]
        change[name] = float(gap.detach().abs().max())
    assert change["plain"] < 1e-12 and change["concat"] > 1e-2 and change["gate"] > 1e-2
    plain, head = make("plain"), torch.nn.Linear(C, 1).double()
    with_i, without = s.clone(), s.clone()
    with_i[2], without[2] = True, False
    added = [plain.values(phi, LAYOUT, t) + head(phi[:4].sum(0)) for t in (with_i, without)]
    assert_close((added[0] - added[1])[0], plain.differences(phi, LAYOUT, s)[2], "added", tolerance=1e-12)


def test_trained_by_slopes_a_smooth_function_learns_what_relus_cannot():
    phi, s = elements(), subsets()
    reached = {}
    for activation in ("relu", "silu"):
        function = make("concat", activation=activation)
        wanted = [function.first.bias, function.head.mlp.linears[0].bias, *function.theta.parameters()]
        slopes = function.gradients(phi, LAYOUT, s).square().sum()
        grads = torch.autograd.grad(slopes, wanted, materialize_grads=True)
        reached[activation] = [bool(g.abs().sum() > 0) for g in grads]
    assert not any(reached["relu"]) and all(reached["silu"])


def test_the_published_networks_have_the_published_sizes():
    count = sum(p.numel() for p in SetFunction().parameters())
    assert count == 379_501  # 256 - 500 - 500 - 1
    assert sum(p.numel() for p in SetFunction(superset="concat").parameters()) == count + 379_000


@pytest.mark.parametrize("name", ["plain", "concat", "gate"])
def test_single_precision_is_close_and_half_precision_and_autocast_stay_finite(name):
    s, expected = subsets(), make(name).differences(elements(), LAYOUT, subsets())
    narrow = make(name).float().differences(elements().float(), LAYOUT, s)
    assert_close(narrow, expected, "float32", tolerance=1e-5)
    function, phi = make(name).bfloat16(), elements().bfloat16()
    for what in (function.values, function.differences, function.gradients):
        out = what(phi, LAYOUT, s)
        assert out.dtype == torch.bfloat16 and bool(out.isfinite().all())
    function, phi = make(name).float(), elements().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = function.differences(phi, LAYOUT, s)
    assert_close(out, expected, "autocast", tolerance=0.1)
    out.sum().backward()
    assert bool(phi.grad.isfinite().all())


def test_no_sets_at_all():
    nothing = GroupLayout.from_ptr(torch.tensor([0]), 0)
    function, phi, s = make("concat"), torch.zeros(0, C).double(), torch.zeros(0, 2, dtype=torch.bool)
    assert function.values(phi, nothing, s).shape == (0, 2)
    assert function.differences(phi, nothing, s).shape == function.gradients(phi, nothing, s).shape == (0, 2)
    assert function.differences(phi, nothing, s, independent=True).shape == (0, 2)


def test_parameters_can_be_drawn_anew():
    function = make("concat, lcm")
    before = [p.clone() for p in function.parameters()]
    function.reset_parameters()
    changed = [not torch.equal(a, b) for a, b in zip(function.parameters(), before, strict=True)]
    assert sum(changed) >= len(changed) - 1  # an identity element may start at zero


BAD = {
    "no width": (lambda: SetFunction(C, 0), "hidden must be at least 1"),
    "unknown activation": (lambda: SetFunction(C, H, activation="tanh"), "relu, silu"),
    "unknown mixing": (lambda: SetFunction(C, H, superset="add"), "unknown superset 'add'"),
    "statistic for nothing": (lambda: SetFunction(C, H, statistic=LCMAggregation(C)), "needs superset"),
    "another width": (lambda: SetFunction(C, H, superset="gate", statistic=LCMAggregation(C + 1)), "3 channels"),
    "wide elements": (lambda: make("plain").values(elements()[:, :2], LAYOUT, subsets()), r"phi must be \[N, 3\]"),
    "few samples": (lambda: make("plain").values(elements(), LAYOUT, subsets()[1:]), "one row per element"),
    "no sample": (lambda: make("plain").values(elements(), LAYOUT, subsets(0)), "one row per element"),
    "pairs expected": (
        lambda: make("plain").differences(elements(), LAYOUT, subsets(), independent=True),
        r"per pair .* \[53, M\]",
    ),
    "unsorted rows": (
        lambda: make("plain").values(elements()[:2], GroupLayout.from_index(torch.tensor([1, 0])), subsets()[:2]),
        "set after set",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_and_shapes_are_refused(case):
    make_it, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make_it()
