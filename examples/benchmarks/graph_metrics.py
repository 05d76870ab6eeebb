"""Time the judging of plain graphs: a protocol's distances and its floor on a real set, whole and by descriptor.

JSON lines: one for the distances of 40 to 40 graphs, one for the floor of all training graphs, and one for each
descriptor and its discrepancy in the first. The samples are as many training graphs.

    OMP_NUM_THREADS=1 GRAPHINV_DATA_DIR=~/data python -m examples.benchmarks.graph_metrics
    python -m examples.benchmarks.graph_metrics --input sbm.pkl --protocol digress-2023 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from graphinv.data import read_graphs
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.comparison import interval
from graphinv.metrics.distance import Distance
from graphinv.metrics.graph_distances import GraphSet, graph_floor
from graphinv.metrics.protocols import protocol_named


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Return the median wall time of ``work``, after one run that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return round(sorted(times)[len(times) // 2], 4)


def measure(
    train: GraphBatch, test: GraphBatch, distances: tuple[Distance[GraphSet], ...], repeats: int
) -> list[dict[str, object]]:
    samples = train.select(range(min(train.num_graphs, test.num_graphs)))

    def judge() -> dict[str, float]:
        ours, reference = GraphSet(samples), GraphSet(test)
        return {distance.name: distance.value(ours, reference) for distance in distances}

    def floor() -> dict[str, float]:
        everything, reference = GraphSet(train), GraphSet(test)
        return {distance.name: graph_floor(distance, everything, reference, None)[0] for distance in distances}

    lines: list[dict[str, object]] = [
        {
            "name": "graph_metrics/distances",
            "samples": samples.num_graphs,
            "seconds": seconds_of(judge, repeats),
            "values": judge(),
        },
        {
            "name": "graph_metrics/floor",
            "samples": train.num_graphs,
            "seconds": seconds_of(floor, repeats),
            "values": floor(),
        },
    ]
    return lines + [by_descriptor(samples, test, distance, repeats) for distance in distances]


def by_descriptor(
    samples: GraphBatch, test: GraphBatch, distance: Distance[GraphSet], repeats: int
) -> dict[str, object]:
    described = GraphSet(samples), GraphSet(test)
    comparison = distance.compare(*described)  # from here on both know their descriptors
    whole = seconds_of(lambda: distance.compare(GraphSet(samples), GraphSet(test)), repeats)
    discrepancy = seconds_of(lambda: distance.compare(*described), repeats)
    return {
        "name": f"graph_metrics/{distance.name}",
        "samples": samples.num_graphs,
        "descriptor_seconds": round(whole - discrepancy, 4),
        "mmd_seconds": discrepancy,
        "interval_seconds": seconds_of(lambda: interval(comparison), repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", help="set of graphs with splits (default: $GRAPHINV_DATA_DIR/graphs/planar.pkl)")
    parser.add_argument("--protocol", default="digress-2023", help="default: digress-2023")
    parser.add_argument("--repeats", type=int, default=5, help="runs whose median is printed (default: 5)")
    args = parser.parse_args()
    root = os.environ.get("GRAPHINV_DATA_DIR")
    if args.input is None and root is None:
        parser.error("give --input FILE or set GRAPHINV_DATA_DIR")
    path = Path(args.input or str(Path(str(root)) / "graphs" / "planar.pkl"))
    try:
        protocol = protocol_named(args.protocol).graphs
        graphs, splits = read_graphs(path)
    except InputError as error:
        parser.error(str(error))
    if protocol is None or splits is None:
        parser.error("the protocol must be one for graphs, and the file must name its splits")
    train, test = (graphs.select([k for k, s in enumerate(splits) if s == split]) for split in ("train", "test"))
    about = {
        "set": path.name,
        "protocol": args.protocol,
        "reference": test.num_graphs,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    for line in measure(train, test, protocol.distances, args.repeats):
        print(json.dumps({**line, **about}), flush=True)


if __name__ == "__main__":
    main()
