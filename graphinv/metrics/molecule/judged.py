"""The molecules that a protocol looks at: as written, after charges, or after repair, and why others are none.

Papers differ here most of all: the same samples have other distances once they are repaired. What was judged is part
of the protocol, and samples that are no molecule stay in the count of all samples.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

from rdkit import Chem, rdBase
from tqdm.auto import tqdm

from graphinv.mol._encode import flat_smiles, parse_smiles, raw_smiles
from graphinv.mol._hydrogens import without_hydrogens
from graphinv.mol.valence import add_charges, largest_fragment, repair_valence

__all__ = ["first_token", "judged", "text_of", "valence_holds", "why_invalid"]

_PROPERTIES, _KEKULIZE = Chem.SanitizeFlags.SANITIZE_PROPERTIES, Chem.SanitizeFlags.SANITIZE_KEKULIZE


def judged(
    smiles: Sequence[str], basis: Literal["written", "relaxed", "corrected"], progress: bool = True
) -> list[str | None]:
    """Return for each sample the canonical SMILES, without stereo and hydrogens, of the molecule judged, or None.

    "written": RDKit reads and sanitises it, all fragments are kept (MOSES). "relaxed": `add_charges`, then the largest
    fragment (DiGress). "corrected": `repair_valence`, then the largest fragment (GDSS, with another repair).

    Example:
        >>> samples = ["OCC.C", "CN(C)(C)C", "C=F", ""]
        >>> judged(samples, "written"), judged(samples, "relaxed"), judged(samples, "corrected")
        (['C.CCO', None, None, None], ['CCO', 'C[N+](C)(C)C', None, None], ['CCO', 'C[N+](C)(C)C', 'CF', None])
    """
    with rdBase.BlockLogs():
        bar = tqdm(smiles, unit=" samples", delay=2.0, disable=None if progress else True, file=sys.stderr)
        return [_judged(first_token(text), basis) for text in bar]


def first_token(text: str) -> str:
    """The SMILES of a line: what stands before the first blank."""
    return (text.split(None, 1) or [""])[0]


def text_of(mol: Chem.Mol) -> str:
    """SMILES of an RDKit molecule that need not sanitise, as it is.

    Example:
        >>> text_of(Chem.MolFromSmiles("C=F", sanitize=False))
        'C=F'
    """
    return raw_smiles(mol)


def _judged(text: str, basis: str) -> str | None:
    mol = parse_smiles(text)
    if mol is not None and mol.GetNumAtoms():
        if basis == "written" or "." not in text:
            return flat_smiles(mol)
        return _finished(largest_fragment(mol))
    mol = _read(text)
    if basis == "written" or mol is None:
        return None
    return _finished(largest_fragment(add_charges(mol) if basis == "relaxed" else repair_valence(mol)[0]))


def _finished(mol: Chem.RWMol) -> str | None:
    try:
        Chem.SanitizeMol(mol)
    except Chem.MolSanitizeException:
        return None
    return flat_smiles(without_hydrogens(mol))


def _read(text: str) -> Chem.Mol | None:
    mol = Chem.MolFromSmiles(text, sanitize=False) if text.isascii() else None
    return mol if mol is not None and mol.GetNumAtoms() else None


def valence_holds(text: str) -> bool:
    """Whether no atom is beyond its valence after charges of +1 on N, O and S: validity of GDSS's tables.

    Example:
        >>> [valence_holds(text) for text in ("CN(C)(C)C", "c1cccc1", "C=F", "None")]
        [True, True, False, False]
    """
    with rdBase.BlockLogs():
        mol = _read(first_token(text))
        if mol is None:
            return False
        return not Chem.DetectChemistryProblems(add_charges(mol), _PROPERTIES)


def why_invalid(text: str) -> str | None:
    """The reason why a sample is not strictly valid, None if it is.

    Example:
        >>> [why_invalid(text) for text in ("CCO", "", "C1C", "C=F", "c1cccc1", "C.C")]
        [None, 'empty', 'not readable as SMILES', 'F beyond its valence', 'no Kekule structure', 'several fragments']
    """
    text = first_token(text)
    if text in ("", "None"):
        return "empty"
    with rdBase.BlockLogs():
        mol = parse_smiles(text)
        if mol is not None and mol.GetNumAtoms():
            return "several fragments" if len(Chem.GetMolFrags(mol)) > 1 else None
        mol = _read(text)
        if mol is None:
            return "not readable as SMILES"
        problems = Chem.DetectChemistryProblems(mol, _PROPERTIES | _KEKULIZE)
    if not problems:
        return "not sanitisable"
    if problems[0].GetType() != "AtomValenceException":
        return "no Kekule structure"
    return f"{mol.GetAtomWithIdx(problems[0].GetAtomIdx()).GetSymbol()} beyond its valence"
