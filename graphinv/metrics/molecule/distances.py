"""The distances that protocols name, of lists of canonical SMILES: one function for each, in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from graphinv.errors import InputError
from graphinv.metrics.comparison import Comparison
from graphinv.metrics.molecule.fcd import chemnet_activations, fcd_distance, reference_statistics
from graphinv.metrics.molecule.guacamol import fcd_score, guacamol_reference, guacamol_scores
from graphinv.metrics.molecule.labelled import labelled_graphs
from graphinv.metrics.molecule.moses import moses_distances
from graphinv.metrics.nspdk import nspdk_features, nspdk_mmd

__all__ = ["HIGHER", "Found", "Sides", "distance"]

HIGHER = frozenset(
    (
        *("snn", "frag", "scaf", "snn_scaffolds", "frag_scaffolds", "scaf_scaffolds", "int_div_1", "int_div_2"),
        *("filters", "kl_score", "fcd_score", "atom_stability", "molecule_stability"),
    )
)
Found = tuple[dict[str, Comparison], dict[str, str]]  # distances and notes, by name


@dataclass(frozen=True)
class Sides:
    """Molecules that are compared, and what a distance may need beside them.

    Args:
        samples: canonical valid SMILES.
        reference: likewise.
        scaffolds: a second reference, of MOSES.
        mcf: MOSES's file of filters.
        progress: show bars.
    """

    samples: Sequence[str]
    reference: Sequence[str]
    scaffolds: Sequence[str] | None = None
    mcf: Path | None = None
    progress: bool = True


def distance(name: str, sides: Sides) -> Found:
    """Return the comparisons of a name of ``MoleculeProtocol.distances`` (other than "stability"), and notes.

    Example:
        >>> found, notes = distance("nspdk", Sides(["CCO", "CCN"], ["CCN", "CCO"], progress=False))
        >>> abs(found["nspdk"].value) < 1e-12, notes
        (True, {})
    """
    return _DISTANCES[name](sides)


def _fcd(sides: Sides) -> Found:
    references = {"fcd": sides.reference}
    if sides.scaffolds is not None:
        references["fcd_scaffolds"] = sides.scaffolds
    return _frechet(sides, references), {}


def _frechet(sides: Sides, references: dict[str, Sequence[str]]) -> dict[str, Comparison]:
    known = {name: reference_statistics(smiles, progress=sides.progress) for name, smiles in references.items()}
    activations = chemnet_activations(sides.samples, progress=sides.progress)
    return {name: fcd_distance(activations, statistics) for name, statistics in known.items()}


def _nspdk(sides: Sides, name: str, aromatic: Literal["own", "single"]) -> Found:
    rows = [
        nspdk_features(labelled_graphs(smiles, aromatic, sides.progress), progress=sides.progress)
        for smiles in (sides.samples, sides.reference)
    ]
    return {name: nspdk_mmd(*rows)}, {}


def _moses(sides: Sides) -> Found:
    return moses_distances(sides.samples, sides.reference, sides.scaffolds, sides.mcf, progress=sides.progress)


def _guacamol(sides: Sides) -> Found:
    reference = guacamol_reference(sides.reference)
    fcd = _frechet(sides, {"fcd": reference})["fcd"]
    try:
        return guacamol_scores(sides.samples, reference, fcd, progress=sides.progress), {}
    except InputError as error:  # no density of a descriptor that has one value only
        return {"fcd_score": fcd_score(fcd)}, {"kl_score": str(error)}


_DISTANCES: dict[str, Callable[[Sides], Found]] = {
    "fcd": _fcd,
    "nspdk": partial(_nspdk, name="nspdk", aromatic="own"),
    "nspdk_gdss": partial(_nspdk, name="nspdk_gdss", aromatic="single"),
    "moses": _moses,
    "guacamol": _guacamol,
}
