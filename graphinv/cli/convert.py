"""``graphinv convert``: other people's checkpoints as run directories."""

from __future__ import annotations

from graphinv import convert
from graphinv.cli.arguments import make_parser
from graphinv.data import GraphStore

__all__ = ["gdss_verb"]


def gdss_verb(args: list[str]) -> None:
    """Run ``convert gdss``."""
    p = make_parser(
        "convert gdss",
        "Make a run directory of an official checkpoint of GDSS (.pth; arXiv:2202.02514), with or without averaged "
        "weights, either node network. The file is read without running anything of it. The run is as any other: "
        "graphinv sample RUN. The default sampler is graphinv's; --sampler paper follows the official one, which "
        "calls the networks 4,000 times.",
    )
    p.add_argument("file", metavar="FILE", help="the checkpoint, such as gdss_qm9.pth")
    p.add_argument("-o", "--output", required=True, help="run directory to make")
    p.add_argument(
        "--weights", default="official", choices=["official", "raw", "ema"], help="official: as its settings sample"
    )
    p.add_argument("--sampler", default="default", choices=["default", "paper"], help="what sample uses unless told")
    p.add_argument("--data", default=None, help="a store: node counts of its training graphs, if the data set is new")
    values = p.parse_args(args)
    store = None if values.data is None else GraphStore.open(values.data)
    model = convert.gdss(values.file, values.output, weights=values.weights, sampler=values.sampler, data=store)
    weights, graphs = sum(p.numel() for p in model.parameters()), int(model.node_histogram.sum())
    print(f"{values.output}: {weights:,} weights, up to {model.max_nodes} nodes, node counts of {graphs:,} graphs")
    print(f"next: graphinv sample {values.output} -n 1000 -o out.smi (plain graphs: out.g6)")
