"""Trained generators that come with graphinv: checkpoints in half precision, taken by their name."""

from __future__ import annotations

from pathlib import Path

__all__ = ["names", "path_of"]


def names() -> list[str]:
    """Return the names of the generators that are here."""
    return sorted(file.parent.name for file in Path(__file__).parent.glob("*/config.json"))


def path_of(name: str) -> Path | None:
    """Return the checkpoint directory of a generator, or None if none has this name.

    Example:
        >>> path_of("no such generator") is None
        True
    """
    return Path(__file__).parent / name if name in names() else None
