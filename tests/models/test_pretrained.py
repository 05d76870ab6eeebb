"""Generators that come with graphinv: found by name, in half precision, and good enough to be worth their place."""

from __future__ import annotations

import pytest
import torch

import graphinv
from graphinv import pretrained
from graphinv.errors import CheckpointError
from graphinv.models.checkpoint import checkpoint_in


@pytest.mark.parametrize("name", ["qm9", "zinc250k"])
def test_a_generator_is_taken_by_name_and_draws_molecules(name):
    model = graphinv.MoleculeGenerator.load(name)
    assert next(model.generator.parameters()).dtype == torch.float32
    smiles = model.sample(24, seed=0, progress=False).smiles
    assert graphinv.evaluate(smiles)["valid_strict"]["rate"] >= 0.6
    assert sum(file.stat().st_size for file in pretrained.path_of(name).iterdir()) < 8_000_000


def test_a_path_that_is_there_comes_before_a_name(tmp_path, monkeypatch):
    (tmp_path / "qm9").mkdir()
    assert checkpoint_in("qm9") == pretrained.path_of("qm9")
    monkeypatch.chdir(tmp_path)
    assert str(checkpoint_in("qm9")) == "qm9"


def test_an_unknown_name_gets_those_that_are_there(tmp_path):
    with pytest.raises(CheckpointError, match="comes with graphinv: qm9, zinc250k"):
        graphinv.load(tmp_path / "qm8")
    assert pretrained.names() == ["qm9", "zinc250k"]
