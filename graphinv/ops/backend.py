"""Which implementation of the segment kernels runs: plain torch, the default, or an optional compiled one.

The choice belongs to the current thread or task (a context variable), never to the process as a whole. Every
backend passes the same tests; results may differ in the last bits, because each adds in its own order.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from functools import cache
from types import TracebackType

from graphinv.errors import InputError
from graphinv.ops import _torch, _torch_scatter
from graphinv.ops._torch import Kernels

__all__ = ["available_backends", "current_backend", "use_backend"]

_NAMES = ("torch", "torch_scatter")
_current: ContextVar[str] = ContextVar("graphinv_ops_backend", default="torch")


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that can run here, "torch" first.

    Example:
        >>> available_backends()[0]
        'torch'
    """
    return tuple(name for name in _NAMES if not isinstance(_load(name), Exception))


def current_backend() -> str:
    """Return the name of the backend in use in this thread or task.

    Example:
        >>> current_backend()
        'torch'
    """
    return _current.get()


class use_backend:
    """Run the segment kernels with ``name``: from the call on, or inside a ``with`` block only.

    Raises:
        InputError: the name is unknown, or the backend is not installed here.

    Example:
        >>> with use_backend("torch"):
        ...     current_backend()
        'torch'
    """

    def __init__(self, name: str) -> None:
        if name not in _NAMES:
            raise InputError(f"unknown backend {name!r}; available: {', '.join(_NAMES)}")
        loaded = _load(name)
        if isinstance(loaded, Exception):
            raise InputError(
                f"backend {name!r} cannot be loaded ({loaded}); install it for this torch with: "
                "pip install --no-build-isolation torch-scatter"
            ) from loaded
        self._token: Token[str] = _current.set(name)

    def __enter__(self) -> None:
        """Keep the backend until the block ends."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Return to the backend in use before."""
        _current.reset(self._token)


def current_kernels() -> Kernels:
    """Return the table of functions of the backend in use."""
    loaded = _load(_current.get())
    if isinstance(loaded, Exception):
        raise loaded
    return loaded


@cache
def _load(name: str) -> Kernels | Exception:
    if name == "torch":
        return _torch.KERNELS
    try:
        return _torch_scatter.load()
    except (ImportError, OSError, RuntimeError) as error:
        return error
