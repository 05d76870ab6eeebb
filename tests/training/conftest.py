"""A store of a few small graphs and a model that fits it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from graphinv.data import GraphStore, Vocabulary
from graphinv.models import GDSS, GDSSConfig
from graphinv.testing import random_graphs
from graphinv.training import TrainConfig


def make_store(
    graphs: int = 48, split: list[int] | None = None, labels: tuple[str, ...] = ("C", "N", "O")
) -> GraphStore:
    batch = random_graphs(graphs, max_nodes=5, node_types=len(labels), seed=4)
    graph = torch.repeat_interleave(torch.arange(graphs), batch.edge_ptr.diff())
    local = batch.edge_index - batch.ptr[graph]
    once = local[0] < local[1]
    counts = torch.bincount(graph[once], minlength=graphs)
    split = split or [0, 0, 0, 1, 0, 2]
    return GraphStore.from_arrays(
        batch.x,
        batch.ptr,
        local[:, once].t(),
        batch.edge_attr[once],
        torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        vocabulary=Vocabulary(labels, ("single", "double", "triple"), "element"),
        split_id=torch.tensor([split[k % len(split)] for k in range(graphs)]),
    )


@pytest.fixture(scope="session")
def store() -> GraphStore:
    return make_store()


@pytest.fixture(scope="session")
def store_of() -> Callable[..., GraphStore]:
    return make_store


@pytest.fixture
def model_of() -> Callable[..., GDSS]:
    def make(seed: int = 0, **changes: object) -> GDSS:
        settings = {
            "node_types": 3,
            "max_nodes": 5,
            "node_hidden": 8,
            "edge_hidden": 8,
            "attention": 8,
            "edge_depth": 2,
        }
        return GDSS.seeded(GDSSConfig(**{**settings, **changes}), seed)

    return make


@pytest.fixture
def quick() -> TrainConfig:
    return TrainConfig(max_epochs=2, batch_size=12, accelerator="cpu", threads=1)
