"""Molecules under a protocol: which are judged, their distances to a reference with floors, and what they look like.

Without a protocol there are counts only; nothing here decides anything that the protocol does not say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphinv.data import Vocabulary
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.cache import digest, load_or_make
from graphinv.metrics.comparison import rate
from graphinv.metrics.distance import Distance, Floor, Undefined, figure, plain_data
from graphinv.metrics.molecule.distances import MoleculeSet
from graphinv.metrics.molecule.judged import judged, valence_holds
from graphinv.metrics.molecule.validity import molecule_report

if TYPE_CHECKING:
    from graphinv.metrics.protocols import MoleculeProtocol

__all__ = ["References", "judge_molecules"]

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
class References:
    """What samples are compared with: canonical SMILES, None where there are none.

    Args:
        test: reference of distances.
        train: reference of novelty, source of floors.
        scaffolds: second reference of MOSES.
    """

    test: Sequence[str] | None = None
    train: Sequence[str] | None = None
    scaffolds: Sequence[str] | None = None


def judge_molecules(
    smiles: Sequence[str],
    references: References,
    protocol: MoleculeProtocol | None,
    *,
    graphs: tuple[GraphBatch, Vocabulary] | None = None,
    repeats: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Return the report of samples: counts, and under a protocol its own counts, distances and distributions.

    Args:
        smiles: as sampled.
        graphs: the samples as graphs, where hydrogens are nodes that SMILES do not keep.

    Raises:
        InputError: there is no sample, the protocol needs a reference that is not given, or a metric refuses.

    Example:
        >>> judge_molecules(["CCO", "C=F"], References(train=["CCO"]), None)["failures"]
        [{'reason': 'F beyond its valence', 'count': 1, 'examples': ['C=F']}]
    """
    report = molecule_report(smiles, references.train, train_is_canonical=True, progress=progress)
    if protocol is None:
        return report
    molecules = [text for text in judged(smiles, protocol.judged, progress) if text is not None]
    report["judged"] = len(molecules)
    report["under_protocol"] = _counts(report, smiles, molecules, references.train, protocol)
    if protocol.distinct:
        molecules = list(dict.fromkeys(molecules))
    sides, stand_in = _sides(references, protocol, len(molecules), seed, progress)
    if len(molecules) < 2:
        why = f"{len(molecules)} of {len(smiles):,} samples are molecules to judge, and a distance needs two"
        report |= {"distances": {}, "warnings": [f"no distances: {why}"]}
    else:
        samples = MoleculeSet(molecules, smiles, graphs, progress)
        options = {"repeats": repeats, "seed": seed, "progress": progress}
        report |= _compare(samples, sides, stand_in, protocol.distances, options)
    reference = references.test if references.test is not None else references.train
    report["distributions"] = _distributions(molecules, reference, progress) if molecules else {}
    return report


def _counts(
    report: dict[str, Any],
    smiles: Sequence[str],
    molecules: Sequence[str],
    train: Sequence[str] | None,
    protocol: MoleculeProtocol,
) -> dict[str, Any]:
    valid = report.get(protocol.valid)
    if protocol.valid == "valid_valence":
        valid = rate(sum(map(valence_holds, smiles)), len(smiles))
    unique = set(molecules)
    novel = None if train is None else rate(len(unique - set(train)), len(unique))
    counts = {"valid": valid, "unique": rate(len(unique), len(molecules)), "novel": novel}
    for first in (first for first in protocol.unique_at if first <= len(molecules)):
        counts[f"unique_{first}"] = rate(len(set(molecules[:first])), len(molecules[:first]))
    return counts


def _sides(
    references: References, protocol: MoleculeProtocol, count: int, seed: int, progress: bool
) -> tuple[dict[str, MoleculeSet], MoleculeSet | None]:
    """What distances compare with, by ``Distance.against``, and what gives their floors.

    That is real molecules in the number of the samples: training ones, or test ones where the reference is those.
    """
    to_train = protocol.against == "train"
    test, train = references.test, references.train
    reference, other = (train, test) if to_train else (test, train)
    if reference is None:
        raise InputError(
            f"this protocol compares with {'training' if to_train else 'test'} molecules, and there are none; give "
            f"{'train' if to_train else 'reference'}: a store with such a split, or molecules"
        )
    sides = {"reference": MoleculeSet(reference, progress=progress)}
    if references.scaffolds is not None:
        sides["scaffolds"] = MoleculeSet(references.scaffolds, progress=progress)
    if other is None:
        return sides, None
    other = list(dict.fromkeys(other)) if protocol.distinct else other
    order = torch.randperm(len(other), generator=torch.Generator().manual_seed(seed))
    stand_in = MoleculeSet([other[i] for i in order[:count].tolist()], progress=progress)
    return sides, stand_in if len(stand_in.smiles) > 1 else None


def _compare(
    samples: MoleculeSet,
    sides: Mapping[str, MoleculeSet],
    stand_in: MoleculeSet | None,
    distances: Sequence[Distance[MoleculeSet]],
    options: dict[str, Any],
) -> dict[str, Any]:
    """The distances of the protocol, each with its floor, and why one is left out."""
    figures: dict[str, Any] = {}
    undefined: dict[str, list[str]] = {}  # reason -> names
    for distance in (distance for distance in distances if distance.against in sides):
        reference = sides[distance.against]
        try:
            comparison = distance.compare(samples, reference)
            floor = None if stand_in is None else _floor(distance, stand_in, reference, len(samples.smiles))
            figures[distance.name] = figure(distance, comparison, floor, **options)
        except Undefined as error:
            undefined.setdefault(str(error), []).append(distance.name)
    return {"distances": figures, "warnings": [f"{', '.join(names)}: {why}" for why, names in undefined.items()]}


def _floor(distance: Distance[MoleculeSet], stand_in: MoleculeSet, reference: MoleculeSet, count: int) -> Floor | None:
    """What real molecules score in place of ``count`` samples; kept, as only the number of samples matters."""

    def make() -> dict[str, torch.Tensor]:
        comparison = distance.compare(stand_in, reference)
        return {"floor": torch.tensor([distance.value_of(comparison), comparison.count], dtype=torch.float64)}

    try:
        if distance.version is None:
            score = make()
        else:
            settings = distance.name, distance.version, plain_data(distance.compute)
            score = load_or_make(
                "floor", digest([stand_in.feature(_digest), reference.feature(_digest)], settings), make
            )
    except Undefined:
        return None
    value, n = score["floor"].tolist()
    return Floor(value, int(n), (value, None) if n >= count else None)


def _digest(side: MoleculeSet) -> str:
    return digest(side.smiles)


def _distributions(molecules: Sequence[str], reference: Sequence[str] | None, progress: bool) -> dict[str, Any]:
    """What samples and reference look like: shares over the same labels or bins."""
    from graphinv.metrics.molecule.properties import MOSES_PROPERTIES, load_properties
    from graphinv.metrics.molecule.statistics import statistics

    sets = [molecules] if reference is None else [molecules, reference]
    counts = [statistics(smiles, progress=progress) for smiles in sets]
    numbers = [load_properties(smiles, progress=progress) for smiles in sets]
    result: dict[str, Any] = {}
    for name, (title, unit) in _PICTURES.items():
        if name in MOSES_PROPERTIES:
            values = [of[name].numpy() for of in numbers]
            edges = np.histogram_bin_edges(np.concatenate(values), bins=_BINS)
            shares = [np.histogram(each, bins=edges)[0] / len(each) for each in values]
            axis: dict[str, Any] = {"edges": edges.tolist()}
        else:
            labels = list(dict.fromkeys(label for of in counts for label in of[name]))
            shares = [np.array([of[name].get(label, 0) for label in labels]) for of in counts]
            shares = [each / max(1, each.sum()) for each in shares]
            axis = {"labels": labels}
        shares = [each.tolist() for each in shares]
        result[name] = {"title": title, "unit": unit, **axis, "samples": shares[0]}
        result[name]["reference"] = shares[1] if reference is not None else None
    return result
