"""The probabilistic greedy model: a subset is built element by element, each drawn by what it would add to F.

PGM, arXiv:1803.01785, the baseline of EquiVSet (arXiv:2203.01693) that learns a set function by likelihood.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from graphinv.aggr import GroupAggregation, GroupLayout
from graphinv.errors import InputError, check_positive
from graphinv.ops import segment_reduce
from graphinv.sets.batch import SetBatch
from graphinv.sets.choice import place_in_set, wanted_sizes
from graphinv.sets.functions import SetFunction, Superset
from graphinv.sets.noise import Noise, row_uniform
from graphinv.sets.selectors import Encoder, SubsetSelector

__all__ = ["GreedySelector"]


class GreedySelector(SubsetSelector):
    """Selection in the order of greed: p(i next | S) = softmax over i outside of S of (F(S u {i}) - F(S)) / T.

    Trained by the likelihood of the optimal subset, in random orders; the mean over orders of its logarithm bounds that
    of the subset from below. Use it as the baseline without inference. A training step costs O(N k) rows of F for
    subsets of k elements, a selection k passes over the batch. It has no notion of when to stop: sizes must be given.

    Args:
        encoder: called once, makes a module from ``x`` [N, *] to [N, channels].
        channels: C of the encoded elements.
        hidden: width of the set function.
        layers: hidden layers of the set function.
        superset: None, or how F sees the ground set, "concat" or "gate". Without, the first element is chosen blindly.
        statistic: the aggregator of the ground set; the sum if None.
        temperature: T.
        orders: random orders of each subset per step.

    Raises:
        InputError: a setting is out of range.

    Example:
        >>> from graphinv.sets import two_moons
        >>> model, batch = GreedySelector(lambda: torch.nn.Linear(2, 16), 16), two_moons(3, n=20, k=4)
        >>> sorted(model.losses(batch)), int(model.select(batch, "oracle").sum())
        (['likelihood'], 12)
    """

    def __init__(
        self,
        encoder: Encoder,
        channels: int = 256,
        *,
        hidden: int = 500,
        layers: int = 2,
        superset: Superset | None = None,
        statistic: GroupAggregation | None = None,
        temperature: float = 1.0,
        orders: int = 1,
    ) -> None:
        super().__init__()
        check_positive(orders=orders)
        if not temperature > 0:
            raise InputError(f"temperature must be above 0, got {temperature}")
        self.encoder, self.function = encoder(), SetFunction(channels, hidden, layers, superset, statistic)
        self.temperature, self.orders = temperature, orders

    def losses(self, batch: SetBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return "likelihood": minus the log-likelihood of the subsets, mean over orders and sets.

        Raises:
            InputError: the batch does not know its subsets.
        """
        phi = self.encoder(batch.x)
        found = [self.log_likelihood(phi, batch, generator).mean() for _ in range(self.orders)]
        return {"likelihood": -torch.stack(found).mean()}

    def log_likelihood(self, phi: Tensor, batch: SetBatch, noise: Noise = None) -> Tensor:
        """Return log p of the optimal subset of each set, chosen in one random order, [B].

        Args:
            phi: [N, C] encoded elements.
            batch: the sets with their subsets.
            noise: of the orders.

        Raises:
            InputError: the batch does not know its subsets.
        """
        turn = place_in_set(row_uniform(noise, batch.layout, 1).squeeze(1) + batch.truth, batch.ptr)
        steps = torch.arange(int(batch.subset_sizes.max()), device=turn.device)
        turn = turn.unsqueeze(1)  # the selected ones come first: element i is chosen in step turn_i
        before = batch.truth.unsqueeze(1) & (turn < steps)
        gains = self._gains(phi, batch.layout, before)
        scores = gains - segment_reduce(gains, batch.ptr, "logsumexp").index_select(0, batch.layout.index)
        chosen = torch.where(batch.truth.unsqueeze(1) & (turn == steps), scores, 0).sum(1)
        return segment_reduce(chosen, batch.ptr)

    def logits(self, batch: SetBatch, seed: int = 0) -> Tensor:
        """Return logit((n - t - 1/2) / n) of the element chosen in step t of all n, [N]: an order, nothing more.

        The seed is not used. Costs n passes; ``select`` with sizes stops earlier.
        """
        turn = self._greedy(batch, batch.sizes)
        size = batch.sizes[batch.layout.index]
        return ((size - turn - 0.5) / size).to(self.function.first.weight.dtype).logit()

    @torch.no_grad()
    def select(
        self,
        batch: SetBatch,
        sizes: Literal["oracle"] | Tensor | int | None = None,
        threshold: float = 0.5,
        seed: int = 0,
    ) -> Tensor:
        """Return the elements of highest gain, chosen one after the other, [N] bool; see ``SubsetSelector.select``.

        Raises:
            InputError: no sizes are given, one is not in 1 .. n, or "oracle" sizes are not known.
        """
        if sizes is None:
            raise InputError("the greedy model cannot tell when to stop; give sizes='oracle' or numbers")
        wanted = wanted_sizes(sizes, batch)
        return self._greedy(batch, wanted) < wanted[batch.layout.index]

    def _greedy(self, batch: SetBatch, sizes: Tensor) -> Tensor:
        """Return the step in which each element is chosen, [N] int64; the size of its set if it is not."""
        layout = batch.layout
        turn = batch.sizes[layout.index]
        phi = self.encoder(batch.x)
        for step in range(int(sizes.max())):
            before = (turn < step).unsqueeze(1)
            best = place_in_set(self._gains(phi, layout, before).squeeze(1), batch.ptr) == 0
            turn = torch.where(best & (step < sizes)[layout.index], step, turn)
        return turn

    def _gains(self, phi: Tensor, layout: GroupLayout, before: Tensor) -> Tensor:
        """Return what each element adds, over T, to each of M subsets, [N, M]; -inf for those already in."""
        gains = self.function.differences(phi, layout, before) / self.temperature
        return gains.masked_fill(before, -torch.inf)
