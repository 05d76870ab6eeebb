"""Averaged weights and clipping, against the rules written out on a real training."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import lightning
import pytest
import torch

from graphinv.training.callbacks import WarmupEMA
from graphinv.training.module import GeneratorModule


class Recorder(lightning.Callback):
    """Keeps the weights after every step and the gradients the optimiser used."""

    def __init__(self):
        self.weights, self.gradients = [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        nets = pl_module.generator.networks()
        self.gradients.append({k: [p.grad.clone() for p in n.parameters()] for k, n in nets.items()})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.weights.append({k: v.clone() for k, v in pl_module.generator.state_dict().items()})


def fit(model, store, settings, *callbacks):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=settings.max_epochs, accelerator="cpu", devices=1, callbacks=list(callbacks), logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            reload_dataloaders_every_n_epochs=1, limit_val_batches=0, use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(GeneratorModule(model, store, settings))


@pytest.mark.parametrize("decay", [0.999, 0.3])
def test_average_follows_the_warm_up_rule(model_of, store, quick, decay):
    ema, recorder = WarmupEMA(decay), Recorder()
    fit(model_of(), store, quick, ema, recorder)
    steps = recorder.weights
    assert len(steps) == 6
    expected = {k: v.double() for k, v in steps[0].items()}
    for n, current in enumerate(steps[1:], start=1):
        keep = min(decay, (1 + n) / (10 + n))
        expected = {k: keep * v + (1 - keep) * current[k].double() for k, v in expected.items()}
    averaged = ema.averaged()
    assert averaged.keys() == expected.keys()
    for key, value in averaged.items():
        torch.testing.assert_close(value.double(), expected[key], rtol=1e-5, atol=1e-6)
    assert torch.equal(averaged["node_histogram"], steps[0]["node_histogram"])


def test_there_is_no_average_before_the_training():
    assert WarmupEMA(0.9).averaged() == {}


def test_each_network_is_clipped_by_itself(model_of, store, quick):
    model = model_of()
    norms = {}
    for limit in (0.0, 1e-3, 1e9):
        recorder = Recorder()
        module_free = copy.deepcopy(model)
        fit(module_free, store, replace(quick, clip=limit, max_epochs=1), Clipped(recorder))
        norms[limit] = recorder.gradients[0]
    for key in ("node", "edge"):
        free, tight, loose = (torch.cat([g.flatten() for g in norms[v][key]]) for v in (0.0, 1e-3, 1e9))
        assert float(tight.norm()) == pytest.approx(1e-3, rel=1e-3)
        torch.testing.assert_close(tight / tight.norm(), free / free.norm(), rtol=1e-4, atol=1e-6)
        assert torch.equal(free, loose)
        assert float(free.norm()) > 1e-3


class Clipped(lightning.Callback):
    """Reads the gradients after clipping: the hook before the step runs too early."""

    def __init__(self, recorder):
        self.recorder = recorder

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        nets = pl_module.generator.networks()
        gradients = {k: [p.grad for p in n.parameters()] for k, n in nets.items()}
        if all(g is not None for part in gradients.values() for g in part):
            self.recorder.gradients.append({k: [g.clone() for g in part] for k, part in gradients.items()})


class Batches(lightning.Callback):
    """Keeps the node types of every batch by epoch."""

    def __init__(self):
        self.seen = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.setdefault(trainer.current_epoch, []).append(batch.x[batch.mask].argmax(-1).tolist())


@pytest.mark.parametrize("bucket", [True, False])
def test_every_epoch_brings_all_training_graphs_in_a_new_order(model_of, store, quick, bucket):
    batches = Batches()
    fit(model_of(), store, replace(quick, max_epochs=3, bucket=bucket), batches)
    orders = [str(batches.seen[epoch]) for epoch in range(3)]
    assert len(set(orders)) == 3
    expected = sorted(store.batch(store.indices("train")).x.tolist())
    for epoch in range(3):
        assert sorted(kind for batch in batches.seen[epoch] for kind in batch) == expected
