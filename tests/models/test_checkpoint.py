"""Checkpoints come back as they were, or say what is wrong with them; node counts follow the training set."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from graphinv.errors import CheckpointError, GraphinvError, InputError
from graphinv.models import GDSS, GDSSConfig, GraphGenerator, SamplerConfig

SMALL = GDSSConfig(
    node_types=3, max_nodes=5, node_hidden=8, edge_hidden=8, attention=8, edge_depth=2, sampler=SamplerConfig(steps=4)
)


@pytest.fixture
def model():
    net = GDSS.seeded(SMALL, 0).eval()
    net.fit_node_counts(torch.tensor([0, 0, 1, 5, 2]))
    return net


@pytest.fixture
def saved(model, tmp_path):
    ema = {k: v if k == "node_histogram" else v * 0.5 for k, v in model.state_dict().items()}
    model.save(tmp_path, metadata={"note": "a", "progress": {"epoch": 3}}, ema=ema)
    return tmp_path


def sampled(net):
    out = net.sample(6, seed=3)
    return [t.tolist() for t in (out.x, out.edge_index, out.edge_attr, out.ptr)]


def test_raw_weights_give_identical_samples_after_loading(model, saved):
    loaded, metadata = GraphGenerator.load(saved, weights="raw")
    assert isinstance(loaded, GDSS) and not loaded.training
    assert loaded.config == model.config and metadata == {"note": "a", "progress": {"epoch": 3}}
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in loaded.state_dict().items())
    assert sampled(loaded) == sampled(model)


def test_averaged_weights_are_the_default_where_there_are_any(model, saved):
    loaded, _ = GraphGenerator.load(saved)
    name = next(k for k in model.state_dict() if k != "node_histogram")
    assert torch.equal(loaded.state_dict()[name], model.state_dict()[name] * 0.5)
    (saved / "ema.safetensors").unlink()
    raw, _ = GraphGenerator.load(saved)
    assert torch.equal(raw.state_dict()[name], model.state_dict()[name])


def test_a_checkpoint_is_json_and_safetensors_only(saved):
    assert sorted(f.name for f in saved.iterdir()) == ["config.json", "ema.safetensors", "model.safetensors"]
    assert json.loads((saved / "config.json").read_text())["generator"] == "gdss"


def test_unknown_choice_of_weights_is_refused(saved):
    with pytest.raises(InputError, match="ema.*raw"):
        GraphGenerator.load(saved, weights="averaged")


def rewrite(folder, change):
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


def rewrite_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize(("change", "message"), [
    (lambda c: c.update(format=99), "another version"),
    (lambda c: c.update(generator="transformer"), "'transformer'"),
    (lambda c: c.update(generator=["gdss"]), "another version"),
    (lambda c: c.pop("generator"), "expected format"),
    (lambda c: c["config"].update(colour=1), "colour"),
    (lambda c: c["config"]["sampler"].update(colour=1), "colour"),
    (lambda c: c.pop("config"), "config.json"),
    (lambda c: c.update(config=[1]), "list"),
    (lambda c: c["config"].update(node_types="four"), "config.json"),
    (lambda c: c["config"].update(node_sde="vq"), "vq"),
    (lambda c: c["config"].update(node_low=-1.0), "config.json"),
    (lambda c: c["config"].update(node_types=4), "other shapes"),
    (lambda c: c["config"].update(edge_depth=3), "missing"),
    (lambda c: c["config"].update(edge_depth=1), "unknown"),
])  # fmt: skip
def test_configurations_that_do_not_fit_name_the_cause(saved, change, message):
    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=message):
        GraphGenerator.load(saved, weights="raw")


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: s.update(extra=torch.zeros(1)), "unknown.*extra"),
    (lambda s: s.pop("node_net.layers.0.bias"), "missing.*node_net.layers.0.bias"),
    (lambda s: s.update({"node_net.layers.0.bias": torch.zeros(9)}), r"\[9\] in the file, \[8\] in the model"),
])  # fmt: skip
def test_weights_that_do_not_fit_name_the_key(saved, change, message):
    rewrite_weights(saved, change)
    with pytest.raises(CheckpointError, match=message):
        GraphGenerator.load(saved, weights="raw")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_unreadable_configurations_are_named(saved, content):
    (saved / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="config.json"):
        GraphGenerator.load(saved)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.9])
def test_truncated_weights_are_named(saved, keep):
    file = saved / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        GraphGenerator.load(saved, weights="raw")


def test_missing_files_are_named(saved, tmp_path):
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        GraphGenerator.load(saved, weights="raw")
    with pytest.raises(CheckpointError, match="run directory"):
        GraphGenerator.load(tmp_path / "nowhere")
    assert issubclass(CheckpointError, GraphinvError)


def test_saving_makes_the_folder_and_its_parents_and_replaces_a_checkpoint(model, tmp_path):
    folder = tmp_path / "runs" / "a" / "best"
    model.save(folder, ema=model.state_dict())
    model.save(folder)
    assert sorted(f.name for f in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert GraphGenerator.load(folder)[1] == {} and [f.name for f in folder.parent.iterdir()] == ["best"]


@pytest.mark.parametrize("name", ["trainer.ckpt", "thesis.tex"])
def test_saving_never_replaces_a_folder_that_holds_anything_else(model, saved, name):
    (saved / name).write_text("mine")
    before = {f.name: f.read_bytes() for f in saved.iterdir()}
    with pytest.raises(InputError, match=f"holds {name}"):
        model.save(saved)
    with pytest.raises(InputError, match="a file"):
        model.save(saved / name)
    assert {f.name: f.read_bytes() for f in saved.iterdir()} == before


def test_a_save_that_fails_leaves_the_old_checkpoint(model, saved):
    before = {f.name: f.read_bytes() for f in saved.iterdir()}
    with pytest.raises(InputError, match="metadata must be what JSON holds"):
        model.save(saved, metadata={"what": object()})
    assert {f.name: f.read_bytes() for f in saved.iterdir()} == before
    assert not [f for f in saved.parent.iterdir() if f.name.startswith(f".{saved.name}")]


@pytest.mark.parametrize("histogram", [[0, 0, 0, 0, 0, 0, 1], [0, 5, 0, 0, 0, 0, 0, 2], [0], [0, 0, 0], []])
def test_node_counts_that_the_model_cannot_take_are_refused_and_leave_the_old_ones(model, histogram):
    before = model.node_histogram.clone()
    with pytest.raises(InputError):
        model.fit_node_counts(torch.tensor(histogram, dtype=torch.long))
    assert torch.equal(model.node_histogram, before)


def test_an_empty_histogram_is_not_blamed_on_large_graphs(model):
    with pytest.raises(InputError, match="no graphs"):
        model.fit_node_counts(torch.zeros(3, dtype=torch.long))


def test_node_counts_replace_the_old_ones_and_may_be_short_or_zero_padded(model):
    for histogram in ([0, 3], [0, 0, 0, 0, 0, 7], [0, 1, 0, 0, 0, 2, 0, 0, 0]):
        model.fit_node_counts(torch.tensor(histogram))
        expected = (histogram + [0] * 6)[:6]
        assert model.node_histogram.tolist() == expected


def test_drawn_node_counts_follow_the_histogram(model):
    histogram = torch.tensor([0, 100, 0, 3000, 900, 6000])
    model.fit_node_counts(histogram)
    drawn = torch.bincount(model.draw_node_counts(50_000, seed=1), minlength=6).double()
    expected = 50_000 * histogram / histogram.sum()
    assert not drawn[histogram == 0].any()
    seen = histogram > 0
    chi_square = float(((drawn - expected).square() / expected.clamp(min=1))[seen].sum())
    assert chi_square < 21.1  # 0.9999 quantile for 3 degrees of freedom


def test_drawn_node_counts_repeat_with_the_seed_and_do_not_depend_on_how_many(model):
    whole = model.draw_node_counts(1000, seed=2)
    for n in (0, 1, 2, 15, 16, 17, 500):
        assert torch.equal(model.draw_node_counts(n, seed=2), whole[:n])
    assert not torch.equal(model.draw_node_counts(1000, seed=3), whole)


def test_a_model_without_node_counts_asks_for_them():
    with pytest.raises(InputError, match="num_nodes"):
        GDSS(SMALL).draw_node_counts(3, 0)
