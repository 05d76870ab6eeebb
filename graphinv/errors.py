"""The errors a user can cause, each saying what was expected, what came and what to do.

The command line prints the message alone and exits with status 2; anything else that is raised is a defect of
graphinv and keeps its traceback.
"""

from __future__ import annotations

import warnings

__all__ = [
    "CheckpointError",
    "DownloadError",
    "GraphinvError",
    "InputError",
    "StoreError",
    "check_positive",
    "warn_old_name",
]


class GraphinvError(ValueError):
    """Base of every error caused by input rather than by a defect of the library."""


class InputError(GraphinvError):
    """A file, column, line or argument that cannot be used."""


class StoreError(GraphinvError):
    """A graph store that is missing, truncated, corrupt or of another format version, or cannot be written."""


class CheckpointError(GraphinvError):
    """A checkpoint whose keys, shapes or configuration do not fit the model."""


class DownloadError(GraphinvError):
    """A file that is neither at hand nor downloadable, or arrived with the wrong checksum."""


def check_positive(**settings: int) -> None:
    """Raise an InputError that names the first of ``settings`` below 1.

    Example:
        >>> check_positive(heads=4, hidden=1)
    """
    for name, value in settings.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")


def warn_old_name(old: str, new: str, depth: int = 1) -> None:
    """Warn the caller of the function that calls this, ``depth`` further calls away, that ``old`` is now ``new``.

    Example:
        >>> with warnings.catch_warnings(record=True) as seen:
        ...     warnings.simplefilter("always")
        ...     warn_old_name("width", "size")
        >>> print(seen[0].message)
        width is now size; the old name goes in version 0.2
    """
    warnings.warn(f"{old} is now {new}; the old name goes in version 0.2", DeprecationWarning, stacklevel=2 + depth)
