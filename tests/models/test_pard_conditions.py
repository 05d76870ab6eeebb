"""What PARD is told of graphs: standardised, dropped in training, followed in sampling."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graphinv.data import GraphStore
from graphinv.errors import InputError
from graphinv.models.pard import PARD, PARDConfig
from graphinv.models.pard.conditions import Conditions
from graphinv.testing import assert_close, random_graphs
from graphinv.training import train

TOLD = PARDConfig(
    network="tokens", prior="empty", node_types=2, edge_types=1, max_nodes=6, max_hops=2, node_dim=24, edge_dim=8,
    layers=2, heads=2, ce_weight=0.0, conditions=("size", "odd"),
)  # fmt: skip


def graphs(count, seed=0, **columns):
    batch = random_graphs(count, min_nodes=1, max_nodes=6, node_types=2, edge_types=1, seed=seed)
    sizes = batch.node_counts().float()
    return batch.with_columns(graph={"size": sizes, "odd": sizes % 2, **columns})


def store_of(batch):
    split = torch.zeros(batch.num_graphs, dtype=torch.uint8)
    return GraphStore.from_graphs(batch, split_id=split)


def test_values_are_standardised_by_the_training_split_and_missing_ones_told():
    batch = graphs(50)
    batch = batch.with_columns(graph={"odd": torch.where(torch.arange(50) < 10, torch.nan, batch.graph_columns["odd"])})
    store, conditions = store_of(batch), Conditions(("size", "odd"))
    conditions.fit(store, torch.arange(50))
    told = conditions.of(store.batch(torch.arange(50)))
    assert told.shape == (50, 4) and float(told[:, 0].mean().abs()) < 1e-5
    assert float(told[:, 0].std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert told[:, 2].tolist() == [1.0] * 50 and told[:, 3].tolist() == [0.0] * 10 + [1.0] * 40
    assert not told[:10, 1].any()
    far = conditions.request({"size": 1e6, "odd": [0.0, torch.nan]}, 2)
    assert far[:, 0].tolist() == [5.0, 5.0] and far[:, 3].tolist() == [1.0, 0.0]


def test_some_graphs_are_told_nothing_and_others_half():
    conditions, told = Conditions(("a", "b")), torch.ones(20_000, 4)
    kept = conditions.drop(told, 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(kept[:, :2], kept[:, 2:])
    shares = [float((kept[:, :2].sum(1) == k).double().mean()) for k in (0, 1, 2)]
    assert shares == pytest.approx([0.3 + 0.7 / 4, 0.7 / 2, 0.7 / 4], abs=0.015)
    assert not conditions.drop(told, 1.0).any()


def test_a_model_that_is_told_begins_as_one_that_is_not():
    told, plain = PARD.seeded(TOLD, 3), PARD.seeded(replace(TOLD, conditions=()), 3)
    batch = graphs(12)
    state = plain.state_dict()
    told.load_state_dict({k: v if "condition" in k else state.get(k, v) for k, v in told.state_dict().items()})
    for model in (told, plain):
        model.prepare(store_of(batch), progress=False)
    draws = torch.rand(12, 7), torch.rand(12, 6), torch.rand(12, 15)
    one, two = (model.removal_losses(model.pad(batch), *draws) for model in (told, plain))
    for name, a, b in zip(("node", "edge", "degree"), (*one[:2], one[3]), (*two[:2], two[3]), strict=True):
        assert_close(a, b, name, tolerance=1e-5)
    assert len(one[2]) == len(two[2]) + 12  # the size of a first block is learned where something is told before
    assert_close(one[2][: len(two[2])], two[2], "size", tolerance=1e-5)


def test_training_learns_to_follow_what_is_told(tmp_path):
    batch = graphs(400, seed=1)
    model = PARD.seeded(TOLD, 0)
    settings = {"max_epochs": 20, "batch_size": 25, "learning_rate": 4e-3, "optimizer": "adamw", "ema": 0.9}
    train(model, store_of(batch), tmp_path, progress=False, **settings)
    model = PARD.load(tmp_path / "best")[0]
    sizes = {n: model.sample(60, seed=2, condition={"size": float(n)}).node_counts().float() for n in (2, 5)}
    free = model.sample(60, seed=2).node_counts().float()
    assert float(sizes[2].mean()) + 1 < float(sizes[5].mean()), sizes
    assert float(sizes[2].mean()) < float(free.mean()) < float(sizes[5].mean())
    each = model.sample(40, seed=2, condition={"size": torch.tensor([2.0, 5.0]).repeat(20)}).node_counts().float()
    assert float(each[0::2].mean()) + 1 < float(each[1::2].mean())
    whole = model.log_likelihood(graphs(5), samples=2, seed=0)
    assert bool(whole.total.isfinite().all())


def test_what_cannot_be_told_is_refused():
    model = PARD(TOLD)
    with pytest.raises(InputError, match="'odd'.*--properties"):
        model.prepare(store_of(random_graphs(4, node_types=2, edge_types=1, max_nodes=6, seed=0).with_columns(
            graph={"size": torch.ones(4)}
        )), progress=False)  # fmt: skip
    with pytest.raises(InputError, match="no training graph"):
        model.prepare(store_of(graphs(4, odd=torch.full((4,), torch.nan))), progress=False)
    with pytest.raises(InputError, match="weight"):
        model.sample(2, num_nodes=[2, 3], condition={"weight": 1.0})
    with pytest.raises(InputError, match=r"one number or \[2\]"):
        model.sample(2, num_nodes=[2, 3], condition={"size": [1.0, 2.0, 3.0]})
    with pytest.raises(InputError, match="only network"):
        PARDConfig(conditions=("logp",))
    with pytest.raises(InputError, match="condition_dropout"):
        replace(TOLD, condition_dropout=1.5)
