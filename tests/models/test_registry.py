"""Generators that describe themselves: registered, listed, found in packages, and refused with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from graphinv.cli.modules import import_modules
from graphinv.data import GraphStore
from graphinv.errors import CheckpointError, InputError
from graphinv.models import GDSS, PARD, GDSSConfig, GraphGenerator, generator_class, generator_kinds, register, registry
from graphinv.models.settings import Preset, options_of, renamed
from graphinv.testing import random_graphs
from graphinv.training import TrainConfig

MODULE = str(Path(__file__).with_name("bernoulli.py"))


@pytest.fixture
def own(monkeypatch):
    """A third generator, registered for one test."""
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))
    return register(import_modules([MODULE])[0].Bernoulli)


def entry_points_are(monkeypatch, **values):
    entries = [EntryPoint(name, value, registry.GROUP) for name, value in values.items()]
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))
    monkeypatch.setattr(registry, "entry_points", lambda group: [e for e in entries if e.group == group])


def test_a_registered_class_is_known_by_its_kind_everywhere(own, tmp_path):
    assert generator_kinds()[-1] == "bernoulli" and generator_class("bernoulli") is own
    own(own.config_class(max_nodes=3)).save(tmp_path / "run")
    loaded, metadata = GraphGenerator.load(tmp_path / "run")
    assert isinstance(loaded, own) and loaded.config.max_nodes == 3 and metadata == {}


def test_what_a_class_does_not_say_has_a_default(own):
    assert (
        own.description
        == "Nodes and edges are drawn independently. A pair is joined with one probability, whatever its ends."
    )
    assert own.presets == own.training_defaults == {} and own.sampler_class() is None
    store = GraphStore.from_graphs(random_graphs(20, max_nodes=6, node_types=3, edge_types=2, seed=0))
    assert own.config_for(store) == {"max_nodes": 6, "node_types": 3}
    with pytest.raises(InputError, match="of bernoulli; available: none"):
        own.preset("qm9")
    with pytest.raises(InputError, match="no sampler"):
        own(own.config_class()).sample(2, num_nodes=[1, 2], steps=3)


def test_sizes_and_types_are_read_off_a_store_by_each_kind():
    batch = random_graphs(20, max_nodes=6, node_types=3, edge_types=2, seed=0)
    plain = GraphStore.from_graphs(batch)
    assert PARD.config_for(plain) == {"max_nodes": 6, "node_types": 3, "edge_types": 2}
    assert GDSS.config_for(plain) == {"max_nodes": 6}  # it reads degrees there
    molecules = GraphStore.from_graphs(batch, vocabulary_of(3, 2))
    assert GDSS.config_for(molecules) == {"max_nodes": 6, "node_types": 3}


def vocabulary_of(nodes, edges):
    from graphinv.data import Vocabulary

    return Vocabulary(("C", "N", "O", "F")[:nodes], ("single", "double", "triple")[:edges], "element")


def test_a_kind_has_one_owner_and_a_reloaded_module_may_register_again(own):
    class Other(own):
        kind = "gdss"

    with pytest.raises(InputError, match=r"'gdss' of .*Other is taken by graphinv\.models\.gdss\.model\.GDSS"):
        register(Other)
    assert generator_class("gdss") is GDSS
    again = type(own.__name__, (own,), {"__module__": own.__module__, "__qualname__": own.__qualname__})
    assert register(again) is generator_class("bernoulli") is again


@dataclass(frozen=True)
class Nothing:
    max_nodes: int = 2


@pytest.mark.parametrize(("members", "told"), [
    ({"kind": "Big Name"}, "small letters"), ({"kind": 3}, "small letters"), ({"config_class": dict}, "dataclass"),
])  # fmt: skip
def test_classes_that_do_not_describe_themselves_are_refused(own, members, told):
    with pytest.raises(InputError, match=told):
        register(type("Odd", (own,), members))


def test_a_class_that_cannot_draw_is_refused_with_what_it_lacks():
    class Half(GraphGenerator):
        kind = "half"
        config_class = Nothing

    with pytest.raises(InputError, match="lacks draw, losses, networks, pad"):
        register(Half)
    with pytest.raises(InputError, match="subclass of GraphGenerator"):
        register(dict)


def test_entry_points_are_loaded_when_asked_for_and_a_broken_one_breaks_no_other(monkeypatch, own, tmp_path):
    good = f"{own.__module__}:{own.__qualname__}"
    entry_points_are(monkeypatch, bernoulli=good, gone="no_such_module:Model", named=good, absent="json:Model")
    monkeypatch.delitem(registry._CLASSES, "bernoulli")
    assert set(generator_kinds()) == {"gdss", "pard", "bernoulli", "gone", "named", "absent"}
    assert generator_class("bernoulli") is own and generator_class("pard") is PARD
    with pytest.raises(InputError, match=r"'gone' .*no_such_module:Model.*ModuleNotFoundError"):
        generator_class("gone")
    with pytest.raises(InputError, match="its kind is 'bernoulli'"):
        generator_class("named")
    with pytest.raises(InputError, match="AttributeError"):
        generator_class("absent")
    assert TrainConfig.preset("planar") == TrainConfig.preset("planar", "pard")
    model = own(own.config_class())
    model.save(tmp_path / "run")
    text = (tmp_path / "run" / "config.json").read_text()
    (tmp_path / "run" / "config.json").write_text(text.replace('"bernoulli"', '"gone"'))
    with pytest.raises(CheckpointError, match="no_such_module"):
        GraphGenerator.load(tmp_path / "run")


def test_a_kind_that_is_not_there_is_told_with_the_ways_to_add_it():
    with pytest.raises(InputError, match=r"no generator 'toy'; available: gdss, pard.*--import MODULE"):
        generator_class("toy")


@pytest.mark.parametrize("kind", generator_kinds())
def test_every_generator_says_what_it_is_and_each_setting_of_its_sampler(kind):
    cls = generator_class(kind)
    assert cls.description.endswith(".") and "\n" not in cls.description
    for option in options_of(cls.sampler_class()).values():
        assert option.help.endswith("."), option
    for name, preset in cls.presets.items():
        assert isinstance(preset, Preset) and isinstance(preset.model, cls.config_class)
        assert cls.preset_settings(name.upper()) is preset
        TrainConfig(**preset.training)


def test_options_carry_types_choices_and_help_and_other_fields_are_refused():
    options = options_of(GDSS.sampler_class())
    assert options["solver"].choices[0] == "s4" and options["solver"].type is str
    assert options["steps"].type is int and options["steps"].help == "solver steps; the paper uses 1000."
    assert options["denoise"].type is bool and options["decode"].help.endswith(
        "Graphs without types keep all their nodes."
    )

    @dataclass
    class Nested:
        inner: Nothing

    with pytest.raises(InputError, match=r"Nested\.inner"):
        options_of(Nested)


def test_a_setting_under_its_old_name_warns_and_works():
    with pytest.warns(DeprecationWarning, match="features is now node_types"):
        config = GDSSConfig(features=7)
    assert config == GDSSConfig(node_types=7)
    with pytest.warns(DeprecationWarning, match="node_types"):
        assert config.features == 7
    with pytest.warns(DeprecationWarning, match="node_types"):
        assert GDSS.preset("qm9", features=3).config.node_types == 3

    @renamed(wide="width")
    @dataclass(frozen=True)
    class Shape:
        width: int = 1

    with pytest.raises(TypeError, match="tall"):
        Shape(tall=2)


def test_a_checkpoint_with_the_old_name_of_a_setting_loads(tmp_path, recwarn):
    GDSS(GDSSConfig(node_types=3)).save(tmp_path / "run")
    text = (tmp_path / "run" / "config.json").read_text()
    (tmp_path / "run" / "config.json").write_text(text.replace('"node_types"', '"features"'))
    assert GraphGenerator.load(tmp_path / "run")[0].config.node_types == 3
    assert not [w for w in recwarn if w.category is DeprecationWarning and "node_types" in str(w.message)]


@pytest.mark.parametrize(("name", "value"), [
    ("gdss_preset", lambda f: f("qm9") is GDSS.presets["qm9"]), ("gdss_presets", lambda f: f() == tuple(GDSS.presets)),
    ("pard_preset", lambda f: f("qm9") is PARD.presets["qm9"]), ("pard_presets", lambda f: f() == tuple(PARD.presets)),
    ("PARD_TRAINING", lambda v: v == PARD.training_defaults), ("PARDPreset", lambda v: v is Preset),
])  # fmt: skip
def test_old_names_of_the_models_warn_and_work(name, value):
    import graphinv.models

    with pytest.warns(DeprecationWarning, match=f"{name} is now"):
        assert value(getattr(graphinv.models, name))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = graphinv.models.nonsense


def test_weights_of_a_third_generator_depend_on_the_seed_alone(own):
    first, again, other = (own.seeded(own.config_class(), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first) and not torch.equal(
        first["net.weight"], other["net.weight"]
    )
