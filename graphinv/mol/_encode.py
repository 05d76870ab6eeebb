"""From a line of SMILES to plain arrays: run by worker processes, so it needs rdkit and numpy, never torch.

Lines become a `Chunk` of packed columns; a line that gives no molecule is listed with one of `REASONS`, whatever RDKit
thinks of it. Atoms are heavy atoms, hydrogens if asked for. What a kept molecule loses is counted, by `DROPPED`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from graphinv.errors import InputError

try:
    from rdkit import Chem, rdBase

    from graphinv.mol._hydrogens import attach_hydrogens, multiply_bonded_hydrogen
except ImportError as error:
    raise ImportError("graphinv.mol needs RDKit; install it with `pip install rdkit`") from error

__all__ = [
    "DROPPED",
    "MAX_CHARACTERS",
    "REASONS",
    "Chunk",
    "Limits",
    "atom_label",
    "encode_chunk",
    "parse_atom_label",
    "parse_smiles",
]

REASONS = (
    "unparsable",
    "atom outside the vocabulary",
    "too large",
    "several fragments",
    "empty line",
    "bond outside the vocabulary",
)
DROPPED = ("stereo marks", "isotopes", "atom maps", "charges", "radicals", "hydrogen counts")  # of a kept molecule
# RDKit's time grows with the square of the length (0.5 s here), and its writer overruns the stack near 20,000.
MAX_CHARACTERS = 5000
_UNPARSABLE, _ATOM, _LARGE, _FRAGMENTS, _EMPTY, _BOND = range(len(REASONS))

_ISOTOPE, _MAP = re.compile(r"\[\d"), re.compile(r":\d+\]")
_MARKS = (("stereo marks", re.compile(r"[@/\\]")), ("isotopes", _ISOTOPE), ("atom maps", _MAP))
_UNUSUAL = re.compile(r"[~$<>:]")  # bonds that may be none of single, double, triple, or aromatic in a ring
_HYDROGEN = re.compile(r"\[\d*H\b")  # a hydrogen atom
_ATOMS = re.compile(r"\[[^\]]*\]|Cl|Br|[BCNOPSFIbcnops]").findall
_BRACKET = re.compile(r"\[\d*([A-Z][a-z]?|[a-z]{1,2})")
_LABEL = re.compile(r"([A-Z][a-z]?)(?:([+-])(\d*))?")
_FLAT: Any = Chem.SmilesWriteParams()
_FLAT.doIsomericSmiles = False
_ALL_HYDROGENS: Any = Chem.RemoveHsParameters()  # also those that show the stereo of a double bond
_ALL_HYDROGENS.removeDefiningBondStereo, _ALL_HYDROGENS.showWarnings = True, False
# Between these elements RDKit makes no dative bonds of its own, so bond orders can be read from one matrix.
_COVALENT = frozenset({5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53})
_MATRIX_ATOMS = 256  # beyond, the n x n matrix costs more than a walk over the bonds
# A look-up of its own: RDKit's prints a stack to standard error for a symbol it does not know.
_NUMBERS = {str(Chem.GetPeriodicTable().GetElementSymbol(number)): number for number in range(1, 119)}
_ORDERS = {Chem.BondType.SINGLE: 1, Chem.BondType.DOUBLE: 2, Chem.BondType.TRIPLE: 3}
_READABLE = {*_ORDERS, Chem.BondType.AROMATIC}


@dataclass(frozen=True)
class Limits:
    """What a line must satisfy: ``keys`` are `atom_key` values, None for any heavy atom."""

    charges: bool
    keys: frozenset[int] | None = None
    max_nodes: int | None = None  # heavy atoms
    max_order: int = 3
    keep_smiles: bool = True
    hydrogens: bool = False  # the hydrogens that heavy atoms carry become nodes
    properties: tuple[str, ...] = ()  # of `graphinv.mol.descriptors`


@dataclass
class Chunk:
    """Packed columns of the molecules kept from some lines; ``row`` counts from the first of these lines."""

    lines: int
    row: npt.NDArray[np.int32]  # [G]
    nodes: npt.NDArray[np.int32]  # [G] atoms of each molecule
    bonds: npt.NDArray[np.int32]  # [G] bonds of each molecule
    key: npt.NDArray[np.uint16]  # [N] atom_key
    bond: npt.NDArray[np.int32]  # [E, 2] local, u < v
    order: npt.NDArray[np.uint8]  # [E]
    smiles: bytes = b""
    smiles_len: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))  # [G] or empty
    values: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))  # [G, properties]
    rejects: list[tuple[int, int]] = field(default_factory=list)  # (row, index into REASONS)
    dropped: dict[str, int] = field(default_factory=dict)  # kind -> molecules that lost some of it


def atom_key(number: int, charge: int) -> int:
    """Pack atomic number and formal charge into 16 bits."""
    return number * 256 + charge + 128


HYDROGEN = atom_key(1, 0)


def split_key(key: int) -> tuple[int, int]:
    """Undo `atom_key`: (atomic number, formal charge)."""
    return key // 256, key % 256 - 128


def atom_label(number: int, charge: int) -> str:
    """Label of an atom type: element symbol, sign, and the charge if it is more than one.

    Example:
        >>> atom_label(16, 2), atom_label(8, -1), atom_label(6, 0)
        ('S+2', 'O-', 'C')
    """
    symbol = str(Chem.GetPeriodicTable().GetElementSymbol(number))
    if charge == 0:
        return symbol
    size = str(abs(charge)) if abs(charge) > 1 else ""
    return f"{symbol}{'+' if charge > 0 else '-'}{size}"


def parse_atom_label(label: str) -> tuple[int, int]:
    """Atomic number and formal charge of a label.

    Raises:
        InputError: the label is no element symbol with an optional charge.

    Example:
        >>> parse_atom_label("S+2"), parse_atom_label("O-")
        ((16, 2), (8, -1))
    """
    match = _LABEL.fullmatch(label)
    if match is None:
        raise InputError(f"expected an atom label such as 'C', 'N+' or 'S+2', got {label!r}")
    symbol, sign, size = match.groups()
    if symbol not in _NUMBERS:
        raise InputError(f"{label!r} names no chemical element")
    charge = 0 if sign is None else int(size or 1) * (1 if sign == "+" else -1)
    return _NUMBERS[symbol], charge


def parse_smiles(text: str, stereo: bool = False) -> Chem.Mol | None:
    """The sanitised molecule without isotopes and atom maps, or None; ``[H]/N=C/C`` keeps its "H" if ``stereo``."""
    mol = Chem.MolFromSmiles(text) if text.isascii() else None
    hydrogen = mol is not None and _HYDROGEN.search(text)
    if mol is None or (hydrogen and multiply_bonded_hydrogen(text)):
        return None
    if _ISOTOPE.search(text) or _MAP.search(text):
        for atom in mol.GetAtoms():
            atom.SetIsotope(0)
            atom.SetAtomMapNum(0)
        mol = Chem.RemoveHs(mol)  # an isotope of hydrogen is kept as an atom until its label is gone
    return Chem.RemoveHs(mol, _ALL_HYDROGENS) if hydrogen and not stereo else mol


def flat_smiles(mol: Chem.Mol) -> str:
    """Canonical SMILES without stereo marks of a sanitised molecule."""
    return str(Chem.MolToSmiles(mol, _FLAT))


def raw_smiles(mol: Chem.Mol) -> str:
    """SMILES of a molecule that need not sanitise: the same atoms and bonds, no aromaticity."""
    copy = Chem.RWMol(mol)
    copy.UpdatePropertyCache(strict=False)
    Chem.AssignRadicals(copy)  # else an atom without implicit hydrogens is written as if it had them
    Chem.FastFindRings(copy)
    return str(Chem.MolToSmiles(copy))


def encode_chunk(lines: Sequence[str], limits: Limits) -> Chunk:
    """Encode lines of SMILES (the first token of each) in order; the others land in ``rejects``."""
    columns = _Columns(limits)
    with rdBase.BlockLogs():
        for row, line in enumerate(lines):
            try:
                reason = columns.add(row, line)
            except MemoryError:
                raise
            except Exception:  # RDKit has many, and no line may end a file
                reason = _UNPARSABLE
            if reason is not None:
                columns.rejects.append((row, reason))
    return columns.finish(len(lines))


class _Columns:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.rejects: list[tuple[int, int]] = []
        self._rows: list[int] = []
        self._keys: list[list[int]] = []
        self._heavy: list[int] = []  # heavy atoms of each molecule
        self._hydrogens: list[int] = []  # hydrogens of each heavy atom
        self._smiles: list[str] = []
        self._pending: list[npt.NDArray[np.float64]] = []  # bond-order matrices not yet turned into lists of bonds
        self._done: list[tuple[npt.NDArray[np.int32], ...]] = []  # (bonds per molecule, [E, 2], order)
        self._cells = 0
        self._dropped = dict.fromkeys(DROPPED, 0)
        self._values: list[list[float]] = []  # properties of each molecule
        self._measures: list[Callable[[Chem.Mol], float]] = []
        if limits.properties:  # imported on use: RDKit's descriptors take a fifth of a second
            from graphinv.mol.descriptors import measures

            self._measures = measures(limits.properties)

    def add(self, row: int, line: str) -> int | None:
        """Append one molecule, or return the index of the reason why not."""
        tokens = line.split(None, 1)
        if not tokens:
            return _EMPTY
        text = tokens[0]
        if len(text) > MAX_CHARACTERS:
            return _LARGE
        mol = parse_smiles(text)
        if mol is None:
            return _UNPARSABLE
        if "." in text and len(Chem.GetMolFrags(mol)) > 1:
            return _FRAGMENTS
        if self.limits.max_nodes is not None and mol.GetNumAtoms() > self.limits.max_nodes:
            return _LARGE
        numbers = self._numbers(text, mol)
        smiles = flat_smiles(mol) if self.limits.keep_smiles else ""
        # A canonical SMILES without either sign has no charged atom, which saves a walk over the atoms.
        neutral = not self.limits.charges or (smiles and "+" not in smiles and "-" not in smiles)
        charges = () if neutral else [atom.GetFormalCharge() for atom in mol.GetAtoms()]
        keys = [n * 256 + 128 for n in numbers] if neutral else list(map(atom_key, numbers, charges))
        if not (set(keys) <= self.limits.keys if self.limits.keys is not None else min(numbers) > 1):
            return _ATOM
        values = self._measured(mol)
        covalent = _UNUSUAL.search(text) is None and _COVALENT.issuperset(numbers)
        if not covalent and any(bond.GetBondType() not in _READABLE or bond.HasQuery() for bond in mol.GetBonds()):
            return _BOND  # now: kekulising may make a double bond of it
        Chem.Kekulize(mol, clearAromaticFlags=True)
        carried = [atom.GetTotalNumHs() for atom in mol.GetAtoms()] if self.limits.hydrogens else []
        lost = self._lost(text, mol)
        if not self._add_bonds(mol, covalent):  # the last that may fail: what it adds stays
            return _BOND
        for kind in lost:
            self._dropped[kind] += 1
        self._heavy.append(len(keys))
        if self.limits.hydrogens:
            self._hydrogens += carried
            keys += [HYDROGEN] * sum(carried)
        self._rows.append(row)
        self._keys.append(keys)
        self._smiles.append(smiles)
        self._values.append(values)
        return None

    def _lost(self, text: str, mol: Chem.Mol) -> list[str]:
        """Return which of `DROPPED` the kekulised molecule loses, whose hydrogens are made implicit; all need marks."""
        lost = [kind for kind, mark in _MARKS if mark.search(text)]
        if "[" not in text:
            return lost
        atoms = list(mol.GetAtoms())
        if not self.limits.charges and any(atom.GetFormalCharge() for atom in atoms):
            lost.append("charges")
        if not self.limits.hydrogens:
            bound = [a for a in atoms if a.GetNoImplicit() or a.GetNumRadicalElectrons()]
            bound = [a for a in bound if self.limits.charges or not a.GetFormalCharge()]
            lost += {kind for kind in map(_hydrogens_lost, bound) if kind}
        return lost

    def _measured(self, mol: Chem.Mol) -> list[float]:
        """Properties of the molecule that the store holds, which has no stereo marks."""
        if self._measures:
            Chem.RemoveStereochemistry(mol)
        return [float(measure(mol)) for measure in self._measures]

    def _numbers(self, text: str, mol: Chem.Mol) -> list[int]:
        """Atomic numbers [n]; read off the text, which has the molecule's atom order if none was removed."""
        numbers = [_token_number(token) for token in _ATOMS(text)]
        if len(numbers) == mol.GetNumAtoms() and min(numbers) > 1:
            return numbers
        return [atom.GetAtomicNum() for atom in mol.GetAtoms()]

    def _add_bonds(self, mol: Chem.Mol, covalent: bool) -> bool:
        if covalent and mol.GetNumAtoms() <= _MATRIX_ATOMS:
            matrix = Chem.GetAdjacencyMatrix(mol, True)
            if matrix.max() > self.limits.max_order:
                return False
            self._pending.append(matrix)
            self._cells += matrix.size
            if self._cells > 1_000_000:
                self._flush()
            return True
        bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), _ORDERS.get(b.GetBondType(), 4)) for b in mol.GetBonds()]
        if any(order > self.limits.max_order for _, _, order in bonds):
            return False
        self._flush()
        table = np.array(sorted((min(u, v), max(u, v), order) for u, v, order in bonds), np.int32).reshape(-1, 3)
        self._done.append((np.array([len(bonds)], np.int32), table[:, :2], table[:, 2]))
        return True

    def _flush(self) -> None:
        """Turn all pending matrices into lists of bonds at once: the cost is per chunk, not per molecule."""
        if not self._pending:
            return
        sides = np.array([len(matrix) for matrix in self._pending])
        starts = np.cumsum(sides**2) - sides**2
        flat = np.concatenate([matrix.ravel() for matrix in self._pending])
        cell = np.flatnonzero(flat)
        owner = np.searchsorted(starts, cell, side="right") - 1
        u, v = np.divmod(cell - starts[owner], sides[owner])
        upper = u < v
        pairs = np.stack([u[upper], v[upper]], axis=1).astype(np.int32)
        counts = np.bincount(owner[upper], minlength=len(sides)).astype(np.int32)
        self._done.append((counts, pairs, flat[cell[upper]].astype(np.int32)))
        self._pending, self._cells = [], 0

    def finish(self, lines: int) -> Chunk:
        self._flush()
        none = np.zeros(0, np.int32)
        lengths = [len(text) for text in self._smiles] if self.limits.keep_smiles else []
        counts = np.concatenate([none, *(counts for counts, _, _ in self._done)])
        pairs = np.concatenate([none.reshape(0, 2), *(pairs for _, pairs, _ in self._done)])
        order = np.concatenate([none, *(order for _, _, order in self._done)])
        if self.limits.hydrogens:
            counts, pairs, order = attach_hydrogens(self._heavy, (counts, pairs, order), self._hydrogens)
        return Chunk(
            lines=lines,
            row=np.array(self._rows, np.int32),
            nodes=np.array([len(keys) for keys in self._keys], np.int32),
            bonds=counts,
            key=np.array(list(chain.from_iterable(self._keys)), np.uint16),
            bond=pairs,
            order=order.astype(np.uint8),
            smiles="".join(self._smiles).encode(),
            smiles_len=np.array(lengths, np.int32),
            values=np.array(self._values, np.float64).reshape(len(self._rows), len(self._measures)),
            rejects=self.rejects,
            dropped={kind: count for kind, count in self._dropped.items() if count},
        )


def _hydrogens_lost(atom: Chem.Atom) -> str | None:
    """Return what an atom loses that then has the hydrogens that its bonds and its charge imply."""
    count, radical = atom.GetTotalNumHs(), atom.GetNumRadicalElectrons()
    atom.SetNoImplicit(False)
    atom.SetNumExplicitHs(0)
    atom.SetNumRadicalElectrons(0)
    atom.UpdatePropertyCache(False)
    if atom.GetTotalNumHs() == count:
        return None
    return "radicals" if radical else "hydrogen counts"


@lru_cache(maxsize=4096)
def _token_number(token: str) -> int:
    """Atomic number of an atom of a SMILES text, 0 if it is not plainly an element."""
    match = _BRACKET.match(token) if token[0] == "[" else None
    return _NUMBERS.get((match.group(1) if match else token).capitalize(), 0)
