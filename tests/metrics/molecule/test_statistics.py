"""Counts are those of the molecules one by one, and add up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rdkit import Chem

from graphinv.errors import InputError
from graphinv.metrics.molecule.statistics import statistics

FIXTURE = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "metrics" / "moses_smallmol.json").read_text(encoding="utf-8")
)
MOLECULES = [*FIXTURE["samples"], *FIXTURE["filtered"]]


def independent_cycles(mol: Chem.Mol) -> int:
    return int(mol.GetNumBonds() - mol.GetNumAtoms() + len(Chem.GetMolFrags(mol)))


def test_counts_are_those_of_the_molecules_one_by_one() -> None:
    found = statistics(MOLECULES)
    mols = [Chem.MolFromSmiles(text) for text in MOLECULES]
    assert sum(found["atom_types"].values()) == sum(mol.GetNumHeavyAtoms() for mol in mols)
    assert sum(found["bond_types"].values()) == sum(mol.GetNumBonds() for mol in mols)
    assert sum(found["heavy_atoms"].values()) == sum(found["rings"].values()) == len(mols)
    assert sum(int(size) * count for size, count in found["heavy_atoms"].items()) == sum(found["atom_types"].values())
    rings = sum(int(number) * count for number, count in found["rings"].items())
    assert rings == sum(found["ring_sizes"].values()) == sum(independent_cycles(mol) for mol in mols)
    assert found["bond_types"]["triple"] == sum(text.count("#") for text in MOLECULES)


def test_order_means_nothing_and_two_sets_add_up() -> None:
    assert statistics(MOLECULES[::-1]) == statistics(MOLECULES)
    left, right = statistics(MOLECULES[:50]), statistics(MOLECULES[50:])
    for name, counts in statistics(MOLECULES).items():
        assert {label: left[name].get(label, 0) + right[name].get(label, 0) for label in counts} == counts


def test_ring_sizes_beyond_eight_share_a_label_and_charges_are_told_apart() -> None:
    found = statistics(["C1CCCCCCC1", "C1CCCCCCCC1", "C1CCCCCCCCCC1", "C[N+](C)(C)C"])
    assert found["ring_sizes"] == {"3": 0, "4": 0, "5": 0, "6": 0, "7": 0, "8": 1, "9+": 2}
    assert found["atom_types"] == {"C": 32, "N+": 1} and list(found["rings"]) == ["0", "1"]


def test_nothing_and_one_atom() -> None:
    empty = statistics([])
    assert empty["heavy_atoms"] == empty["rings"] == empty["atom_types"] == {}
    one = statistics(["C"])
    assert one["heavy_atoms"] == {"0": 0, "1": 1} and not any(one["bond_types"].values())
    with pytest.raises(InputError):
        statistics(["C", "None"])
