"""Training of a selector: Adam, clipped gradients, and the weights of the epoch with the best validation Jaccard."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from graphinv.errors import InputError
from graphinv.sets.batch import SetBatch
from graphinv.sets.metrics import mean_jaccard
from graphinv.sets.selectors import SubsetSelector

__all__ = ["FitConfig", "FitResult", "fit"]


@dataclass(frozen=True)
class FitConfig:
    """How a selector is trained; the defaults are those of EquiVSet (arXiv:2203.01693).

    Attributes:
        learning_rate: of Adam.
        weight_decay: added to the gradient.
        clip: gradient norm limit, for each network by itself; 0 switches clipping off.
        max_epochs: passes over the training sets.
        patience: epochs without a better validation before the training ends.
        batch_size: sets per step.
        seed: of the order of the sets and of the noise.
        max_time_s: seconds after which no further step begins; None for no limit.

    Raises:
        InputError: a setting is out of range.

    Example:
        >>> FitConfig(max_epochs=3).learning_rate
        0.0001
    """

    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    clip: float = 10.0
    max_epochs: int = 100
    patience: int = 6
    batch_size: int = 128
    seed: int = 0
    max_time_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "max_epochs", "patience", "batch_size", "max_time_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be above 0 and finite, got {value}")
        for name in ("weight_decay", "clip", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")


@dataclass(frozen=True)
class FitResult:
    """What ``fit`` found.

    Attributes:
        best_epoch: number of the epoch whose weights are kept, from 0.
        validation: mean Jaccard on the validation sets after every epoch, at the true subset sizes.
        seconds: wall-clock time.
    """

    best_epoch: int
    validation: list[float]
    seconds: float


def fit(
    model: SubsetSelector,
    train: SetBatch,
    validation: SetBatch,
    config: FitConfig | None = None,
    *,
    progress: bool = True,
) -> FitResult:
    """Train ``model`` in place, leave it with its best weights in evaluation mode, and say how it went.

    Validation selects with the true subset sizes, as the papers do, and a fixed seed. Batches go to the device of
    the model. Equal seeds, sets and starting weights give equal results on one machine.

    Args:
        model: a selector.
        train: sets with their subsets.
        validation: other sets with their subsets.
        config: settings; the defaults of ``FitConfig`` if None.
        progress: show a bar on stderr.

    Raises:
        InputError: there are no sets, their subsets are not known, or a loss or gradient stops being finite.

    Example:
        >>> from graphinv.sets import DeepSetsSelector, two_moons
        >>> model = DeepSetsSelector(lambda: torch.nn.Linear(2, 8), 8, hidden=8)
        >>> result = fit(model, two_moons(8, n=10, k=2), two_moons(4, n=10, k=2), FitConfig(max_epochs=2))
        >>> len(result.validation)
        2
    """
    settings = config or FitConfig()
    for name, batch in (("train", train), ("validation", validation)):
        if batch.num_sets == 0:
            raise InputError(f"{name} must hold at least one set, got none")
        _ = batch.truth
    begin = time.monotonic()
    run = _Run(model, train, validation.to(_device(model)), settings, begin)
    with tqdm(total=settings.max_epochs, unit=" epochs", disable=None if progress else True, file=sys.stderr) as bar:
        for epoch in range(settings.max_epochs):
            loss = run.epoch()
            score = run.validate(epoch)
            bar.set_postfix(loss=f"{loss:.3f}", jaccard=f"{score:.3f}", best=f"{run.scores[run.best]:.3f}")
            bar.update()
            if epoch - run.best >= settings.patience or run.out_of_time():
                break
    model.load_state_dict(run.weights)
    return FitResult(run.best, run.scores, time.monotonic() - begin)


class _Run:
    """The state of one training."""

    def __init__(
        self, model: SubsetSelector, train: SetBatch, validation: SetBatch, settings: FitConfig, begin: float
    ) -> None:
        self.model, self.train, self.validation, self.settings, self.begin = model, train, validation, settings, begin
        self.device = _device(model)
        self.order = torch.Generator().manual_seed(settings.seed)
        self.noise = torch.Generator(self.device).manual_seed(settings.seed)
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.scores: list[float] = []
        self.best = 0
        self.weights: dict[str, Any] = {}

    def out_of_time(self) -> bool:
        limit = self.settings.max_time_s
        return limit is not None and time.monotonic() - self.begin > limit

    def epoch(self) -> float:
        """Make one pass and return the mean loss of its steps."""
        self.model.train()
        losses = []
        order = torch.randperm(self.train.num_sets, generator=self.order).to(self.train.ptr.device)
        for ids in torch.split(order, self.settings.batch_size):
            losses.append(self.step(self.train.select(ids).to(self.device)))
            if self.out_of_time():
                break
        return sum(losses) / len(losses)

    def step(self, batch: SetBatch) -> float:
        losses = self.model.losses(batch, self.noise)
        total = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        limit = self.settings.clip or math.inf
        norms = [torch.nn.utils.clip_grad_norm_(group, limit) for group in self.model.networks()]
        value = float(total.detach())
        if not math.isfinite(value) or not all(bool(norm.isfinite()) for norm in norms):
            parts = {name: float(loss.detach()) for name, loss in losses.items()}
            raise InputError(f"the training stopped being finite, losses {parts}; lower learning_rate or scale x")
        self.optimizer.step()
        return value

    def validate(self, epoch: int) -> float:
        self.model.eval()
        chosen: list[Tensor] = []
        ids = torch.arange(self.validation.num_sets, device=self.validation.ptr.device)
        for part in torch.split(ids, self.settings.batch_size):
            chosen.append(self.model.select(self.validation.select(part), "oracle"))
        score = mean_jaccard(torch.cat(chosen), self.validation.truth, self.validation.ptr)
        self.scores.append(score)
        if epoch == 0 or score > self.scores[self.best]:
            self.best = epoch
            self.weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        return score


def _device(model: SubsetSelector) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
