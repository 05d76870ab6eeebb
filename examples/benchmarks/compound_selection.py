r"""Compound selection on measured affinities and on a property oracle: mean Jaccard of selectors, paired by seed.

A ground set is n compounds of one assay; to be found are the k that graphinv.compounds.active_and_diverse takes: the
most active ones that are least alike. Seeds draw the assays of training, validation and test, the sets, the weights and
the noise; all selectors of a seed see the same sets.

  davis, kiba    kinase inhibitors; other proteins in the test than in training, the compounds are the same
  zinc250k       6,000 molecules, drug-likeness as activity; other molecules in the test

Selectors that learn share one network of molecule graphs, trained end to end: inset, equivset, set_transformer,
deep_sets, greedy, and regressor, which predicts the mean activity of a compound and takes the k highest. inset is told
the mean of the ground set, inset_sum its sum, as published. Without a network: mean_activity takes the compounds most
active on the proteins of training, true_activity those most active in the test (not a selector but a bound on any that
does not know of diversity), random any.

JSON lines: jaccard of the k chosen (known size, as in papers), the epoch whose weights were kept, CPU seconds an epoch.

Examples:
  python -m examples.benchmarks.compound_selection --data davis --seeds 0 1 2 3 4
  python -m examples.benchmarks.compound_selection --data kiba --n 300 --k 15 --models inset equivset --seeds 0
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import graphinv
from graphinv.aggr import FSPoolAggregation, MonoidBankAggregation
from graphinv.compounds import MoleculeTable, assays_of, compound_sets, drug_likeness
from graphinv.data import GraphStore, load_affinities, read_smiles
from graphinv.data.manifests import load_manifest, locate
from graphinv.errors import InputError
from graphinv.nn.encoder import GraphEncoder
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
    mean_jaccard,
    top_k,
)

from .lines import add_output, emit, setting

SIZES = {"davis": (40, 5), "kiba": (100, 10), "zinc250k": (60, 6)}
LEARNT = ("regressor", "greedy", "deep_sets", "set_transformer", "equivset", "inset_sum", "inset")
MODELS = ("random", "mean_activity", "true_activity", *LEARNT)
COUNTS = (360, 90, 180)  # sets of training, validation, test, at least one of each assay


@dataclass(frozen=True)
class Task:
    """One draw of ground sets: training, validation, test; and what is known of activities, NaN where nothing."""

    store: GraphStore
    parts: tuple[SetBatch, SetBatch, SetBatch]
    known: Tensor  # [molecules] mean standardised activity on the assays of training
    true: Tensor  # [N] activity of the elements of the test sets


class Regressor(SubsetSelector):
    """Scores by the predicted activity of each compound by itself."""

    def __init__(self, encoder: nn.Module, channels: int, hidden: int, known: Tensor) -> None:
        super().__init__()
        self.encoder, self.known = encoder, known
        self.head = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def losses(self, batch: SetBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the mean squared error of the compounds of the batch, each counted once."""
        distinct = torch.unique(batch.x)
        return {"error": (self.head(self.encoder(distinct)).squeeze(1) - self.known[distinct]).square().mean()}

    def logits(self, batch: SetBatch, seed: int = 0) -> Tensor:
        """Return the predictions."""
        out: Tensor = self.head(self.encoder(batch.x)).squeeze(1)
        return out


def load(name: str, least: int) -> tuple[GraphStore, list[tuple[Tensor, Tensor]]]:
    """Return the molecules and their assays; of zinc250k one assay of all."""
    if name == "zinc250k":
        manifest = load_manifest(name)
        lines = list(read_smiles(locate(manifest.file("molecules")), manifest.column, header=manifest.header))
        some = torch.randperm(len(lines), generator=torch.Generator().manual_seed(0))[:6000].tolist()
        store, _ = graphinv.build([lines[i] for i in some], vocabulary=manifest.vocabulary, split="none")
        return store, [(torch.arange(len(store)), drug_likeness(store.smiles()))]
    affinities = load_affinities(name)
    store, _ = graphinv.build(affinities.smiles, split="none")
    return store, assays_of(affinities, store, least=least)


def draw(store: GraphStore, assays: list[tuple[Tensor, Tensor]], n: int, k: int, seed: int) -> Task:
    """Divide proteins, or the molecules of a single assay, 8 : 1 : 1 or 1 : 1 : 1, and draw ground sets."""
    if len(assays) != 1 and len(assays) < 10:
        raise InputError(f"{len(assays)} proteins have {n} compounds or more, at least 10 are needed; lower --n")
    generator = torch.Generator().manual_seed(seed)
    if len(assays) == 1:
        rows, values = assays[0]
        thirds = torch.randperm(len(rows), generator=generator).chunk(3)
        divided = [[(rows[part], values[part])] for part in thirds]
    else:
        order = torch.randperm(len(assays), generator=generator).tolist()
        tenths = [[assays[i] for i in order[part::10]] for part in range(10)]
        divided = [sum(tenths[2:], []), tenths[0], tenths[1]]
    train, validation, test = (
        compound_sets(part, store, n=n, k=k, per_assay=-(-count // len(part)), seed=3 * seed + number)
        for number, (part, count) in enumerate(zip(divided, COUNTS, strict=True))
    )
    return Task(store, (train, validation, test), known(divided[0], len(store)), activity_of(test, divided[2], n))


def known(assays: list[tuple[Tensor, Tensor]], count: int) -> Tensor:
    """Return the mean of each molecule's standardised activities, [count]; NaN without any."""
    table = torch.full((len(assays), count), torch.nan)
    for line, (rows, values) in zip(table, assays, strict=True):
        line[rows] = ((values - values.mean()) / values.std(correction=0).clamp(min=1e-9)).float()
    return table.nanmean(0)


def activity_of(batch: SetBatch, assays: list[tuple[Tensor, Tensor]], n: int) -> Tensor:
    """Return the activity of every element; the sets of an assay lie together, as many for each."""
    each, found = batch.num_sets // len(assays), []
    for number, rows in enumerate(batch.x.split(n)):
        molecules, values = assays[number // each]
        lookup = dict(zip(molecules.tolist(), values.tolist(), strict=True))
        found.append(torch.tensor([lookup[i] for i in rows.tolist()], dtype=values.dtype))
    return torch.cat(found)


def make(name: str, task: Task, args: argparse.Namespace) -> SubsetSelector:
    """Return an untrained selector of molecules by their numbers."""
    channels, hidden = args.channels, 2 * args.channels
    types = len(task.store.vocabulary.nodes), len(task.store.vocabulary.edges)
    graphs = task.store.batch(torch.arange(len(task.store)))
    network = partial(GraphEncoder, *types, channels, 3, readout=lambda: FSPoolAggregation(channels, channels))

    def encode() -> nn.Module:
        return MoleculeTable(graphs, network())

    if name == "regressor":
        return Regressor(encode(), channels, hidden, task.known)
    if name == "greedy":
        return GreedySelector(encode, channels, hidden=hidden)
    if name == "deep_sets":
        return DeepSetsSelector(encode, channels, hidden=hidden)
    if name == "set_transformer":
        return SetTransformerSelector(encode, channels, hidden=hidden)
    settings = {"hidden": hidden, "mode": args.mode, "negatives": None}
    if name == "equivset":
        return EquiVSet(encode, channels, **settings)
    mean = MonoidBankAggregation(channels, heads=("mean",), project=False)
    return INSET(encode, channels, statistic=mean if name == "inset" else None, **settings)


def run(name: str, task: Task, k: int, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return what one selector reaches; None as its Jaccard where it has nothing to go by."""
    train, validation, test = task.parts
    torch.manual_seed(seed)
    line: dict[str, Any] = {}
    scores = {"random": torch.rand(test.num_elements), "true_activity": task.true, "mean_activity": task.known[test.x]}
    if name in scores:
        blind = bool(scores[name].isnan().any())
        chosen = None if blind else top_k(scores[name], test.ptr, k)
    else:
        model = make(name, task, args)
        settings = FitConfig(
            learning_rate=args.lr, max_epochs=args.epochs, patience=args.patience, batch_size=12, seed=seed
        )
        start = time.process_time()
        result = fit(model, train, validation, settings, progress=False)
        seconds = (time.process_time() - start) / len(result.validation)
        line = {"best_epoch": result.best_epoch, "validation": round(max(result.validation), 4)}
        line |= {"epoch_cpu_s": round(seconds, 2), "parameters": sum(p.numel() for p in model.parameters())}
        chosen = torch.cat([model.select(part, k, seed=seed) for part in parts_of(test, 12)])
    if name in ("equivset", "inset_sum", "inset"):
        line["mode"] = args.mode
    found = None if chosen is None else round(mean_jaccard(chosen, test.truth, test.ptr), 4)
    return {**line, "train_sets": train.num_sets, "test_sets": test.num_sets, "jaccard": found}


def parts_of(batch: SetBatch, count: int) -> list[SetBatch]:
    """Return the sets, ``count`` at a time."""
    return [batch.select(ids) for ids in torch.arange(batch.num_sets).split(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", nargs="+", choices=SIZES, default=list(SIZES), help="default: all")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: all")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of splits, sets, weights and noise (default 0 1 2)")
    add("--n", type=int, help="compounds of a ground set (default 40, 100, 60)")
    add("--k", type=int, help="compounds to choose (default 5, 10, 6)")
    add("--mode", choices=("shared", "independent", "expected", "first_order"), default="expected", help="of inference")
    add("--channels", type=int, default=48, help="of an encoded molecule (default 48)")
    add("--lr", type=float, default=3e-3, help="learning rate (default 3e-3)")
    add("--epochs", type=int, default=12, help="at most (default 12)")
    add("--patience", type=int, default=6, help="epochs without a better validation (default 6)")
    add_output(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    common = setting("compound_selection", args.threads)
    with tqdm(total=len(args.data) * len(args.seeds) * len(args.models), unit="training", disable=None) as bar:
        for data in args.data:
            n, k = args.n or SIZES[data][0], args.k or SIZES[data][1]
            store, assays = load(data, n)
            for seed in args.seeds:
                try:
                    task = draw(store, assays, n, k, seed)
                except InputError as error:
                    parser.error(str(error))
                for name in args.models:
                    line = {"name": "compound_selection", "data": data, "model": name, "seed": seed, "n": n, "k": k}
                    emit({**line, **run(name, task, k, seed, args), **common}, args.out)
                    bar.update()


if __name__ == "__main__":
    main()
