"""How far sets of plain graphs are apart: one discrepancy per descriptor, beside what training graphs would get.

The floor is the distance of training graphs to the same reference: below it, a difference between two models says
nothing. `ratio` sums up a table in units of floors.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.comparison import Comparison
from graphinv.metrics.graph_features import descriptor
from graphinv.metrics.mmd import mmd
from graphinv.metrics.protocols import Kernel

__all__ = ["graph_distances", "graph_floor", "ratio"]


def graph_distances(
    samples: GraphBatch, reference: GraphBatch, kernels: Sequence[tuple[str, Kernel]], progress: bool = True
) -> dict[str, Comparison]:
    """Return the squared discrepancy of samples and reference by descriptor, in the order of ``kernels``.

    Raises:
        InputError: no graphs, graphs that are empty or not simple, or an unknown descriptor.

    Example:
        >>> edge = GraphBatch.single(torch.zeros(2), torch.tensor([[0, 1], [1, 0]]))
        >>> graph_distances(edge, edge, [("degree", Kernel("tv"))])["degree"].value
        0.0
    """
    _need(samples, "samples")
    _need(reference, "reference")
    return {name: mmd(x, y, kernel) for name, kernel, x, y in _rows(samples, reference, kernels, progress)}


def graph_floor(
    train: GraphBatch,
    reference: GraphBatch,
    kernels: Sequence[tuple[str, Kernel]],
    size: int | None,
    repeats: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of the distance of training graphs to the reference, by descriptor.

    All training graphs if ``size`` is None, with deviation 0; else ``repeats`` random subsets of ``size`` without
    repetition, the same for every descriptor. Fewer graphs are farther away: take as many as will be judged.

    Raises:
        InputError: ``size`` is not in 1 .. training graphs, fewer than 2 repeats, or as `graph_distances`.

    Example:
        >>> edge = GraphBatch.single(torch.zeros(2), torch.tensor([[0, 1], [1, 0]]))
        >>> graph_floor(GraphBatch.from_graphs([edge] * 3), edge, [("degree", Kernel("tv"))], size=2)
        {'degree': (0.0, 0.0)}
    """
    _need(train, "training graphs")
    _need(reference, "reference")
    if size is not None and (not 1 <= size <= train.num_graphs or repeats < 2):
        raise InputError(
            f"a floor of subsets needs a size in 1 .. {train.num_graphs} and at least 2 repeats, got {size}, {repeats}"
        )
    generator = torch.Generator().manual_seed(seed)
    everything = [torch.arange(train.num_graphs)]
    subsets = everything if size is None else [
        torch.randperm(train.num_graphs, generator=generator)[:size] for _ in range(repeats)
    ]  # fmt: skip
    floors = {}
    for name, kernel, x, y in _rows(train, reference, kernels, progress):
        values = torch.tensor([mmd(x[subset], y, kernel).value for subset in subsets], dtype=torch.float64)
        floors[name] = float(values.mean()), float(values.std()) if len(values) > 1 else 0.0
    return floors


def ratio(distances: Mapping[str, float], floors: Mapping[str, float]) -> float | None:
    """Return the mean of distance over floor, the floors rounded to 4 digits, where that is above 0; None if nowhere.

    The rounding is of the published ratios (DeFoG, arXiv:2410.04263): it decides which floors count as 0.

    Raises:
        InputError: a floor above 0 has no distance.

    Example:
        >>> floors = {"degree": 0.0002, "orbit": 0.001, "clustering": 0.0}
        >>> round(ratio({"degree": 0.0004, "orbit": 0.003, "clustering": 0.5}, floors), 6)
        2.5
    """
    rounded = {name: round(floor, 4) for name, floor in floors.items()}
    missing = [name for name, floor in rounded.items() if floor > 0 and name not in distances]
    if missing:
        raise InputError(f"no distance for the floors of {', '.join(missing)}; give the same descriptors to both")
    ratios = [distances[name] / floor for name, floor in rounded.items() if floor > 0]
    return sum(ratios) / len(ratios) if ratios else None


def _rows(
    graphs: GraphBatch, reference: GraphBatch, kernels: Sequence[tuple[str, Kernel]], progress: bool
) -> Iterator[tuple[str, Kernel, Tensor, Tensor]]:
    """Yield each descriptor's name and kernel with its rows of both sets."""
    bar = tqdm(
        kernels, unit=" descriptors", delay=2.0, disable=None if progress else True, file=sys.stderr, leave=False
    )
    for name, kernel in bar:
        yield name, kernel, descriptor(name, graphs, kernel), descriptor(name, reference, kernel)


def _need(graphs: GraphBatch, what: str) -> None:
    if not graphs.num_graphs:
        raise InputError(f"distances need at least one graph on each side, the {what} are none")
