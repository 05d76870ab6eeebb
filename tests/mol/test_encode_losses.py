"""A molecule that is kept is the one that was read, or what it lost is counted; no line ends a file."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, rdBase

from graphinv.mol import MoleculeCodec, build_store, canonical_smiles
from graphinv.mol._encode import DROPPED, REASONS, Limits, encode_chunk

SEEDS = (
    "CC(=O)Nc1ccc(O)cc1", "C[N+](=O)[O-]", "F/C=C/F", "C[C@H](N)O", "[13CH4]", "[CH3:7]C", "[CH2]C", "[2H]C", "B<-N",
    "[Fe]<-N", "C~C", "C$C", "*C", "[H][H]", "CN1N=N~N1", "[NH4+]", "[SH4]", "[se]1cccc1", "c1cc[nH]c1", "O=[Xe]",
    "C1=CC=C1", "[U]", "C[Pt](N)(N)C", "N#[N+][O-]", "[O-][Cl+3]([O-])([O-])[O-]", "C%10CC%10", "[H]O[H]", "C.C",
)  # fmt: skip
PIECES = st.sampled_from([*"CNOFSPBIcnosp()[]=#$~:-+@/\\.%123H*", "<-", "->", "[H]", "[2H]", "[CH2]", "Cl", "[N+]"])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Molecules, most of them spoilt."""
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(PIECES) + text[at + draw(st.integers(0, 2)) :]
    return text or "C"


def kekulised(text: str) -> str:
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(text)
        Chem.Kekulize(mol, clearAromaticFlags=True)
        return str(Chem.MolToSmiles(Chem.MolFromSmiles(Chem.MolToSmiles(mol, kekuleSmiles=True), sanitize=False)))


@pytest.mark.parametrize("bond", ["<-", "->", "~", "$"])
@pytest.mark.parametrize("ends", [("B", "N"), ("N", "B"), ("[Fe]", "N"), ("N", "[Pt]"), ("C", "C"), ("CC", "OC")])
@pytest.mark.parametrize("scheme", ["element", "element+charge"])
def test_bonds_that_no_type_can_hold_are_rejects(bond: str, ends: tuple[str, str], scheme: str) -> None:
    lines = ["CCO", bond.join(ends), f"C1C{bond}CC1"]
    _, rejects = build_store(lines, scheme=scheme, workers=1, split="none", progress=False)
    assert rejects.kept == 1 and rejects.total == 2 and set(rejects.counts) <= {REASONS[0], REASONS[5]}


@pytest.mark.parametrize(
    ("text", "scheme", "lost"),
    [
        ("C[C@H](N)O", "element", {"stereo marks"}),
        ("F/C=C\\F", "element+charge", {"stereo marks"}),
        ("[13CH3]C", "element", {"isotopes"}),
        ("[2H]C", "element", {"isotopes"}),
        ("[CH3:1]C", "element", {"atom maps"}),
        ("C[N+](=O)[O-]", "element", {"charges"}),
        ("C[N+](=O)[O-]", "element+charge", set()),
        ("C[CH2]", "element", {"radicals"}),
        ("C[CH]C", "element+charge", {"radicals"}),
        ("CO[C@H]C", "element+charge", {"stereo marks", "radicals"}),
        ("[O]", "element+charge", {"radicals"}),
        ("C[SH4]C", "element+charge", {"hydrogen counts"}),
        ("[nH]1cccc1", "element+charge", set()),
        ("C[NH3+]", "element+charge", set()),
        ("[CH4]", "element", set()),
        ("[13C@H](N)(O)[O-]", "element", {"stereo marks", "isotopes", "charges"}),
    ],
)
def test_what_a_molecule_loses_is_counted_by_kind(text: str, scheme: str, lost: set[str]) -> None:
    store, rejects = build_store(["CCO", text, text], scheme=scheme, workers=1, split="none", progress=False)
    assert rejects.kept == 3 and rejects.dropped == {kind: 2 for kind in DROPPED if kind in lost}
    assert [f"{kind} dropped from 2 molecules" for kind in rejects.dropped] == str(rejects).splitlines()[1:]
    assert store.provenance["counts"].get("dropped", {}) == rejects.dropped


def test_hydrogens_as_nodes_keep_radicals() -> None:
    _, rejects = build_store(["C[CH2]"], hydrogens=True, workers=1, split="none", progress=False)
    assert rejects.dropped == {}


@given(st.lists(texts(), min_size=1, max_size=30))
@settings(deadline=None)
def test_what_is_kept_without_a_loss_comes_back(lines: list[str]) -> None:
    store, rejects = build_store(
        [*lines, "CCO"], scheme="element+charge", workers=1, split="none", progress=False, keep_smiles=False
    )
    assert rejects.lines == len(lines) + 1 == rejects.kept + rejects.total
    back = MoleculeCodec(store.vocabulary).decode(store.batch(torch.arange(len(store))))
    for row, text in zip(store.row.tolist()[:-1], back, strict=False):
        expected = canonical_smiles(lines[row])
        assert expected is not None
        lost = encode_chunk([lines[row]], Limits(charges=True)).dropped
        if not lost.keys() & {"radicals", "hydrogen counts"}:
            assert text == expected or kekulised(text) == kekulised(expected), lines[row]


@pytest.mark.parametrize("error", [RuntimeError, ValueError, Chem.KekulizeException, OverflowError])
@pytest.mark.parametrize("place", ["_add_bonds", "_lost", "_measured"])
def test_whatever_rdkit_raises_costs_one_line(
    error: type[Exception], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphinv.mol import _encode

    inner = getattr(_encode._Columns, place)

    def fail(self, *args):  # of the molecule with a fluorine
        mol = next(a for a in args if isinstance(a, Chem.Mol))
        if any(atom.GetAtomicNum() == 9 for atom in mol.GetAtoms()):
            raise error("broken")
        return inner(self, *args)

    monkeypatch.setattr(_encode._Columns, place, fail)
    lines = ["CCO", "CF", "[CH3:1]C", "c1ccccc1F", "N"]
    store, rejects = build_store(lines, workers=1, split="none", progress=False)
    assert rejects.counts == {"unparsable": 2} and store.row.tolist() == [0, 2, 4]
    assert store.smiles() == ["CCO", "CC", "N"]
    store.verify()
