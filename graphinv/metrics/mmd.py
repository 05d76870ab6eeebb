"""Squared maximum mean discrepancy of two sets of rows: what papers on graph generation print as MMD.

The biased V-statistic mean k(A, A) + mean k(B, B) - 2 mean k(A, B) (Gretton et al., JMLR 13, 2012), as a function of
the weights of A. It is no metric: a kernel that is not positive definite, "tv" (arXiv:2106.01098), can go below 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad, pdist

from graphinv.errors import InputError
from graphinv.metrics.comparison import Comparison

__all__ = ["Kernel", "kernel_matrix", "mmd"]

_MOST_ROWS = 20_000  # 3.2 GB of kernel


@dataclass(frozen=True)
class Kernel:
    """Kernel of a maximum mean discrepancy between descriptors of graphs.

    Args:
        kind: "tv" exp(-TV(p, q)^2 / 2 sigma^2), "emd" exp(-EMD(p, q)^2 / 2 sigma^2), with TV half the L1 distance and
            EMD the earth mover's distance of histograms; "gaussian" exp(-|x - y|^2 / 2 sigma^2) of vectors; "rbf" the
            same, the largest discrepancy over ``sigmas`` in units of the root mean square distance between samples and
            reference.
        sigma: bandwidth of the first three.
        bins: of a histogram over a fixed range; 0 where values are counts.
        unit: for "emd", the distance between neighbouring bins is 1 / unit.
        sigmas: bandwidths of "rbf".
    """

    kind: Literal["tv", "emd", "gaussian", "rbf"]
    sigma: float = 1.0
    bins: int = 0
    unit: float = 1.0
    sigmas: tuple[float, ...] = ()


def kernel_matrix(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """Return the kernel of every row of ``x`` [n, D] with every row of ``y`` [m, D], [n, m] float64 in [0, 1].

    Where the kernel has no bins, x and y may differ in D, and the narrower is padded by zeros: counts of what is not
    there. "emd" takes rows of equal sum: in one dimension the earth mover's distance is the L1 distance of cumulative
    sums. No memory is taken beyond a few times the result.

    Raises:
        InputError: "rbf", which is one "gaussian" per bandwidth; rows that are not [n, D], differ in D with a kernel
            of bins, or are not finite; a bandwidth or unit that is not positive.

    Example:
        >>> p, q = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
        >>> [round(-2 * float(kernel_matrix(p, q, Kernel(kind)).log()), 6) for kind in ("tv", "emd", "gaussian")]
        [1.0, 4.0, 2.0]
    """
    if kernel.kind == "rbf":
        raise InputError("'rbf' is a kernel for each of its bandwidths; ask for Kernel('gaussian', sigma) of one")
    return 1 - _unlikeness(_across(*_rows(x, y, kernel)), kernel.sigma**2)


def mmd(x: Tensor, y: Tensor, kernel: Kernel) -> Comparison:
    """Return the squared discrepancy between samples ``x`` [n, D] and a reference ``y`` [m, D].

    "rbf" is the largest over its bandwidths, each in units of the root mean square distance between samples and
    reference, all counted the same (arXiv:2201.09871). [n, n] numbers are kept; a set of weights costs one product
    with them, and for "rbf" the evaluation of its kernels.

    Raises:
        InputError: no rows, or rows or a kernel that `kernel_matrix` refuses.

    Example:
        >>> rows = torch.eye(3)
        >>> mmd(rows, rows, Kernel("tv")).value, round(mmd(rows[:1], rows[1:2], Kernel("tv")).value, 6)
        (0.0, 0.786939)
    """
    x, y, order = _rows(x, y, kernel)
    if max(len(x), len(y)) > _MOST_ROWS:
        raise InputError(f"a discrepancy keeps n^2 numbers: at most {_MOST_ROWS:,} rows, got {len(x):,} and {len(y):,}")
    if not len(x) or not len(y):
        raise InputError(f"a discrepancy needs rows on both sides, got {len(x)} and {len(y)}")
    within, across, reference = _square(pdist(x, order).square_()), _across(x, y, order), pdist(y, order).square_()
    rbf = kernel.kind == "rbf"
    scale = (float(across.mean()) or 1.0) if rbf else 1.0
    variances = [scale * sigma**2 for sigma in (kernel.sigmas if rbf else (kernel.sigma,))]
    # Weights sum to 1, so every k may be taken as 1 - k: rows that are all the same give exactly 0.
    across_means = [_unlikeness(across.clone(), variance).mean(1) for variance in variances]
    reference_means = [
        2 * float(_unlikeness(reference.clone(), variance).sum()) / len(y) ** 2 for variance in variances
    ]
    only = None if rbf else _unlikeness(within, variances[0])

    def of(weights: Tensor) -> float:
        if only is not None:
            return float(2 * weights @ across_means[0] - weights @ (only @ weights)) - reference_means[0]
        rows = weights.nonzero().flatten()  # a bootstrap leaves out a third of the samples
        w, part = weights[rows], within[rows[:, None], rows]
        own = [float(w @ (_unlikeness(part.clone(), variance) @ w)) for variance in variances]
        crossed = [2 * float(weights @ mean) for mean in across_means]
        return max(c - o - r for c, o, r in zip(crossed, own, reference_means, strict=True))

    return Comparison(of, len(x), len(y))


def _across(x: Tensor, y: Tensor, order: float) -> Tensor:
    """Squared distances [n, m]; the way of L2 through products would lose the digits of rows that are close."""
    return torch.cdist(x, y, p=order, compute_mode="donot_use_mm_for_euclid_dist").square_()


def _square(pairs: Tensor) -> Tensor:
    """The symmetric matrix [n, n], 0 on the diagonal, of values of pairs, row by row above it."""
    n = (1 + math.isqrt(1 + 8 * len(pairs))) // 2
    matrix = pairs.new_zeros(n, n)
    for i, part in enumerate(torch.split(pairs, list(range(n - 1, 0, -1)))):
        matrix[i, i + 1 :] = matrix[i + 1 :, i] = part
    return matrix


def _unlikeness(squared: Tensor, variance: float) -> Tensor:
    """1 - exp(-squared / 2 variance), in place and exact near 0."""
    return squared.div_(-2 * variance).expm1_().neg_()


def _rows(x: Tensor, y: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor, float]:
    """Checked rows in the space where the kernel's distance is plain L1 or L2, and which of the two."""
    widths: Sequence[float] = kernel.sigmas if kernel.kind == "rbf" else (kernel.sigma, kernel.unit)
    if not widths or min(widths) <= 0:
        raise InputError(f"a kernel's bandwidths and unit must be positive and at least one, got {kernel}")
    if x.dim() != 2 or y.dim() != 2:
        raise InputError(f"rows must be [n, D] and [m, D], got {list(x.shape)} and {list(y.shape)}")
    if kernel.bins and x.size(1) != y.size(1):
        raise InputError(f"histograms of {kernel.bins} bins must be equally wide, got D of {x.size(1)} and {y.size(1)}")
    x, y = x.double(), y.double()
    if not bool(x.isfinite().all() and y.isfinite().all()):
        raise InputError("rows must be finite numbers; leave out what has no descriptor")
    width = max(x.size(1), y.size(1))
    x, y = pad(x, (0, width - x.size(1))), pad(y, (0, width - y.size(1)))
    if kernel.kind == "tv":
        return x / 2, y / 2, 1.0
    if kernel.kind == "emd":
        sums = torch.cat([x.sum(1), y.sum(1)])
        if len(sums) and float(sums.max() - sums.min()) > 1e-9:
            raise InputError(f"'emd' needs rows of equal sum, got sums of {float(sums.min())} to {float(sums.max())}")
        return x.cumsum(1) / kernel.unit, y.cumsum(1) / kernel.unit, 1.0
    return x, y, 2.0
