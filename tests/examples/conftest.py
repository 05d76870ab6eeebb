"""The folder of the benchmark scripts is importable, as it is when one of them is run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmarks"))
