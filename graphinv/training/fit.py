"""``train``: a generator, a store and a run directory in, checkpoints out."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from graphinv import __version__
from graphinv._files import atomic_path
from graphinv.data import GraphStore
from graphinv.errors import InputError
from graphinv.models import GraphGenerator
from graphinv.training.config import TrainConfig, parse_duration
from graphinv.training.directory import devices_here, nodes_here, owning, rank, resume_from
from graphinv.training.threads import choose_threads, using_threads

__all__ = ["train"]


def train(
    generator: GraphGenerator,
    store: GraphStore,
    directory: str | os.PathLike[str],
    config: TrainConfig | None = None,
    *,
    resume: bool | Literal["auto"] = False,
    progress: bool = True,
    **changes: Any,
) -> Path:
    """Train ``generator`` on ``store`` and return the run directory.

    The run directory holds ``last/`` and ``best/`` (checkpoints), ``train.json`` (the settings) and ``logs/`` (CSV).

    Args:
        generator: the model; ``prepare`` takes from the store what sampling needs.
        store: the graphs, with a train split.
        directory: the run directory.
        config: settings; the defaults of ``TrainConfig`` if None.
        resume: True goes on from ``last/`` and fails without it, "auto" goes on if it is there, False starts anew.
        progress: show a bar.
        changes: fields of ``TrainConfig`` to replace, such as ``max_time="30m"``.

    Raises:
        InputError: the directory holds a run and ``resume`` is False, there is nothing to resume or it is of another
            model or optimiser, the store has no training graphs, its graphs or its vocabulary do not fit the model,
            the accelerator has no float64, or the loss stops being finite.
        CheckpointError: the state to resume from is damaged.
    """
    settings = dataclasses.replace(config or TrainConfig(), **changes)
    folder, accelerator = Path(directory), _accelerator(settings.accelerator)
    settings = dataclasses.replace(settings, accelerator=accelerator, devices=devices_here(settings.devices))
    with owning(folder):
        state = resume_from(folder, generator, store, settings, resume)
        _check_validation(generator, store)
        metadata = _metadata(store, settings)
        store = generator.prepare(store, progress=progress)
        threads = _threads(generator, store, settings, accelerator, folder if state else None, progress)
        if rank() == 0:
            with atomic_path(folder / "train.json") as file:
                file.write_text(json.dumps({**dataclasses.asdict(settings), "threads": threads}, indent=2) + "\n")
        callbacks = _callbacks(folder, settings, metadata, progress)
        with using_threads(threads):
            _fit(generator, store, folder, settings, state, callbacks)
    return folder


def _threads(
    generator: GraphGenerator,
    store: GraphStore,
    settings: TrainConfig,
    accelerator: str,
    begun: Path | None,
    shown: bool,
) -> int:
    """Return the threads to compute with, those of the run ``begun`` if there is one; tell a terminal of a choice."""
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    if settings.threads or not on_cpu:
        return settings.threads or torch.get_num_threads()
    if begun is not None and (begun / "train.json").exists():
        before = json.loads((begun / "train.json").read_text()).get("threads", 0)
        if before:
            return int(before)
    chosen, reason = choose_threads(generator, store, settings.batch_size, settings.seed)
    if shown and sys.stderr.isatty():
        print(f"graphinv: training with {chosen} thread{'s' * (chosen > 1)} ({reason})", file=sys.stderr)
    return chosen


def _fit(
    generator: GraphGenerator,
    store: GraphStore,
    folder: Path,
    settings: TrainConfig,
    state: Path | None,
    callbacks: list[Any],
) -> None:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from graphinv.training.module import GeneratorModule

    with _quiet():
        try:
            trainer = _trainer(store, folder, settings, callbacks)
            module = GeneratorModule(generator, store, settings)
            trainer.fit(module, ckpt_path=state, weights_only=True if state else None)
        except MisconfigurationException as error:
            raise InputError(f"lightning refuses this training: {error}") from error
        except SystemExit:  # what lightning makes of an interrupt from the keyboard
            raise KeyboardInterrupt(f"; resuming goes on from {folder / 'last'}") from None


def _callbacks(folder: Path, settings: TrainConfig, metadata: dict[str, Any], progress: bool) -> list[Any]:
    from lightning.pytorch.callbacks import Timer

    from graphinv.training.callbacks import CheckpointDirectories, Progress, WarmupEMA

    ema = WarmupEMA(settings.ema) if settings.use_ema else None
    callbacks: list[Any] = [c for c in (ema, Progress() if progress else None) if c is not None]
    if settings.max_time is not None:
        callbacks.append(Timer(parse_duration(settings.max_time), interval="step", verbose=False))
    within = parse_duration(settings.checkpoint_every).total_seconds()
    return [*callbacks, CheckpointDirectories(folder, metadata, ema, within)]  # after all that has a state of its own


def _trainer(store: GraphStore, folder: Path, settings: TrainConfig, callbacks: list[Any]) -> Any:
    import lightning
    from lightning.pytorch.loggers import CSVLogger

    from graphinv.training.module import validation_split

    try:
        return lightning.Trainer(
            max_epochs=settings.max_epochs,
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=nodes_here(),
            precision=settings.precision,
            callbacks=callbacks,
            logger=CSVLogger(folder, name="logs"),
            check_val_every_n_epoch=settings.validate_every,
            limit_val_batches=1.0 if validation_split(store) else 0,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except ValueError as error:
        raise InputError(f"lightning refuses this training: {error}") from error


def _accelerator(name: str) -> str:
    """Return the accelerator for Lightning, which would take MPS for "auto" and "gpu" where there is no CUDA."""
    mps = not torch.cuda.is_available() and torch.backends.mps.is_available()
    if name == "mps" or (name == "gpu" and mps):
        raise InputError(f"accelerator {name!r} is no choice here: MPS has no float64, which schedules need; use 'cpu'")
    return "cpu" if name == "auto" and mps else name


def _check_validation(generator: GraphGenerator, store: GraphStore) -> None:
    """Refuse graphs that would only fail in the first validation; ``prepare`` refuses those of the train split."""
    from graphinv.training.module import validation_split

    split = validation_split(store)
    if split is None:
        return
    counts = store.node_counts(store.indices(split))
    large = int((counts > generator.max_nodes).sum())
    if large:
        raise InputError(
            f"{large} of {counts.numel()} {split} graphs have more than max_nodes = {generator.max_nodes} nodes, up to "
            f"{int(counts.max())}; raise max_nodes or build the store with a smaller limit"
        )


def _metadata(store: GraphStore, settings: TrainConfig) -> dict[str, Any]:
    return {
        "vocabulary": store.vocabulary.to_json(),
        "store": {"hash": store.content_hash, "graphs": len(store.indices("train"))},
        "graphinv": __version__,
        "training": dataclasses.asdict(settings),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's notices on devices and workers out of the terminal; its errors stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
