"""Does a molecule sanitise, and what is the least that makes it: charges, lower bond orders, one fragment.

All functions leave their argument alone and take unsanitised molecules, of `MoleculeCodec.to_mols` or of
``Chem.MolFromSmiles(text, sanitize=False)``. Nothing is repaired silently: `repair_valence` counts its edits.
Hydrogens may be atoms. A freed valence takes a hydrogen unless its atom forbids implied ones: then it is a radical.
"""

from __future__ import annotations

from typing import Literal

from rdkit import Chem, rdBase

from graphinv.mol._encode import flat_smiles, raw_smiles
from graphinv.mol._hydrogens import without_hydrogens

__all__ = ["add_charges", "largest_fragment", "repair_smiles", "repair_valence", "sanitizes"]

_DEFAULT_VALENCE = {7: 3, 8: 2, 16: 2}
_LOWER = {
    Chem.BondType.QUADRUPLE: Chem.BondType.TRIPLE,
    Chem.BondType.TRIPLE: Chem.BondType.DOUBLE,
    Chem.BondType.DOUBLE: Chem.BondType.SINGLE,
}


def sanitizes(mol: Chem.Mol) -> bool:
    """Whether RDKit's full sanitisation accepts the molecule.

    Example:
        >>> [sanitizes(Chem.MolFromSmiles(s, sanitize=False)) for s in ("C=O", "C=F", "c1cccc1")]
        [True, False, False]
    """
    return _sanitized(mol) is not None


def add_charges(mol: Chem.Mol) -> Chem.RWMol:
    """Give charge +1 to each neutral N, O or S that has exactly one bond order more than 3, 2, 2.

    Aromatic bonds are kekulised first; where that fails, aromatic atoms are left as they are.

    Example:
        >>> Chem.MolToSmiles(add_charges(Chem.MolFromSmiles("CN(C)(C)C", sanitize=False)))
        'C[N+](C)(C)C'
    """
    result = _kekulized(mol)
    for atom in result.GetAtoms():
        usual = _DEFAULT_VALENCE.get(atom.GetAtomicNum())
        if usual is None or atom.GetFormalCharge() != 0 or atom.GetIsAromatic():
            continue
        if sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()) + atom.GetNumExplicitHs() == usual + 1:
            atom.SetFormalCharge(1)
    return result


def repair_valence(mol: Chem.Mol) -> tuple[Chem.RWMol, int]:
    """Make the molecule sanitise and return it, unsanitised, with the number of edits (0: it did already).

    First `add_charges`; then the first atom beyond its valence loses one order of its highest bond (a single bond
    is removed, to a hydrogen atom rather than to another) until no atom is. Hydrogens written on such an atom go
    before its bonds, its charge after them.
    An edit is a charge set, an order lowered or a bond removed. The result is deterministic.

    Example:
        >>> fixed, edits = repair_valence(Chem.MolFromSmiles("CC(C)(C)=O", sanitize=False))
        >>> Chem.MolToSmiles(fixed), edits
        ('CC(C)(C)O', 1)
    """
    if sanitizes(mol):
        return Chem.RWMol(mol), 0
    result = add_charges(mol)
    before = [atom.GetFormalCharge() for atom in mol.GetAtoms()]
    edits = sum(atom.GetFormalCharge() != charge for atom, charge in zip(result.GetAtoms(), before, strict=True))
    edits += _clear_aromatic(result)
    with rdBase.BlockLogs():
        while not sanitizes(result):
            problems = Chem.DetectChemistryProblems(result, Chem.SanitizeFlags.SANITIZE_PROPERTIES)
            _relieve(result, result.GetAtomWithIdx(problems[0].GetAtomIdx()))
            edits += 1
    return result, edits


def largest_fragment(mol: Chem.Mol) -> Chem.RWMol:
    """The fragment with most heavy atoms; ties take the smallest SMILES by alphabet.

    Example:
        >>> Chem.MolToSmiles(largest_fragment(Chem.MolFromSmiles("C.OCC.CCN")))
        'CCN'
    """
    fragments = Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False)
    if len(fragments) < 2:
        return Chem.RWMol(mol)
    return Chem.RWMol(min(fragments, key=lambda part: (-part.GetNumHeavyAtoms(), _smiles(part))))


def _smiles(mol: Chem.Mol) -> str:
    sane = _sanitized(mol)
    return raw_smiles(mol) if sane is None else flat_smiles(without_hydrogens(sane))


def _sanitized(mol: Chem.Mol) -> Chem.RWMol | None:
    copy = Chem.RWMol(mol)
    try:
        with rdBase.BlockLogs():
            Chem.SanitizeMol(copy)
    except Chem.MolSanitizeException:
        return None
    return copy


def _kekulized(mol: Chem.Mol) -> Chem.RWMol:
    copy = Chem.RWMol(mol)
    if not any(bond.GetIsAromatic() for bond in copy.GetBonds()):
        return copy
    try:
        with rdBase.BlockLogs():
            copy.UpdatePropertyCache(strict=False)
            Chem.Kekulize(copy, clearAromaticFlags=True)
    except Chem.MolSanitizeException:
        return Chem.RWMol(mol)
    return copy


def repair_smiles(text: str, repair: Literal["charges", "valence"]) -> str:
    """Return the canonical SMILES of the repaired molecule, or ``text`` if that gives none (or needs no charges).

    Args:
        text: a SMILES, sanitisable or not.
        repair: "charges" as `add_charges`; "valence" as `repair_valence`, then `largest_fragment`.

    Example:
        >>> repair_smiles("CN(C)(C)C", "charges"), repair_smiles("C=F", "valence"), repair_smiles("CO", "charges")
        ('C[N+](C)(C)C', 'CF', 'CO')
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(text, sanitize=False)
        if mol is None or not mol.GetNumAtoms() or (repair == "charges" and sanitizes(mol)):
            return text
        fixed = add_charges(mol) if repair == "charges" else largest_fragment(repair_valence(mol)[0])
        if not sanitizes(fixed):
            return text
        Chem.SanitizeMol(fixed)
        return str(Chem.MolToSmiles(without_hydrogens(fixed)))


def _clear_aromatic(mol: Chem.RWMol) -> int:
    """Make single bonds of the aromatic ones that no kekulisation explains; the number of bonds changed."""
    changed = 0
    for bond in mol.GetBonds():
        if bond.GetIsAromatic() or bond.GetBondType() == Chem.BondType.AROMATIC:
            bond.SetBondType(Chem.BondType.SINGLE)
            bond.SetIsAromatic(False)
            changed += 1
    for atom in mol.GetAtoms():
        atom.SetIsAromatic(False)
    return changed


def _relieve(mol: Chem.RWMol, atom: Chem.Atom) -> None:
    """One edit on an atom beyond its valence: hydrogens written on it, else its highest bond, else its charge."""
    if atom.GetNumExplicitHs() or (atom.GetNoImplicit() and not atom.GetDegree() and not atom.GetFormalCharge()):
        atom.SetNumExplicitHs(0)
        atom.SetNoImplicit(False)
        return
    hydrogen = {bond.GetIdx() for bond in atom.GetBonds() if bond.GetOtherAtom(atom).GetAtomicNum() == 1}
    bonds = sorted(atom.GetBonds(), key=lambda bond: (-bond.GetBondTypeAsDouble(), bond.GetIdx() not in hydrogen))
    if not bonds:
        atom.SetFormalCharge(0)
        return
    lower = _LOWER.get(bonds[0].GetBondType())
    if lower is None:
        mol.RemoveBond(bonds[0].GetBeginAtomIdx(), bonds[0].GetEndAtomIdx())
    else:
        bonds[0].SetBondType(lower)
