"""The script of compound selection: pairs of seed and selector see the same sets, and lines say what was chosen."""

from __future__ import annotations

import json
import sys

import pytest
import torch

import graphinv
from examples.benchmarks import compound_selection as script
from graphinv.compounds import drug_likeness
from graphinv.sets import mean_jaccard, top_k


@pytest.fixture(autouse=True)
def few_sets(monkeypatch):
    monkeypatch.setattr(script, "COUNTS", (24, 6, 12))


@pytest.fixture(scope="module")
def assay():
    smiles = ["C" * a + end + "C" * b for a in range(1, 7) for end in ("O", "N", "S") for b in range(4)]
    store, _ = graphinv.build(smiles, workers=1, split="none", progress=False)
    return store, [(torch.arange(len(store)), drug_likeness(store.smiles(), progress=False))]


def test_one_assay_is_divided_by_molecules_and_several_by_proteins(assay):
    store, (whole,) = assay
    task = script.draw(store, [whole], 8, 2, seed=1)
    train, validation, test = (set(part.x.tolist()) for part in task.parts)
    assert not train & validation and not train & test and not validation & test
    assert task.known[task.parts[2].x].isnan().all()
    rows = torch.arange(20)
    proteins = [(rows, (rows * factor % 20).float()) for factor in (1, 3, 7, 9, 11, 13, 17, 19, 21, 23)]
    task = script.draw(store, proteins, 8, 2, seed=1)
    assert task.known[task.parts[2].x].isfinite().all()
    orders = {tuple(values.tolist()) for _, values in proteins}
    assert len(orders) > 5


def test_activities_lie_beside_the_elements_they_belong_to(assay):
    store, (whole,) = assay
    task = script.draw(store, [whole], 8, 2, seed=2)
    assert torch.equal(task.true, whole[1][task.parts[2].x])
    best = top_k(task.true, task.parts[2].ptr, 2)
    assert mean_jaccard(best, task.parts[2].truth, task.parts[2].ptr) >= 1 / 3  # the most active one is in every subset


def test_known_activities_are_means_of_standard_scores():
    found = script.known(
        [(torch.tensor([0, 1]), torch.tensor([1.0, 3.0])), (torch.tensor([1]), torch.tensor([5.0]))], 3
    )
    assert found[:2].tolist() == [-1.0, 0.5] and found[2].isnan()


def test_every_selector_gives_a_line_and_the_same_again(assay, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "load", lambda name, least: assay)
    outs = []
    for name in ("a", "b"):
        out = tmp_path / name
        words = "--data zinc250k --n 8 --k 2 --epochs 1 --channels 8 --seeds 4 --out".split()
        monkeypatch.setattr(sys, "argv", ["compound_selection.py", *words, str(out)])
        script.main()
        outs.append([json.loads(line) for line in out.read_text().splitlines()])
    assert [line["model"] for line in outs[0]] == list(script.MODELS)
    assert [line["jaccard"] for line in outs[0]] == [line["jaccard"] for line in outs[1]]
    by_model = {line["model"]: line["jaccard"] for line in outs[0]}
    assert by_model.pop("mean_activity") is None
    assert all(0 <= value <= 1 for value in by_model.values())
    assert by_model["true_activity"] > by_model["random"]


@pytest.mark.parametrize(
    ("words", "message"), [("--n 8 --k 9", "1 <= k <= 8"), ("--n 200 --k 2", "0 proteins have 200 compounds")]
)
def test_sets_that_cannot_be_drawn_are_refused_in_a_line(words, message, assay, monkeypatch, capsys):
    monkeypatch.setattr(script, "load", lambda name, least: (assay[0], assay[1] if least < 100 else []))
    monkeypatch.setattr(sys, "argv", ["compound_selection.py", "--data", "davis", "--models", "random", *words.split()])
    with pytest.raises(SystemExit):
        script.main()
    assert message in capsys.readouterr().err
