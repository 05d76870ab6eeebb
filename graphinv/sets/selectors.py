"""Networks that choose a subset of every ground set: EquiVSet (arXiv:2203.01693) and INSET (arXiv:2402.03139).

EquiVSet learns a set function F and a recognition network q at once: q follows the posterior exp F, and F is trained
through one mean-field step that starts from q. INSET lets F see the whole ground set.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphinv.aggr import GroupAggregation
from graphinv.errors import InputError
from graphinv.sets._head import Activation
from graphinv.sets.batch import SetBatch
from graphinv.sets.choice import above_threshold, labelled, membership_loss, top_k, wanted_sizes
from graphinv.sets.functions import SetFunction, Superset
from graphinv.sets.inference import Mode, elbo, mean_field_logits
from graphinv.sets.noise import Noise, PerSetNoise
from graphinv.sets.posterior import IndependentPosterior, RecognitionNetwork

__all__ = ["INSET", "EquiVSet", "SubsetSelector"]

Encoder = Callable[[], nn.Module]  # makes a network of its own from x [N, *] to [N, C]


class SubsetSelector(nn.Module, ABC):
    """Base of the selectors: losses to train by, a score per element, a subset per set.

    Scores of a set depend on its elements, its key and the seed, not on the other sets of the batch.
    """

    @abstractmethod
    def losses(self, batch: SetBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the losses [] to minimise together, by name; ``batch`` must know its subsets."""

    @abstractmethod
    def logits(self, batch: SetBatch, seed: int = 0) -> Tensor:
        """Return the score of each element as a logit, [N]."""

    def networks(self) -> list[list[nn.Parameter]]:
        """Return the parameters in the groups whose gradients are clipped together."""
        return [list(self.parameters())]

    @torch.no_grad()
    def scores(self, batch: SetBatch, seed: int = 0) -> Tensor:
        """Return the probability of each element to be selected, [N] in [0, 1]."""
        return self.logits(batch, seed).sigmoid()

    @torch.no_grad()
    def select(
        self,
        batch: SetBatch,
        sizes: Literal["oracle"] | Tensor | int | None = None,
        threshold: float = 0.5,
        seed: int = 0,
    ) -> Tensor:
        """Return the chosen elements, [N] bool, at least one of each set.

        Elements with equal scores, such as equal rows without noise, are taken in the order of the batch.

        Args:
            batch: the ground sets.
            sizes: how many of each set: "oracle" takes the size of the optimal subset, as the papers do (say so
                beside the number), [B] or one number takes that many, None takes all above ``threshold``.
            threshold: in (0, 1). Training with as many negatives as members makes probabilities too large for
                sets of few members: choose it on validation data, or train with all negatives.
            seed: of the noise, where there is any.

        Raises:
            InputError: a size is not in 1 .. n, the threshold is out of range, or "oracle" sizes are not known.
        """
        if not 0 < threshold < 1:
            raise InputError(f"threshold must be above 0 and below 1, got {threshold}")
        logits = self.logits(batch, seed)  # probabilities near 1 would round to ties
        if sizes is None:
            return above_threshold(logits, batch.ptr, math.log(threshold / (1 - threshold)))
        return top_k(logits, batch.ptr, wanted_sizes(sizes, batch))


class EquiVSet(SubsetSelector):
    """Subset selection by a learned set function and mean-field inference.

    Use it where sets of examples with their best subsets are given and elements interact. One training step costs
    O(N M) rows of a network with two hidden layers; ``mode="first_order"`` O(B M).
    ``model.function.recompute = True`` bounds the memory of a step on large sets.

    Args:
        encoder: called once for each network, makes a module from ``x`` [N, *] to [N, channels]. F sees nothing but
            sums of its rows: after a linear encoder, as the papers take on points, these are the sum of x and |S|.
        channels: C of the encoded elements.
        hidden: width of all networks.
        layers: hidden layers of the set function.
        posterior: where inference starts: "copula" or "independent" memberships of a recognition network, or "none"
            for one half (DiffMF; take several ``steps``).
        samples: M subsets of each expectation.
        steps: K mean-field steps, in training and inference.
        rank: of the copula.
        temperature: of the relaxed draws of the recognition loss.
        superset: None, or how F sees the ground set: "concat" or "gate" (INSET).
        statistic: the aggregator of the ground set; the sum if None.
        mode: how expected differences are found; see ``graphinv.sets.Mode``.
        activation: of F; if None "relu" as in the papers, but "silu" for "first_order", which cannot train biases and
            a concatenated statistic of ReLUs.
        negatives: elements outside of the subset per selected one in the loss of F; None for all of them.
        standardize: make the copula a true one; see ``CopulaPosterior``.

    Raises:
        InputError: a setting is out of range.

    Example:
        >>> from graphinv.sets import two_moons
        >>> model = EquiVSet(lambda: nn.Linear(2, 16), 16, hidden=32)
        >>> batch = two_moons(3, n=20, k=4)
        >>> sorted(model.losses(batch))
        ['function', 'recognition']
        >>> int(model.select(batch, "oracle").sum())
        12
    """

    def __init__(
        self,
        encoder: Encoder,
        channels: int = 256,
        *,
        hidden: int = 500,
        layers: int = 2,
        posterior: Literal["copula", "independent", "none"] = "copula",
        samples: int = 5,
        steps: int = 1,
        rank: int = 5,
        temperature: float = 0.1,
        superset: Superset | None = None,
        statistic: GroupAggregation | None = None,
        mode: Mode = "shared",
        activation: Activation | None = None,
        negatives: int | None = 1,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        ranks = {"copula": rank, "independent": 0, "none": 0}
        if posterior not in ranks:
            raise InputError(f"unknown posterior {posterior!r}; available: {', '.join(ranks)}")
        if min(samples, steps, rank) < 1 or not temperature > 0 or (negatives is not None and negatives < 0):
            raise InputError(
                "expected samples, steps, rank >= 1, temperature > 0 and negatives >= 0 or None, got "
                f"{samples}, {steps}, {rank}, {temperature} and {negatives}"
            )
        self.samples, self.steps, self.temperature = samples, steps, temperature
        self.mode: Mode = mode
        self.negatives = negatives
        activation = activation or ("silu" if mode == "first_order" else "relu")
        function = SetFunction(channels, hidden, layers, superset, statistic, activation=activation)
        self.utility = nn.ModuleList([encoder(), function])
        self.recognition = None
        if posterior != "none":
            self.recognition = nn.ModuleList(
                [encoder(), RecognitionNetwork(channels, hidden, ranks[posterior], standardize)]
            )
            if set(self.utility.parameters()) & set(self.recognition.parameters()):
                raise InputError("the encoder must make new parameters at every call, got the same module twice")

    @property
    def function(self) -> SetFunction:
        """F, which takes what the encoder of ``utility`` returns."""
        function = self.utility[1]
        assert isinstance(function, SetFunction)
        return function

    def networks(self) -> list[list[nn.Parameter]]:
        """Return the parameters of F and of the recognition network, each with its encoder."""
        return [list(part.parameters()) for part in (self.utility, self.recognition) if part is not None]

    def posterior(self, batch: SetBatch) -> IndependentPosterior | None:
        """Return q(S | V) of the recognition network, or None if there is none."""
        if self.recognition is None:
            return None
        q: IndependentPosterior = self.recognition[1](self.recognition[0](batch.x))
        return q

    def losses(self, batch: SetBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return "function" and, with a recognition network, "recognition"; no parameter gets gradients of both.

        - recognition: minus the ELBO, mean over the sets; F is held fixed.
        - function: cross entropy of the optimal subset and its negatives after the mean-field steps from q, summed
          over the elements, mean over the sets; q is held fixed.

        Both are of one moment, so that one backward pass of their sum does; the paper's code moves q before F.

        Raises:
            InputError: the batch does not know its subsets.
        """
        which = labelled(batch, self.negatives, generator)
        q = self.posterior(batch)
        losses = {}
        if q is not None:
            with _frozen(self.utility):
                bound = elbo(
                    self.function,
                    self.utility[0](batch.x),
                    batch.layout,
                    q,
                    samples=self.samples,
                    temperature=self.temperature,
                    generator=generator,
                )
            losses["recognition"] = -bound.mean()
        losses["function"] = membership_loss(self._logits(batch, q, generator), batch, which)
        return losses

    def logits(self, batch: SetBatch, seed: int = 0) -> Tensor:
        """Return logit(psi) after the mean-field steps, [N], with the noise of the seed and each set's key."""
        return self._logits(batch, self.posterior(batch), PerSetNoise(batch.keys, seed))

    def _logits(self, batch: SetBatch, q: IndependentPosterior | None, noise: Noise) -> Tensor:
        phi = self.utility[0](batch.x)
        start = phi.new_full((phi.shape[0],), 0.5) if q is None else q.psi.detach()
        return mean_field_logits(
            self.function,
            phi,
            batch.layout,
            start,
            steps=self.steps,
            samples=self.samples,
            mode=self.mode,
            generator=noise,
        )


class INSET(EquiVSet):
    """EquiVSet whose set function sees a statistic of the whole ground set, concatenated unless asked otherwise.

    Args:
        encoder: as in ``EquiVSet``.
        channels: as in ``EquiVSet``.
        superset: "concat" or "gate".
        settings: the others of ``EquiVSet``; ``statistic=`` takes any aggregator of ``graphinv.aggr``.

    Example:
        >>> from graphinv.sets import two_moons
        >>> model = INSET(lambda: nn.Linear(2, 16), 16, hidden=32)
        >>> model.scores(two_moons(3, n=20, k=4)).shape
        torch.Size([60])
    """

    def __init__(
        self, encoder: Encoder, channels: int = 256, *, superset: Superset = "concat", **settings: Any
    ) -> None:
        if superset is None:
            raise InputError("INSET sees the ground set by superset='concat' or 'gate'; EquiVSet is the one without")
        super().__init__(encoder, channels, superset=superset, **settings)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Leave the parameters out of the graphs that are built inside."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
