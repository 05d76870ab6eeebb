"""Threads are chosen by what a step takes with them, and what was there before comes back."""

from __future__ import annotations

import json

import pytest
import torch

from graphinv.data import GraphStore
from graphinv.errors import InputError
from graphinv.models import GDSS, GDSSConfig
from graphinv.testing import random_graphs
from graphinv.training import TrainConfig, threads, train


@pytest.fixture
def several(monkeypatch):
    """Let torch have four threads for a while, and no word from the environment."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def prepared():
    batch = random_graphs(20, max_nodes=5, seed=0)
    store = GraphStore.from_graphs(batch, split_id=torch.zeros(20, dtype=torch.uint8))
    model = GDSS.seeded(GDSSConfig(node_types=len(store.vocabulary.nodes), max_nodes=5, node_hidden=8), 0)
    return model, model.prepare(store, progress=False)


@pytest.mark.parametrize(
    ("cost", "chosen"),
    [
        ({1: 1.0, 2: 0.5, 4: 0.3}, 4),
        ({1: 1.0, 2: 0.9, 4: 0.85}, 1),  # waiting for one another
        ({1: 1.0, 2: 0.6, 4: 0.55}, 2),
        ({1: 1.0, 2: 2.0, 4: 4.0}, 1),  # cores that others use
        ({1: 1.0, 2: 0.9, 4: 0.4}, 4),
    ],
)
def test_more_threads_are_taken_where_they_pay(cost, chosen, several, monkeypatch):
    model, store = prepared()
    monkeypatch.setattr(threads, "_step", lambda generator, batch, count, seed: cost[count])
    count, told = threads.choose_threads(model, store, 8)
    assert count == chosen and "1: 1 s" in told


def test_the_timing_leaves_weights_gradients_threads_and_the_global_state_alone(several):
    model, store = prepared()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.random.get_rng_state()
    assert threads.choose_threads(model, store, 8)[0] in (1, 2, 4)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.get_num_threads() == 4 and torch.equal(torch.random.get_rng_state(), state)


def test_the_environment_is_kept_to(several, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    model, store = prepared()
    assert threads.choose_threads(model, store, 8) == (4, "as the environment says")


def test_a_training_says_what_it_takes_and_puts_the_threads_back(several, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    model, store = prepared()
    train(model, store, tmp_path / "run", max_epochs=1, batch_size=8)
    assert "graphinv: training with" in capsys.readouterr().err
    assert torch.get_num_threads() == 4
    model, store = prepared()
    train(model, store, tmp_path / "other", max_epochs=1, batch_size=8, threads=2)
    assert "training with" not in capsys.readouterr().err
    train(model, store, tmp_path / "other", max_epochs=2, batch_size=8, resume=True)  # goes on as it began
    assert "training with" not in capsys.readouterr().err
    assert json.loads((tmp_path / "other" / "train.json").read_text())["threads"] == 2


def test_threads_are_counted_from_none():
    with pytest.raises(InputError, match="threads"):
        TrainConfig(threads=-1)
