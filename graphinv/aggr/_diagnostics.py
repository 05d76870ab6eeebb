"""Two numbers that say how far an aggregator, of any library, is from a function of sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from graphinv.errors import InputError

__all__ = ["batch_consistency_error", "invariance_error"]


def invariance_error(
    aggregator: Callable[..., Tensor],
    x: Tensor,
    index: Tensor | None = None,
    *,
    dim_size: int | None = None,
    permutations: int = 8,
    seed: int = 0,
) -> float:
    """Return the largest relative change of a group's result when its rows change places; 0 is invariant.

    The change of a group is the norm of the difference over the norm of the result; NaN if a result is NaN. A
    module is put in evaluation mode and back; no gradients are kept.

    Args:
        aggregator: any aggregator called as ``aggregator(x, index, dim_size=G)``; PyG's too, if index is sorted.
        x: [N, F] rows.
        index: [N] int64 group of each row; all one group if not given.
        dim_size: G, if some groups are empty at the end.
        permutations: how many random ones to try.
        seed: of the permutations.

    Raises:
        InputError: there is no permutation to try, or x is not [N, F].

    Example:
        >>> last = lambda x, index, dim_size: x[-1:]
        >>> invariance_error(last, torch.tensor([[1.0], [2.0]]))
        0.5
    """
    if permutations < 1:
        raise InputError(f"permutations must be at least 1, got {permutations}")
    index, dim_size = _groups(x, index, dim_size)
    generator = torch.Generator().manual_seed(seed)
    places = torch.sort(index, stable=True).indices
    changes = [0.0]
    with _evaluation(aggregator):
        expected = aggregator(x, index, dim_size=dim_size)
        for _ in range(permutations):
            shuffled = torch.randperm(index.numel(), generator=generator).to(index.device)
            rows = shuffled[torch.sort(index[shuffled], stable=True).indices]
            moved = torch.empty_like(x).index_copy_(0, places, x.index_select(0, rows))
            changes.append(_change(aggregator(moved, index, dim_size=dim_size), expected))
    return _worst(changes)


def batch_consistency_error(
    aggregator: Callable[..., Tensor],
    x: Tensor,
    index: Tensor | None = None,
    *,
    dim_size: int | None = None,
    groups: int = 32,
) -> float:
    """Return the largest relative change of a group's result when it is computed without the others.

    Args:
        aggregator: any aggregator called as ``aggregator(x, index, dim_size=G)``.
        x: [N, F] rows.
        index: [N] int64 group of each row; all one group if not given.
        dim_size: G, if some groups are empty at the end.
        groups: how many groups to try, evenly spread over the non-empty ones.

    Raises:
        InputError: no group to try, or x is not [N, F].

    Example:
        >>> mean_of_all = lambda x, index, dim_size: x.mean(0).expand(dim_size, -1)
        >>> batch_consistency_error(mean_of_all, torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]))
        1.0
    """
    if groups < 1:
        raise InputError(f"groups must be at least 1, got {groups}")
    index, dim_size = _groups(x, index, dim_size)
    present = torch.bincount(index).nonzero().flatten()
    chosen = present[torch.linspace(0, max(present.numel() - 1, 0), min(groups, present.numel())).long()]
    changes = [0.0]
    with _evaluation(aggregator):
        together = aggregator(x, index, dim_size=dim_size)
        for group in chosen.tolist():
            rows = x[index == group]
            alone = aggregator(rows, index.new_zeros(rows.shape[0]), dim_size=1)
            changes.append(_change(together[group : group + 1], alone))
    return _worst(changes)


@contextmanager
def _evaluation(aggregator: object) -> Iterator[None]:
    """Without gradients and, for a module, in evaluation mode; afterwards as before."""
    modules = list(aggregator.modules()) if isinstance(aggregator, torch.nn.Module) else []
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training


def _groups(x: Tensor, index: Tensor | None, dim_size: int | None) -> tuple[Tensor, int]:
    if x.dim() != 2:
        raise InputError(f"x must be [N, F] here, got shape {list(x.shape)}")
    if index is None:
        index = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
    if index.numel() and int(index.min()) < 0:
        raise InputError(f"index must be at least 0, got {int(index.min())}")
    if dim_size is None:
        dim_size = int(index.max()) + 1 if index.numel() else 1
    return index, dim_size


def _change(actual: Tensor, expected: Tensor) -> float:
    same = actual == expected  # equal infinities too
    gap = torch.where(same, 0, actual.double() - expected.double()).flatten(1).norm(dim=1)
    size = expected.double().flatten(1).norm(dim=1)
    # A result of exactly 0 has no relative change; any difference from it counts in absolute terms.
    change = gap / torch.where(size > 0, size, 1)
    return float(change.max()) if change.numel() else 0.0


def _worst(changes: list[float]) -> float:
    return float(torch.tensor(changes, dtype=torch.float64).max())  # NaN is the worst of all
