"""What a graph is to be like, told to the network: numbers that graphs of a store carry, any of them missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from graphinv.data import GraphStore
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch

__all__ = ["Conditions"]

_MOST = 5.0  # standard deviations from the mean, beyond which all values are told alike


class Conditions(nn.Module):
    """P numbers of a graph, standardised by the training split.

    Args:
        names: of columns of graphs, such as "logp".

    Example:
        >>> conditions = Conditions(("logp", "qed"))
        >>> conditions.standardise({"logp": torch.tensor([1.5, torch.nan])}, 2).tolist()
        [[1.5, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("scale", torch.ones(len(self.names)))

    def fit(self, store: GraphStore, index: Tensor) -> None:
        """Take mean and standard deviation from the graphs ``index`` of a store.

        Raises:
            InputError: a column is not there, is no number per graph, or knows no value.
        """
        for k, name in enumerate(self.names):
            column = store.graph_columns.get(name)
            if not isinstance(column, Tensor) or column.dim() != 1:
                there = sorted(n for n, c in store.graph_columns.items() if isinstance(c, Tensor) and c.dim() == 1)
                raise InputError(
                    f"the store has no number {name!r} of each graph, which the model is to be told; it has {there}. "
                    "Build it with --properties or --columns"
                )
            values = column[index].double()
            values = values[values.isfinite()]
            if not values.numel():
                raise InputError(f"no training graph has a value of {name!r}")
            self.mean[k] = values.mean()
            self.scale[k] = values.std(correction=0).clamp(min=1e-6)

    def of(self, batch: GraphBatch) -> Tensor:
        """Return ``[B, 2 P]`` what the graphs of a batch carry: values, then 1 where there is one."""
        return self.standardise(
            {n: c for n, c in batch.graph_columns.items() if isinstance(c, Tensor)}, batch.num_graphs
        )

    def standardise(self, values: Mapping[str, Tensor], count: int) -> Tensor:
        """Return ``[count, 2 P]``: standardised values, 0 where missing or NaN, then 1 where there is one."""
        condition = self.mean.new_full((count, len(self.names)), torch.nan)
        for k, name in enumerate(self.names):
            if name in values:
                condition[:, k] = torch.as_tensor(values[name], dtype=condition.dtype, device=condition.device)
        there = condition.isfinite()
        standard = ((condition - self.mean) / self.scale).clamp(-_MOST, _MOST)
        return torch.cat([torch.where(there, standard, 0.0), there.to(condition.dtype)], 1)

    def request(self, values: Mapping[str, float | Tensor | Sequence[float]], count: int) -> Tensor:
        """Return ``[count, 2 P]`` for values that a user asks for, one for all graphs or ``[count]``.

        Raises:
            InputError: a name is unknown or a shape does not fit.
        """
        other = sorted(set(values) - set(self.names))
        if other:
            raise InputError(f"this model was not told {other} in training; it knows {list(self.names)}")
        wanted = {name: torch.as_tensor(value) for name, value in values.items()}
        for name, value in wanted.items():
            if list(value.shape) not in ([], [count]):
                raise InputError(f"condition {name!r} must be one number or [{count}], got shape {list(value.shape)}")
        return self.standardise(wanted, count)

    def drop(self, condition: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
        """Return ``condition`` ``[B, 2 P]`` without any value for a ``share`` of graphs, else without half of them."""
        count, names = len(condition), len(self.names)
        u = torch.rand(count, 1 + names, generator=generator, device=condition.device)
        kept = (u[:, :1] >= share) & (u[:, 1:] < 0.5)
        return condition * torch.cat([kept, kept], 1)
