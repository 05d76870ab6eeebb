"""Diffusion of categorical variables: each one keeps its class or is redrawn from a limit distribution m.

arXiv:2402.03687 in the notation of arXiv:2402.03701: q(x_t | x_0) = abar_t e_{x_0} + (1 - abar_t) m, so steps between
any two times have a closed form. m is uniform, the data marginal, or a mask state. Layout-free: elements only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from graphinv.diffusion.process import FieldProcess, Prediction, fit_time
from graphinv.diffusion.schedule import CosineSchedule, Schedule
from graphinv.diffusion.state import State, entry_numbers
from graphinv.errors import InputError
from graphinv.noise import Noise

__all__ = ["DiscreteDiffusion", "categorical"]

_COSINE = CosineSchedule()
_RAREST = 1e-6  # least probability of a class under the marginal limit
_FLOOR = 1e-30  # below any probability of a step; keeps 0 / 0 and log 0 out of float32, gradients included


class _Step(NamedTuple):
    """Weights of the step t -> s: of q(x_s | x_t, x_0) on e_{x_0}, e_{x_t} and m, for x_t != x_0 and x_t == x_0."""

    data: Tensor  # 1 - mu, shaped like the times
    stay: Tensor  # mu abar_t / abar_s, shaped like the times
    redraw: Tensor  # mu (1 - abar_t / abar_s), shaped like the times
    same_stay: Tensor  # 1 - lambda [*]
    same_redraw: Tensor  # lambda [*]


@dataclass(frozen=True, eq=False)
class DiscreteDiffusion(FieldProcess):
    """Noise, posterior, reverse step and losses of independent categorical variables with K data classes.

    Elements ``[*]`` are int64 of any shape; times broadcast to it, 0 = data, and satisfy 0 <= s < t <= 1. C = K states,
    or K + 1 when the limit is the mask state K. Values and times are checked on the CPU only: a GPU never waits.

    Args:
        limit: m ``[C]``: all entries positive for C = K, the unit vector of the last state for C = K + 1.
        classes: K, at least 1.
        schedule: gives abar, such as ``CosineSchedule`` or ``LinearSchedule``.

    Raises:
        InputError: if limit is no such distribution; by the methods, if shapes, classes or times do not fit.

    Example:
        >>> diffusion = DiscreteDiffusion.absorbing(2)
        >>> x0, t, s = torch.tensor([0, 1]), torch.tensor(0.9), torch.tensor(0.0)
        >>> x_t = diffusion.q_sample(x0, t, torch.tensor([0.5, 0.5]))
        >>> x_t
        tensor([2, 2])
        >>> diffusion.step(x_t, torch.tensor([[9.0, -9.0], [-9.0, 9.0]]), t, s, torch.tensor([0.3, 0.3]))
        tensor([0, 1])
    """

    limit: Tensor
    classes: int
    schedule: Schedule = _COSINE
    prediction: ClassVar[Prediction] = "logits"

    def __post_init__(self) -> None:
        limit = self.limit.detach().to(torch.float64, copy=True)
        size = limit.numel()
        if self.classes < 1 or limit.dim() != 1 or size not in (self.classes, self.classes + 1):
            raise InputError(
                f"limit must have shape [K] or [K + 1] for K = {self.classes} >= 1 classes, got {list(limit.shape)}"
            )
        if size > self.classes:
            if limit.tolist() != [0.0] * self.classes + [1.0]:
                raise InputError(f"a limit of K + 1 = {size} states must be 1 on the last one, got {limit.tolist()}")
        elif not bool(((limit > 0) & (limit < torch.inf)).all()) or abs(float(limit.sum()) - 1) > 1e-5:
            raise InputError(f"limit must be positive and sum to 1, got {limit.tolist()}; marginal() makes it so")
        object.__setattr__(self, "limit", limit / limit.sum())

    @classmethod
    def uniform(cls, classes: int, schedule: Schedule = _COSINE) -> DiscreteDiffusion:
        """Return the diffusion towards the uniform distribution over K classes."""
        return cls(torch.ones(max(classes, 0), dtype=torch.float64) / max(classes, 1), classes, schedule)

    @classmethod
    def marginal(cls, counts: Tensor, schedule: Schedule = _COSINE) -> DiscreteDiffusion:
        """Return the diffusion towards the frequencies of ``counts`` ``[K]``.

        Every class gets about one millionth at least, so that a class the counts lack has finite losses.

        Raises:
            InputError: if counts is not a vector, has a negative or infinite entry, or sums to 0.
        """
        weights = counts.detach().to(torch.float64)
        total = float(weights.sum())
        if weights.dim() != 1 or not 0 < total < torch.inf or bool((weights < 0).any()):
            raise InputError(f"counts must be a vector of numbers >= 0 with a positive sum, got {counts.tolist()}")
        weights = (weights / total).clamp(min=_RAREST)
        return cls(weights / weights.sum(), weights.numel(), schedule)

    @classmethod
    def absorbing(cls, classes: int, schedule: Schedule = _COSINE) -> DiscreteDiffusion:
        """Return the diffusion towards the mask state K of K + 1 states (arXiv:2107.03006)."""
        return cls(torch.eye(max(classes, 0) + 1, dtype=torch.float64)[-1], classes, schedule)

    @property
    def states(self) -> int:
        """C, the number of states of a noisy element."""
        return self.limit.numel()

    @property
    def absorbs(self) -> bool:
        """True if the limit is the mask state K."""
        return self.states > self.classes

    def to(self, device: torch.device | str) -> DiscreteDiffusion:
        """Return the same diffusion with its limit on ``device``."""
        return self if self.limit.device == torch.device(device) else replace(self, limit=self.limit.to(device))

    def q_sample(self, x0: Tensor, t: Tensor, uniform: Tensor) -> Tensor:
        """Return x_t ``[*]`` ~ q(x_t | x_0) from one ``uniform`` ``[*]`` in [0, 1) per element."""
        self._check(self.classes, x0=x0)
        _check_times(x0, t)
        _check_uniform(uniform, x0)
        abar, m = self._abar(t), self.limit.to(uniform.dtype)
        kept, redrawn = (w.to(uniform.dtype).expand(x0.shape) for w in (abar, 1 - abar))
        return categorical(_put(redrawn.unsqueeze(-1) * m, x0, kept + redrawn * m[x0]), uniform)

    def draw(self, like: State, field: int, source: Noise) -> Tensor:
        """Return uniform draws in [0, 1), one per element; mirrored elements share theirs."""
        return source.uniform(entry_numbers(like, field))

    def start(self, z: Tensor) -> Tensor:
        """Return x_1 ``[*]`` ~ m from one uniform draw ``z`` ``[*]`` in [0, 1) per element."""
        return categorical(self.limit, z)

    def forward(self, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Return ``q_sample`` at times per graph."""
        return self.q_sample(x0, fit_time(t, x0), z)

    def backward(self, x: Tensor, prediction: Tensor, t: Tensor, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``step`` at times per graph, twice."""
        x_s = self.step(x, prediction, fit_time(t, x), fit_time(s, x), z)
        return x_s, x_s

    def denoise_field(self, x: Tensor, prediction: Tensor, t: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """Return x_0 ``[*]`` ~ p(x_0 | x_t)."""
        return self.step(x, prediction, fit_time(t, x), torch.zeros_like(t), draw())

    def predict(self, logits: Tensor, x_t: Tensor) -> Tensor:
        """Return log p(x_0 | x_t) ``[*, K]`` of the logits ``[*, K]``.

        Under the mask limit an element that is not masked has its class with certainty: 0, and -inf for the others.
        """
        self._check(self.states, x_t=x_t)
        self._check_rows(logits, x_t)
        log_p = logits.log_softmax(-1)
        if not self.absorbs:
            return log_p
        index = x_t.unsqueeze(-1)
        known, own = index < self.classes, index == torch.arange(self.classes, device=x_t.device)
        return log_p.masked_fill(known & own, 0.0).masked_fill(known & ~own, -torch.inf)

    def posterior(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Return q(x_s | x_t, x_0) ``[*, C]`` in the dtype of t; e_{x_0} at s = 0."""
        self._check(self.states, x_t=x_t)
        self._check(self.classes, x_0=x_0)
        _check_times(x_t, t, s)
        _check_shape("x_0", x_0, x_t)
        return self._posterior(x_t, x_0, self._step(x_t, t, s, t.dtype))

    def reverse(self, x_t: Tensor, log_p: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Return p(x_s | x_t) = sum_{x_0} p(x_0) q(x_s | x_t, x_0) ``[*, C]`` of ``log_p`` ``[*, K]``; p at s = 0."""
        self._check(self.states, x_t=x_t)
        self._check_rows(log_p, x_t)
        _check_times(x_t, t, s)
        if self.absorbs:
            log_p = torch.nn.functional.pad(log_p, (0, 1), value=-torch.inf)
        return self._reverse(x_t, log_p, self._step(x_t, t, s, log_p.dtype))

    def step(self, x_t: Tensor, logits: Tensor, t: Tensor, s: Tensor, uniform: Tensor) -> Tensor:
        """Return x_s ``[*]`` ~ p(x_s | x_t) from one ``uniform`` ``[*]`` in [0, 1) per element; no mask at s = 0."""
        _check_uniform(uniform, x_t)
        return categorical(self.reverse(x_t, self.predict(logits, x_t), t, s), uniform)

    def leap(self, x_t: Tensor, logits: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Return p(x_s | x_t) ``[*, C]`` of a step with the reverse rates held as they are at t.

        The noising jumps from x to y at rate b(t) m_y, b = -d log abar / dt, so its reverse jumps at
        b(t) m_x sum_{x_0} p(x_0 | x_t) q(y | x_0) / q(x | x_0) (arXiv:2205.14987, proposition 3); held over the step,
        where b has the integral log(abar_s / abar_t), some jump happens with probability 1 - exp(-their sum).
        """
        self._check(self.states, x_t=x_t)
        _check_times(x_t, t, s)
        p = self.predict(logits, x_t).exp()
        abar, m = self._abar(t).to(p.dtype), self.limit.to(p.dtype)
        elapsed = (self._abar(s) / self._abar(t)).log().to(p.dtype)
        classes = torch.arange(self.classes, device=x_t.device)
        there, own = (1 - abar) * m[x_t], x_t.unsqueeze(-1) == classes
        chance = there.unsqueeze(-1) + torch.where(own, abar.unsqueeze(-1), 0)  # q(x_t | x_0) [*, K]
        weight = m[x_t].unsqueeze(-1) * p / chance.clamp(min=_FLOOR)
        rates = (1 - abar).unsqueeze(-1) * m * weight.sum(-1, keepdim=True)
        rates = rates + abar.unsqueeze(-1) * torch.nn.functional.pad(weight, (0, self.states - self.classes))
        rates = _put(rates, x_t, torch.zeros_like(rates[..., 0]))
        total = rates.sum(-1)
        stay = (-elapsed * total).exp()
        share = (-torch.expm1(-elapsed * total) / total.clamp(min=_FLOOR)).unsqueeze(-1)
        return _put(rates * share, x_t, stay.expand(x_t.shape))

    def losses(self, logits: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return KL(q(x_s | x_t, x_0) || p(x_s | x_t)) and -log p(x_0 | x_t), both ``[*]`` nats, equal at s = 0.

        Under the mask limit both are 0 for an element that is not masked, and the first is
        (abar_s - abar_t) / (1 - abar_t) of the second elsewhere.
        """
        self._check(self.states, x_t=x_t)
        self._check(self.classes, x_0=x_0)
        self._check_rows(logits, x_t)
        _check_shape("x_0", x_0, x_t)
        _check_times(x_t, t, s)
        log_p = logits.log_softmax(-1)
        ce = -_pick(log_p, x_0)
        if self.absorbs:
            ce = torch.where(x_t == self.classes, ce, torch.zeros_like(ce))
            abar_t, abar_s = self._abar(t), self._abar(s)
            return ((abar_s - abar_t) / (1 - abar_t)).to(ce.dtype) * ce, ce
        step = self._step(x_t, t, s, log_p.dtype)
        vlb = _divergence(self._posterior(x_t, x_0, step), self._reverse(x_t, log_p, step))
        # at s = 0 the divergence is the cross entropy up to the floor of its logarithm
        return torch.where(s > 0, vlb, ce), ce

    def prior_kl(self, x_0: Tensor) -> Tensor:
        """Return KL(q(x_1 | x_0) || m) ``[*]`` in float64 nats; 0 under the mask limit, where t = 1 is all masked."""
        self._check(self.classes, x_0=x_0)
        if self.absorbs:
            return torch.zeros(x_0.shape, dtype=torch.float64, device=x_0.device)
        abar = self._abar(torch.ones((), device=self.limit.device))
        eye = torch.eye(self.classes, dtype=torch.float64, device=self.limit.device)
        return _divergence(abar * eye + (1 - abar) * self.limit, self.limit)[x_0]

    def _abar(self, t: Tensor) -> Tensor:
        """Return alpha_bar, exactly 1 at t = 0: the posterior of s = 0 is the data."""
        abar = self.schedule.alpha_bar(t)
        return torch.where(t > 0, abar, torch.ones_like(abar))

    def _step(self, x_t: Tensor, t: Tensor, s: Tensor, dtype: torch.dtype) -> _Step:
        """Return the weights, each a product of positive numbers: nothing cancels where abar is near 0 or 1."""
        abar_t, abar_s, m = self._abar(t), self._abar(s), self.limit[x_t]
        lost, noise = abar_s - abar_t, 1 - abar_s
        scale = abar_s * (1 - abar_t)
        same = noise * lost * m / (abar_s * (abar_t + (1 - abar_t) * m))  # lambda
        weights = lost / (1 - abar_t), abar_t * noise / scale, noise * lost / scale, 1 - same, same
        return _Step(*(w.to(dtype) for w in weights))

    def _posterior(self, x_t: Tensor, x_0: Tensor, step: _Step) -> Tensor:
        same = x_t == x_0
        m = self.limit.to(step.data.dtype)
        redraw = torch.where(same, step.same_redraw, step.redraw)
        q = _put(redraw.unsqueeze(-1) * m, x_0, step.data + redraw * m[x_0])
        return _put(q, x_t, torch.where(same, step.same_stay, step.stay) + redraw * m[x_t])

    def _reverse(self, x_t: Tensor, log_p: Tensor, step: _Step) -> Tensor:
        p, m = log_p.exp(), self.limit.to(log_p.dtype)
        same = _pick(p, x_t)
        p = _put(p, x_t, torch.zeros_like(same))
        other = p.sum(-1)  # not 1 - same: that is 0 in float32 long before the logits settle
        redraw = other * step.redraw + same * step.same_redraw
        mixed = step.data.unsqueeze(-1) * p + redraw.unsqueeze(-1) * m
        return _put(mixed, x_t, other * step.stay + same * step.same_stay + redraw * m[x_t])

    def _check(self, size: int, **elements: Tensor) -> None:
        for name, x in elements.items():
            if x.dtype != torch.int64:
                raise InputError(f"{name} must be int64 classes, got {x.dtype}")
            if x.device.type == "cpu" and x.numel() and not 0 <= int(x.min()) <= int(x.max()) < size:
                raise InputError(f"{name} must hold 0..{size - 1}, got {int(x.min())}..{int(x.max())}")

    def _check_rows(self, rows: Tensor, x: Tensor) -> None:
        if rows.shape != (*x.shape, self.classes):
            raise InputError(f"logits or log_p must be {[*x.shape, self.classes]}, got {list(rows.shape)}")


def categorical(p: Tensor, uniform: Tensor) -> Tensor:
    """Return classes ``[*]`` int64 ~ p ``[*, C]``, the inverse cumulative sum at ``uniform`` ``[*]`` in [0, 1).

    p need not be normalised: rows that sum to 1 - eps are. A class of probability 0 is never returned.

    Example:
        >>> categorical(torch.tensor([0.0, 0.25, 0.75]), torch.tensor([0.0, 0.2, 0.3, 0.99]))
        tensor([1, 1, 2, 2])
    """
    total = p.cumsum(-1)
    positive = p > 0
    # a parallel cumulative sum may step at a zero, or not step at a tiny class: only positive classes can be hit
    hit = positive & (total > uniform.unsqueeze(-1) * total[..., -1:])
    return (positive.to(torch.uint8) + hit).argmax(-1)  # the first of equals


def _pick(rows: Tensor, index: Tensor) -> Tensor:
    return rows.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def _put(rows: Tensor, index: Tensor, value: Tensor) -> Tensor:
    """Return ``rows`` with entry ``index`` ``[*]`` replaced by ``value`` ``[*]``."""
    return rows.scatter(-1, index.unsqueeze(-1), value.unsqueeze(-1))


def _divergence(q: Tensor, p: Tensor) -> Tensor:
    """Return KL(q || p) of normalised rows as sum q (r - 1 - log r), r = p / q: rounding enters squared only."""
    q = q.clamp(min=_FLOOR)
    ratio = p.clamp(min=_FLOOR) / q
    return (q * (ratio - 1 - ratio.log())).sum(-1)


def _check_times(x: Tensor, t: Tensor, s: Tensor | None = None) -> None:
    for name, time in (("t", t), ("s", s)):
        if time is None:
            continue
        if not time.is_floating_point():
            raise InputError(f"{name} must be a floating-point time, got {time.dtype}")
        if not _broadcasts(time, x):
            raise InputError(f"{name} {list(time.shape)} must broadcast to the elements {list(x.shape)}")
    if t.device.type == "cpu":
        early = t if s is None else s
        if not bool(((early >= 0) & (t <= 1)).all()) or not (s is None or bool((s < t).all())):
            raise InputError("times must satisfy 0 <= s < t <= 1, with 0 = data")


def _broadcasts(time: Tensor, x: Tensor) -> bool:
    sizes = list(zip(reversed(time.shape), reversed(x.shape), strict=False))
    return time.dim() <= x.dim() and all(size in (1, wanted) for size, wanted in sizes)


def _check_shape(name: str, x: Tensor, like: Tensor) -> None:
    if x.shape != like.shape:
        raise InputError(f"{name} must be {list(like.shape)} as x_t, got {list(x.shape)}")


def _check_uniform(uniform: Tensor, x: Tensor) -> None:
    if uniform.shape != x.shape:
        raise InputError(f"uniform must be {list(x.shape)}, one per element, got {list(uniform.shape)}")
