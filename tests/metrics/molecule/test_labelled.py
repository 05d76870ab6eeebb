"""Graphs of molecules for kernels: what they hold does not depend on how a molecule was written."""

from __future__ import annotations

import pytest
import torch
from rdkit import Chem

from graphinv.errors import InputError
from graphinv.metrics.molecule.labelled import labelled_graphs
from graphinv.metrics.nspdk import nspdk_features

TEXTS = ["CC(=O)Oc1ccccc1C(=O)O", "C", "N#CC1CC1O", "Cn1c(=O)c2c(ncn2C)n(C)c1=O", "[Na+].[Cl-]", "O=[N+]([O-])c1ccoc1"]


def test_atoms_and_bonds_are_those_of_rdkit_in_both_directions():
    graphs = labelled_graphs(TEXTS, progress=False)
    for k, text in enumerate(TEXTS):
        mol, graph = Chem.MolFromSmiles(text), graphs.graph(k)
        assert graph.x.tolist() == [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        assert graph.num_edges == 2 * mol.GetNumBonds()
        for (u, v), kind in zip(graph.edge_index.t().tolist(), graph.edge_attr.tolist(), strict=True):
            bond = mol.GetBondBetweenAtoms(u, v)
            assert kind == (4 if bond.GetIsAromatic() else int(bond.GetBondTypeAsDouble()))


def test_only_aromatic_bonds_change_where_they_count_as_single():
    own, single = labelled_graphs(TEXTS, "own"), labelled_graphs(TEXTS, "single")
    assert torch.equal(torch.where(own.edge_attr == 4, 1, own.edge_attr), single.edge_attr)
    assert torch.equal(own.x, single.x) and torch.equal(own.edge_index, single.edge_index)


@pytest.mark.parametrize("aromatic", ["own", "single"])
def test_another_way_to_write_a_molecule_gives_an_equal_graph(aromatic):
    others = [Chem.MolToSmiles(Chem.MolFromSmiles(text), doRandom=True, canonical=False) for text in TEXTS]
    mine, theirs = (nspdk_features(labelled_graphs(texts, aromatic, progress=False)) for texts in (TEXTS, others))
    assert torch.equal(mine.ids, theirs.ids) and torch.equal(mine.values, theirs.values)


def test_benzene_has_one_label_though_it_has_two_kekule_forms():
    rows = nspdk_features(labelled_graphs(["Cc1ccccc1O", "CC1=CC=CC=C1O", "CC1=C(O)C=CC=C1"]))
    first, second, third = rows.ids.split(rows.ptr.diff().tolist())
    assert torch.equal(first, second) and torch.equal(first, third)


def test_bonds_of_other_orders_have_labels_of_their_own():
    assert labelled_graphs(["N->[Fe]"]).edge_attr.min() > 4


def test_no_molecules_are_no_graphs():
    graphs = labelled_graphs([])
    assert (graphs.num_graphs, graphs.num_nodes, graphs.num_edges) == (0, 0, 0)


@pytest.mark.parametrize("text", ["", "None", "C(C)(C)(C)(C)C", "C\u00e9"])
def test_a_text_that_is_no_molecule_is_an_error_that_names_it(text):
    with pytest.raises(InputError, match="row 1"):
        labelled_graphs(["C", text], progress=False)


def test_an_unknown_way_to_count_aromatic_bonds_is_an_error():
    with pytest.raises(InputError, match="'own' or 'single'"):
        labelled_graphs(["C"], "kekule")
