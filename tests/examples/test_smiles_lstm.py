"""The language model that graph generators are shown beside trains, draws and is judged as they are."""

from __future__ import annotations

import json
import sys

import pytest
import torch

import graphinv
from examples.benchmarks import smiles_lstm


@pytest.fixture
def molecules(tmp_path):
    store, _ = graphinv.build(["CCO", "CCN", "CC(=O)Cl", "c1ccccc1Br", "C[N+](C)(C)C"] * 12, split="none", workers=1)
    store.save(tmp_path / "few.graphs")
    return tmp_path / "few.graphs"


def test_it_prints_a_line_of_rates_and_cost(molecules, monkeypatch, capsys, tmp_path):
    out = tmp_path / "lines.jsonl"
    arguments = ["--data", str(molecules), "--minutes", "0.02", "--samples", "20", "--width", "24", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["smiles_lstm.py", *arguments])
    threads = torch.get_num_threads()
    try:
        smiles_lstm.main()
    finally:
        torch.set_num_threads(threads)
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert line == json.loads(out.read_text())
    assert line["samples"] == 20 and line["train_molecules"] > 0 and line["wh_10000"][0] < line["wh_10000"][1]
    assert 0 <= line["valid_strict"] <= 1


def test_tokens_keep_atoms_whole_and_spell_the_molecule():
    text = "C[N+](C)(C)CCl%10Br"
    cut = smiles_lstm.TOKEN.findall(text)
    assert "".join(cut) == text and {"[N+]", "Cl", "Br", "%10"} <= set(cut)


def test_a_molecule_learnt_by_heart_is_drawn_again():
    torch.manual_seed(0)
    row = torch.tensor([1, 2, 1, 3])
    model = smiles_lstm.Model(4, 32, 1)
    smiles_lstm.train(model, [row] * 16, 3.0, 8, 1e-2)
    drawn = smiles_lstm.sample(model, ["", "C", "O", "N"], 20, 9)
    assert drawn.count("COCN") >= 3  # one in a thousand by chance
