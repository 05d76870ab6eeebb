"""PARD (arXiv:2402.03687): graphs generated block after block, each block unnoised beside the finished ones."""

from graphinv.models.pard.config import BlockSampler, PARDConfig
from graphinv.models.pard.model import PARD
from graphinv.models.pard.presets import PARD_TRAINING, PARDPreset, pard_preset, pard_presets

__all__ = ["PARD", "PARD_TRAINING", "BlockSampler", "PARDConfig", "PARDPreset", "pard_preset", "pard_presets"]
