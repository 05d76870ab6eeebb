"""What molecules are made of: BRICS fragments and Murcko scaffolds, and how alike two sets are in their counts.

The cosine of two count vectors, as in MOSES (arXiv:1811.12823): 1 is the same mixture, 0 nothing in common.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rdkit import Chem
from rdkit.Chem.Scaffolds import MurckoScaffold
from torch import Tensor

from graphinv.errors import InputError
from graphinv.metrics.comparison import Comparison
from graphinv.metrics.molecule._map import each

__all__ = ["cosine", "fragments", "scaffolds", "totals"]


def fragments(smiles: Sequence[str], *, workers: int | None = None, progress: bool = True) -> list[list[str]]:
    """Return the BRICS fragments of each molecule, one as often as it occurs.

    Args:
        smiles: canonical and valid.
        workers: processes; None takes the CPUs this process may use.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: a text is no molecule.

    Example:
        >>> fragments(["CCOC", "CC"])
        [['[3*]OC', '[4*]CC'], ['CC']]
    """
    return each(_fragments, smiles, workers=workers, progress=progress, name="molecules cut")


def scaffolds(smiles: Sequence[str], *, workers: int | None = None, progress: bool = True) -> list[list[str]]:
    """Return the Bemis-Murcko scaffold of each molecule, none if it has fewer than two rings.

    Args:
        smiles: canonical and valid.
        workers: processes; None takes the CPUs this process may use.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: a text is no molecule.

    Example:
        >>> scaffolds(["Cc1ccc2ccccc2c1", "c1ccccc1C", "CC"])
        [['c1ccc2ccccc2c1'], [], []]
    """
    return each(_scaffold, smiles, workers=workers, progress=progress, name="scaffolds")


def totals(parts: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return how often each part occurs over all molecules, sorted by part.

    Example:
        >>> totals([["b", "a"], ["a"]])
        {'a': 2, 'b': 1}
    """
    return dict(sorted(Counter(part for molecule in parts for part in molecule).items()))


def cosine(samples: Sequence[Sequence[str]], reference: Mapping[str, int], reference_count: int) -> Comparison:
    """The cosine of the counts of samples and of a reference, in [0, 1], higher is closer.

    Args:
        samples: parts of each sample, of `fragments` or `scaffolds`.
        reference: counts of the reference, of `totals`.
        reference_count: molecules of the reference.

    Raises:
        InputError: the samples or the reference have no part at all, which has no direction.

    Example:
        >>> cosine([["a"], ["b"]], {"a": 3, "b": 3}, 4).value
        1.0
    """
    flat = [part for molecule in samples for part in molecule]
    if not flat or not any(reference.values()):
        raise InputError(f"no parts to compare: {len(flat)} in the samples, {sum(reference.values())} in the reference")
    number = {part: index for index, part in enumerate(sorted({*flat, *reference}))}
    item = torch.tensor([number[part] for part in flat])
    owner = torch.repeat_interleave(torch.tensor([len(molecule) for molecule in samples]))
    target = torch.tensor([reference.get(part, 0) for part in number], dtype=torch.float64)
    target /= target.norm()

    def of(weights: Tensor) -> float:
        counts = torch.bincount(item, weights[owner], minlength=len(number))
        length = math.sqrt(float(counts @ counts))
        return min(1.0, float(counts @ target) / length) if length else 0.0  # a draw may hold no sample with a part

    return Comparison(of, len(samples), reference_count)


def _fragments(mol: Chem.Mol) -> list[str]:
    return str(Chem.MolToSmiles(Chem.FragmentOnBRICSBonds(mol))).split(".")


def _scaffold(mol: Chem.Mol) -> list[str]:
    murcko: Any = MurckoScaffold
    scaffold = murcko.GetScaffoldForMol(mol)
    return [str(Chem.MolToSmiles(scaffold))] if scaffold.GetRingInfo().NumRings() >= 2 else []
