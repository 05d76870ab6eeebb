"""Categorical fields as jump processes whose rates are held over a step (arXiv:2205.14987)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from graphinv.diffusion.categorical import DiscreteDiffusion, categorical
from graphinv.diffusion.process import Process, fit_time
from graphinv.diffusion.solver.base import Carry, Predict, Solver
from graphinv.diffusion.state import S, State
from graphinv.errors import InputError
from graphinv.noise import Noise

__all__ = ["TauLeaping"]


@dataclass(frozen=True)
class TauLeaping(Solver):
    """Let each element jump at most once a step, by the rates of the reverse process at the step's start.

    See ``DiscreteDiffusion.leap``. Where ``Ancestral`` takes the network's word for the whole step, this trusts its
    rates alone; end in time 0 with ``integrate(denoise=True)``, as elements may stay masked at any rate.

    Network evaluations per step: 1.
    """

    order: int = field(default=1, init=False)

    def init(self, process: Process, x: State) -> Carry:
        """Return ``()``.

        Raises:
            InputError: a field is not categorical.
        """
        foreign = [type(p).__name__ for p in process.fields if not isinstance(p, DiscreteDiffusion)]
        if foreign:
            raise InputError(f"TauLeaping moves categorical fields, got {', '.join(foreign)}; take Ancestral")
        return ()

    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state at s, twice, and ``()``."""

        def update(p: DiscreteDiffusion, x: Tensor, logits: Tensor, u: Tensor) -> tuple[Tensor, ...]:
            return (categorical(p.leap(x, logits, fit_time(t, x), fit_time(s, x)), u),)

        moved = process.map(update, x, predict(x, t), process.noise(x, noise))[0]
        return moved, moved, ()
