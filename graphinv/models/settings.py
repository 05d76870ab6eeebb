"""What defines a GDSS model and how it is sampled, as two frozen dataclasses.

They are saved in checkpoints as JSON and parsed from the command line, so every field is a number, a string or a
choice of strings; defaults are the paper's for QM9, but for the sampler.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["GDSSConfig", "SamplerConfig"]

SDEName = Literal["vp", "ve", "subvp"]


@dataclass(frozen=True)
class SamplerConfig:
    """How samples are drawn.

    Attributes:
        solver: "s4" (one network call per step), "reverse" or "euler" (two with the corrector, one without).
        steps: solver steps; the paper uses 1000.
        snr: signal-to-noise ratio of the Langevin corrector; 0 switches it off.
        scale_eps: factor on the corrector's noise.
        norm: "graph" (a graph never depends on its batch) or "batch" (the paper's code).
        denoise: end in the posterior mean of the data (one closing network call in place of the last step).
        decode: "argmax" of the node types inside the mask, or "threshold" (the paper's code: entries above .5, nodes
            without one are dropped).
    """

    solver: Literal["s4", "reverse", "euler"] = "s4"
    steps: int = 100
    snr: float = 0.2
    scale_eps: float = 0.7
    norm: Literal["graph", "batch"] = "graph"
    denoise: bool = True
    decode: Literal["argmax", "threshold"] = "argmax"


@dataclass(frozen=True)
class GDSSConfig:
    """Everything that defines a GDSS model.

    Attributes:
        features: F: node types of a molecule, or one-hot degrees 0..F-1 of a generic graph.
        max_nodes: most nodes of a training graph.
        node_input: "type" (one-hot of the node types) or "degree" (one-hot of the degrees, capped at F-1).
        node_sde, node_low, node_high: SDE of the nodes and its beta (VP, subVP) or sigma (VE) at t = 0 and t = 1.
        edge_sde, edge_low, edge_high: likewise for the edges.
        node_network: "gcn", or "gmh" (attention, as the second ZINC250k model).
        node_depth, node_hidden: layers and width of the node network.
        edge_depth, edge_hidden, attention: layers, width and attention width of the edge network.
        mlp_layers: linear maps of the edge MLPs.
        channels_init, channels, channels_final, heads: powers of the adjacency, edge channels, attention heads.
        sampler: how samples are drawn unless told otherwise.
    """

    features: int = 4
    max_nodes: int = 9
    node_input: Literal["type", "degree"] = "type"
    node_sde: SDEName = "ve"
    node_low: float = 0.1
    node_high: float = 1.0
    edge_sde: SDEName = "ve"
    edge_low: float = 0.1
    edge_high: float = 1.0
    node_network: Literal["gcn", "gmh"] = "gcn"
    node_depth: int = 2
    node_hidden: int = 16
    edge_depth: int = 3
    edge_hidden: int = 16
    attention: int = 16
    mlp_layers: int = 3
    channels_init: int = 2
    channels: int = 8
    channels_final: int = 4
    heads: int = 4
    sampler: SamplerConfig = SamplerConfig()

    def __post_init__(self) -> None:
        if isinstance(self.sampler, dict):  # from JSON
            object.__setattr__(self, "sampler", SamplerConfig(**self.sampler))
