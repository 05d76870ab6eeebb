"""The steps of an integration as a function of tensors alone, so that a GPU can replay them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from graphinv.graphs import DenseGraphs
from graphinv.noise import Noise, PerGraphNoise
from graphinv.ops.replay import Replay

__all__ = ["Remembering", "Steps", "fields_of", "state_of"]

State = Any


@runtime_checkable
class Remembering(Protocol):
    """A solver that keeps something of the step before."""

    def remembered(self, g: State, t: Tensor, system: Any) -> tuple[Tensor, State]:
        """Return time and data prediction of the step that ended in ``g``; ``t`` and zeros, which count as none."""
        ...

    def remember(self, before: tuple[Tensor, State], g: State) -> None:
        """Take ``before`` as what the step that ended in ``g`` left."""
        ...


class Steps:
    """Steps of one solver from one state on.

    Args:
        solver: the step rule.
        system: an SDE or a GraphSDE.
        score: gives the score.
        noise: source of randomness; only that per graph can be replayed.
        times: how many steps there will be; 0 for no replay.
    """

    def __init__(self, solver: Any, system: Any, score: Any, noise: Noise, times: int) -> None:
        self.solver, self.system, self.score, self.noise = solver, system, score, noise
        self.replay = Replay(self._step, times) if times and isinstance(noise, PerGraphNoise) else None
        self.like: State = None
        self.drawn = 0  # draws of one step

    def __call__(self, g: State, t: Tensor, s: Tensor) -> tuple[State, State]:
        """Return the state at ``s`` and its mean, from the state ``g`` at ``t``."""
        noise, fields = self.noise, fields_of(g)
        if self.replay is None or not isinstance(noise, PerGraphNoise) or fields[0].device.type == "cpu":
            moved: tuple[State, State] = self.solver.step(g, t, s, self.system, self.score, noise)
            return moved
        self.like = g  # the mask is the same in all steps
        number = torch.full((1,), noise.draws, device=fields[0].device)
        before: tuple[Tensor, ...] = ()
        if isinstance(self.solver, Remembering):
            time, data = self.solver.remembered(g, t, self.system)
            before = (time, *fields_of(data))
        out = self.replay(*fields, t, s, number, *before)
        noise.draws += self.drawn
        count = len(fields)
        moved, mean = state_of(g, out[:count]), state_of(g, out[count : 2 * count])
        if before:
            self.solver.remember((t, state_of(g, out[2 * count :])), moved)
        return moved, mean

    def _step(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(fields_of(self.like))
        g, (t, s, number) = state_of(self.like, tensors[:count]), tensors[count : count + 3]
        if len(tensors) > count + 3:
            time, *data = tensors[count + 3 :]
            self.solver.remember((time, state_of(g, data)), g)
        assert isinstance(self.noise, PerGraphNoise)
        noise = self.noise.at(number)
        moved, mean = self.solver.step(g, t, s, self.system, self.score, noise)
        self.drawn = noise.draws
        kept = self.solver.remembered(moved, t, self.system)[1] if len(tensors) > count + 3 else None
        return (*fields_of(moved), *fields_of(mean), *(() if kept is None else fields_of(kept)))


def fields_of(g: State) -> tuple[Tensor, ...]:
    """Return the tensors of a state: itself, or nodes ``[B, M, F]`` and adjacencies ``[B, M, M]``."""
    return (g.x, g.adj) if isinstance(g, DenseGraphs) else (g,)


def state_of(like: State, fields: Sequence[Tensor]) -> State:
    """Return a state of the kind of ``like`` with other ``fields``."""
    return replace(like, x=fields[0], adj=fields[1]) if isinstance(like, DenseGraphs) else fields[0]
