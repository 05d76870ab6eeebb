"""The one way a generator is trained: Lightning, an averaged copy of the weights, checkpoints that survive a crash."""

from graphinv.training.config import TrainConfig
from graphinv.training.fit import train

__all__ = ["TrainConfig", "train"]
