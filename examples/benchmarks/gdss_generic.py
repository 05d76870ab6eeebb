r"""GDSS on sets of plain graphs: distances to the test graphs under gdss-2022, over seeds, for any run.

Each seed draws as many graphs as the test split has. A sampler is "own" (the settings of the run) or NAME:STEPS with
changes, as in gdss_sampling.py. JSON lines: degree, clustering, orbit, each with value, draws (the same distance of as
many training graphs, --repeats times) and draws_spread; seconds of drawing.

Examples:
  graphinv data build community_small -o community_small.graphs
  graphinv convert gdss gdss_community_small.pth -o runs/community_small --sampler paper
  python -m examples.benchmarks.gdss_generic runs/community_small --reference community_small.graphs --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from tqdm import tqdm

from graphinv import GraphStore, evaluate
from graphinv.models import SamplerConfig
from graphinv.pipeline import load

from .gdss_sampling import sampler_of
from .lines import add_output, emit, setting


def name_of(sampler: SamplerConfig) -> str:
    """Return the sampler as NAME:STEPS with what plain graphs depend on."""
    s = sampler
    return f"{s.solver}:{s.steps}:snr={s.snr},norm={s.norm},denoise={str(s.denoise).lower()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run directory, trained here or converted")
    parser.add_argument("--reference", required=True, help="store of the data, with its test split")
    parser.add_argument("--samplers", nargs="+", default=["own"], metavar="NAME:STEPS[:KEY=VALUE]")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help="default: 0 1 2 3 4")
    parser.add_argument("--repeats", type=int, default=100, help="draws of training graphs (default 100)")
    parser.add_argument("--label", default=None, help="name of the model in the lines; default: of its folder")
    add_output(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, store = load(args.run).generator, GraphStore.open(args.reference)
    own, count = model.config.sampler, store.indices("test").numel()
    samplers = {name_of(own) if text == "own" else text: sampler_of(text, own) for text in args.samplers}
    common = {"name": "gdss_generic", "data": Path(args.reference).stem, "model": args.label or Path(args.run).name}
    common |= {"count": count, **setting("gdss_generic", args.threads)}
    todo = [(text, seed) for text in samplers for seed in args.seeds]
    for text, seed in tqdm(todo, unit="draw", disable=None):
        start = time.perf_counter()
        drawn = model.sample(count, seed=seed, sampler=samplers[text])
        seconds = round(time.perf_counter() - start, 1)
        options = {"protocol": "gdss-2022", "repeats": args.repeats, "seed": seed, "progress": False}
        distances = evaluate(drawn, reference=store, **options)["distances"]
        found = {key: {k: entry.get(k) for k in ("value", "draws", "draws_spread")} for key, entry in distances.items()}
        emit({**common, "sampler": text, "seed": seed, "seconds": seconds, **found}, args.out)


if __name__ == "__main__":
    main()
