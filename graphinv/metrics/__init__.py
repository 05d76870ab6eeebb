"""What a set of samples is worth: counts and rates with their denominators stated, distances under protocols.

`graphinv.evaluate` is the entry. What a metric or a protocol of your own is made of is here, imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Comparison": "graphinv.metrics.comparison",
    "Discrepancy": "graphinv.metrics.graph_distances",
    "Distance": "graphinv.metrics.distance",
    "GraphProtocol": "graphinv.metrics.protocols",
    "GraphSet": "graphinv.metrics.graph_distances",
    "Kernel": "graphinv.metrics.mmd",
    "MoleculeProtocol": "graphinv.metrics.protocols",
    "MoleculeSet": "graphinv.metrics.molecule.distances",
    "PROTOCOLS": "graphinv.metrics.protocols",
    "Protocol": "graphinv.metrics.protocols",
    "Undefined": "graphinv.metrics.distance",
    "protocol_named": "graphinv.metrics.protocols",
}

if TYPE_CHECKING:
    from graphinv.metrics.comparison import Comparison
    from graphinv.metrics.distance import Distance, Undefined
    from graphinv.metrics.graph_distances import Discrepancy, GraphSet
    from graphinv.metrics.mmd import Kernel
    from graphinv.metrics.molecule.distances import MoleculeSet
    from graphinv.metrics.protocols import PROTOCOLS, GraphProtocol, MoleculeProtocol, Protocol, protocol_named

__all__ = [
    "PROTOCOLS",
    "Comparison",
    "Discrepancy",
    "Distance",
    "GraphProtocol",
    "GraphSet",
    "Kernel",
    "MoleculeProtocol",
    "MoleculeSet",
    "Protocol",
    "Undefined",
    "protocol_named",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'graphinv.metrics' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
