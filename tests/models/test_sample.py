"""What ``sample`` promises of every generator, once: checks, batches, keys, order and what a callback hears."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graphinv.cli.modules import import_modules
from graphinv.errors import InputError
from graphinv.models import GDSS, PARD, BlockSampler, GDSSConfig, PARDConfig, SamplerConfig, registry

COUNTS = [4, 1, 5, 0, 3, 2, 5]
SMALL_GDSS = {"node_hidden": 8, "edge_hidden": 8, "attention": 8, "edge_depth": 2}
SMALL_PARD = {"node_dim": 16, "edge_dim": 8, "layers": 1, "heads": 2}


def bernoulli():
    before = dict(registry._CLASSES)
    module = import_modules([str(Path(__file__).with_name("bernoulli.py"))])[0]
    registry._CLASSES.clear()
    registry._CLASSES.update(before)
    return module.Bernoulli(module.BernoulliConfig())


MODELS = {
    "gdss": lambda: GDSS(GDSSConfig(**SMALL_GDSS, sampler=SamplerConfig(steps=3))),
    "gdss of degrees": lambda: GDSS(GDSSConfig(**SMALL_GDSS, node_input="degree", sampler=SamplerConfig(steps=3))),
    "gdss with two calls a step": lambda: GDSS(GDSSConfig(**SMALL_GDSS, sampler=SamplerConfig("reverse", 3))),
    "pard": lambda: PARD(PARDConfig(**SMALL_PARD, sampler=BlockSampler(3))),
    "a third": bernoulli,
}


@pytest.fixture(params=MODELS)
def model(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS[request.param]().double()


def same(a, b):
    for name in ("x", "edge_index", "edge_attr", "ptr", "edge_ptr"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_every_registered_kind_is_among_the_models_tested_here():
    assert {"gdss", "pard"} <= {build().kind for build in MODELS.values()} >= set(registry.generator_kinds())


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_a_callback_hears_one_unit_one_total_and_ends_at_it(model, batch_size):
    heard = []
    model.sample(7, num_nodes=COUNTS, batch_size=batch_size, callback=lambda *told: heard.append(told))
    done, totals, units = zip(*heard, strict=True)
    assert len(set(totals)) == 1 and len(set(units)) == 1 and units[0] in ("steps", "graphs")
    assert list(done) == sorted(done) and done[-1] == totals[0] and min(done) >= 0


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batch_size_is_graphs_per_network_call(model, batch_size):
    sizes = []

    def count(_, inputs):
        sizes.append(len(inputs[0] if isinstance(inputs[0], torch.Tensor) else inputs[0].mask))

    for network in model.evaluated():
        network.register_forward_pre_hook(count)
    model.sample(7, num_nodes=[5] * 7, batch_size=batch_size)
    assert max(sizes) == batch_size


def test_graph_k_is_the_same_in_every_batch_and_sample(model):
    whole = model.sample(7, seed=3, num_nodes=COUNTS)
    assert whole.node_counts().tolist() == COUNTS
    for batch_size in (1, 2, 3):
        same(model.sample(7, seed=3, num_nodes=COUNTS, batch_size=batch_size), whole)
    same(model.sample(4, seed=3, num_nodes=COUNTS[:4]), whole.select(range(4)))
    other = model.sample(7, seed=4, num_nodes=COUNTS)
    assert other.x.tolist() != whole.x.tolist() or other.edge_index.tolist() != whole.edge_index.tolist()


@pytest.mark.parametrize(("change", "told"), [
    ({"n": -1}, "n >= 0"), ({"batch_size": 0}, "batch_size >= 1"), ({"seed": -1}, "seed"), ({"seed": 2**31}, "seed"),
    ({"num_nodes": [1]}, r"num_nodes must be \[2\]"), ({"num_nodes": [1, -1]}, "num_nodes must be"),
    ({"num_nodes": torch.tensor([1.0, 2.0])}, "integer counts"), ({"num_nodes": None}, "train it first"),
    ({"sampler": object()}, "sampler"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_refused_in_one_line(model, change, told):
    settings = {"n": 2, "num_nodes": [1, 2], **change}
    with pytest.raises(InputError, match=told):
        model.sample(settings.pop("n"), **settings)


def test_sizes_beyond_training_are_drawn_where_a_model_can_and_refused_elsewhere(model):
    if model.any_size:
        assert model.sample(1, num_nodes=[model.max_nodes + 2]).num_nodes == model.max_nodes + 2
    else:
        with pytest.raises(InputError, match=f"goes up to 10, this model makes up to {model.max_nodes}"):
            model.sample(1, num_nodes=[10])


def test_graphs_without_types_have_none():
    drawn = MODELS["gdss of degrees"]().sample(7, num_nodes=COUNTS)
    assert drawn.x.dtype == torch.int64 and not drawn.x.any() and drawn.num_nodes == sum(COUNTS)


def test_no_graphs_are_no_graphs_and_sampling_leaves_the_mode_alone(model):
    model.train()
    drawn = model.sample(0, num_nodes=[])
    assert (drawn.num_graphs, drawn.num_nodes, drawn.num_edges) == (0, 0, 0) and model.training


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate")])
def test_too_little_memory_is_told_with_what_to_change(model, monkeypatch, error):
    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(type(model), "draw", full)
    with pytest.raises(InputError, match="batch_size = 3 "):
        model.sample(3, num_nodes=[1, 2, 3], batch_size=3)


def test_other_errors_of_drawing_stay_what_they_are(model, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("sizes differ")

    monkeypatch.setattr(type(model), "draw", broken)
    with pytest.raises(RuntimeError, match="sizes differ"):
        model.sample(1, num_nodes=[1])
    with pytest.raises(TypeError, match="colour"):
        monkeypatch.undo()
        model.sample(1, num_nodes=[1], colour="red")
