"""Which molecules a medicinal chemist would look at: the filters of MOSES (arXiv:1811.12823).

PAINS patterns come with RDKit; MOSES's own medicinal chemistry filters (MCF) are a file of its repository.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from functools import lru_cache, partial

import torch
from rdkit import Chem
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams
from torch import Tensor

from graphinv.errors import InputError
from graphinv.metrics.molecule._map import each

__all__ = ["PAINS_ONLY", "passes", "read_patterns"]

PAINS_ONLY = "PAINS only: MOSES's mcf.csv was not given"
_ELEMENTS = frozenset({1, 6, 7, 8, 9, 16, 17, 35})
_LARGEST_RING = 7


def passes(
    smiles: Sequence[str],
    patterns: Sequence[str] = (),
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Tensor:
    """Return bool [n]: no charge, no ring beyond 7 atoms, atoms of C N S O F Cl Br H only, no pattern matches.

    RDKit's PAINS are the 480 of MOSES's ``wehi_pains.csv``, revised: of 979 molecules of Tox21 it judges 3 differently,
    of 720 of ZINC250k and of the embedded set none.

    Args:
        smiles: canonical and valid.
        patterns: SMARTS beside PAINS, such as ``read_patterns`` of MOSES's file; none: PAINS only, which passes more.
        workers: processes; None takes the CPUs this process may use.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: a text is no molecule, or a pattern no SMARTS.

    Example:
        >>> passes(["CCO", "C1CCCCCCC1", "C[N+](C)(C)C", "CCI"]).tolist()
        [True, False, False, False]
    """
    wrong = [text for text in patterns if not text or Chem.MolFromSmarts(text) is None]
    if wrong:
        raise InputError(f"expected SMARTS of unwanted groups, got {wrong[0][:80]!r}")
    flags = each(
        partial(_passes, tuple(patterns)), smiles, workers=workers, progress=progress, name="molecules filtered"
    )
    return torch.tensor(flags, dtype=torch.bool)


def _passes(patterns: tuple[str, ...], mol: Chem.Mol) -> bool:
    if any(len(ring) > _LARGEST_RING for ring in mol.GetRingInfo().AtomRings()):
        return False
    if any(atom.GetFormalCharge() != 0 or atom.GetAtomicNum() not in _ELEMENTS for atom in mol.GetAtoms()):
        return False
    full = Chem.AddHs(mol) if patterns else mol  # MCF patterns name hydrogens as atoms, RDKit's PAINS count them
    return not any(full.HasSubstructMatch(query) for query in _queries(patterns)) and not _pains().HasMatch(mol)


def read_patterns(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the SMARTS of MOSES's ``mcf.csv``, column "smarts".

    Raises:
        InputError: the file cannot be read, or a pattern of it.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            patterns = tuple(str(row.get("smarts") or "") for row in csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected MOSES's mcf.csv, {error}") from error
    wrong = [text for text in patterns if not text or Chem.MolFromSmarts(text) is None]
    if wrong or not patterns:
        raise InputError(f"{path}: expected a column 'smarts' of patterns, got {(wrong or ['no row'])[0][:80]!r}")
    return patterns


@lru_cache(maxsize=1)
def _pains() -> FilterCatalog:
    parameters = FilterCatalogParams()
    parameters.AddCatalog(FilterCatalogParams.FilterCatalogs.PAINS)
    return FilterCatalog(parameters)


@lru_cache(maxsize=4)
def _queries(patterns: tuple[str, ...]) -> tuple[Chem.Mol, ...]:
    return tuple(Chem.MolFromSmarts(text) for text in patterns)
