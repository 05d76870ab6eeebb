"""SMILES and numbers out of text files, one data line at a time, gzip or not.

Every data line yields exactly one item, an empty line an empty text, so that line numbers stay true and whoever
counts rejects can count them all. Nothing here knows chemistry.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from graphinv.data._text import stdin_lines, table_rows, text_lines
from graphinv.errors import InputError

__all__ = ["file_sha256", "read_columns", "read_rows", "read_smiles"]

_TABLES = {".csv": ",", ".tsv": "\t"}
_TEXTS = (".smi", ".smiles", ".txt", ".ism", "")


def read_smiles(
    path: str | os.PathLike[str],
    column: str | int | None = "smiles",
    header: bool = True,
    notes: list[str] | None = None,
) -> Iterator[str]:
    """Yield the SMILES of each data line of a file, "" for an empty one; "-" is standard input.

    .smi, .smiles, .txt and standard input: the first blank-separated token, or token ``column`` if it is a number.
    .csv and .tsv: the column of that name in any case, or of that 0-based number; None is the first column. A .csv
    whose first line holds semicolons and no comma is split by semicolons.
    ``header=False`` says a table has no header line; then a column name means the first column. Each may be .gz.
    Lines end with CR, LF or both. Of a line that is not UTF-8 the wrong bytes become surrogates; a line of a table
    whose quotes do not close is read as if it had none. ``notes`` are told so, once all lines are read.

    Raises:
        InputError: the file is missing, empty, no text (NUL bytes, a spreadsheet, UTF-16), a damaged gzip file, of an
            unknown kind, or has no such column. A file that cannot be found is reported at once, the rest when its
            line is read.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = file.write_text("id,SMILES\\n1,CCO\\n2,C\\n")
        >>> list(read_smiles(file))
        ['CCO', 'C']
    """
    if str(path) == "-":
        return _tokens(stdin_lines(notes), column)
    kind = _kind(Path(path))
    if kind in _TABLES:
        return _table_column(table_rows(Path(path), _TABLES[kind], notes), Path(path), column, header)
    return _tokens(text_lines(Path(path), notes), column)


def read_columns(path: str | os.PathLike[str], columns: Sequence[str]) -> dict[str, Tensor]:
    """Return the named columns of a .csv or .tsv file (.gz or not) as ``[lines]`` float64, NaN where empty.

    Raises:
        InputError: as ``read_smiles``, or a cell is no number.
    """
    file = Path(path)
    if _kind(file) not in _TABLES:
        raise InputError(f"{file} has no columns; expected a .csv or .tsv file with a header line")
    rows = table_rows(file, _TABLES[_kind(file)])
    names = next(rows)
    places = [_find_column(file, names, name) for name in columns]
    values: list[list[float]] = [[] for _ in places]
    for line, cells in enumerate(rows, start=2):
        for place, numbers in zip(places, values, strict=True):
            cell = cells[place].strip() if place < len(cells) else ""
            try:
                numbers.append(float(cell) if cell else math.nan)
            except ValueError as error:
                raise InputError(f"{file}, line {line}, column {names[place]}: {cell!r} is no number") from error
    return {name: torch.tensor(column, dtype=torch.float64) for name, column in zip(columns, values, strict=True)}


def read_rows(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    column: str | int | None = "smiles",
    header: bool = True,
    notes: list[str] | None = None,
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the SMILES of each data line of a table and the texts of its cells in ``columns``, "" where there is none.

    The arguments and what is read are those of ``read_smiles``; ``columns`` are names of the header line, in any case.

    Raises:
        InputError: as ``read_smiles``; the file is no .csv or .tsv with a header line, or lacks one of the columns.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = file.write_text("SMILES,logP\\nCCO,-0.14\\nC,\\n")
        >>> list(read_rows(file, ["logp"]))
        [('CCO', ('-0.14',)), ('C', ('',))]
    """
    file = Path(path)
    if str(path) == "-" or _kind(file) not in _TABLES or not header:
        raise InputError(f"{path} has no named columns; expected a .csv or .tsv file with a header line")
    return _table_rows(table_rows(file, _TABLES[_kind(file)], notes), file, columns, column)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the sha256 (hex) of the bytes of a file as it is stored.

    Raises:
        InputError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def _kind(path: Path) -> str:
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if not path.exists():
        raise InputError(f"{path} does not exist; give a SMILES file (.smi, .txt, .csv, each also .gz) or - for stdin")
    kind = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    if kind not in _TEXTS and kind not in _TABLES:
        raise InputError(f"{path} has suffix {kind}; readable are {', '.join((*_TEXTS[:-1], *_TABLES))}, each also .gz")
    return kind


def _tokens(lines: Iterator[str], column: str | int | None) -> Iterator[str]:
    place = column if isinstance(column, int) else 0
    for line in lines:
        tokens = line.split(None, place + 1)
        yield tokens[place] if place < len(tokens) else ""


def _table_column(rows: Iterator[list[str]], path: Path, column: str | int | None, header: bool) -> Iterator[str]:
    place = column if isinstance(column, int) else 0
    if header:
        names = next(rows)
        place = place if column is None else _find_column(path, names, column)
    for cells in rows:
        yield cells[place].strip() if place < len(cells) else ""


def _table_rows(
    rows: Iterator[list[str]], path: Path, columns: Sequence[str], column: str | int | None
) -> Iterator[tuple[str, tuple[str, ...]]]:
    names = next(rows)
    place, *places = (0 if name is None else _find_column(path, names, name) for name in (column, *columns))
    for cells in rows:
        texts = [cells[p].strip() if p < len(cells) else "" for p in (place, *places)]
        yield texts[0], tuple(texts[1:])


def _find_column(path: Path, names: Sequence[str], column: str | int) -> int:
    lowered = [name.strip().lower() for name in names]
    if isinstance(column, int):
        if 0 <= column < len(names):
            return column
        raise InputError(f"{path} has no column {column}; it has {len(names)}, counted from 0")
    if column.lower() in lowered:
        return lowered.index(column.lower())
    if len(names) == 1:
        raise InputError(
            f"{path} has one column and its first line is {names[0]!r}, not {column!r}; "
            f"if that line is data, say so with --no-header (header=False)"
        )
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    raise InputError(f"{path} has no column {column!r}; its columns are {shown}; choose one with --column")
