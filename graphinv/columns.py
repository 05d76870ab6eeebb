"""Named columns beside rows: a frozen mapping from a name to a tensor of one value a row, or to one text a row.

What the rows are (nodes, edges, graphs) is the owner's to say. Text is packed, UTF-8 bytes back to back, and decoded
when it is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, overload

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops.pointer import segment_rows

__all__ = ["Column", "Columns", "Text", "check_columns", "join_columns"]


class Text(Sequence[str]):
    """R texts as packed UTF-8, decoded when they are looked at.

    Args:
        characters: ``[C]`` uint8.
        ptr: ``[S+1]`` integer offsets of S texts in it.
        chosen: ``[R]`` int64, which of them, in which order; None is all.

    Example:
        >>> names = Text.pack(["ethanol", "", "water"])
        >>> names[0], names.take(torch.tensor([2, 2])) == ["water", "water"], len(names)
        ('ethanol', True, 3)
    """

    __slots__ = ("characters", "chosen", "ptr")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, characters: Tensor, ptr: Tensor, chosen: Tensor | None = None) -> None:
        self.characters, self.ptr, self.chosen = characters, ptr, chosen

    @classmethod
    def pack(cls, lines: Sequence[str]) -> Text:
        """Return the texts ``lines``, packed."""
        text = [line.encode() for line in lines]
        ptr = torch.tensor([0, *map(len, text)], dtype=torch.int64).cumsum(0)
        characters = torch.frombuffer(bytearray(b"".join(text) or b"\0"), dtype=torch.uint8)
        return cls(characters[: int(ptr[-1])], ptr)

    def take(self, index: Tensor) -> Text:
        """Return the texts ``index`` ``[K]``; nothing is copied."""
        index = index.to(self.ptr.device)
        return Text(self.characters, self.ptr, index if self.chosen is None else self.chosen[index])

    def packed(self) -> Text:
        """Return the same texts, their characters in order and no others: itself if none was chosen."""
        if self.chosen is None:
            return self
        offsets, rows = segment_rows(self.ptr.long(), self.chosen)
        return Text(self.characters[rows], offsets)

    def __len__(self) -> int:
        return self.ptr.numel() - 1 if self.chosen is None else self.chosen.numel()

    def __iter__(self) -> Iterator[str]:
        whole = self.packed()
        text, ends = whole.characters.numpy().tobytes(), whole.ptr.tolist()
        return iter([text[a:b].decode() for a, b in zip(ends[:-1], ends[1:], strict=True)])

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        if isinstance(place, slice):
            return tuple(self.take(torch.arange(len(self))[place]))
        return next(iter(self.take(torch.tensor([range(len(self))[place]]))))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) or not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return Text.pack, (list(self),)  # not all that the file holds

    def __repr__(self) -> str:
        return f"Text({len(self)} texts)"


Column: TypeAlias = "Tensor | Sequence[str]"


class Columns(Mapping[str, Column]):
    """A mapping of names to columns that cannot be changed.

    Example:
        >>> columns = Columns({"logp": torch.tensor([0.5, 1.0]), "name": ("a", "b")})
        >>> columns.take(torch.tensor([1, 0]))["name"]
        ('b', 'a')
    """

    __slots__ = ("_columns",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, columns: Mapping[str, Column] | None = None) -> None:
        self._columns = dict(columns or {})

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"Columns({', '.join(f'{name}: {_described(column)}' for name, column in self._columns.items())})"

    def tensor(self, name: str) -> Tensor | None:
        """Return a column of numbers, None where there is none of that name."""
        column = self._columns.get(name)
        return column if isinstance(column, Tensor) else None

    def numbers(self, change: Callable[[Tensor], Tensor]) -> Columns:
        """Return the columns with ``change`` made to each tensor; text stays as it is."""
        if not self._columns:
            return self
        return Columns({n: change(c) if isinstance(c, Tensor) else c for n, c in self._columns.items()})

    def take(self, index: Tensor) -> Columns:
        """Return the rows ``index`` ``[K]`` of every column."""
        if not self._columns:
            return self
        return Columns({name: _take(column, index) for name, column in self._columns.items()})

    def change(self, columns: Mapping[str, Column | None] | None) -> Columns:
        """Return the columns with others added or put in their place; a column that is None is taken out."""
        if not columns:
            return self
        changed: dict[str, Column | None] = {**self._columns, **columns}
        return Columns({name: column for name, column in changed.items() if column is not None})


def check_columns(kind: str, columns: Mapping[str, Any], rows: int, reserved: Sequence[str] = ()) -> Columns:
    """Return ``columns`` frozen, each a tensor ``[rows, *]`` of numbers or bools, or, of graphs, ``rows`` texts.

    Args:
        kind: what the rows are: "node", "edge" or "graph".
        columns: name -> column; a list of texts is kept as a tuple.
        rows: how many rows each must have.
        reserved: names that mean something else.

    Raises:
        InputError: a name is no printable text or reserved, or a column has other rows or another type.

    Example:
        >>> check_columns("graph", {"name": ["a", "b"]}, 2)["name"]
        ('a', 'b')
    """
    if not isinstance(columns, Mapping):
        raise InputError(f"{kind}_columns must map names to columns, got a {type(columns).__name__}")
    checked: dict[str, Column] = {}
    for name, column in columns.items():
        if not isinstance(name, str) or not name or not name.isprintable() or name in reserved:
            taken = f" other than {', '.join(reserved)}" if reserved else ""
            raise InputError(f"the name of a {kind} column must be printable text{taken}, got {name!r}")
        checked[name] = _checked(f"{kind} column {name!r}", column, rows, kind == "graph")
    return Columns(checked)


def join_columns(kind: str, parts: Sequence[Columns]) -> Columns:
    """Return the columns of all parts, one after the other.

    Raises:
        InputError: only some of them hold a column, or they hold it in forms that do not fit.
    """
    joined: dict[str, Column] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        columns = [part[name] for part in parts if name in part]
        if len(columns) != len(parts):
            raise InputError(
                f"{len(columns)} of {len(parts)} batches carry the {kind} column {name!r}; give it to all or to none"
            )
        forms = {_form(column) for column in columns}
        if len(forms) > 1:
            raise InputError(f"the {kind} column {name!r} is of several forms: {', '.join(sorted(forms))}")
        tensors = [column for column in columns if isinstance(column, Tensor)]
        joined[name] = torch.cat(tensors) if tensors else tuple(text for column in columns for text in column)
    return Columns(joined)


def _checked(what: str, column: Any, rows: int, text: bool) -> Column:
    expected = f"{what} must be a tensor [{rows}, *] of numbers or bools" + (f", or {rows} texts" if text else "")
    if isinstance(column, Tensor):
        if column.dim() == 0 or column.size(0) != rows or column.is_complex() or column.is_quantized:
            raise InputError(f"{expected}; got {_described(column)}")
        return column
    if not text or isinstance(column, str) or not isinstance(column, Sequence) or len(column) != rows:
        raise InputError(f"{expected}; got {_described(column)}")
    if isinstance(column, Text):
        return column
    wrong = next((value for value in column if not isinstance(value, str)), None)
    if wrong is not None or not all(isinstance(value, str) for value in column):
        raise InputError(f"{expected}; got a {type(column).__name__} that holds a {type(wrong).__name__}")
    return tuple(column)


def _take(column: Column, index: Tensor) -> Column:
    if isinstance(column, Tensor):
        return column.index_select(0, index)
    return column.take(index) if isinstance(column, Text) else tuple(column[i] for i in index.tolist())


def _form(column: Column) -> str:
    return f"{column.dtype} {['*', *column.shape[1:]]}" if isinstance(column, Tensor) else "text"


def _described(column: Any) -> str:
    if isinstance(column, Tensor):
        return f"{str(column.dtype).removeprefix('torch.')} {list(column.shape)}"
    return f"{len(column)} texts" if isinstance(column, Text) else f"a {type(column).__name__}"
