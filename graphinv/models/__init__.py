"""Graph generators: each makes graphs, knows its loss and saves itself as a directory of JSON and safetensors."""

from graphinv.models.base import GraphGenerator
from graphinv.models.gdss import GDSS, GDSSConfig, SamplerConfig
from graphinv.models.presets import GDSSPreset, gdss_preset, gdss_presets

__all__ = ["GDSS", "GDSSConfig", "GDSSPreset", "GraphGenerator", "SamplerConfig", "gdss_preset", "gdss_presets"]
