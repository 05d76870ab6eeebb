"""Training: what a run leaves behind, that it can go on where it stopped, and how it refuses."""

from __future__ import annotations

import json
import math
import time

import pytest
import torch
from safetensors.torch import load_file

from graphinv.errors import InputError
from graphinv.models import GDSS, GraphGenerator
from graphinv.training import callbacks, train
from graphinv.training.fit import _accelerator
from graphinv.training.module import GeneratorModule


def weights(folder, name="last"):
    return {part: load_file(folder / name / f"{part}.safetensors") for part in ("model", "ema")}


def assert_same_weights(a, b):
    for part, state in a.items():
        for key, value in state.items():
            assert torch.equal(value, b[part][key]), f"{part} {key} differs by {(value - b[part][key]).abs().max()}"


def progress(folder, name="last"):
    return GraphGenerator.load(folder / name)[1]["progress"]


@pytest.mark.parametrize("bucket", [True, False])
def test_two_epochs_and_two_more_equal_four_bit_for_bit(model_of, store, quick, tmp_path, bucket):
    whole = train(model_of(), store, tmp_path / "whole", quick, max_epochs=4, bucket=bucket, progress=False)
    halves = train(model_of(), store, tmp_path / "halves", quick, bucket=bucket, progress=False)
    assert progress(halves)["epoch"] == 2
    train(model_of(seed=9), store, halves, quick, max_epochs=4, bucket=bucket, resume=True, progress=False)
    assert_same_weights(weights(whole), weights(halves))
    a, b = progress(whole), progress(halves)
    for key in a.keys() - {"seconds", "cpu_seconds"}:
        assert a[key] == b[key], key
    assert b["epoch"] == 4 and b["step"] == 4 * 3


class Killed(Exception):
    """As if the process ended."""


@pytest.mark.parametrize("use_ema", [True, False])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 8, 11])
def test_a_training_that_ends_inside_an_epoch_goes_on_bit_for_bit(
    model_of, store, quick, tmp_path, monkeypatch, step, use_ema
):
    kept = {"max_epochs": 4, "use_ema": use_ema, "progress": False, "checkpoint_every": "0.000001s"}
    whole = train(model_of(), store, tmp_path / "whole", quick, **kept)
    steps, plain = [], GeneratorModule.training_step

    def dying(self, batch, index):
        steps.append(index)
        if len(steps) == step + 1:
            raise Killed
        return plain(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(GeneratorModule, "training_step", dying)
        with pytest.raises(Killed):
            train(model_of(), store, tmp_path / "killed", quick, **kept)
    assert progress(tmp_path / "killed")["step"] == step
    train(model_of(seed=9), store, tmp_path / "killed", quick, resume=True, **kept)
    assert progress(tmp_path / "killed")["step"] == 4 * 3
    parts = ("model", "ema") if use_ema else ("model",)
    for part in parts:
        one, two = (load_file(f / "last" / f"{part}.safetensors") for f in (whole, tmp_path / "killed"))
        assert all(torch.equal(one[key], two[key]) for key in one), part


def test_a_run_repeats_with_its_seed_and_differs_with_another(model_of, store, quick, tmp_path):
    runs = [train(model_of(), store, tmp_path / str(k), quick, seed=s, progress=False) for k, s in enumerate((1, 1, 2))]
    assert_same_weights(weights(runs[0]), weights(runs[1]))
    first, other = weights(runs[0])["model"], weights(runs[2])["model"]
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_the_global_random_state_does_not_reach_a_run(model_of, store, quick, tmp_path):
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        runs.append(train(model_of(), store, tmp_path / str(seed), quick, progress=False))
    assert_same_weights(weights(runs[0]), weights(runs[1]))


def test_a_run_leaves_checkpoints_that_load_settings_and_logs(model_of, store, quick, tmp_path):
    folder = train(model_of(), store, tmp_path / "run", quick, progress=False)
    assert folder == tmp_path / "run"
    for name in ("last", "best"):
        model, metadata = GraphGenerator.load(folder / name)
        assert metadata["vocabulary"] == store.vocabulary.to_json()
        assert metadata["store"]["hash"] == store.content_hash
        assert {"epoch", "step", "seconds", "cpu_seconds", "train_loss", "valid_loss"} <= set(metadata["progress"])
        histogram = store.node_histogram("train")
        assert torch.equal(model.node_histogram[: len(histogram)], histogram)
        assert model.sample(3, steps=2).num_graphs == 3
    assert json.loads((folder / "train.json").read_text())["max_epochs"] == 2
    assert list((folder / "logs").rglob("metrics.csv"))
    assert not [f.name for f in folder.iterdir() if f.name.startswith(".")]
    state = torch.load(folder / "last" / "trainer.ckpt", weights_only=True)
    assert state["epoch"] >= 1 and "noise_state" in state
    assert not (folder / "best" / "trainer.ckpt").exists()


def test_best_is_the_epoch_of_the_lowest_validation_loss(model_of, store, quick, tmp_path):
    folder = train(model_of(), store, tmp_path, quick, max_epochs=6, learning_rate=0.05, progress=False)
    rows = [line.split(",") for line in next((folder / "logs").rglob("metrics.csv")).read_text().splitlines()]
    column = rows[0].index("valid_loss")
    losses = [float(row[column]) for row in rows[1:] if row[column]]
    assert len(losses) == 6
    assert progress(folder, "best")["valid_loss"] == pytest.approx(min(losses), rel=1e-6)
    assert progress(folder, "best")["epoch"] == losses.index(min(losses)) + 1


def test_best_never_compares_a_training_loss_with_a_validation_loss(model_of, store, quick, tmp_path):
    folder = train(model_of(), store, tmp_path, quick, max_epochs=4, validate_every=2, progress=False)
    assert progress(folder, "best")["epoch"] in (2, 4)
    assert "valid_loss" in progress(folder, "best")


@pytest.mark.parametrize("split", [[0], [0, 0, 2]])
def test_stores_without_a_validation_split_train_on(model_of, store_of, quick, tmp_path, split):
    folder = train(model_of(), store_of(split=split), tmp_path, quick, progress=False)
    assert ("valid_loss" in progress(folder)) is (2 in split)
    assert (folder / "best").is_dir()


@pytest.mark.parametrize("settings", [{"use_ema": False}, {"schedule": "cosine"}, {"clip": 0.0}, {"batch_size": 4096}])
def test_settings_that_change_the_training_still_leave_a_model(model_of, store, quick, tmp_path, settings):
    folder = train(model_of(), store, tmp_path, quick, progress=False, **settings)
    assert (folder / "last" / "ema.safetensors").exists() is settings.get("use_ema", True)
    assert all(bool(v.isfinite().all()) for v in GraphGenerator.load(folder / "last")[0].state_dict().values())


@pytest.mark.parametrize("sde", ["ve", "vp"])
def test_losses_fall_on_a_tiny_store(model_of, store, quick, tmp_path, sde):
    folder = train(
        model_of(node_sde=sde, edge_sde=sde), store, tmp_path, quick, max_epochs=25, learning_rate=0.02, progress=False
    )
    rows = [line.split(",") for line in next((folder / "logs").rglob("metrics.csv")).read_text().splitlines()]
    for name in ("train_node", "train_edge", "valid_loss"):
        column = rows[0].index(name)
        losses = [float(row[column]) for row in rows[1:] if row[column]]
        assert sum(losses[-5:]) < 0.9 * sum(losses[:5]), name


def test_a_used_directory_is_refused_and_left_alone(model_of, store, quick, tmp_path):
    train(model_of(), store, tmp_path, quick, progress=False)
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    with pytest.raises(InputError, match=r"resume"):
        train(model_of(), store, tmp_path, quick, progress=False)
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before


def test_resume_needs_a_run_and_auto_does_not(model_of, store, quick, tmp_path):
    with pytest.raises(InputError, match="nothing to resume"):
        train(model_of(), store, tmp_path / "none", quick, resume=True, progress=False)
    assert not (tmp_path / "none").exists()
    folder = train(model_of(), store, tmp_path / "auto", quick, resume="auto", progress=False)
    train(model_of(), store, folder, quick, max_epochs=3, resume="auto", progress=False)
    assert progress(folder)["epoch"] == 3


def test_stores_that_do_not_fit_the_model_are_refused_before_anything_is_written(model_of, store_of, quick, tmp_path):
    cases = [
        (model_of(node_types=4), store_of(), "knows 3 node types"),
        (model_of(), store_of(labels=("C", "N", "O", "F")), "knows 4 node types"),
        (model_of(), store_of(split=[1]), "no training graphs"),
        (model_of(max_nodes=3), store_of(), "more than max_nodes = 3"),
    ]
    for k, (model, data, message) in enumerate(cases):
        with pytest.raises(InputError, match=message):
            train(model, data, tmp_path / str(k), quick, progress=False)
        assert not (tmp_path / str(k)).exists()


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_larger_graph_to_validate_on_is_refused_before_anything_is_written(model_of, store, quick, tmp_path, split):
    small = store.node_counts() <= 3
    other = {"valid": 1, "test": 2}[split]
    uneven = store.with_split(torch.where(small, 0, other), "by size")
    with pytest.raises(InputError, match=f"{split} graphs have more than max_nodes = 3"):
        train(model_of(max_nodes=3), uneven, tmp_path / "run", quick, progress=False)
    assert not (tmp_path / "run").exists()
    unused = store.with_split(torch.where(small, 0, 3), "by size")
    assert train(model_of(max_nodes=3), unused, tmp_path / "run", quick, progress=False).is_dir()


@pytest.mark.parametrize("resume", [False, True])
def test_the_directory_is_looked_at_before_the_store_is_prepared(model_of, store, quick, tmp_path, resume):
    if not resume:
        train(model_of(), store, tmp_path, quick, max_epochs=1, progress=False)
    model = model_of()
    with pytest.raises(InputError, match="nothing to resume" if resume else "holds a training"):
        train(model, store, tmp_path, quick, resume=resume, progress=False)
    assert int(model.node_histogram.sum()) == 0


class Diverging(GDSS):
    """After ``good`` batches its gradient is not a number, then its weights, then its loss."""

    batches = good = 0

    def losses(self, batch, generator=None):
        self.batches += self.training
        parts = super().losses(batch, generator)
        root = (next(self.parameters()).sum() * 0).sqrt()  # 0 with an infinite slope
        return {k: v + root for k, v in parts.items()} if self.batches > self.good else parts


@pytest.mark.parametrize(
    ("good", "use_ema", "found"),  # good batches; an epoch has three
    [(0, True, "loss is nan"), (2, False, "weights are not"), (3, True, "loss is nan"), (5, True, "weights are not")],
)
def test_losses_or_weights_that_are_no_numbers_end_the_training_and_leave_the_checkpoints(
    model_of, store, quick, tmp_path, good, use_ema, found
):
    model = Diverging.seeded(model_of().config, 0)
    model.good = good
    changes = {"max_epochs": 5, "use_ema": use_ema, "learning_rate": 0.004}
    with pytest.raises(InputError, match=rf"{found}.* after epoch \d: lower learning_rate = 0.004"):
        train(model, store, tmp_path, quick, progress=False, **changes)
    assert (tmp_path / "best").exists() is (good >= 3)
    for file in tmp_path.rglob("*.json"):
        json.loads(file.read_text(), parse_constant=pytest.fail)
    if good >= 3:
        kept = GraphGenerator.load(tmp_path / "best")[0]
        assert all(bool(p.isfinite().all()) for p in kept.parameters()) and progress(tmp_path, "best")["epoch"] == 1


def test_losses_that_are_no_number_are_null_in_files(model_of, store, quick, tmp_path):
    class Unsure(GDSS):
        def losses(self, batch, generator=None):
            parts = super().losses(batch, generator)
            return parts if self.training else {k: v * math.inf for k, v in parts.items()}

    folder = train(Unsure.seeded(model_of().config, 0), store, tmp_path, quick, progress=False)
    content = (folder / "best" / "config.json").read_text()
    progress = json.loads(content, parse_constant=pytest.fail)["metadata"]["progress"]
    assert progress["valid_loss"] is None and progress["train_loss"] > 0


def test_accelerators_without_float64_are_not_used(model_of, store, quick, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="float64.*cpu"):
        train(model_of(), store, tmp_path / "run", quick, accelerator="mps", progress=False)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert (_accelerator("auto"), _accelerator("cpu")) == ("cpu", "cpu")
    with pytest.raises(InputError, match="float64"):
        _accelerator("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (_accelerator("auto"), _accelerator("gpu")) == ("auto", "gpu")


def test_the_time_limit_ends_a_training_that_can_be_resumed(model_of, store, quick, tmp_path):
    start = time.monotonic()
    folder = train(model_of(), store, tmp_path, quick, max_epochs=10**6, max_time="1.5s", progress=False)
    assert time.monotonic() - start < 30
    reached = progress(folder)["epoch"]
    assert 1 <= reached < 10**6
    assert (folder / "best").is_dir()
    train(model_of(), store, folder, quick, max_epochs=reached + 1, resume=True, progress=False)
    assert progress(folder)["epoch"] == reached + 1


def test_a_crash_while_writing_leaves_the_old_checkpoint(model_of, store, quick, tmp_path, monkeypatch):
    folder = train(model_of(), store, tmp_path, quick, progress=False)
    before = weights(folder)

    def full(generator, folder, metadata, ema):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    model = model_of()
    monkeypatch.setattr(callbacks, "write_checkpoint", full)
    with pytest.raises(InputError, match="No space left"):
        train(model, store, folder, quick, max_epochs=3, resume=True, progress=False)
    monkeypatch.undo()
    assert_same_weights(before, weights(folder))
    assert sorted(f.name for f in folder.iterdir()) == ["best", "last", "logs", "train.json"]
    train(model_of(), store, folder, quick, max_epochs=3, resume=True, progress=False)
    assert progress(folder)["epoch"] == 3


@pytest.mark.parametrize("progress", [True, False])
def test_nothing_is_printed_where_there_is_no_terminal(model_of, store, quick, tmp_path, capfd, progress):
    train(model_of(), store, tmp_path, quick, progress=progress)
    assert capfd.readouterr() == ("", "")
