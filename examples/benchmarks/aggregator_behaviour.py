"""What aggregators do at the borders of their input: one JSON line per aggregator, of PyG and of graphinv.

All modules are freshly initialised (seed 0), in evaluation mode, on a CPU. A cell is a number, "ok", or what went
wrong. Columns:

  batch          relative change of a group of 3 rows when a group of 37 joins the batch; 0 is independent
  permutation    relative change of a group when its rows change places, the largest of 8 permutations (3 and 37 rows)
  unsorted       rows of the groups interleaved: the result of the sorted call
  ptr            offsets in place of index: the result of the call with index
  three_d        x [2, N, F]: the result of two calls
  empty_group    groups without rows, first, last and between: finite
  empty_input    no rows and two groups: finite
  graph_breaks   of torch.compile, given dim_size and max_num_elements (where it takes that); 0: fullgraph too
  bf16           module and x in bfloat16: dtype of the result

float64 except bf16: a change of the size of its rounding, about 1e-16, is none.
Example: python -m examples.benchmarks.aggregator_behaviour --aggregators pyg_lcm lcm_gru
"""

from __future__ import annotations

import argparse
import inspect
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch_geometric
from torch import Tensor, nn
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.aggr import lcm as pyg_lcm  # PyG's own, whatever is registered
from torch_geometric.nn.aggr import set_transformer as pyg_set_transformer
from tqdm import tqdm

from graphinv import aggr as ours

from .lines import emit

F = 8
SIZES = (3, 37)
Cell = float | int | str

AGGREGATORS: dict[str, Callable[[], nn.Module]] = {
    "pyg_lcm": lambda: pyg_lcm.LCMAggregation(F, F),
    "pyg_gru": lambda: pyg.GRUAggregation(F, F),
    "pyg_lstm": lambda: pyg.LSTMAggregation(F, F),
    "pyg_patch_transformer": lambda: pyg.PatchTransformerAggregation(F, F, patch_size=4, hidden_channels=F),
    "pyg_mlp": lambda: pyg.MLPAggregation(F, F, max_num_elements=40, num_layers=1),
    "pyg_set_transformer": lambda: pyg_set_transformer.SetTransformerAggregation(F),
    "pyg_graph_multiset_transformer": lambda: pyg.GraphMultisetTransformer(F, k=4),
    "pyg_sort": lambda: pyg.SortAggregation(k=4),
    "pyg_set2set": lambda: pyg.Set2Set(F, processing_steps=3),
    "pyg_median": pyg.MedianAggregation,
    "pyg_quantile": lambda: pyg.QuantileAggregation(q=[0.25, 0.75]),
    "pyg_deep_sets": lambda: pyg.DeepSetsAggregation(nn.Linear(F, F), nn.Linear(F, F)),
    "pyg_variance_preserving": pyg.VariancePreservingAggregation,
    "pyg_softmax": lambda: pyg.SoftmaxAggregation(learn=True),
    "pyg_sum": pyg.SumAggregation,
    "lcm_gru": lambda: ours.LCMAggregation(F, F),
    "lcm_gru_given": lambda: ours.LCMAggregation(F, F, order="given"),
    "lcm_gated_sum": lambda: ours.LCMAggregation(F, F, op="gated_sum"),
    "lcm_max_min": lambda: ours.LCMAggregation(F, F, op="max_min"),
    "lcm_mlp": lambda: ours.LCMAggregation(F, F, op="mlp"),
    "monoid_bank": lambda: ours.MonoidBankAggregation(F, F),
    "packed_gru": lambda: ours.PackedGRUAggregation(F, F),
    "packed_lstm": lambda: ours.PackedLSTMAggregation(F, F),
    "fspool": lambda: ours.FSPoolAggregation(F, F),
    "pswe": lambda: ours.PSWEAggregation(F, F),
    "fsw": lambda: ours.FSWAggregation(F, F),
    "set_transformer": lambda: ours.SetTransformerAggregation(F, F, hidden=F, heads=2),
    "set_transformer_induced": lambda: ours.SetTransformerAggregation(F, F, hidden=F, heads=2, induced=4),
    "slot_set": lambda: ours.SlotSetAggregation(F, F, hidden=F),
    "ot_kernel": lambda: ours.OTKernelAggregation(F, F),
    "janossy": lambda: ours.JanossyAggregation(F, F),
    "janossy_1000": lambda: ours.JanossyAggregation(F, F, max_tuples=1000),
    "gen_agg": lambda: ours.GenAggAggregation(F, F),
    "fishnets": lambda: ours.FishnetsAggregation(F, F),
}


def rows(*sizes: int) -> tuple[Tensor, Tensor]:
    """Return normal values [N, F] in float64, seed 0, and the sorted index [N] of groups of these sizes."""
    index = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    x = torch.randn(len(index), F, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, index


def relative(actual: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference over the norm of what was expected, to two digits."""
    return float(f"{float((actual - expected).norm() / expected.norm()):.1e}")


def same(actual: Tensor, expected: Tensor) -> Cell:
    """Return "ok", or how far the two are from each other."""
    if actual.shape != expected.shape:
        return f"wrong: shape {list(actual.shape)}"
    change = relative(actual, expected)
    return "ok" if change < 1e-12 else f"wrong: off by {change}"


def batch(aggregator: nn.Module) -> Cell:
    x, index = rows(*SIZES)
    alone = aggregator(x[: SIZES[0]], index[: SIZES[0]], dim_size=1)
    return relative(aggregator(x, index, dim_size=2)[:1], alone)


def permutation(aggregator: nn.Module) -> Cell:
    x, index = rows(*SIZES)
    return float(f"{ours.invariance_error(aggregator, x, index, dim_size=2):.1e}")


def unsorted(aggregator: nn.Module) -> Cell:
    x, index = rows(*SIZES)
    place = torch.cat([torch.arange(size) for size in SIZES])
    order = torch.sort(place, stable=True).indices  # all first rows, then all second rows, ...
    return same(aggregator(x[order], index[order], dim_size=2), aggregator(x, index, dim_size=2))


def ptr(aggregator: nn.Module) -> Cell:
    x, index = rows(*SIZES)
    offsets = torch.tensor([0, SIZES[0], sum(SIZES)])
    return same(aggregator(x, ptr=offsets), aggregator(x, index, dim_size=2))


def three_d(aggregator: nn.Module) -> Cell:
    x, index = rows(*SIZES)
    both = torch.stack([x, x.flip(0)])
    return same(
        aggregator(both, index, dim_size=2), torch.stack([aggregator(half, index, dim_size=2) for half in both])
    )


def empty_group(aggregator: nn.Module) -> Cell:
    for sizes in ((0, 3, 0, 5, 0), (3, 0, 37), (1, 0, 2)):
        x, index = rows(*sizes)
        if not bool(aggregator(x, index, dim_size=len(sizes)).isfinite().all()):
            return "not finite"
    return "ok"


def empty_input(aggregator: nn.Module) -> Cell:
    x, index = rows(0, 0)
    out = aggregator(x, index, dim_size=2)
    if out.shape[0] != 2:
        return f"wrong: shape {list(out.shape)}"
    return "ok" if bool(out.isfinite().all()) else "not finite"


def graph_breaks(aggregator: nn.Module) -> Cell:
    x, index = rows(*SIZES)
    hints = {"dim_size": 2, "max_num_elements": max(SIZES)}
    known = inspect.signature(aggregator.forward).parameters
    hints = {name: value for name, value in hints.items() if name in known}
    torch._dynamo.reset()
    breaks = int(torch._dynamo.explain(aggregator)(x, index, **hints).graph_break_count)
    if breaks == 0:
        compiled = torch.compile(aggregator, fullgraph=True, backend="eager")
        verdict = same(compiled(x, index, **hints), aggregator(x, index, **hints))
        return verdict if verdict != "ok" else 0
    return breaks if breaks > 0 else "not traced"


def bf16(aggregator: nn.Module) -> Cell:
    x, index = rows(*SIZES)
    out = aggregator.to(torch.bfloat16)(x.to(torch.bfloat16), index, dim_size=2)
    return str(out.dtype).removeprefix("torch.") if bool(out.isfinite().all()) else "not finite"


CELLS: dict[str, Callable[[nn.Module], Cell]] = {
    cell.__name__: cell
    for cell in (batch, permutation, unsorted, ptr, three_d, empty_group, empty_input, graph_breaks, bf16)
}


def behaviour(make: Callable[[], nn.Module]) -> dict[str, Cell]:
    """Return every column of the aggregator that ``make`` returns; an exception becomes the cell "error: Type"."""
    out: dict[str, Cell] = {}
    for name, cell in CELLS.items():
        torch.manual_seed(0)
        try:
            with torch.no_grad():
                out[name] = cell(make().double().eval())
        except Exception as error:  # whatever a library raises is the answer
            out[name] = f"error: {type(error).__name__}"
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aggregators", nargs="+", choices=AGGREGATORS, default=list(AGGREGATORS), help="default: all")
    parser.add_argument("--out", type=Path, help="append the lines to this file as well")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # PyG and the compiler warn about what the columns report
    versions = {"torch": torch.__version__, "torch_geometric": torch_geometric.__version__}
    command = {"command": "python -m examples.benchmarks.aggregator_behaviour"}
    for name in tqdm(args.aggregators, unit="aggregator", file=sys.stderr):
        line = {"name": "behaviour", "aggregator": name, **behaviour(AGGREGATORS[name]), **versions, **command}
        emit(line, args.out)


if __name__ == "__main__":
    main()
