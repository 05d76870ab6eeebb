"""The aggregators that the task benchmarks compare, at one count of parameters, and the training loop they share.

An aggregator is made from its width H alone: it takes rows of H channels and gives H (or a multiple) per group. What
is fixed is the size of the whole model, so a cheap aggregator gets a wider encoder and decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.aggr import lcm as pyg_lcm  # PyG's own, whatever is registered

from graphinv import aggr as ours
from graphinv.aggr import LCMAggregation, auxiliary_loss


def _lcm(
    width: int, op: Literal["gru", "gated_sum", "max_min", "mlp"], order: Literal["canonical", "random"]
) -> LCMAggregation:
    # Models this small have memory to keep the gates.
    return LCMAggregation(width, width, op=op, order=order, recompute=False)


AGGREGATORS: dict[str, Callable[[int], nn.Module]] = {
    "sum": lambda width: pyg.SumAggregation(),
    "mean": lambda width: pyg.MeanAggregation(),
    "max": lambda width: pyg.MaxAggregation(),
    "multi": lambda width: pyg.MultiAggregation(["mean", "max", "min", "std"]),
    "pyg_lcm": lambda width: pyg_lcm.LCMAggregation(width, width, project=True),
    "packed_gru": lambda width: ours.PackedGRUAggregation(width, width),
    "lcm_gru_canonical": lambda width: _lcm(width, "gru", "canonical"),
    "lcm_gru_random": lambda width: _lcm(width, "gru", "random"),
    "lcm_gated_sum_canonical": lambda width: _lcm(width, "gated_sum", "canonical"),
    "lcm_gated_sum_random": lambda width: _lcm(width, "gated_sum", "random"),
    "lcm_max_min_canonical": lambda width: _lcm(width, "max_min", "canonical"),
    "lcm_max_min_random": lambda width: _lcm(width, "max_min", "random"),
    "lcm_mlp_canonical": lambda width: _lcm(width, "mlp", "canonical"),
    "monoid_bank": lambda width: ours.MonoidBankAggregation(width, width),
    "fspool": lambda width: ours.FSPoolAggregation(width, width),
    "pswe": lambda width: ours.PSWEAggregation(width, width),
    "fsw": lambda width: ours.FSWAggregation(width, width),
    "set_transformer": lambda width: ours.SetTransformerAggregation(width, width, hidden=width, heads=1),
    "slot_set": lambda width: ours.SlotSetAggregation(width, width, hidden=width),
    "ot_kernel": lambda width: ours.OTKernelAggregation(width, width, hidden=width),
    "janossy_1000": lambda width: ours.JanossyAggregation(width, width, hidden=width, max_tuples=1000),
    "gen_agg": lambda width: ours.GenAggAggregation(width, width),
    "fishnets": lambda width: ours.FishnetsAggregation(width, width, hidden=width),
}
RESULTS_PER_CHANNEL = {"multi": 4}  # output channels per input channel, where it is not one
# Trained with the associativity and identity penalty, and tested in the order given, to see what they learned of it.
SOFTLY_INVARIANT = {"lcm_gru_random", "lcm_gated_sum_random", "lcm_max_min_random"}


@dataclass(frozen=True)
class Training:
    """How a model is trained: Adam for ``steps`` steps, gradients clipped to norm ``clip``.

    Attributes:
        schedule: of the learning rate: "cosine" down to 0, or "constant".
        auxiliary: weight of ``auxiliary_loss``, for the aggregators in ``SOFTLY_INVARIANT``.
    """

    steps: int = 1000
    lr: float = 1e-3
    schedule: str = "cosine"
    batch_size: int = 128
    clip: float = 1.0
    auxiliary: float = 0.1


def result_width(aggregator: str, width: int) -> int:
    """Return the channels of the result of an aggregator over rows of ``width`` channels."""
    return RESULTS_PER_CHANNEL.get(aggregator, 1) * width


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def match_width(build: Callable[[int], nn.Module], budget: int, tolerance: float = 0.1) -> int:
    """Return the width for which ``build(width)`` has the number of parameters nearest to ``budget``.

    The number must grow with the width. Models are built without memory, so nothing is drawn.
    """
    sizes: dict[int, int] = {}

    def size(width: int) -> int:
        if width not in sizes:
            with torch.device("meta"):
                sizes[width] = count_parameters(build(width))
        return sizes[width]

    low, high = 2, 4
    while size(high) < budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < budget else (low, middle)
    best = min((low, high), key=lambda width: abs(size(width) - budget))
    if abs(size(best) - budget) > tolerance * budget:
        raise SystemExit(f"no width comes within {tolerance:.0%} of {budget} parameters: {sizes}; set another --params")
    return best


def fit(
    model: nn.Module,
    loss: Callable[[], Tensor],
    training: Training,
    aggregator: str,
    after_step: Callable[[int], bool] = lambda step: False,
) -> int:
    """Train ``model`` on ``loss()``, which draws its own batch; return the steps taken.

    ``after_step`` gets the number of steps taken and returns whether to stop.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=training.lr)
    cosine = training.schedule == "cosine"
    weight = training.auxiliary if aggregator in SOFTLY_INVARIANT else 0.0
    model.train()
    for step in range(1, training.steps + 1):
        if cosine:
            rate = 0.5 * training.lr * (1 + math.cos(math.pi * (step - 1) / training.steps))
            optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        value = loss()
        if weight:
            value = value + weight * auxiliary_loss(model)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        optimiser.step()
        if after_step(step):
            return step
    return training.steps


def finite(value: float, digits: int = 4) -> float | None:
    """Return ``value`` rounded to significant digits, or None where JSON has no number for it."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
