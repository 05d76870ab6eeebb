"""Products in half precision change losses by little, in training and under both generators."""

from __future__ import annotations

import pytest
import torch

from graphinv.data import GraphStore
from graphinv.models import GDSS, PARD, GDSSConfig, GraphGenerator, PARDConfig
from graphinv.testing import random_graphs
from graphinv.training import train

SMALL = {"node_dim": 32, "edge_dim": 16, "layers": 2, "heads": 2, "max_nodes": 40}
MODELS = {
    "gdss": lambda: GDSS.seeded(GDSSConfig(node_types=4, max_nodes=40), 0),
    "gdss-gmh": lambda: GDSS.seeded(GDSSConfig(node_types=4, max_nodes=40, node_network="gmh"), 0),
    "gdss-ppgn": lambda: GDSS.seeded(GDSSConfig(node_types=4, max_nodes=40, network="ppgn"), 0),
    "pard": lambda: PARD.seeded(PARDConfig(**SMALL), 0),
    "pard-tokens": lambda: PARD.seeded(PARDConfig(network="tokens", **SMALL), 0),
    "pard-empty": lambda: PARD.seeded(PARDConfig(network="tokens", prior="empty", **SMALL), 0),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("graphs", [3, 60])  # in one call, and in parts
def test_losses_under_autocast_are_those_of_float32_within_two_per_cent(name, graphs):
    model = MODELS[name]()
    batch = random_graphs(graphs, min_nodes=2, max_nodes=40, node_types=4, seed=1)
    values = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            parts = model.losses(batch, torch.Generator().manual_seed(2))
        assert all(part.dtype == torch.float32 for part in parts.values())
        total = torch.stack(list(parts.values())).sum()
        total.backward()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
        values.append(float(total))
    assert values[1] == pytest.approx(values[0], rel=0.02)


@pytest.mark.parametrize("name", ["gdss", "pard-tokens"])
def test_a_training_in_half_precision_follows_the_one_in_single(name, tmp_path):
    batch = random_graphs(120, min_nodes=30, max_nodes=40, node_types=4, seed=1)
    store = GraphStore.from_graphs(batch)
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        folder = train(
            MODELS[name](), store, tmp_path / precision, max_epochs=2, batch_size=30, precision=precision, threads=1,
            accelerator="cpu", progress=False,
        )  # fmt: skip
        losses.append(GraphGenerator.load(folder / "last")[1]["progress"]["train_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
