"""Mean-field inference of p(S | V) proportional to exp F(S; V), on ground sets of any sizes at once.

q is a product of psi_i; its fixed point is psi_i = sigmoid(E_q[F(S u {i}) - F(S minus {i})]). The expectation is
estimated from samples shared by the elements of a set, from independent ones, from slopes, or without noise.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from graphinv.aggr import GroupLayout
from graphinv.errors import InputError
from graphinv.sets.exact import enumerated_differences
from graphinv.sets.functions import Utility
from graphinv.sets.noise import Noise, pair_uniform, pairs, row_uniform
from graphinv.sets.posterior import IndependentPosterior

__all__ = ["Mode", "elbo", "mean_field", "mean_field_logits"]

Mode = Literal["shared", "independent", "first_order", "expected", "enumerated"]
"""How the expected differences are found:

- ``shared``: M subsets per set, each used for all its elements; unbiased. The default.
- ``independent``: M subsets per element, as in the paper; unbiased, O(n^2) noise and pooling per set.
- ``first_order``: slopes of F at M subsets; biased where F is curved, O(M) evaluations per set in place of O(n M).
- ``expected``: one evaluation at the expected sum over S; no noise, biased where F is curved.
- ``enumerated``: all 2^n subsets; exact, up to 12 elements.
"""


def mean_field_logits(
    function: Utility,
    phi: Tensor,
    layout: GroupLayout,
    psi: Tensor,
    *,
    steps: int = 1,
    samples: int = 5,
    mode: Mode = "shared",
    generator: Noise = None,
) -> Tensor:
    """Return logit(psi) [N] after ``steps`` fixed-point steps, which keeps the order where psi rounds to 0 or 1.

    Gradients reach F through the last step, and through all of them where psi enters smoothly ("expected" and
    "enumerated"); a sampled subset lets none through to psi.

    Args:
        function: F.
        phi: [N, C] elements, set after set.
        layout: of the sets.
        psi: [N] probabilities to start from.
        steps: K, at least 1.
        samples: M, at least 1; not used by the modes without noise.
        mode: see ``Mode``.
        generator: a ``torch.Generator``, a ``PerSetNoise``, or None for the global one.

    Raises:
        InputError: a setting is out of range, or psi is not one number per element.

    Example:
        >>> from graphinv.sets import SetFunction
        >>> layout, psi = GroupLayout.from_ptr(torch.tensor([0, 2, 5]), 5), torch.full((5,), 0.5)
        >>> mean_field_logits(SetFunction(4, hidden=8), torch.randn(5, 4), layout, psi, steps=3).shape
        torch.Size([5])
    """
    if mode not in get_args(Mode):
        raise InputError(f"unknown mode {mode!r}; available: {', '.join(get_args(Mode))}")
    if steps < 1 or samples < 1:
        raise InputError(f"steps and samples must be at least 1, got {steps} and {samples}")
    if psi.shape != (layout.num_rows,):
        raise InputError(f"psi must be one probability per element, [{layout.num_rows}], got {list(psi.shape)}")
    for _ in range(steps - 1):
        with torch.set_grad_enabled(torch.is_grad_enabled() and mode in ("expected", "enumerated")):
            psi = _expected_differences(function, phi, layout, psi, samples, mode, generator).sigmoid()
    return _expected_differences(function, phi, layout, psi, samples, mode, generator)


def mean_field(
    function: Utility,
    phi: Tensor,
    layout: GroupLayout,
    psi: Tensor,
    *,
    steps: int = 1,
    samples: int = 5,
    mode: Mode = "shared",
    generator: Noise = None,
) -> Tensor:
    """Return psi [N] after ``steps`` fixed-point steps; see ``mean_field_logits`` for the arguments.

    All elements of a set move at once, so that the iteration is permutation equivariant; it may swing where F is
    strongly submodular.

    Example:
        >>> from graphinv.sets import SetFunction
        >>> layout, psi = GroupLayout.from_ptr(torch.tensor([0, 2, 5]), 5), torch.full((5,), 0.5)
        >>> mean_field(SetFunction(4, hidden=8), torch.randn(5, 4), layout, psi, steps=3, mode="first_order").shape
        torch.Size([5])
    """
    return mean_field_logits(
        function, phi, layout, psi, steps=steps, samples=samples, mode=mode, generator=generator
    ).sigmoid()


def elbo(
    function: Utility,
    phi: Tensor,
    layout: GroupLayout,
    posterior: IndependentPosterior,
    *,
    samples: int = 5,
    temperature: float = 0.1,
    generator: Noise = None,
) -> Tensor:
    """Return E_q[F] + H(q) of each set, [B] nats, with E_q from ``samples`` straight-through draws.

    At most log of the sum of exp F over all subsets, in expectation and for independent memberships.

    Example:
        >>> from graphinv.sets import SetFunction
        >>> layout = GroupLayout.from_ptr(torch.tensor([0, 2, 5]), 5)
        >>> elbo(SetFunction(4, hidden=8), torch.randn(5, 4), layout, IndependentPosterior(torch.zeros(5))).shape
        torch.Size([2])
    """
    drawn = posterior.sample(layout, samples, generator, temperature)
    return function.values(phi, layout, drawn).mean(1) + posterior.entropy(layout)


def _expected_differences(
    function: Utility, phi: Tensor, layout: GroupLayout, psi: Tensor, samples: int, mode: Mode, noise: Noise
) -> Tensor:
    if mode == "expected":
        return function.differences(phi, layout, psi.unsqueeze(1)).squeeze(1)
    if mode == "enumerated":
        return enumerated_differences(function, phi, layout, psi)
    if mode == "independent":
        row, column = pairs(layout)
        member = psi[layout.ptr[layout.index[row]] + column]
        drawn = pair_uniform(noise, layout, samples) < member.unsqueeze(1)
        return function.differences(phi, layout, drawn, independent=True).mean(1)
    drawn = row_uniform(noise, layout, samples) < psi.unsqueeze(1)
    if mode == "first_order":
        return function.gradients(phi, layout, drawn).mean(1)
    return function.differences(phi, layout, drawn).mean(1)
