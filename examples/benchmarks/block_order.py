"""Time the block order of whole QM9 with explicit hydrogens, beside the published block statistics.

One JSON line per number of hops. Reading the molecules (RDKit, hydrogens added) is timed apart; the published figures
are those that the authors' repository states.

    OMP_NUM_THREADS=1 GRAPHINV_DATA_DIR=~/data python -m examples.benchmarks.block_order
    python -m examples.benchmarks.block_order --input molecules.smi.gz --limit 5000 --hops 3
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
from rdkit import Chem, rdBase

from graphinv.data.readers import read_smiles
from graphinv.diffusion import block_order
from graphinv.graphs import GraphBatch

# https://github.com/LingxiaoShawn/Pard, run.sh: H -> average blocks, most blocks
PUBLISHED = {0: (1.0, 1), 1: (4.317, 8), 2: (5.656, 10), 3: (7.201, 13), 4: (7.752, 15), 5: (7.838, 15)}


def read_chunks(lines: list[str], chunk: int) -> list[GraphBatch]:
    """Return the molecules RDKit reads, with explicit hydrogens, as packed graphs of ``chunk`` lines each."""
    batches = []
    for start in range(0, len(lines), chunk):
        ends: list[int] = []
        nodes, edges = [0], [0]
        with rdBase.BlockLogs():
            for line in lines[start : start + chunk]:
                mol = Chem.MolFromSmiles(line)
                if mol is None:
                    continue
                mol = Chem.AddHs(mol)
                for bond in mol.GetBonds():
                    u, v = nodes[-1] + bond.GetBeginAtomIdx(), nodes[-1] + bond.GetEndAtomIdx()
                    ends += [u, v, v, u]
                nodes.append(nodes[-1] + mol.GetNumAtoms())
                edges.append(len(ends) // 2)
        index = torch.tensor(ends, dtype=torch.long).view(-1, 2).t().contiguous()
        x = torch.zeros(nodes[-1], dtype=torch.long)
        batches.append(GraphBatch(x, index, None, torch.tensor(nodes), torch.tensor(edges)))
    return batches


def measure(batches: list[GraphBatch], max_hops: int, legacy: bool) -> dict[str, object]:
    start = time.perf_counter()
    orders = [block_order(batch.edge_index, batch.ptr, max_hops, legacy) for batch in batches]
    seconds = time.perf_counter() - start
    blocks = torch.cat([order.ptr.diff() for order in orders])
    published = PUBLISHED.get(max_hops, (None, None))
    return {
        "name": f"block_order/hops:{max_hops}{':legacy' if legacy else ''}",
        "seconds": round(seconds, 3),
        "graphs": blocks.numel(),
        "nodes": sum(batch.num_nodes for batch in batches),
        "average_blocks": round(float(blocks.double().mean()), 4),
        "published_average_blocks": published[0],
        "max_blocks": int(blocks.max()),
        "published_max_blocks": published[1],
        "max_block_size": max(int(order.sizes.max()) for order in orders),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", help="file of SMILES (default: $GRAPHINV_DATA_DIR/qm9/qm9.csv.gz)")
    parser.add_argument("--limit", type=int, help="take only the first lines of the file")
    parser.add_argument("--hops", type=int, nargs="+", default=[1, 2, 3, 4], help="values of H (default: 1 2 3 4)")
    parser.add_argument("--chunk", type=int, default=4096, help="graphs peeled together (default: 4096)")
    parser.add_argument("--legacy", action="store_true", help="the order of the published code")
    args = parser.parse_args()
    root = os.environ.get("GRAPHINV_DATA_DIR")
    if args.input is None and root is None:
        parser.error("give --input FILE or set GRAPHINV_DATA_DIR")
    lines = list(read_smiles(args.input or str(Path(str(root)) / "qm9" / "qm9.csv.gz")))[: args.limit]
    start = time.perf_counter()
    batches = read_chunks(lines, args.chunk)
    seconds = {
        "read_seconds": round(time.perf_counter() - start, 3),
        "chunk": args.chunk,
        "threads": torch.get_num_threads(),
    }
    for max_hops in args.hops:
        print(json.dumps({**measure(batches, max_hops, args.legacy), **seconds}), flush=True)


if __name__ == "__main__":
    main()
