"""A distance between samples and a reference, and how sure it is: the bootstrap over samples.

Every distance of ``graphinv.metrics`` is a function of one weight per sample. Equal weights give its value, the
multinomial weights of a bootstrap its spread, so no metric needs code of its own for intervals.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from graphinv.errors import InputError

__all__ = ["Comparison", "Floor", "figure", "interval", "rate"]

_TINY = 1e-9  # a floor that is rounding


@dataclass(frozen=True)
class Comparison:
    """A distance as a function of the weights of its samples.

    Args:
        of: float64 weights [count], none negative, sum 1, to the distance.
        count: samples it is of; one that cannot enter the metric is not among them.
        reference_count: items of the reference.

    Example:
        >>> x = torch.tensor([0.0, 1.0, 5.0, 2.0], dtype=torch.float64)
        >>> Comparison(lambda weights: float(weights @ x), len(x), reference_count=1).value
        2.0
    """

    of: Callable[[Tensor], float]
    count: int
    reference_count: int

    def __post_init__(self) -> None:
        if min(self.count, self.reference_count) < 1:
            raise InputError(
                f"a distance needs samples and a reference, got {self.count} samples that can enter it and "
                f"{self.reference_count} items of a reference"
            )

    @cached_property
    def value(self) -> float:
        """The distance itself: every sample counts the same."""
        return self.of(torch.full((self.count,), 1 / self.count, dtype=torch.float64))


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
    comparison: Comparison,
    floor: Floor | None = None,
    *,
    better: Literal["lower", "higher"] = "lower",
    note: str | None = None,
    repeats: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Return a distance as an entry of the report: value, interval, floor, and whether it reaches the floor.

    ``inside_floor``: the interval touches what draws of real data score, or twice their spread, so that the samples
    cannot be told from real data, and of two models inside the floor neither is better. ``beyond_floor``: all of the
    interval is closer to the reference, which real data are not; samples may be copies of it. Both are None where real
    data are fewer than the samples: fewer are farther away. A single draw tells nothing of what is beyond it, and needs
    the interval to tell what is inside. ``ratio`` is the value over the mean of the draws. Without ``repeats`` there is
    no interval.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        >>> entry = figure(Comparison(lambda weights: float(weights @ x), 3, 5), Floor(0.5, 5, (0.5, 0.1)))
        >>> entry["ratio"], entry["inside_floor"], entry["count"], entry["reference_count"]
        (4.0, False, 3, 5)
    """
    value = comparison.value
    low, high = (
        interval(comparison, repeats, seed, progress=progress) if repeats and comparison.count > 1 else (None, None)
    )
    if better == "higher" and high is not None:  # shares, similarities and scores end at 1
        high = min(high, max(1.0, value))
    entry: dict[str, Any] = {"value": value, "low": low, "high": high}
    entry |= {"count": comparison.count, "reference_count": comparison.reference_count}
    entry |= {"floor": None, "floor_count": None, "draws": None, "draws_spread": None, "ratio": None}
    entry |= {"inside_floor": None, "beyond_floor": None}
    if floor is not None:
        entry |= {"floor": floor.value, "floor_count": floor.count}
        if floor.draws is not None:
            entry["draws"], entry["draws_spread"] = floor.draws
            entry["ratio"] = value / floor.draws[0] if abs(floor.draws[0]) > _TINY else None
            if low is not None and high is not None:
                entry |= _beside(low, high, floor.draws, better)
            elif floor.draws[1] is not None:
                entry |= _beside(value, value, floor.draws, better)
    return entry | {"better": better, "note": note}


def _beside(low: float, high: float, draws: tuple[float, float | None], better: str) -> dict[str, bool | None]:
    """Where an interval is, as seen from draws of real data and twice their spread."""
    mean, slack = draws[0], 2 * (draws[1] or 0.0)
    if better == "higher":
        low, high, mean = -high, -low, -mean
    if draws[1] is None:
        return {"inside_floor": low <= mean, "beyond_floor": None}
    beyond = high < mean - slack
    return {"inside_floor": low <= mean + slack and not beyond, "beyond_floor": beyond}


def interval(
    comparison: Comparison, repeats: int = 100, seed: int = 0, level: float = 0.95, progress: bool = False
) -> tuple[float, float]:
    """Return low and high of the value: quantiles of ``repeats`` bootstrap draws of the samples, moved to its place.

    Drawing with repetition makes squared distances larger on average; this excess is taken off, so the interval holds
    the value. It says how much other samples of the same model could differ, not what another reference would give.
    A value of 0 or above has no low below 0.

    Raises:
        InputError: ``repeats`` below 2 or ``level`` outside of (0, 1).

    Example:
        >>> x = torch.arange(100.0, dtype=torch.float64)
        >>> low, high = interval(Comparison(lambda weights: float(weights @ x), 100, 1))
        >>> low < 49.5 < high
        True
    """
    if repeats < 2 or not 0 < level < 1:
        raise InputError(f"expected at least 2 repeats and a level in (0, 1), got {repeats} and {level}")
    generator = torch.Generator().manual_seed(seed)
    n = comparison.count
    drawn = []
    bar = tqdm(
        range(repeats), unit=" draws", delay=2.0, disable=None if progress else True, file=sys.stderr, leave=False
    )
    for _ in bar:
        rows = torch.randint(n, (n,), generator=generator)
        drawn.append(comparison.of(torch.bincount(rows, minlength=n).double() / n))
    values = torch.tensor(drawn, dtype=torch.float64)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    value = comparison.value
    low, high = (value + torch.quantile(values, tails) - values.mean()).tolist()
    low, high = min(low, value), max(high, value)  # a skewed spread can leave the value outside
    return (max(0.0, low) if value >= 0 else low), high


def rate(count: int, total: int) -> dict[str, Any]:
    """Return count, rate and 95% Wilson interval of ``count`` out of ``total``; the rate of nothing is None.

    Example:
        >>> {key: round(value, 4) for key, value in rate(95, 100).items()}
        {'count': 95, 'rate': 0.95, 'low': 0.8882, 'high': 0.9785}
    """
    if total == 0:
        return {"count": count, "rate": None, "low": None, "high": None}
    z = 1.959964
    p, spread = count / total, z * z / total
    centre = (p + spread / 2) / (1 + spread)
    half = math.sqrt(p * (1 - p) * spread + spread * spread / 4) / (1 + spread)
    return {"count": count, "rate": p, "low": max(0.0, centre - half), "high": max(p, min(1.0, centre + half))}
