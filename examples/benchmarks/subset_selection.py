r"""Subset selection on two moons and a Gaussian mixture: mean Jaccard with known and with unknown size, per seed.

Every selector is trained on 1,000 sets of 100 points, 10 of which come from the other cluster, until the validation
Jaccard has not risen for --patience epochs, and tested on 1,000 other sets, and on larger ones. JSON lines:

  jaccard           of the selected points, as many as are to be found: the size is known, as in the papers
  jaccard_unknown   of the points above a threshold, which was chosen on the validation sets
  n, k              points of a test set, and how many are to be found (a tenth)
  best_epoch, epoch_s, epoch_cpu_s, parameters   of the training

random draws k points of each set; greedy is the probabilistic greedy model, which must be told the size and does not
see the ground set. --encoder linear is that of the papers, with which a set function sees nothing of a subset but its
size and the sum of its points; mlp puts a layer of its own before the sum. --mode is how EquiVSet and INSET estimate
differences: shared, independent (as published), expected, first_order.

Examples:
  python -m examples.benchmarks.subset_selection --data two_moons --sizes 100 200 400 600 800 1000 --seeds 0 1 2
  python -m examples.benchmarks.subset_selection --data gaussian_mixture --models equivset inset --mode independent
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from graphinv.sets import (
    INSET,
    DeepSetsSelector,
    EquiVSet,
    FitConfig,
    GreedySelector,
    SetBatch,
    SetTransformerSelector,
    SubsetSelector,
    fit,
    gaussian_mixture,
    mean_jaccard,
    two_moons,
)

from .lines import add_output, emit, setting

DATA: dict[str, Callable[..., SetBatch]] = {"two_moons": two_moons, "gaussian_mixture": gaussian_mixture}
MODELS = ("random", "greedy", "deep_sets", "set_transformer", "equivset", "inset")


class RandomSelector(SubsetSelector):
    """Scores that say nothing."""

    def losses(self, batch: SetBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return no loss."""
        return {}

    def logits(self, batch: SetBatch, seed: int = 0) -> Tensor:
        """Return normal numbers."""
        return torch.randn(batch.num_elements, generator=torch.Generator().manual_seed(seed))


def encoder(kind: str, channels: int) -> nn.Module:
    """Return the map of a point to ``channels`` numbers."""
    first = nn.Linear(2, channels)
    return first if kind == "linear" else nn.Sequential(first, nn.ReLU(), nn.Linear(channels, channels))


def make(name: str, args: argparse.Namespace) -> SubsetSelector:
    """Return an untrained selector."""

    def encode() -> nn.Module:
        return encoder(args.encoder, args.channels)

    if name == "random":
        return RandomSelector()
    if name == "greedy":
        return GreedySelector(encode, args.channels, hidden=args.hidden)
    if name == "deep_sets":
        return DeepSetsSelector(encode, args.channels, hidden=args.hidden)
    if name == "set_transformer":
        return SetTransformerSelector(encode, args.channels, hidden=args.hidden)
    cls = EquiVSet if name == "equivset" else INSET
    return cls(encode, args.channels, hidden=args.hidden, mode=args.mode, samples=args.samples)


def parts_of(batch: SetBatch) -> list[SetBatch]:
    """Return the sets in batches of some 12,800 elements."""
    ids = torch.arange(batch.num_sets).split(max(1, 12_800 // int(batch.sizes.max())))
    return [batch.select(part) for part in ids]


def tested(model: SubsetSelector, batch: SetBatch, seed: int, threshold: float | None) -> float:
    """Return the mean Jaccard; without a threshold the true sizes are given."""
    sizes: Literal["oracle"] | None = "oracle" if threshold is None else None
    chosen = [model.select(part, sizes, threshold or 0.5, seed) for part in parts_of(batch)]
    return mean_jaccard(torch.cat(chosen), batch.truth, batch.ptr)


def best_threshold(model: SubsetSelector, validation: SetBatch, seed: int) -> float:
    """Return the threshold with the largest mean Jaccard on ``validation``, of 20 between its highest scores."""
    scores = torch.cat([model.scores(part, seed) for part in parts_of(validation)])
    share = float(validation.subset_sizes.sum()) / validation.num_elements
    quantiles = 1 - share * torch.linspace(0.1, 2, 20, dtype=torch.float64)
    levels = torch.quantile(scores[:: max(1, len(scores) // 100_000)].double(), quantiles).clamp(1e-6, 1 - 1e-6)
    found = {float(level): mean_jaccard(scores > level, validation.truth, validation.ptr) for level in levels}
    return max(found, key=lambda level: found[level])


def run(data: str, name: str, seed: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train one selector and return one line per size of the test sets."""
    torch.manual_seed(seed)
    train, validation = (DATA[data](args.count, seed=1000 * seed + part) for part in (0, 1))
    model, line = make(name, args), {"name": "subset_selection", "data": data, "model": name, "seed": seed}
    if name != "random":
        line |= {"encoder": args.encoder, "parameters": sum(p.numel() for p in model.parameters())}
        config = FitConfig(learning_rate=args.lr, patience=args.patience, max_epochs=args.epochs, seed=seed)
        start = time.process_time()
        result = fit(model, train, validation, config, progress=False)
        cpu, epochs = time.process_time() - start, len(result.validation)
        line |= {"best_epoch": result.best_epoch, "validation": round(max(result.validation), 4)}
        line |= {"epoch_s": round(result.seconds / epochs, 2), "epoch_cpu_s": round(cpu / epochs, 2)}
    if name in ("equivset", "inset"):
        line |= {"mode": args.mode}
    threshold = None if name == "greedy" else best_threshold(model, validation, seed)
    lines = []
    for n in args.sizes:
        test = DATA[data](args.count, n=n, k=n // 10, seed=1000 * seed + 2)
        own = {**line, "n": n, "k": n // 10, "jaccard": round(tested(model, test, seed, None), 4)}
        if threshold is not None:
            own["jaccard_unknown"] = round(tested(model, test, seed, threshold), 4)
        lines.append(own)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", choices=DATA, default=list(DATA), help="default: both")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: all")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of data, weights and noise (default 0 1 2)")
    add("--sizes", type=int, nargs="+", default=[100], help="points of the test sets (default 100)")
    add("--encoder", choices=("linear", "mlp"), default="linear", help="default linear")
    add("--mode", choices=("shared", "independent", "expected", "first_order"), default="shared", help="default shared")
    add("--samples", type=int, default=5, help="subsets drawn for an expectation (default 5)")
    add("--channels", type=int, default=256, help="of an encoded point (default 256)")
    add("--hidden", type=int, default=500, help="width of the networks (default 500)")
    add("--lr", type=float, default=1e-4, help="learning rate (default 1e-4)")
    add("--epochs", type=int, default=100, help="at most (default 100)")
    add("--patience", type=int, default=6, help="epochs without a better validation (default 6)")
    add("--count", type=int, default=1000, help="sets of training, validation and test (default 1000 each)")
    add_output(parser)
    args = parser.parse_args()
    if min(args.sizes) < 10:
        parser.error(f"--sizes must be at least 10, a tenth of the points is to be found; got {min(args.sizes)}")
    torch.set_num_threads(args.threads)
    common = {"count": args.count, **setting("subset_selection", args.threads)}
    todo = [(data, name, seed) for data in args.data for name in args.models for seed in args.seeds]
    for data, name, seed in tqdm(todo, unit="training", disable=None):
        for line in run(data, name, seed, args):
            emit({**line, **common}, args.out)


if __name__ == "__main__":
    main()
