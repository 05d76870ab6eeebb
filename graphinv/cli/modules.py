"""Modules of the user's own, imported before a verb runs, so that the generators they register are known."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from graphinv.errors import GraphinvError, InputError

__all__ = ["import_modules"]


def import_modules(names: Sequence[str]) -> list[ModuleType]:
    """Import modules by name, as Python started in this folder would find them, or ``.py`` files by path.

    Raises:
        InputError: one of them is not there or fails; the reason is told.

    Example:
        >>> import_modules(["json"])[0].__name__
        'json'
    """
    modules = []
    for name in names:
        try:
            modules.append(_file(Path(name)) if name.endswith(".py") else _module(name))
        except GraphinvError:  # says what is wrong
            raise
        except Exception as error:  # whatever somebody's module raises
            raise InputError(f"cannot import {name!r}: {type(error).__name__}: {error}") from error
    return modules


def _module(name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:  # an installed script has its own folder there instead
        sys.path.append(here)
    return import_module(name)


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"cannot import {os.fspath(path)!r}: there is no such file")
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", None) or "").resolve() == path.resolve():
        return known
    spec = spec_from_file_location(path.stem, path.resolve())
    if known is not None or spec is None or spec.loader is None:
        raise InputError(f"cannot import {os.fspath(path)!r}: another module is named {path.stem!r}; rename the file")
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module
