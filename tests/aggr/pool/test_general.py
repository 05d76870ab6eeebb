"""GenAgg is the mean that its f makes it; Fishnets is the posterior mean, in one pass and in parts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from graphinv.aggr.base import GroupAggregation
from graphinv.aggr.pool.general import FishnetsAggregation, GenAggAggregation
from graphinv.errors import InputError
from graphinv.testing import assert_close, assert_permutation_invariant

F, OUT, P = 3, 4, 3
INDEX = torch.tensor([3, 0, 2, 3, 0, 4, 3, 3, 0, 3, 4, 3, 3])  # groups of 3, 0, 1, 7, 2 and 0 rows
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
EVERY: dict[str, Callable[[], GroupAggregation]] = {
    "genagg": lambda: GenAggAggregation(F, hidden=4),
    "genagg projected": lambda: GenAggAggregation(F, OUT),
    "fishnets": lambda: FishnetsAggregation(F, OUT, parameters=P, hidden=6),
}
every = pytest.mark.parametrize("name", EVERY)
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def make(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
    """With all parameters off their start, where GenAgg is the plain mean."""
    torch.manual_seed(seed)
    m = EVERY[name]().to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in m.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return m


def rows(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    x = torch.randn(INDEX.numel(), F, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[3] = x[0]  # two equal rows in group 3
    return x.to(dtype)


def silu(v: Tensor) -> Tensor:
    return v / (1 + (-v).exp())


def scalar_map(layers: Any, v: float) -> float:
    """A learned map of one number."""
    h = torch.tensor([v], dtype=torch.float64)
    for layer in layers[:2]:
        h = silu(layer.weight @ h + layer.bias)
    return v + float((layers[2].weight @ h + layers[2].bias).detach())


def genagg(m: Any, own: Tensor) -> Tensor:
    n, out = own.shape[0], torch.zeros(F, dtype=torch.float64)
    for channel in range(F if n else 0):
        values = own[:, channel].double().tolist()
        centre = m.beta.item() * sum(values) / n
        total = n ** (m.alpha.item() - 1) * sum(scalar_map(m.f.layers, v - centre) for v in values)
        out[channel] = scalar_map(m.f_inverse.layers, total)
    return out if m.project is None else m.project.weight @ out + m.project.bias


def fishnets(m: Any, own: Tensor) -> Tensor:
    score, information = torch.zeros(P, dtype=torch.float64), torch.eye(P, dtype=torch.float64)
    for row in own.double():
        out = m.second.weight @ silu(m.first.weight @ row + m.first.bias) + m.second.bias
        factor = torch.diag((1 + out[P : 2 * P].exp()).log())
        factor[1, 0], factor[2, 0], factor[2, 1] = out[2 * P :]
        score, information = score + out[:P], information + factor @ factor.T
    return m.project.weight @ torch.linalg.inv(information) @ score + m.project.bias


@every
@every_dtype
def test_result_is_that_of_the_formula(name: str, dtype: torch.dtype) -> None:
    m, x = make(name, dtype), rows(dtype)
    out, wide = m(x, INDEX, dim_size=6), copy.deepcopy(m).double()
    loop = fishnets if name == "fishnets" else genagg
    expected = torch.stack([loop(wide, x[INDEX == group]) for group in range(6)])
    assert out.dtype == dtype
    assert_close(out.double(), expected, name, tolerance=TOLERANCE[dtype])


class Map(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, v: Tensor) -> Tensor:
        return self.function(v)


POWER = 400.0
MEANS: dict[str, tuple[Any, Any, float, float, Callable[[Tensor], Tensor], float]] = {
    # f, f^-1, alpha, beta, the aggregation of rows above 0 that it is, and how closely
    "sum": (lambda v: v, lambda y: y, 1, 0, lambda x: x.sum(0), 1e-12),
    "mean": (lambda v: 2 * v + 1, lambda y: (y - 1) / 2, 0, 0, lambda x: x.mean(0), 1e-12),
    "scaled sum": (lambda v: v, lambda y: y, 0.5, 0, lambda x: x.sum(0) / x.shape[0] ** 0.5, 1e-12),
    "max": (lambda v: v**POWER, lambda y: y ** (1 / POWER), 0, 0, lambda x: x.amax(0), 1e-2),
    "min": (lambda v: v**-POWER, lambda y: y ** (-1 / POWER), 0, 0, lambda x: x.amin(0), 1e-2),
    "product": (torch.log, torch.exp, 1, 0, lambda x: x.prod(0), 1e-12),
    "geometric": (torch.log, torch.exp, 0, 0, lambda x: x.prod(0) ** (1 / x.shape[0]), 1e-12),
    "harmonic": (lambda v: 1 / v, lambda y: 1 / y, 0, 0, lambda x: x.shape[0] / (1 / x).sum(0), 1e-12),
    "norm": (torch.square, torch.sqrt, 1, 0, lambda x: x.norm(dim=0), 1e-12),
    "logsumexp": (torch.exp, torch.log, 1, 0, lambda x: x.logsumexp(0), 1e-12),
    "std": (torch.square, torch.sqrt, 0, 1, lambda x: x.std(0, correction=0), 1e-7),
}


@pytest.mark.parametrize("name", MEANS)
def test_genagg_contains_the_standard_aggregations(name: str) -> None:
    f, f_inverse, alpha, beta, expected, tolerance = MEANS[name]
    m = GenAggAggregation(F).double()
    m.f, m.f_inverse = Map(f), Map(f_inverse)
    with torch.no_grad():
        m.alpha.fill_(alpha), m.beta.fill_(beta)
    x = 0.5 + rows().abs()
    out = m(x, INDEX, dim_size=5)
    for group in (0, 2, 3, 4):
        assert_close(out[group], expected(x[INDEX == group]), f"{name} of group {group}", tolerance=tolerance)
    assert torch.equal(out[1], torch.zeros(F).double())
    if name != "std":  # that of a set of one has no slope, by its definition
        x.requires_grad_()
        m(x, INDEX, dim_size=5).sum().backward()
        assert bool(x.grad.isfinite().all())


def test_genagg_starts_as_the_mean_and_resets_to_it() -> None:
    x = rows()
    means = torch.stack([x[INDEX == group].mean(0) for group in (0, 2, 3, 4)])
    m = make("genagg")
    assert float((m(x, INDEX)[[0, 2, 3, 4]] - means).detach().abs().max()) > 0.05
    before = m.f.layers[0].weight.clone()
    m.reset_parameters()
    assert not torch.equal(m.f.layers[0].weight, before)
    for start in (m, GenAggAggregation(F).double()):
        assert_close(start(x, INDEX)[[0, 2, 3, 4]], means, "start", tolerance=1e-12)


@every_dtype
def test_auxiliary_loss_is_the_error_of_the_inverse_over_the_values_seen(dtype: torch.dtype) -> None:
    m, x = make("genagg", dtype), rows(dtype).requires_grad_()
    m(x, INDEX, dim_size=6)
    loss, wide = m.auxiliary_loss(), copy.deepcopy(m).double()
    gaps = []
    for group in (0, 2, 3, 4):
        own = x.detach()[INDEX == group].double()
        for v in (own - m.beta.item() * own.mean(0)).flatten().tolist():
            gaps.append((scalar_map(wide.f_inverse.layers, scalar_map(wide.f.layers, v)) - v) ** 2)
    assert_close(
        loss.detach().double(),
        torch.tensor(sum(gaps) / len(gaps), dtype=torch.float64),
        "loss",
        tolerance=TOLERANCE[dtype],
    )
    trained = [*m.f.parameters(), *m.f_inverse.parameters()]
    slopes = torch.autograd.grad(loss, [*trained, x, m.alpha, m.beta], allow_unused=True)
    assert all(slope is not None for slope in slopes[:-3]) and slopes[-3:] == (None, None, None)


def test_auxiliary_loss_teaches_the_inverse() -> None:
    m, x = make("genagg"), rows()
    optimiser, losses = torch.optim.Adam([*m.f.parameters(), *m.f_inverse.parameters()], 0.02), []
    for _ in range(60):
        m(x, INDEX, dim_size=6)
        losses.append(m.auxiliary_loss())
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1].item() < losses[0].item() / 20


def test_auxiliary_loss_needs_a_training_forward_and_is_0_without_rows() -> None:
    m, x = make("genagg"), rows()
    for forward in (lambda: None, lambda: m.eval()(x, INDEX), lambda: torch.no_grad()(m.train())(x, INDEX)):
        forward()
        with pytest.raises(InputError, match="last forward in training mode"):
            m.auxiliary_loss()
    m.train()(x[:0], INDEX[:0], dim_size=2)
    assert m.auxiliary_loss().item() == 0
    m(x, INDEX)
    assert copy.deepcopy(m)._seen is None  # no batch goes with a copy


class KnownFishnets(FishnetsAggregation):
    """Rows are measurements: first y [P], then the factor L [P, P] of their precision."""

    def scores_and_factors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        factors = x[:, P:].reshape(-1, P, P)
        return (factors @ x[:, :P].unsqueeze(2)).squeeze(2), factors


def test_fishnets_is_the_posterior_mean_of_a_linear_model() -> None:
    """y_i = L_i^T theta + noise, theta and noise standard normal: condition the joint Gaussian on all y."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(7, P, P, generator=generator, dtype=torch.float64).tril()
    y = torch.randn(7, P, generator=generator, dtype=torch.float64)
    m = KnownFishnets(P + P * P, P, parameters=P).double()
    with torch.no_grad():
        m.project.weight.copy_(torch.eye(P)), m.project.bias.zero_()
    index = torch.tensor([0, 2, 0, 0, 2, 0, 2])
    out = m(torch.cat([y, factors.flatten(1)], 1), index, dim_size=3)
    for group in (0, 2):
        design = torch.cat([factor.T for factor in factors[index == group]])  # [n P, P]
        covariance = design @ design.T + torch.eye(len(design), dtype=torch.float64)
        posterior = design.T @ torch.linalg.inv(covariance) @ y[index == group].flatten()
        assert_close(out[group], posterior, "posterior mean", tolerance=1e-12)
    assert torch.equal(out[1], torch.zeros(P).double())


def test_fishnets_factors_are_lower_triangular_with_positive_diagonal() -> None:
    scores, factors = make("fishnets").scores_and_factors(5 * rows())
    assert scores.shape == (13, P) and torch.equal(factors, factors.tril())
    assert bool((factors.diagonal(dim1=1, dim2=2) > 0).all())


def test_fishnets_in_parts_is_fishnets_at_once() -> None:
    m, x = make("fishnets"), rows()
    whole = m(x, INDEX, dim_size=6)
    states = [m.update(m.init(6), x[part], INDEX[part]) for part in torch.arange(13).split([4, 0, 8, 1])]
    merged = states[0]
    for state in states[1:]:
        merged = m.merge(state, merged)
    assert_close(m.finalize(merged), whole, "merged", tolerance=1e-12)
    running = m.init(6)
    for part in torch.arange(13).split(5):
        running = m.update(running, x[part], INDEX[part])
    assert_close(m.finalize(running), whole, "updated", tolerance=1e-12)
    assert_close(m.finalize(m.init(2)), m.project.bias.expand(2, -1), "of nothing", tolerance=1e-12)
    half = make("fishnets", torch.bfloat16)
    assert half.init(2)["fisher"].dtype == torch.float32


def test_fishnets_states_that_do_not_fit_are_refused() -> None:
    m = make("fishnets")
    with pytest.raises(InputError, match="at least 0"):
        m.init(-1)
    with pytest.raises(InputError, match="same groups"):
        m.merge(m.init(2), m.init(3))
    with pytest.raises(InputError, match="made by this module"):
        m.finalize(FishnetsAggregation(F, OUT, parameters=P + 1).init(2))
    with pytest.raises(InputError, match="rows of channels"):
        m.update(m.init(2), rows()[0], INDEX[:1])


def test_fishnets_of_very_many_rows_is_finite_and_close_in_float32() -> None:
    m = make("fishnets", torch.float32)
    x = 10 * torch.randn(100_000, F, generator=torch.Generator().manual_seed(0))
    out, wide = m(x), copy.deepcopy(m).double()(x.double())
    assert_close(out.double(), wide, "float32", tolerance=1e-3)


@every
@every_dtype
def test_permutation_inside_groups_changes_nothing(name: str, dtype: torch.dtype) -> None:
    m, x = make(name, dtype), rows(dtype)
    assert_permutation_invariant(lambda x, index: m(x, index, dim_size=6), x, INDEX, tolerance=TOLERANCE[dtype])


@every
def test_a_group_alone_is_the_group_in_its_batch(name: str) -> None:
    assert make(name).batch_consistency_error(rows(), INDEX, dim_size=6) <= 1e-13


@every
def test_empty_groups_give_zeros_before_the_linear_map_and_empty_input_can_be_trained_on(name: str) -> None:
    m = make(name)
    empty = torch.zeros(F).double() if m.project is None else m.project.bias
    assert_close(m(rows(), INDEX, dim_size=8)[[1, 5, 6, 7]], empty.expand(4, -1), "empty", tolerance=1e-14)
    for groups in (2, 0):
        x = torch.empty(0, F, dtype=torch.float64, requires_grad=True)
        out = m(x, torch.empty(0, dtype=torch.int64), dim_size=groups)
        out.sum().backward()
        assert out.shape == (groups, m.out_channels) and x.grad is not None


@every
def test_gradients_are_those_of_the_function(name: str) -> None:
    m = make(name)
    x, parameters = rows()[:6].requires_grad_(), list(m.parameters())

    def function(x: Tensor, *_: Tensor) -> Tensor:
        return m(x, INDEX[:6], dim_size=5)

    assert gradcheck(function, (x, *parameters))
    assert gradgradcheck(function, (x,))


@every
def test_nan_stays_in_its_group(name: str) -> None:
    m, x = make(name), rows()
    clean = m(x, INDEX, dim_size=6)
    x[INDEX == 3] = math.nan
    others = [0, 1, 2, 4, 5]
    assert_close(m(x, INDEX, dim_size=6)[others], clean[others], "other groups", tolerance=1e-12)


@every
def test_half_precision_and_autocast_give_finite_results_in_the_dtype_of_the_rows(name: str) -> None:
    m, x = make(name, torch.float32), rows(torch.float32)
    wide = m(x, INDEX, dim_size=6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(m(x, INDEX, dim_size=6), wide)
    for half in (torch.bfloat16, torch.float16):
        out = m.to(half)(x.to(half), INDEX, dim_size=6)
        assert out.dtype == half
        assert_close(out.float(), wide, "half", tolerance=6e-2)


def test_compiles_without_a_graph_break() -> None:
    torch._dynamo.reset()
    m, x = make("genagg"), rows().requires_grad_()  # the behaviour matrix has the others
    compiled = torch.compile(m, fullgraph=True, backend="eager")
    outs = [compiled(x, INDEX, dim_size=6, max_num_elements=8), m(x, INDEX, dim_size=6)]
    assert_close(*outs, "compiled", tolerance=1e-12)
    assert_close(*(torch.autograd.grad(out.square().sum(), x)[0] for out in outs), "slope", tolerance=1e-11)


@every
def test_maps_over_batches_like_plain_calls(name: str) -> None:
    m, batch = make(name), torch.stack([rows(seed=1), rows(seed=2)])
    mapped = torch.func.vmap(lambda x: m(x, INDEX, dim_size=6))(batch)
    assert_close(mapped, m(batch, INDEX, dim_size=6), "vmap", tolerance=1e-12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GenAggAggregation(0), "in_channels must be at least 1"),
        (lambda: GenAggAggregation(F, 0), "out_channels must be at least 1"),
        (lambda: GenAggAggregation(F, hidden=0), "hidden must be at least 1"),
        (lambda: FishnetsAggregation(F, OUT, parameters=0), "parameters must be at least 1"),
        (lambda: FishnetsAggregation(F, OUT, hidden=0), "hidden must be at least 1"),
    ],
)
def test_bad_settings_are_refused(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_reset_draws_every_parameter_of_fishnets_anew() -> None:
    m = make("fishnets")
    before = [p.clone() for p in m.parameters()]
    m.reset_parameters()
    assert all(not torch.equal(a, b) for a, b in zip(before, m.parameters(), strict=True))
    assert repr(m) == "FishnetsAggregation(3, 4, parameters=3)"
    assert repr(make("genagg projected")) == "GenAggAggregation(3, 4)"
