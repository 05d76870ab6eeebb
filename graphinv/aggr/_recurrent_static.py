"""GRU and LSTM over packed groups with shapes that do not depend on the sizes of the groups, for tracing.

The kernels of torch need the number of rows of each position on the host. Here position j has min(G, N // (j + 1))
places, an upper bound since ranks are sorted by size, so that N (1 + ln L) cell rows are the worst case.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from graphinv.aggr._static import StaticPacked, longest, pack_static
from graphinv.aggr.layout import GroupLayout

__all__ = ["RecurrentSettings", "last_states"]

_Steps = list[tuple[Tensor, Tensor]]  # of each position: rows [P, F], and which of them exist [P, 1]


class RecurrentSettings(NamedTuple):
    """What the parameters of a recurrent network mean."""

    kind: str  # GRU or LSTM
    num_layers: int
    bias: bool
    bidirectional: bool


def last_states(
    grouped: Tensor, layout: GroupLayout, weights: list[Tensor], settings: RecurrentSettings, dropout: float
) -> tuple[Tensor, Tensor]:
    """Return the group of each rank, [R], and the final state of its last layer, [R, H * directions].

    Args:
        grouped: [N, F] rows, group after group, N > 0.
        layout: of the groups; ranks of empty groups have state 0.
        weights: in the order of ``torch.nn.GRU``.
        settings: of the network.
        dropout: probability between layers; 0 in evaluation.
    """
    plan, length = pack_static(layout, "strides"), longest(layout)
    steps = _positions(grouped.index_select(0, plan.perm), plan, length)
    directions = 2 if settings.bidirectional else 1
    size = 4 if settings.bias else 2
    runs: list[tuple[list[Tensor], Tensor]] = []
    for layer in range(settings.num_layers):
        first = layer * directions
        of_run = [weights[size * (first + d) : size * (first + d + 1)] for d in range(directions)]
        if layer and dropout:
            steps = [(F.dropout(rows, dropout), exists) for rows, exists in steps]
        runs = [_run(settings.kind, steps, w, reverse=d == 1) for d, w in enumerate(of_run)]
        outputs = [torch.cat(together, 1) for together in zip(*(outs for outs, _ in runs), strict=True)]
        steps = [(out, exists) for out, (_, exists) in zip(outputs, steps, strict=True)]
    last = torch.cat([state for _, state in runs], 1)
    return plan.groups[: last.shape[0]], last


def _positions(packed: Tensor, plan: StaticPacked, length: int) -> _Steps:
    num_rows, num_groups = packed.shape[0], plan.groups.shape[0]
    steps = []
    for position in range(length):
        places, exists = plan.rows_between(position, position + 1, min(num_groups, num_rows // (position + 1)))
        steps.append((packed.index_select(0, places.clamp(max=num_rows - 1)), exists.unsqueeze(1)))
    return steps


def _run(kind: str, steps: _Steps, weights: list[Tensor], reverse: bool) -> tuple[list[Tensor], Tensor]:
    """Run one layer in one direction; return its outputs by position and the final state of each rank."""
    cell: Any = torch.lstm_cell if kind == "LSTM" else torch.gru_cell
    hidden = steps[0][0].new_zeros(steps[0][0].shape[0], weights[1].shape[1])
    memory = torch.zeros_like(hidden)
    outputs: list[Tensor] = []
    for rows, exists in reversed(steps) if reverse else steps:
        count = rows.shape[0]
        before = hidden[:count]
        if kind == "LSTM":
            new, new_memory = cell(rows, (before, memory[:count]), *weights)
            memory = torch.cat([torch.where(exists, new_memory, memory[:count]), memory[count:]])
        else:
            new = cell(rows, before, *weights)
        hidden = torch.cat([torch.where(exists, new, before), hidden[count:]])
        outputs.append(hidden[:count])
    return outputs[::-1] if reverse else outputs, hidden
