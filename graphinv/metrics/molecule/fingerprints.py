"""How alike molecules are: Tanimoto similarity of Morgan fingerprints, to a reference and within a set.

Similarities are products of blocks of bits, so memory does not grow with the number of pairs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from torch import Tensor
from tqdm.auto import tqdm

from graphinv.errors import InputError
from graphinv.metrics.comparison import Comparison
from graphinv.metrics.molecule._map import each

__all__ = ["fingerprints", "internal_diversity", "nearest", "similarities", "snn"]

_BLOCK = 4096  # rows and columns of a block of similarities: 64 MB
_EXACT = _BLOCK  # most samples whose similarities are kept: one block, in float64 128 MB


def fingerprints(
    smiles: Sequence[str], bits: int = 1024, *, workers: int | None = None, progress: bool = True
) -> Tensor:
    """Return packed Morgan fingerprints of radius 2, uint8 [n, bits / 8].

    Args:
        smiles: canonical and valid.
        bits: 1024 as in MOSES, 4096 as in GuacaMol.
        workers: processes; None takes the CPUs this process may use.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: a text is no molecule, or ``bits`` is no positive multiple of 8.

    Example:
        >>> fingerprints(["CCO", "CCN"]).shape
        torch.Size([2, 128])
    """
    if bits < 8 or bits % 8:
        raise InputError(f"a fingerprint needs a positive multiple of 8 bits, got {bits}")
    rows = each(partial(_bits, bits), smiles, workers=workers, progress=progress, name="fingerprints")
    table = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), bits // 8)
    return torch.from_numpy(table.copy())


def similarities(samples: Tensor, reference: Tensor | None = None) -> Tensor:
    """Return the Tanimoto similarities float32 [n, m] of samples to a reference, or to each other; see ``nearest``.

    Example:
        >>> similarities(fingerprints(["CCO", "c1ccccc1", "CCO"]))[0].tolist()
        [1.0, 0.0, 1.0]
    """
    others = samples if reference is None else reference
    table = torch.empty(len(samples), len(others))
    for rows, columns, block in _blocks(samples, others, False):
        table[rows, columns] = block
    return table


def nearest(samples: Tensor, reference: Tensor | None = None, *, progress: bool = True) -> Tensor:
    """Return float64 [n], the largest Tanimoto similarity of each sample to a reference, in [0, 1].

    Args:
        samples: packed fingerprints [n, bits / 8]; two without any bit are alike.
        reference: packed fingerprints [m, bits / 8]; None: all other samples, and 0 where there is no other.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: the fingerprints differ in length or there is no reference.

    Example:
        >>> alcohols = fingerprints(["CCO", "CCCO", "CCO"])
        >>> nearest(alcohols[:2], alcohols[1:]).tolist(), nearest(alcohols[:1]).tolist()
        ([1.0, 1.0], [0.0])
    """
    others = samples if reference is None else reference
    if samples.shape[1] != others.shape[1] or not len(others):
        raise InputError(f"similarities need fingerprints alike, got {list(samples.shape)} and {list(others.shape)}")
    best = torch.full((len(samples),), -1.0)
    where = torch.zeros(len(samples), dtype=torch.int64)
    for rows, columns, block in _blocks(samples, others, progress):
        if reference is None and rows == columns:
            block.fill_diagonal_(0)
        value, column = block.max(1)
        closer = value > best[rows]
        best[rows] = torch.where(closer, value, best[rows])
        where[rows] = torch.where(closer, column + columns.start, where[rows])
    exact = [_pairs(samples[rows], others[where[rows]]) for rows in _slices(len(samples))]  # not rounded to float32
    result = torch.cat([*exact, torch.zeros(0, dtype=torch.float64)])
    return torch.where(best > 0, result, best.double())


def snn(samples: Tensor, reference: Tensor, *, progress: bool = True) -> Comparison:
    """MOSES's similarity to the nearest neighbour: mean over samples, in [0, 1], higher is closer (arXiv:1811.12823).

    Args:
        samples: packed fingerprints [n, bits / 8].
        reference: packed fingerprints [m, bits / 8].
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: there are no samples or no reference.

    Example:
        >>> ring, chain = fingerprints(["c1ccccc1", "CCO"])
        >>> snn(chain[None], torch.stack([ring, chain])).value
        1.0
    """
    best = nearest(samples, reference, progress=progress)
    return Comparison(lambda weights: float(weights @ best), len(samples), len(reference))


def internal_diversity(fingerprints: Tensor, p: int = 1, *, progress: bool = True) -> Comparison:
    """MOSES's internal diversity, in [0, 1]: 1 - mean over j of (mean over i of T_ij^p)^(1/p), i = j included.

    The paper (arXiv:1811.12823) takes the root of the mean over all pairs; this is what its code does, and what tables
    print. Beyond 4,096 samples the value is as exact, and its dependence on weights is that of first order around it.

    Args:
        fingerprints: packed [n, bits / 8].
        p: power, 1 or 2 in tables.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: there are no samples or ``p`` is below 1.

    Example:
        >>> molecules = fingerprints(["CCO", "CCO", "c1ccccc1"])
        >>> round(internal_diversity(molecules).value, 3)
        0.444
    """
    if p < 1:
        raise InputError(f"internal diversity needs a power of at least 1, got {p}")
    n = len(fingerprints)
    if n <= _EXACT:
        blocks = [block.double() for _, _, block in _blocks(fingerprints, fingerprints, progress)]
        powers = blocks[0] ** p if blocks else torch.zeros(0, 0)
        return Comparison(lambda weights: 1 - float(weights @ (powers @ weights) ** (1 / p)), n, n)
    equal = torch.full((n,), 1 / n, dtype=torch.float64)
    means = _product(fingerprints, p, equal, progress)
    terms = means ** (1 / p)
    slope = terms + (means if p == 1 else _product(fingerprints, p, equal * means ** (1 / p - 1), progress) / p)
    return Comparison(lambda weights: 1 - float(equal @ terms + (weights - equal) @ slope), n, n)


def _product(fingerprints: Tensor, p: int, vector: Tensor, progress: bool) -> Tensor:
    """Return sum over i of T_ij^p vector_i, float64 [n]."""
    result = torch.zeros_like(vector)
    for rows, columns, block in _blocks(fingerprints, fingerprints, progress):
        result[rows] += block.double().pow_(p) @ vector[columns]
    return result


def _blocks(x: Tensor, y: Tensor, progress: bool) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield rows of x, rows of y and their float32 Tanimoto similarities."""
    tasks = [(rows, columns) for rows in _slices(len(x)) for columns in _slices(len(y))]
    last, left = None, torch.zeros(0, 0)
    disable = None if progress else True
    for rows, columns in tqdm(tasks, unit=" blocks of pairs", delay=2.0, disable=disable, file=sys.stderr):
        if rows != last:
            last, left = rows, _unpacked(x[rows])
        right = _unpacked(y[columns])
        common = left @ right.t()
        either = (left.sum(1, keepdim=True) + right.sum(1)).sub_(common)
        yield rows, columns, common.div_(either).nan_to_num_(1.0)


def _pairs(x: Tensor, y: Tensor) -> Tensor:
    """Tanimoto similarities of row k with row k, float64."""
    left, right = _unpacked(x), _unpacked(y)
    common = (left * right).sum(1).double()
    return (common / (left.sum(1) + right.sum(1) - common)).nan_to_num(1.0)


def _slices(count: int) -> list[slice]:
    return [slice(first, min(first + _BLOCK, count)) for first in range(0, count, _BLOCK)]


def _unpacked(packed: Tensor) -> Tensor:
    return torch.from_numpy(np.unpackbits(packed.numpy(), axis=1)).float()


@lru_cache(maxsize=4)
def _generator(bits: int) -> Any:
    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=bits)


def _bits(bits: int, mol: Chem.Mol) -> bytes:
    return np.packbits(_generator(bits).GetFingerprintAsNumPy(mol)).tobytes()
