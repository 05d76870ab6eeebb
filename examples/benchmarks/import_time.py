"""Time what importing graphinv adds to importing torch, in fresh processes, and print JSON lines.

    python -m examples.benchmarks.import_time

"graphinv" imports the package alone; "core" also touches the store, the graphs and GDSS; "molecules" adds RDKit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

CASES = {
    "graphinv": "import torch, graphinv",
    "core": "import torch, graphinv; graphinv.GraphStore, graphinv.GraphBatch, graphinv.GDSS",
    "molecules": "import torch, graphinv; graphinv.GDSS, graphinv.MoleculeGenerator",
    "help": "from graphinv.cli import main; main(['--help'])",
}


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="processes per case, alternating (default: 5)")
    repeats = parser.parse_args().repeats
    cases = {"torch": "import torch", **CASES}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats + 1):  # the first round warms the file cache
        for name, code in cases.items():
            times[name].append(seconds(code))
    floor = statistics.median(times["torch"][1:])
    for name, values in times.items():
        median = statistics.median(values[1:])
        over = None if name == "help" else round(median - floor, 3)
        print(json.dumps({"name": f"import/{name}", "median_s": round(median, 3), "over_torch_s": over}), flush=True)


if __name__ == "__main__":
    main()
