"""Readers: one item per data line whatever the file, and a sentence for every file that cannot be read."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphinv.data import file_sha256, read_columns, read_smiles
from graphinv.data._text import table_rows
from graphinv.errors import InputError

DATA = os.environ.get("GRAPHINV_DATA_DIR")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.smi", "a.txt", "a.smiles", "a.SMI", "a", "a.smi.gz"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [b"", b"END"])
def test_text_files_yield_the_first_token_of_each_line(name: str, end: bytes, last: bytes, tmp_path: Path) -> None:
    content = end.join([b"\xef\xbb\xbfCCO", b"C ethane", b"", b"  N\tammonia x", b"C\xc2\xb5", b"   "]) + end
    if last:
        content = content[: -len(end)]
    lines = list(read_smiles(write(tmp_path / name, content)))
    assert lines == ["CCO", "C", "", "N", "Cµ", ""]


def test_text_files_yield_another_token_by_number(tmp_path: Path) -> None:
    assert list(read_smiles(write(tmp_path / "a.smi", b"id1 CCO\nid2\n"), column=1)) == ["CCO", ""]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv"])
def test_tables_yield_the_column_by_name_or_number(name: str, tmp_path: Path) -> None:
    mark = b"\t" if ".tsv" in name else b","
    rows = [[b"id", b" SMILES ", b"note"], [b"1", b"CCO", b'"a ""b"""'], [b"2"], [], [b"3", b" C ", b"x"]]
    path = write(tmp_path / name, b"\r\n".join(mark.join(row) for row in rows))
    for column in ("smiles", "Smiles", 1):
        assert list(read_smiles(path, column=column)) == ["CCO", "", "", "C"]  # type: ignore[arg-type]
    assert list(read_smiles(path, column="note")) == ['a "b"', "", "", "x"]
    assert list(read_smiles(path, column=None)) == ["1", "2", "", "3"]


def test_a_table_without_header_is_read_when_told_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"CCO\nC\n")
    assert list(read_smiles(path, header=False)) == ["CCO", "C"]
    with pytest.raises(InputError, match="--no-header"):
        list(read_smiles(path))


def test_a_missing_column_lists_the_columns_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"id,mol\n1,C\n")
    with pytest.raises(InputError, match="no column 'smiles'; its columns are id, mol"):
        list(read_smiles(path))
    with pytest.raises(InputError, match="no column 2; it has 2"):
        list(read_smiles(path, column=2))


def test_standard_input_is_read_like_a_text_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"CCO a\n\nC\n")))
    assert list(read_smiles("-")) == ["CCO", "", "C"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(InputError, match="standard input is empty"):
        list(read_smiles("-"))


def test_a_path_that_cannot_be_read_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_smiles(tmp_path / "absent.smi")
    with pytest.raises(InputError, match="is a folder"):
        read_smiles(tmp_path)
    with pytest.raises(InputError, match="suffix .sdf; readable are .smi"):
        read_smiles(write(tmp_path / "a.sdf.gz", b"x"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.smi", b"", "is empty"),
        ("a.csv", b"", "is empty"),
        ("a.smi.gz", b"", "is empty"),
        ("a.smi", b"C\nC\0C\n", "line 2 is not text"),
        ("a.csv", b"smiles\nC\0C\n", "line 2 is not text"),
        ("a.smi", gzip.compress(b"CCO\n", mtime=0), "is not UTF-8 text but gzip"),
        ("a.smi.gz", bz2.compress(b"CCO\n"), "is not UTF-8 text but bzip2"),
        ("a.csv", b"PK\x03\x04" + bytes(30), "is not UTF-8 text but zip"),
        ("a.csv", "smiles\nCCO\n".encode("utf-16"), "is not UTF-8 text but UTF-16"),
        ("a.smi", "CCO\n".encode("utf-16-le"), "line 1 is not text"),
        ("a.smi", b"\x7fELF\x02\x01\x01" + bytes(8), "line 1 is not text"),
    ],
)
def test_files_that_are_not_text_are_named_with_their_line(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        list(read_smiles(write(tmp_path / name, content)))


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\n\r"])
@pytest.mark.parametrize("name", ["a.smi", "a.smi.gz", "a.csv", "a.tsv", "-"])
def test_lines_end_as_they_like(end: bytes, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, notes = end.join([b"smiles", b"CCO", b"C", b"N"]) + end, list[str]()
    if name == "-":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    lines = list(read_smiles(name if name == "-" else write(tmp_path / name, content), notes=notes))
    assert [line for line in lines if line not in ("", "smiles")] == ["CCO", "C", "N"]
    assert len(notes) == (b"\r" in end and end != b"\r\n")
    assert all("lines end with CR" in note for note in notes)


@pytest.mark.parametrize("wrong", [b"\xe9", b"\xff\xfe", b"\xed\xa0\x80", b"\xc3"])
def test_a_line_that_is_not_utf8_costs_no_other(wrong: bytes, tmp_path: Path) -> None:
    notes: list[str] = []
    path = write(tmp_path / "a.smi", b"CCO ethanol\nCCN am" + wrong + b"ne\nC" + wrong + b"C x\nCCC\n")
    lines = list(read_smiles(path, notes=notes))
    assert (lines[0], lines[1], lines[3], len(lines)) == ("CCO", "CCN", "CCC", 4) and not lines[2].isascii()
    assert notes == [f"{path}: 2 lines are not UTF-8 text"]
    table = write(tmp_path / "a.csv", b"smiles,name\nCCO,a\nCCN," + wrong + b"\nCCC," + b"b\n")
    assert list(read_smiles(table)) == ["CCO", "CCN", "CCC"]
    assert list(read_smiles(write(tmp_path / "b.csv", b"\xef\xbb\xbfsmiles\nC\n"))) == ["C"]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("cells", ['2|CCO|"open', '"2|CCO|x', '2|"CCO|x', '2|CCO|"a" b', '2|CCO|""open"'])
@pytest.mark.parametrize("also", [None, '9|CCO|"later', '9|CCO|later"', '9|CCO|"a ""closed"" one"'])
def test_a_quote_that_does_not_close_swallows_no_line(
    delimiter: str, cells: str, also: str | None, tmp_path: Path
) -> None:
    rows = ["id|smiles|note", "1|CC|", cells, *(f"{k}|{'C' * k}|x" for k in range(3, 9))]
    rows += [also] if also else []
    path = tmp_path / ("a.tsv" if delimiter == "\t" else "a.csv")
    path.write_text("\n".join(rows).replace("|", delimiter) + "\n")
    notes: list[str] = []
    lines = list(read_smiles(path, notes=notes))
    told = "do not close" in "".join(notes) or "join lines" in "".join(notes)
    assert told and (len(lines) == len(rows) - 1 or "quotes join lines; the most, " in "".join(notes))
    if also is None:
        assert len(lines) == len(rows) - 1 and lines[2:] == ["C" * k for k in range(3, 9)]


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("size", [131_072, 200_000, 2_000_000])
def test_a_long_cell_elsewhere_is_no_matter(quote: str, size: int, tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    content = f"smiles,note\nCCO,a\nCCN,{quote}{'x' * size}{quote}\nC,b\n"
    assert list(read_smiles(write(tmp_path / "a.csv", content.encode()))) == ["CCO", "CCN", "C"]
    assert csv.field_size_limit() == limit


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\x1c"), max_size=6), min_size=2,
                         max_size=4), min_size=1, max_size=6), st.sampled_from([",", "\t"]))  # fmt: skip
def test_tables_that_are_written_by_the_rules_come_back(rows: list[list[str]], delimiter: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows([["a,", "b,"], *rows])
        assert list(table_rows(path, delimiter)) == [["a,", "b,"], *rows]


@given(st.text(st.sampled_from('a,"\n'), min_size=1, max_size=60))
def test_every_line_of_any_table_is_in_some_row(content: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_text(content)
        notes: list[str] = []
        rows = list(table_rows(path, ",", notes))
    lines = content.removesuffix("\n").split("\n")
    joined = sum(cell.count("\n") for row in rows for cell in row)
    assert len(rows) + joined == len(lines)
    assert sum("".join(row).count("a") for row in rows) == content.count("a")
    assert ("join lines" in "".join(notes)) == (joined > 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-4],
        lambda whole: whole[:100] + b"\0" * 50 + whole[150:],
        lambda whole: whole + b"trailing",
        lambda whole: b"CCO\nC\n",
    ],
)
@pytest.mark.parametrize("name", ["a.smi.gz", "a.csv.gz"])
def test_damaged_gzip_files_are_refused(damage: Callable[[bytes], bytes], name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(damage(gzip.compress(b"smiles\n" + b"\n".join(b"C" * (i % 90) for i in range(5000)))))
    with pytest.raises(InputError, match="damaged or truncated gzip"):
        list(read_smiles(path))


def test_numeric_columns_are_float64_with_nan_for_empty_cells(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"smiles,gap,u0\nC,0.25,-40.1\nN,,1e3\nO\n")
    columns = read_columns(path, ["U0", "gap"])
    assert list(columns) == ["U0", "gap"] and str(columns["gap"].dtype) == "torch.float64"
    assert columns["U0"].tolist()[:2] == [-40.1, 1000.0] and columns["gap"][0] == 0.25
    assert math.isnan(columns["gap"][1]) and math.isnan(columns["U0"][2])
    with pytest.raises(InputError, match="line 2, column smiles: 'C' is no number"):
        read_columns(path, ["smiles"])
    with pytest.raises(InputError, match="has no columns"):
        read_columns(write(tmp_path / "a.smi", b"C\n"), ["gap"])


def test_file_sha256_is_of_the_stored_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.smi.gz", b"C\n" * 10)
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(InputError, match="cannot read"):
        file_sha256(tmp_path / "absent")


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="GRAPHINV_DATA_DIR is not set")
def test_real_files_have_the_documented_number_of_lines() -> None:
    folder = Path(str(DATA))
    assert sum(1 for _ in read_smiles(folder / "qm9/qm9.csv.gz")) == 133_885
    assert sum(1 for _ in read_smiles(folder / "zinc250k/250k_rndm_zinc_drugs_clean.smi.gz")) == 249_456
    assert sum(1 for _ in read_smiles(folder / "zinc250k/test.csv.gz", header=False)) == 5_000
    assert next(iter(read_smiles(folder / "molnet/bbbp.csv.gz"))).startswith("[Cl]")
