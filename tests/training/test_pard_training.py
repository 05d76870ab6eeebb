"""Training a block-autoregressive generator: what the store gives it, resuming, and the learning rate step by step."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from graphinv.data import GraphStore
from graphinv.errors import InputError
from graphinv.models import PARD, GraphGenerator, PARDConfig
from graphinv.training import TrainConfig, train
from graphinv.training.module import _rate

TINY = PARDConfig(node_types=3, max_nodes=5, node_dim=16, edge_dim=8, layers=1, heads=2)


def pard(seed=0, **changes):
    return PARD.seeded(replace(TINY, **changes), seed)


def test_a_trained_model_carries_what_sampling_needs(store, quick, tmp_path):
    folder = train(pard(), store, tmp_path, quick, progress=False)
    model, _ = GraphGenerator.load(folder / "last")
    graphs = int(store.indices("train").numel())
    assert int(model.first_sizes.sum()) == graphs and int(model.sizes[0]) == graphs  # one first size, one stop each
    assert int(model.node_counts.sum()) == int(store.node_counts(store.indices("train")).sum())
    assert int(model.sizes[1:].sum()) == int(model.degrees.sum())  # a stop has no degree
    out = model.sample(8, seed=1)
    assert out.num_graphs == 8 and out.block is not None
    assert set(out.node_counts().tolist()) <= set(range(1, 6))


def test_resuming_equals_an_uninterrupted_training(store, quick, tmp_path):
    once = train(pard(), store, tmp_path / "once", quick, max_epochs=4, progress=False)
    train(pard(), store, tmp_path / "twice", quick, max_epochs=2, progress=False)
    twice = train(pard(), store, tmp_path / "twice", quick, max_epochs=4, resume=True, progress=False)
    a, b = (GraphGenerator.load(f / "last")[0].state_dict() for f in (once, twice))
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("changes", [{"labels": ("C", "N", "S")}, {"labels": ("N", "C", "O")}])
def test_a_run_is_not_resumed_on_other_labels(store, store_of, quick, tmp_path, changes):
    train(pard(), store, tmp_path, quick, progress=False)
    with pytest.raises(InputError, match="was trained on"):
        train(pard(), store_of(**changes), tmp_path, quick, max_epochs=3, resume=True, progress=False)


def test_blocks_of_another_rule_are_replaced_and_stored_ones_are_used(store, quick, tmp_path):
    other = pard(max_hops=1).prepare(store)
    assert other.block_rule == "hops:1"
    again = pard(max_hops=3).prepare(other)
    assert again.block_rule == "hops:3" and pard(max_hops=3).prepare(again) is again
    assert isinstance(again, GraphStore) and again.content_hash != other.content_hash


@pytest.mark.parametrize(
    "config, message",
    [
        (replace(TINY, node_types=4), "knows 3 node types"),
        (replace(TINY, edge_types=2), "3 edge types"),
        (replace(TINY, max_nodes=4), "more than max_nodes = 4"),
    ],
)
def test_stores_that_do_not_fit_are_refused_before_anything_is_written(store, quick, tmp_path, config, message):
    with pytest.raises(InputError, match=message):
        train(PARD.seeded(config, 0), store, tmp_path / "run", quick, progress=False)
    assert not (tmp_path / "run").exists()


def test_what_the_backward_pass_computes_again_may_change_on_resuming(store, quick, tmp_path):
    train(pard(recompute="none"), store, tmp_path, quick, progress=False)
    train(pard(recompute="layers"), store, tmp_path, quick, max_epochs=3, resume=True, progress=False)
    assert GraphGenerator.load(tmp_path / "last")[1]["progress"]["epoch"] == 3


def test_the_hash_kept_is_that_of_the_store_given_without_the_blocks_of_the_model(store, quick, tmp_path):
    train(pard(), store, tmp_path, quick, max_epochs=1, progress=False)
    assert store.block is None
    assert GraphGenerator.load(tmp_path / "best")[1]["store"]["hash"] == store.content_hash


@pytest.mark.parametrize("prior", ["marginal", "uniform", "absorbing"])
def test_losses_fall_on_a_tiny_store(store, quick, tmp_path, prior):
    changes = {"max_epochs": 20, "learning_rate": 0.01, "optimizer": "adamw"}
    folder = train(pard(prior=prior), store, tmp_path, quick, progress=False, **changes)
    rows = [line.split(",") for line in next((folder / "logs").rglob("metrics.csv")).read_text().splitlines()]
    for name in ("train_edge", "train_size", "train_degree", "valid_loss"):
        losses = [float(row[rows[0].index(name)]) for row in rows[1:] if row[rows[0].index(name)]]
        assert sum(losses[-4:]) < 0.95 * sum(losses[:4]), name


def test_the_rate_rises_over_the_warm_up_and_falls_to_zero_at_the_nearer_limit():
    settings = TrainConfig(schedule="cosine", warmup=9, max_epochs=10, max_time="100s")
    steps = _rate(settings, 20, lambda: 0.0)
    assert steps(0) == pytest.approx(0.1) and steps(4) == pytest.approx(0.5, rel=1e-2)
    assert steps(100) == pytest.approx(0.5) and steps(200) == 0 and steps(300) == 0
    assert all(steps(k) > steps(k + 1) for k in range(10, 199))
    clock = _rate(settings, 20, lambda: 75.0)
    assert clock(20) == pytest.approx(0.5 * (1 + math.cos(0.75 * math.pi))) and clock(190) < clock(20)
    exponential = _rate(TrainConfig(gamma=0.5), 20, lambda: 0.0)
    assert [exponential(k) for k in (0, 19, 20, 59)] == [1, 1, 0.5, 0.25]


@pytest.mark.parametrize("changes", [{"optimizer": "sgd"}, {"warmup": -1}, {"schedule": "linear"}])
def test_settings_out_of_range_are_named(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        TrainConfig(**changes)
