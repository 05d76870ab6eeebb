"""How data becomes noise: VP, VE and subVP stochastic differential equations, and their pair on graphs.

arXiv:2011.13456, section 3.4, as used by arXiv:2202.02514. Time is in [0, 1] with 0 = data. ``GraphSDE`` offers the
interface of one SDE on ``DenseGraphs``, so that no solver branches on nodes or edges.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs
from graphinv.noise import Noise

__all__ = ["SDE", "VESDE", "VPSDE", "GraphSDE", "SubVPSDE"]

Update = Callable[..., tuple[Tensor, ...]]


class SDE(ABC):
    """dx = drift dt + g(t) dw on tensors ``[B, *]``; times are ``[]`` or ``[B]``, in [0, 1]."""

    @abstractmethod
    def coefficients(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the drift, shaped like x, and g(t), broadcastable against x."""

    @abstractmethod
    def marginal(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (shaped like x0) and standard deviation (broadcastable) of x(t) given x(0) = x0."""

    @abstractmethod
    def transition(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the noising part between t and s.

        For s > t this is x(s) given x(t). For s < t it is the part of the reverse process without the score, as the
        S4 splitting of arXiv:2202.02514, section 3.2, uses it.
        """

    @abstractmethod
    def discretise(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and G of the forward step x + f + G z from s up to t > s (s = 0 means clean data)."""

    def langevin_scale(self, t: Tensor, s: Tensor) -> Tensor:
        """Return the factor of the Langevin step size at t (1 unless the SDE shrinks x)."""
        return torch.ones_like(t)

    def score(self, raw: Tensor, t: Tensor) -> Tensor:
        """Turn the raw network output into the score at t: -raw / std(t)."""
        return -raw / self.marginal(raw, t)[1]

    def apply(self, update: Update, *states: Tensor) -> tuple[Tensor, ...]:
        """Return ``update(self, *states)``; ``GraphSDE`` does it for each field."""
        return update(self, *states)

    def noise(self, like: Tensor, source: Noise) -> Tensor:
        """Return standard normal noise shaped like ``like``."""
        return source.normal(like)

    def prior(self, like: Tensor, source: Noise) -> Tensor:
        """Draw x(1) from N(0, 1), whatever the terminal variance (the papers' choice)."""
        return self.noise(like, source)


@dataclass(frozen=True)
class VPSDE(SDE):
    """Variance preserving: beta(t) = beta_min + t (beta_max - beta_min), drift -beta x / 2, g^2 = beta.

    With the paper's beta_max = 1 the process ends at mean coefficient .760 and standard deviation .650, not at N(0, 1).

    Example:
        >>> mean, std = VPSDE(0.1, 1.0).marginal(torch.ones(1), torch.ones(1))
        >>> round(mean.item(), 3), round(std.item(), 3)
        (0.76, 0.65)
    """

    beta_min: float = 0.1
    beta_max: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise InputError(f"beta must satisfy 0 < min <= max, got {self.beta_min} and {self.beta_max}")

    def _beta(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def _step(self, t: Tensor, s: Tensor) -> Tensor:
        return (self._beta(t) * (t - s)).clamp(max=1)

    def _integral(self, t: Tensor, s: Tensor) -> Tensor:
        """Half the integral of beta from t to s."""
        return 0.25 * (s - t) * (2 * self.beta_min + (t + s) * (self.beta_max - self.beta_min))

    def coefficients(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return -beta x / 2 and sqrt(beta)."""
        beta = self._beta(t)
        return -0.5 * _fit(beta, x) * x, _fit(beta.sqrt(), x)

    def marginal(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return exp(-int beta / 2) x0 and sqrt(1 - exp(-int beta))."""
        return self.transition(x0, torch.zeros_like(t), t)

    def transition(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return exp(-L) x and sqrt(1 - exp(-2 |L|)), L half the integral of beta from t to s."""
        half = self._integral(t, s)
        # expm1: 1 - exp loses all digits at small t
        return _fit((-half).exp(), x) * x, _fit((-torch.expm1(-2 * half.abs())).sqrt(), x)

    def discretise(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the step of DDPM with beta_i = beta(t) (t - s), at most 1: a longer step would have no real root."""
        beta = self._step(t, s)
        return _fit((1 - beta).sqrt() - 1, x) * x, _fit(beta.sqrt(), x)

    def langevin_scale(self, t: Tensor, s: Tensor) -> Tensor:
        """Return alpha_i = 1 - beta_i of the step, at least 0."""
        return 1 - self._step(t, s)


@dataclass(frozen=True)
class SubVPSDE(VPSDE):
    """Sub variance preserving: the drift of VP, and std(t) = std_VP(t)^2."""

    def coefficients(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return -beta x / 2 and sqrt(beta (1 - exp(-2 int beta)))."""
        drift, g = super().coefficients(x, t)
        return drift, g * _fit((-torch.expm1(-4 * self._integral(torch.zeros_like(t), t))).sqrt(), x)

    def marginal(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return exp(-int beta / 2) x0 and 1 - exp(-int beta)."""
        half = self._integral(torch.zeros_like(t), t)
        return _fit((-half).exp(), x0) * x0, _fit(-torch.expm1(-2 * half), x0)

    def transition(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return exp(-L) x and the standard deviation that composes with ``marginal``.

        With a(u, v) = exp(-2 |L|), u the earlier, v the later: var = (1 - a(0, v))^2 - a(u, v) (1 - a(0, u))^2.
        """
        half = self._integral(t, s)
        early, late = torch.minimum(t, s), torch.maximum(t, s)
        std = [-torch.expm1(-2 * self._integral(torch.zeros_like(u), u)) for u in (early, late)]
        variance = std[1].square() - (-2 * half.abs()).exp() * std[0].square()
        return _fit((-half).exp(), x) * x, _fit(variance.clamp(min=0).sqrt(), x)

    def discretise(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Euler step."""
        drift, g = self.coefficients(x, t)
        return drift * _fit(t - s, x), g * _fit((t - s).sqrt(), x)


@dataclass(frozen=True)
class VESDE(SDE):
    """Variance exploding: no drift, std(t) = sigma_min (sigma_max / sigma_min)^t.

    The paper starts its samplers from N(0, 1) whatever sigma_max is, and gives its networks no time: with a VE the
    network output is the score itself.

    Example:
        >>> VESDE(0.1, 1.0).marginal(torch.zeros(1), torch.tensor([0.5]))[1]
        tensor([0.3162])
    """

    sigma_min: float = 0.1
    sigma_max: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise InputError(f"sigma must satisfy 0 < min < max, got {self.sigma_min} and {self.sigma_max}")

    def _sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def coefficients(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0 and sigma(t) sqrt(2 ln(sigma_max / sigma_min))."""
        rate = math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))
        return torch.zeros_like(x), _fit(self._sigma(t) * rate, x)

    def marginal(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return x0 and sigma(t)."""
        return x0, _fit(self._sigma(t), x0)

    def transition(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and sqrt(|sigma(t)^2 - sigma(s)^2|)."""
        return x, _fit((self._sigma(t).square() - self._sigma(s).square()).abs().sqrt(), x)

    def discretise(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0 and sqrt(sigma(t)^2 - sigma(s)^2), where s = 0 counts as clean: the variances add up to sigma^2."""
        before = torch.where(s > 0, self._sigma(s), torch.zeros_like(s))
        return torch.zeros_like(x), _fit((self._sigma(t).square() - before.square()).sqrt(), x)

    def score(self, raw: Tensor, t: Tensor) -> Tensor:
        """Return ``raw``: with a VE the network predicts the score directly."""
        return raw


@dataclass(frozen=True)
class GraphSDE:
    """One SDE for node features, one for adjacencies, under one time.

    Example:
        >>> sde = GraphSDE(VPSDE(), VESDE())
        >>> g = DenseGraphs(torch.ones(1, 2, 3), torch.zeros(1, 2, 2), torch.ones(1, 2, dtype=torch.bool))
        >>> mean, std = sde.marginal(g, torch.tensor([1.0]))
        >>> round(mean.x[0, 0, 0].item(), 3), round(std.adj.flatten()[0].item(), 3)
        (0.76, 1.0)
    """

    node: SDE
    edge: SDE

    def apply(self, update: Update, *states: DenseGraphs) -> tuple[DenseGraphs, ...]:
        """Return the graphs of ``update(node_sde, *xs)`` and ``update(edge_sde, *adjs)``."""
        xs = update(self.node, *(g.x for g in states))
        adjs = update(self.edge, *(g.adj for g in states))
        return tuple(DenseGraphs(x, adj, states[0].mask) for x, adj in zip(xs, adjs, strict=True))

    def marginal(self, g0: DenseGraphs, t: Tensor) -> tuple[DenseGraphs, DenseGraphs]:
        """Return mean and standard deviation, both shaped like g0, at ``t`` ``[B]``."""

        def update(sde: SDE, x: Tensor) -> tuple[Tensor, ...]:
            mean, std = sde.marginal(x, t)
            return mean, std.expand_as(x)

        mean, std = self.apply(update, g0)
        return mean, std

    def score(self, raw: DenseGraphs, t: Tensor) -> DenseGraphs:
        """Turn raw network outputs into scores at ``t``."""
        return self.apply(lambda sde, x: (sde.score(x, t),), raw)[0]

    def noise(self, like: DenseGraphs, source: Noise) -> DenseGraphs:
        """Return masked noise, mirrored on edges."""
        return graph_noise(source, like)

    def prior(self, like: DenseGraphs, source: Noise) -> DenseGraphs:
        """Draw the graphs at time 1."""
        return self.noise(like, source)


def _fit(value: Tensor, x: Tensor) -> Tensor:
    """Shape a value per graph ``[B]`` (or ``[]``) so that it broadcasts against ``x`` ``[B, *]``, in its dtype."""
    value = value.to(x.dtype)
    return value.reshape(value.shape + (1,) * (x.dim() - value.dim())) if value.dim() else value


def graph_noise(source: Noise, like: DenseGraphs) -> DenseGraphs:
    """Return noise on both fields of ``like``: free on nodes, mirrored on edges, zero in the padding."""
    return DenseGraphs(source.normal(like.x), source.symmetric(like.adj), like.mask).masked()
