"""Time `build_store` on a file of SMILES against the floor, in alternation, and print JSON lines.

The floor is what no builder on RDKit avoids: parse, kekulise and copy the atoms and bonds of each molecule into two
small arrays, in the same number of processes, with nothing returned or stored. A second floor takes the bonds as one
dense matrix per molecule, which is the fastest way out of RDKit. All include starting their processes.

    GRAPHINV_DATA_DIR=~/data python -m examples.benchmarks.data_build
    python -m examples.benchmarks.data_build --input molecules.smi.gz --workers 8
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase

from graphinv.data.readers import read_smiles
from graphinv.data.store import GraphStore
from graphinv.mol import build_store


def floor_chunk(lines: Sequence[str], matrix: bool) -> int:
    """Parse and kekulise molecules and make the arrays of each, bonds by a walk or as one matrix."""
    kept = 0
    with rdBase.BlockLogs():
        for line in lines:
            mol = Chem.MolFromSmiles(line)
            if mol is None:
                continue
            Chem.Kekulize(mol, clearAromaticFlags=True)
            np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], np.uint8)
            if matrix:
                Chem.GetAdjacencyMatrix(mol, useBO=True)
            else:
                bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), int(b.GetBondType())) for b in mol.GetBonds()]
                np.array(bonds, np.uint8)
            kept += 1
    return kept


def run_floor(lines: list[str], workers: int, matrix: bool = False) -> int:
    chunks = [lines[i : i + 2000] for i in range(0, len(lines), 2000)]
    if workers < 2:
        return sum(floor_chunk(chunk, matrix) for chunk in chunks)
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        return sum(pool.imap(partial(floor_chunk, matrix=matrix), chunks))


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def open_ms(path: Path) -> float:
    return 1e3 * statistics.median(timed(lambda: GraphStore.open(path)) for _ in range(5))


def peak_mb() -> dict[str, float]:
    """Largest resident memory of this process and of the largest of its workers."""
    kinds = {"self": resource.RUSAGE_SELF, "worker": resource.RUSAGE_CHILDREN}
    return {name: round(resource.getrusage(kind).ru_maxrss / 1024, 1) for name, kind in kinds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", help="file of SMILES (default: $GRAPHINV_DATA_DIR/qm9/qm9.csv.gz)")
    parser.add_argument("--column", default="smiles", help="column of a csv file (default: smiles)")
    parser.add_argument("--workers", type=int, default=2, help="processes of both sides (default: 2)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, alternating (default: 3)")
    parser.add_argument("--limit", type=int, help="take only the first lines of the file")
    parser.add_argument("--scheme", nargs="+", default=["element"], help="element and/or element+charge")
    parser.add_argument("--no-smiles", action="store_true", help="do not store canonical SMILES")
    args = parser.parse_args()
    root = os.environ.get("GRAPHINV_DATA_DIR")
    if args.input is None and root is None:
        parser.error("give --input FILE or set GRAPHINV_DATA_DIR")
    source = args.input or str(Path(str(root)) / "qm9" / "qm9.csv.gz")
    lines = list(read_smiles(source, column=args.column))[: args.limit]
    for scheme in args.scheme:
        compare(lines, scheme, args.workers, args.repeats, not args.no_smiles)


def compare(lines: list[str], scheme: str, workers: int, repeats: int, keep_smiles: bool) -> None:
    floors, matrices, ours, kept = [], [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "molecules.store"

        def build() -> None:
            nonlocal kept
            store, rejects = build_store(lines, scheme=scheme, workers=workers, keep_smiles=keep_smiles, progress=False)
            store.save(path)
            kept = rejects.kept

        for _ in range(repeats):
            floors.append(timed(lambda: run_floor(lines, workers)))
            matrices.append(timed(lambda: run_floor(lines, workers, matrix=True)))
            ours.append(timed(build))
        seconds, floor, matrix = (statistics.median(times) for times in (ours, floors, matrices))
        result = {
            "name": f"data_build/{scheme}{'' if keep_smiles else '/no-smiles'}",
            "seconds": round(seconds, 3),
            "floor_s": round(floor, 3),
            "ratio": round(seconds / floor, 3),
            "matrix_floor_s": round(matrix, 3),
            "matrix_ratio": round(seconds / matrix, 3),
            "peak_mb": peak_mb(),
            "store_mb": round(path.stat().st_size / 1e6, 3),
            "open_ms": round(open_ms(path), 3),
            "molecules": kept,
            "workers": workers,
        }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
