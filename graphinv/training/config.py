"""The settings of a training, as one frozen dataclass."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from graphinv.errors import InputError
from graphinv.models import GraphGenerator, generator_class, generator_kinds

__all__ = ["TrainConfig", "parse_duration"]

_CHOICES = {
    "schedule": ("exponential", "cosine"),
    "optimizer": ("adam", "adamw"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
}
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class TrainConfig:
    """How a generator is trained.

    Attributes:
        max_epochs: passes over the training split.
        max_time: wall-clock limit such as "30m" or "1h30m"; it includes the time before a resume. Whichever limit
            comes first ends the training.
        batch_size: graphs per step.
        learning_rate: of the optimiser, after the warm-up.
        weight_decay: of the optimiser.
        optimizer: "adam" (weight decay in the gradient) or "adamw" (decoupled).
        schedule: "exponential" multiplies the rate by ``gamma`` after each epoch, "cosine" lets it fall step by step to
            zero at ``max_epochs`` or ``max_time``, whichever is nearer.
        gamma: factor of the exponential schedule.
        warmup: steps over which the rate rises linearly from zero.
        clip: gradient norm limit, for each network by itself; 0 switches clipping off.
        ema: decay of the averaged weights, warmed up as min(ema, (1 + n) / (10 + n)) at update n.
        use_ema: sample from (and validate) the averaged weights.
        bucket: batches of graphs of like size; off, batches are drawn regardless of size.
        validate_every: epochs between validations.
        checkpoint_every: how often the state is written inside an epoch that takes longer, such as "10m"; it is written
            after epochs as well.
        seed: of the order of the batches and of the noise.
        accelerator: "auto", "cpu", "gpu", ... as in ``lightning.Trainer``; never "mps", which has no float64.
        devices: how many of them.
        threads: of the CPU; 0 takes those with which a step is fastest, by a short timing, unless OMP_NUM_THREADS is
            set. A resumed training goes on with what it began with.
        precision: "32-true", or of the products "bf16-mixed" or "16-mixed" (on a GPU), as in ``lightning.Trainer``;
            weights, losses and averages are float32 in any case.
    """

    max_epochs: int = 300
    max_time: str | None = None
    batch_size: int = 1024
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    optimizer: Literal["adam", "adamw"] = "adam"
    schedule: Literal["exponential", "cosine"] = "exponential"
    gamma: float = 0.999
    warmup: int = 0
    clip: float = 1.0
    ema: float = 0.999
    use_ema: bool = True
    bucket: bool = True
    validate_every: int = 1
    checkpoint_every: str = "10m"
    seed: int = 0
    accelerator: str = "auto"
    devices: int = 1
    threads: int = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "learning_rate", "validate_every"):
            if not 0 < getattr(self, name) < math.inf:  # also refuses NaN
                raise InputError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        for name in ("weight_decay", "clip", "seed", "warmup", "threads"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")
        if not 0 <= self.ema < 1 or not 0 < self.gamma <= 1:
            raise InputError(f"expected 0 <= ema < 1 and 0 < gamma <= 1, got {self.ema} and {self.gamma}")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"unknown {name} {getattr(self, name)!r}; available: {', '.join(known)}")
        for duration in (self.max_time, self.checkpoint_every):
            if duration is not None:
                parse_duration(duration)

    @classmethod
    def preset(cls, name: str, model: str | type[GraphGenerator] | None = None, **changes: Any) -> TrainConfig:
        """Return the settings that go with a preset of a generator, as ``GDSS.preset(name)`` has its model.

        Args:
            name: of the preset, in any case.
            model: the generator or its kind; None is the first registered one that has the preset.
            changes: fields to replace.

        Raises:
            InputError: that generator has no such preset, or there is no such generator.

        Example:
            >>> TrainConfig.preset("qm9", max_time="30m").batch_size
            1024
            >>> TrainConfig.preset("qm9", "pard").optimizer
            'adamw'
        """
        if model is None:
            model = next((kind for kind in generator_kinds() if _has(kind, name)), generator_kinds()[0])
        owner = generator_class(model) if isinstance(model, str) else model
        return cls(**{**owner.preset_settings(name).training, **changes})


def _has(kind: str, preset: str) -> bool:
    """Return whether the generator loads and has the preset."""
    try:
        generator_class(kind).preset_settings(preset)
    except InputError:
        return False
    return True


def parse_duration(text: str) -> timedelta:
    """Return the time that "90s", "30m", "1h30m" or "2d" means.

    Raises:
        InputError: the text is not of this form, or means no time at all.

    Example:
        >>> parse_duration("1h30m").total_seconds()
        5400.0
    """
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
        raise InputError(f"cannot read the duration {text!r}; write it like 90s, 30m, 1h30m or 2d")
    seconds = sum(float(n) * _UNITS[u] for n, u in re.findall(r"(\d+(?:\.\d+)?)([smhd])", text))
    if seconds <= 0:
        raise InputError(f"the duration {text!r} is no time at all")
    return timedelta(seconds=seconds)
