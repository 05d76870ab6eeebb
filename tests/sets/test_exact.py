from __future__ import annotations

import itertools
import math

import pytest
import torch

from graphinv.aggr import GroupLayout
from graphinv.errors import InputError
from graphinv.sets import SetFunction, enumerated_differences, exact_posterior
from graphinv.testing import assert_close


def elements(n, c=3, seed=0):
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def utility(superset="concat"):
    torch.manual_seed(0)
    return SetFunction(3, 6, superset=superset).double()


def one(n):
    return GroupLayout.from_ptr(torch.tensor([0, n]), n)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_the_posterior_is_that_of_a_loop_over_subsets(n):
    function, phi = utility(), 2 * elements(n)
    weights = {}
    for subset in itertools.product([False, True], repeat=n):
        value = function.values(phi, one(n), torch.tensor(subset).unsqueeze(1))
        weights[sum(1 << i for i in range(n) if subset[i])] = math.exp(float(value.detach()))
    total = sum(weights.values())
    with torch.no_grad():
        exact = exact_posterior(function, phi)
    assert abs(float(exact.log_partition) - math.log(total)) < 1e-12
    for code, weight in weights.items():
        assert abs(float(exact.probabilities[code]) - weight / total) < 1e-12
    for i in range(n):
        marginal = sum(w for code, w in weights.items() if code >> i & 1) / total
        assert abs(float(exact.marginals[i]) - marginal) < 1e-12


@pytest.mark.parametrize("n", [1, 5, 12])
def test_of_a_modular_function_the_marginals_are_sigmoids(modular, n):
    phi = elements(n, 1)
    exact = exact_posterior(modular, phi)
    assert_close(exact.marginals, phi[:, 0].sigmoid(), "marginals", tolerance=1e-12)
    assert_close(exact.log_partition, torch.nn.functional.softplus(phi).sum(), "partition", tolerance=1e-12)


def test_expected_differences_are_those_of_a_loop_over_subsets():
    function, phi = utility(), elements(5)
    layout = GroupLayout.from_ptr(torch.tensor([0, 2, 5]), 5)
    psi = torch.rand(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = enumerated_differences(function, phi, layout, psi).detach()
    for begin, end in ((0, 2), (2, 5)):
        n = end - begin
        for i in range(n):
            expected = 0.0
            for subset in itertools.product([0.0, 1.0], repeat=n):
                if subset[i]:
                    continue
                q = math.prod(
                    float(p) if s else 1 - float(p)
                    for j, (s, p) in enumerate(zip(subset, psi[begin:end], strict=True))
                    if j != i
                )
                both = torch.tensor([subset, subset], dtype=torch.float64).t().contiguous()
                both[i, 0] = 1.0
                value = function.values(phi[begin:end], one(n), both).detach()[0]
                expected += q * float(value[0] - value[1])
            assert abs(float(out[begin + i]) - expected) < 1e-12


def test_expected_differences_are_differentiable_in_everything():
    function, phi = utility(None), elements(4).requires_grad_()
    psi = torch.tensor([0.2, 0.9, 0.5, 0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda phi, psi: enumerated_differences(function, phi, one(4), psi), (phi, psi))
    enumerated_differences(function, phi, one(4), psi).sum().backward()
    assert float(function.first.weight.grad.abs().sum()) > 0


def test_the_posterior_is_differentiable_and_permutes_with_the_elements():
    function, phi = utility(), elements(6)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    assert_close(exact_posterior(function, phi[order]).marginals, exact_posterior(function, phi).marginals[order], "p")
    exact_posterior(function, phi).log_partition.backward()
    assert float(function.first.weight.grad.abs().sum()) > 0


def test_too_many_elements_are_refused():
    function = utility()
    for n in (0, 17):
        with pytest.raises(InputError, match=f"1..16 elements, got {n}"):
            exact_posterior(function, elements(n))
    with pytest.raises(InputError, match="1..12 elements, got 13"):
        enumerated_differences(function, elements(13), one(13), torch.full((13,), 0.5).double())
