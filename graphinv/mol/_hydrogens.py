"""Hydrogens as nodes: appended to packed heavy-atom columns, and taken off an RDKit molecule again.

Node order of a molecule: heavy atoms as RDKit reads them, then the hydrogens of atom 0, of atom 1, ... (that of
RDKit's AddHs). Needs rdkit and numpy only, like all that worker processes run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rdkit import Chem

__all__ = ["attach_hydrogens", "multiply_bonded_hydrogen", "without_hydrogens"]

Bonds = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]


def attach_hydrogens(heavy: Sequence[int], bonds: Bonds, hydrogens: Sequence[int]) -> Bonds:
    """Add the single bonds to hydrogens, numbered behind the heavy atoms of their molecule.

    Args:
        heavy: number of heavy atoms of each molecule ``[G]``.
        bonds: counts ``[G]``, local ends ``[E, 2]`` with u < v, sorted in each molecule, and orders ``[E]``.
        hydrogens: of each heavy atom ``[N]``.

    Example:
        >>> bonds = np.array([1]), np.array([[0, 1]]), np.array([2])  # H2C=O
        >>> counts, ends, orders = attach_hydrogens([2], bonds, [2, 0])
        >>> counts.tolist(), ends.tolist(), orders.tolist()
        ([3], [[0, 1], [0, 2], [0, 3]], [2, 1, 1])
    """
    counts, ends, orders = bonds
    nodes = np.asarray(heavy, np.int64)
    graphs = np.arange(len(nodes))
    each = np.asarray(hydrogens, np.int64)
    start = np.cumsum(nodes) - nodes
    atom = np.repeat(np.arange(len(each)), each)
    graph = np.repeat(graphs, nodes)[atom]
    added = np.bincount(graph, minlength=len(nodes))
    rank = np.arange(len(atom)) - (np.cumsum(added) - added)[graph]
    new = np.stack([atom - start[graph], nodes[graph] + rank], axis=1)
    owner = np.concatenate([np.repeat(graphs, counts), graph])
    pairs = np.concatenate([ends, new])
    order = np.lexsort((pairs[:, 1], pairs[:, 0], owner))
    kinds = np.concatenate([orders, np.ones(len(new), np.int32)])
    return (counts + added).astype(np.int32), pairs[order].astype(np.int32), kinds[order].astype(np.int32)


def without_hydrogens(mol: Chem.Mol) -> Chem.Mol:
    """Imply the hydrogen atoms of a sanitised molecule, except those that its SMILES has to show (``[H][H]``)."""
    if all(atom.GetAtomicNum() != 1 for atom in mol.GetAtoms()):
        return mol
    return Chem.RemoveHs(mol)


def multiply_bonded_hydrogen(text: str) -> bool:
    """Whether a neutral hydrogen has a bond that is not single: RDKit reads ``[H]=C`` as if it were."""
    hydrogens = [a for a in Chem.MolFromSmiles(text, sanitize=False).GetAtoms() if a.GetAtomicNum() == 1]
    bonds = [bond for atom in hydrogens if atom.GetFormalCharge() == 0 for bond in atom.GetBonds()]
    return any(bond.GetBondTypeAsDouble() > 1 for bond in bonds)
