"""Time exact classes of isomorphic graphs beside networkx on the same buckets, and print JSON lines.

The plain way is what published code does: a hash of each graph (`weisfeiler_lehman_graph_hash`), and VF2
(`is_isomorphic`) on the graph against one of each class within its bucket. Both sides see node and edge types. Each
set is taken with a renumbered copy: half as many classes as graphs, if no two of it are equal.

    GRAPHINV_DATA_DIR=~/data OMP_NUM_THREADS=1 python -m examples.benchmarks.isomorphism
    python -m examples.benchmarks.isomorphism --set qm9
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

import networkx as nx
import torch

from graphinv.data import build_graphs
from graphinv.data.manifests import load_manifest
from graphinv.graphs import GraphBatch
from graphinv.metrics.isomorphism import isomorphism_classes, matches
from graphinv.mol import build_dataset
from graphinv.testing import permute_graphs

T = TypeVar("T")


def load(name: str, limit: int) -> GraphBatch:
    """Return at most ``limit`` training graphs of a known set."""
    build = build_graphs if load_manifest(name).kind == "graphs" else build_dataset
    store, _ = build(name, progress=False)
    return store.batch(store.indices("train")[:limit])


def networkx_classes(graphs: GraphBatch) -> list[int]:
    """Return the label of each graph by hash buckets and VF2."""
    leaders: dict[str, list[tuple[nx.Graph, int]]] = defaultdict(list)
    labels: list[int] = []
    for graph in graphs.to_networkx():
        key = nx.weisfeiler_lehman_graph_hash(graph, node_attr="x", edge_attr="type")
        for leader, label in leaders[key]:
            if nx.is_isomorphic(graph, leader, lambda a, b: a["x"] == b["x"], lambda a, b: a["type"] == b["type"]):
                labels.append(label)
                break
        else:
            labels.append(max(labels, default=-1) + 1)
            leaders[key].append((graph, labels[-1]))
    return labels


def timed(function: Callable[..., T], *arguments: object, **options: object) -> tuple[T, float]:
    start = time.perf_counter()
    result = function(*arguments, **options)
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--set", nargs="+", default=["smallmol", "planar"], help="known data sets (default: smallmol planar)"
    )
    parser.add_argument("--limit", type=int, default=5000, help="graphs of each, before the copy (default: 5000)")
    parser.add_argument("--no-networkx", action="store_true", help="time this package alone")
    args = parser.parse_args()
    for name in args.set:
        graphs = load(name, args.limit)
        both = GraphBatch.from_graphs([graphs, permute_graphs(graphs, seed=0)])
        found, seconds = timed(isomorphism_classes, both, progress=False)
        (_, missed), known_s = timed(matches, permute_graphs(graphs, seed=1), graphs, progress=False)
        line = {
            "name": f"isomorphism/{name}",
            "graphs": both.num_graphs,
            "classes": int(found.label.max()) + 1,
            "undecided": found.undecided + missed,
            "seconds": round(seconds, 3),
            "known_s": round(known_s, 3),
        }
        if not args.no_networkx:
            theirs, networkx_s = timed(networkx_classes, both)
            line |= {"networkx_s": round(networkx_s, 3), "same_classes": theirs == found.label.tolist()}
        print(json.dumps(line | {"torch": torch.__version__, "networkx": nx.__version__}), flush=True)


if __name__ == "__main__":
    main()
