"""The only loop over time: any solver, any process, any state; on a GPU its steps are replayed as one launch each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, NamedTuple

import torch
from torch import Tensor

from graphinv.diffusion.process import Process
from graphinv.diffusion.solver.base import Carry, Predict, Solver
from graphinv.diffusion.state import S, fields_of, with_fields
from graphinv.errors import InputError
from graphinv.noise import Noise, PerGraphNoise
from graphinv.ops.replay import Replay

__all__ = ["Solution", "integrate", "solve", "time_grid"]

_DAMAGED = "the model gives no numbers (NaN): its weights are damaged; take another checkpoint"


class Solution(NamedTuple, Generic[S]):
    """The end of an integration.

    Attributes:
        x: the state at the last time.
        mean: the same before the noise of the last step.
        carry: what the solver keeps.
    """

    x: S
    mean: S
    carry: Carry


def time_grid(steps: int, eps: float = 1e-4, early: float = 1.0) -> Tensor:
    """Return ``[steps + 1]`` float64 times: ``steps`` from 1 to ``eps``, then 0.

    The k-th lies (k / (steps - 1))^early of the way: evenly spaced at 1, shorter steps near noise above, near data
    below.

    Example:
        >>> time_grid(3, eps=0.5).tolist(), time_grid(3, eps=0.5, early=2.0).tolist()
        ([1.0, 0.75, 0.5, 0.0], [1.0, 0.875, 0.5, 0.0])
    """
    if steps < 1 or not 0 < eps < 1 or not 0 < early < math.inf:
        raise InputError(f"expected steps >= 1, 0 < eps < 1 and early > 0, got {steps}, {eps} and {early}")
    times = 1 - torch.linspace(0, 1, steps, dtype=torch.float64) ** early * (1 - eps)
    return torch.cat([times, times.new_zeros(1)])


def integrate(
    solver: Solver,
    process: Process,
    predict: Predict[S],
    x: S,
    times: Tensor,
    noise: Noise,
    *,
    denoise: bool = True,
    callback: Callable[[int, int, S], None] | None = None,
    replay: bool = False,
) -> S:
    """Run ``solver`` from ``times[0]`` to ``times[-1]`` and return the state there, without the last step's noise.

    Arguments and errors are those of ``solve``.

    Example:
        >>> from graphinv.diffusion import S4, GeneratorNoise, VPSDE
        >>> process, noise = VPSDE(0.1, 20.0), GeneratorNoise(torch.Generator().manual_seed(0))
        >>> score = lambda x, t: -x  # of data from N(0, 1)
        >>> integrate(S4(), process, score, process.prior(torch.zeros(5, 2), noise), time_grid(10), noise).shape
        torch.Size([5, 2])
    """
    return solve(solver, process, predict, x, times, noise, denoise=denoise, callback=callback, replay=replay).mean


@torch.no_grad()
def solve(
    solver: Solver,
    process: Process,
    predict: Predict[S],
    x: S,
    times: Tensor,
    noise: Noise,
    *,
    denoise: bool = True,
    callback: Callable[[int, int, S], None] | None = None,
    replay: bool = False,
) -> Solution[S]:
    """Run ``solver`` from ``times[0]`` to ``times[-1]``.

    Args:
        solver: the step rule.
        process: an SDE or ``DiscreteDiffusion`` (x is a tensor), or a ``GraphProcess`` (x is graphs).
        predict: ``predict(x, t)``, with t ``[]`` (``[B]`` for rules whose graphs have times of their own): scores of
            SDEs, logits of categorical fields, in a state like x.
        x: the state at ``times[0]``.
        times: ``[K+1]``, monotone.
        noise: source of randomness; step n takes ``noise.child(n)``.
        denoise: take a last interval that ends in 0 as one step onto the data (``Process.denoise``), instead of one
            more step of the solver.
        callback: called as ``callback(k, K, state)`` after interval k of K.
        replay: on a GPU, with noise per graph, record a step as a CUDA graph and replay it (``graphinv.ops.replay``).
            Solver and network must then do the same at every step, but for what they are given.

    Raises:
        InputError: it is no solver, it cannot move the process, or a prediction is NaN.
    """
    if not isinstance(solver, Solver):
        raise InputError(f"expected a solver object such as graphinv.diffusion.Heun(), got {solver!r}")
    total, number = times.numel() - 1, 0
    steps = _Steps(solver, process, predict, noise, total if replay else 0)
    mean, carry = x, solver.init(process, x)
    for k in range(total):
        t, s = times[k], times[k + 1]
        if denoise and k == total - 1 and float(s) == 0:
            x = mean = process.denoise(x, steps.watched(x, t), t, noise.child(number))
        else:
            x, mean, carry = steps(x, t, s, carry, number)
            number += 1
            while not solver.arrived(carry, s):
                x, mean, carry = steps(x, t, s, carry, number)
                number += 1
        if callback is not None:
            callback(k + 1, total, x)
    steps.check()
    return Solution(x, mean, carry)


class _Steps(Generic[S]):
    """Steps of one solver as functions of tensors alone, replayed where ``times`` of them are to come on a GPU."""

    def __init__(self, solver: Solver, process: Process, predict: Predict[S], noise: Noise, times: int) -> None:
        self.solver, self.process, self.predict, self.noise = solver, process, predict, noise
        self.replay = Replay(self._tensors, times) if times and isinstance(noise, PerGraphNoise) else None
        self.like: S | None = None
        self.bad: list[Tensor] = []  # [] bool of predictions since the last look
        self.broken: Tensor | None = None

    def __call__(self, x: S, t: Tensor, s: Tensor, carry: Carry, number: int) -> tuple[S, S, Carry]:
        """Return the state after a step towards ``s``, its mean and the next carry."""
        fields = fields_of(x)
        if self.replay is None or fields[0].device.type == "cpu":
            out = self.solver.step(self.process, self.watched, x, t, s, carry, self.noise.child(number))
            self._note()
            return out
        self.like, count = x, len(fields)  # what is no field, such as a mask, is the same in all steps
        place = torch.full((1,), number, device=fields[0].device)
        *out_fields, bad = self.replay(*fields, t, s, place, *carry)
        self.bad.append(bad)
        self._note()
        moved, mean = with_fields(x, out_fields[:count]), with_fields(x, out_fields[count : 2 * count])
        return moved, mean, tuple(out_fields[2 * count :])

    def watched(self, x: S, t: Tensor) -> S:
        """Return the prediction, and take note whether it holds a NaN."""
        out = self.predict(x, t)
        self.bad.extend(f.isnan().any() for f in fields_of(out))
        return out

    def check(self) -> None:
        """Raise InputError if a prediction so far was NaN; this waits for a GPU, once."""
        self._note()
        if self.broken is not None and bool(self.broken):
            raise InputError(_DAMAGED)

    def _note(self) -> None:
        marks = self.bad if self.broken is None else [self.broken, *self.bad]
        if self.bad:
            self.broken, self.bad = torch.stack(marks).any(), []

    def _tensors(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return fields of state and mean, the carry, and whether a prediction was NaN."""
        assert self.like is not None
        count = len(fields_of(self.like))
        x, (t, s, number), carry = (
            with_fields(self.like, tensors[:count]),
            tensors[count : count + 3],
            tensors[count + 3 :],
        )
        self.bad = []
        moved, mean, kept = self.solver.step(self.process, self.watched, x, t, s, carry, self.noise.child(number))
        bad, self.bad = torch.stack(self.bad).any(), []
        return (*fields_of(moved), *fields_of(mean), *kept, bad)
