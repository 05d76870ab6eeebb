"""The benchmark of GDSS samplers runs on any run directory, and its page is made of its lines."""

from __future__ import annotations

import argparse
import json
import sys
from xml.etree import ElementTree

import pytest

from examples.benchmarks import gdss_generic
from examples.benchmarks import gdss_sampling as script
from examples.benchmarks import gdss_speed as speed
from examples.benchmarks.pages import gdss as page
from graphinv import testing
from graphinv.data import GraphStore
from graphinv.models import GDSS, GDSSConfig, SamplerConfig
from graphinv.mol import build_store

SMILES = ["CCO", "CC(=O)C", "CCN", "C1CC1", "CC#N", "OCCO", "CC=O", "CNC", "COC", "CCC", "CO", "CCCO"] * 3


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHINV_CACHE_DIR", str(tmp_path / "cache"))
    store = build_store(SMILES, workers=1, split="random:0.5/0.0/0.5:0", progress=False)[0]
    store.save(tmp_path / "some.graphs")
    model = GDSS.seeded(GDSSConfig(node_types=len(store.vocabulary.nodes), max_nodes=5), 0)
    model.prepare(store, progress=False)
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run", metadata={"vocabulary": store.vocabulary.to_json()})
    return tmp_path


def test_each_sampler_and_seed_gives_a_line_and_the_page_sums_them_up(files, monkeypatch, capsys):
    out = files / "lines.jsonl"
    arguments = ["--reference", files / "some.graphs", "--count", 9, "--seeds", 1, 2, "--repeats", 5, "--out", out]
    samplers = ["s4:3", "exponential:2:snr=0.3,denoise=false,early=1.5"]
    sides = [f"{files / 'run'}={text}" for text in samplers]
    monkeypatch.setattr(sys, "argv", ["gdss_sampling.py", *map(str, [*sides, *arguments])])
    script.main()
    lines = [json.loads(text) for text in out.read_text().splitlines()]
    assert [json.loads(text) for text in capsys.readouterr().out.splitlines()] == lines
    assert [(line["sampler"], line["seed"]) for line in lines[:2]] == [("s4:3", 1), ("s4:3", 2)] and len(lines) == 4
    assert [line["calls"] for line in lines] == [6, 6, 4, 4]
    assert str(files) not in json.dumps(lines)
    rows = page.rows(lines)
    assert [row[:4] for row in rows] == [["run", "`s4:3`", "2", "6"], ["run", samplers[1].join("``"), "2", "4"]]
    assert all(len(row) == len(page.HEADER) for row in rows)


def test_a_sampler_is_the_models_own_with_changes():
    own = SamplerConfig(scale_eps=0.9)
    found = script.sampler_of("reverse:7:norm=batch,denoise=false,decode=threshold", own)
    assert found == SamplerConfig("reverse", 7, 0.2, 0.9, "batch", False, "threshold")
    for wrong in ("s5:10", "s4:ten", "s4:10:speed=3"):
        with pytest.raises((ValueError, KeyError)):
            script.sampler_of(wrong, own)


def test_plain_graphs_are_drawn_and_judged_and_the_page_has_a_row_of_real_ones(monkeypatch, tmp_path, capsys):
    store = GraphStore.from_graphs(
        testing.random_graphs(24, max_nodes=6, min_nodes=4, seed=0), split_id=[0] * 20 + [2] * 4
    )
    store.save(tmp_path / "some.graphs")
    model = GDSS.seeded(GDSSConfig(node_types=4, max_nodes=6, node_input="degree", sampler=SamplerConfig(steps=2)), 0)
    model.prepare(store, progress=False)
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run", metadata={"vocabulary": store.vocabulary.to_json()})
    arguments = [tmp_path / "run", "--reference", tmp_path / "some.graphs", "--repeats", 3, "--seeds", 1, 2]
    monkeypatch.setattr(sys, "argv", ["gdss_generic.py", *map(str, [*arguments, "--samplers", "own", "flow:3"])])
    gdss_generic.main()
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [line["sampler"] for line in lines] == ["s4:2:snr=0.2,norm=graph,denoise=true"] * 2 + ["flow:3"] * 2
    assert all(line["count"] == 4 and line["degree"]["value"] >= 0 for line in lines)
    rows = page.generic(lines)
    assert [row[:4] for row in rows] == [
        ["some", "run", f"`{lines[0]['sampler']}`", "2"], ["some", "run", "`flow:3`", "2"],
        ["some", "training graphs", "", ""],
    ]  # fmt: skip
    assert all(len(row) == len(page.GENERIC_HEADER) for row in rows)


def test_sides_take_turns_and_are_compared_with_the_first(monkeypatch):
    order = []
    seconds = speed.turns({side: lambda side=side: order.append(side) for side in ("peer", "ours")}, 2)
    assert order == ["peer", "ours"] * 3 and [len(found) for found in seconds.values()] == [2, 2]
    monkeypatch.setattr(
        sys,
        "argv",
        ["gdss_speed.py", "--peer", "/somewhere/GDSS", "--sides", "/a/run=s4:9", "/b/run/last=s4:9", "--out", "x"],
    )
    args = argparse.Namespace(threads=1, batch_size=64)
    lines = speed.lines("gdss_draw", {"peer": [2.0, 4.0, 3.0], "ours": [1.0, 1.5, 1.0]}, args)
    assert [(line["side"], line["times"], line["per_cpu_s"]) for line in lines] == [
        ("peer", 1.0, 21.33), ("ours", 3.0, 64.0)
    ]  # fmt: skip
    assert lines[0]["command"] == "python -m examples.benchmarks.gdss_speed --peer GDSS --sides run=s4:9 run/last=s4:9"
    assert page.speed(lines) == [["`peer`", "64", "21", "1.00"], ["`ours`", "64", "64", "3.00"]]


def test_charts_show_each_sampler_where_its_cost_and_quality_are():
    value = {"value": 2.5, "low": 2.4, "high": 2.6}
    line = {"model": "m & m", "sampler": "s4:100", "seed": 1, "molecules_per_cpu_s": 80.0, "fcd": value, "nspdk": value}
    made = page.charts([line, {**line, "sampler": "flow:8:early=1.5", "molecules_per_cpu_s": 500.0}])
    assert set(made) == {"gdss_fcd.svg", "gdss_nspdk.svg"}
    root = ElementTree.fromstring(made["gdss_fcd.svg"])
    words = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert {"s4 100", "flow 8", "m & m"} <= set(words)
    marks = [node for node in root.iter() if node.tag.endswith("circle")]
    assert float(marks[0].get("cx")) < float(marks[1].get("cx")) and marks[0].get("cy") == marks[1].get("cy")
