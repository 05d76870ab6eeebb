"""The probability flow as a map: with steps as long as an error allows, and the density that it gives each state.

Noise and data are matched one to one by an ODE (arXiv:2011.13456, section 4.3), so that the density of data is that of
the noise it comes from, times the volume change along the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphinv.diffusion._steps import fields_of, state_of
from graphinv.diffusion.exponential import slope
from graphinv.diffusion.solver import Score, State
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs
from graphinv.noise import Noise

__all__ = ["follow_flow", "log_density"]

_FIRST, _SHORTEST = 0.02, 1e-6  # steps in time


@torch.no_grad()
def follow_flow(
    system: Any, score: Score, g: State, start: float = 1.0, end: float = 1e-3, tolerance: float = 1e-2
) -> tuple[State, Tensor]:
    """Follow the probability flow from ``start`` to ``end`` by Heun's rule, each graph with steps of its own.

    A step is taken if the root mean square of its error, half the difference of Heun's and Euler's results, is at most
    ``tolerance`` x (1 + |x|) per entry; else it is tried again shorter.

    Returns:
        The state at ``end``, and ``[B]`` int64 score evaluations of each graph.

    Raises:
        InputError: times out of range, no positive tolerance, or a score that is not finite.

    Example:
        >>> from graphinv.diffusion import VPSDE
        >>> x, calls = follow_flow(VPSDE(0.1, 5.0), lambda x, t: -x, torch.ones(2, 3, dtype=torch.float64))
        >>> bool((x - 1).abs().max() < 1e-6), bool((calls < 40).all())
        (True, True)
    """
    if not 0 < min(start, end) <= max(start, end) <= 1 or start == end or not tolerance > 0:
        raise InputError(f"expected two times in (0, 1] and a tolerance > 0, got {start}, {end} and {tolerance}")
    t: Tensor = torch.full_like(_entries(g), start)
    calls, sign = torch.zeros_like(t, dtype=torch.long), math.copysign(1.0, end - start)
    length = torch.full_like(t, _FIRST)
    while bool((running := (end - t) * sign > 0).any()):
        s = torch.where(running, t + sign * torch.minimum(length, (end - t).abs()), t)
        first = slope(system, score, g, t)
        euler = system.apply(lambda sde, x, k, h=s - t: (x + _as(h, x) * k,), g, first)[0]
        second = slope(system, score, euler, s)
        heun = system.apply(lambda sde, x, a, b, h=s - t: (x + 0.5 * _as(h, x) * (a + b),), g, first, second)[0]
        error = _error((g, euler, heun), tolerance)
        if not bool(error[running].isfinite().all()):
            raise InputError(f"the score gives no finite numbers at times down to {float(s.min()):.4g}")
        taken = (error <= 1) | (length <= _SHORTEST)
        g = system.apply(lambda sde, x, new, where=taken: (torch.where(_as(where, x), new, x),), g, heun)[0]
        t = torch.where(taken, s, t)
        calls += 2 * running
        length = (length * (0.9 * error.clamp(min=1e-8).rsqrt()).clamp(0.2, 5.0)).clamp(min=_SHORTEST)
    return g, calls


@torch.no_grad()
def log_density(
    system: Any,
    score: Score,
    g: State,
    noise: Noise,
    *,
    steps: int = 100,
    start: float = 1e-3,
    probes: int = 1,
    prior: Callable[[State], Tensor] | None = None,
) -> Tensor:
    """Return ``[B]`` log densities in nats at time ``start``, of the prior carried along the probability flow.

    ``prior`` gives the log densities ``[B]`` of states at time 1; None is N(0, 1). An adjacency counts each pair once.
    The divergence is Hutchinson's estimate, z . dF z with random z, unbiased; ``probes`` draws are averaged and held
    fixed along the way. ``score`` must be differentiable.

    Raises:
        InputError: fewer than one step or probe, or ``start`` not in (0, 1).

    Example:
        >>> from graphinv.diffusion import GeneratorNoise, VPSDE
        >>> x = torch.zeros(1, 2, dtype=torch.float64)
        >>> value = log_density(VPSDE(0.1, 20.0), lambda x, t: -x, x, GeneratorNoise())
        >>> round(value.item() + math.log(2 * math.pi), 6)
        0.0
    """
    if steps < 1 or probes < 1 or not 0 < start < 1:
        raise InputError(f"expected steps >= 1, probes >= 1 and 0 < start < 1, got {steps}, {probes} and {start}")
    directions = [system.apply(lambda sde, x: (x.sign(),), system.noise(g, noise))[0] for _ in range(probes)]
    change: Tensor = torch.zeros_like(_entries(g))
    times = torch.linspace(start, 1, steps + 1, dtype=torch.float64).tolist()
    for t, s in zip(times[:-1], times[1:], strict=True):
        now, later = (change.new_full((), time) for time in (t, s))
        first, rate = _with_divergence(system, score, g, now, directions)
        moved = system.apply(lambda sde, x, k, h=s - t: (x + h * k,), g, first)[0]
        second, end_rate = _with_divergence(system, score, moved, later, directions)
        g = system.apply(lambda sde, x, a, b, h=s - t: (x + 0.5 * h * (a + b),), g, first, second)[0]
        change += 0.5 * (s - t) * (rate + end_rate)
    if prior is not None:
        return change + prior(g)
    square = _total(g, [x.square() for x in fields_of(g)])
    return change - 0.5 * square - 0.5 * math.log(2 * math.pi) * _entries(g)


def _error(states: tuple[State, State, State], tolerance: float) -> Tensor:
    """Return ``[B]`` errors of a step from ``states[0]`` in units of what is allowed."""
    squares = []
    for x, euler, heun in zip(*(fields_of(g) for g in states), strict=True):
        allowed = tolerance * (1 + torch.maximum(x.abs(), heun.abs()))
        squares.append((0.5 * (heun - euler) / allowed).square())
    return (_total(states[0], squares) / _entries(states[0]).clamp(min=1)).sqrt()


def _with_divergence(system: Any, score: Score, g: State, t: Tensor, directions: list[State]) -> tuple[State, Tensor]:
    """Return the slope and its divergence ``[B]``, by derivatives along ``directions``."""

    def along(*fields: Tensor) -> tuple[Tensor, ...]:
        return fields_of(slope(system, score, state_of(g, fields), t))

    rates = []
    for direction in directions:
        z = fields_of(direction)
        inputs = fields_of(g)
        with torch.enable_grad():  # the loop above runs without
            values, moved, *_ = torch.func.jvp(along, inputs, z)
        products = [a * b.detach() for a, b in zip(z, moved, strict=True)]
        rates.append(_total(g, products))
    return state_of(g, [v.detach() for v in values]), torch.stack(rates).mean(0)


def _total(g: State, values: list[Tensor]) -> Tensor:
    """Return the sums ``[B]`` over all entries, each pair of an adjacency once."""
    weights = (1.0, 0.5) if isinstance(g, DenseGraphs) else (1.0,)
    return torch.stack([w * v.flatten(1).sum(1) for w, v in zip(weights, values, strict=True)]).sum(0)


def _entries(g: State) -> Tensor:
    """Return how many independent entries each state has, ``[B]``."""
    if isinstance(g, DenseGraphs):
        nodes = g.mask.sum(1)
        return (nodes * g.x.size(-1) + nodes * (nodes - 1) // 2).to(g.x.dtype)
    count: Tensor = torch.ones_like(g).flatten(1).sum(1)
    return count


def _as(value: Tensor, x: Tensor) -> Tensor:
    """Shape ``[B]`` to broadcast against ``x`` ``[B, *]``."""
    value = value if value.dtype == torch.bool else value.to(x.dtype)
    return value.reshape(-1, *(1,) * (x.dim() - 1))
