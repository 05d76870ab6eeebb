"""Atomic writes: a reader sees the old file, the new file or none, and a failure leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from graphinv.errors import InputError


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; rename it onto ``target`` on success, delete it on failure.

    Raises:
        InputError: the folder cannot be created or the disk refuses the write (full, read-only, no permission).

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_path(folder / "a.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> (folder / "a.txt").read_text()
        'whole'
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}; nothing was changed there") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``target`` that replaces ``target`` on success and vanishes on failure.

    Linux exchanges the two names at once. Elsewhere the old folder is moved aside first: a process that is killed
    between the two renames leaves it as ``.NAME.old``, which ``whole_directory`` finds and ``restore_directory`` puts
    back.

    Raises:
        InputError: the disk refuses the write.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        for file in temporary.rglob("*"):
            os.chmod(file, (0o777 if file.is_dir() else 0o666) & ~_umask())
            if file.is_file():
                with open(file, "rb") as stream:
                    os.fsync(stream.fileno())
        _take_place(temporary, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}; nothing was changed there") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def whole_directory(target: str | os.PathLike[str]) -> Path:
    """Return ``target``, or what a killed ``atomic_directory`` has left in its place."""
    target = Path(target)
    return target if target.exists() or not _old(target).is_dir() else _old(target)


def restore_directory(target: str | os.PathLike[str]) -> None:
    """Put back what a killed ``atomic_directory`` moved aside, and delete the rest; for the one owner of ``target``."""
    target = Path(target)
    if not target.exists() and _old(target).is_dir():
        os.replace(_old(target), target)
    for left in (_old(target), *target.parent.glob(f".{target.name}.*.tmp")):
        shutil.rmtree(left, ignore_errors=True)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _take_place(folder: Path, target: Path) -> None:
    if target.exists() and _exchange(folder, target):
        shutil.rmtree(folder, ignore_errors=True)
        return
    old = _old(target)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
    try:
        os.replace(folder, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; return whether the system can."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of the kernel
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def keep_inputs(
    outputs: Mapping[str, str | os.PathLike[str] | None], inputs: Iterable[str | os.PathLike[str] | None]
) -> None:
    """Refuse outputs that would replace a file that is read, or each other, or a folder.

    Args:
        outputs: by the name that the user gave it with, such as "--rejects"; None for those not wanted.
        inputs: what is read; names that are no files count for nothing.

    Raises:
        InputError: two of them are the same file, by whatever path, or an output is a folder.
    """
    taken = {_identity(path): f"the input {path}" for path in inputs if path is not None and Path(path).is_file()}
    for name, path in outputs.items():
        if path is None:
            continue
        if Path(path).is_dir():
            raise InputError(f"{name} names a file to write, and {path} is a folder")
        if other := taken.get(_identity(path)):
            raise InputError(f"{name} ({path}) would overwrite {other}; give another file")
        taken[_identity(path)] = f"what {name} writes"


def _identity(path: str | os.PathLike[str]) -> object:
    """Return what is equal for two paths of one file."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def shipped_folders() -> list[Path]:
    """Where manifests are: in an installed package, then in a source checkout (told from any other "datasets")."""
    package = Path(__file__).resolve().parent
    return [f for f in (package / "_datasets", package.parent / "datasets") if (f / "smallmol.toml").is_file()]
