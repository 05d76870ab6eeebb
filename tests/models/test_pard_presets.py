"""Presets of PARD: each builds, fits the data set it is named after, and has the numbers of its table."""

from __future__ import annotations

from dataclasses import fields

import pytest

from graphinv.data.manifests import list_datasets, load_manifest
from graphinv.errors import InputError
from graphinv.models import PARD, PARDConfig
from graphinv.training import TrainConfig


@pytest.mark.parametrize("name", [name for name in PARD.presets if name != "tokens"])
def test_every_preset_fits_the_data_set_of_its_name(name):
    preset = PARD.preset_settings(name)
    known = name.removesuffix("-hydrogens").removesuffix("-tokens")
    assert known in list_datasets()
    manifest, model = load_manifest(known), preset.model
    assert model.max_nodes >= (manifest.max_nodes or 0)
    assert model.node_types == len(manifest.vocabulary.nodes) + name.endswith("-hydrogens")
    assert model.edge_types == len(manifest.vocabulary.edges)
    assert set(preset.training) <= {f.name for f in fields(TrainConfig)}


@pytest.mark.parametrize("name", PARD.presets)
def test_every_preset_builds_a_model(name):
    model = PARD.preset(name, layers=1, node_dim=16, edge_dim=8)
    assert model.config.max_hops == PARD.preset_settings(name).model.max_hops and model.config.layers == 1


def test_rows_of_the_paper_keep_its_numbers():
    rows = {
        # name: widths, layers, H, T, absolute, relative, ce weight, batch size, epochs, learning rate
        "qm9-hydrogens": (256, 64, 8, 3, 20, True, True, 0.1, 128, 100, 4e-4),
        "zinc250k": (256, 64, 8, 3, 50, False, True, 0.1, 128, 70, 4e-4),
        "moses": (256, 64, 8, 3, 50, True, True, 0.1, 128, 40, 2e-4),
        "planar": (256, 32, 10, 1, 50, False, True, 0.1, 6, 400, 3e-4),
        "sbm": (128, 32, 6, 1, 40, True, False, 0.01, 24, 300, 2e-4),
        "community_small": (128, 32, 6, 3, 40, True, False, 0.01, 512, 1000, 5e-4),
    }
    for name, row in rows.items():
        c, t = PARD.preset_settings(name).model, PARD.preset_settings(name).training
        shape = (c.node_dim, c.edge_dim, c.layers, c.max_hops, c.diffusion_steps, c.absolute, c.relative, c.ce_weight)
        assert (*shape, t["batch_size"], t["max_epochs"], t["learning_rate"]) == row, name
        assert (c.heads, t["optimizer"], t["weight_decay"], t["schedule"]) == (8, "adamw", 0.01, "cosine")
        assert c.sampler.steps == c.diffusion_steps


def test_no_preset_leaves_the_defaults_of_norm_prior_trunk_and_order():
    default = PARDConfig()
    for name in PARD.presets:
        c = PARD.preset_settings(name).model
        if c.network == "tokens":
            assert c.prior == "empty" and c.copies == 2 and c.shapes().walks == 0 and c.sampler.tries > 1
            continue
        for field in ("norm", "prior", "trunk", "order", "block_time", "context_noise"):
            assert getattr(c, field) == getattr(default, field)


def test_the_training_without_a_preset_is_of_the_kind_of_the_presets():
    settings = TrainConfig(**PARD.training_defaults)
    assert (settings.batch_size, settings.max_epochs, settings.learning_rate, settings.warmup) == (64, 30, 4e-4, 300)
    for name in PARD.presets:
        training = TrainConfig(**PARD.preset_settings(name).training)
        for field in ("optimizer", "weight_decay", "schedule"):
            assert getattr(settings, field) == getattr(training, field), name


def test_an_unknown_preset_is_told_with_the_known_ones():
    with pytest.raises(InputError, match="'qm8' of pard; available: .*qm9-hydrogens"):
        PARD.preset_settings("qm8")
    with pytest.raises(InputError, match="of pard; available"):
        PARD.preset("zinc250k-gmh")


def test_presets_are_called_in_any_case():
    assert PARD.preset_settings("ENZYMES") == PARD.presets["enzymes"]
