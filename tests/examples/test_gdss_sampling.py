"""The benchmark of GDSS samplers runs on any run directory, and its page is made of its lines."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from graphinv.models import GDSS, GDSSConfig, SamplerConfig
from graphinv.mol import build_store

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"
SMILES = ["CCO", "CC(=O)C", "CCN", "C1CC1", "CC#N", "OCCO", "CC=O", "CNC", "COC", "CCC", "CO", "CCCO"] * 3


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return load("gdss_sampling")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHINV_CACHE_DIR", str(tmp_path / "cache"))
    store = build_store(SMILES, workers=1, split="random:0.5/0.0/0.5:0", progress=False)[0]
    store.save(tmp_path / "some.graphs")
    model = GDSS.seeded(GDSSConfig(features=len(store.vocabulary.nodes), max_nodes=5), 0)
    model.prepare(store, progress=False)
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run", metadata={"vocabulary": store.vocabulary.to_json()})
    return tmp_path


def test_each_sampler_and_seed_gives_a_line_and_the_page_sums_them_up(script, files, monkeypatch, capsys):
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
    page = load("_gdss_page")
    rows = page.rows(lines)
    assert [row[:4] for row in rows] == [["run", "`s4:3`", "2", "6"], ["run", samplers[1].join("``"), "2", "4"]]
    assert all(len(row) == len(page.HEADER) for row in rows)


def test_a_sampler_is_the_models_own_with_changes(script):
    own = SamplerConfig(scale_eps=0.9)
    found = script.sampler_of("reverse:7:norm=batch,denoise=false,decode=threshold", own)
    assert found == SamplerConfig("reverse", 7, 0.2, 0.9, "batch", False, "threshold")
    for wrong in ("s5:10", "s4:ten", "s4:10:speed=3"):
        with pytest.raises((ValueError, KeyError)):
            script.sampler_of(wrong, own)
