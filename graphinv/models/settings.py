"""What the settings of all generators share: frozen dataclasses whose fields are numbers, strings or choices of them.

They are saved in checkpoints as JSON and parsed from the command line.
"""

from __future__ import annotations

from typing import Literal, get_args, get_origin, get_type_hints

from graphinv.errors import InputError

__all__ = ["check_choices"]


def check_choices(settings: object) -> None:
    """Raise InputError where a field of the dataclass ``settings`` is none of the choices its type names."""
    for name, hint in get_type_hints(type(settings)).items():
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        if choices and getattr(settings, name) not in choices:
            raise InputError(f"{name} must be one of {', '.join(choices)}, got {getattr(settings, name)!r}")
