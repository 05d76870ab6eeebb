"""Graph generators: each makes graphs, knows its loss and saves itself as a directory of JSON and safetensors."""

from graphinv.models.base import GraphGenerator
from graphinv.models.gdss import GDSS, GDSSConfig, GDSSPreset, SamplerConfig, gdss_preset, gdss_presets
from graphinv.models.pard import PARD, PARD_TRAINING, BlockSampler, PARDConfig, PARDPreset, pard_preset, pard_presets
from graphinv.models.pard.ordered_store import ordered_store

__all__ = [
    "GDSS",
    "PARD",
    "PARD_TRAINING",
    "BlockSampler",
    "GDSSConfig",
    "GDSSPreset",
    "GraphGenerator",
    "PARDConfig",
    "PARDPreset",
    "SamplerConfig",
    "gdss_preset",
    "gdss_presets",
    "ordered_store",
    "pard_preset",
    "pard_presets",
]
