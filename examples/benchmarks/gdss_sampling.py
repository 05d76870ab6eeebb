r"""Quality against cost of GDSS samplers: molecules per second, validity, NSPDK and FCD, for any run.

A side is RUN=SAMPLER: a run directory, trained here or converted, and NAME:STEPS with changes, such as "s4:100",
"s4:25:snr=0.3" or, as the official code samples, "reverse:1000:norm=batch,denoise=false,decode=threshold". Each side
draws --count molecules once per seed on --threads threads; they are judged under gdss-2022: validity without correction
over all samples, then FCD and NSPDK of the corrected molecules against the test split. JSON lines:

  molecules_per_s   wall clock, of the drawing alone; molecules_per_cpu_s by CPU seconds
  calls             network calls of one molecule; a call of both networks is two
  fcd, nspdk        with low and high, the 95% bootstrap over samples; floor: real training molecules in their place

Tune on seeds that are not reported: FCD falls with the number of samples, so compare at equal --count.

Examples:
  python -m examples.benchmarks.gdss_sampling runs/qm9=s4:100 --reference qm9.graphs --count 1000 --seeds 0
  python -m examples.benchmarks.gdss_sampling runs/official=s4:100 runs/official=exponential:24:snr=0.22,early=1.75 \
      --reference qm9.graphs --seeds 10 11 12 --out gdss_sampling.jsonl
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from graphinv import GraphStore, MoleculeGenerator, evaluate
from graphinv.models import SamplerConfig

from .lines import add_output, emit, setting

CHANGES: dict[str, Any] = {"snr": float, "scale_eps": float, "early": float, "norm": str, "decode": str}
CHANGES["denoise"] = {"true": True, "false": False}.__getitem__


def sampler_of(text: str, own: SamplerConfig) -> SamplerConfig:
    """Return the model's own sampler with solver, steps and changes of ``text``, or unchanged for "own"."""
    if text == "own":
        return own
    solver, steps, *rest = text.split(":")
    pairs = (change.split("=") for change in rest[0].split(",")) if rest else ()
    return replace(own, solver=solver, steps=int(steps), **{key: CHANGES[key](value) for key, value in pairs})


class Side(NamedTuple):
    """A run with a sampler."""

    run: str
    text: str
    model: MoleculeGenerator
    sampler: SamplerConfig

    @classmethod
    def of(cls, side: str) -> Side:
        """Read RUN=SAMPLER."""
        path, _, text = side.partition("=")
        if not text:
            raise SystemExit(f"a side is RUN=SAMPLER, such as runs/qm9=s4:100, got {side}")
        model = MoleculeGenerator.load(path)
        return cls(Path(path).name, text, model, sampler_of(text, model.generator.config.sampler))


def measure(side: Side, seed: int, args: argparse.Namespace, store: GraphStore) -> dict[str, Any]:
    """Return the figures of one side and seed."""
    model, sampler = side.model, side.sampler
    model.sample(8, seed=seed, sampler=replace(sampler, steps=2), progress=False)
    start = time.process_time()
    drawn = model.sample(args.count, seed=seed, sampler=sampler, batch_size=args.batch_size, progress=False)
    cpu = time.process_time() - start
    report = evaluate(
        drawn.smiles, reference=store, protocol="gdss-2022", repeats=args.repeats, seed=seed, progress=False
    )
    valid, unique = (report["under_protocol"][key]["rate"] for key in ("valid", "unique"))
    line = {"valid": valid, "unique": unique, "valid_strict": report["valid_strict"]["rate"]}
    for name, entry in report["distances"].items():
        kept = {key: entry[key] for key in ("value", "low", "high", "floor")}
        line["fcd" if name == "fcd" else "nspdk"] = kept
    rates = {"molecules_per_s": args.count / drawn.seconds, "molecules_per_cpu_s": args.count / cpu}
    return {"calls": drawn.evaluations, **{key: float(f"{rate:.4g}") for key, rate in rates.items()}, **line}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", nargs="+", metavar="RUN=SAMPLER", help="a run directory and a sampler")
    parser.add_argument("--reference", required=True, help="store of the data, with its test split")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12], help="default: 10 11 12")
    parser.add_argument("--count", type=int, default=10_000, help="molecules per seed (default 10000)")
    parser.add_argument("--batch-size", type=int, default=1024, help="molecules per network call (default 1024)")
    parser.add_argument("--repeats", type=int, default=100, help="bootstrap draws of the intervals, 0 for none")
    add_output(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    store, sides = GraphStore.open(args.reference), [Side.of(side) for side in args.sides]
    common = {"count": args.count, **setting("gdss_sampling", args.threads)}
    for side in tqdm(sides, unit="side", disable=None):
        told = {"name": "gdss_sampling", "model": side.run, "sampler": side.text}
        for seed in args.seeds:
            emit({**told, "seed": seed, **measure(side, seed, args, store), **common}, args.out)


if __name__ == "__main__":
    main()
