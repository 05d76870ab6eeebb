"""A run directory: who owns it, and what a training goes on from.

One process writes into a run directory: rank 0 of the training that holds its lock, which goes with its process.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from graphinv._files import restore_directory, whole_directory
from graphinv.data import GraphStore
from graphinv.errors import CheckpointError, InputError
from graphinv.models import GraphGenerator
from graphinv.training.config import TrainConfig

__all__ = ["devices_here", "nodes_here", "owning", "rank", "resume_from"]

_LIMITS = ("max_epochs", "max_time", "validate_every", "checkpoint_every", "accelerator", "devices", "threads")
_OWN = ("last", "best")


def rank() -> int:
    """Return the number of this process among those of one training, as torchrun, SLURM or Lightning tell it."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdecimal()), 0)


def devices_here(devices: int) -> int:
    """Return the processes of a training on this machine: those that torchrun has begun, else ``devices``.

    Raises:
        InputError: torchrun has begun another number than ``devices``, which is not 1.
    """
    begun = _number("LOCAL_WORLD_SIZE")
    if begun is None:
        return devices
    if devices not in (1, begun):
        raise InputError(
            f"torchrun has begun {begun} processes on this machine, and devices is {devices}; leave it out"
        )
    return begun


def nodes_here() -> int:
    """Return the machines of a training: those of torchrun or SLURM, else 1."""
    here, every = _number("LOCAL_WORLD_SIZE"), _number("WORLD_SIZE")
    if here and every:
        return every // here
    return _number("SLURM_NNODES") or 1


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None


@contextmanager
def owning(folder: Path) -> Iterator[None]:
    """Hold the lock of a run directory, which is made if there is none; rank 0 alone takes and needs it.

    Raises:
        InputError: another training holds it.
    """
    if rank() != 0:
        yield
        return
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror or error}") from error
    try:
        if not _lock(handle):
            raise InputError(f"another training is at work in {folder}; wait for it, or choose another directory")
        yield
    finally:
        os.close(handle)
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _lock(handle: int) -> bool:
    """Take the lock of an open file or folder without waiting; return whether it is ours.

    Systems without locks grant it.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def resume_from(
    folder: Path,
    generator: GraphGenerator,
    store: GraphStore,
    settings: TrainConfig,
    resume: bool | Literal["auto"],
) -> Path | None:
    """Return the trainer's state to go on from, None to begin.

    Raises:
        InputError: the directory holds a training and ``resume`` is False, or there is nothing whole to resume, or it
            is of other data, another model or other settings, which are named.
        CheckpointError: the state is damaged.
    """
    if rank() == 0:
        for name in _OWN:
            restore_directory(folder / name)
    last = whole_directory(folder / "last")  # another rank than 0 may come before it is put back
    state = folder / "last" / "trainer.ckpt"
    begun = (last / "trainer.ckpt").exists()
    if begun and resume is False:
        raise InputError(f"{folder} holds a training already; resume it, or choose another directory")
    if not begun:
        there = sorted(f"{f.name}/" for f in folder.glob("*") if f.name in _OWN)
        if resume and there:
            raise InputError(
                f"nothing to resume: {folder} holds {' and '.join(there)} without {state.relative_to(folder)}; sample "
                "from what is there, and start anew in another directory"
            )
        if resume is True:
            raise InputError(f"nothing to resume: {state} does not exist")
        return None
    trained, metadata = GraphGenerator.load(last)
    _check_resumable(folder, trained.config, metadata, generator, store, settings)
    try:
        torch.load(last / "trainer.ckpt", map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged archive raises
        raise CheckpointError(f"cannot read {state}: {error}; start anew in another directory") from error
    return state


def _check_resumable(
    folder: Path,
    before: Any,
    metadata: dict[str, Any],
    generator: GraphGenerator,
    store: GraphStore,
    settings: TrainConfig,
) -> None:
    """Refuse what would make of a resumed training another one than it was, naming all of it."""
    labels = metadata.get("vocabulary")
    if labels != store.vocabulary.to_json():
        raise InputError(
            f"{folder} was trained on {labels}, the store has {store.vocabulary.to_json()}; "
            "build the store with that vocabulary, or start anew in another directory"
        )
    now, then = _architecture(generator.config), _architecture(before)
    if type(before) is not type(generator.config) or then != now:
        changed = {k: f"{then[k]} then, {now.get(k)} now" for k in then if then[k] != now.get(k)}
        raise InputError(f"{folder} was trained with another model: {changed}; resume it with the same settings")
    kept = {k: v for k, v in metadata.get("training", {}).items() if k not in _LIMITS}
    now = dataclasses.asdict(settings)
    changed = {k: f"{v} then, {now[k]} now" for k, v in kept.items() if k in now and now[k] != v}
    data = metadata.get("store", {}).get("hash", store.content_hash)
    if data != store.content_hash:
        changed["data"] = f"a store of hash {data[:12]} then, {store.content_hash[:12]} now"
    if changed:
        raise InputError(
            f"{folder} was trained with other settings: {changed}; resume it with the same, or start anew in another "
            "directory (with these weights: --from)"
        )


def _architecture(config: Any) -> dict[str, Any]:
    """Return what decides the weights: every setting but how samples are drawn and what is computed twice."""
    return {k: v for k, v in dataclasses.asdict(config).items() if k not in ("sampler", "recompute")}
