"""The scripts of examples/benchmarks on aggregators run, measure what they say, and the pages match their lines."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from examples.benchmarks import aggregator_behaviour as matrix
from examples.benchmarks import aggregators, block_order
from examples.benchmarks import render_docs as render
from examples.benchmarks.lines import environment, python
from examples.benchmarks.pages import aggregators as pages
from examples.benchmarks.pages import number

ROOT = Path(__file__).parents[2]


def run(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [f"{module.__name__}.py", *map(str, arguments)])
    module.main()


@pytest.mark.parametrize("module", [aggregators, matrix, render], ids=lambda m: m.__name__)
def test_help_shows_examples(module, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        run(module, monkeypatch, "--help")
    assert end.value.code == 0
    assert "python -m examples.benchmarks." in capsys.readouterr().out


def test_every_command_in_the_documentation_names_a_module_that_can_be_run():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.py"))]
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    assert not [page for page, text in texts.items() if re.search(r"python examples/benchmarks", text)]
    names = {name for text in texts.values() for name in re.findall(r"python -m examples\.benchmarks\.(\w+)", text)}
    assert len(names) > 15
    for name in names:
        assert "\ndef main(" in (ROOT / "examples" / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")


def test_a_module_starts_itself_with_a_checkout_it_can_import(tmp_path, monkeypatch):
    (tmp_path / "only_there.py").write_text("print('imported')")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    env = environment(2, tmp_path)
    assert env["OMP_NUM_THREADS"] == "2" and env["PYTHONPATH"].endswith(f"{os.pathsep}elsewhere")
    command = [sys.executable, "-c", "import only_there"]
    assert subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout == "imported\n"
    command = [*python("import_time"), "--help"]
    assert (
        "python -m examples.benchmarks.import_time"
        in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    )


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.01, 0.001, 0.0001])
@pytest.mark.parametrize("name", aggregators.CASES)
def test_sizes_agree_with_the_case(name, scale):
    case = aggregators.CASES[name].scaled(scale)
    sizes = case.sizes()
    assert (int(sizes.sum()), len(sizes), int(sizes.max())) == (case.elements, case.groups, case.largest)
    assert int(sizes.min()) >= 1
    assert torch.equal(sizes, case.sizes())


def test_memory_meter_sees_a_known_tensor_and_forgets_it():
    readings = []
    for megabytes in (100, 0, 40):  # the second block is below an earlier peak
        with aggregators.MemoryMeter() as meter:
            torch.ones(megabytes * 250_000)
        readings.append(meter.extra_mb)
    if meter.method != "VmHWM":
        pytest.skip("the peak of a process cannot be reset here")
    assert readings == pytest.approx([100, 0, 40], abs=3)


def test_one_case_end_to_end_with_a_side_that_asks_for_too_much(monkeypatch, capsys, tmp_path):
    out = tmp_path / "lines.jsonl"
    arguments = ["--cases", "power_law", "--sides", "pyg_lcm", "lcm_gru", "--scale", 0.05, "--memory-cap", 0.15]
    run(aggregators, monkeypatch, *arguments, "--turns", 1, "--repeats", 2, "--out", out)
    lines = [json.loads(text) for text in out.read_text().splitlines()]
    assert [json.loads(text) for text in capsys.readouterr().out.splitlines()] == lines
    sides = ["pyg_lcm", "lcm_gru"]
    assert [(line["name"], line["side"]) for line in lines] == [(n, s) for n in ("turn", "aggregator") for s in sides]
    peer, own = lines[2:]
    assert peer["status"] == "out of memory"
    assert peer["asked_mb"] == pytest.approx(peer["groups"] * peer["largest"] * 64 * 4 / 1e6, abs=1)
    assert own["status"] == "ok" and own["median_s"] > 0 and own["iterations"] == 2 and own["turns"] == 1
    assert own["command"].endswith("--turns 1 --repeats 2")
    table = pages.speed(lines)
    assert "out of memory (cap 0.15 GB, asked for 0.2 GB at once)" in table and "| lcm_gru |" in table


def test_block_order_counts_the_blocks_of_a_file(monkeypatch, capsys, tmp_path):
    pytest.importorskip("rdkit")
    (tmp_path / "a.smi").write_text("CCO\nnonsense\nC\n")
    run(block_order, monkeypatch, "--input", tmp_path / "a.smi", "--hops", 0, 1, "--chunk", 2)
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [(line["graphs"], line["nodes"]) for line in lines] == [(2, 14), (2, 14)]
    assert [line["average_blocks"] for line in lines] == [1.0, 2.5]
    assert [line["max_block_size"] for line in lines] == [9, 6]


def test_failures_end_the_turns_and_have_no_ratio():
    failed = [{"status": "out of memory", "message": "no"}]
    fine = [{"status": "ok", "wall": [1.0, 3.0], "cpu": [1.0, 3.0], "extra": [1.0, 1.0], "memory_method": "VmHWM"}]
    turns = {"pyg_lcm": failed, "lcm_gru": fine, "floor": fine}
    done = {side: aggregators.summary(results) for side, results in turns.items()}
    assert done["lcm_gru"]["median_s"] == 2.0
    assert aggregators.ratios("pyg_lcm", turns, done)["reference_status"] == "out of memory"
    assert aggregators.ratios("lcm_gru", turns, done) == {
        "reference": "pyg_lcm",
        "reference_status": "out of memory",
        "time_over_floor": 1.0,
        "cpu_over_floor": 1.0,
    }


def test_a_ratio_says_how_many_times_less_the_side_needs():
    slow, fast = ({"status": "ok", "wall": [t], "cpu": [t], "extra": [8 * t], "memory_method": ""} for t in (6.0, 2.0))
    turns = {"pyg_lcm": [slow, slow], "sum": [fast, slow]}
    done = {side: aggregators.summary(results) for side, results in turns.items()}
    line = aggregators.ratios("sum", turns, done)
    assert (line["ratio_time"], line["ratio_cpu"], line["ratio_memory"]) == (1.5, 1.5, 1.5)
    assert line["ratio_time_range"] == [1.0, 3.0]


def test_a_batch_dependent_aggregator_is_found_out():
    line = matrix.behaviour(matrix.AGGREGATORS["pyg_lcm"])
    assert list(line) == list(matrix.CELLS)
    assert line["batch"] > 0.1 and line["permutation"] > 0.1
    assert line["ptr"] == "error: NotImplementedError"


def test_a_sum_is_ok_everywhere():
    line = matrix.behaviour(matrix.AGGREGATORS["pyg_sum"])
    assert line.pop("batch") < 1e-12 and line.pop("permutation") < 1e-12
    assert line.pop("graph_breaks") == 0 and line.pop("bf16") == "bfloat16"
    assert set(line.values()) == {"ok"}


def test_wrong_results_are_told_from_right_ones():
    x, index = matrix.rows(3, 37)
    assert matrix.same(x, x) == "ok"
    assert matrix.same(x[:2], x) == "wrong: shape [2, 8]"
    assert str(matrix.same(x + 1, x)).startswith("wrong: off by")


def test_the_committed_pages_are_what_the_lines_give(monkeypatch):
    run(render, monkeypatch, "--check")


def test_check_finds_a_page_that_is_out_of_date(monkeypatch, tmp_path):
    line = {"name": "behaviour", "aggregator": "a|b", **dict.fromkeys(pages.BEHAVIOUR, "ok"), "batch": 1e-17}
    line |= {"permutation": 0.25, "torch": "2", "command": "python x.py"}
    lines = tmp_path / "aggregator_behaviour.jsonl"
    lines.write_text(json.dumps(line) + "\n")
    with pytest.raises(SystemExit, match=r"aggregators\.md"):
        run(render, monkeypatch, "--folder", tmp_path, "--check")
    run(render, monkeypatch, "--folder", tmp_path)
    run(render, monkeypatch, "--folder", tmp_path, "--check")
    text = (tmp_path / "aggregators.md").read_text()
    assert "| a\\|b | 0 | 0.25 | ok |" in text and "python x.py" in text
    assert "Not measured yet: there is no aggregators.jsonl." in text
    lines.write_text(json.dumps({**line, "permutation": 0.5}) + "\n")
    with pytest.raises(SystemExit, match="render_docs"):
        run(render, monkeypatch, "--folder", tmp_path, "--check")


def test_the_last_line_of_a_row_counts():
    line = {"name": "behaviour", "aggregator": "a", **dict.fromkeys(pages.BEHAVIOUR, "ok")}
    table = pages.behaviour([{**line, "ptr": "old"}, {**line, "ptr": "new"}])
    assert "new" in table and "old" not in table


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0.0441, "0.0441"), (1.5, "1.50"), (15.13, "15.1"), (343.2, "343"), (2729, "2,729")]
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text
