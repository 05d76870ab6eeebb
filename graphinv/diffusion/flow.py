"""The probability flow as a map: with steps as long as an error allows, and the density that it gives each state.

Noise and data are matched one to one by an ODE (arXiv:2011.13456, section 4.3), so that the density of data is that of
the noise it comes from, times the volume change along the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphinv.diffusion.gaussian import SDE
from graphinv.diffusion.integrate import solve
from graphinv.diffusion.process import Process
from graphinv.diffusion.solver.base import Carry, GaussianSolver, Predict
from graphinv.diffusion.solver.heun import AdaptiveHeun, slope, sum_fields
from graphinv.diffusion.state import S, State, count_entries, fields_of, with_fields
from graphinv.errors import InputError
from graphinv.noise import GeneratorNoise, Noise

__all__ = ["follow_flow", "log_density"]


def follow_flow(
    process: Process, score: Predict[S], x: S, start: float = 1.0, end: float = 1e-3, tolerance: float = 1e-2
) -> tuple[S, Tensor]:
    """Follow the probability flow from ``start`` to ``end``, each graph with steps of its own; see ``AdaptiveHeun``.

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
    times = torch.tensor([start, end], dtype=torch.float64, device=fields_of(x)[0].device)
    solution = solve(AdaptiveHeun(tolerance), process, score, x, times, GeneratorNoise())
    return solution.x, solution.carry[2]


@torch.no_grad()
def log_density(
    process: Process,
    score: Predict[S],
    x: S,
    noise: Noise,
    *,
    steps: int = 100,
    start: float = 1e-3,
    probes: int = 1,
    prior: Callable[[S], Tensor] | None = None,
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
    draws = [process.noise(x, noise.child(k)) for k in range(probes)]
    directions = [process.map(lambda sde, z: (z.sign(),), z)[0] for z in draws]
    times = torch.linspace(start, 1, steps + 1, dtype=torch.float64, device=fields_of(x)[0].device)
    end, _, (change,) = solve(_VolumeHeun(tuple(directions)), process, score, x, times, noise)
    if prior is not None:
        return change + prior(end)
    square = sum_fields(end, [f.square() for f in fields_of(end)])
    return change - 0.5 * square - 0.5 * math.log(2 * math.pi) * count_entries(end)


@dataclass(frozen=True, eq=False)
class _VolumeHeun(GaussianSolver):
    """Heun's rule on state and log volume together; the carry is the change of the volume so far, ``[B]`` nats."""

    directions: tuple[Any, ...]  # states z of Hutchinson's estimate
    order: int = field(default=2, init=False)

    def init(self, process: Process, x: State) -> Carry:
        """Return no change."""
        super().init(process, x)
        return (torch.zeros_like(count_entries(x)),)

    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state at s, twice, and the change of the volume up to there."""
        h = s - t

        def rate(x: S, t: Tensor) -> tuple[S, Tensor]:
            return _with_divergence(process, predict, x, t, self.directions)

        first, early = rate(x, t)
        moved = process.map(lambda sde, x, k: (x + h.to(x.dtype) * k,), x, first)[0]
        second, late = rate(moved, s)

        def update(sde: SDE, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            return (x + 0.5 * h.to(x.dtype) * (a + b),)

        x = process.map(update, x, first, second)[0]
        return x, x, (carry[0] + 0.5 * h.to(early.dtype) * (early + late),)


def _with_divergence(
    process: Process, score: Predict[S], x: S, t: Tensor, directions: tuple[S, ...]
) -> tuple[S, Tensor]:
    """Return the slope and its divergence ``[B]``, by derivatives along ``directions``."""

    def along(*fields: Tensor) -> tuple[Tensor, ...]:
        return fields_of(slope(process, score, with_fields(x, fields), t))

    rates = []
    for direction in directions:
        z = fields_of(direction)
        with torch.enable_grad():  # the loop above runs without
            values, moved, *_ = torch.func.jvp(along, fields_of(x), z)
        rates.append(sum_fields(x, [a * b.detach() for a, b in zip(z, moved, strict=True)]))
    return with_fields(x, [v.detach() for v in values]), torch.stack(rates).mean(0)
