"""Properties of the store builder: nothing lost, the same result from any number of processes, clear errors."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import graphinv
from graphinv import _processes
from graphinv.data.store import GraphStore, Vocabulary
from graphinv.errors import GraphinvError, InputError
from graphinv.mol import MoleculeCodec, build_store, canonical_smiles
from graphinv.mol import build as build_module
from graphinv.mol._encode import MAX_CHARACTERS

LINES = ["CCO", "", "c1ccccc1N name", "C1CC", "CC.O", "C[N+](C)(C)C", "CCCCCCCCCCCC", "[SiH4]", "CC#N", "  ", "C$C"]
BONDS = ("single", "double", "triple")


def build(lines: list[str], **settings: object) -> tuple[GraphStore, build_module.Rejects]:
    return build_store(lines, **({"workers": 1, "progress": False, "split": "none"} | settings))  # type: ignore[arg-type]


def test_every_line_is_kept_or_rejected_for_a_named_reason(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("C", "N", "O"), BONDS, "element")
    store, rejects = build(LINES, vocabulary=vocabulary, max_nodes=8, rejects_path=tmp_path / "rejects.tsv")
    assert rejects.counts == {
        "unparsable": 1,
        "atom outside the vocabulary": 1,
        "too large": 1,
        "several fragments": 1,
        "empty line": 2,
        "bond outside the vocabulary": 1,
    }
    assert rejects.lines == len(LINES) == rejects.kept + rejects.total
    assert store.row.tolist() == [0, 2, 5, 8]
    assert store.provenance["counts"] == {"lines": 11, "kept": 4, "rejects": rejects.counts, "dropped": rejects.dropped}
    written = [line.split("\t") for line in (tmp_path / "rejects.tsv").read_text().splitlines()]
    assert sorted([int(row) for row, _, _ in written] + store.row.tolist()) == list(range(len(LINES)))
    assert all(text == LINES[int(row)].strip() for row, _, text in written)
    assert [path.name for path in tmp_path.iterdir()] == ["rejects.tsv"]


@pytest.mark.parametrize("scheme", ["element", "element+charge"])
def test_the_store_holds_what_the_codec_encodes(scheme: str) -> None:
    lines = ["CCO", "c1ccncc1", "C[N+](C)(C)C", "[O-]C#N", "C", "F[P-](F)(F)(F)(F)F"]
    store, _ = build(lines, scheme=scheme)
    codec = MoleculeCodec(store.vocabulary)
    batch, expected = store.batch(torch.arange(len(lines))), codec.encode(lines)
    for name in ("x", "edge_index", "edge_attr", "ptr", "edge_ptr"):
        assert torch.equal(getattr(batch, name), getattr(expected, name)), name
    assert store.smiles() == [canonical_smiles(line) for line in lines]
    store.verify()


def test_the_inferred_vocabulary_is_sorted_by_element_then_charge() -> None:
    store, _ = build(["[O-]C", "C[N+](C)(C)C", "C[NH-]", "CN", "CO", "C[OH2+]", "[N-2]C"], scheme="element+charge")
    assert store.vocabulary.nodes == ("C", "N", "N+", "N-", "N-2", "O", "O+", "O-")
    assert store.vocabulary.edges == BONDS
    plain, rejects = build(["[O-]C", "C[N+](C)(C)C"], scheme="element")
    assert plain.vocabulary.nodes == ("C", "N", "O") and rejects.dropped == {"charges": 2}


def test_charges_are_kept_unless_told_otherwise() -> None:
    lines = ["C[N+](=O)[O-]", "CC(=O)[O-]", "C[NH3+]"]
    for store in (build(lines)[0], graphinv.build(lines, split="none")[0]):
        assert store.vocabulary.scheme == "element+charge"
        assert MoleculeCodec(store.vocabulary).decode(store.batch(torch.arange(3))) == list(
            map(canonical_smiles, lines)
        )
    kept, rejects = graphinv.build([*lines, "CCO"], vocabulary=["C", "N", "O"], split="none")
    assert len(kept) == 1 and rejects.counts == {"atom outside the vocabulary": 3}


def test_hydrogen_and_dummy_atoms_never_enter_a_vocabulary() -> None:
    store, rejects = build(["CC", "[H][H]", "[H+]", "*C", "[2H]C"])
    assert store.vocabulary.nodes == ("C",)
    assert rejects.counts == {"atom outside the vocabulary": 3} and store.smiles() == ["CC", "C"]


def test_a_molecule_of_more_than_255_atoms_widens_the_ids() -> None:
    store, _ = build(["C" * 300, "CO"])
    assert store.bond.dtype == torch.int16 and store.node_counts().tolist() == [300, 2]
    assert MoleculeCodec(store.vocabulary).decode(store.batch([0, 1])) == ["C" * 300, "CO"]


@pytest.mark.parametrize("hydrogens", [False, True])
def test_a_line_that_rdkit_would_not_survive_is_too_large(hydrogens: bool) -> None:
    store, rejects = build(["CC", "C" * 2_000_000, "C(" * 20_000, "C" * (MAX_CHARACTERS + 1)], hydrogens=hydrogens)
    assert rejects.counts == {"too large": 3} and len(store) == 1
    with pytest.raises(InputError, match="too large") as failure:
        MoleculeCodec(store.vocabulary).encode(["C" * 2_000_000])
    assert len(str(failure.value)) < 300
    assert build(["C" * MAX_CHARACTERS], hydrogens=hydrogens, keep_smiles=False)[1].kept == 1


def test_metal_complexes_with_dative_bonds_are_rejected_not_misread() -> None:
    _, rejects = build(["CC", "N->[Cu]", "C~O"])
    assert rejects.kept == 1 and rejects.counts == {"bond outside the vocabulary": 2}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_give_the_same_store_in_the_same_order(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [text for n in range(1, 700) for text in ("C" * (n % 20) + "O", "C1CC", "c1ccccc1" + "C" * (n % 7), "")]
    if method == "fork" and sys.platform != "linux":
        pytest.skip("fork is used on Linux only")
    monkeypatch.setattr(build_module, "_CHUNK_LINES", 300)
    monkeypatch.setattr(_processes, "start_method", lambda: method)
    serial, rejects = build(lines)
    parallel, same = build(lines, workers=2)
    assert serial.content_hash == parallel.content_hash and rejects == same


def test_a_script_with_a_guard_runs_and_without_one_is_told(tmp_path: Path) -> None:
    body = (
        "import threading, time\n"
        "def run():\n    from graphinv.mol import build_store\n"
        "    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "    print(build_store(['CC'] * 5000, workers=2, progress=False)[1])\n"
    )
    (tmp_path / "good.py").write_text(body + "if __name__ == '__main__':\n    run()\n")
    (tmp_path / "bad.py").write_text(body + "run()\n")
    environment = os.environ | {"PYTHONPATH": str(Path(build_module.__file__).parents[2])}

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(tmp_path / name)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)

    good, bad = run("good.py"), run("bad.py")
    assert good.stdout.startswith("5,000 lines = 5,000 kept"), good.stderr
    assert bad.returncode != 0 and "lacks `if __name__" in bad.stderr


def test_workers_do_not_import_torch() -> None:
    code = "import sys, graphinv.mol._encode; print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(build_module.__file__).parents[2])}
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout == "False\n"


def test_lines_are_streamed_and_a_failing_source_leaves_no_file(tmp_path: Path) -> None:
    def source():
        yield from ["CC"] * 5000
        raise OSError("cable pulled")

    with pytest.raises(OSError, match="cable"):
        build_store(source(), workers=2, progress=False, rejects_path=tmp_path / "rejects.tsv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        ([], {}, "no molecule in stdin: 0 lines"),
        (["smiles", ""], {"name": "a.csv"}, "no molecule in a.csv: 2 lines = 0 kept .*1 unparsable, 1 empty line"),
        (["C"], {"workers": -1}, "workers"),
        (["C"], {"max_nodes": 0}, "max_nodes"),
        (["C"], {"scheme": "atoms"}, "scheme"),
        (["C"], {"split": "randm"}, "randm"),
        (["C"], {"vocabulary": Vocabulary(("a",), ("b",), "generic")}, "scheme"),
    ],
)
def test_unusable_input_is_explained(lines: list[str], settings: dict, message: str) -> None:
    with pytest.raises(GraphinvError, match=message):
        build(lines, **settings)


def test_zero_kept_lines_still_leave_the_list_of_rejects(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no molecule"):
        build(["C1", "x"], rejects_path=tmp_path / "r.tsv")
    assert (tmp_path / "r.tsv").read_text().count("unparsable") == 2


def test_smiles_are_optional_and_change_nothing_else() -> None:
    lines = ["CCO", "C[N+](C)(C)C", "c1ccncc1"]
    for scheme in ("element", "element+charge"):
        full, _ = build(lines, scheme=scheme)
        bare, _ = build(lines, scheme=scheme, keep_smiles=False)
        assert "smiles" not in bare.graph_columns and torch.equal(full.node_type, bare.node_type)
        assert torch.equal(full.bond, bare.bond) and full.vocabulary == bare.vocabulary


@pytest.mark.data
def test_real_lines_survive_saving(tmp_path: Path) -> None:
    root = os.environ.get("GRAPHINV_DATA_DIR")
    if root is None:
        pytest.skip("GRAPHINV_DATA_DIR is not set")
    with gzip.open(Path(root) / "qm9" / "qm9.csv.gz", "rt") as stream:
        lines = stream.read().split()[1:3001]
    store, rejects = build(lines, scheme="element+charge")
    assert rejects.total == 0
    store.save(tmp_path / "qm9.store")
    again = GraphStore.open(tmp_path / "qm9.store")
    decoded = MoleculeCodec(again.vocabulary).decode(again.batch(torch.arange(len(again))))
    assert decoded == again.smiles() == [canonical_smiles(line) for line in lines]
