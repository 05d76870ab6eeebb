"""What a set of molecules looks like in counts: sizes, atoms, bonds and rings.

Made for pictures of samples over a reference, where the eye finds what a single distance cannot say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rdkit import Chem

from graphinv.metrics.molecule._map import each
from graphinv.mol._encode import atom_label

__all__ = ["statistics"]

_BONDS = {"SINGLE": "single", "DOUBLE": "double", "TRIPLE": "triple", "AROMATIC": "aromatic"}
_RING_SIZES = ("3", "4", "5", "6", "7", "8", "9+")


def statistics(
    smiles: Sequence[str], *, workers: int | None = None, progress: bool = True
) -> dict[str, dict[str, int]]:
    """Count by name, then by label.

    ``heavy_atoms`` and ``rings`` count molecules, every number from 0 to the largest has its label; ``atom_types``
    counts heavy atoms by element and charge, ``bond_types`` bonds between them (single, double, triple, aromatic,
    other), ``ring_sizes`` rings of RDKit's smallest set of smallest rings, labels 3 to 8 and "9+". `properties` gives
    what is continuous.

    Args:
        smiles: canonical and valid.
        workers: processes; None takes the CPUs this process may use.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: a text is no molecule.

    Example:
        >>> counts = statistics(["CO", "c1cc[nH]c1"])
        >>> counts["atom_types"], counts["rings"]
        ({'C': 5, 'N': 1, 'O': 1}, {'0': 1, '1': 1})
    """
    sums: list[Counter[str]] = [Counter() for _ in range(5)]
    for row in each(_counted, smiles, workers=workers, progress=progress, name="molecules counted"):
        for total, counter in zip(sums, row, strict=True):
            total.update(counter)
    heavy, atoms, bonds, sizes, rings = sums
    return {
        "heavy_atoms": _from_zero(heavy),
        "atom_types": dict(sorted(atoms.items())),
        "bond_types": {
            label: bonds[label] for label in (*_BONDS.values(), "other") if label != "other" or bonds[label]
        },
        "ring_sizes": {label: sizes[label] for label in _RING_SIZES},
        "rings": _from_zero(rings),
    }


def _counted(mol: Chem.Mol) -> tuple[Counter[str], ...]:
    atoms = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    rings = [len(ring) for ring in Chem.GetSSSR(mol)]  # the molecule's own ring list is symmetrised, with more rings
    return (
        Counter([str(len(atoms))]),
        Counter(atom_label(atom.GetAtomicNum(), atom.GetFormalCharge()) for atom in atoms),
        Counter(_BONDS.get(str(bond.GetBondType()), "other") for bond in mol.GetBonds()),
        Counter("9+" if size > 8 else str(size) for size in rings),
        Counter([str(len(rings))]),
    )


def _from_zero(counts: Counter[str]) -> dict[str, int]:
    return {str(number): counts[str(number)] for number in range(max(map(int, counts), default=-1) + 1)}
