"""SMILES in, a trained generator, molecules out, in Python: the quickstart of the command line, step by step.

python examples/molecules.py --epochs 5
"""

from __future__ import annotations

import argparse
from pathlib import Path

import graphinv
from graphinv.metrics.table import format_report
from graphinv.mol import molecule_grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="smallmol", help="smallmol, qm9, zinc250k, ... (default: smallmol)")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training molecules (default: 40)")
    parser.add_argument("--samples", type=int, default=1000, help="molecules to draw (default: 1000)")
    parser.add_argument("--out", type=Path, default=Path("runs/molecules"), help="folder to write (default: runs/...)")
    args = parser.parse_args()

    store, rejects = graphinv.build(args.dataset)
    print(rejects)
    model = graphinv.GDSS.preset(args.dataset)
    settings = graphinv.TrainConfig.preset(args.dataset, max_epochs=args.epochs)
    run = graphinv.train(model, store, args.out / "run", settings, resume="auto")

    samples = graphinv.load(run).sample(args.samples, seed=0)
    print(format_report(graphinv.evaluate(samples.smiles, reference=store)))
    molecule_grid(samples.smiles, args.out / "grid.png")
    print(f"picture: {args.out / 'grid.png'}")


if __name__ == "__main__":
    main()
