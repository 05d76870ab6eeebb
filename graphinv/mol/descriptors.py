"""Numbers that chemists read off one molecule, computed by RDKit: run by worker processes, so without torch.

What they are of many molecules, and how far two samples of them are apart, is ``graphinv.metrics.molecule.properties``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from rdkit import Chem, RDConfig
from rdkit.Chem import QED, Descriptors

from graphinv.errors import InputError

__all__ = ["PROPERTIES", "descriptor", "measures"]

PROPERTIES = ("logp", "qed", "sa", "tpsa", "mw", "rings")
_RDKIT = {"logp": "MolLogP", "tpsa": "TPSA", "mw": "MolWt", "rings": "RingCount"}


def measures(names: Sequence[str]) -> list[Callable[[Chem.Mol], float]]:
    """Return the functions that compute the properties ``names``.

    ``logp`` is Crippen's octanol-water coefficient, ``qed`` the drug-likeness of Bickerton et al. in [0, 1], ``sa`` the
    synthetic accessibility of Ertl and Schuffenhauer from 1 (easy) to 10, ``tpsa`` the topological polar surface area
    in square angstrom, ``mw`` the weight in g/mol, ``rings`` the number of rings.

    Raises:
        InputError: there is no property of a name, one is named twice, or RDKit lacks its SA score.

    Example:
        >>> [float(f(Chem.MolFromSmiles("C1CC1"))) for f in measures(["rings", "tpsa"])]
        [1.0, 0.0]
    """
    unknown = [name for name in names if name not in PROPERTIES]
    if unknown:
        raise InputError(f"unknown property {unknown[0]!r}; available: {', '.join(PROPERTIES)}")
    if len(set(names)) < len(names):
        raise InputError(f"a property is asked for twice: {', '.join(names)}; name each once")
    return [descriptor(name) for name in names]


def descriptor(name: str) -> Callable[[Chem.Mol], float]:
    """Return the function of one of `PROPERTIES`, or of one of RDKit's descriptors by its own name.

    Raises:
        InputError: RDKit lacks its SA score.
    """
    library: Any = Descriptors
    if name == "qed":
        return QED.qed
    measure: Callable[[Chem.Mol], float] = (
        _sa_score().calculateScore if name == "sa" else getattr(library, _RDKIT.get(name, name))
    )
    return measure


@lru_cache(maxsize=1)
def _sa_score() -> ModuleType:
    """RDKit's contributed SA score, which is a script beside the package and not a module of it."""
    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("rdkit_contrib_sascorer", path)
    if not path.exists() or spec is None or spec.loader is None:
        raise InputError(
            "this build of RDKit lacks Contrib/SA_Score, which the property 'sa' needs; `pip install rdkit` brings it"
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
