"""From these compounds choose the ones to test: trains INSET on other ground sets, prints and draws its choice.

By default compounds of the embedded set, judged by drug-likeness (QED, log P in a window). With --affinities, kinase
inhibitors: train and test are different proteins, and the chosen compounds are compared with the measured best.

python examples/select_compounds.py
python examples/select_compounds.py --affinities kiba --n 300 --k 15 --epochs 20
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch

import graphinv
from graphinv.aggr import FSPoolAggregation, MonoidBankAggregation
from graphinv.compounds import MoleculeTable, assays_of, compound_sets, drug_likeness
from graphinv.data import load_affinities
from graphinv.mol import molecule_grid
from graphinv.nn.encoder import GraphEncoder
from graphinv.sets import INSET, FitConfig, fit, mean_jaccard, top_k


def load(name: str | None, n: int):
    """Return a store of molecules and its assays: of training, validation and test."""
    if name is None:
        store, _ = graphinv.build("smallmol")
        parts = torch.randperm(len(store), generator=torch.Generator().manual_seed(0))[:3600].split(1200)
        return store, [[(rows, drug_likeness(store.smiles(rows), (0.0, 1.0)))] for rows in parts]
    affinities = load_affinities(name)
    store, rejects = graphinv.build(affinities.smiles, split="none")
    print(rejects)
    assays = assays_of(affinities, store, least=n)
    order = torch.randperm(len(assays), generator=torch.Generator().manual_seed(0)).tolist()
    tenths = [[assays[i] for i in order[part::10]] for part in range(10)]
    return store, [sum(tenths[2:], []), tenths[0], tenths[1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--affinities", choices=("davis", "kiba"), help="measured affinities; default: drug-likeness")
    parser.add_argument("--n", type=int, default=60, help="compounds to choose from (default 60)")
    parser.add_argument("--k", type=int, default=6, help="compounds to choose (default 6)")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training sets (default 30)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and draws (default 0)")
    parser.add_argument("--out", type=Path, default=Path("compounds.png"), help="picture (default compounds.png)")
    args = parser.parse_args()

    store, parts = load(args.affinities, args.n)
    each = [max(1, count // len(part)) for count, part in zip((240, 40, 40), parts, strict=True)]
    train, validation, test = (
        compound_sets(part, store, n=args.n, k=args.k, per_assay=times, seed=args.seed + number)
        for number, (part, times) in enumerate(zip(parts, each, strict=True))
    )
    torch.manual_seed(args.seed)
    types = len(store.vocabulary.nodes), len(store.vocabulary.edges)
    encode = partial(GraphEncoder, *types, 48, 3, readout=lambda: FSPoolAggregation(48, 48))
    graphs = store.batch(torch.arange(len(store)))
    settings = {"statistic": MonoidBankAggregation(48, heads=("mean",), project=False), "mode": "expected"}
    model = INSET(lambda: MoleculeTable(graphs, encode()), 48, hidden=96, negatives=None, **settings)
    fit(model, train, validation, FitConfig(learning_rate=3e-3, max_epochs=args.epochs, batch_size=12))

    chosen = model.select(test, args.k, seed=args.seed)
    blind = top_k(torch.rand(test.num_elements), test.ptr, args.k)
    learnt, chance = (mean_jaccard(picks, test.truth, test.ptr) for picks in (chosen, blind))
    print(f"mean Jaccard on {test.num_sets} test sets: {learnt:.3f}, at random {chance:.3f}")
    first = test.select([0])
    picked = model.select(first, args.k, seed=args.seed)
    smiles = store.smiles(first.x[picked])
    legends = ["among the best" if hit else "" for hit in first.truth[picked].tolist()]
    print("\n".join(f"{text:60} {legend}" for text, legend in zip(smiles, legends, strict=True)))
    molecule_grid(smiles, args.out, legends=legends)
    print(f"picture: {args.out}")


if __name__ == "__main__":
    main()
