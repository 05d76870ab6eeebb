"""Ground sets made by rule: most points from one cluster, and a few from another one that are to be found.

Two moons and the Gaussian mixture as EquiVSet generates them (arXiv:2203.01693): the same distribution from another
stream of random numbers, so single sets differ from the published ones and numbers are compared in the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.sets.batch import SetBatch

__all__ = ["gaussian_mixture", "two_moons"]

Points = Callable[[int, int, torch.Generator], Tensor]  # (component, how many, generator) -> [m, 2]


def two_moons(count: int, n: int = 100, k: int = 10, *, seed: int = 0) -> SetBatch:
    """Return ``count`` sets of n points on one half moon, k of them replaced by points of the other moon.

    Moon 0 is (cos t, sin t), moon 1 is (1 - cos t, 1/2 - sin t), at n equal steps of t from 0 to pi, in random order,
    with noise of standard deviation 0.1; all then times 2 plus (-1, -0.2). A fair coin tells which moon is the
    many. Set j depends on the seed, n, k and j alone, whatever ``count``.

    Returns:
        a batch with x [count n, 2] float32 and the replaced points selected.

    Raises:
        InputError: ``count`` is negative, or not 1 <= k <= n.

    Example:
        >>> batch = two_moons(3, n=20, k=4, seed=1)
        >>> batch.x.shape, batch.subset_sizes.tolist()
        (torch.Size([60, 2]), [4, 4, 4])
    """

    def points(moon: int, m: int, generator: torch.Generator) -> Tensor:
        t = torch.linspace(0, math.pi, n)[torch.randperm(n, generator=generator)[:m]]
        arc = torch.stack([t.cos(), t.sin()] if moon == 0 else [1 - t.cos(), 0.5 - t.sin()], 1)
        return 2 * (arc + 0.1 * torch.randn(m, 2, generator=generator)) + torch.tensor([-1.0, -0.2])

    return _sets(points, count, n, k, seed)


def gaussian_mixture(count: int, n: int = 100, k: int = 10, *, seed: int = 0) -> SetBatch:
    """Return ``count`` sets of n points around one centre, k of them replaced by points around the other one.

    Centres are (c, c) and (-c, -c) with c = 1 / sqrt(2), the standard deviation is 1/2. A fair coin tells which
    centre has the many. Set j depends on the seed, n, k and j alone, whatever ``count``.

    Returns:
        a batch with x [count n, 2] float32 and the replaced points selected.

    Raises:
        InputError: ``count`` is negative, or not 1 <= k <= n.

    Example:
        >>> gaussian_mixture(2, n=30, k=5).subset_sizes.tolist()
        [5, 5]
    """

    def points(centre: int, m: int, generator: torch.Generator) -> Tensor:
        return 0.5 * torch.randn(m, 2, generator=generator) + (1 - 2 * centre) / math.sqrt(2)

    return _sets(points, count, n, k, seed)


def _sets(points: Points, count: int, n: int, k: int, seed: int) -> SetBatch:
    if count < 0 or not 1 <= k <= n:
        raise InputError(f"expected count >= 0 and 1 <= k <= n, got count={count}, k={k}, n={n}")
    generator = torch.Generator().manual_seed(seed)
    rows, chosen = [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.bool)]
    for _ in range(count):
        few = int(torch.randint(2, (), generator=generator))
        x = points(1 - few, n, generator)
        place = torch.randperm(n, generator=generator)[:k]
        x[place] = points(few, k, generator)
        rows.append(x)
        chosen.append(torch.zeros(n, dtype=torch.bool).index_fill(0, place, True))
    return SetBatch(torch.cat(rows), n * torch.arange(count + 1), torch.cat(chosen))
