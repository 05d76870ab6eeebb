"""What defines a GDSS model and how it is sampled, as two frozen dataclasses.

They are saved in checkpoints as JSON and parsed from the command line, so every field is a number, a string or a
choice of strings; defaults are the paper's for QM9, but for the sampler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from graphinv.errors import InputError
from graphinv.models.settings import check_choices, renamed

__all__ = ["GDSSConfig", "SamplerConfig"]

SDEName = Literal["vp", "ve", "subvp"]


@dataclass(frozen=True)
class SamplerConfig:
    """How samples are drawn.

    Attributes:
        solver: "s4" or "exponential" (one network call per step), "reverse" or "euler" (two with the corrector, one
            without); "flow" (one) or "heun" (two) follow the probability flow without any noise or corrector.
        steps: solver steps; the paper uses 1000.
        snr: signal-to-noise ratio of the Langevin corrector; 0 switches it off.
        scale_eps: factor on the corrector's noise.
        norm: "graph" (a graph never depends on its batch) or "batch" (the paper's code).
        denoise: end in the posterior mean of the data (one closing network call in place of the last step).
        decode: "argmax" of the node types inside the mask, or "threshold" (the paper's code: entries above .5, nodes
            without one are dropped). Graphs without types keep all their nodes.
        early: above 1 makes steps short near noise and long near data; 1 spaces them evenly, as the paper.
    """

    solver: Literal["s4", "exponential", "flow", "reverse", "euler", "heun"] = "s4"
    steps: int = 100
    snr: float = 0.2
    scale_eps: float = 0.7
    norm: Literal["graph", "batch"] = "graph"
    denoise: bool = True
    decode: Literal["argmax", "threshold"] = "argmax"
    early: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self)
        if self.steps < 1 or not self.snr >= 0 or not self.scale_eps >= 0 or not 0 < self.early < math.inf:
            raise InputError(
                "expected steps >= 1, snr >= 0, scale_eps >= 0 and early > 0, "
                f"got {self.steps}, {self.snr}, {self.scale_eps} and {self.early}"
            )


@renamed(features="node_types")
@dataclass(frozen=True)
class GDSSConfig:
    """Everything that defines a GDSS model.

    Attributes:
        node_types: F: node types of a molecule, or one-hot degrees 0..F-1 of a plain graph.
        max_nodes: most nodes of a training graph.
        node_input: "type" (one-hot of the node types) or "degree" (one-hot of the degrees, capped at F-1).
        node_sde: SDE of the nodes.
        node_low: its beta (VP, subVP) or sigma (VE) at t = 0.
        node_high: the same at t = 1.
        edge_sde: SDE of the edges.
        edge_low: its beta or sigma at t = 0.
        edge_high: the same at t = 1.
        prior: what sampling starts from: "standard" (N(0, 1), as the paper, though its processes end elsewhere) or
            "matched" (the mean and variance that the forward process has at t = 1, from the training graphs).
        network: "gdss" (the paper's two networks, which do not read the time) or "ppgn" (one network for nodes and
            edges that reads the time, of the layers of PARD: node_hidden, edge_hidden, edge_depth and heads are its
            shape).
        node_network: "gcn", or "gmh" (attention, as the second ZINC250k model).
        node_depth: layers of the node network.
        node_hidden: width of the node network.
        edge_depth: layers of the edge network.
        edge_hidden: width of the edge network.
        attention: width of its queries and keys, after the first layer.
        mlp_layers: linear maps of the edge MLPs.
        channels_init: powers of the adjacency that enter.
        channels: edge channels between layers.
        channels_final: edge channels after the last layer.
        heads: attention heads; must divide attention and edge_hidden, of ppgn node_hidden.
        sampler: how samples are drawn unless told otherwise.
    """

    node_types: int = 4
    max_nodes: int = 9
    node_input: Literal["type", "degree"] = "type"
    node_sde: SDEName = "ve"
    node_low: float = 0.1
    node_high: float = 1.0
    edge_sde: SDEName = "ve"
    edge_low: float = 0.1
    edge_high: float = 1.0
    prior: Literal["standard", "matched"] = "standard"
    network: Literal["gdss", "ppgn"] = "gdss"
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
        check_choices(self)
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type == "int" and value < 1:
                raise InputError(f"{f.name} must be at least 1, got {value}")
        widths = {"node_hidden": self.node_hidden} if self.network == "ppgn" or self.node_network == "gmh" else {}
        if self.network == "gdss":
            widths |= {"attention": self.attention, "edge_hidden": self.edge_hidden}
        for name, width in widths.items():
            if width % self.heads:
                raise InputError(f"heads = {self.heads} must divide {name}, got {width}")
