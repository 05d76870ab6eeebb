"""A generator as a Lightning module: one optimiser over its networks, each clipped by itself.

The networks of GDSS have disjoint gradients, so one optimiser equals the paper's two.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Timer
from torch import Tensor

from graphinv.data import GraphLoader, GraphStore
from graphinv.graphs import GraphBatch
from graphinv.models import GraphGenerator
from graphinv.models.base import PaddedBatch
from graphinv.training.config import TrainConfig, parse_duration

__all__ = ["GeneratorModule"]


class GeneratorModule(lightning.LightningModule):
    """Trains ``generator`` on the train split of ``store``, validates on its valid split (test, if it has none).

    Args:
        generator: the model.
        store: the graphs.
        settings: see ``TrainConfig``.
    """

    def __init__(self, generator: GraphGenerator, store: GraphStore, settings: TrainConfig) -> None:
        super().__init__()
        self.generator = generator
        self.store = store
        self.settings = settings
        self.noise: torch.Generator | None = None

    def train_dataloader(self) -> GraphLoader:
        """Return the batches of the current epoch; their order depends on (seed, epoch) only."""
        s = self.settings
        world = (self.trainer.global_rank, self.trainer.world_size)
        loader = GraphLoader(
            self.store, "train", s.batch_size, seed=s.seed, bucket=s.bucket, rank=world[0], world_size=world[1]
        )
        loader.set_epoch(self.current_epoch)
        return loader

    def val_dataloader(self) -> GraphLoader | list[Any]:
        """Return the validation batches, the same ones every time."""
        split = validation_split(self.store)
        if split is None:
            return []
        return GraphLoader(self.store, split, self.settings.batch_size, shuffle=False, bucket=True)

    def on_fit_start(self) -> None:
        """Seed the noise, one stream per rank."""
        if self.noise is None:
            self.noise = self._generator(self.settings.seed + 7919 * self.global_rank)

    def on_before_batch_transfer(self, batch: GraphBatch, dataloader_idx: int) -> PaddedBatch:
        """Check and pad a batch while it is on the host, so that no step waits for a GPU."""
        return self.generator.pad(batch)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Send a batch to a GPU that may still be at work on the one before."""
        sent = {f.name: getattr(batch, f.name).to(device, non_blocking=True) for f in dataclasses.fields(batch)}
        return dataclasses.replace(batch, **sent)

    def training_step(self, batch: PaddedBatch, index: int) -> Tensor:
        """Return the loss of a batch."""
        parts = self.generator.losses(batch, self.noise)
        self._log("train", parts, batch)
        return torch.stack(list(parts.values())).sum()

    def on_validation_epoch_start(self) -> None:
        """Draw the same times and noise in every validation, so that its losses can be compared."""
        self._validation_noise = self._generator(self.settings.seed + 1)

    def validation_step(self, batch: PaddedBatch, index: int) -> None:
        """Log the loss of a batch."""
        self._log("valid", self.generator.losses(batch, self._validation_noise), batch)

    def configure_optimizers(self) -> Any:
        """Return the optimiser and the schedule of the settings; the rate changes after every step."""
        s = self.settings
        kind = torch.optim.AdamW if s.optimizer == "adamw" else torch.optim.Adam
        # fused: one pass over the weights instead of one for each operator
        optimizer = kind(self.generator.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay, fused=True)
        factor = _rate(s, max(1, len(self.train_dataloader())), self._elapsed)
        rule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rule, "interval": "step"}}

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        """Clip the gradient norm of each network by itself."""
        if self.settings.clip > 0:
            for network in self.generator.networks().values():
                torch.nn.utils.clip_grad_norm_(network.parameters(), self.settings.clip)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the noise, so that a resumed training equals an uninterrupted one."""
        if self.noise is not None:
            checkpoint["noise_state"] = self.noise.get_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of the noise."""
        self.noise = self._generator(0)
        self.noise.set_state(checkpoint["noise_state"].cpu())

    def _log(self, stage: str, parts: dict[str, Tensor], batch: PaddedBatch) -> None:
        values = {f"{stage}_{name}": value.detach() for name, value in parts.items()}
        values[f"{stage}_loss"] = torch.stack(list(values.values())).sum()
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(batch.mask), sync_dist=True)

    def _elapsed(self) -> float:
        """Return the seconds of training so far, those before a resume included."""
        timers = [c for c in self.trainer.callbacks if isinstance(c, Timer)]  # type: ignore[attr-defined]
        return timers[0].time_elapsed() if timers else 0.0

    def _generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)


def _rate(settings: TrainConfig, epoch: int, elapsed: Callable[[], float]) -> Callable[[int], float]:
    """Return the factor on the learning rate at a step, for ``epoch`` steps an epoch and seconds ``elapsed()``."""
    limit = math.inf if settings.max_time is None else parse_duration(settings.max_time).total_seconds()

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / (settings.warmup + 1))
        if settings.schedule == "exponential":
            return float(rise * settings.gamma ** (step // epoch))
        done = max(step / (settings.max_epochs * epoch), elapsed() / limit)
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor


def validation_split(store: GraphStore) -> Literal["valid", "test"] | None:
    """Return "valid", else "test", else None: the first split that holds a graph."""
    splits: tuple[Literal["valid", "test"], ...] = ("valid", "test")
    return next((name for name in splits if store.indices(name).numel()), None)
