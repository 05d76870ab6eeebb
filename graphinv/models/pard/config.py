"""What defines a PARD model and how it is sampled, as two frozen dataclasses; see ``settings`` for the rules."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import Literal

from graphinv.errors import InputError
from graphinv.models.settings import check_choices
from graphinv.nn.block import BlockSettings

__all__ = ["BlockSampler", "PARDConfig"]


@dataclass(frozen=True)
class BlockSampler:
    """How samples are drawn.

    Attributes:
        steps: most denoising steps of a block.
        steps_per_element: a block of k unknown nodes and pairs gets at most this times k steps, and at least one.
        temperature: divides the logits of nodes and pairs; below 1 sharpens, above 1 flattens.
    """

    steps: int = 100
    steps_per_element: float = 2.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.steps_per_element < inf or not 0 < self.temperature < inf:
            raise InputError(
                "expected steps >= 1, steps_per_element > 0 and temperature > 0, "
                f"got {self.steps}, {self.steps_per_element} and {self.temperature}"
            )

    def steps_of(self, elements: int) -> int:
        """Return the denoising steps of a block with ``elements`` unknown nodes and pairs.

        Example:
            >>> BlockSampler(steps=20).steps_of(9), BlockSampler(steps=20).steps_of(100)
            (18, 20)
        """
        return max(1, min(self.steps, int(-(-elements * self.steps_per_element // 1))))


@dataclass(frozen=True)
class PARDConfig:
    """Everything that defines a PARD model; the defaults are the paper's shapes.

    Attributes:
        node_types: K, kinds of nodes.
        edge_types: kinds of edges, "none" not counted.
        max_nodes: most nodes of a graph; bounds number, size and degree of blocks.
        max_hops: H of the block order; 0 is one block, plain diffusion of the whole graph.
        order: "tuple" compares walk counts hop by hop; "legacy" is the published code's weight, with its wrong ties.
        prior: what noise is: "marginal" (frequencies of the data), "uniform" or "absorbing" (an unknown state).
        diffusion_steps: T, times of the training: 1/T .. 1.
        ce_weight: weight of the cross entropy beside the variational bound.
        block_time: each block of a training graph has a time of its own, instead of one per graph.
        context_noise: share of the finished nodes and pairs that training replaces by draws from their marginals.
        trunk: "shared" by denoiser and block heads, or "separate" networks.
        node_dim: channels of nodes.
        edge_dim: channels of pairs.
        layers: of the trunk.
        heads: of attention; must divide node_dim.
        norm: "layer", "rms", or "batch" (the paper's code, which overwrites the residual stream).
        absolute: nodes see the number of their block.
        relative: pairs see how many blocks their ends are apart.
        recompute: what the backward pass computes again instead of keeping it: "none", "pairs" (the inside of pair
            functions: a third less memory for little time) or "layers" (least memory).
        sampler: how samples are drawn unless told otherwise.
    """

    node_types: int = 4
    edge_types: int = 3
    max_nodes: int = 9
    max_hops: int = 3
    order: Literal["tuple", "legacy"] = "tuple"
    prior: Literal["marginal", "uniform", "absorbing"] = "marginal"
    diffusion_steps: int = 50
    ce_weight: float = 0.1
    block_time: bool = True
    context_noise: float = 0.0
    trunk: Literal["shared", "separate"] = "shared"
    node_dim: int = 256
    edge_dim: int = 64
    layers: int = 8
    heads: int = 8
    norm: Literal["layer", "rms", "batch"] = "layer"
    absolute: bool = True
    relative: bool = True
    recompute: Literal["none", "pairs", "layers"] = "pairs"
    sampler: BlockSampler = BlockSampler()

    def __post_init__(self) -> None:
        if isinstance(self.sampler, dict):  # from JSON
            object.__setattr__(self, "sampler", BlockSampler(**self.sampler))
        check_choices(self)
        if self.max_hops < 0 or self.diffusion_steps < 1:
            raise InputError(
                f"expected max_hops >= 0 and diffusion_steps >= 1, got {self.max_hops} and {self.diffusion_steps}"
            )
        if not self.ce_weight >= 0 or not 0 <= self.context_noise < 1:
            raise InputError(
                f"expected ce_weight >= 0 and 0 <= context_noise < 1, got {self.ce_weight} and {self.context_noise}"
            )
        self.shapes()

    def shapes(self) -> BlockSettings:
        """Return what the network is built from."""
        names = {f.name for f in fields(BlockSettings)}
        return BlockSettings(**{name: getattr(self, name) for name in names})
