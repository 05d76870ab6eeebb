"""The short examples run on real data and do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = os.environ.get("GRAPHINV_DATA_DIR")


@pytest.mark.data
@pytest.mark.skipif(
    not DATA or not Path(DATA, "tu", "ENZYMES").is_dir(), reason="needs tu/ENZYMES in GRAPHINV_DATA_DIR"
)
def test_a_network_with_lcm_learns_enzymes():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "lcm_in_a_gnn.py", "8"], capture_output=True, text=True, timeout=300, check=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch")]
    assert len(lines) == 8 and float(lines[-1].rsplit(" ", 1)[1]) > 0.25  # six classes: chance is 0.167
