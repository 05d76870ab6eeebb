"""The settings of the GDSS paper per data set, one for the embedded set and two with the joint network, as data.

arXiv:2202.02514, appendix, as its published configurations have them. Samplers default to 40 steps tuned on QM9, S4
with 100 steps elsewhere, where the paper runs 1000; ``paper_sampler`` keeps the paper's for comparison. "qm9-ppgn" and
"community_small-ppgn" are ours: one network that reads the time, a matched prior, few steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from graphinv.models.gdss.config import GDSSConfig, SamplerConfig
from graphinv.models.settings import Preset

__all__ = ["PRESETS", "GDSSPreset"]


@dataclass(frozen=True)
class GDSSPreset(Preset):
    """A model, its training settings and the paper's own sampler.

    Attributes:
        model: the networks and SDEs.
        training: fields of ``graphinv.TrainConfig``.
        paper_sampler: the sampler of the published configuration.
    """

    model: GDSSConfig
    paper_sampler: SamplerConfig


def _generic(node_types: int, nodes: int, **changes: Any) -> GDSSConfig:
    settings: dict[str, Any] = {
        "node_input": "degree",
        "node_sde": "vp",
        "edge_sde": "vp",
        "node_hidden": 32,
        "edge_hidden": 32,
        "attention": 32,
        "edge_depth": 5,
        "mlp_layers": 2,
    }
    return GDSSConfig(node_types=node_types, max_nodes=nodes, **{**settings, **changes})


def _training(batch_size: int, epochs: int, rate: float, **changes: Any) -> Mapping[str, Any]:
    return {"batch_size": batch_size, "max_epochs": epochs, "learning_rate": rate, **changes}


def _paper(solver: Literal["s4", "reverse", "euler"], snr: float, scale_eps: float) -> SamplerConfig:
    return SamplerConfig(solver, 1000, snr, scale_eps, "batch", False, "threshold")


_ZINC = GDSSConfig(
    node_types=9, max_nodes=38, node_sde="vp", edge_low=0.2, edge_depth=6, sampler=SamplerConfig(scale_eps=0.9)
)
_ZINC_GMH = GDSSConfig(
    node_types=9, max_nodes=38, node_sde="vp", edge_low=0.2, edge_depth=6, node_network="gmh",
    sampler=SamplerConfig(scale_eps=0.8),
)  # fmt: skip
_EGO = _generic(17, 18, node_depth=2, sampler=SamplerConfig(snr=0.05, scale_eps=0.4))
_COMMUNITY = _generic(10, 20, node_depth=3, sampler=SamplerConfig(snr=0.05))
_ENZYMES = _generic(10, 125, node_depth=5, edge_depth=7, edge_sde="ve", edge_low=0.2, sampler=SamplerConfig(snr=0.15))
_GRID = _generic(
    5, 361, node_depth=5, edge_depth=7, edge_low=0.2, edge_high=0.8, sampler=SamplerConfig(snr=0.1)
)  # fmt: skip

_QM9 = GDSSConfig(sampler=SamplerConfig("exponential", 40, snr=0.2, scale_eps=0.68, early=1.5))
_JOINT = GDSSConfig(
    node_low=0.12, node_high=2.0, edge_low=0.12, edge_high=2.0, prior="matched", network="ppgn", node_hidden=96,
    edge_hidden=16, edge_depth=3, sampler=SamplerConfig("exponential", 20, snr=0.0),
)  # fmt: skip

_COMMUNITY_JOINT = _generic(
    10, 20, node_low=0.12, node_high=8.0, edge_low=0.12, edge_high=8.0, prior="matched", network="ppgn",
    sampler=SamplerConfig("exponential", 50, snr=0.2), node_hidden=64, edge_hidden=16, edge_depth=3,
)  # fmt: skip
_TIMED = {"schedule": "cosine", "optimizer": "adamw"}

PRESETS: Mapping[str, GDSSPreset] = {
    "smallmol": GDSSPreset(
        GDSSConfig(max_nodes=7), _training(256, 80, 0.01, schedule="cosine"), _paper("reverse", 0.2, 0.7)
    ),
    "qm9": GDSSPreset(_QM9, _training(1024, 300, 0.005), _paper("reverse", 0.2, 0.7)),
    "qm9-ppgn": GDSSPreset(
        _JOINT,
        _training(128, 60, 0.002, **_TIMED, warmup=500, weight_decay=0.01, ema=0.9995),
        _paper("reverse", 0.2, 0.7),
    ),
    "zinc250k": GDSSPreset(_ZINC, _training(1024, 500, 0.005), _paper("reverse", 0.2, 0.9)),
    "zinc250k-gmh": GDSSPreset(_ZINC_GMH, _training(1024, 800, 0.005), _paper("reverse", 0.2, 0.8)),
    "ego_small": GDSSPreset(_EGO, _training(128, 5000, 0.01), _paper("euler", 0.0, 0.0)),
    "community_small": GDSSPreset(_COMMUNITY, _training(128, 5000, 0.01), _paper("euler", 0.05, 0.7)),
    "community_small-ppgn": GDSSPreset(
        _COMMUNITY_JOINT, _training(20, 2300, 0.001, **_TIMED, warmup=200), _paper("euler", 0.05, 0.7)
    ),
    "ENZYMES": GDSSPreset(_ENZYMES, _training(64, 5000, 0.01), _paper("s4", 0.15, 0.7)),
    "grid": GDSSPreset(_GRID, _training(8, 5000, 0.01), _paper("reverse", 0.1, 0.7)),
}
