"""Official GDSS checkpoints: every layout is read, computes the same function, samples; what is none is refused."""

from __future__ import annotations

import copy
import sys
from types import ModuleType

import pytest
import torch

from graphinv import convert, testing
from graphinv.cli import main
from graphinv.data import GraphStore, Vocabulary
from graphinv.errors import CheckpointError, InputError
from graphinv.graphs import DenseGraphs
from graphinv.models import GDSS, GDSSConfig
from graphinv.mol import build_store
from graphinv.pipeline import MoleculeGenerator, load

VOCABULARY = Vocabulary(("C", "N", "O", "S"), ("single", "double", "triple"), "element")
OFFICIAL = {"vp": "VP", "ve": "VE", "subvp": "subVP"}


class EasyDict(dict):
    """As the package of that name: entries are attributes too, and both are pickled."""

    def __init__(self, entries: dict) -> None:
        for key, value in entries.items():
            value = EasyDict(value) if isinstance(value, dict) else value
            self[key] = value
            setattr(self, key, value)


EasyDict.__module__, EasyDict.__qualname__ = "easydict", "EasyDict"


def description(c: GDSSConfig, data: str) -> dict:
    """The settings that the official code keeps beside the weights of a model of configuration ``c``."""
    shared = {"num_linears": c.mlp_layers, "c_init": 2, "c_hid": 8, "c_final": 4, "adim": c.attention, "num_heads": 4}
    shared["conv"] = "GCN"
    x = {"model_type": "ScoreNetworkX", "max_feat_num": c.node_types, "depth": c.node_depth, "nhid": c.node_hidden}
    x |= {**shared, "model_type": "ScoreNetworkX_GMH"} if c.node_network == "gmh" else {}
    adj = {"model_type": "ScoreNetworkA", "max_feat_num": c.node_types, "max_node_num": c.max_nodes}
    adj |= {"nhid": c.edge_hidden, "num_layers": c.edge_depth, **shared}
    sde = {
        "x": {"type": OFFICIAL[c.node_sde], "beta_min": c.node_low, "beta_max": c.node_high, "num_scales": 1000},
        "adj": {"type": OFFICIAL[c.edge_sde], "beta_min": c.edge_low, "beta_max": c.edge_high, "num_scales": 1000},
    }
    init = "deg" if c.node_input == "degree" else "atom"
    settings = {"data": {"data": data, "init": init, "max_node_num": c.max_nodes}, "sde": sde}
    if init == "deg":
        settings["sampler"] = {"predictor": "Euler", "corrector": "Langevin", "snr": 0.05, "scale_eps": 0.7}
        settings["sample"] = {"use_ema": True}
    return {"model_config": settings, "params_x": x, "params_adj": adj}


@pytest.fixture
def official(plain, tmp_path, monkeypatch):
    """Return a function that writes a checkpoint in the official layout and returns it with the plain networks."""

    def write(c: GDSSConfig, data: str, ema: bool = False, prefix: str = "", change=None):
        torch.manual_seed(0)
        sizes = (c.node_types, c.node_depth, c.node_hidden)
        gmh = c.node_network == "gmh"
        x = plain.PlainScoreNetworkXGMH(*sizes, c.attention, c.mlp_layers) if gmh else plain.PlainScoreNetworkX(*sizes)
        adj = plain.PlainScoreNetworkA(c.node_types, c.edge_depth, c.edge_hidden, c.attention, c.mlp_layers)
        content = description(c, data)
        for name, net in (("x", x), ("adj", adj)):
            content[f"{name}_state_dict"] = {f"{prefix}{key}": value.clone() for key, value in net.state_dict().items()}
            if ema:
                for p in net.parameters():
                    torch.nn.init.normal_(p, std=0.2)
                shadow = [p.detach().clone() for p in net.parameters()]
                content[f"ema_{name}"] = {"decay": 0.999, "num_updates": 7, "shadow_params": shadow}
        content = content if change is None else change(copy.deepcopy(content))
        for key in ("model_config", "params_x", "params_adj"):
            content[key] = EasyDict(content[key]) if key in content else None
        with monkeypatch.context() as patch:
            module = ModuleType("easydict")
            module.EasyDict = EasyDict
            patch.setitem(sys.modules, "easydict", module)
            torch.save({k: v for k, v in content.items() if v is not None}, tmp_path / "official.pth")
        return tmp_path / "official.pth", x, adj

    return write


def holed(features: int, noisy: bool) -> DenseGraphs:
    """Graphs whose masks have holes, with real or with integer adjacencies."""
    g = testing.random_dense(4, max_nodes=9, features=features, seed=1, dtype=torch.float64)
    keep = g.mask & (torch.arange(g.mask.size(1)) % 4 != 1)
    adj = g.adj if noisy else g.adj.round().clamp(0, 3)
    return DenseGraphs(g.x, adj, keep).masked()


CASES = [
    ("qm9", "QM9", False, ""),
    ("zinc250k", "ZINC250k", False, "module."),
    ("zinc250k-gmh", "ZINC250k", False, ""),
    ("community_small", "community_small", True, ""),
    ("ENZYMES", "ENZYMES", True, "module."),
]


@pytest.mark.parametrize(("preset", "data", "ema", "prefix"), CASES)
def test_a_converted_network_computes_the_same_function(official, preset, data, ema, prefix):
    file, x, adj = official(GDSS.preset_settings(preset).model, data, ema, prefix)
    model = convert.gdss(file).double()
    assert not any(module.startswith("easydict") for module in sys.modules)
    with torch.no_grad():
        for noisy in (False, True):
            g = holed(model.config.node_types, noisy)
            args = (g.x, g.adj, g.mask.double())
            torch.testing.assert_close(model.node_net(g), x.double()(*args), atol=1e-9, rtol=0)
            torch.testing.assert_close(model.edge_net(g), adj.double()(*args), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("preset", "data", "ema", "prefix"), CASES)
def test_the_settings_of_a_file_are_those_of_the_preset(official, preset, data, ema, prefix):
    known = GDSS.preset_settings(preset)
    file, *_ = official(known.model, data, ema, prefix)
    assert convert.gdss(file).config == known.model
    paper = convert.gdss(file, sampler="paper").config.sampler
    assert (paper.steps, paper.norm, paper.denoise, paper.decode) == (1000, "batch", False, "threshold")
    counts = {"QM9": 120_803, "ZINC250k": 224_568, "community_small": 80, "ENZYMES": 470}
    assert int(convert.gdss(file).node_histogram.sum()) == counts[data]


def test_which_weights_are_taken(official):
    file, x, _ = official(GDSS.preset_settings("community_small").model, "community_small", ema=True)
    averaged, raw = convert.gdss(file), convert.gdss(file, weights="raw")
    assert torch.equal(averaged.node_net.layers[0].weight, x.layers[0].weight)
    assert not torch.equal(raw.node_net.layers[0].weight, x.layers[0].weight)
    assert torch.equal(convert.gdss(file, weights="ema").edge_net.layers[1].weight, averaged.edge_net.layers[1].weight)
    file, *_ = official(GDSS.preset_settings("qm9").model, "QM9")
    with pytest.raises(CheckpointError, match="no averaged weights") as error:
        convert.gdss(file, weights="ema")
    assert "damaged" not in str(error.value)


def test_a_converted_molecule_model_is_a_run_that_samples(official, tmp_path, capsys):
    file, *_ = official(GDSS.preset_settings("qm9").model, "QM9")
    run = tmp_path / "run"
    assert main(["convert", "gdss", str(file), "-o", str(run)]) == 0
    assert "120,803" in capsys.readouterr().out
    assert main(["sample", str(run), "-n", "6", "--steps", "3", "-o", str(tmp_path / "out.smi")]) == 0
    assert len((tmp_path / "out.smi").read_text().splitlines()) == 6
    generator = MoleculeGenerator.load(run)
    assert generator.metadata["converted"]["file"] == "official.pth"
    assert generator.codec.vocabulary.nodes == ("C", "N", "O", "F")
    with pytest.raises(InputError, match="exists"):
        convert.gdss(file, run)


def test_a_converted_model_of_plain_graphs_samples_and_a_store_gives_node_counts(official, tmp_path):
    file, *_ = official(GDSS.preset_settings("ego_small").model, "ego_small", ema=True)
    convert.gdss(file, tmp_path / "run")
    model = load(tmp_path / "run")
    assert model.vocabulary.scheme == "generic" and int(model.generator.node_histogram.sum()) == 160
    assert model.sample(3, steps=2, progress=False).graphs.num_graphs == 3
    store = GraphStore.from_graphs(testing.random_graphs(5, max_nodes=6, seed=0))
    assert int(convert.gdss(file, data=store).node_histogram.sum()) == 5


def dropped(*path):
    def change(content):
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        return content

    return change


def changed(value, *path):
    def change(content):
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return content

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dropped("params_adj"), "no params_adj"),
        (dropped("x_state_dict"), "no x_state_dict"),
        (dropped("model_config", "sde"), "damaged"),
        (changed("1e-1 or so", "model_config", "sde", "x", "beta_min"), "damaged"),
        (changed(2.5, "params_x", "depth"), "damaged"),
        (changed(0, "params_adj", "num_layers"), "at least 1"),
        (changed(1, "params_adj", "num_layers"), "damaged|another shape"),
        (changed(torch.zeros(3), "adj_state_dict", "layers.1.attn.3.gnn_q.weight"), "damaged"),
        (changed("text", "adj_state_dict", "layers.1.attn.3.gnn_q.weight"), "no tensor"),
        (dropped("adj_state_dict", "layers.1.attn.3.gnn_q.weight"), "gnn_q.weight"),
        (dropped("adj_state_dict", "final.linears.2.bias"), "final.linears.2.bias"),
        (changed(32, "params_adj", "nhid"), "another shape"),
        (changed("BaselineNetwork", "params_adj", "model_type"), "BaselineNetwork"),
        (changed("ones", "model_config", "data", "init"), "'ones'"),
        (changed("MLP", "params_adj", "conv"), "conv"),
        (changed("VQ", "model_config", "sde", "x", "type"), "node_sde"),
    ],
)
def test_another_checkpoint_is_refused_with_what_is_wrong(official, change, match):
    file, *_ = official(GDSS.preset_settings("qm9").model, "QM9", change=change)
    with pytest.raises((CheckpointError, InputError), match=match):
        convert.gdss(file)


def test_options_that_do_not_exist_are_refused(official):
    file, *_ = official(GDSS.preset_settings("qm9").model, "QM9")
    for options in ({"weights": "EMA"}, {"sampler": "fast"}):
        with pytest.raises(InputError, match="expected one of"):
            convert.gdss(file, **options)


def test_a_sampler_that_does_not_exist_here_is_refused_and_the_default_taken(official):
    def change(content):
        content["model_config"]["sampler"]["n_steps"] = 5
        return content

    file, *_ = official(GDSS.preset_settings("community_small").model, "community_small", True, change=change)
    assert convert.gdss(file).config.sampler.solver == "s4"
    with pytest.raises(CheckpointError, match="n_steps = 5"):
        convert.gdss(file, sampler="paper")


def test_the_types_of_another_data_set_come_from_its_store(official, tmp_path):
    file, *_ = official(GDSS.preset_settings("qm9").model, "sulfides")
    with pytest.raises(CheckpointError, match="'sulfides'.*give data"):
        convert.gdss(file, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    store = build_store(["CS", "CCO", "CN"], vocabulary=VOCABULARY, workers=1, split="none", progress=False)[0]
    convert.gdss(file, tmp_path / "run", data=store)
    assert MoleculeGenerator.load(tmp_path / "run").codec.vocabulary.nodes == ("C", "N", "O", "S")
    other = build_store(["CS", "CCO"], workers=1, split="none", progress=False)[0]
    with pytest.raises(CheckpointError, match="types of atoms"):
        convert.gdss(file, tmp_path / "other", data=other)


class Hostile:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_a_file_that_would_run_something_is_refused(tmp_path, capsys):
    torch.save({"model_config": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(InputError, match="safely"):
        convert.gdss(tmp_path / "hostile.pth")
    assert "must not run" not in capsys.readouterr().out
    (tmp_path / "noise.pth").write_bytes(bytes(range(256)) * 9)
    for name in ("noise.pth", "missing.pth"):
        assert main(["convert", "gdss", str(tmp_path / name), "-o", str(tmp_path / "run")]) == 2
        assert name in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
