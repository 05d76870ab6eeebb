"""Lines and table rows of text files as they come: any line ends, gzip or not, with bytes and quotes that are wrong.

Nothing is lost: a line that is not UTF-8 keeps its other characters, a quote that never closes is text like any other.
What was unusual is told in ``notes``. A file that is no text at all is refused.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from graphinv.errors import InputError

__all__ = ["stdin_lines", "table_rows", "text_lines"]

_LONGEST = 1 << 26  # characters of a line
_MOST_LINES = 1000  # of one row of a table, if quotes hold line ends
_BYTES = re.compile("[\udc80-\udcff]")  # as which bytes that are not UTF-8 are read
_ENDS = {"\r": "CR", "\n": "LF", "\r\n": "CR LF"}
_MAGIC = {  # how files begin that are no text
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"PK\x03\x04": "zip (or a spreadsheet)",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\x89HDF": "HDF5",
    b"%PDF": "PDF",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def text_lines(path: Path, notes: list[str] | None = None) -> Iterator[str]:
    """Yield the lines of a text file, gzip or not, without their ends, which are CR, LF, or both.

    Bytes that are not UTF-8 become surrogates, as ``os.fsdecode`` has them.

    Raises:
        InputError: it is missing, empty, damaged or no text, or a line is longer than 2^26 characters.
    """
    try:
        opener: Callable[..., Any] = gzip.open if path.suffix.lower() == ".gz" else open
        with opener(path, "rb") as stream:
            yield from _lines(stream, str(path), notes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is a damaged or truncated gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def stdin_lines(notes: list[str] | None = None) -> Iterator[str]:
    """Yield the lines of standard input as those of a file."""
    return _lines(sys.stdin.buffer, "standard input", notes)


def table_rows(path: Path, delimiter: str, notes: list[str] | None = None) -> Iterator[list[str]]:
    """Yield the cells of each row of a table, of a file as ``text_lines`` reads it.

    A table without commas whose first line holds semicolons is split by these. Quotes hide delimiters and line ends;
    where they do not close as they should, the line is read as if it had none.
    """
    lines = text_lines(path, notes)
    first = next(lines)  # of an empty file: an InputError
    told = [] if notes is None else notes
    if delimiter == "," and ";" in first and "," not in first:
        delimiter = ";"  # of spreadsheets where the comma is the decimal mark
        told.append(f"{path}: split by semicolons")
    waiting: deque[str] = deque([first])

    def take() -> str | None:
        return waiting.popleft() if waiting else next(lines, None)

    number, loose, longest = 0, [], (1, 0)
    while (line := take()) is not None:
        number += 1
        if '"' not in line:
            yield line.split(delimiter)
            continue
        cells, taken = _quoted(line, take, delimiter)
        if cells is None:
            loose.append(number)
            waiting.extendleft(reversed(taken[1:]))
            yield line.split(delimiter)
            continue
        longest = max(longest, (len(taken), number))
        number += len(taken) - 1
        yield cells
    if loose:
        told.append(f"{path}: quotes of {len(loose):,} lines do not close, the first in line {loose[0]}; read as text")
    if longest[0] > 1:
        told.append(f"{path}: quotes join lines; the most, {longest[0]}, from line {longest[1]} on")


def _quoted(line: str, take: Callable[[], str | None], delimiter: str) -> tuple[list[str] | None, list[str]]:
    """Return the cells of a row with quotes that begins with ``line``, None if they do not close; and its lines."""
    taken, quotes = [line], line.count('"')
    cells = _cells(taken, delimiter)
    while cells is None and quotes % 2 and len(taken) < _MOST_LINES and (more := take()) is not None:
        taken.append(more)
        quotes += more.count('"')
        if quotes % 2 == 0:
            cells = _cells(taken, delimiter)
    return cells, taken


def _cells(lines: list[str], delimiter: str) -> list[str] | None:
    limit = csv.field_size_limit(_MOST_LINES * _LONGEST)
    try:
        return next(csv.reader([f"{line}\n" for line in lines], delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    finally:
        csv.field_size_limit(limit)


def _lines(stream: IO[bytes], name: str, notes: list[str] | None) -> Iterator[str]:
    number = wrong = 0
    with _text(stream, name) as text:
        for number, line in enumerate(iter(partial(text.readline, _LONGEST), ""), start=1):
            if not line.isascii() and _BYTES.search(line):
                wrong += 1
            if "\0" in line:
                raise InputError(f"{name}, line {number} is not text: it holds a NUL byte")
            if len(line) == _LONGEST and line[-1] != "\n":
                raise InputError(f"{name}, line {number} has more than {_LONGEST:,} characters; is it a text file?")
            yield line.rstrip("\r\n")
        ends = text.newlines
    if number == 0:
        raise InputError(f"{name} is empty; expected one molecule a line")
    if notes is not None:
        if isinstance(ends, tuple) or ends == "\r":
            told = " and ".join(_ENDS[end] for end in ([ends] if isinstance(ends, str) else ends))
            notes.append(f"{name}: lines end with {told}")
        if wrong:
            notes.append(f"{name}: {wrong:,} lines are not UTF-8 text")


@contextmanager
def _text(stream: IO[bytes], name: str) -> Iterator[io.TextIOWrapper]:
    """Yield the text of a binary stream, which is not closed."""
    buffer: Any = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
    head = buffer.peek(8)[:8]
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            raise InputError(f"{name} is not UTF-8 text but {kind}; expected one molecule a line, or a table")
    text = io.TextIOWrapper(buffer, encoding="utf-8-sig", errors="surrogateescape", newline=None)
    try:
        yield text
    finally:
        text.detach()
