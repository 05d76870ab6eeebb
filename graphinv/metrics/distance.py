"""A metric is an object: its name, its label, which way is better, and the function that compares two sets.

Protocols hold such objects, so a metric of your own runs under a protocol of your own and is in the table, the JSON
and the page like any other. Its floor and its interval need no code: `compute` gives a function of the weights of the
samples (docs/decisions/008), real data in place of the samples give the floor, draws of weights the interval.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from graphinv.errors import GraphinvError, InputError
from graphinv.metrics.comparison import Comparison, interval

__all__ = ["Distance", "Floor", "Undefined", "check_distances", "figure", "plain_data"]

S = TypeVar("S")
_TINY = 1e-9  # a floor that is rounding


class Undefined(InputError):
    """What ``compute`` raises where these samples or this reference have no such figure: the report says why.

    Only this figure is left out. Anything else that ``compute`` raises ends the evaluation.
    """


@dataclass(frozen=True)
class Distance(Generic[S]):
    """A figure that compares samples with a reference.

    Args:
        name: short and unique in its protocol, the key of the report.
        label: what the page calls it.
        better: "lower" or "higher".
        compute: samples and reference to a `Comparison`, a function of the weights of the samples. Both are
            `graphinv.metrics.MoleculeSet` under a `MoleculeProtocol` and `graphinv.metrics.GraphSet` under a
            `GraphProtocol`: sets that keep what was computed of them, so that metrics share it. It may raise
            `Undefined`. A figure of the samples alone ignores the second argument.
        against: "reference", or "scaffolds": the second reference of ``evaluate``, without which it is left out.
        bounds: least and largest possible figure, None for no bound; intervals end there.
        version: of ``compute``; the floor of a versioned metric is kept between runs. None: it is computed each time.

    Raises:
        InputError: a field is not as described.

    Example:
        >>> import torch
        >>> from graphinv.metrics import MoleculeSet
        >>> def length(samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
        ...     x, y = (torch.tensor([float(len(text)) for text in side.smiles]) for side in (samples, reference))
        ...     x = x.double()
        ...     return Comparison(lambda weights: abs(float(weights @ x) - float(y.mean())), len(x), len(y))
        >>> metric = Distance("length", "Length of SMILES", "lower", length)
        >>> metric.compare(MoleculeSet(["CCO", "C"]), MoleculeSet(["CCCC"])).value
        2.0
    """

    name: str
    label: str
    better: Literal["lower", "higher"]
    compute: Callable[[S, S], Comparison]
    against: Literal["reference", "scaffolds"] = "reference"
    bounds: tuple[float | None, float | None] = (0.0, None)
    version: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name and isinstance(self.label, str) and self.label):
            raise InputError(f"a metric needs a name and a label, got {self.name!r} and {self.label!r}")
        if self.better not in ("lower", "higher"):
            raise InputError(f"metric {self.name!r}: better must be 'lower' or 'higher', got {self.better!r}")
        if self.against not in ("reference", "scaffolds"):
            raise InputError(f"metric {self.name!r}: against must be 'reference' or 'scaffolds', got {self.against!r}")
        if not callable(self.compute):
            raise InputError(
                f"metric {self.name!r}: compute must be a function of samples and reference, got {self.compute!r}"
            )

    def compare(self, samples: S, reference: S) -> Comparison:
        """Return what ``compute`` says of two sets.

        Raises:
            Undefined: there is no such figure of these sets.
            InputError: ``compute`` refuses them, or returns no `Comparison`.
            RuntimeError: ``compute`` raised anything else; the message names the metric.
        """
        with self.errors():
            comparison: object = self.compute(samples, reference)
            if not isinstance(comparison, Comparison):
                raise InputError(f"compute must return a Comparison, got {type(comparison).__name__}")
            return comparison

    def value(self, samples: S, reference: S) -> float:
        """Return the figure itself, every sample counting the same.

        Raises:
            Undefined: there is no such figure of these sets, or it is no finite number.
            InputError, RuntimeError: as `compare`.
        """
        return self.value_of(self.compare(samples, reference))

    def value_of(self, comparison: Comparison) -> float:
        """Return the value of what ``compare`` returned; errors are those of `value`."""
        with self.errors():
            if not math.isfinite(comparison.value):
                raise Undefined(f"the figure is {comparison.value}")
            return comparison.value

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Let errors from within name the metric; `Undefined` passes as it is."""
        try:
            yield
        except Undefined:
            raise
        except GraphinvError as error:
            raise InputError(f"metric {self.name!r}: {error}") from error
        except Exception as error:
            raise RuntimeError(f"metric {self.name!r} raised {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Floor:
    """What real data score in place of samples.

    Args:
        value: distance of ``count`` real items, the floor that papers print.
        count: items it is of.
        draws: mean and standard deviation of the distance over draws of as many real items as there are samples; the
            deviation of a single draw is None. None: there are not as many.
    """

    value: float
    count: int
    draws: tuple[float, float | None] | None


def figure(
    distance: Distance[S],
    comparison: Comparison,
    floor: Floor | None = None,
    *,
    repeats: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Return a distance as it stands in a report: value, interval, numbers of items, floor, and what to think of it.

    ``inside_floor``: the interval reaches where real data are, so samples cannot be told from them. ``beyond_floor``:
    the interval is better than real data by more than they spread; look for copies of the reference. Both and
    ``ratio`` are of the floor's draws, None without them.

    Args:
        repeats: draws of the bootstrap; 0 leaves the interval out, as does a single sample.
        seed: of the bootstrap.
        progress: a bar on stderr, from the third second on.

    Raises:
        Undefined: the value is no finite number.

    Example:
        >>> import torch
        >>> x = torch.arange(8.0, dtype=torch.float64)
        >>> mean = Distance("mean", "Mean", "lower", lambda samples, reference: Comparison(samples.matmul, 8, 1))
        >>> entry = figure(mean, mean.compare(x, x), Floor(1.0, 8, (1.0, 0.2)))
        >>> entry["value"], entry["ratio"], entry["inside_floor"]
        (3.5, 3.5, False)
    """
    value = distance.value_of(comparison)
    low = high = None
    if repeats and comparison.count > 1:
        with distance.errors():
            low, high = interval(comparison, repeats, seed, bounds=distance.bounds, progress=progress)
    entry: dict[str, Any] = {"label": distance.label, "value": value, "low": low, "high": high}
    entry |= {"count": comparison.count, "reference_count": comparison.reference_count}
    entry |= {"floor": None, "floor_count": None, "draws": None, "draws_spread": None, "ratio": None}
    entry |= {"inside_floor": None, "beyond_floor": None}
    if floor is not None:
        entry |= {"floor": floor.value, "floor_count": floor.count}
        if floor.draws is not None:
            entry["draws"], entry["draws_spread"] = floor.draws
            entry["ratio"] = value / floor.draws[0] if abs(floor.draws[0]) > _TINY else None
            if low is not None and high is not None:
                entry |= _beside(low, high, floor.draws, distance.better)
            elif floor.draws[1] is not None:
                entry |= _beside(value, value, floor.draws, distance.better)
    return entry | {"better": distance.better, "note": comparison.note}


def _beside(low: float, high: float, draws: tuple[float, float | None], better: str) -> dict[str, bool | None]:
    """Where an interval is, as seen from draws of real data and twice their spread."""
    mean, slack = draws[0], 2 * (draws[1] or 0.0)
    if better == "higher":
        low, high, mean = -high, -low, -mean
    if draws[1] is None:
        return {"inside_floor": low <= mean, "beyond_floor": None}
    beyond = high < mean - slack
    return {"inside_floor": low <= mean + slack and not beyond, "beyond_floor": beyond}


def check_distances(distances: Sequence[object]) -> None:
    """Check that a protocol holds metrics, each under a name of its own."""
    wrong = [item for item in distances if not isinstance(item, Distance)]
    if wrong:
        raise InputError(f"a protocol holds Distance objects, got {wrong[0]!r}; graphinv.metrics.Distance makes one")
    names = [item.name for item in distances if isinstance(item, Distance)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"a protocol holds each name once, got {twice[0]!r} {names.count(twice[0])} times")


def plain_data(value: object) -> Any:
    """Return settings as JSON holds them: dataclasses as mappings, functions by their names.

    Example:
        >>> plain_data(Floor(0.5, 3, None)), plain_data([math.sqrt])
        ({'value': 0.5, 'count': 3, 'draws': None}, ['math.sqrt'])
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {"call": _qualified(type(value))} if callable(value) else {}
        return named | {f.name: plain_data(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, functools.partial):
        named = {"call": plain_data(value.func)} | ({"args": plain_data(value.args)} if value.args else {})
        return named | plain_data(value.keywords)
    if isinstance(value, Mapping):
        return {str(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _qualified(value if hasattr(value, "__qualname__") else type(value))


def _qualified(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"
