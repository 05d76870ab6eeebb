"""How far sets of plain graphs are apart: one discrepancy per descriptor, beside what training graphs would get.

The floor is the distance of training graphs to the same reference: below it, a difference between two models says
nothing. `ratio` sums up a table in units of floors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.comparison import Comparison
from graphinv.metrics.distance import Distance
from graphinv.metrics.mmd import Kernel, mmd

__all__ = ["Discrepancy", "GraphSet", "discrepancy", "graph_floor", "ratio"]


class GraphSet:
    """Plain graphs whose descriptors are computed once: what metrics of a `GraphProtocol` compare.

    Args:
        graphs: B simple undirected graphs with nodes, every edge in both directions, without types.

    Example:
        >>> edge = GraphBatch.single(torch.zeros(2), torch.tensor([[0, 1], [1, 0]]))
        >>> graphs = GraphSet(GraphBatch.from_graphs([edge, edge]))
        >>> graphs.rows(GraphBatch.node_counts).tolist(), len(graphs.select(torch.tensor([1])))
        ([2, 2], 1)
    """

    def __init__(self, graphs: GraphBatch) -> None:
        self._whole = graphs
        self._index: Tensor | None = None
        self._rows: dict[tuple[object, ...], Tensor] = {}

    @property
    def graphs(self) -> GraphBatch:
        """The graphs themselves."""
        return self._whole if self._index is None else self._whole.select(self._index)

    def __len__(self) -> int:
        return self._whole.num_graphs if self._index is None else len(self._index)

    def rows(self, descriptor: Callable[..., Tensor], *settings: float) -> Tensor:
        """Return ``descriptor(graphs, *settings)``, one row per graph, computed at the first call.

        Args:
            descriptor: a GraphBatch to [B, ...]; the row of a graph must not depend on the others.
            settings: hashable, such as a number of bins.

        Raises:
            InputError: the descriptor returns another number of rows.
        """
        key = (descriptor, *settings)
        if key not in self._rows:
            rows = descriptor(self._whole, *settings)
            if rows.dim() < 1 or len(rows) != self._whole.num_graphs:
                raise InputError(
                    f"a descriptor returns a row for each of {self._whole.num_graphs} graphs, got {list(rows.shape)}"
                )
            self._rows[key] = rows
        return self._rows[key] if self._index is None else self._rows[key][self._index]

    def select(self, index: Tensor) -> GraphSet:
        """Return some of the graphs, which share what is computed of all."""
        part = GraphSet(self._whole)
        part._index = index if self._index is None else self._index[index]
        part._rows = self._rows
        return part


@dataclass(frozen=True)
class Discrepancy:
    """The squared discrepancy of a descriptor under a kernel, as the ``compute`` of a `Distance`.

    Args:
        descriptor: a GraphBatch to rows [B, D]; with ``kernel.bins`` as second argument where that is not 0.
        kernel: of the rows.

    Example:
        >>> edge = GraphSet(GraphBatch.single(torch.zeros(2), torch.tensor([[0, 1], [1, 0]])))
        >>> def edges(graphs: GraphBatch) -> torch.Tensor:
        ...     return graphs.edge_ptr.diff()[:, None] / 2
        >>> Discrepancy(edges, Kernel("gaussian"))(edge, edge).value
        0.0
    """

    descriptor: Callable[..., Tensor]
    kernel: Kernel

    def __call__(self, samples: GraphSet, reference: GraphSet) -> Comparison:
        """Return the discrepancy as a function of the weights of the samples.

        Raises:
            InputError: no graphs, graphs that the descriptor refuses, or a kernel that does not fit its rows.
        """
        for graphs, what in ((samples, "samples"), (reference, "reference")):
            if not len(graphs):
                raise InputError(f"distances need at least one graph on each side, the {what} are none")
        settings = (self.kernel.bins,) if self.kernel.bins else ()
        x, y = (graphs.rows(self.descriptor, *settings) for graphs in (samples, reference))
        return mmd(x, y, self.kernel)


def discrepancy(name: str, descriptor: Callable[..., Tensor], kernel: Kernel) -> Distance[GraphSet]:
    """Return the metric of a descriptor of graphinv under a kernel; lower is better, no bounds.

    Example:
        >>> from graphinv.metrics.graph_features import degree_histograms
        >>> discrepancy("degree", degree_histograms, Kernel("tv")).label
        'Degree'
    """
    return Distance(name, name.capitalize(), "lower", Discrepancy(descriptor, kernel), version="1")


def graph_floor(
    distance: Distance[GraphSet],
    train: GraphSet,
    reference: GraphSet,
    size: int | None,
    repeats: int = 5,
    seed: int = 0,
) -> tuple[float, float]:
    """Return mean and standard deviation of a distance of training graphs to the reference.

    Of all training graphs if ``size`` is None, with deviation 0; else of ``repeats`` random subsets of ``size`` without
    repetition, the same for every distance. Fewer graphs are farther away: take as many as will be judged.

    Raises:
        InputError: ``size`` is not in 1 .. training graphs, fewer than 2 repeats, or the distance refuses the graphs.
        Undefined: the distance has no value.

    Example:
        >>> from graphinv.metrics.graph_features import degree_histograms
        >>> edge = GraphBatch.single(torch.zeros(2), torch.tensor([[0, 1], [1, 0]]))
        >>> degree = discrepancy("degree", degree_histograms, Kernel("tv"))
        >>> graph_floor(degree, GraphSet(GraphBatch.from_graphs([edge] * 3)), GraphSet(edge), size=2)
        (0.0, 0.0)
    """
    if size is None:
        return distance.value(train, reference), 0.0
    if not 1 <= size <= len(train) or repeats < 2:
        raise InputError(
            f"a floor of subsets needs a size in 1 .. {len(train)} and at least 2 repeats, got {size}, {repeats}"
        )
    generator = torch.Generator().manual_seed(seed)
    subsets = [torch.randperm(len(train), generator=generator)[:size] for _ in range(repeats)]
    values = torch.tensor([distance.value(train.select(subset), reference) for subset in subsets], dtype=torch.float64)
    return float(values.mean()), float(values.std())


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
