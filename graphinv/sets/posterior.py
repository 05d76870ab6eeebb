"""The recognition network q(S | V) of EquiVSet: independent memberships, or ones correlated by a Gaussian copula.

arXiv:2203.01693. The network sees one element at a time; only the mean-field step compares elements.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphinv.aggr import GroupLayout
from graphinv.errors import InputError
from graphinv.nn.embed import MLP
from graphinv.ops import segment_reduce
from graphinv.sets.noise import Noise, row_uniform, set_uniform

__all__ = ["CopulaPosterior", "IndependentPosterior", "RecognitionNetwork"]


@dataclass(frozen=True, eq=False)
class IndependentPosterior:
    """q(S) = prod psi_i^{s_i} (1 - psi_i)^{1 - s_i}.

    Attributes:
        logits: [N] real, psi = sigmoid(logits).

    Example:
        >>> layout = GroupLayout.from_ptr(torch.tensor([0, 2]), 2)
        >>> q = IndependentPosterior(torch.tensor([0.0, 50.0]))
        >>> q.psi.tolist(), round(float(q.entropy(layout)), 4)
        ([0.5, 1.0], 0.6931)
        >>> q.sample(layout, 3)[1].tolist()
        [1.0, 1.0, 1.0]
    """

    logits: Tensor

    @property
    def psi(self) -> Tensor:
        """Probability of each element to be selected, [N] in [0, 1]."""
        return self.logits.sigmoid()

    def entropy(self, layout: GroupLayout) -> Tensor:
        """Return the entropy of the independent memberships of each set, [B] nats.

        Of correlated memberships with the same probabilities it is an upper bound, the one the paper trains with.
        """
        own = nn.functional.softplus(self.logits) - self.logits * self.psi
        return segment_reduce(own, layout.ptr)

    def sample(self, layout: GroupLayout, count: int, noise: Noise = None, temperature: float = 0.1) -> Tensor:
        """Draw ``count`` subsets of every set, [N, count] of exact zeros and ones with a straight-through gradient.

        The subsets are Bernoulli draws with p = sigmoid((logit psi + e) / temperature), e logistic noise; the
        gradient is that of p.

        Raises:
            InputError: ``count`` is below 1 or ``temperature`` is not above 0.
        """
        if count < 1 or not temperature > 0:
            raise InputError(f"expected count >= 1 and temperature > 0, got {count} and {temperature}")
        moved = self.logits.unsqueeze(1) + self._logistic(layout, count, noise).to(self.logits.dtype)
        soft = (moved / temperature).sigmoid()
        hard = (row_uniform(noise, layout, count) < soft.detach()).to(soft.dtype)
        return hard + (soft - soft.detach())  # the second term is exactly 0

    def _logistic(self, layout: GroupLayout, count: int, noise: Noise) -> Tensor:
        return row_uniform(noise, layout, count).logit()


@dataclass(frozen=True, eq=False)
class CopulaPosterior(IndependentPosterior):
    """Memberships correlated by a Gaussian of low rank: g = scale e + factors e', u = normal CDF of g.

    e is noise of each element and e' of R numbers noise of its set. As published u is uniform only where the variance
    of g is 1; ``standardize`` divides g by its standard deviation, a true copula whose probabilities are psi.

    Attributes:
        logits: [N] real.
        scale: [N] above 0.
        factors: [N, R].
        standardize: divide g by its standard deviation.

    Example:
        >>> layout = GroupLayout.from_ptr(torch.tensor([0, 2]), 2)
        >>> q = CopulaPosterior(torch.zeros(2), torch.full((2,), 1e-3), torch.ones(2, 1))
        >>> s = q.sample(layout, 50, torch.Generator().manual_seed(0), temperature=1e-3)
        >>> bool((s[0] == s[1]).float().mean() > 0.9)
        True
    """

    scale: Tensor
    factors: Tensor
    standardize: bool = False

    def _logistic(self, layout: GroupLayout, count: int, noise: Noise) -> Tensor:
        rank, dtype = self.factors.shape[1], self.logits.dtype
        own = torch.special.ndtri(row_uniform(noise, layout, count)).to(dtype)
        common = torch.special.ndtri(set_uniform(noise, layout, rank * count)).to(dtype)
        common = common.view(-1, rank, count).index_select(0, layout.index)  # [N, R, count]
        g = self.scale.unsqueeze(1) * own + (self.factors.unsqueeze(2) * common).sum(1)
        if self.standardize:
            g = g / (self.scale.square() + self.factors.square().sum(1)).sqrt().unsqueeze(1)
        logit: Tensor = torch.special.log_ndtr(g) - torch.special.log_ndtr(-g)
        return logit


class RecognitionNetwork(nn.Module):
    """Elements [N, C] to their posterior, one by one: two hidden layers, then logits and the scales of the copula.

    Args:
        channels: C of the elements.
        hidden: width.
        rank: R of the copula; 0 for independent memberships.
        standardize: see ``CopulaPosterior``.

    Raises:
        InputError: a size is out of range.

    Example:
        >>> RecognitionNetwork(4, hidden=8, rank=2)(torch.randn(5, 4)).factors.shape
        torch.Size([5, 2])
    """

    def __init__(self, channels: int = 256, hidden: int = 500, rank: int = 5, standardize: bool = False) -> None:
        super().__init__()
        if channels < 1 or hidden < 1 or rank < 0:
            raise InputError(f"expected channels and hidden >= 1 and rank >= 0, got {channels}, {hidden} and {rank}")
        self.rank, self.standardize = rank, standardize
        self.body = MLP(2, channels, hidden, hidden, torch.relu_)
        self.heads = nn.Linear(hidden, 1 if rank == 0 else 2 + rank)

    def forward(self, phi: Tensor) -> IndependentPosterior:
        """Map ``phi`` [N, C] to the posterior of N memberships."""
        out: Tensor = self.heads(self.body(phi).relu())
        if self.rank == 0:
            return IndependentPosterior(out[:, 0])
        return CopulaPosterior(out[:, 0], nn.functional.softplus(out[:, 1]), out[:, 2:].tanh(), self.standardize)
