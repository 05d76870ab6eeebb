"""From scores to subsets: the k best of each set, or all above a threshold; and negatives for training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops import ptr_to_index, segment_reduce, segment_sort
from graphinv.sets.batch import SetBatch
from graphinv.sets.noise import Noise, row_uniform

__all__ = ["above_threshold", "top_k"]


def top_k(scores: Tensor, ptr: Tensor, sizes: Tensor | int) -> Tensor:
    """Return [N] bool, True for the ``sizes[b]`` highest scores of each set; of equal scores the earlier wins.

    Args:
        scores: [N] real numbers.
        ptr: [B+1] offsets of the sets.
        sizes: [B] int64 or one number for all, 1 .. size of the set.

    Raises:
        InputError: a size is out of range, a score is NaN, or the shapes do not fit.

    Example:
        >>> top_k(torch.tensor([0.1, 0.9, 0.5, 0.7]), torch.tensor([0, 3, 4]), torch.tensor([2, 1])).tolist()
        [False, True, True, True]
    """
    return place_in_set(scores, ptr) < checked_sizes(sizes, ptr)[ptr_to_index(ptr, scores.shape[0])]


def above_threshold(scores: Tensor, ptr: Tensor, threshold: float) -> Tensor:
    """Return [N] bool, True for scores above ``threshold`` and for the highest of each set, the first if equal.

    Raises:
        InputError: a score is NaN, or the shapes do not fit.

    Example:
        >>> above_threshold(torch.tensor([0.6, 0.9, 0.2, 0.3]), torch.tensor([0, 2, 4]), 0.5).tolist()
        [True, True, False, True]
    """
    return (scores > threshold) | (place_in_set(scores, ptr) == 0)


def labelled(batch: SetBatch, negatives: int | None, noise: Noise) -> Tensor:
    """Return [N] bool, the selected elements and ``negatives`` times as many others of each set, drawn at random.

    All others are taken where there are not enough, or where ``negatives`` is None.
    """
    chosen = batch.truth
    if negatives is None:
        return torch.ones_like(chosen)
    draw = row_uniform(noise, batch.layout, 1).squeeze(1)
    wanted = batch.subset_sizes * (1 + negatives)
    rank = place_in_set(draw + 2 * chosen.to(draw.dtype), batch.ptr)  # the selected ones come first
    return rank < wanted[batch.layout.index]


def membership_loss(logits: Tensor, batch: SetBatch, which: Tensor) -> Tensor:
    """Return the cross entropy of the elements ``which`` [N] bool, summed in each set, its mean over the sets, []."""
    own = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.truth.to(logits.dtype), reduction="none")
    return segment_reduce(torch.where(which, own, 0), batch.ptr).mean()


def wanted_sizes(sizes: Literal["oracle"] | Tensor | int, batch: SetBatch) -> Tensor:
    """Return how many elements of each set are to be chosen, [B] int64; "oracle" for as many as are optimal.

    Raises:
        InputError: a size is not in 1 .. n, or "oracle" sizes are not known.
    """
    if isinstance(sizes, str) and sizes != "oracle":
        raise InputError(f"unknown sizes {sizes!r}; give 'oracle', whole numbers, or None for a threshold")
    return checked_sizes(batch.subset_sizes if isinstance(sizes, str) else sizes, batch.ptr)


def checked_sizes(sizes: Tensor | int, ptr: Tensor) -> Tensor:
    """Return ``sizes`` as [B] int64, each in 1 .. n."""
    counts = ptr.diff()
    sizes = torch.as_tensor(sizes, device=ptr.device)
    if sizes.is_floating_point() or sizes.dtype == torch.bool or sizes.shape not in ((), counts.shape):
        raise InputError(
            f"sizes must be whole numbers, one for all or [{counts.numel()}], got {sizes.dtype} {sizes.shape}"
        )
    sizes = sizes.expand_as(counts)
    if ptr.device.type == "cpu":
        wrong = (sizes < 1) | (sizes > counts)
        if bool(wrong.any()):
            b = int(wrong.nonzero()[0])
            raise InputError(f"set {b} has {int(counts[b])} elements, of which {int(sizes[b])} cannot be selected")
    return sizes


def place_in_set(scores: Tensor, ptr: Tensor) -> Tensor:
    """Return the place of each score in its set by size, [N] int64, 0 for the highest."""
    if scores.device.type == "cpu" and bool(scores.isnan().any()):
        raise InputError("a score is NaN; look for a network that diverged")
    _, order = segment_sort(scores, ptr, descending=True)
    place = torch.arange(scores.shape[0], device=ptr.device) - ptr[ptr_to_index(ptr, scores.shape[0])]
    return torch.empty_like(place).index_copy(0, order, place)
