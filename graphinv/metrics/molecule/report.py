"""Molecules under a protocol: which are judged, their distances to a reference with floors, and what they look like.

Without a protocol there are counts only; nothing here decides anything that the protocol does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphinv.data import Vocabulary
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics._kept import digest, kept
from graphinv.metrics.comparison import Comparison, Floor, figure, rate
from graphinv.metrics.molecule.judged import judged, valence_holds
from graphinv.metrics.molecule.validity import molecule_report
from graphinv.metrics.protocols import MoleculeProtocol

__all__ = ["Molecules", "judge_molecules"]

_BINS = 30  # of a distribution of numbers
_PICTURES = {  # name in the report -> title, unit
    "heavy_atoms": ("Heavy atoms", "share of molecules"),
    "atom_types": ("Atoms", "share of atoms"),
    "bond_types": ("Bonds", "share of bonds"),
    "ring_sizes": ("Ring sizes", "share of rings"),
    "rings": ("Rings", "share of molecules"),
    "log_p": ("logP", "share of molecules"),
    "sa": ("Synthetic accessibility (1 easy, 10 hard)", "share of molecules"),
    "qed": ("Drug-likeness (QED)", "share of molecules"),
    "weight": ("Weight, g/mol", "share of molecules"),
}


@dataclass(frozen=True)
class Molecules:
    """What samples are compared with: canonical SMILES, None where there are none.

    Args:
        test: reference of distances.
        train: reference of novelty, source of floors.
        scaffolds: second reference of MOSES.
        mcf: MOSES's file of filters.
        drawn: the samples as graphs, where hydrogens are nodes that SMILES do not keep.
    """

    test: Sequence[str] | None = None
    train: Sequence[str] | None = None
    scaffolds: Sequence[str] | None = None
    mcf: Path | None = None
    drawn: tuple[GraphBatch, Vocabulary] | None = None


def judge_molecules(
    smiles: Sequence[str],
    known: Molecules,
    protocol: MoleculeProtocol | None,
    *,
    repeats: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Return the report of samples: counts, and under a protocol its own counts, distances and distributions.

    Raises:
        InputError: there is no sample, or the protocol needs a reference that is not given.

    Example:
        >>> judge_molecules(["CCO", "C=F"], Molecules(train=["CCO"]), None)["failures"]
        [{'reason': 'F beyond its valence', 'count': 1, 'examples': ['C=F']}]
    """
    report = molecule_report(smiles, known.train, train_is_canonical=True, progress=progress)
    if protocol is None:
        return report
    molecules = [text for text in judged(smiles, protocol.judged, progress) if text is not None]
    report["judged"] = len(molecules)
    report["under_protocol"] = _counts(report, smiles, molecules, known, protocol)
    if protocol.distinct:
        molecules = list(dict.fromkeys(molecules))
    report |= _compare(smiles, molecules, known, protocol, repeats, seed, progress)
    reference = known.test if known.test is not None else known.train
    report["distributions"] = _distributions(molecules, reference, progress) if molecules else {}
    return report


def _counts(
    report: dict[str, Any],
    smiles: Sequence[str],
    molecules: Sequence[str],
    known: Molecules,
    protocol: MoleculeProtocol,
) -> dict[str, Any]:
    valid = report.get(protocol.valid)
    if protocol.valid == "valid_valence":
        valid = rate(sum(map(valence_holds, smiles)), len(smiles))
    unique = set(molecules)
    novel = None if known.train is None else rate(len(unique - set(known.train)), len(unique))
    found = {"valid": valid, "unique": rate(len(unique), len(molecules)), "novel": novel}
    for first in (first for first in protocol.unique_at if first <= len(molecules)):
        found[f"unique_{first}"] = rate(len(set(molecules[:first])), len(molecules[:first]))
    return found


def _compare(
    smiles: Sequence[str],
    molecules: Sequence[str],
    known: Molecules,
    protocol: MoleculeProtocol,
    repeats: int,
    seed: int,
    progress: bool,
) -> dict[str, Any]:
    """The distances of the protocol, each with its floor, and what kept one away."""
    from graphinv.metrics.molecule.distances import HIGHER, Sides, distance
    from graphinv.metrics.molecule.stability import graph_stability, stability

    reference, stand_in = _references(known, protocol, len(molecules), seed)
    if len(molecules) < 2:
        why = f"{len(molecules)} of {len(smiles):,} samples are molecules to judge, and a distance needs two"
        return {"distances": {}, "warnings": [f"no distances: {why}"]}
    sides = Sides(molecules, reference, known.scaffolds, known.mcf, progress)
    comparisons: dict[str, Comparison] = {}
    notes: dict[str, str] = {}
    floors: dict[str, Floor] = {}
    for name in (name for name in protocol.distances if name != "stability"):
        found, said = distance(name, sides)
        comparisons |= found
        notes |= said
        if stand_in is not None and len(stand_in) > 1:
            floors |= _floors(name, replace(sides, samples=stand_in), len(molecules))
    warnings = [f"{name}: {text}" for name, text in notes.items() if name not in comparisons]
    if "stability" in protocol.distances:
        stable = stability(smiles) if known.drawn is None else graph_stability(*known.drawn)
        comparisons |= stable.comparisons() if stable else {}
        warnings += [] if stable else ["atom and molecule stability need samples with explicit hydrogens"]
    figures = {
        name: figure(
            comparison,
            floors.get(name),
            better="higher" if name in HIGHER else "lower",
            note=notes.get(name),
            repeats=repeats,
            seed=seed,
            progress=progress,
        )
        for name, comparison in comparisons.items()
    }
    return {"distances": figures, "warnings": warnings}


def _references(
    known: Molecules, protocol: MoleculeProtocol, count: int, seed: int
) -> tuple[Sequence[str], Sequence[str] | None]:
    """The reference, and real molecules in the number of the samples: training ones, or test ones where it is those."""
    to_train = protocol.against == "train"
    reference, other = (known.train, known.test) if to_train else (known.test, known.train)
    if reference is None:
        raise InputError(
            f"this protocol compares with {'training' if to_train else 'test'} molecules, and there are none; give "
            f"{'train' if to_train else 'reference'}: a store with such a split, or molecules"
        )
    if other is None:
        return reference, None
    other = list(dict.fromkeys(other)) if protocol.distinct else other
    order = torch.randperm(len(other), generator=torch.Generator().manual_seed(seed))
    return reference, [other[i] for i in order[:count].tolist()]


def _floors(name: str, sides: Any, count: int) -> dict[str, Floor]:
    """What real molecules score in place of ``count`` samples; kept, as only the number of samples matters."""
    from graphinv.metrics.molecule.distances import distance
    from graphinv.metrics.molecule.filters import read_patterns

    parts = [*sides.samples, "", *sides.reference, "", *(sides.scaffolds or ())]
    patterns = None if sides.mcf is None else read_patterns(sides.mcf)

    def make() -> dict[str, torch.Tensor]:
        found, _ = distance(name, sides)
        return {key: torch.tensor([c.value, c.count], dtype=torch.float64) for key, c in found.items()}

    scores = {key: score.tolist() for key, score in kept("floor", digest(parts, name, patterns), make).items()}
    return {key: Floor(value, int(n), (value, None) if n >= count else None) for key, (value, n) in scores.items()}


def _distributions(molecules: Sequence[str], reference: Sequence[str] | None, progress: bool) -> dict[str, Any]:
    """What samples and reference look like: shares over the same labels or bins."""
    from graphinv.metrics.molecule.properties import MOSES_PROPERTIES, kept_properties
    from graphinv.metrics.molecule.statistics import statistics

    sets = [molecules] if reference is None else [molecules, reference]
    counts = [statistics(smiles, progress=progress) for smiles in sets]
    numbers = [kept_properties(smiles, progress=progress) for smiles in sets]
    result: dict[str, Any] = {}
    for name, (title, unit) in _PICTURES.items():
        if name in MOSES_PROPERTIES:
            values = [of[name].numpy() for of in numbers]
            edges = np.histogram_bin_edges(np.concatenate(values), bins=_BINS)
            found = [np.histogram(each, bins=edges)[0] / len(each) for each in values]
            axis: dict[str, Any] = {"edges": edges.tolist()}
        else:
            labels = list(dict.fromkeys(label for of in counts for label in of[name]))
            found = [np.array([of[name].get(label, 0) for label in labels]) for of in counts]
            found = [each / max(1, each.sum()) for each in found]
            axis = {"labels": labels}
        shares = [each.tolist() for each in found]
        result[name] = {"title": title, "unit": unit, **axis, "samples": shares[0]}
        result[name]["reference"] = shares[1] if reference is not None else None
    return result
