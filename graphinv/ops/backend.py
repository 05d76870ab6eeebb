"""Which implementation of the segment kernels runs: plain torch, or an optional compiled one.

The choice belongs to the current thread or task (a context variable), never to the process as a whole. Where
nothing was chosen it is Triton if there is a GPU and Triton is installed, else plain torch. Every backend passes
the same tests; results may differ in the last bits, because each adds in its own order.
"""

from __future__ import annotations

import os
from contextvars import ContextVar, Token
from types import TracebackType

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.ops import _torch, _torch_scatter
from graphinv.ops._torch import Kernels

__all__ = ["available_backends", "backend_report", "current_backend", "use_backend"]

_NAMES = ("torch", "torch_scatter", "triton")
_HELP = {
    "torch_scatter": "install it for this torch with: pip install --no-build-isolation torch-scatter",
    "triton": "it needs Linux, an NVIDIA GPU and: pip install 'triton>=3.1'; without a GPU set TRITON_INTERPRET=1 "
    "in the environment of the process to try its kernels slowly on the CPU",
}
_current: ContextVar[str] = ContextVar("graphinv_ops_backend", default="")  # "": nothing was chosen
_tables: dict[str, Kernels] = {"torch": _torch.KERNELS}
_failures: dict[str, Exception] = {}
_default: list[str] = []  # found once, on the first use
# Triton reads the variable when it is imported; later changes of the environment come too late for it and for us.
INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that can run here, "torch" first.

    Example:
        >>> available_backends()[0]
        'torch'
    """
    return tuple(name for name in _NAMES if _failure(name) is None)


def backend_report() -> dict[str, str]:
    """Return for each backend "in use", "available", or the reason why it cannot run here; for a person to read.

    Example:
        >>> with use_backend("torch"):
        ...     backend_report()["torch"]
        'in use'
    """
    report = {name: str(_failure(name) or "available") for name in _NAMES}
    return report | {current_backend(): "in use"}


def current_backend() -> str:
    """Return the name of the backend in use in this thread or task; constant to ``torch.compile``.

    Example:
        >>> with use_backend("torch"):
        ...     current_backend()
        'torch'
    """
    return _current.get() or _default_backend()


class use_backend:
    """Run the segment kernels with ``name``: from the call on, or inside a ``with`` block only.

    "triton" serves CUDA tensors; tensors elsewhere, and dtypes it does not know, still run on plain torch.

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
        failure = _failure(name)
        if failure is not None:
            raise InputError(f"backend {name!r} cannot be loaded ({failure}); {_HELP[name]}") from failure
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
    return _tables[current_backend()]  # a name becomes current only after it was loaded


def runs_triton(x: Tensor) -> bool:
    """Tell whether "triton" is in use and kernels of Triton can run on ``x``: floating, on CUDA or interpreted."""
    return x.is_floating_point() and (x.is_cuda or INTERPRETING) and current_backend() == "triton"


def _default_backend() -> str:
    if not _default:
        # Devices are counted without starting CUDA, so that the process can still be forked afterwards.
        _default.append("triton" if torch.cuda.device_count() > 0 and _failure("triton") is None else "torch")
    return _default[0]


def _failure(name: str) -> Exception | None:
    """Load a backend, once; return why that is impossible here, or None."""
    if name not in _tables and name not in _failures:
        try:
            _tables[name] = _load_triton() if name == "triton" else _torch_scatter.load()
        except (ImportError, OSError, RuntimeError) as error:
            _failures[name] = error
    return _failures.get(name)


def _load_triton() -> Kernels:
    # Asked first, because importing Triton takes a second.
    if not INTERPRETING and torch.cuda.device_count() == 0:
        raise RuntimeError("there is no CUDA device, and TRITON_INTERPRET is not 1")
    from graphinv.ops import _triton

    return _triton.load()


# A context variable cannot be traced: compiled code keeps the backend it was first traced with. This is the mark that
# torch.compiler.assume_constant_result sets; calling that would import the compiler, which takes a second.
vars(current_backend)["_dynamo_marked_constant"] = True
