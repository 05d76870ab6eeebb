"""Time shuffled batches of the same molecules from a GraphStore and from PyG's InMemoryDataset + DataLoader.

Both run on one thread, make int64 batches with both directions of each bond, and start from data in memory. The two
are timed in turns; the PyG side may time fewer batches per turn, and the JSON line says how many graphs were timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.loader import DataLoader

from graphinv.data import GraphLoader, GraphStore, Vocabulary, read_smiles


class PyGDataset(InMemoryDataset):
    """The graphs of a store, collated as PyG does."""

    def __init__(self, store: GraphStore) -> None:
        super().__init__(tempfile.mkdtemp())
        self.data, self.slices = self.collate([_to_data(store, g) for g in range(len(store))])


def _to_data(store: GraphStore, g: int) -> Data:
    graph = store.batch([g])
    return Data(x=graph.x, edge_index=graph.edge_index, edge_attr=graph.edge_attr, num_nodes=graph.num_nodes)


def load_store(args: argparse.Namespace) -> tuple[GraphStore, str]:
    """Return the store to time and what it is."""
    if args.store:
        return GraphStore.open(args.store), str(args.store)
    folder = os.environ.get("GRAPHINV_DATA_DIR")
    if folder and not args.synthetic:
        from graphinv.mol import build_store

        lines = islice(read_smiles(Path(folder) / "qm9" / "qm9.csv.gz"), args.graphs)
        return build_store(lines, split="none", progress=False)[0], "qm9"
    return synthetic_store(args.graphs), "synthetic"


def synthetic_store(num_graphs: int) -> GraphStore:
    """Return rings of 8 or 9 nodes: the sizes of QM9, without a chemistry."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(8, 10, (num_graphs,), generator=generator)
    ptr = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    node = torch.arange(int(ptr[-1])) - ptr[:-1].repeat_interleave(counts)
    ends = torch.stack([node, (node + 1) % counts.repeat_interleave(counts)], 1).sort(1).values
    vocabulary = Vocabulary(("C", "N", "O", "F"), ("single", "double", "triple"), "element")
    types = torch.randint(0, 3, (len(node),), generator=generator)
    return GraphStore.from_arrays(types, ptr, ends, types + 1, ptr, vocabulary=vocabulary)


def timed(batches: Iterator[object], most: int | None) -> tuple[float, int]:
    """Return the seconds that the first ``most`` batches take and how many graphs they held."""
    start, graphs = time.perf_counter(), 0
    for batch in islice(batches, most):
        graphs += batch.num_graphs  # type: ignore[attr-defined]
    return time.perf_counter() - start, graphs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="a store to time; else QM9 is built from GRAPHINV_DATA_DIR")
    parser.add_argument("--synthetic", action="store_true", help="time made-up graphs of QM9-like size; needs no file")
    parser.add_argument("--graphs", type=int, default=133_885, help="most graphs to build (default: all of QM9)")
    parser.add_argument("--batch-size", type=int, default=1024, help="graphs per batch (default 1024)")
    parser.add_argument("--pyg-batches", type=int, default=20, help="PyG batches per repeat (default 20; 0 is all)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of each; medians are printed (default 5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    store, name = load_store(args)
    loaders = {
        "pyg": DataLoader(PyGDataset(store), args.batch_size, shuffle=True),
        "graphinv": GraphLoader(store, batch_size=args.batch_size, bucket=False),
        "graphinv buckets": GraphLoader(store, batch_size=args.batch_size),
    }
    limits = {"pyg": args.pyg_batches or None}
    times: dict[str, list[float]] = {backend: [] for backend in loaders}
    graphs = dict.fromkeys(loaders, 0)
    for repeat in range(args.repeats + 1):
        for backend, loader in loaders.items():
            if isinstance(loader, GraphLoader):
                loader.set_epoch(repeat)
            seconds, graphs[backend] = timed(iter(loader), limits.get(backend))
            if repeat:  # the first round warms up
                times[backend].append(seconds)
    rates = {backend: graphs[backend] / statistics.median(times[backend]) for backend in loaders}
    for backend in loaders:
        line = {
            "name": f"loader {name}",
            "backend": backend,
            "graphs": graphs[backend],
            "batch_size": args.batch_size,
            "median_s": round(statistics.median(times[backend]), 4),
            "graphs_per_s": round(rates[backend]),
            "ratio": round(rates[backend] / rates["pyg"], 1),
            "torch": torch.__version__,
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
