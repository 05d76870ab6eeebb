"""What happens beside the steps: averaged weights, checkpoint directories, one progress bar."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor
from tqdm import tqdm

from graphinv._files import atomic_directory
from graphinv.errors import InputError
from graphinv.models import GraphGenerator
from graphinv.models.checkpoint import write_checkpoint

__all__ = ["CheckpointDirectories", "EpochBar", "WarmupEMA"]


class WarmupEMA(WeightAveraging):
    """Exponential moving average whose decay at update n is min(decay, (1 + n) / (10 + n)), as in the paper's code."""

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=_warmup_average(decay))

    def averaged(self) -> dict[str, Tensor]:
        """Return the averaged weights of the generator by name."""
        if self._average_model is None:
            return {}
        prefix = "generator."
        state = self._average_model.module.state_dict()
        return {k.removeprefix(prefix): v.detach() for k, v in state.items() if k.startswith(prefix)}


def _warmup_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        n = int(updates)
        torch._foreach_lerp_(list(averaged), list(current), 1 - min(decay, (1 + n) / (10 + n)))

    return update


class CheckpointDirectories(Callback):
    """Writes ``last/`` (with the trainer's state, for resuming) and ``best/`` (lowest validation loss), atomically.

    Args:
        directory: the run directory.
        metadata: what the checkpoint should carry; epoch, step, seconds and losses are added.
        ema: where the averaged weights are, or None.
        every_s: seconds between writes of ``last/``; the end of the training always writes it.
    """

    def __init__(self, directory: Path, metadata: dict[str, Any], ema: WarmupEMA | None, every_s: float = 10.0) -> None:
        self.directory, self.metadata, self.ema, self.every_s = directory, metadata, ema, every_s
        self.best = math.inf
        self.seconds = 0.0
        self._since = self._written = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training goes on from."""
        return {"best": self.best, "seconds": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best loss and the seconds of the interrupted training."""
        self.best, self.seconds = state_dict["best"], state_dict["seconds"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._since = self._written = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write ``best/`` if this is it, and ``last/`` if it is time.

        Raises:
            InputError: the training loss or a weight is not finite; what was written before stays.
        """
        _check_finite(trainer, pl_module)
        key = "valid_loss" if trainer.enable_validation else "train_loss"
        loss = float(trainer.callback_metrics.get(key, math.nan))
        ending = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if loss < self.best or (ending and self.best == math.inf):  # the end may come before the first validation
            self.best = min(self.best, loss)
            self._write(trainer, pl_module, "best")
        if ending or time.monotonic() - self._written > self.every_s:
            self._write(trainer, pl_module, "last")
            self._written = time.monotonic()

    def _write(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, name: str) -> None:
        generator = pl_module.generator
        assert isinstance(generator, GraphGenerator)
        losses = {k: v if math.isfinite(v := float(value)) else None for k, value in trainer.callback_metrics.items()}
        progress = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "seconds": self._elapsed(),
            **losses,
        }
        with atomic_directory(self.directory / name) as folder:
            if trainer.is_global_zero:
                ema = None if self.ema is None else self.ema.averaged()
                write_checkpoint(generator, folder, {**self.metadata, "progress": progress}, ema)
            if name == "last":
                trainer.save_checkpoint(folder / "trainer.ckpt")

    def _elapsed(self) -> float:
        return round(self.seconds + time.monotonic() - self._since, 1)


def _check_finite(trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
    loss = float(trainer.callback_metrics.get("train_loss", 0.0))
    if not math.isfinite(loss):
        found = f"the training loss is {loss}"
    elif not all(bool(p.isfinite().all()) for p in module.parameters()):
        found = "weights are not finite"
    else:
        return
    raise InputError(
        f"{found} after epoch {trainer.current_epoch + 1}: lower learning_rate = "
        f"{trainer.optimizers[0].defaults['lr']:g} and start anew in another directory; checkpoints of earlier epochs "
        "stay as they are"
    )


class EpochBar(Callback):
    """One bar over all epochs, with the losses of the last one."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open the bar where the training starts or goes on."""
        self._bar = tqdm(
            total=trainer.max_epochs, initial=trainer.current_epoch, desc="training", unit="epoch", disable=None
        )

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Advance the bar."""
        shown = ("train_loss", "valid_loss")
        values = {k: f"{float(trainer.callback_metrics[k]):.3f}" for k in shown if k in trainer.callback_metrics}
        self._bar.set_postfix(values, refresh=False)
        self._bar.update()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
