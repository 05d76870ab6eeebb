"""Hydrogens as nodes: the counts and the order of RDKit's AddHs, round trips, radicals, charges, repair."""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path

import pytest
import torch
from rdkit import Chem

from graphinv.data.manifests import load_manifest, locate
from graphinv.data.readers import read_smiles
from graphinv.data.store import GraphStore, Vocabulary
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.mol import (
    MoleculeCodec,
    build_dataset,
    build_store,
    canonical_smiles,
    largest_fragment,
    repair_smiles,
    repair_valence,
    sanitizes,
)
from graphinv.mol import build as build_module

BONDS = ("single", "double", "triple")
ELEMENTS = Vocabulary(("H", "C", "N", "O", "F"), BONDS, "element")
LINES = [
    "CCO",
    "C",
    "N",
    "FC(F)(F)F",
    "c1cc[nH]c1",
    "C#N",
    "OC1CC2CC1C2",
    "[O-]C=O",
    "C[NH3+]",
    "O=C=O",
    "[2H]C([2H])O",
]


MANIFEST = """
name = "mine"
title = "Mine"
licence = "none stated"
citation = "none"
max_nodes = 3
split = "none"
header = false
column = 0
[vocabulary]
scheme = "element"
nodes = ["C", "O"]
edges = ["single"]
[[files]]
name = "molecules"
path = "a.smi"
role = "molecules"
"""


def build(lines: list[str], **settings: object) -> GraphStore:
    return build_store(lines, **({"workers": 1, "progress": False, "split": "none"} | settings))[0]  # type: ignore[arg-type]


def real_lines(count: int) -> list[str]:
    root = os.environ.get("GRAPHINV_DATA_DIR")
    if root is None or not (Path(root) / "qm9" / "qm9.csv.gz").exists():
        pytest.skip("GRAPHINV_DATA_DIR has no qm9/qm9.csv.gz")
    with gzip.open(Path(root) / "qm9" / "qm9.csv.gz", "rt") as stream:
        lines = [line.strip().split(",")[-1] for line in stream]
    return random.Random(3).sample(lines[1:], count)


def small_lines(count: int) -> list[str]:
    manifest = load_manifest("smallmol")
    lines = [text for file in manifest.files for text in read_smiles(locate(file), manifest.column)]
    return random.Random(3).sample(lines, count)


def star(centre: int, leaves: list[int], orders: list[int]) -> GraphBatch:
    """One atom of type ``centre`` bonded to each of ``leaves``."""
    ends = torch.tensor([[0] * len(leaves), list(range(1, len(leaves) + 1))], dtype=torch.int64)
    return GraphBatch.single(torch.tensor([centre, *leaves]), ends, torch.tensor(orders, dtype=torch.int64))


def assert_equals_rdkit(lines: list[str], store: GraphStore) -> None:
    graphs = store.batch(torch.arange(len(store)))
    ptr, edge_ptr = graphs.ptr.tolist(), graphs.edge_ptr.tolist()
    for k, text in enumerate(lines):
        mol = Chem.MolFromSmiles(text.replace("[2H]", "[H]"))
        Chem.Kekulize(mol, clearAromaticFlags=True)
        mol = Chem.AddHs(mol)
        labels = [store.vocabulary.nodes[i].rstrip("+-") for i in graphs.x[ptr[k] : ptr[k + 1]].tolist()]
        assert labels == [atom.GetSymbol() for atom in mol.GetAtoms()], text
        bonds = {frozenset((b.GetBeginAtomIdx(), b.GetEndAtomIdx())): int(b.GetBondType()) for b in mol.GetBonds()}
        inside = slice(edge_ptr[k], edge_ptr[k + 1])
        ends = (graphs.edge_index[:, inside] - ptr[k]).t().tolist()
        found = zip(map(frozenset, ends), graphs.edge_attr[inside].tolist(), strict=True)
        assert dict(found) == bonds and len(ends) == 2 * len(bonds), text


@pytest.mark.parametrize("scheme", ["element", "element+charge"])
def test_nodes_and_bonds_are_those_of_rdkit_in_its_order(scheme: str) -> None:
    for lines in (LINES, small_lines(300)):
        store = build(lines, scheme=scheme, hydrogens=True)
        assert store.vocabulary.nodes[0] == "H"
        assert_equals_rdkit(lines, store)
        store.verify()


@pytest.mark.data
def test_real_molecules_survive_the_round_trip_and_have_rdkits_hydrogens() -> None:
    lines = real_lines(800)
    store = build(lines, scheme="element+charge", hydrogens=True)
    assert len(store) == len(lines) and store.node_counts().max() <= 29
    decoded = MoleculeCodec(store.vocabulary).decode(store.batch(torch.arange(len(store))))
    assert decoded == store.smiles() == [canonical_smiles(line) for line in lines]
    assert_equals_rdkit(lines, build(lines, hydrogens=True))


def test_embedded_molecules_survive_the_round_trip() -> None:
    lines = small_lines(1500)
    codec = MoleculeCodec(Vocabulary(("H", "C", "N", "O", "F", "S", "Cl"), BONDS, "element"))
    assert codec.decode(codec.encode(lines)) == [canonical_smiles(line) for line in lines]


@pytest.mark.parametrize("text", ["[CH3]", "C[CH]C", "[CH2]", "[O]", "CN(C)[O]", "[SH4]", "C[PH4]", "[CH]=C"])
def test_radicals_and_unusual_hydrogen_counts_come_back(text: str) -> None:
    codec = MoleculeCodec(Vocabulary(("H", "C", "N", "O", "P", "S"), BONDS, "element"))
    assert codec.decode(codec.encode([text])) == [canonical_smiles(text)]


@pytest.mark.parametrize("text", ["C[N+](C)(C)C", "[NH4+]", "CC(=O)[O-]", "[NH3+]CC(=O)[O-]", "C[n+]1cc[nH]c1"])
def test_charged_molecules_come_back_under_the_scheme_with_charges_only(text: str) -> None:
    store = build([text], scheme="element+charge", hydrogens=True)
    codec = MoleculeCodec(store.vocabulary)
    assert codec.decode(store.batch([0])) == [canonical_smiles(text)]
    plain = MoleculeCodec(ELEMENTS)
    (written,) = plain.decode(plain.encode([text]))
    assert written != canonical_smiles(text) and "+" not in written


def test_what_the_graph_lacks_shows_in_its_smiles() -> None:
    codec = MoleculeCodec(ELEMENTS)
    none = torch.zeros(2, 0, dtype=torch.int64)
    apart = GraphBatch.single(torch.tensor([1, 0]), none, torch.zeros(0, dtype=torch.int64))
    graphs = [star(1, [0] * n, [1] * n) for n in range(6)] + [apart, star(0, [0], [1])]
    written = codec.decode(GraphBatch.from_graphs(graphs))
    assert written[:5] == ["[C]", "[CH]", "[CH2]", "[CH3]", "C"] and written[6:] == ["[C].[H]", "[H][H]"]
    assert canonical_smiles(written[5]) is None and written[5].count("[H]") == 5
    halves = star(1, [3, 0], [3, 1])  # an invalid molecule hides no radical: O has three bonds, C its four
    radical = GraphBatch.single(torch.tensor([1, 4, 1]), torch.tensor([[0, 0], [1, 2]]), torch.tensor([2, 1]))
    assert "[H]" in codec.decode(halves)[0] and codec.decode(radical) == ["[C][C]=F"]


def test_the_vocabulary_alone_decides() -> None:
    lines = ["CCO", "CO"]
    asked = build(lines, hydrogens=True, vocabulary=Vocabulary(("C", "O"), BONDS, "element"))
    said = build(lines, vocabulary=Vocabulary(("H", "C", "O"), BONDS, "element"))
    inferred = build(lines, hydrogens=True, scheme="element")
    assert asked.content_hash == said.content_hash == inferred.content_hash
    assert build(lines).vocabulary.nodes == ("C", "O") and build(lines).node_counts().tolist() == [3, 2]
    bare = build(["FC(F)(F)F"], hydrogens=True)
    assert bare.vocabulary.nodes == ("H", "C", "F") and bare.smiles() == ["FC(F)(F)F"]


def test_the_limit_counts_heavy_atoms_and_huge_molecules_keep_their_order() -> None:
    store, rejects = build_store(["CCC", "C"], max_nodes=2, hydrogens=True, split="none", workers=1, progress=False)
    assert rejects.counts == {"too large": 1} and store.node_counts().tolist() == [5]
    lines = ["C" * 300, "CO", "N" + "C" * 120]  # a walk over bonds, a matrix, more than 255 nodes
    store = build(lines, hydrogens=True)
    assert store.node_counts().tolist() == [902, 6, 121 + 243]
    assert_equals_rdkit(lines, store)


@pytest.mark.parametrize("text", ["[H][H]", "[H+]", "[H-]", "[BH2]1[H][BH2][H]1"])
def test_hydrogens_that_no_heavy_atom_carries_are_rejects(text: str) -> None:
    for scheme in ("element", "element+charge"):
        for vocabulary in (None, Vocabulary(("H", "B", "C"), BONDS, scheme)):
            _, rejects = build_store(
                ["C", text], scheme=scheme, vocabulary=vocabulary, hydrogens=True,
                workers=1, split="none", progress=False,
            )  # fmt: skip
            assert rejects.kept == 1 and rejects.total == 1
    with pytest.raises(InputError, match="line 0"):
        MoleculeCodec(ELEMENTS).encode([text])


@pytest.mark.parametrize(
    ("text", "plain"), [("[H]/N=C/C", "N=CC"), ("[H]/C=C/O", "C=CO"), ("O[C@@H](F)/C=N/[H]", "OC(F)C=N")]
)
@pytest.mark.parametrize("hydrogens", [False, True])
def test_hydrogens_written_for_the_stereo_of_a_bond_are_like_any_other(text: str, plain: str, hydrogens: bool) -> None:
    for scheme in ("element", "element+charge"):
        store = build([text, plain], scheme=scheme, hydrogens=hydrogens)
        first, second = store.batch([0]), store.batch([1])
        assert torch.equal(first.x, second.x) and torch.equal(first.edge_index, second.edge_index)
        assert store.smiles() == [canonical_smiles(plain)] * 2
        assert MoleculeCodec(store.vocabulary).decode(first) == [canonical_smiles(text)]


def test_processes_and_smiles_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "_CHUNK_LINES", 200)
    lines = small_lines(700)
    serial = build(lines, hydrogens=True)
    assert serial.content_hash == build(lines, hydrogens=True, workers=2).content_hash
    bare = build(lines, hydrogens=True, keep_smiles=False)
    assert torch.equal(serial.bond, bare.bond) and torch.equal(serial.node_type, bare.node_type)


def test_without_hydrogens_the_embedded_store_is_what_it_was() -> None:
    store, _ = build_dataset("smallmol", workers=1, progress=False)
    assert store.content_hash == "4d2c33245feebd1a14ee295a86567d15d0eb97f1fc4036e0411ebd1733630914"


def test_hydrogens_extend_the_vocabulary_of_a_data_set_whose_limit_counts_heavy_atoms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHINV_DATA_DIR", str(tmp_path))
    (tmp_path / "a.smi").write_text("CCO\nC\nCCCC\n")
    (tmp_path / "mine.toml").write_text(MANIFEST)
    store, rejects = build_dataset(tmp_path / "mine.toml", hydrogens=True, workers=1, progress=False)
    assert store.vocabulary.nodes == ("H", "C", "O") and rejects.counts == {"too large": 1}
    assert store.smiles() == ["CCO", "C"] and store.node_counts().tolist() == [9, 5]


def test_repair_takes_a_hydrogen_from_an_atom_before_another_neighbour() -> None:
    codec = MoleculeCodec(ELEMENTS)
    crowded = star(1, [1, 0, 0, 0, 0], [1, 1, 1, 1, 1])
    (mol,), (text,) = codec.to_mols(crowded), codec.decode(crowded)
    fixed, edits = repair_valence(mol)
    part = largest_fragment(fixed)
    Chem.SanitizeMol(part)
    assert edits == 1 and Chem.MolToSmiles(Chem.RemoveHs(part)) == "[C]C"
    assert repair_smiles(text, "valence") == "[C]C"  # the second carbon has no hydrogens in the graph
    assert canonical_smiles("C=[H]") is None and canonical_smiles("C[H]") == "C"
    ammonium = codec.decode(star(2, [0, 0, 0, 0], [1, 1, 1, 1]))[0]
    assert repair_smiles(ammonium, "charges") == "[NH4+]"


def test_repair_of_random_graphs_with_hydrogens_ends_in_a_molecule() -> None:
    rng, codec = random.Random(5), MoleculeCodec(ELEMENTS)
    for _ in range(150):
        n = rng.randrange(2, 12)
        pairs = [(u, v) for u in range(n) for v in range(u + 1, n) if rng.random() < 0.4]
        ends = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).t()
        types = torch.tensor([rng.choice((1, 1, 2, 3)) for _ in pairs], dtype=torch.int64)
        graph = GraphBatch.single(torch.tensor([rng.choice((0, 0, 1, 2, 3)) for _ in range(n)]), ends, types)
        (mol,) = codec.to_mols(graph)
        fixed, edits = repair_valence(mol)
        assert sanitizes(fixed) and (edits == 0) == sanitizes(mol)
        assert sanitizes(largest_fragment(fixed))
        assert canonical_smiles(repair_smiles(codec.decode(graph)[0], "valence")) is not None
