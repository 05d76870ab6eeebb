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
    """What real training graphs score in place of samples: mean and standard deviation over draws of them.

    Args:
        mean: of the distance.
        spread: standard deviation over draws, None for a single one.
        count: training graphs in a draw.
    """

    mean: float
    spread: float | None
    count: int


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

    ``inside_floor``: the interval touches the floor and twice its spread, so that the samples cannot be told from
    training data, and of two models inside the floor neither is better. ``repeats`` 0 gives no interval.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        >>> entry = figure(Comparison(lambda weights: float(weights @ x), 3, 5), Floor(0.5, 0.1, 5))
        >>> entry["ratio"], entry["inside_floor"], entry["count"], entry["reference_count"]
        (4.0, False, 3, 5)
    """
    value = comparison.value
    low, high = (
        interval(comparison, repeats, seed, progress=progress) if repeats and comparison.count > 1 else (None, None)
    )
    entry: dict[str, Any] = {"value": value, "low": low, "high": high}
    entry |= {"count": comparison.count, "reference_count": comparison.reference_count}
    entry |= {"floor": None, "floor_spread": None, "floor_count": None, "ratio": None, "inside_floor": None}
    if floor is not None:
        entry |= {"floor": floor.mean, "floor_spread": floor.spread, "floor_count": floor.count}
        entry["ratio"] = value / floor.mean if floor.mean > 0 else None
        slack = 2 * (floor.spread or 0.0)
        lower = better == "lower"
        nearest = (value if low is None else low) if lower else (value if high is None else high)
        entry["inside_floor"] = nearest <= floor.mean + slack if lower else nearest >= floor.mean - slack
    return entry | {"better": better, "note": note}


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
    low, high = (comparison.value + torch.quantile(values, tails) - values.mean()).tolist()
    return (max(0.0, low) if comparison.value >= 0 else low), high


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
    return {"count": count, "rate": p, "low": max(0.0, centre - half), "high": min(1.0, centre + half)}
