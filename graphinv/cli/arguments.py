"""What the verbs share in reading their arguments."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

__all__ = ["column_of", "make_parser"]


def make_parser(verb: str, description: str) -> ArgumentParser:
    """Return the parser of ``graphinv VERB``."""
    return ArgumentParser(prog=f"graphinv {verb}", description=description)


def column_of(values: Any) -> str | int:
    """Return --column as a number where it is one.

    Example:
        >>> from types import SimpleNamespace
        >>> column_of(SimpleNamespace(column="3")), column_of(SimpleNamespace(column="smiles"))
        (3, 'smiles')
    """
    text: str = values.column
    return int(text) if text.isdecimal() else text
