"""What happens beside the steps: averaged weights, checkpoint directories, progress."""

from __future__ import annotations

import math
import sys
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

__all__ = ["CheckpointDirectories", "Progress", "WarmupEMA"]

_ASKED = 16  # steps between looks at the clock of rank 0


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
        metadata: what the checkpoint should carry; epoch, step, seconds, processor seconds and losses are added.
        ema: where the averaged weights are, or None.
        within_s: seconds without a write of ``last/`` after which an epoch is interrupted for one.
        every_s: seconds between writes at the ends of epochs; the end of the training always writes.
    """

    def __init__(
        self,
        directory: Path,
        metadata: dict[str, Any],
        ema: WarmupEMA | None,
        within_s: float = math.inf,
        every_s: float = 10.0,
    ) -> None:
        self.directory, self.metadata, self.ema = directory, metadata, ema
        self.within_s, self.every_s = within_s, every_s
        self.best = math.inf
        self.seconds = self.cpu_seconds = 0.0
        self._since = self._written = time.monotonic()
        self._cpu_since = time.process_time()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training goes on from."""
        return {"best": self.best, **self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best loss and the seconds of the interrupted training."""
        self.best, self.seconds, self.cpu_seconds = (state_dict[k] for k in ("best", "seconds", "cpu_seconds"))

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clocks."""
        self._since = self._written = time.monotonic()
        self._cpu_since = time.process_time()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write ``last/`` inside an epoch that has gone on for long.

        Raises:
            InputError: a weight is not finite; what was written before stays.
        """
        if batch_idx + 1 < trainer.num_training_batches and self._is_due(trainer, self.within_s, batch_idx):
            _check_finite(trainer, pl_module)
            self._write(trainer, pl_module, "last", trainer.current_epoch)
            self._written = time.monotonic()

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
            self._write(trainer, pl_module, "best", trainer.current_epoch + 1)
        if self._is_due(trainer, min(self.every_s, self.within_s)) or ending:
            self._write(trainer, pl_module, "last", trainer.current_epoch + 1)
            self._written = time.monotonic()

    def _write(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, name: str, epochs: int) -> None:
        generator = pl_module.generator
        assert isinstance(generator, GraphGenerator)
        losses = {k: v if math.isfinite(v := float(value)) else None for k, value in trainer.callback_metrics.items()}
        progress = {
            "epoch": epochs,
            "step": trainer.global_step,
            **self._elapsed(),
            **losses,
        }
        if not trainer.is_global_zero:
            if name == "last":
                trainer.save_checkpoint(self.directory / name / "trainer.ckpt")  # takes part; rank 0 writes
            return
        with atomic_directory(self.directory / name) as folder:
            ema = None if self.ema is None else self.ema.averaged()
            write_checkpoint(generator, folder, {**self.metadata, "progress": progress}, ema)
            if name == "last":
                trainer.save_checkpoint(folder / "trainer.ckpt")

    def _is_due(self, trainer: lightning.Trainer, seconds: float, step: int = 0) -> bool:
        """Return whether the last write is so long ago; of several processes rank 0 says so, now and then."""
        due = time.monotonic() - self._written > seconds
        if trainer.world_size == 1:
            return due
        return step % _ASKED == 0 and bool(trainer.strategy.broadcast(due))

    def _elapsed(self) -> dict[str, float]:
        """Return the seconds of training so far, by the clock and of this process on its processors."""
        cpu = self.cpu_seconds + time.process_time() - self._cpu_since
        return {"seconds": round(self.seconds + time.monotonic() - self._since, 1), "cpu_seconds": round(cpu, 1)}


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


class Progress(Callback):
    """A bar over the steps of all epochs on a terminal, elsewhere a line every ``every_s`` seconds.

    Args:
        every_s: seconds between lines.
    """

    def __init__(self, every_s: float = 30.0) -> None:
        self.every_s = every_s
        self._bar: Any = None
        self._sum, self._steps = 0.0, 0
        self._since = self._last = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open the bar where the training starts or goes on."""
        self._since = self._last = time.monotonic()
        total = int(trainer.max_epochs or 0) * int(trainer.num_training_batches)
        if sys.stderr.isatty() and trainer.is_global_zero:
            self._bar = tqdm(total=total, initial=trainer.global_step, desc="training", unit="step")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance; say the mean loss of the steps since the last time."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self._sum, self._steps = self._sum + float(loss.detach()), self._steps + 1
        if self._bar is not None:
            self._bar.update()
        if time.monotonic() - self._last > (1.0 if self._bar is not None else self.every_s):
            self._tell(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say the losses at the end of a training that took long."""
        ending = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if ending and (self._bar is not None or time.monotonic() - self._since > self.every_s):
            self._tell(trainer)

    def _tell(self, trainer: lightning.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        values = {"loss": f"{self._sum / max(self._steps, 1):.3f}", "rate": f"{rate:.2g}"}
        if "valid_loss" in trainer.callback_metrics:
            values["valid"] = f"{float(trainer.callback_metrics['valid_loss']):.3f}"
        self._sum, self._steps, self._last = 0.0, 0, time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix(values)
            return
        of, steps = trainer.max_epochs, int(trainer.num_training_batches)
        step = f"epoch {trainer.current_epoch + 1}/{of}, step {trainer.global_step}/{int(of or 0) * steps}"
        shown = ", ".join(f"{k} {v}" for k, v in values.items())
        print(f"{step}, {shown}, {_clock(time.monotonic() - self._since)}", file=sys.stderr, flush=True)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def _clock(seconds: float) -> str:
    """Return "1:02:03" or "2:03"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
