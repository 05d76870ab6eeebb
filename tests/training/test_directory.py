"""A run directory: one owner, one writer, always a whole checkpoint, and a memory of what made it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graphinv.errors import InputError
from graphinv.models import GraphGenerator
from graphinv.models.checkpoint import checkpoint_in
from graphinv.training import TrainConfig, train
from graphinv.training.directory import devices_here, nodes_here, owning, rank

ROOT = Path(__file__).parents[2]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def weights(folder):
    return {part: load_file(folder / "last" / f"{part}.safetensors") for part in ("model", "ema")}


def assert_same_weights(a, b):
    assert all(torch.equal(value, b[part][key]) for part, state in a.items() for key, value in state.items())


def progress(folder):
    return GraphGenerator.load(folder / "last")[1]["progress"]


OTHER = {  # settings that make another training of it
    "batch_size": 24, "learning_rate": 0.01, "weight_decay": 0.1, "optimizer": "adamw", "schedule": "cosine",
    "gamma": 0.5, "warmup": 2, "clip": 0.5, "ema": 0.5, "use_ema": False, "bucket": False, "seed": 3,
    "precision": "bf16-mixed",
}  # fmt: skip
SAME = {
    "max_epochs": 2, "max_time": "1h", "validate_every": 2, "checkpoint_every": "1m", "threads": 2,
    "accelerator": "auto", "devices": 1,
}  # fmt: skip


def test_every_setting_either_may_change_on_resuming_or_may_not():
    assert {f.name for f in dataclasses.fields(TrainConfig)} == set(OTHER) | set(SAME)


@pytest.mark.parametrize("name", OTHER)
def test_a_resumed_training_keeps_its_settings(model_of, store, quick, tmp_path, name):
    folder = train(model_of(), store, tmp_path, quick, max_epochs=1, progress=False)
    before = (folder / "train.json").read_bytes()
    with pytest.raises(InputError, match=f"{name}'?: .* then, .* now.*another directory"):
        train(model_of(), store, folder, quick, resume=True, progress=False, **{name: OTHER[name]})
    other = {"seed": 7, "warmup": 9, name: OTHER[name]}
    with pytest.raises(InputError, match=f"(?=.*seed)(?=.*warmup)(?=.*{name})"):  # all that differ
        train(model_of(), store, folder, quick, resume=True, progress=False, **other)
    assert (folder / "train.json").read_bytes() == before


def test_how_long_and_where_it_trains_may_change_on_resuming(model_of, store, quick, tmp_path):
    folder = train(model_of(), store, tmp_path, quick, max_epochs=1, progress=False)
    train(model_of(), store, folder, quick, resume=True, progress=False, **SAME)
    assert progress(folder)["epoch"] == 2


def test_a_run_remembers_its_data(model_of, store, store_of, quick, tmp_path):
    folder = train(model_of(), store, tmp_path, quick, max_epochs=1, progress=False)
    other = store_of(graphs=47)
    assert other.vocabulary == store.vocabulary and other.content_hash != store.content_hash
    for resume in (True, "auto"):
        with pytest.raises(InputError, match=f"data.*{store.content_hash[:12]} then, {other.content_hash[:12]} now"):
            train(model_of(), other, folder, quick, resume=resume, progress=False)


@pytest.mark.parametrize("torn", ["moved aside", "empty", "no state", "best alone", "leftovers"])
@pytest.mark.parametrize("resume", [True, "auto"])
def test_a_torn_run_goes_on_or_says_what_there_is(model_of, store, quick, tmp_path, torn, resume):
    folder = train(model_of(), store, tmp_path / "run", quick, max_epochs=2, progress=False)
    if torn == "moved aside":  # a kill between two renames
        (folder / "last").rename(folder / ".last.old")
        assert checkpoint_in(folder).name == "best"
        (folder / "best").rename(folder / ".best.old")
        assert checkpoint_in(folder).name == ".best.old"
    elif torn == "empty":
        shutil.rmtree(folder / "last")
        (folder / "last").mkdir()
    elif torn == "no state":
        (folder / "last" / "trainer.ckpt").unlink()
    elif torn == "best alone":
        shutil.rmtree(folder / "last")
    else:
        for name in (".last.abc.tmp", ".best.xyz.tmp"):
            shutil.copytree(folder / "last", folder / name)
    if torn in ("moved aside", "leftovers"):
        train(model_of(), store, folder, quick, max_epochs=3, resume=resume, progress=False)
        assert progress(folder)["epoch"] == 3
        assert not [f.name for f in folder.iterdir() if f.name.endswith((".tmp", ".old"))]
        straight = train(model_of(), store, tmp_path / "straight", quick, max_epochs=3, progress=False)
        assert_same_weights(weights(folder), weights(straight))
        return
    before = sorted(str(f) for f in folder.rglob("*"))
    with pytest.raises(InputError, match="nothing to resume: .*run holds .*best/.* without last/trainer.ckpt"):
        train(model_of(), store, folder, quick, max_epochs=3, resume=resume, progress=False)
    assert sorted(str(f) for f in folder.rglob("*")) == before


def test_a_run_directory_has_one_owner_at_a_time(model_of, store, quick, tmp_path):
    folder = tmp_path / "run"
    with owning(folder), pytest.raises(InputError, match="another training is at work in"):
        train(model_of(), store, folder, quick, max_epochs=1, progress=False)
    assert not folder.exists()  # it was made for nothing
    code = (
        "import sys, time; from pathlib import Path; from graphinv.training.directory import owning\n"
        f"with owning(Path({str(folder)!r})): print('mine', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "mine\n"
        with pytest.raises(InputError, match="another training"):
            train(model_of(), store, folder, quick, max_epochs=1, progress=False)
        other.kill()
    train(model_of(), store, folder, quick, max_epochs=1, progress=False)  # a dead owner holds nothing


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, 0), ({"RANK": "3", "LOCAL_RANK": "1"}, 3), ({"SLURM_PROCID": "2"}, 2), ({"LOCAL_RANK": "1"}, 1)],
)
def test_ranks_are_those_of_the_launcher(environment, expected, tmp_path, monkeypatch):
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank() == expected
    with owning(tmp_path / "run"):
        assert (tmp_path / "run").exists() == (expected == 0)


def test_the_world_is_the_one_that_torchrun_has_begun(monkeypatch):
    assert devices_here(1) == 1 and devices_here(3) == 3 and nodes_here() == 1
    for name, value in (("LOCAL_WORLD_SIZE", "2"), ("WORLD_SIZE", "8")):
        monkeypatch.setenv(name, value)
    assert devices_here(1) == devices_here(2) == 2 and nodes_here() == 4
    with pytest.raises(InputError, match="has begun 2 processes on this machine, and devices is 3"):
        devices_here(3)


TWO_RANKS = """
import sys
from graphinv.data import GraphStore
from graphinv.models import GDSS, GDSSConfig
from graphinv.training import train

folder, store = sys.argv[1], GraphStore.open(sys.argv[2])
config = GDSSConfig(max_nodes=5, node_types=3, node_hidden=8, edge_hidden=8, attention=8, edge_depth=2)
train(GDSS.seeded(config, 0), store, folder, max_epochs=4, batch_size=4, accelerator="cpu", threads=1, progress=False,
      checkpoint_every="1s", resume="auto")
"""


def test_two_ranks_leave_whole_checkpoints_and_resume(store, tmp_path):
    store.save(tmp_path / "s.graphs")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for epochs in (2, 4):
        (tmp_path / "go.py").write_text(TWO_RANKS.replace("max_epochs=4", f"max_epochs={epochs}"))
        files = [str(tmp_path / name) for name in ("go.py", "run", "s.graphs")]
        subprocess.run([*command, *files], check=True, cwd=ROOT, env=ONE_THREAD)
        for name in ("last", "best"):
            GraphGenerator.load(tmp_path / "run" / name)
        assert progress(tmp_path / "run")["epoch"] == epochs
        assert {f.name for f in (tmp_path / "run").iterdir()} == {"last", "best", "logs", "train.json"}
