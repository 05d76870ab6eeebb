"""SMILES to packed graphs and back, under a vocabulary that is data.

Encoding kekulises: bonds are single, double or triple. Hydrogens are nodes exactly if the vocabulary holds the label
"H"; else heavy atoms are the nodes and hydrogens are implied by valence. Decoding writes the graph as it is: nothing
repaired, no charge, hydrogen node or fragment invented or dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from rdkit import Chem, rdBase
from torch import Tensor

from graphinv.data.store import Vocabulary
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch, pair_values
from graphinv.mol._encode import (
    HYDROGEN,
    REASONS,
    Chunk,
    Limits,
    atom_key,
    encode_chunk,
    flat_smiles,
    parse_atom_label,
    parse_smiles,
    raw_smiles,
)
from graphinv.mol._hydrogens import without_hydrogens

__all__ = ["MoleculeCodec", "canonical_smiles"]

_BOND_TYPES = {"single": Chem.BondType.SINGLE, "double": Chem.BondType.DOUBLE, "triple": Chem.BondType.TRIPLE}


def canonical_smiles(smiles: str, stereo: bool = False) -> str | None:
    """RDKit's canonical aromatic SMILES, without isotopes and atom maps; None if the text is no molecule.

    Example:
        >>> canonical_smiles("C1=CC=CC=C1[C@H](F)O"), canonical_smiles("C(C)(C)(C)(C)C")
        ('OC(F)c1ccccc1', None)
    """
    with rdBase.BlockLogs():
        mol = parse_smiles(smiles, stereo)
    if mol is None:
        return None
    return str(Chem.MolToSmiles(mol)) if stereo else flat_smiles(mol)


class MoleculeCodec:
    """Molecules of one vocabulary as graphs: node types are atoms, edge types are bond orders.

    With scheme "element" formal charges are dropped, so a charged molecule does not come back. With
    "element+charge" ``decode(encode(s))`` is the canonical SMILES of ``s`` without stereo and isotopes,
    except for radicals and hydrogen counts that no valence rule implies (``[CH2]``, ``[SH4]``): these get
    RDKit's implicit hydrogens.

    With "H" in the vocabulary each hydrogen is a node behind the heavy atoms, those of the first atom first. An atom
    then has no other hydrogens, so radicals come back too, and one that lacks a bond is a radical: ``[CH3]``. A
    cation whose charge scheme "element" drops, ``[NH4+]``, keeps its hydrogens and is written as no molecule.
    Hydrogen itself (``[H][H]``, ``[H+]``) and hydrogens on two atoms are not encoded.

    Raises:
        InputError: a label of the vocabulary is no atom or no bond order.

    Example:
        >>> codec = MoleculeCodec(Vocabulary(("C", "O"), ("single", "double", "triple"), "element"))
        >>> codec.decode(codec.encode(["OCC", "C=O"]))
        ['CCO', 'C=O']
        >>> codec = MoleculeCodec(Vocabulary(("H", "C", "O"), ("single", "double", "triple"), "element"))
        >>> graph = codec.encode(["OC"])
        >>> graph.x.tolist(), codec.decode(graph)
        ([2, 1, 0, 0, 0, 0], ['CO'])
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._atoms = [_template(label) for label in vocabulary.nodes]
        for atom in self._atoms:
            atom.SetNoImplicit("H" in vocabulary.nodes)
        expected = tuple(_BOND_TYPES)[: len(vocabulary.edges)]
        if not expected or tuple(vocabulary.edges) != expected:
            raise InputError(f"expected edge types {tuple(_BOND_TYPES)} or their head, got {vocabulary.edges}")
        self._bonds = list(_BOND_TYPES.values())[: len(expected)]

    def encode(self, smiles: Iterable[str]) -> GraphBatch:
        """Encode a few molecules in this process (`build_store` is for files); int64 types, both directions.

        Raises:
            InputError: a line is no molecule of the vocabulary, which is named with the reason.
        """
        lines = list(smiles)
        chunk = encode_chunk(lines, vocabulary_limits(self.vocabulary, keep_smiles=False))
        if chunk.rejects:
            row, reason = chunk.rejects[0]
            raise InputError(
                f"line {row} {lines[row][:80]!r}: {REASONS[reason]}; atoms: {' '.join(self.vocabulary.nodes)} "
                f"({len(chunk.rejects)} of {len(lines)} lines cannot be encoded)"
            )
        return self._pack(chunk)

    def _pack(self, chunk: Chunk) -> GraphBatch:
        table = node_types(self.vocabulary)
        ptr, bond_ptr = _offsets(chunk.nodes.tolist()), _offsets(chunk.bonds.tolist())
        owner = torch.repeat_interleave(torch.arange(len(ptr) - 1), bond_ptr.diff())
        ends = torch.from_numpy(chunk.bond).long() + ptr[owner][:, None]
        return GraphBatch(
            x=table[torch.from_numpy(chunk.key.astype("int64"))],
            edge_index=torch.stack([ends, ends.flip(1)], dim=1).reshape(-1, 2).t().contiguous(),
            edge_attr=torch.from_numpy(chunk.order).long().repeat_interleave(2),
            ptr=ptr,
            edge_ptr=bond_ptr * 2,
        )

    def decode(self, graphs: GraphBatch) -> list[str]:
        """One SMILES per graph: canonical if it sanitises, else the graph as it stands; "" without atoms.

        RDKit's sanitisation may rewrite a pentavalent nitro group to its charged form, as it does on reading. Judge
        the texts with `canonical_smiles`: RDKit's own reader takes a double bond to a hydrogen, ``C=[H]``, for a
        single one.

        Raises:
            InputError: a node or edge type is outside the vocabulary, or a pair of nodes has two bond types.
        """
        with rdBase.BlockLogs():
            return [_write(mol) for mol in self._molecules(graphs)]

    def to_mols(self, graphs: GraphBatch) -> list[Chem.RWMol]:
        """One unsanitised molecule per graph, atoms in node order.

        Raises:
            InputError: as `decode`.
        """
        return list(self._molecules(graphs))

    def _molecules(self, graphs: GraphBatch) -> Iterator[Chem.RWMol]:
        types = _checked_types(graphs.x, len(self._atoms), "node", first=0).tolist()
        ends, orders, bond_ptr = self._bond_list(graphs)
        ptr = graphs.ptr.tolist()
        for k, start in enumerate(ptr[:-1]):
            mol = Chem.RWMol()
            for node in types[start : ptr[k + 1]]:
                mol.AddAtom(self._atoms[node])
            for b in range(bond_ptr[k], bond_ptr[k + 1]):
                mol.AddBond(ends[b][0] - start, ends[b][1] - start, self._bonds[orders[b] - 1])
            yield mol

    def _bond_list(self, graphs: GraphBatch) -> tuple[list[list[int]], list[int], list[int]]:
        """Each bond once, by graph: ends [E/2, 2] with u < v, edge types, offsets."""
        if graphs.edge_attr is None:
            raise InputError("expected an edge type for each bond, got graphs without edge_attr")
        order = _checked_types(graphs.edge_attr, len(self._bonds), "edge", first=1)
        (low, high), pair = (part.cpu() for part in graphs.pairs())
        if bool((low == high).any()):
            raise InputError("expected bonds between two atoms, got a self loop")
        once = pair_values(order, pair, low.numel())
        if once is None:
            raise InputError("expected one bond type for both directions of an edge, got two")
        ptr = graphs.ptr.cpu()
        bond_ptr = torch.searchsorted(low.contiguous(), ptr)
        if bool((high >= ptr[1:].repeat_interleave(bond_ptr.diff())).any()):
            raise InputError("expected edges inside one graph, got one that joins two graphs")
        return torch.stack([low, high], dim=1).tolist(), once.tolist(), bond_ptr.tolist()


def node_types(vocabulary: Vocabulary) -> Tensor:
    """Lookup table [65536] from `atom_key` to node type, -1 outside the vocabulary."""
    table = torch.full((1 << 16,), -1)
    for node, label in enumerate(vocabulary.nodes):
        table[atom_key(*parse_atom_label(label))] = node
    return table


def vocabulary_limits(vocabulary: Vocabulary, max_nodes: int | None = None, keep_smiles: bool = True) -> Limits:
    """What the lines of a file must satisfy to be molecules of ``vocabulary``; with its "H", hydrogens are nodes."""
    keys = frozenset(atom_key(*parse_atom_label(label)) for label in vocabulary.nodes)
    return Limits(
        charges=vocabulary.scheme == "element+charge",
        keys=keys - {HYDROGEN},
        max_nodes=max_nodes,
        max_order=len(vocabulary.edges),
        keep_smiles=keep_smiles,
        hydrogens=HYDROGEN in keys,
    )


def _write(mol: Chem.RWMol) -> str:
    if mol.GetNumAtoms() == 0:
        return ""
    copy = Chem.RWMol(mol)
    try:
        Chem.SanitizeMol(copy)
        return flat_smiles(without_hydrogens(copy))
    except MemoryError:
        raise
    except Exception:  # of sanitisation, and what else RDKit may find in a graph that is no molecule
        return raw_smiles(mol)


def _template(label: str) -> Chem.Atom:
    number, charge = parse_atom_label(label)
    atom = Chem.Atom(number)
    atom.SetFormalCharge(charge)
    return atom


def _checked_types(types: Tensor, count: int, name: str, first: int) -> Tensor:
    if types.dim() != 1 or types.dtype.is_floating_point or types.dtype == torch.bool:
        raise InputError(f"expected integer {name} types [*], got {types.dtype} {list(types.shape)}")
    types = types.long().cpu()
    if types.numel() and not (first <= int(types.min()) and int(types.max()) < first + count):
        span = f"{int(types.min())}..{int(types.max())}"
        raise InputError(f"expected {name} types in {first}..{first + count - 1} of the vocabulary, got {span}")
    return types


def _offsets(counts: list[int]) -> Tensor:
    return torch.tensor([0, *counts], dtype=torch.int64).cumsum(0)
