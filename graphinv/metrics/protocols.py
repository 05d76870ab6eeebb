"""Protocols: what a paper's table fixed without saying so, written down once, by name.

Sample count, reference, kernels, what is repaired before it is judged: two tables compare only where all of these are
the same. A protocol is data; `graphinv.evaluate` does what it says and puts it into the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from graphinv.errors import InputError
from graphinv.metrics.distance import Distance, check_distances, plain_data
from graphinv.metrics.graph_distances import GraphSet, discrepancy
from graphinv.metrics.graph_features import (
    clustering_histograms,
    degree_histograms,
    orbit_means,
    spectral_histograms,
    wavelet_histograms,
)
from graphinv.metrics.mmd import Kernel
from graphinv.metrics.molecule.distances import FCD, GUACAMOL, MOSES, NSPDK, NSPDK_GDSS, STABILITY, MoleculeSet

__all__ = ["PROTOCOLS", "GraphProtocol", "MoleculeProtocol", "Protocol", "protocol_named"]

_VALID = ("valid_strict", "valid_fragment", "valid_relaxed", "valid_corrected", "valid_valence")


@dataclass(frozen=True)
class GraphProtocol:
    """How plain graphs are judged.

    Args:
        samples: number of graphs that the protocol asks for; 0: as many as the reference has.
        distances: what is compared; `discrepancy` makes one of a descriptor and a kernel.
        floor: training graphs that are judged in place of samples: "all", or "subset": as many as samples are asked
            for, 20 random draws.
        drop_isolated: nodes without edges are taken out of the samples first; a graph of none but such is one node.
        ratio: mean over distances, where lower is better, of distance over floor, where the floor is not 0.

    Raises:
        InputError: a field is not as described, or two distances have one name.
    """

    samples: int
    distances: tuple[Distance[GraphSet], ...]
    floor: Literal["all", "subset"]
    drop_isolated: bool = False
    ratio: bool = False

    def __post_init__(self) -> None:
        _check_samples(self.samples, 0)
        check_distances(self.distances)
        _check_choice("floor", self.floor, ("all", "subset"))
        if any(distance.against != "reference" for distance in self.distances):
            raise InputError("graphs have one reference: their distances are against 'reference'")


@dataclass(frozen=True)
class MoleculeProtocol:
    """How molecules are judged.

    Args:
        samples: number that the protocol asks for.
        valid: the definition that the paper prints as validity, one of the report's four or "valid_valence": no atom
            beyond its valence after charges of +1, aromaticity not looked at.
        judged: molecules that count as distinct, new and for the distances: "written", the readable ones as they
            are; "relaxed", the largest fragment after charges of +1; "corrected", after repair of valences.
        distances: what is compared; ``graphinv.metrics.molecule.distances`` has those of the named protocols.
        against: split that the distances compare with; the other of "test" and "train" gives their floor.
        unique_at: uniqueness also of so many first molecules.
        distinct: whether only distinct molecules enter the distances.

    Raises:
        InputError: a field is not as described, or two distances have one name.
    """

    samples: int
    valid: str
    judged: Literal["written", "relaxed", "corrected"]
    distances: tuple[Distance[MoleculeSet], ...]
    against: Literal["test", "train"] = "test"
    unique_at: tuple[int, ...] = ()
    distinct: bool = False

    def __post_init__(self) -> None:
        _check_samples(self.samples, 1)
        check_distances(self.distances)
        _check_choice("valid", self.valid, _VALID)
        _check_choice("judged", self.judged, ("written", "relaxed", "corrected"))
        _check_choice("against", self.against, ("test", "train"))
        if any(isinstance(first, bool) or not isinstance(first, int) or first < 1 for first in self.unique_at):
            raise InputError(f"unique_at must be numbers of first molecules, got {self.unique_at!r}")


def _check_samples(samples: object, least: int) -> None:
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < least:
        raise InputError(f"samples of a protocol must be a number of at least {least}, got {samples!r}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} of a protocol must be one of {', '.join(choices)}; got {value!r}")


@dataclass(frozen=True)
class Protocol:
    """A named way of judging, for molecules, for plain graphs or for both; one of your own goes to ``evaluate``.

    Args:
        name: what the report calls it, and ``--protocol`` those of `PROTOCOLS`.
        source: whose tables it is of.
        says: what it fixes, in a sentence.

    Example:
        >>> from dataclasses import replace
        >>> gdss = protocol_named("gdss-2022")
        >>> few = replace(gdss, name="few", says="100 molecules", molecules=replace(gdss.molecules, samples=100))
        >>> [distance.name for distance in few.molecules.distances]
        ['fcd', 'nspdk_gdss']
    """

    name: str
    source: str
    says: str
    molecules: MoleculeProtocol | None = None
    graphs: GraphProtocol | None = None

    def to_json(self) -> dict[str, Any]:
        """The protocol as plain data, its metrics with their settings.

        Example:
            >>> protocol_named("moses-2020").to_json()["molecules"]["samples"]
            30000
        """
        data: dict[str, Any] = plain_data(self)
        return data


_EMD = (
    discrepancy("degree", degree_histograms, Kernel("emd", 1.0)),
    discrepancy("clustering", clustering_histograms, Kernel("emd", 0.1, bins=100, unit=100.0)),
    discrepancy("orbit", orbit_means, Kernel("gaussian", 30.0)),
)
_TV = (
    discrepancy("degree", degree_histograms, Kernel("tv", 1.0)),
    discrepancy("clustering", clustering_histograms, Kernel("tv", 0.1, bins=100)),
    discrepancy("orbit", orbit_means, Kernel("tv", 30.0)),
    discrepancy("spectral", spectral_histograms, Kernel("tv", 1.0, bins=200)),
    discrepancy("wavelet", wavelet_histograms, Kernel("tv", 1.0, bins=100)),
)
_SIGMAS = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_RBF = (
    discrepancy("degree", degree_histograms, Kernel("rbf", sigmas=_SIGMAS)),
    discrepancy("clustering", clustering_histograms, Kernel("rbf", bins=100, sigmas=_SIGMAS)),
    discrepancy("orbit", orbit_means, Kernel("rbf", sigmas=_SIGMAS)),
    discrepancy("spectral", spectral_histograms, Kernel("rbf", bins=200, sigmas=_SIGMAS)),
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "gdss-2022",
            "GDSS, arXiv:2202.02514, and the papers after its tables",
            "10,000 molecules, corrected and cut to the largest fragment before anything but validity is measured; "
            "graphs: as many as the test set has, earth mover's kernels",
            MoleculeProtocol(10_000, "valid_valence", "corrected", (FCD, NSPDK_GDSS)),
            GraphProtocol(0, _EMD, "subset", drop_isolated=True),
        ),
        Protocol(
            "digress-2023",
            "DiGress, arXiv:2209.14734, SPECTRE, arXiv:2204.01613, and DeFoG, arXiv:2410.04263",
            "10,000 molecules, the largest fragment of each judged, distinct and new after charges of +1; graphs: 40, "
            "total-variation kernels, ratios to the training set",
            MoleculeProtocol(10_000, "valid_fragment", "relaxed", (FCD, NSPDK, *STABILITY)),
            GraphProtocol(40, _TV, "all", ratio=True),
        ),
        Protocol(
            "moses-2020",
            "MOSES, arXiv:1811.12823",
            "30,000 molecules as written, the valid ones compared with the test set",
            MoleculeProtocol(30_000, "valid_fragment", "written", MOSES, unique_at=(1000, 10_000)),
        ),
        Protocol(
            "guacamol-2019",
            "GuacaMol, arXiv:1811.09621",
            "10,000 distinct valid molecules compared with the training set by scores in [0, 1], 1 the best",
            MoleculeProtocol(10_000, "valid_fragment", "written", GUACAMOL, against="train", distinct=True),
        ),
        Protocol(
            "polygraph-2026",
            "PolyGraph, the discrepancies of its benchmark that need no classifier",
            "graphs: as many as the test set has, the largest discrepancy over a range of bandwidths",
            graphs=GraphProtocol(0, _RBF, "all"),
        ),
    )
}


def protocol_named(name: str) -> Protocol:
    """Return a protocol of `PROTOCOLS`.

    Raises:
        InputError: there is none of this name.

    Example:
        >>> protocol_named("gdss-2022").graphs.floor
        'subset'
    """
    if name not in PROTOCOLS:
        raise InputError(f"no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
