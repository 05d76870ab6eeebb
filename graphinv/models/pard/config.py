"""What defines a PARD model and how it is sampled, as two frozen dataclasses; see ``settings`` for the rules."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import Literal

from graphinv.errors import InputError
from graphinv.models.settings import check_choices
from graphinv.nn.block import BlockSettings

__all__ = ["BlockSampler", "PARDConfig"]

_CLOSING_NODES = 100  # most nodes of a model that judges the last edges of blocks: n^3 numbers for each block


@dataclass(frozen=True)
class BlockSampler:
    """How samples are drawn.

    Attributes:
        steps: most denoising steps of a block.
        steps_per_element: a block of k unknown nodes and pairs gets at most this times k steps, and at least one.
        temperature: divides the logits of nodes and pairs; below 1 sharpens, above 1 flattens.
        tries: draws of a block until peeling the graph so far takes that block and nothing else, with the key that was
            drawn for it, which is true of all data; the last is kept whatever it is. 1 looks at nothing.
        restarts: how often a graph whose block failed all its tries is begun anew. Graphs that fail more often, which
            larger ones do, then come less often than the model says: it is conditioned on its path.
        valence: nodes take no more bonds (the sum of their edge types) than any of their type did in training; where
            nothing else is possible, the block is drawn again as ``tries`` allow. For the prior "empty".
    """

    steps: int = 100
    steps_per_element: float = 2.0
    temperature: float = 1.0
    tries: int = 1
    restarts: int = 0
    valence: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.steps_per_element < inf or not 0 < self.temperature < inf:
            raise InputError(
                "expected steps >= 1, steps_per_element > 0 and temperature > 0, "
                f"got {self.steps}, {self.steps_per_element} and {self.temperature}"
            )
        if self.tries < 1 or self.restarts < 0:
            raise InputError(f"expected tries >= 1 and restarts >= 0, got {self.tries} and {self.restarts}")

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
        network: "ppgn", with channels for every pair (the paper's), or "tokens", which keeps nodes only and reads of a
            pair what can be counted: for larger graphs and small machines.
        node_types: K, kinds of nodes.
        edge_types: kinds of edges, "none" not counted.
        max_nodes: most nodes of a graph; bounds number, size and degree of blocks.
        max_hops: H of the block order; 0 is one block, plain diffusion of the whole graph.
        order: "tuple" compares walk counts hop by hop; "legacy" is the published code's weight, with its wrong ties.
        prior: what noise is: "marginal" (frequencies of the data), "uniform", "absorbing" (an unknown state), or
            "empty" (unknown nodes, no edges: edges are drawn one by one, and every node gets exactly its degree).
        diffusion_steps: T, times of the training: 1/T .. 1.
        ce_weight: weight of the cross entropy beside the variational bound, which are one under the prior "empty".
        block_time: each block of a training graph has a time of its own, instead of one per graph.
        context_noise: share of the finished nodes and pairs that training replaces by draws from their marginals.
        trunk: "shared" by denoiser and block heads, or "separate" networks.
        copies: noisy copies of each training graph, at levels that lie evenly; the finished graph is read once for all.
            Of a network of tokens under the prior "empty".
        node_dim: channels of nodes.
        edge_dim: channels of pairs; of messages and of the head of pairs in a network of tokens.
        layers: of the trunk.
        heads: of attention; must divide node_dim.
        norm: "layer", "rms", or "batch" (the paper's code, which overwrites the residual stream).
        absolute: nodes see the number of their block.
        relative: pairs see how many blocks their ends are apart.
        recompute: what the backward pass computes again instead of keeping it: "none", "pairs" (the inside of pair
            functions: a third less memory for little time) or "layers" (least memory; of a network of tokens only this
            one makes a difference).
        walks: most walk counts of a block's key that are drawn beside its degree, and given to the block. A network of
            tokens has as many of the max_hops - 1 that the order "tuple" compares, others none. Blocks come more often
            as peeling takes them, and molecules less often valid.
        walk_classes: how many values of each are told apart.
        conditions: numbers that graphs of the store carry, such as "logp", which a network of tokens is told, so that
            samples can be asked for with wanted ones.
        condition_dropout: share of the training graphs of which it is told none of them; of others each with
            probability 1/2.
        cores: share of the training graphs of which a random part (a scaffold, a ring system, a connected piece) counts
            as there from the beginning, so that samples can continue a part; of a network of tokens.
        sampler: how samples are drawn unless told otherwise.
    """

    network: Literal["ppgn", "tokens"] = "ppgn"
    node_types: int = 4
    edge_types: int = 3
    max_nodes: int = 9
    max_hops: int = 3
    order: Literal["tuple", "legacy"] = "tuple"
    prior: Literal["marginal", "uniform", "absorbing", "empty"] = "marginal"
    diffusion_steps: int = 50
    ce_weight: float = 0.1
    block_time: bool = True
    context_noise: float = 0.0
    trunk: Literal["shared", "separate"] = "shared"
    copies: int = 1
    node_dim: int = 256
    edge_dim: int = 64
    layers: int = 8
    heads: int = 8
    norm: Literal["layer", "rms", "batch"] = "layer"
    absolute: bool = True
    relative: bool = True
    recompute: Literal["none", "pairs", "layers"] = "pairs"
    walks: int = 0
    walk_classes: int = 128
    conditions: tuple[str, ...] = ()
    condition_dropout: float = 0.3
    cores: float = 0.0
    sampler: BlockSampler = BlockSampler()

    def __post_init__(self) -> None:
        if isinstance(self.sampler, dict):  # from JSON
            object.__setattr__(self, "sampler", BlockSampler(**self.sampler))
        object.__setattr__(self, "conditions", tuple(self.conditions))  # a list in JSON
        check_choices(self)
        if self.max_hops < 0 or self.diffusion_steps < 1:
            raise InputError(
                f"expected max_hops >= 0 and diffusion_steps >= 1, got {self.max_hops} and {self.diffusion_steps}"
            )
        if not self.ce_weight >= 0 or not 0 <= self.context_noise < 1:
            raise InputError(
                f"expected ce_weight >= 0 and 0 <= context_noise < 1, got {self.ce_weight} and {self.context_noise}"
            )
        self._check_network()
        self.shapes()

    def _check_network(self) -> None:
        tokens = self.network == "tokens"
        if tokens and (self.trunk == "separate" or self.norm != "layer"):
            raise InputError(
                f'network "tokens" has one trunk and layer norm, got trunk {self.trunk!r} and norm {self.norm!r}; '
                'network "ppgn" has the others'
            )
        if self.conditions and not tokens:
            raise InputError(f'only network "tokens" is told conditions, got {self.conditions} for {self.network!r}')
        if not 0 <= self.cores <= 1 or (self.cores and (not tokens or self.order != "tuple" or self.max_hops < 1)):
            raise InputError(
                'cores must be a share in [0, 1], of a network "tokens" and the order "tuple" with max_hops >= 1; got '
                f"{self.cores}, {self.network!r}, {self.order!r} and {self.max_hops}"
            )
        if self.copies < 1 or (self.copies > 1 and not (tokens and self.prior == "empty")):
            raise InputError(
                'copies must be at least 1, and 1 unless network is "tokens" and prior is "empty"; got '
                f"{self.copies}, {self.network!r} and {self.prior!r}"
            )
        if not 0 <= self.condition_dropout <= 1:
            raise InputError(f"condition_dropout must be in [0, 1], got {self.condition_dropout}")
        if self.walks < 0:
            raise InputError(f"walks must be at least 0, got {self.walks}")
        if self.walk_classes < 2:
            raise InputError(f"walk_classes must be at least 2, got {self.walk_classes}")
        if self.prior == "empty" and (self.max_hops < 1 or self.order != "tuple"):
            raise InputError(
                'prior "empty" gives every node of a block the same degree, which the order "tuple" with max_hops >= 1 '
                f"grants; got order {self.order!r} and max_hops = {self.max_hops}"
            )

    @property
    def closing_hops(self) -> int:
        """H of the block order where last edges of blocks are judged by it; 0 in graphs so large that it costs much."""
        return self.max_hops if self.order == "tuple" and self.max_nodes <= _CLOSING_NODES else 0

    def shapes(self) -> BlockSettings:
        """Return what the network is built from."""
        tokens = self.network == "tokens" and self.order == "tuple"
        own = {f.name: getattr(self, f.name, None) for f in fields(BlockSettings)}
        own |= {"hops": self.closing_hops if tokens else 0, "conditions": len(self.conditions)}
        own["walks"] = min(self.walks, max(self.max_hops - 1, 0)) if tokens else 0
        own["continues"] = self.cores > 0
        return BlockSettings(**own)  # type: ignore[arg-type]
