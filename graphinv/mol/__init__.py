"""Molecules in and out: SMILES to packed graphs and back, checks, repairs and pictures (needs RDKit).

Names load on first use, so that a worker process that only reads SMILES never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphinv.mol.build import Rejects, build_store
    from graphinv.mol.codec import MoleculeCodec, canonical_smiles
    from graphinv.mol.datasets import build_dataset
    from graphinv.mol.draw import molecule_grid
    from graphinv.mol.valence import add_charges, largest_fragment, repair_smiles, repair_valence, sanitizes

__all__ = [
    "MoleculeCodec",
    "Rejects",
    "add_charges",
    "build_dataset",
    "build_store",
    "canonical_smiles",
    "largest_fragment",
    "molecule_grid",
    "repair_smiles",
    "repair_valence",
    "sanitizes",
]

_HOME = {
    "MoleculeCodec": "codec",
    "Rejects": "build",
    "add_charges": "valence",
    "build_dataset": "datasets",
    "build_store": "build",
    "canonical_smiles": "codec",
    "largest_fragment": "valence",
    "molecule_grid": "draw",
    "repair_smiles": "valence",
    "repair_valence": "valence",
    "sanitizes": "valence",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
