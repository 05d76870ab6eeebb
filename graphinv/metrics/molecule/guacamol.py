"""The distribution-learning scores of GuacaMol (arXiv:1811.09621): 1 is the best, where distances have 0.

The KL score is the mean of exp(-KL(reference, samples)) over nine descriptors and the similarity of each molecule to
its nearest other; the FCD score is exp(-FCD / 5). Definitions are those of the code, BenevolentAI/guacamol.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from graphinv.metrics.comparison import Comparison
from graphinv.metrics.distance import Undefined
from graphinv.metrics.molecule._map import load_or_measure
from graphinv.metrics.molecule.fingerprints import fingerprints, nearest
from graphinv.metrics.molecule.properties import GUACAMOL_DESCRIPTORS, load_properties

__all__ = ["fcd_score", "guacamol_reference", "kl_score"]

_REFERENCE = 10_000
_BITS = 4096
_SIMILARITY = "internal_similarity"
_CONTINUOUS = (*GUACAMOL_DESCRIPTORS[:4], _SIMILARITY)
_BINS = 10
_POINTS = 1000
_FLOOR = 1e-10  # added to every density


def guacamol_reference(train: Sequence[str]) -> list[str]:
    """Return the 10,000 training molecules that GuacaMol compares with: the draw that its code fixes by seed 42.

    Args:
        train: in the order of its file, on which the draw depends; 10,000 or fewer are returned as they are.

    Example:
        >>> guacamol_reference(["CO", "C"])
        ['CO', 'C']
    """
    if len(train) <= _REFERENCE:
        return list(train)
    chosen = np.random.RandomState(42).choice(len(train), _REFERENCE, replace=False)  # the stream numpy froze
    return [train[index] for index in chosen.tolist()]


def kl_score(
    samples: Sequence[str],
    reference: Sequence[str],
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Comparison:
    """The mean of exp(-KL) over descriptors, in [0, 1], higher is better.

    A molecule counts once, however often it was sampled. Bandwidths, grids and nearest neighbours are those of equal
    weights. What is computed of the reference is kept in the cache.

    Args:
        samples: canonical valid SMILES without stereo marks.
        reference: training set, likewise; of more than 10,000, those of `guacamol_reference`.
        workers: processes; None takes the CPUs this process may use.
        progress: bars on stderr.

    Raises:
        InputError: a text is no molecule.
        Undefined: a continuous descriptor has one value only and so no density.

    Example:
        >>> drinks = ["CCO", "CC(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C"]
        >>> kl_score(drinks, drinks).value
        1.0
    """
    samples, reference = list(dict.fromkeys(samples)), list(dict.fromkeys(guacamol_reference(reference)))
    ours = _descriptors(samples, workers, progress)
    theirs = load_or_measure("guacamol", reference, lambda: _descriptors(reference, workers, progress))
    parts = [
        (_continuous(theirs[name], ours[name], name) if name in _CONTINUOUS else _discrete(theirs[name], ours[name]))
        for name in (*GUACAMOL_DESCRIPTORS, _SIMILARITY)
    ]

    def mean(weights: Tensor) -> float:
        return sum(math.exp(-part(weights)) for part in parts) / len(parts)

    return Comparison(mean, len(samples), len(reference))


def fcd_score(fcd: Comparison) -> Comparison:
    """exp(-FCD / 5) in [0, 1], higher is better.

    Example:
        >>> round(fcd_score(Comparison(lambda weights: 5.0, 2, 2)).value, 6)
        0.367879
    """
    return Comparison(lambda weights: math.exp(-0.2 * fcd.of(weights)), fcd.count, fcd.reference_count)


def _descriptors(smiles: Sequence[str], workers: int | None, progress: bool) -> dict[str, Tensor]:
    result = load_properties(smiles, GUACAMOL_DESCRIPTORS, workers=workers, progress=progress)
    prints = fingerprints(smiles, _BITS, workers=workers, progress=progress)
    return result | {_SIMILARITY: nearest(prints, progress=progress) if smiles else torch.zeros(0).double()}


def _continuous(reference: Tensor, samples: Tensor, name: str) -> Callable[[Tensor], float]:
    """KL divergence of gaussian density estimates on 1,000 points over the range of both."""
    for who, values in (("samples", samples), ("reference", reference)):
        if not len(values) or bool((values == values[0]).all()):
            raise Undefined(f"the KL score needs {who} with at least two different values of {name}; all are the same")
    both = torch.cat([reference, samples])
    points = torch.from_numpy(np.linspace(float(both.min()), float(both.max()), _POINTS))
    target = _density(reference, points)(torch.full((len(reference),), 1 / len(reference), dtype=torch.float64))
    density = _density(samples, points)
    return lambda weights: _divergence(target, density(weights))


def _density(values: Tensor, points: Tensor) -> Callable[[Tensor], Tensor]:
    """Gaussian kernels at the values, standard deviation times n^(-1/5) wide (Scott's rule), read at the points."""
    width = float(values.std()) * len(values) ** -0.2
    distinct, place = torch.unique(values, return_inverse=True)
    kernel = (points[:, None] - distinct).div_(width).square_().mul_(-0.5).exp_()
    kernel /= width * math.sqrt(2 * math.pi)
    return lambda weights: kernel @ torch.bincount(place, weights, minlength=len(distinct))


def _discrete(reference: Tensor, samples: Tensor) -> Callable[[Tensor], float]:
    """KL divergence of histograms of 10 bins over the range of the reference; infinite if no sample is in it."""
    counts, edges = np.histogram(reference.numpy(), bins=_BINS)
    width = float(edges[1] - edges[0])
    target = torch.from_numpy(counts).double() / (counts.sum() * width)
    inside = (samples >= edges[0]) & (samples <= edges[-1])
    inner = torch.from_numpy(edges[1:-1].copy())
    place = torch.searchsorted(inner, samples[inside].contiguous(), right=True)

    def of(weights: Tensor) -> float:
        mass = torch.bincount(place, weights[inside], minlength=_BINS)
        total = float(mass.sum())
        return _divergence(target, mass / (total * width)) if total else math.inf

    return of


def _divergence(p: Tensor, q: Tensor) -> float:
    """Kullback-Leibler divergence of two densities, each lifted by 1e-10 and normalised, in nats."""
    p, q = p + _FLOOR, q + _FLOOR
    p, q = p / p.sum(), q / q.sum()
    return float((p * (p / q).log()).sum())
