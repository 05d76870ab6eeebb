"""How data becomes noise, and what undoing it means: of one field, or of nodes and edges together.

Time is in [0, 1] with 0 = data. A *field process* noises one tensor; ``GraphProcess`` joins two of any kind, so that
no solver branches on nodes or edges, nor on continuous or categorical ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from graphinv.diffusion.state import S, State, fields_of, with_fields
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs
from graphinv.noise import Noise

__all__ = ["FieldProcess", "GraphProcess", "Prediction", "Process", "fit_time"]

Prediction = Literal["score", "data", "logits"]
Update = Callable[..., tuple[Tensor, ...]]


class Process(ABC):
    """What a solver asks of a process, whatever its states are."""

    @property
    @abstractmethod
    def fields(self) -> tuple[FieldProcess, ...]:
        """The process of each field of a state."""

    def map(self, update: Update, *states: S) -> tuple[S, ...]:
        """Return the states of ``update(process, *tensors)``, called for each field.

        Raises:
            InputError: a state has another number of fields.
        """
        tensors = [self._tensors(x) for x in states]
        results = [update(p, *values) for p, *values in zip(self.fields, *tensors, strict=True)]
        return tuple(with_fields(states[0], fields) for fields in zip(*results, strict=True))

    def noise(self, like: S, source: Noise) -> S:
        """Return the draws that noising or one step of undoing takes, shaped like ``like``.

        Standard normal for Gaussian fields, uniform in [0, 1) for categorical ones; mirrored on edges.
        """
        self._tensors(like)
        sources = [source] if len(self.fields) == 1 else [source.child(k) for k in range(len(self.fields))]
        drawn = [p.draw(like, k, own) for k, (p, own) in enumerate(zip(self.fields, sources, strict=True))]
        state = with_fields(like, drawn)
        return state.masked() if isinstance(state, DenseGraphs) else state  # type: ignore[return-value]

    def corrupt(self, x0: S, t: Tensor, source: Noise) -> S:
        """Draw x(t) given the data ``x0`` at times ``t`` ``[]`` or ``[B]``."""
        return self.map(lambda p, x, z: (p.forward(x, t, z),), x0, self.noise(x0, source))[0]

    def prior(self, like: S, source: Noise) -> S:
        """Draw x(1), shaped like ``like``."""
        return self.map(lambda p, z: (p.start(z),), self.noise(like, source))[0]

    def denoise(self, x: S, prediction: S, t: Tensor, source: Noise) -> S:
        """Step from ``t`` onto the data: its mean for Gaussian fields, a draw for categorical ones."""
        numbers = iter(range(len(self.fields)))

        def update(p: FieldProcess, x_t: Tensor, predicted: Tensor) -> tuple[Tensor, ...]:
            k = next(numbers)
            return (p.denoise_field(x_t, predicted, t, lambda: p.draw(x, k, source.child(k))),)

        return self.map(update, x, prediction)[0]

    def _tensors(self, x: State) -> tuple[Tensor, ...]:
        tensors = fields_of(x)
        if len(tensors) != len(self.fields):
            raise InputError(
                f"{type(self).__name__} noises {len(self.fields)} field(s), got a {type(x).__name__} with "
                f"{len(tensors)}; join a process of nodes and one of edges by GraphProcess(node, edge)"
            )
        return tensors


class FieldProcess(Process):
    """A process of one tensor ``[B, *]``.

    Attributes:
        prediction: what a network says of the field: "score" (gradient of the log density), "data" or "logits" (of
            the classes of the data, in one more dimension).
    """

    prediction: ClassVar[Prediction]

    @property
    def fields(self) -> tuple[FieldProcess, ...]:
        """Itself alone."""
        return (self,)

    @abstractmethod
    def draw(self, like: State, field: int, source: Noise) -> Tensor:
        """Return draws for field number ``field`` of ``like``."""

    @abstractmethod
    def start(self, z: Tensor) -> Tensor:
        """Return x(1) of the draws ``z``."""

    @abstractmethod
    def forward(self, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Return x(t) of the data and the draws ``z``."""

    @abstractmethod
    def backward(self, x: Tensor, prediction: Tensor, t: Tensor, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x(s), s < t, drawn from the posterior under the prediction, and its mean (itself, of classes)."""

    @abstractmethod
    def denoise_field(self, x: Tensor, prediction: Tensor, t: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """Return the data; ``draw`` gives noise where one needs it."""


@dataclass(frozen=True)
class GraphProcess(Process):
    """One process for nodes, one for edges, under one time; Gaussian or categorical, also one of each.

    Example:
        >>> import torch
        >>> from graphinv.diffusion import VESDE, DiscreteDiffusion, GeneratorNoise
        >>> process = GraphProcess(VESDE(), DiscreteDiffusion.absorbing(2))
        >>> edges = torch.tensor([[[0, 1], [1, 0]]])
        >>> g = DenseGraphs(torch.zeros(1, 2, 3), edges, torch.ones(1, 2, dtype=torch.bool))
        >>> process.corrupt(g, torch.ones(1), GeneratorNoise()).adj.tolist()  # 2 is the mask
        [[[0, 2], [2, 0]]]
    """

    node: FieldProcess
    edge: FieldProcess

    @property
    def fields(self) -> tuple[FieldProcess, ...]:
        """Those of nodes and edges."""
        return self.node, self.edge


def fit_time(value: Tensor, x: Tensor) -> Tensor:
    """Shape a value per graph ``[B]`` (or ``[]``) so that it broadcasts against ``x`` ``[B, *]``."""
    return value.reshape(value.shape + (1,) * (x.dim() - value.dim())) if value.dim() else value
