"""Selectors without a set function, to compare with: each element is scored by a permutation-equivariant network.

Deep Sets (arXiv:1703.06114) and the Set Transformer (arXiv:1810.00825), trained by the cross entropy of membership.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphinv.aggr import GroupAggregation
from graphinv.errors import InputError
from graphinv.nn.embed import MLP
from graphinv.ops import segment_reduce
from graphinv.sets.batch import SetBatch
from graphinv.sets.choice import labelled, membership_loss
from graphinv.sets.functions import statistic_width
from graphinv.sets.selectors import Encoder, SubsetSelector

__all__ = ["DeepSetsSelector", "SetTransformerSelector"]


class _MembershipSelector(SubsetSelector):
    """Scores by one pass of a network; the loss is the cross entropy of membership."""

    negatives: int | None

    def losses(self, batch: SetBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return "membership": the cross entropy, summed over the elements, mean over the sets.

        Raises:
            InputError: the batch does not know its subsets.
        """
        which = labelled(batch, self.negatives, generator)
        return {"membership": membership_loss(self.logits(batch), batch, which)}


class DeepSetsSelector(_MembershipSelector):
    """Score of element i = MLP(phi_i, statistic of V); O(N) and without noise.

    Args:
        encoder: called once, makes a module from ``x`` [N, *] to [N, channels].
        channels: C of the encoded elements.
        hidden: width of the MLP.
        layers: hidden layers of the MLP, at least 1.
        statistic: the aggregator of the ground set; the mean if None.
        negatives: elements outside of the subset per selected one in the loss; None for all.

    Raises:
        InputError: a setting is out of range, or the statistic does not fit.

    Example:
        >>> from graphinv.sets import two_moons
        >>> DeepSetsSelector(lambda: nn.Linear(2, 16), 16, hidden=32).scores(two_moons(3, n=20, k=4)).shape
        torch.Size([60])
    """

    def __init__(
        self,
        encoder: Encoder,
        channels: int = 256,
        *,
        hidden: int = 500,
        layers: int = 2,
        statistic: GroupAggregation | None = None,
        negatives: int | None = None,
    ) -> None:
        super().__init__()
        if min(channels, hidden, layers) < 1:
            raise InputError(f"channels, hidden, layers must be at least 1, got {channels}, {hidden}, {layers}")
        self.encoder, self.statistic, self.negatives = encoder(), statistic, negatives
        self.own = nn.Linear(channels, hidden)
        self.common = nn.Linear(statistic_width(statistic, channels), hidden, bias=False)
        self.rest = MLP(layers, hidden, hidden, 1, torch.relu_)

    def logits(self, batch: SetBatch, seed: int = 0) -> Tensor:
        """Return the score of each element as a logit, [N]; the seed is not used."""
        phi, layout = self.encoder(batch.x), batch.layout
        if self.statistic is None:
            pooled = segment_reduce(phi, layout.ptr, "mean")
        else:
            pooled = self.statistic(phi, layout=layout)
        out: Tensor = self.rest((self.own(phi) + self.common(pooled).index_select(0, layout.index)).relu())
        return out.squeeze(1)


class SetTransformerSelector(_MembershipSelector):
    """Score of element i = linear map of the i-th row after blocks of self-attention over V; O(n^2) per set.

    Sets of one size are stacked and run together, one size after the other, so that nothing is padded: many
    different sizes are as many passes. Each block is x + attention, layer norm, x + MLP, layer norm.

    Args:
        encoder: called once, makes a module from ``x`` [N, *] to [N, channels].
        channels: C, a multiple of ``heads``.
        hidden: width of the MLP of a block.
        blocks: how many.
        heads: of the attention.
        negatives: elements outside of the subset per selected one in the loss; None for all.

    Raises:
        InputError: a setting is out of range.

    Example:
        >>> from graphinv.sets import two_moons
        >>> SetTransformerSelector(lambda: nn.Linear(2, 16), 16, hidden=32).scores(two_moons(3, n=20, k=4)).shape
        torch.Size([60])
    """

    def __init__(
        self,
        encoder: Encoder,
        channels: int = 256,
        *,
        hidden: int = 500,
        blocks: int = 2,
        heads: int = 4,
        negatives: int | None = None,
    ) -> None:
        super().__init__()
        if min(channels, hidden, blocks, heads) < 1 or channels % heads:
            raise InputError(
                "expected channels, hidden, blocks and heads >= 1 and channels a multiple of heads, got "
                f"{channels}, {hidden}, {blocks} and {heads}"
            )
        self.encoder, self.negatives = encoder(), negatives
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(channels, heads, hidden, dropout=0.0, batch_first=True) for _ in range(blocks)
        )
        self.head = nn.Linear(channels, 1)

    def logits(self, batch: SetBatch, seed: int = 0) -> Tensor:
        """Return the score of each element as a logit, [N]; the seed is not used."""
        phi: Tensor = self.encoder(batch.x)
        out = phi.new_zeros(phi.shape[0])
        for size in torch.unique(batch.sizes).tolist():
            start = batch.ptr[:-1][batch.sizes == size]
            rows = start.unsqueeze(1) + torch.arange(size, device=start.device)  # [k, size]
            x = phi[rows]
            for block in self.blocks:
                x = block(x)
            out = out.index_copy(0, rows.flatten(), self.head(x).flatten())
        return out
