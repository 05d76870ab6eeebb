"""The command line: one verb per step from SMILES to a judged sample. ``graphinv VERB --help`` teaches each.

Each verb is a module here and is imported when it is called, so that help and errors come at once. A problem with the
input ends with one line on standard error and exit status 2.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module

from graphinv import __version__
from graphinv.errors import GraphinvError, InputError

__all__ = ["VERBS", "main"]

VERBS = {  # the function of each, in a module of this package
    "data build": "data:build_verb",
    "data info": "data:info_verb",
    "data list": "data:list_verb",
    "train": "train:train_verb",
    "convert gdss": "convert:gdss_verb",
    "sample": "sample:sample_verb",
    "evaluate": "evaluate:evaluate_verb",
    "info": "info:info_verb",
}

_HELP = f"""graphinv {__version__}: SMILES in, a trained generator, SMILES and an honest report out.

usage: graphinv [--import MODULE] VERB [arguments]        graphinv VERB --help explains one verb

  data build FILE... -o STORE     encode SMILES files (or a known data set by name) into one memory-mapped store
  data info STORE                 what a store holds
  data list                       the data sets known by name
  train KIND --data STORE -o RUN  train a generator; resumable, checkpoints in RUN/best and RUN/last; train --help
                                  lists the kinds
  convert gdss FILE.pth -o RUN    a run of an official checkpoint of GDSS
  sample RUN -n 1000 -o out.smi   draw molecules (or graphs: out.g6) from a trained generator
  evaluate out.smi                validity, uniqueness, novelty; under a protocol distances with floors; a page
  info                            versions, devices, and which kernels are in use

a first tour, nothing to download (about six minutes on two cores):
  graphinv data build smallmol -o small.graphs
  graphinv train gdss --data small.graphs --preset smallmol -o runs/small
  graphinv sample runs/small -n 1000 -o out.smi --grid grid.png
  graphinv evaluate out.smi --reference small.graphs --report report.html

options: --help, --version, --traceback (with a verb: show the stack of an error)
  --import MODULE                 before the verb: import a module, or a .py file, that registers a generator of your
                                  own (graphinv.models.register); may be repeated. GRAPHINV_IMPORT=MODULE[,MODULE]
                                  does so for every call
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 2 for a problem with the input, 130 or 143 if stopped."""
    args = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in args
    args = [a for a in args if a != "--traceback"]
    try:
        return _dispatch(args)
    except (GraphinvError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if traceback or not (full or isinstance(error, GraphinvError)):
            raise
        print(f"graphinv: error: {error}", file=sys.stderr)
        return 2
    except _Terminated:
        print("graphinv: terminated", file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt as stop:
        print(f"graphinv: interrupted{stop}", file=sys.stderr)
        return 130


class _Terminated(BaseException):
    """The system or a scheduler ends this process: all that is half done is taken back on the way out."""


@contextmanager
def _stopping() -> Iterator[None]:
    """Raise ``_Terminated`` where SIGTERM comes; a training has rules of its own, which Lightning sets."""

    def stop(*_: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _dispatch(args: list[str]) -> int:
    modules, args = _imports(args)
    if not args or args[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0 if args else 2
    if args[0] == "--version":
        print(__version__)
        return 0
    for words, home in VERBS.items():
        name = words.split()
        if args[: len(name)] == name:
            if modules:
                from graphinv.cli.modules import import_modules

                import_modules(modules)
            module, function = home.split(":")
            with nullcontext() if words == "train" else _stopping():
                getattr(import_module(f"graphinv.cli.{module}"), function)(args[len(name) :])
            return 0
    near = [words for words in VERBS if words.split()[0] == args[0]]
    if near and args[1:2] in ([], ["-h"], ["--help"], ["help"]):
        told = [line for line in _HELP.splitlines(keepends=True) if line.startswith(f"  {args[0]} ")]
        print("".join([f"graphinv {args[0]}:\n", *told, "graphinv VERB --help explains one verb\n"]), end="")
        return 0 if len(args) > 1 else 2
    raise InputError(f"unknown verb {' '.join(args[:2])!r}; available: {', '.join(near or VERBS)}")


def _imports(args: list[str]) -> tuple[list[str], list[str]]:
    """Return the modules to import, of the environment and of --import before the verb, and the other arguments."""
    modules = [name.strip() for name in os.environ.get("GRAPHINV_IMPORT", "").split(",") if name.strip()]
    while args and args[0].split("=")[0] == "--import":
        _, equals, module = args[0].partition("=")
        args = args[1:]
        if not equals:
            module, args = (args[0] if args else ""), args[1:]
        if not module or module.startswith("-"):
            raise InputError("--import takes a module or a .py file, as in graphinv --import my_module train ...")
        modules.append(module)
    return modules, args
