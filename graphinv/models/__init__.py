"""Graph generators: each makes graphs, knows its loss and saves itself as a directory of JSON and safetensors."""

from graphinv.models.base import GraphGenerator
from graphinv.models.gdss import GDSS
from graphinv.models.presets import GDSSPreset, gdss_preset, gdss_presets
from graphinv.models.settings import GDSSConfig, SamplerConfig

__all__ = ["GDSS", "GDSSConfig", "GDSSPreset", "GraphGenerator", "SamplerConfig", "gdss_preset", "gdss_presets"]
