"""GDSS on generic graphs: two-community graphs from networkx, trained for a minute, judged beside the data's own noise.

python examples/graphs.py --epochs 150
"""

from __future__ import annotations

import argparse

import networkx as nx

import graphinv
from graphinv.graphs import GraphBatch
from graphinv.metrics.table import format_report


def communities(count: int, seed: int) -> list[nx.Graph]:
    """Two dense halves of 6 to 10 nodes joined by one edge."""
    graphs = []
    for k in range(count):
        half = 6 + (seed + k) % 5
        graph = nx.disjoint_union(
            nx.gnp_random_graph(half, 0.7, seed=seed + 2 * k), nx.gnp_random_graph(half, 0.7, seed=seed + 2 * k + 1)
        )
        graph.add_edge(0, half)
        graphs.append(graph)
    return graphs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=150, help="passes over 400 graphs (default: 150)")
    parser.add_argument("--out", default="runs/communities", help="run directory (default: runs/communities)")
    args = parser.parse_args()

    real = communities(400, seed=0)
    store = graphinv.GraphStore.from_graphs(GraphBatch.from_networkx(real))
    model = graphinv.GDSS.preset("community_small")
    graphinv.train(model, store, args.out, max_epochs=args.epochs, batch_size=64, learning_rate=0.01, resume="auto")

    trained, _ = graphinv.GraphGenerator.load(f"{args.out}/last")
    drawn = trained.sample(40, seed=0, steps=100).to_networkx()
    report = graphinv.evaluate(drawn, reference=communities(40, seed=9000), train=real, protocol="digress-2023")
    print(format_report(report))


if __name__ == "__main__":
    main()
