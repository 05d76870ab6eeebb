"""The embedded data set is what its manifest and its script say."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from graphinv.data.manifests import load_manifest, locate

Chem = pytest.importorskip("rdkit.Chem")
MANIFEST = load_manifest("smallmol")
FILE = MANIFEST.file("molecules")


@pytest.fixture(scope="module")
def molecules() -> list[str]:
    with gzip.open(FILE.folder / FILE.path, "rt") as stream:
        return stream.read().splitlines()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = FILE.folder / "smallmol" / "enumerate.py"
    spec = importlib.util.spec_from_file_location("smallmol_enumerate", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def heavy_atoms(smiles: str) -> int:
    return sum(character in "CNOFcno" for character in smiles)


def test_committed_file_has_the_manifests_digest_and_is_found_without_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GRAPHINV_DATA_DIR", raising=False)
    path = locate(FILE, cache_dir=tmp_path, download=False)
    content = gzip.decompress(path.read_bytes())
    assert hashlib.sha256(content).hexdigest() == FILE.sha256
    assert len(content) == FILE.size
    assert path.stat().st_size < 300_000


def test_gzip_header_holds_no_time_and_no_name() -> None:
    header = (FILE.folder / FILE.path).read_bytes()[:8]
    assert header[3] == 0 and header[4:8] == b"\0\0\0\0"


def test_lines_are_distinct_and_sorted_by_size_then_smiles(molecules: list[str]) -> None:
    assert len(set(molecules)) == len(molecules) == 18_500
    assert molecules == sorted(molecules, key=lambda s: (heavy_atoms(s), s))


def test_every_molecule_is_canonical_connected_neutral_and_within_the_vocabulary(molecules: list[str]) -> None:
    for smiles in molecules:
        mol = Chem.MolFromSmiles(smiles)
        assert mol is not None and Chem.MolToSmiles(mol) == smiles and "." not in smiles, smiles
        assert mol.GetNumAtoms() == heavy_atoms(smiles) <= MANIFEST.max_nodes
        for atom in mol.GetAtoms():
            assert atom.GetFormalCharge() == 0 and atom.GetNumRadicalElectrons() == 0, smiles
            assert atom.GetSymbol() in MANIFEST.vocabulary.nodes, smiles


def test_growth_gives_the_committed_molecules_of_up_to_five_atoms(script: ModuleType, molecules: list[str]) -> None:
    grown = [smiles for kept, _ in script.enumerate_levels(5) for smiles in kept]
    assert grown == [smiles for smiles in molecules if heavy_atoms(smiles) <= 5]


def test_written_file_is_deterministic(script: ModuleType, molecules: list[str], tmp_path: Path) -> None:
    assert script.write(tmp_path / "again.smi.gz", molecules) == FILE.sha256
    assert script.write(tmp_path / "twice.smi.gz", molecules) == FILE.sha256
    assert (tmp_path / "again.smi.gz").read_bytes() == (tmp_path / "twice.smi.gz").read_bytes()


@pytest.mark.parametrize(
    "smiles",
    ["C", "CCO", "CC(=O)O", "c1ccccc1", "Cc1ccccc1", "Oc1ccccc1", "Nc1ccccc1", "c1ccoc1", "c1cc[nH]c1", "c1c[nH]cn1",
     "c1ccncc1", "C1CCCCC1", "CC(N)=O", "CC#N", "FC(F)F", "C1CC2CCC1C2", "Fc1ccccn1", "NCC(=O)O"],
)  # fmt: skip
def test_common_molecules_are_there(smiles: str, molecules: list[str]) -> None:
    assert Chem.CanonSmiles(smiles) in set(molecules)


@pytest.mark.parametrize(
    "smiles", ["COOC", "NF", "C=C=C", "C=C=O", "C=CO", "C1=CC1", "OCO", "N=N", "C1#CCCCC1", "FC=O"]
)
def test_unstable_molecules_are_not(smiles: str, molecules: list[str]) -> None:
    assert Chem.CanonSmiles(smiles) not in set(molecules)


def test_growth_filters_are_hereditary(script: ModuleType) -> None:
    filters = script.compile_filters(script.GROWTH_FILTERS)
    rejected = {
        child
        for kept, _ in script.enumerate_levels(3)
        for smiles in kept
        for child in script.children(smiles)
        if script.first_hit(script.kekulized(child), filters)
    }
    assert rejected
    for smiles in rejected:
        for child in script.children(smiles):
            assert script.first_hit(script.kekulized(child), filters), f"{smiles} -> {child}"


def test_a_filter_that_does_not_parse_is_an_error(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="broken"):
        script.compile_filters([("broken", "[", "")])
