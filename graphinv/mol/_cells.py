"""The cells of a table beside its SMILES, read as numbers while the lines go by.

A cell that is empty is NaN; one that is no number is NaN too and counted, since a table is seldom without any.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from graphinv.errors import InputError

__all__ = ["Cells"]


class Cells:
    """Numbers of the columns ``names``, one of each a line.

    Raises:
        InputError: a name is repeated, or is "smiles", the column of the texts.

    Example:
        >>> cells = Cells(["a"])
        >>> list(cells.lines([("CC", ("1",)), ("C", ("?",)), ("O", ("",))]))
        ['CC', 'C', 'O']
        >>> kept = torch.tensor([0, 1])
        >>> cells.numbers(kept)["a"].tolist(), cells.wrong_among(kept)
        ([1.0, nan], {'a': (1, '?')})
    """

    def __init__(self, names: Sequence[str]) -> None:
        if isinstance(names, str) or len(set(names)) != len(names) or "smiles" in names:
            raise InputError(f"expected different names of columns other than smiles, got {names!r}")
        self._names = tuple(names)
        self._numbers = [array("d") for _ in names]
        self._wrong = [array("q") for _ in names]  # lines whose cell is no number
        self._texts: list[list[str]] = [[] for _ in names]

    def lines(self, source: Iterable[Any]) -> Iterator[str]:
        """Yield the lines of rows (line, cells), and keep their numbers; without columns the source is of lines."""
        if not self._names:
            yield from source
            return
        for number, row in enumerate(source):
            if isinstance(row, str) or len(row) != 2 or len(row[1]) != len(self._names):
                raise InputError(
                    f"expected each line with its cells of {', '.join(self._names)}, as graphinv.data.read_rows yields "
                    f"them, got {row!r} in line {number}"
                )
            for place, cell in enumerate(row[1]):
                value = _number(cell)
                if value is None:
                    self._wrong[place].append(number)
                    self._texts[place].append(cell.strip()[:40])
                self._numbers[place].append(math.nan if value is None else value)
            yield row[0]

    def numbers(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the columns ``[G]`` float64 of the lines ``rows`` ``[G]``."""
        return {
            name: torch.tensor(numbers, dtype=torch.float64)[rows.long()]
            for name, numbers in zip(self._names, self._numbers, strict=True)
        }

    def wrong_among(self, rows: Tensor) -> dict[str, tuple[int, str]]:
        """Return, by column, how many cells of the lines ``rows`` are no number, and the first of them."""
        wrong: dict[str, tuple[int, str]] = {}
        for name, lines, texts in zip(self._names, self._wrong, self._texts, strict=True):
            kept = torch.isin(torch.tensor(lines, dtype=torch.int64), rows.long()).nonzero().flatten()
            if kept.numel():
                wrong[name] = (kept.numel(), texts[int(kept[0])])
        return wrong


def _number(cell: str) -> float | None:
    if not cell.strip():
        return math.nan
    try:
        return None if "_" in cell else float(cell)  # Python reads 1_000
    except ValueError:
        return None
