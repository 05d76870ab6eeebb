"""The verb evaluate on files of every kind: graphs and molecules in, table, JSON and page out, clear errors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import networkx as nx
import pytest

from graphinv.cli import main


@pytest.fixture
def some_graphs(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHINV_CACHE_DIR", str(tmp_path / "cache"))
    graphs = [nx.cycle_graph(n) for n in range(3, 11)]
    for name, part in (("out", graphs[:4]), ("test", graphs[4:]), ("train", graphs)):
        lines = b"".join(nx.to_graph6_bytes(graph, header=False) for graph in part)
        (tmp_path / f"{name}.g6").write_bytes(lines)
    return tmp_path


def test_evaluate_judges_graphs_under_a_protocol_and_writes_json_and_a_page(some_graphs, capsys):
    files = {name: str(some_graphs / f"{name}.g6") for name in ("out", "test", "train")}
    page, report = some_graphs / "page.html", some_graphs / "report.json"
    arguments = ["--reference", files["test"], "--train", files["train"], "--protocol", "gdss-2022", "--repeats", "5"]
    written = ["--family", "planar", "--json", str(report), "--report", str(page)]
    assert main(["evaluate", files["out"], *arguments, *written]) == 0
    told = capsys.readouterr().out
    assert "degree" in told and "floor" in told and str(page) in told
    found = json.loads(report.read_text())
    assert found["protocol"]["met"] and found["valid"]["rate"] == 1 and found["novel"]["rate"] == 0
    assert page.read_text().lower().startswith("<!doctype html>") and "<svg" in page.read_text()


def test_evaluate_takes_a_set_with_its_own_splits_as_reference(some_graphs, capsys):
    graphs = [nx.cycle_graph(n) for n in range(3, 11)]
    with open(some_graphs / "set.pkl", "wb") as file:
        pickle.dump({"train": graphs[:4], "val": graphs[4:6], "test": graphs[6:]}, file)
    arguments = ["--reference", str(some_graphs / "set.pkl"), "--protocol", "digress-2023", "--repeats", "0"]
    assert main(["evaluate", str(some_graphs / "out.g6"), *arguments]) == 0
    assert "spectral" in capsys.readouterr().out


def test_the_table_is_printed_before_a_file_that_cannot_be_written(some_graphs, capsys):
    (some_graphs / "blocked").write_text("no folder")
    assert main(["evaluate", str(some_graphs / "out.g6"), "--json", str(some_graphs / "blocked" / "a.json")]) == 2
    told = capsys.readouterr()
    assert "unique" in told.out and "a.json" in told.err


def test_self_loops_of_a_file_are_said_and_graphs_too_large_to_draw_are_not_drawn(some_graphs, capsys):
    looped = nx.path_graph(2_500)
    looped.add_edge(0, 0)
    with open(some_graphs / "large.pkl", "wb") as file:
        pickle.dump([looped], file)
    page = some_graphs / "page.html"
    assert main(["evaluate", str(some_graphs / "large.pkl"), "--report", str(page)]) == 0
    assert "1 self loops were dropped" in capsys.readouterr().out and page.exists()


def test_a_table_without_header_and_a_column_by_number_are_read(tmp_path, capsys):
    (tmp_path / "bare.csv").write_text("1,CCO\n2,CC\n")
    (tmp_path / "out.csv").write_text("id,made\n1,CCO\n2,CCC\n")
    assert main(["evaluate", str(tmp_path / "bare.csv"), "--column", "1", "--no-header"]) == 0
    assert "of 2 samples" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "out.csv"), "--column", "1"]) == 0
    assert "100.00 %" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "match"), [
    (["out.g6", "--reference", "qm9"], "graphinv data build qm9"),
    (["out.g6", "--protocol", "gdss-2023"], "no protocol"),
    (["out.g6", "--protocol", "gdss-2022"], "give reference"),
    (["out.g6", "--report", "page.pdf"], ".html"),
    (["out.g6", "--family", "cubic"], "planar"),
    (["missing.smi"], "does not exist"),
    (["noise.g6"], "noise.g6"),
    (["noise.smi"], "noise.smi"),
    (["code.pkl"], "code.pkl"),
    (["out.g6", "--reference", "molecules.smi"], "one kind"),
])  # fmt: skip
def test_evaluate_says_what_is_wrong_with_its_input(some_graphs, monkeypatch, capsys, arguments, match):
    monkeypatch.chdir(some_graphs)
    for name in ("noise.g6", "noise.smi"):
        Path(name).write_bytes(bytes(range(256)) * 20)
    Path("code.pkl").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    Path("molecules.smi").write_text("CCO\nCC\n")
    assert main(["evaluate", *arguments]) == 2
    told = capsys.readouterr().err
    assert match in told and "Traceback" not in told
    assert not Path("owned").exists() and not Path("page.pdf").exists()
