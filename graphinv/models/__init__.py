"""Graph generators: each makes graphs, knows its loss and saves itself as a directory of JSON and safetensors."""

from graphinv.models._ordered_store import ordered_store
from graphinv.models.base import GraphGenerator
from graphinv.models.gdss import GDSS
from graphinv.models.pard import PARD
from graphinv.models.pard_presets import PARD_TRAINING, PARDPreset, pard_preset, pard_presets
from graphinv.models.pard_settings import BlockSampler, PARDConfig
from graphinv.models.presets import GDSSPreset, gdss_preset, gdss_presets
from graphinv.models.settings import GDSSConfig, SamplerConfig

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
