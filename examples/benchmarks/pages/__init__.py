"""What pages of docs/benchmarks are made of: sections, each a table of the JSON lines of one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Line = dict[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of a page: title, what the table shows, file of its lines, what makes the table, name of the lines."""

    title: str
    text: str
    file: str
    table: Callable[[list[Line]], str]
    name: str | None = None


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |\n" for line in lines)


def number(value: float | None) -> str:
    """Return a figure with three digits; nothing for what was not measured."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if value >= 1e-4 else f"{value:.2g}"
