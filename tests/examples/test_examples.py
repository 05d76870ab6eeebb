"""The short examples run on real data and do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import graphinv.mol

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


CHOOSE = [
    ([], 5),
    pytest.param(
        ["--affinities", "davis"], 5, marks=[pytest.mark.data, pytest.mark.skipif(not DATA, reason="no data")]
    ),
]


@pytest.mark.parametrize(("source", "k"), CHOOSE)
def test_compounds_are_chosen_printed_and_drawn(source, k, tmp_path):
    picture = tmp_path / "choice.svg"
    small = ["--n", "24", "--k", str(k), "--epochs", "1", "--out", picture]
    command = [sys.executable, EXAMPLES / "select_compounds.py", *source, *small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("mean Jaccard"))
    assert all(graphinv.mol.canonical_smiles(line.split()[0]) for line in lines[start + 1 : start + 1 + k])
    assert lines[start + 1 + k].startswith("picture: ") and "<svg" in picture.read_text()
