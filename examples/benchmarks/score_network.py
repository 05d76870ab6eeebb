"""Time one forward and backward of the QM9 edge score network against a plain transcription of its formulas.

Both have the same weights and read the same random graphs (9 rows, node counts 6..9), on one thread unless told
otherwise; with --compile ours is measured compiled by torch as well. They run in turns, so a slow moment of the machine
hits all; medians and quartiles are over the turns.
Example: python -m examples.benchmarks.score_network --batch-size 128 --repeats 20
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from torch import Tensor, nn

from graphinv.graphs import DenseGraphs
from graphinv.nn import ScoreNetworkA
from tests.nn import plain_score

QM9 = {"features": 4, "layers": 3, "hidden": 16, "attention": 16, "edge_layers": 3}


def noisy_graphs(count: int, max_nodes: int, seed: int = 0) -> DenseGraphs:
    """Return random symmetric graphs with max_nodes - 3 .. max_nodes nodes, as a sampler meets them."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(max_nodes - 3, max_nodes + 1, (count,), generator=generator)
    x = torch.randn(count, max_nodes, QM9["features"], generator=generator)
    upper = torch.randn(count, max_nodes, max_nodes, generator=generator).triu(1)
    mask = torch.arange(max_nodes) < counts.unsqueeze(1)
    return DenseGraphs(x, upper + upper.transpose(1, 2), mask).masked()


def step(net: nn.Module, *inputs: DenseGraphs | Tensor) -> Tensor:
    """Run one forward and backward and return the output."""
    net.zero_grad(set_to_none=True)
    out: Tensor = net(*inputs)
    out.square().sum().backward()
    return out.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=1024, help="graphs per call (default 1024, as in training)")
    parser.add_argument("--max-nodes", type=int, default=9, help="rows per graph; 9 for QM9, 38 for ZINC250k")
    parser.add_argument("--repeats", type=int, default=9, help="turns of each network (default 9)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile of our network too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    g = noisy_graphs(args.batch_size, args.max_nodes).to(args.device)
    networks = {"plain": plain_score.PlainScoreNetworkA(**QM9), "graphinv": ScoreNetworkA(**QM9)}
    plain_score.copy_network(networks["graphinv"], networks["plain"])
    networks = {name: net.to(args.device) for name, net in networks.items()}
    inputs = {"plain": (g.x, g.adj, g.mask.to(g.x.dtype)), "graphinv": (g,), "graphinv compiled": (g,)}
    if args.compile:
        networks["graphinv compiled"] = torch.compile(networks["graphinv"])
    outputs = {name: step(net, *inputs[name]) for name, net in networks.items()}  # also warms up
    for output in outputs.values():
        torch.testing.assert_close(output, outputs["plain"], rtol=1e-4, atol=1e-5)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(args.repeats):
        for name, net in networks.items():
            start = time.perf_counter()
            step(net, *inputs[name])
            if args.device != "cpu":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
        line = {
            "name": "ScoreNetworkA forward+backward",
            "backend": name,
            "shape": [args.batch_size, args.max_nodes, args.max_nodes],
            "median_s": round(medians[name], 5),
            "iqr_s": round(quartiles[2] - quartiles[0], 5),
            "ratio": round(medians[name] / medians["plain"], 3),  # time over the time of the transcription
            "device": args.device,
            "threads": args.threads,
            "torch": torch.__version__,
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
