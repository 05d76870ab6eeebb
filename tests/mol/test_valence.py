"""Properties of checks and repair on arbitrary molecules: repair always ends in a molecule and counts its edits."""

from __future__ import annotations

import random

import pytest
from rdkit import Chem, rdBase

from graphinv.mol import add_charges, largest_fragment, repair_smiles, repair_valence, sanitizes

ORDERS = [Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE]


def random_mol(rng: random.Random, nodes: int, density: float) -> Chem.RWMol:
    mol = Chem.RWMol()
    for _ in range(nodes):
        atom = Chem.Atom(rng.choice([6, 7, 8, 9, 15, 16, 17, 5, 35, 53]))
        atom.SetFormalCharge(rng.choice([0, 0, 0, 1, -1, 2]))
        mol.AddAtom(atom)
    for u in range(nodes):
        for v in range(u):
            if rng.random() < density:
                mol.AddBond(u, v, rng.choice(ORDERS))
    return mol


def read(text: str) -> Chem.Mol:
    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(text, sanitize=False)


def total_order(mol: Chem.Mol) -> float:
    return sum(bond.GetBondTypeAsDouble() for bond in mol.GetBonds())


@pytest.mark.parametrize("density", [0.0, 0.2, 0.5, 1.0])
def test_repair_always_gives_a_molecule_and_counts_what_it_did(density: float) -> None:
    rng = random.Random(int(density * 10))
    for _ in range(60):
        mol = random_mol(rng, rng.randrange(1, 13), density)
        before = mol.ToBinary()
        fixed, edits = repair_valence(mol)
        again, same = repair_valence(mol)
        assert sanitizes(fixed) and (edits == 0) == sanitizes(mol)
        assert fixed.GetNumAtoms() == mol.GetNumAtoms() and mol.ToBinary() == before
        pairs = zip(fixed.GetAtoms(), mol.GetAtoms(), strict=True)
        charged = sum(a.GetFormalCharge() != b.GetFormalCharge() for a, b in pairs)
        assert total_order(mol) - total_order(fixed) <= edits <= total_order(mol) - total_order(fixed) + 2 * charged
        assert (again.ToBinary(), same) == (fixed.ToBinary(), edits)
        assert repair_valence(fixed)[1] == 0


@pytest.mark.parametrize("text", ["[CH5]", "[CH4]C", "c1cccc1", "C[C]#C(C)C", "[NH5+]", "c1c[nH2]cc1"])
def test_repair_of_hydrogens_and_broken_aromatic_rings(text: str) -> None:
    fixed, edits = repair_valence(read(text))
    assert edits > 0 and sanitizes(fixed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CN(C)(C)C", "C[N+](C)(C)C"),
        ("CO(C)C", "C[O+](C)C"),
        ("CS(C)C", "C[S+](C)C"),
        ("CN(C)(C)(C)C", "CN(C)(C)(C)C"),
        ("CC(C)(C)(C)C", "CC(C)(C)(C)C"),
        ("C[N-](C)(C)C", "C[N-](C)(C)C"),
        ("CS(C)(=O)=O", "CS(C)(=O)=O"),
    ],
)
def test_a_charge_is_added_for_exactly_one_bond_too_many(text: str, expected: str) -> None:
    assert Chem.MolToSmiles(add_charges(read(text))) == expected


@pytest.mark.parametrize("text", ["c1ccsc1", "c1ccncc1", "Cn1cccc1", "c1ccoc1", "C[n+]1ccccc1", "c1ccccc1"])
def test_aromatic_rings_get_no_charge(text: str) -> None:
    charged = add_charges(read(text))
    assert sanitizes(charged) and repair_valence(read(text))[1] == 0
    assert Chem.GetFormalCharge(charged) == Chem.GetFormalCharge(read(text))


def test_the_highest_bond_is_lowered_first() -> None:
    fixed, edits = repair_valence(read("CC(C)(C)#C"))
    assert edits == 2 and sorted(bond.GetBondTypeAsDouble() for bond in fixed.GetBonds()) == [1, 1, 1, 1]


def test_largest_fragment_counts_heavy_atoms_and_breaks_ties_by_text() -> None:
    assert Chem.MolToSmiles(largest_fragment(read("C.CCO.CC"))) == "CCO"
    for text in ("CCN.CCO", "OCC.NCC"):
        assert Chem.MolToSmiles(largest_fragment(read(text))) == "CCN"
    assert largest_fragment(Chem.RWMol()).GetNumAtoms() == 0
    assert largest_fragment(read("C=F.C")).GetNumAtoms() == 2


@pytest.mark.parametrize("text", ["C1CC", "C=F", "[H]", "[H].C=F", "c1cccc1", "CN(C)(C)C", "[H][H]", "not one", ""])
def test_repair_of_texts_writes_nothing_to_standard_error(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    repair_smiles(text, "charges")
    repair_smiles(text, "valence")
    assert capfd.readouterr().err == ""


def test_an_empty_molecule_needs_no_repair() -> None:
    assert repair_valence(Chem.RWMol())[1] == 0
