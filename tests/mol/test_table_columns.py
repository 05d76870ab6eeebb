"""Columns beside the SMILES of a table, and properties that RDKit computes, in the store of its molecules."""

from __future__ import annotations

import gzip
import hashlib
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphinv.data import read_rows
from graphinv.errors import InputError
from graphinv.metrics.molecule.properties import properties as measured
from graphinv.mol import build_dataset, build_store

MOLECULES = ["CCO", "c1ccncc1", "C[C@H](N)C(=O)O", "C/C=C/C", "C1CC2CC1CC2", "[NH4+]", "CC(=O)Oc1ccccc1C(=O)O", "C#N"]
CELLS = st.sampled_from(["", " ", "1", "-2.5", "1e-3", "nan", "inf", "n/a", "1_0", "1,5", "<3"])


def number(cell: str) -> float | None:
    """What a cell means, told by hand; None is no number."""
    known = {
        "7": 7.0,
        "": math.nan,
        " ": math.nan,
        "1": 1.0,
        "-2.5": -2.5,
        "1e-3": 1e-3,
        "nan": math.nan,
        "inf": math.inf,
    }
    return known.get(cell)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*MOLECULES, "C1CC", "", "C.C"]), CELLS, CELLS), min_size=1, max_size=20))
def test_every_kept_molecule_has_the_cells_of_its_own_line(rows):
    rows = [("CO", "7", ""), *rows]
    lines = [(smiles, (a, b)) for smiles, a, b in rows]
    store, rejects = build_store(lines, columns=("a", "b"), workers=1, split="none", progress=False)
    kept = [rows[k] for k in store.row.tolist()]
    assert len(kept) + rejects.total == len(rows) == rejects.lines
    for place, name in ((1, "a"), (2, "b")):
        cells = [row[place] for row in kept]
        values = [math.nan if number(cell) is None else number(cell) for cell in cells]
        got = store.graph_columns[name]
        assert got.dtype == torch.float64
        assert torch.equal(got.nan_to_num(nan=-99.0), torch.tensor(values, dtype=torch.float64).nan_to_num(nan=-99.0))
        wrong = [cell for cell in cells if number(cell) is None]
        assert rejects.cells.get(name, (0, "")) == (len(wrong), wrong[0] if wrong else "")
        assert not wrong or f"{len(wrong)} in {name} (such as {wrong[0]!r})" in str(rejects)


@pytest.mark.parametrize("workers", [1, 2])
def test_properties_are_those_of_the_molecules_in_the_store(workers):
    lines = [*MOLECULES, "C1CC"] * (300 if workers > 1 else 1)
    names = ("logp", "qed", "sa", "tpsa", "mw", "rings")
    store, _ = build_store(lines, properties=names, workers=workers, split="none", progress=False)
    theirs = measured(store.smiles(), ("log_p", "qed", "sa", "TPSA", "weight"), workers=1, progress=False)
    for name, other in zip(names, ("log_p", "qed", "sa", "TPSA", "weight"), strict=False):
        assert torch.allclose(store.graph_columns[name], theirs[other], rtol=0, atol=1e-9), name
    assert store.graph_columns["rings"][:8].tolist() == [0, 1, 0, 0, 2, 0, 1, 0]
    assert store.batch([4]).graph_columns["rings"].dtype == torch.int64
    plain, _ = build_store(lines, workers=1, split="none", progress=False)
    bare = store.with_columns(graph=dict.fromkeys(names))
    assert bare.content_hash == plain.content_hash  # measuring changes no molecule


def test_hydrogens_as_nodes_change_no_property():
    few = {"properties": ("mw", "qed"), "workers": 1, "split": "none", "progress": False}
    with_h, without = (build_store(MOLECULES, hydrogens=h, **few)[0].graph_columns for h in (True, False))
    assert torch.equal(with_h["mw"], without["mw"]) and torch.equal(with_h["qed"], without["qed"])


def test_a_column_and_a_property_of_one_name_are_both_kept():
    rows = [("CCO", ("5",))]
    store, _ = build_store(rows, columns=["logp"], properties=["logp"], workers=1, split="none", progress=False)
    assert store.graph_columns["logp"].tolist() == [5.0]
    assert store.graph_columns["logp_rdkit"].tolist() == pytest.approx([-0.0014], abs=1e-3)


def test_tables_are_read_with_their_columns_in_any_case_and_order(tmp_path: Path):
    table = "logP;name;SMILES\n1;a;CCO\n;b;C\n3\n"
    with gzip.open(tmp_path / "a.csv.gz", "wt") as stream:
        stream.write(table)
    (tmp_path / "a.tsv").write_text(table.replace(";", "\t"))
    for file in ("a.csv.gz", "a.tsv"):
        assert list(read_rows(tmp_path / file, ["logp"])) == [("CCO", ("1",)), ("C", ("",)), ("", ("3",))]
    assert list(read_rows(tmp_path / "a.tsv", ["name", "logp"], column=2))[0] == ("CCO", ("a", "1"))
    with pytest.raises(InputError, match="no column 'gap'; its columns are logP, name, SMILES"):
        list(read_rows(tmp_path / "a.tsv", ["gap"]))
    (tmp_path / "a.smi").write_text("CCO\n")
    for source, header in ((tmp_path / "a.smi", True), ("-", True), (tmp_path / "a.tsv", False)):
        with pytest.raises(InputError, match="no named columns; expected a .csv or .tsv file with a header"):
            read_rows(source, ["logp"], header=header)


@pytest.mark.parametrize(("settings_", "lines", "message"), [
    ({"properties": ["logp", "foo"]}, ["C"], "unknown property .foo.; available: logp, qed"),
    ({"properties": ["qed", "qed"]}, ["C"], "asked for twice: qed, qed"),
    ({"columns": ["a", "a"]}, [("C", ("1", "2"))], "different names of columns"),
    ({"columns": ["smiles"]}, [("C", ("1",))], "other than smiles"),
    ({"columns": "a"}, [("C", ("1",))], "different names of columns"),
    ({"columns": ["a"]}, ["C"], "each line with its cells of a, .* in line 0"),
    ({"columns": ["a", "b"]}, [("C", ("1",))], "each line with its cells of a, b"),
    ({"columns": ["ptr"]}, [("C", ("1",))], "other than x, edge_index"),
])  # fmt: skip
def test_wrong_columns_are_refused(settings_, lines, message):
    with pytest.raises(InputError, match=message):
        build_store(lines, workers=1, progress=False, **settings_)


def test_data_sets_are_built_with_columns_and_properties(tmp_path: Path, monkeypatch):
    table = b"smiles,gap\nCCO,0.5\nC,x\nC1C,9\n"
    (tmp_path / "few.csv").write_bytes(table)
    (tmp_path / "few.toml").write_text(
        'name = "few"\ntitle = "t"\nlicence = "l"\ncitation = "c"\nsplit = "none"\ncolumn = "smiles"\nheader = true\n'
        '[vocabulary]\nscheme = "element"\nnodes = ["C", "O"]\nedges = ["single", "double", "triple"]\n'
        '[[files]]\nname = "molecules"\npath = "few.csv"\nrole = "molecules"\n'
        f'sha256 = "{hashlib.sha256(table).hexdigest()}"\nsize = {len(table)}\n'
    )
    monkeypatch.setenv("GRAPHINV_DATA_DIR", str(tmp_path))
    quiet = {"workers": 1, "progress": False}
    store, rejects = build_dataset(tmp_path / "few.toml", columns=["gap"], properties=["mw"], **quiet)
    assert store.graph_columns["gap"].isnan().tolist() == [False, True] and rejects.cells == {"gap": (1, "x")}
    assert store.graph_columns["mw"].tolist() == pytest.approx([46.07, 16.04], abs=0.01)
    assert store.provenance["settings"]["properties"] == ["mw"]
    with pytest.raises(InputError, match="no named columns"):
        build_dataset("smallmol", columns=["gap"], **quiet)
