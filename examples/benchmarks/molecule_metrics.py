"""Time the distances of molecules against plain `fcd.get_fcd` on the same molecules and print JSON lines.

Two sets of N molecules each, drawn with a seed from one file. Plain `fcd` prints one number; ours gives both distances
of the protocol "gdss-2022" (ChemNet and NSPDK), each with the interval of 100 bootstrap repeats, the statistics of the
reference not taken from a cache. One process (`fcd` starts a second one to read SMILES).

    python -m examples.benchmarks.molecule_metrics --count 2000 --threads 1
    GRAPHINV_DATA_DIR=~/data python -m examples.benchmarks.molecule_metrics --data qm9 --count 10000
"""

from __future__ import annotations

import argparse
import json
import random
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from graphinv.data.manifests import load_manifest, locate
from graphinv.data.readers import read_smiles
from graphinv.metrics.comparison import interval
from graphinv.metrics.molecule.fcd import Statistics, chemnet_activations, fcd_distance
from graphinv.metrics.molecule.labelled import labelled_graphs
from graphinv.metrics.nspdk import nspdk_features, nspdk_mmd
from graphinv.mol import canonical_smiles

T = TypeVar("T")


def molecules(data: str, count: int, seed: int) -> tuple[list[str], list[str]]:
    """Samples and reference: canonical SMILES of ``count`` lines each, drawn from a data set."""
    manifest = load_manifest(data)
    file = next(file for file in manifest.files if file.role == "molecules")
    lines = list(read_smiles(str(locate(file)), manifest.column, header=manifest.header))
    drawn = [canonical_smiles(line) for line in random.Random(seed).sample(lines, 2 * count)]
    kept = [smiles for smiles in drawn if smiles is not None]
    return kept[: len(kept) // 2], kept[len(kept) // 2 :]


class Clock:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, name: str, function: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = function()
        self.seconds[name] = round(time.perf_counter() - start, 3)
        return result


def plain_fcd(samples: list[str], reference: list[str]) -> float:
    import fcd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return float(fcd.get_fcd(samples, reference))


def ours(samples: list[str], reference: list[str], repeats: int) -> tuple[Clock, dict[str, float]]:
    clock = Clock()
    rows = clock.run("activations", lambda: chemnet_activations(samples, progress=False))
    known = clock.run("reference_activations", lambda: chemnet_activations(reference, progress=False))
    fcd = clock.run("fcd_distance", lambda: fcd_distance(rows, Statistics.of(known)))
    value = clock.run("fcd_value", lambda: fcd.value)
    clock.run("fcd_interval", lambda: interval(fcd, repeats))
    graphs = clock.run("graphs", lambda: [labelled_graphs(part, "single", False) for part in (samples, reference)])
    features = clock.run("nspdk_features", lambda: [nspdk_features(part, progress=False) for part in graphs])
    nspdk = clock.run("nspdk_mmd", lambda: nspdk_mmd(*features))
    kernel = clock.run("nspdk_value", lambda: nspdk.value)
    clock.run("nspdk_interval", lambda: interval(nspdk, repeats))
    return clock, {"fcd": value, "nspdk": kernel}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="smallmol", help="name of a data set (default: smallmol, which is embedded)")
    parser.add_argument("--count", type=int, default=2000, help="molecules of each of the two sets (default: 2000)")
    parser.add_argument("--repeats", type=int, default=100, help="bootstrap repeats (default: 100)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the molecules drawn (default: 0)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    samples, reference = molecules(args.data, args.count, args.seed)
    chemnet_activations(samples[:16], progress=False)  # loads the network, which is not what is compared
    plain = Clock()
    theirs = plain.run("fcd", lambda: plain_fcd(samples, reference))
    clock, values = ours(samples, reference, args.repeats)
    total = sum(clock.seconds.values())
    common = {"data": args.data, "molecules": [len(samples), len(reference)], "threads": args.threads}
    print(json.dumps({"name": "molecule_metrics/fcd", **common, "seconds": plain.seconds["fcd"], "value": theirs}))
    print(
        json.dumps(
            {
                "name": "molecule_metrics/gdss-2022",
                **common,
                "repeats": args.repeats,
                "seconds": round(total, 3),
                "ratio": round(total / plain.seconds["fcd"], 3),
                "parts": clock.seconds,
                "values": values,
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
