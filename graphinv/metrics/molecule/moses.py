"""The distances of MOSES (arXiv:1811.12823): sampled molecules against its test set, and against its scaffold test set.

Definitions are those of its code, molecularsets/moses, whose tables papers quote. FCD is not here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphinv.metrics.comparison import Comparison
from graphinv.metrics.molecule._map import remembered
from graphinv.metrics.molecule.filters import PAINS_ONLY, passes
from graphinv.metrics.molecule.fingerprints import fingerprints, internal_diversity, snn
from graphinv.metrics.molecule.fragments import cosine, fragments, scaffolds, totals
from graphinv.metrics.molecule.properties import MOSES_PROPERTIES, kept_properties, wasserstein

__all__ = ["moses_distances"]

_KINDS = {"frag": fragments, "scaf": scaffolds}


def moses_distances(
    samples: Sequence[str],
    reference: Sequence[str],
    scaffolds_reference: Sequence[str] | None = None,
    mcf: str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[dict[str, Comparison], dict[str, str]]:
    """Return comparisons by name, and notes on some of them.

    ``snn``, ``frag``, ``scaf`` are similarities to the reference in [0, 1]; ``int_div_1``, ``int_div_2`` diversities
    of the samples and ``filters`` the share of them that passes: higher is better. ``log_p``, ``sa``, ``qed``,
    ``weight`` are Wasserstein distances to the reference in the unit of the property: lower is better. With a second
    reference come ``snn_scaffolds``, ``frag_scaffolds``, ``scaf_scaffolds``. A name is missing, with a note, where
    nothing can be compared: no molecule with two rings. What is computed of references, and the
    properties of samples, is kept in the cache.

    Args:
        samples: canonical valid SMILES, repeats and all.
        reference: canonical valid SMILES, MOSES's "test".
        scaffolds_reference: MOSES's "test_scaffolds".
        mcf: ``moses/metrics/mcf.csv`` of molecularsets/moses; without it ``filters`` is of PAINS only.
        workers: processes; None takes the CPUs this process may use.
        progress: bars on stderr.

    Raises:
        InputError: a text is no molecule, there are no samples or no reference, or ``mcf`` cannot be read.

    Example:
        >>> found, notes = moses_distances(["CCO", "CCN"], ["CCO", "CCCl"])
        >>> list(found)[:2], sorted(notes)
        (['snn', 'frag'], ['filters', 'scaf'])
    """
    n, notes = len(samples), {} if mcf is not None else {"filters": PAINS_ONLY}
    prints = fingerprints(samples, workers=workers, progress=progress)
    parts = {name: kind(samples, workers=workers, progress=progress) for name, kind in _KINDS.items()}
    result: dict[str, Comparison] = {}
    for suffix, molecules in (("", reference), ("_scaffolds", scaffolds_reference)):
        if molecules is None:
            continue
        known = _reference(molecules, workers, progress)
        result["snn" + suffix] = snn(prints, known["prints"], progress=progress)
        for name, of_samples in parts.items():
            counts = _unpacked(known[name], known[name + "_counts"])
            if not counts or not any(of_samples):
                who = "samples" if counts else "reference"
                notes[name + suffix] = f"nothing to compare: no molecule of the {who} has a scaffold of two rings"
                continue
            result[name + suffix] = cosine(of_samples, counts, len(molecules))
    result["int_div_1"] = internal_diversity(prints, 1, progress=progress)
    result["int_div_2"] = internal_diversity(prints, 2, progress=progress)
    failed = (~passes(samples, mcf, workers=workers, progress=progress)).double()
    result["filters"] = Comparison(lambda weights: 1 - float(weights @ failed), n, n)
    measured = kept_properties(samples, workers=workers, progress=progress)
    known = kept_properties(reference, workers=workers, progress=progress)
    result |= {name: wasserstein(measured[name], known[name]) for name in MOSES_PROPERTIES}
    return result, notes


def _reference(smiles: Sequence[str], workers: int | None, progress: bool) -> dict[str, Tensor]:
    def make() -> dict[str, Tensor]:
        made = {"prints": fingerprints(smiles, workers=workers, progress=progress)}
        for name, kind in _KINDS.items():
            counts = totals(kind(smiles, workers=workers, progress=progress))
            made[name], made[name + "_counts"] = _packed(counts)
        return made

    return remembered("moses", smiles, make)


def _packed(counts: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Parts as the bytes of lines, and their counts."""
    text = np.frombuffer("\n".join(counts).encode(), dtype=np.uint8).copy()
    return torch.from_numpy(text), torch.tensor(list(counts.values()), dtype=torch.int64)


def _unpacked(text: Tensor, counts: Tensor) -> dict[str, int]:
    return dict(zip(text.numpy().tobytes().decode().split("\n"), counts.tolist(), strict=True)) if len(counts) else {}
