"""Tensors worth computing once: a folder of safetensors files, named by what went into them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from collections.abc import Callable, Iterable

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from graphinv import __version__
from graphinv._files import atomic_path
from graphinv.data.manifests import cache_folder
from graphinv.errors import InputError

__all__ = ["digest", "load_or_make", "package_version"]

_log = logging.getLogger(__name__)


def digest(lines: Iterable[str], *settings: object) -> str:
    """Return 32 hexadecimal digits of lines in their order and of settings.

    Example:
        >>> digest(["CO", "C"], 2) == digest(["CO", "C"], 2) != digest(["COC"], 2)
        True
    """
    state = hashlib.sha256(repr(settings).encode())
    for line in lines:
        state.update(b"\n" + line.encode())
    return state.hexdigest()[:32]


def load_or_make(kind: str, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors kept as ``kind`` and ``key`` in the cache, or make and keep them.

    Another version of graphinv, torch, RDKit or fcd makes them anew.
    The cache is GRAPHINV_CACHE_DIR, else ``~/.cache/graphinv``; a file that is damaged is made anew, and where nothing
    can be written nothing is kept.

    Example:
        >>> import os, tempfile, torch
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, GRAPHINV_CACHE_DIR=tempfile.mkdtemp()):
        ...     load_or_make("doctest", digest(["CO"], "v1"), lambda: {"x": torch.zeros(2)})["x"].tolist()
        [0.0, 0.0]
    """
    versions = digest([__version__, *(f"{name} {package_version(name)}" for name in ("torch", "rdkit", "fcd"))])
    path = cache_folder() / "metrics" / kind / f"{key}-{versions[:8]}.safetensors"
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except FileNotFoundError:
        pass
    except (SafetensorError, OSError) as error:
        _log.warning("%s cannot be read (%s) and is made anew", path, error)
    tensors = {name: tensor.contiguous() for name, tensor in make().items()}
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
    except (InputError, SafetensorError) as error:
        _log.warning("not kept: %s", error)
    return tensors


def package_version(name: str) -> str | None:
    """The version of an installed package, or None.

    Example:
        >>> package_version("no such package") is None
        True
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
