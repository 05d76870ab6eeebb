"""What a solver is: a rule for one interval of undoing a process, with all that it keeps in a carry of tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from graphinv.diffusion.gaussian import SDE
from graphinv.diffusion.process import Process
from graphinv.diffusion.state import S, State
from graphinv.errors import InputError
from graphinv.noise import Noise

__all__ = ["Carry", "GaussianSolver", "Predict", "Solver"]

Carry = tuple[Tensor, ...]
Predict = Callable[[S, Tensor], S]  # predict(x, t): what the process calls its prediction, such as the score


class Solver(ABC):
    """A step rule. Nothing is kept on a solver: ``step`` with the same arguments returns the same bits.

    Attributes:
        order: order of the error in the step size: of the flow, or in distribution.
    """

    order: int

    def init(self, process: Process, x: State) -> Carry:
        """Return the carry before the first step from ``x``: ``()`` for a rule that looks at nothing but the state.

        Raises:
            InputError: the solver cannot move such a process.
        """
        return ()

    @abstractmethod
    def step(
        self, process: Process, predict: Predict[S], x: S, t: Tensor, s: Tensor, carry: Carry, noise: Noise
    ) -> tuple[S, S, Carry]:
        """Return the state at s < t, its mean (the state before the last noise), and the next carry.

        Args:
            process: what is undone.
            predict: ``predict(x, t)``, the network.
            x: the state at ``t``.
            t: time ``[]``.
            s: time ``[]``.
            carry: of the step before, or of ``init``; at least as many tensors as ``init`` gives, of the same shapes.
            noise: of this step alone.
        """

    def arrived(self, carry: Carry, s: Tensor) -> bool:
        """Return whether the step reached ``s``; a rule that chooses its own steps is asked again until it has."""
        return True


class GaussianSolver(Solver):
    """A rule that moves along scores, so that every field must have an SDE."""

    def init(self, process: Process, x: State) -> Carry:
        """Return ``()``; see ``Solver.init``."""
        foreign = [type(p).__name__ for p in process.fields if not isinstance(p, SDE)]
        if foreign:
            raise InputError(
                f"{type(self).__name__} follows scores, got {', '.join(foreign)}; take Ancestral, made for any process"
            )
        return ()
