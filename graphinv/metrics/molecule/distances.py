"""The metrics of sets of molecules that named protocols hold, as objects: take them for a protocol of your own.

Definitions are those of the code whose tables papers quote: MOSES (arXiv:1811.12823, molecularsets/moses), GuacaMol
(arXiv:1811.09621), GDSS, DiGress. What several metrics read of a set is computed once (`MoleculeSet.feature`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from graphinv.data import Vocabulary
from graphinv.graphs import GraphBatch
from graphinv.metrics.comparison import Comparison
from graphinv.metrics.distance import Distance, Undefined
from graphinv.metrics.molecule import guacamol
from graphinv.metrics.molecule._map import load_or_measure
from graphinv.metrics.molecule.fcd import Statistics, chemnet_activations, fcd_distance, reference_statistics
from graphinv.metrics.molecule.filters import PAINS_ONLY, passes
from graphinv.metrics.molecule.fingerprints import fingerprints, internal_diversity, snn
from graphinv.metrics.molecule.fragments import cosine, fragments, scaffolds, totals
from graphinv.metrics.molecule.labelled import labelled_graphs
from graphinv.metrics.molecule.properties import MOSES_PROPERTIES, load_properties, wasserstein
from graphinv.metrics.molecule.stability import Stability, graph_stability, stability
from graphinv.metrics.nspdk import Features, nspdk_features, nspdk_mmd

__all__ = [
    "FCD",
    "GUACAMOL",
    "MOSES",
    "NSPDK",
    "NSPDK_GDSS",
    "STABILITY",
    "Filters",
    "InternalDiversity",
    "MoleculeSet",
    "Nspdk",
    "PartCosine",
    "PropertyDistance",
]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class MoleculeSet:
    """Molecules and what was computed of them: what metrics of a `MoleculeProtocol` compare.

    Args:
        smiles: canonical valid SMILES.
        texts: of samples, all of them as they were sampled, unreadable ones too.
        graphs: of samples that were graphs: these, and what their types mean.
        progress: show bars.

    Example:
        >>> molecules = MoleculeSet(["CCO", "C"])
        >>> molecules.feature(lambda side: [len(text) for text in side.smiles])
        [3, 1]
    """

    smiles: Sequence[str]
    texts: Sequence[str] | None = None
    graphs: tuple[GraphBatch, Vocabulary] | None = None
    progress: bool = True
    _features: dict[object, Any] = field(default_factory=dict, init=False, repr=False)

    def feature(self, compute: Callable[[MoleculeSet], T]) -> T:
        """Return ``compute`` of this set, computed at the first call with this function."""
        if compute not in self._features:
            self._features[compute] = compute(self)
        return cast(T, self._features[compute])


def fcd(samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
    """The Frechet ChemNet distance, `fcd_distance`."""
    statistics = reference.feature(_statistics)
    return fcd_distance(samples.feature(_activations), statistics)


def fcd_score(samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
    """exp(-FCD / 5) to the molecules that GuacaMol compares with."""
    chosen = guacamol.guacamol_reference(reference.smiles)
    statistics = reference_statistics(chosen, progress=reference.progress)
    return guacamol.fcd_score(fcd_distance(samples.feature(_activations), statistics))


def kl_score(samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
    """GuacaMol's KL score, `guacamol.kl_score`."""
    return guacamol.kl_score(samples.smiles, reference.smiles, progress=samples.progress)


@dataclass(frozen=True)
class Nspdk:
    """The discrepancy of neighbourhood subgraphs; see `labelled_graphs` for ``aromatic``."""

    aromatic: Literal["own", "single"] = "own"

    def __call__(self, samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
        """Return `nspdk_mmd` of both sets."""
        return nspdk_mmd(samples.feature(self._rows), reference.feature(self._rows))

    def _rows(self, side: MoleculeSet) -> Features:
        return nspdk_features(labelled_graphs(side.smiles, self.aromatic, side.progress), progress=side.progress)


def nearest_neighbour(samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
    """MOSES's SNN, `snn`."""
    prints = reference.feature(_reference_parts)["prints"]
    return snn(samples.feature(_prints), prints, progress=samples.progress)


@dataclass(frozen=True)
class PartCosine:
    """The cosine of the counts of BRICS fragments ("frag") or of scaffolds ("scaf")."""

    part: Literal["frag", "scaf"]

    def __call__(self, samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
        """Return `cosine` of both sets.

        Raises:
            Undefined: the molecules of one of them have no such part.
        """
        packed = reference.feature(_reference_parts)
        counts = _unpack(packed[self.part], packed[self.part + "_counts"])
        parts = samples.feature(_CUTS[self.part])
        if not counts or not any(parts):
            who = "samples" if counts else "reference"
            raise Undefined(f"nothing to compare: no molecule of the {who} has a scaffold of two rings")
        return cosine(parts, counts, len(reference.smiles))


@dataclass(frozen=True)
class InternalDiversity:
    """How unlike the samples are among themselves, `internal_diversity` of power ``p``."""

    p: int

    def __call__(self, samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
        """Return the diversity of the samples; the reference is not looked at."""
        return internal_diversity(samples.feature(_prints), self.p, progress=samples.progress)


@dataclass(frozen=True)
class Filters:
    """The share of samples that ``passes`` MOSES's filters: PAINS and ``patterns``, SMARTS of unwanted groups."""

    patterns: tuple[str, ...] = ()

    def __call__(self, samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
        """Return the share as a function of the weights; the reference is not looked at."""
        failed = (~passes(samples.smiles, self.patterns, progress=samples.progress)).double()
        count = len(samples.smiles)
        note = None if self.patterns else PAINS_ONLY
        return Comparison(lambda weights: 1 - float(weights @ failed), count, count, note)


@dataclass(frozen=True)
class PropertyDistance:
    """The Wasserstein distance of a property, one of MOSES's four."""

    name: str

    def __call__(self, samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
        """Return `wasserstein` of the property in both sets."""
        return wasserstein(samples.feature(_properties)[self.name], reference.feature(_properties)[self.name])


def atom_stability(samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
    """The share of stable atoms of samples with hydrogens; the reference is not looked at."""
    return _stable_atoms(samples).of_atoms()


def molecule_stability(samples: MoleculeSet, reference: MoleculeSet) -> Comparison:
    """The share of samples with hydrogens whose atoms all are stable; the reference is not looked at."""
    return _stable_atoms(samples).of_molecules()


def _activations(side: MoleculeSet) -> Tensor:
    return chemnet_activations(side.smiles, progress=side.progress)


def _statistics(side: MoleculeSet) -> Statistics:
    return reference_statistics(side.smiles, progress=side.progress)


def _properties(side: MoleculeSet) -> dict[str, Tensor]:
    return load_properties(side.smiles, progress=side.progress)


def _prints(side: MoleculeSet) -> Tensor:
    return fingerprints(side.smiles, progress=side.progress)


def _fragments(side: MoleculeSet) -> list[list[str]]:
    return fragments(side.smiles, progress=side.progress)


def _scaffolds(side: MoleculeSet) -> list[list[str]]:
    return scaffolds(side.smiles, progress=side.progress)


_CUTS = {"frag": _fragments, "scaf": _scaffolds}


def _stability(side: MoleculeSet) -> Stability | None:
    if side.graphs is not None:
        return graph_stability(*side.graphs)
    return None if side.texts is None else stability(side.texts, progress=side.progress)


def _stable_atoms(samples: MoleculeSet) -> Stability:
    counts = samples.feature(_stability)
    if counts is None:
        raise Undefined("stability needs samples with explicit hydrogens")
    return counts


def _reference_parts(side: MoleculeSet) -> dict[str, Tensor]:
    """Fingerprints, and counts of fragments and scaffolds, of a reference; from the cache where it is large."""

    def make() -> dict[str, Tensor]:
        result = {"prints": side.feature(_prints)}
        for name, cut in _CUTS.items():
            result[name], result[name + "_counts"] = _pack(totals(side.feature(cut)))
        return result

    return load_or_measure("moses", side.smiles, make)


def _pack(counts: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Parts as the bytes of lines, and their counts."""
    text = np.frombuffer("\n".join(counts).encode(), dtype=np.uint8).copy()
    return torch.from_numpy(text), torch.tensor(list(counts.values()), dtype=torch.int64)


def _unpack(text: Tensor, counts: Tensor) -> dict[str, int]:
    return dict(zip(text.numpy().tobytes().decode().split("\n"), counts.tolist(), strict=True)) if len(counts) else {}


Metric = Distance[MoleculeSet]


def _share(name: str, label: str, compute: Callable[[MoleculeSet, MoleculeSet], Comparison]) -> Metric:
    return Distance(name, label, "higher", compute, bounds=(0.0, 1.0), version="1")


def _scaffold_test(metric: Metric) -> Metric:
    """The same figure against the scaffold test set of MOSES."""
    label = f"{metric.label}, scaffold test set"
    return replace(metric, name=f"{metric.name}_scaffolds", label=label, against="scaffolds")


FCD = Metric("fcd", "FCD", "lower", fcd, version="1")
NSPDK = Metric("nspdk", "NSPDK", "lower", Nspdk("own"), version="1")
NSPDK_GDSS = Metric("nspdk_gdss", "NSPDK as in GDSS", "lower", Nspdk("single"), version="1")
STABILITY = (
    _share("atom_stability", "Atom stability", atom_stability),
    _share("molecule_stability", "Molecule stability", molecule_stability),
)
GUACAMOL = (_share("kl_score", "KL score", kl_score), _share("fcd_score", "FCD score", fcd_score))
_SIMILARITIES = (
    _share("snn", "Nearest neighbour (SNN)", nearest_neighbour),
    _share("frag", "Fragments (Frag)", PartCosine("frag")),
    _share("scaf", "Scaffolds (Scaf)", PartCosine("scaf")),
)
_LABELS = {"log_p": "logP", "sa": "SA", "qed": "QED", "weight": "Weight"}
MOSES = (
    FCD,
    _scaffold_test(FCD),
    *_SIMILARITIES,
    *map(_scaffold_test, _SIMILARITIES),
    _share("int_div_1", "Internal diversity 1", InternalDiversity(1)),
    _share("int_div_2", "Internal diversity 2", InternalDiversity(2)),
    _share("filters", "Filters", Filters()),
    *(Metric(name, _LABELS[name], "lower", PropertyDistance(name), version="1") for name in MOSES_PROPERTIES),
)
