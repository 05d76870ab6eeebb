"""Protocols: what a paper's table fixed without saying so, written down once, by name.

Sample count, reference, kernels, what is repaired before it is judged: two tables compare only where all of these are
the same. A protocol is data; `graphinv.evaluate` does what it says and puts it into the report.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from graphinv.errors import InputError

__all__ = ["PROTOCOLS", "GraphProtocol", "Kernel", "MoleculeProtocol", "Protocol", "protocol_named"]


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


@dataclass(frozen=True)
class GraphProtocol:
    """How plain graphs are judged.

    Args:
        samples: number of graphs that the protocol asks for; 0: as many as the reference has.
        kernels: descriptor ("degree", "clustering", "orbit", "spectral", "wavelet") and its kernel.
        floor: training graphs that are judged in place of samples: "all", or "subset": as many as samples are asked
            for, 20 random draws.
        drop_isolated: nodes without edges are taken out of the samples first; a graph of none but such is one node.
        ratio: mean over descriptors of distance over floor, where the floor is not 0.
    """

    samples: int
    kernels: tuple[tuple[str, Kernel], ...]
    floor: Literal["all", "subset"]
    drop_isolated: bool = False
    ratio: bool = False


@dataclass(frozen=True)
class MoleculeProtocol:
    """How molecules are judged.

    Args:
        samples: number that the protocol asks for.
        valid: the definition that the paper prints as validity, one of the report's four or "valid_valence": no atom
            beyond its valence after charges of +1, aromaticity not looked at.
        judged: molecules that count as distinct, new and for the distances: "written", the readable ones as they
            are; "relaxed", the largest fragment after charges of +1; "corrected", after repair of valences.
        distances: "fcd", "nspdk" (aromatic bonds have a label of their own), "nspdk_gdss" (they count as single),
            "moses", "guacamol", "stability".
        against: split that the distances compare with; the other of "test" and "train" gives their floor.
        unique_at: uniqueness also of so many first molecules.
        distinct: whether only distinct molecules enter the distances.
    """

    samples: int
    valid: str
    judged: Literal["written", "relaxed", "corrected"]
    distances: tuple[str, ...]
    against: Literal["test", "train"] = "test"
    unique_at: tuple[int, ...] = ()
    distinct: bool = False


@dataclass(frozen=True)
class Protocol:
    """A named way of judging, for molecules, for plain graphs or for both.

    Args:
        name: as in ``--protocol``.
        source: whose tables it is of.
        says: what it fixes, in a sentence.
    """

    name: str
    source: str
    says: str
    molecules: MoleculeProtocol | None = None
    graphs: GraphProtocol | None = None

    def to_json(self) -> dict[str, Any]:
        """The protocol as plain data.

        Example:
            >>> protocol_named("moses-2020").to_json()["molecules"]["samples"]
            30000
        """
        return asdict(self)


_EMD = (
    ("degree", Kernel("emd", 1.0)),
    ("clustering", Kernel("emd", 0.1, bins=100, unit=100.0)),
    ("orbit", Kernel("gaussian", 30.0)),
)
_TV = (
    ("degree", Kernel("tv", 1.0)),
    ("clustering", Kernel("tv", 0.1, bins=100)),
    ("orbit", Kernel("tv", 30.0)),
    ("spectral", Kernel("tv", 1.0, bins=200)),
)
_SIGMAS = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_RBF = tuple((name, Kernel("rbf", bins=kernel.bins, sigmas=_SIGMAS)) for name, kernel in _TV)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "gdss-2022",
            "GDSS, arXiv:2202.02514, and the papers after its tables",
            "10,000 molecules, corrected and cut to the largest fragment before anything but validity is measured; "
            "graphs: as many as the test set has, earth mover's kernels",
            MoleculeProtocol(10_000, "valid_valence", "corrected", ("fcd", "nspdk_gdss")),
            GraphProtocol(0, _EMD, "subset", drop_isolated=True),
        ),
        Protocol(
            "digress-2023",
            "DiGress, arXiv:2209.14734, SPECTRE, arXiv:2204.01613, and DeFoG, arXiv:2410.04263",
            "10,000 molecules, the largest fragment of each judged, distinct and new after charges of +1; graphs: 40, "
            "total-variation kernels, ratios to the training set",
            MoleculeProtocol(10_000, "valid_fragment", "relaxed", ("fcd", "nspdk", "stability")),
            GraphProtocol(40, (*_TV, ("wavelet", Kernel("tv", 1.0, bins=100))), "all", ratio=True),
        ),
        Protocol(
            "moses-2020",
            "MOSES, arXiv:1811.12823",
            "30,000 molecules as written, the valid ones compared with the test set",
            MoleculeProtocol(30_000, "valid_fragment", "written", ("fcd", "moses"), unique_at=(1000, 10_000)),
        ),
        Protocol(
            "guacamol-2019",
            "GuacaMol, arXiv:1811.09621",
            "10,000 distinct valid molecules compared with the training set by scores in [0, 1], 1 the best",
            MoleculeProtocol(10_000, "valid_fragment", "written", ("guacamol",), against="train", distinct=True),
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
