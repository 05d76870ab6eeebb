"""What the settings of all generators share: frozen dataclasses whose fields are numbers, strings or choices of them.

They are saved in checkpoints as JSON and parsed from the command line; what a field means is said once, in the
docstring of its class.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from graphinv.errors import InputError, warn_old_name

__all__ = ["Option", "Preset", "check_choices", "options_of", "renamed", "settings_from"]

Settings = TypeVar("Settings", bound=type)


@dataclass(frozen=True)
class Preset:
    """A model and its training settings.

    Attributes:
        model: the configuration of the generator.
        training: fields of ``graphinv.TrainConfig``.
    """

    model: Any
    training: Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """One field of a dataclass of settings, as a user meets it.

    Attributes:
        name: of the field.
        type: int, float, bool or str.
        choices: what a field with a closed set of values takes, else ().
        help: its entry in the docstring.
    """

    name: str
    type: type
    choices: tuple[str, ...]
    help: str


def options_of(settings: type) -> dict[str, Option]:
    """Return the fields of a dataclass of numbers, flags, strings and choices by name, with their help.

    Example:
        >>> from graphinv.models import BlockSampler
        >>> options_of(BlockSampler)["temperature"].type
        <class 'float'>
    """
    hints, texts = get_type_hints(settings), _texts(settings)
    options = {}
    for field in fields(settings):
        hint = hints[field.name]
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        kind = str if choices else hint
        if kind not in (int, float, bool, str):
            raise InputError(f"{settings.__name__}.{field.name} must be a number, flag, string or Literal, got {hint}")
        options[field.name] = Option(field.name, kind, choices, texts.get(field.name, ""))
    return options


def _texts(settings: type) -> dict[str, str]:
    """Return what the section "Attributes:" of the docstring says of each name."""
    _, _, section = (inspect.getdoc(settings) or "").partition("Attributes:\n")
    texts: dict[str, str] = {}
    name = None
    for line in section.splitlines():
        if line and not line.startswith(" "):  # the next section
            break
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            name = entry[1]
            texts[name] = entry[2]
        elif name is not None:
            texts[name] = f"{texts[name]} {line.strip()}".strip()
    return texts


def settings_from(settings: type[Any], values: Mapping[str, Any]) -> Any:
    """Return the dataclass ``settings`` of plain values, nested records being objects as JSON and YAML have them.

    Example:
        >>> from graphinv.models import GDSSConfig
        >>> settings_from(GDSSConfig, {"max_nodes": 7, "sampler": {"steps": 5}}).sampler.steps
        5
    """
    nested: dict[str, Any] = {k: hint for k, hint in get_type_hints(settings).items() if is_dataclass(hint)}
    objects = {
        name: nested[name](**value) if name in nested and isinstance(value, Mapping) else value
        for name, value in values.items()
    }
    return settings(**objects)


def check_choices(settings: object) -> None:
    """Raise InputError where a field of the dataclass ``settings`` is none of the choices its type names."""
    for name, hint in get_type_hints(type(settings)).items():
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        if choices and getattr(settings, name) not in choices:
            raise InputError(f"{name} must be one of {', '.join(choices)}, got {getattr(settings, name)!r}")


def renamed(**names: str) -> Callable[[Settings], Settings]:
    """Return a class decorator that takes fields of a dataclass by their old names too, ``old="new"``, and warns.

    An old name given beside the new one wins, as ``dataclasses.replace`` gives both. ``old_names`` of the class holds
    the table, for files written under the old names.

    Example:
        >>> @renamed(size="width")
        ... @dataclass(frozen=True)
        ... class Shape:
        ...     width: int = 1
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     print(Shape(size=3), caught[0].message)
        Shape(width=3) size is now width; the old name goes in version 0.2
    """

    def decorate(cls: Settings) -> Settings:
        init = cls.__init__  # type: ignore[misc]

        def __init__(self: Any, *args: Any, **values: Any) -> None:
            for old, new in names.items():
                if old in values:
                    warn_old_name(old, new)
                    values[new] = values.pop(old)
            init(self, *args, **values)

        __init__.__wrapped__ = init  # type: ignore[attr-defined]  # the signature is the dataclass's own
        cls.__init__ = __init__  # type: ignore[misc]
        cls.old_names = dict(names)  # type: ignore[attr-defined]
        for old, new in names.items():
            setattr(cls, old, property(_reader(old, new)))
        return cls

    return decorate


def _reader(old: str, new: str) -> Callable[[Any], Any]:
    def read(self: Any) -> Any:
        warn_old_name(old, new)
        return getattr(self, new)

    return read
