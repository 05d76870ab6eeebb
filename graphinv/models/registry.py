"""Which generators there are: classes that describe themselves, by kind.

A class enters by ``register``, or as an entry point of the group "graphinv.generators" of an installed package, named
after its kind. Entry points are imported when they are asked for; one that cannot be says why then, and breaks no
other. Nothing here knows a model by name.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, TypeVar

from graphinv.errors import InputError

if TYPE_CHECKING:
    from graphinv.models.base import GraphGenerator

__all__ = ["GROUP", "generator_class", "generator_kinds", "register"]

GROUP = "graphinv.generators"
Class = TypeVar("Class", bound="type[GraphGenerator]")
_CLASSES: dict[str, type[GraphGenerator]] = {}


def register(cls: Class) -> Class:
    """Make a generator known by its ``kind``: to checkpoints, ``TrainConfig.preset`` and the command line.

    Args:
        cls: a subclass of ``GraphGenerator`` with ``kind``, ``config_class``, ``networks``, ``pad``, ``losses`` and
            ``draw``; all else has a default.

    Returns:
        the class, so that this can be a decorator.

    Raises:
        InputError: it is no such class, or another class has its kind.

    Example:
        >>> from graphinv.models import GDSS
        >>> register(GDSS) is GDSS is generator_class("gdss")
        True
    """
    kind = _check(cls)
    before = _CLASSES.get(kind)
    if before is not None and _name(before) != _name(cls):
        raise InputError(f"the kind {kind!r} of {_name(cls)} is taken by {_name(before)}; choose another")
    _CLASSES[kind] = cls
    return cls


def generator_kinds() -> tuple[str, ...]:
    """Return the kinds of all generators, entry points that may not load included.

    Example:
        >>> generator_kinds()[:2]
        ('gdss', 'pard')
    """
    return tuple(dict.fromkeys([*_CLASSES, *sorted(_entries())]))


def generator_class(kind: str) -> type[GraphGenerator]:
    """Return the generator of that kind.

    Raises:
        InputError: there is none, or its entry point cannot be loaded; the reason is told.
    """
    if kind not in _CLASSES:
        entry = _entries().get(kind)
        if entry is None:
            raise InputError(
                f"there is no generator {kind!r}; available: {', '.join(generator_kinds())}. One of your own is known "
                "once its module is imported: graphinv --import MODULE, or GRAPHINV_IMPORT"
            )
        _load(entry)
    return _CLASSES[kind]


def _load(entry: EntryPoint) -> None:
    where = f"the generator {entry.name!r} of {entry.dist.name if entry.dist else 'a package'} ({entry.value})"
    try:
        cls = entry.load()
        if getattr(cls, "kind", None) != entry.name:
            raise InputError(f"its kind is {getattr(cls, 'kind', None)!r}; the entry point must be named after it")
        register(cls)
    except Exception as error:  # whatever the import of somebody's module raises
        raise InputError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _check(cls: type[GraphGenerator]) -> str:
    """Return the kind of a class that can be registered."""
    from graphinv.models.base import GraphGenerator

    if not (isinstance(cls, type) and issubclass(cls, GraphGenerator)):
        raise InputError(f"expected a subclass of GraphGenerator, got {cls!r}")
    if inspect.isabstract(cls):
        raise InputError(f"{_name(cls)} lacks {', '.join(sorted(cls.__abstractmethods__))}")
    kind = getattr(cls, "kind", None)
    if not isinstance(kind, str) or not re.fullmatch(r"[a-z][a-z0-9_-]*", kind):
        raise InputError(f"{_name(cls)}.kind must be a name of small letters, digits, - and _, got {kind!r}")
    if not dataclasses.is_dataclass(getattr(cls, "config_class", None)):
        raise InputError(f"{_name(cls)}.config_class must be a dataclass of its settings")
    return kind


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
