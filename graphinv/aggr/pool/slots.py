"""Slot set encoders: every element is divided among a few slots, and each slot adds up its shares.

Because an element's shares depend on nothing but the element, the slots of a set are the sum of the slots of its
parts: exact for sets that come in mini-batches or do not fit into memory. Not slot attention, where the slots are
refined by what they have taken and parts cannot be added up.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from torch_geometric.nn.inits import reset

from graphinv.aggr import _group_folds as folds
from graphinv.aggr._flow import affine
from graphinv.aggr.base import dtype_of
from graphinv.aggr.layout import GroupLayout
from graphinv.aggr.streaming import State, StreamingAggregation
from graphinv.errors import InputError, check_positive

__all__ = ["SlotSetAggregation"]


class SlotSetAggregation(StreamingAggregation):
    """Slot Set Encoder of mini-batch consistent set encoding (Bruno et al. 2021, arXiv:2103.01615).

    out_j = sum_i a_ij v_i for each slot j, with a_ij = sigmoid(k_i . q_j / sqrt d) / sum_l sigmoid(k_i . q_l / sqrt d):
    normalised over the slots, not over the elements. k and v are linear maps of an element, q_j is the learned
    vector of the slot; slots are parameters and not drawn at each call, so the result is deterministic. The slots of
    a group are concatenated and projected.

    ``init``, ``update``, ``merge`` and ``finalize`` give the same result from parts of the groups, however the rows
    are divided. With an ``encoder`` over the slots this is UMBC (Willette et al. 2023, arXiv:2208.12401): attention
    among the slots, and still exact, since it comes after the sum. Use it for very large or streamed sets. Time
    O(n slots); an empty group has slots of 0, and gives what the encoder and the last projection make of them.

    Args:
        in_channels: F, channels of a row.
        out_channels: channels of the result.
        slots: number of slots.
        hidden: channels of a slot.
        heads: number of heads, a divisor of ``hidden``; each has shares of its own, and d = hidden / heads.
        mean: divide the slots by the number of rows of the group.
        encoder: a module that maps the slots [G, slots, hidden] to the same shape before the projection, each group
            on its own, for example ``SetAttentionBlock(hidden)``.

    Raises:
        InputError: the settings do not fit, or the encoder returns another shape.

    Example:
        >>> pool = SlotSetAggregation(4, 8, slots=3, hidden=16)
        >>> x, index = torch.randn(5, 4), torch.tensor([0, 2, 0, 0, 2])
        >>> state = pool.update(pool.update(pool.init(3), x[:2], index[:2]), x[2:], index[2:])
        >>> torch.allclose(pool.finalize(state), pool(x, index, dim_size=3), atol=1e-6)
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        slots: int = 4,
        hidden: int = 64,
        heads: int = 1,
        mean: bool = False,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, out_channels=out_channels, slots=slots, hidden=hidden)
        if heads < 1 or hidden % heads:
            raise InputError(f"heads must divide hidden, got {heads} and {hidden}")
        self.in_channels, self.out_channels, self.heads, self.mean = in_channels, out_channels, heads, mean
        self.key = nn.Linear(in_channels, hidden)
        self.value = nn.Linear(in_channels, hidden)
        self.slots = nn.Parameter(torch.empty(slots, hidden))
        self.encoder = encoder
        self.project_out = nn.Linear(slots * hidden, out_channels)
        nn.init.normal_(self.slots)  # an encoder may come with parameters that are to be kept

    def reset_parameters(self) -> None:
        """Draw all parameters anew, those of the encoder too."""
        nn.init.normal_(self.slots)
        for module in (self.key, self.value, self.project_out, self.encoder):
            reset(module)

    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return the counts [G] and summed slots [G, slots, hidden] of the rows ``x`` [N, F]."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self._dtype())
            split = (self.heads, self.slots.shape[1] // self.heads)
            key = torch.unflatten(affine(self.key.weight, self.key.bias, x), 1, split)
            value = torch.unflatten(affine(self.value.weight, self.value.bias, x), 1, split)
            slots = torch.unflatten(self.slots.to(x.dtype), 1, split)
            score = torch.einsum("nhd,shd->snh", key, slots) / math.sqrt(split[1])
            # Sigmoids divided by their sum, also where all of them are too small to be told from 0.
            shares = logsigmoid(score).softmax(0).unsqueeze(3)  # [slots, N, heads, 1]
            # Slot by slot: no tensor of all rows times all slots.
            totals = [folds.group_sum((share * value).flatten(1), layout) for share in shares]
        return {"count": layout.counts, "slots": torch.stack(totals, 1)}

    def finish(self, state: State) -> Tensor:
        """Return the slots, encoded and projected to [G, F_out]."""
        slots = state["slots"]
        with torch.autocast(slots.device.type, enabled=False):
            if self.mean:
                slots = slots / state["count"].clamp(min=1).view(-1, 1, 1)
            if self.encoder is not None:
                own = dtype_of(self.encoder, slots)
                encoded = self.encoder(slots.to(own)).to(slots.dtype)
                if encoded.shape != slots.shape:
                    raise InputError(f"encoder must keep the shape {list(slots.shape)}, returned {list(encoded.shape)}")
                slots = encoded
            return affine(self.project_out.weight, self.project_out.bias, slots.flatten(1))

    def _dtype(self) -> torch.dtype:
        return torch.promote_types(self.slots.dtype, torch.float32)

    def __repr__(self) -> str:
        slots, hidden = self.slots.shape
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, slots={slots}, hidden={hidden})"
