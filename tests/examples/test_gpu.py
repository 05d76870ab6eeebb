"""The script of GPU figures: what it counts, that every part runs where there is no GPU, and its page."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from examples.benchmarks import gpu
from examples.benchmarks.pages import gpu as page
from graphinv.ops import available_backends


@pytest.mark.parametrize("kind", ["uniform", "power_law"])
def test_groups_hold_all_rows_and_the_largest_a_tenth(kind):
    sizes = gpu.sizes(kind, 160_000)
    assert int(sizes.sum()) == 160_000 and int(sizes.min()) >= 1
    assert int(sizes.max()) == (16 if kind == "uniform" else 16_000)


def test_figures_follow_from_counts_and_seconds():
    machine = gpu.Machine(torch.device("cpu"), 1e10, {torch.float32: 1e12})
    case = gpu.Case("c", {}, bytes=2e9, flops=5e11, items=10)
    found = gpu.line(case, "ours", 0.5, 2.0, machine)
    assert (found["gb_per_s"], found["of_copy"], found["times"]) == (4.0, 0.4, 4.0)
    assert (found["tflop_per_s"], found["of_matmul"], found["items_per_s"]) == (1.0, 1.0, 20.0)


def test_a_side_that_cannot_run_says_why_and_the_next_is_the_reference():
    def fails():
        raise RuntimeError("out of memory\nat length")

    machine = gpu.Machine(torch.device("cpu"), 1.0, {})
    lines = list(gpu.measured(gpu.Case("c", {"a": fails, "b": lambda: None}), machine, 0.0))
    assert lines[0]["error"] == "out of memory" and lines[1]["times"] == 1.0


def test_after_its_time_a_side_is_left_out():
    machine = gpu.Machine(torch.device("cpu"), 1.0, {})
    (found,) = gpu.measured(gpu.Case("c", {"a": lambda: 1 / 0}), machine, 0.0, until=0.0)
    assert "time was over" in found["error"]


@pytest.mark.parametrize(("words", "message"), [(["--device", "cuda"], "no GPU"), (["--scale", "0"], "above 0")])
def test_what_cannot_be_is_said_in_a_line(words, message, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    with pytest.raises(SystemExit):
        gpu.main()
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("part", list(gpu.PARTS))
def test_every_part_runs_on_a_cpu(part, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu.Machine, "measure", lambda device, seconds: MACHINE)
    monkeypatch.setattr(gpu, "timed", lambda run, device, seconds, calls: (run(), 0.5)[1])
    out = tmp_path / "out.jsonl"
    words = ["--device", "cpu", "--scale", "0.0001", "--only", part, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    gpu.main()
    machine, *lines = map(json.loads, out.read_text().splitlines())
    assert machine["name"] == "machine" and machine["copy_gb_per_s"] == 2.0
    assert lines and not [line for line in lines if "error" in line]
    if part == "segments":
        sides = ["pyg", *available_backends()]
        assert [line["side"] for line in lines] == sides * 16
    assert page.kernels(lines).count("\n") == 2 + len({(line["case"], line["side"]) for line in lines})
    assert "copy gb per s | 2.00" in page.limits([machine])


MACHINE = gpu.Machine(torch.device("cpu"), 2e9, {torch.float32: 1e12, torch.bfloat16: 1e12})
