"""The posterior p(S | V) proportional to exp F(S; V), and expectations under q, by going through all 2^n subsets.

For small sets, and to judge an approximation by. Subset number c holds element i if bit i of c is set.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphinv.aggr import GroupLayout
from graphinv.errors import InputError
from graphinv.sets.functions import Utility

__all__ = ["ExactPosterior", "enumerated_differences", "exact_posterior"]

_AT_ONCE = 1 << 12  # subsets


class ExactPosterior(NamedTuple):
    """The posterior of one set of n elements.

    Attributes:
        probabilities: [2^n] of every subset, the empty one first.
        marginals: [n] probability of each element to be selected.
        log_partition: [] log of the sum of exp F over all subsets, in nats.
    """

    probabilities: Tensor
    marginals: Tensor
    log_partition: Tensor


def exact_posterior(function: Utility, phi: Tensor) -> ExactPosterior:
    """Return the posterior over the subsets of one ground set ``phi`` [n, C], 1 <= n <= 16, in O(2^n n).

    Raises:
        InputError: n is out of range.

    Example:
        >>> from graphinv.sets import SetFunction
        >>> exact = exact_posterior(SetFunction(3, hidden=4), torch.randn(4, 3))
        >>> exact.probabilities.shape, exact.marginals.shape
        (torch.Size([16]), torch.Size([4]))
    """
    n = _size(phi.shape[0], 16, "exact_posterior")
    value = _all_values(function, phi)
    log_partition = value.logsumexp(0)
    probabilities = (value - log_partition).exp()
    return ExactPosterior(probabilities, _members(n, phi).to(probabilities.dtype) @ probabilities, log_partition)


def enumerated_differences(function: Utility, phi: Tensor, layout: GroupLayout, psi: Tensor) -> Tensor:
    """Return E_q[F(S u {i}) - F(S minus {i})] of every element, [N], exactly; sets of at most 12 elements.

    Differentiable in ``psi`` [N], in ``phi`` [N, C] and in F.

    Raises:
        InputError: a set is too large.

    Example:
        >>> from graphinv.sets import SetFunction
        >>> layout, phi = GroupLayout.from_ptr(torch.tensor([0, 2, 5]), 5), torch.randn(5, 3)
        >>> enumerated_differences(SetFunction(3, hidden=4), phi, layout, torch.full((5,), 0.5)).shape
        torch.Size([5])
    """
    sizes: list[int] = layout.counts.tolist()
    out = [
        _of_one_set(function, rows, own)
        for rows, own in zip(torch.split(phi, sizes), torch.split(psi, sizes), strict=True)
        if rows.shape[0]
    ]
    return torch.cat(out) if out else psi.new_zeros(0)


def _of_one_set(function: Utility, phi: Tensor, psi: Tensor) -> Tensor:
    n = _size(phi.shape[0], 12, "enumerated_differences")
    value = _all_values(function, phi)
    weight = torch.where(_members(n, phi), psi.unsqueeze(1), 1 - psi.unsqueeze(1)).prod(0)  # [2^n], q(S)
    code = torch.arange(1 << n, device=phi.device)
    bits = (1 << torch.arange(n, device=phi.device)).unsqueeze(1)
    # S u {i} and S minus {i} do not depend on s_i, so the weights of both S sum to q of the others.
    return ((value[code | bits] - value[code & ~bits]) * weight).sum(1)


def _all_values(function: Utility, phi: Tensor) -> Tensor:
    """Return F of every subset, [2^n]."""
    layout = GroupLayout.from_ptr(torch.tensor([0, phi.shape[0]], device=phi.device), phi.shape[0])
    parts = torch.split(_members(phi.shape[0], phi), _AT_ONCE, 1)
    return torch.cat([function.values(phi, layout, part)[0] for part in parts])


def _members(n: int, phi: Tensor) -> Tensor:
    """Return all subsets, [n, 2^n] bool."""
    code = torch.arange(1 << n, device=phi.device)
    return (code >> torch.arange(n, device=phi.device).unsqueeze(1)) & 1 == 1


def _size(n: int, most: int, what: str) -> int:
    if not 1 <= n <= most:
        raise InputError(f"{what} goes through all subsets, so it takes 1..{most} elements, got {n}")
    return n
