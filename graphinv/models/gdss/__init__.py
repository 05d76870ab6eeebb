"""GDSS (arXiv:2202.02514): all nodes and edges unnoised at once, as real numbers."""

from graphinv.models.gdss.config import GDSSConfig, SamplerConfig
from graphinv.models.gdss.model import GDSS, make_solver, quantise
from graphinv.models.gdss.presets import GDSSPreset

__all__ = ["GDSS", "GDSSConfig", "GDSSPreset", "SamplerConfig", "make_solver", "quantise"]
