"""Gaussian noise: the VP, VE and subVP stochastic differential equations.

arXiv:2011.13456, section 3.4, as used by arXiv:2202.02514. Time is in [0, 1] with 0 = data. A network predicts the
score; given the data x(0) = D all of this is linear, and closed forms lead from any time to any other.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from graphinv.diffusion.process import FieldProcess, Prediction, fit_time
from graphinv.diffusion.state import State, fields_of, is_mirrored
from graphinv.errors import InputError
from graphinv.noise import Noise

__all__ = ["SDE", "VESDE", "VPSDE", "SubVPSDE"]


class SDE(FieldProcess):
    """dx = drift dt + g(t) dw on tensors ``[B, *]``; times are ``[]`` or ``[B]``, in [0, 1]."""

    prediction: ClassVar[Prediction] = "score"

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

    def data(self, x: Tensor, score: Tensor, t: Tensor) -> Tensor:
        """Return the mean of the data given x(t), (x + std^2 score) / scale."""
        scale, std = self.marginal(torch.ones_like(x), t)
        return (x + std.square() * score) / scale

    def shrink(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Return r = (std_s / scale_s) / (std_t / scale_t), below 1 for s < t."""
        (scale_t, std_t), (scale_s, std_s) = self.at(x, t), self.at(x, s)
        return std_s * scale_t / (std_t * scale_s)

    def posterior(self, x: Tensor, data: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of x(s) given x(t) and the data; s < t.

        r (std_s / std_t) x + scale_s (1 - r^2) D and std_s sqrt(1 - r^2), with r of ``shrink``.
        """
        std_t, (scale, std), shrink = self.at(x, t)[1], self.at(x, s), self.shrink(x, t, s)
        mean = shrink * std / std_t * x + scale * (1 - shrink.square()) * data
        return mean, std * (1 - shrink.square()).sqrt()

    def at(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and standard deviation at ``t``, broadcastable against ``x``."""
        return self.marginal(x.new_ones((t.numel() if t.dim() else 1, *(1,) * (x.dim() - 1))), t)

    def draw(self, like: State, field: int, source: Noise) -> Tensor:
        """Return standard normal draws for a field, mirrored where it is."""
        x = fields_of(like)[field]
        return source.symmetric(x) if is_mirrored(like, field) else source.normal(x)

    def start(self, z: Tensor) -> Tensor:
        """Return ``z``: N(0, 1), whatever the terminal variance (the papers' choice)."""
        return z

    def forward(self, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Return mean + std z of the marginal."""
        mean, std = self.marginal(x0, t)
        return mean + std * z

    def backward(self, x: Tensor, prediction: Tensor, t: Tensor, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x(s) from the posterior given the data that the score predicts, and its mean."""
        mean, std = self.posterior(x, self.data(x, prediction, t), t, s)
        return mean + std * z, mean

    def denoise_field(self, x: Tensor, prediction: Tensor, t: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """Return the mean of the data."""
        return self.data(x, prediction, t)


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


def _fit(value: Tensor, x: Tensor) -> Tensor:
    """Shape a value per graph ``[B]`` (or ``[]``) so that it broadcasts against ``x`` ``[B, *]``, in its dtype."""
    return fit_time(value.to(x.dtype), x)
