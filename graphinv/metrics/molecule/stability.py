"""Stability of molecules with explicit hydrogens: does each atom have a number of bonds that its element allows?

As in DiGress (arXiv:2209.14734) after EDM (arXiv:2203.17003): charges are not looked at, an aromatic bond counts 1.5.
The table is DiGress's: sulfur is stable with 4 bonds and not with 2, so figures of sulfur compounds say little.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rdkit import Chem, rdBase
from torch import Tensor
from tqdm.auto import tqdm

from graphinv.data.vocabulary import Vocabulary
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.comparison import Comparison
from graphinv.mol._encode import parse_atom_label

__all__ = ["Stability", "graph_stability", "stability"]

# element -> sums of bond orders that count as stable; an element that is not here never is
_ALLOWED: dict[int, tuple[float, ...]] = {
    1: (1,),
    5: (3,),
    6: (4,),
    7: (3,),
    8: (2,),
    9: (1,),
    13: (3,),
    14: (4,),
    15: (3, 5),
    16: (4,),
    17: (1,),
    33: (3,),
    34: (2, 4, 6),
    35: (1,),
    53: (1,),
    80: (1, 2),
    83: (3, 5),
}
_ORDERS = {"single": 1.0, "double": 2.0, "triple": 3.0, "aromatic": 1.5}


@dataclass(frozen=True, eq=False)
class Stability:
    """Atoms of each molecule, hydrogens among them, and how many of them are stable.

    Args:
        stable_of_each: int64 [n].
        atoms_of_each: int64 [n], 0 for a sample that is no molecule.
    """

    stable_of_each: Tensor
    atoms_of_each: Tensor

    @property
    def atoms_stable(self) -> int:
        """Stable atoms of all molecules."""
        return int(self.stable_of_each.sum())

    @property
    def atoms(self) -> int:
        """Atoms of all molecules."""
        return int(self.atoms_of_each.sum())

    @property
    def molecules_stable(self) -> int:
        """Molecules with atoms, all of them stable."""
        return int(self._whole().sum())

    @property
    def molecules(self) -> int:
        """All samples."""
        return len(self.atoms_of_each)

    def of_atoms(self) -> Comparison:
        """The share of stable atoms, in [0, 1], with the samples as their own reference."""
        stable, atoms = self.stable_of_each.double(), self.atoms_of_each.double()

        def of(weights: Tensor) -> float:
            total = float(weights @ atoms)
            return float(weights @ stable) / total if total else 0.0

        return Comparison(of, self.molecules, self.molecules)

    def of_molecules(self) -> Comparison:
        """The share of stable molecules, likewise."""
        whole = self._whole().double()
        return Comparison(lambda weights: float(weights @ whole), self.molecules, self.molecules)

    def _whole(self) -> Tensor:
        return (self.stable_of_each == self.atoms_of_each) & (self.atoms_of_each > 0)


def stability(smiles: Sequence[str], *, progress: bool = True) -> Stability | None:
    """Count stable atoms of SMILES in which every hydrogen is written, as in ``[H]O[H]``.

    A text that cannot be read is a molecule without atoms, which is not stable. None: no more than half of the readable
    texts have a hydrogen atom, so the set was made without them and the measure does not exist.

    Args:
        smiles: as sampled; they need not be valid.
        progress: a bar on stderr, from the third second on.

    Example:
        >>> found = stability(["[H]O[H]", "[H]O", "[H]C([H])([H])[H]"])
        >>> found.atoms_stable, found.atoms, found.molecules_stable, found.molecules
        (9, 10, 2, 3)
        >>> stability(["O", "C"]) is None
        True
    """
    rows, readable, hydrogens = [], 0, 0
    with rdBase.BlockLogs():
        for text in tqdm(smiles, unit=" molecules", delay=2.0, disable=None if progress else True, file=sys.stderr):
            mol = Chem.MolFromSmiles(text, sanitize=False) if text.isascii() else None
            readable += mol is not None and mol.GetNumAtoms() > 0
            hydrogens += mol is not None and any(atom.GetAtomicNum() == 1 for atom in mol.GetAtoms())
            rows.append((0, 0) if mol is None else _counted(mol))
    counts = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2)
    return Stability(counts[:, 0], counts[:, 1]) if 2 * hydrogens > readable else None


def graph_stability(graphs: GraphBatch, vocabulary: Vocabulary) -> Stability | None:
    """Count stable atoms of graphs with hydrogens as nodes; charges of labels are not looked at.

    A graph without nodes is not stable. None: no node is a hydrogen.

    Args:
        graphs: integer ``x`` [N] and ``edge_attr`` [E], every bond in both directions.
        vocabulary: labels of atoms such as "C", "N+", and of bonds: single, double, triple, aromatic.

    Raises:
        InputError: a type is outside the vocabulary, or a label is no atom or no bond.

    Example:
        >>> words = Vocabulary(("H", "O"), ("single",), "element")
        >>> bonds = torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]])
        >>> graph_stability(GraphBatch.single(torch.tensor([1, 0, 0]), bonds, torch.ones(4)), words).atoms_stable
        3
    """
    unknown = [label for label in vocabulary.edges if label not in _ORDERS]
    if unknown or graphs.edge_attr is None:
        raise InputError(f"expected bonds of types {tuple(_ORDERS)}, got {unknown or 'no edge_attr'}")
    numbers = torch.tensor([parse_atom_label(label)[0] for label in vocabulary.nodes])
    orders = torch.tensor([0.0, *(_ORDERS[label] for label in vocabulary.edges)])
    number = numbers[_checked(graphs.x, len(numbers), "node")]
    order = orders[_checked(graphs.edge_attr, len(orders), "edge")]
    if not bool((number == 1).any()):
        return None
    bonds = torch.zeros(graphs.num_nodes).index_add_(0, graphs.edge_index[0].cpu(), order)
    stable = torch.zeros(graphs.num_nodes, dtype=torch.bool)
    for element, allowed in _ALLOWED.items():
        stable |= (number == element) & torch.isin(bonds, torch.tensor(allowed, dtype=bonds.dtype))
    counts = graphs.node_counts().cpu()
    of_each = torch.zeros_like(counts).index_add_(0, graphs.node_graph().cpu(), stable.long())
    return Stability(of_each, counts)


def _counted(mol: Chem.Mol) -> tuple[int, int]:
    """Stable atoms and atoms; the hydrogens of "[CH3]" are atoms too, each with its one bond."""
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    written = [atom.GetNumExplicitHs() for atom in mol.GetAtoms()]
    orders = [float(count) for count in written]
    for bond in mol.GetBonds():
        for end in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()):
            orders[end] += bond.GetBondTypeAsDouble()
    stable = sum(order in _ALLOWED.get(number, ()) for number, order in zip(numbers, orders, strict=True))
    return stable + sum(written), len(numbers) + sum(written)


def _checked(types: Tensor, count: int, name: str) -> Tensor:
    types = types.cpu().long()
    if types.dim() != 1 or bool(((types < 0) | (types >= count)).any()):
        raise InputError(f"expected one {name} type in 0..{count - 1} for each {name}, got {list(types.shape)} values")
    return types
