"""PARD (arXiv:2402.03687): graphs generated block after block, each block unnoised beside the finished ones."""

from graphinv.models.pard.config import BlockSampler, PARDConfig
from graphinv.models.pard.model import PARD

__all__ = ["PARD", "BlockSampler", "PARDConfig"]
