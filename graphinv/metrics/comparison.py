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
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from graphinv.errors import InputError

__all__ = ["Comparison", "interval", "rate"]


@dataclass(frozen=True)
class Comparison:
    """A distance as a function of the weights of its samples.

    Args:
        of: float64 weights [count], none negative, sum 1, to the distance.
        count: samples it is of; one that cannot enter the metric is not among them.
        reference_count: items of the reference.
        note: what a reader of the figure must know, in a few words.

    Raises:
        InputError: a count is below 1.

    Example:
        >>> x = torch.tensor([0.0, 1.0, 5.0, 2.0], dtype=torch.float64)
        >>> Comparison(lambda weights: float(weights @ x), len(x), reference_count=1).value
        2.0
    """

    of: Callable[[Tensor], float]
    count: int
    reference_count: int
    note: str | None = None

    def __post_init__(self) -> None:
        if min(self.count, self.reference_count) < 1:
            raise InputError(
                f"a distance needs samples and a reference, got {self.count} samples that can enter it and "
                f"{self.reference_count} items of a reference"
            )

    @cached_property
    def value(self) -> float:
        """The distance itself: every sample counts the same."""
        return float(self.of(torch.full((self.count,), 1 / self.count, dtype=torch.float64)))


def interval(
    comparison: Comparison,
    repeats: int = 100,
    seed: int = 0,
    level: float = 0.95,
    progress: bool = False,
    bounds: tuple[float | None, float | None] = (0.0, None),
) -> tuple[float, float]:
    """Return low and high of the value: quantiles of ``repeats`` bootstrap draws of the samples, moved to its place.

    Drawing with repetition makes squared distances larger on average; this excess is taken off, so the interval holds
    the value. It says how much other samples of the same model could differ, not what another reference would give.
    Where the value keeps to ``bounds`` so does the interval.

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
    draws = []
    bar = tqdm(
        range(repeats), unit=" draws", delay=2.0, disable=None if progress else True, file=sys.stderr, leave=False
    )
    for _ in bar:
        rows = torch.randint(n, (n,), generator=generator)
        draws.append(comparison.of(torch.bincount(rows, minlength=n).double() / n))
    values = torch.tensor(draws, dtype=torch.float64)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    value = comparison.value
    low, high = (value + torch.quantile(values, tails) - values.mean()).tolist()
    low, high = min(low, value), max(high, value)  # a skewed spread can leave the value outside
    least, most = bounds
    if least is not None and value >= least:
        low = max(low, least)
    return low, high if most is None else min(high, max(most, value))


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
