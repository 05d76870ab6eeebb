"""Graph generators: each makes graphs, knows its loss, describes itself and saves itself as JSON and safetensors.

``register`` makes one's own known beside them.
"""

from __future__ import annotations

from typing import Any

from graphinv.errors import warn_old_name
from graphinv.models.base import Callback, GraphGenerator, SampleRequest
from graphinv.models.gdss import GDSS, GDSSConfig, GDSSPreset, SamplerConfig
from graphinv.models.pard import PARD, BlockSampler, PARDConfig
from graphinv.models.pard.ordered_store import ordered_store
from graphinv.models.registry import generator_class, generator_kinds, register
from graphinv.models.settings import Preset

__all__ = [
    "GDSS",
    "PARD",
    "BlockSampler",
    "Callback",
    "GDSSConfig",
    "GDSSPreset",
    "GraphGenerator",
    "PARDConfig",
    "Preset",
    "SampleRequest",
    "SamplerConfig",
    "generator_class",
    "generator_kinds",
    "ordered_store",
    "register",
]

register(GDSS)
register(PARD)

_OLD: dict[str, tuple[str, Any]] = {
    "PARDPreset": ("Preset", Preset),
    "PARD_TRAINING": ("PARD.training_defaults", PARD.training_defaults),
    "gdss_preset": ("GDSS.preset_settings", GDSS.preset_settings),
    "gdss_presets": ("GDSS.presets", lambda: tuple(GDSS.presets)),
    "pard_preset": ("PARD.preset_settings", PARD.preset_settings),
    "pard_presets": ("PARD.presets", lambda: tuple(PARD.presets)),
}


def __getattr__(name: str) -> Any:
    if name not in _OLD:
        raise AttributeError(f"module 'graphinv.models' has no attribute {name!r}; it has {', '.join(__all__)}")
    new, value = _OLD[name]
    warn_old_name(name, new)
    return value
