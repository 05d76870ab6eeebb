"""Other people's checkpoints as generators of this library, read without running anything of the file.

Official GDSS checkpoints (arXiv:2202.02514) hold one weight per attention channel and per query, key and value; here
they are stacked, and branches of the last layers that nothing reads are left out. The function computed is the same.
"""

from __future__ import annotations

import json
import operator
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from graphinv import __version__
from graphinv._files import atomic_directory, shipped_folders
from graphinv.data import GraphStore, Vocabulary
from graphinv.data._safe_pickle import load_tensors
from graphinv.data.readers import file_sha256
from graphinv.errors import CheckpointError, GraphinvError, InputError
from graphinv.models import GDSS, GDSSConfig, SamplerConfig
from graphinv.models.gdss.presets import PRESETS

__all__ = ["gdss"]

Weights = Literal["official", "raw", "ema"]
Sampler = Literal["default", "paper"]

_PARTS = ("model_config", "params_x", "params_adj", "x_state_dict", "adj_state_dict")
_ATOMS = {"qm9": "C N O F", "zinc250k": "C N O F P S Cl Br I"}  # in the order of the official code
_SOLVERS: dict[Any, Literal["reverse", "euler", "s4"]] = {"Reverse": "reverse", "Euler": "euler", "S4": "s4"}
_NETWORKS = {"ScoreNetworkX": "gcn", "ScoreNetworkX_GMH": "gmh"}
_RENAMED = {"mlp": "edge_mlp", "multi_channel": "node_mlp"}


def gdss(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    weights: Weights = "official",
    sampler: Sampler = "default",
    data: GraphStore | None = None,
) -> GDSS:
    """Read an official GDSS checkpoint; write it as a run directory too, if ``output`` is given.

    Args:
        path: a ``.pth`` file of the official code, of any of its variants: with or without averaged weights, saved
            from several devices, with either node network.
        output: the run directory to make, for ``graphinv sample`` and ``graphinv.load``.
        weights: "raw", "ema" (averaged), or "official": what the checkpoint's own settings sample with.
        sampler: "default" is this library's; "paper" follows the official code: its solver and step count, norms over
            the batch, no closing denoising step, atoms by threshold.
        data: the store that the model was trained on: its training split gives node counts, its vocabulary names the
            types of molecules. Not needed for QM9, ZINC250k, community_small, ego_small, ENZYMES and grid.

    Raises:
        InputError: the file is missing, holds more than tensors, numbers and text, ``output`` exists, or an option is
            none of these.
        CheckpointError: it is no GDSS checkpoint, of a kind that does not exist here, or damaged.

    Example:
        >>> model = gdss("gdss_qm9.pth", "runs/qm9")  # doctest: +SKIP
        >>> model.sample(1000, seed=0)  # doctest: +SKIP
    """
    for value, choices in ((weights, get_args(Weights)), (sampler, get_args(Sampler))):
        if value not in choices:
            raise InputError(f"expected one of {', '.join(choices)}, got {value!r}")
    file = Path(path)
    content = _content(file)
    try:
        model, averaged = _model(content, weights, sampler, str(file))
        name = str(content["model_config"]["data"]["data"]).lower()
    except GraphinvError:  # says what is wrong
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{file}: its settings or weights are damaged or of another kind: {error!r}") from error
    counts = _known_counts(name) if data is None else data.node_histogram("train")
    if counts is not None:
        model.fit_node_counts(counts)
    if output is not None:
        source = {"file": file.name, "sha256": file_sha256(file), "data": name, "weights": "ema" if averaged else "raw"}
        vocabulary = _vocabulary(model.config, name, data, str(file))
        metadata = {"vocabulary": vocabulary.to_json(), "graphinv": __version__, "converted": source}
        _write(model, Path(output), metadata)
    return model.eval()


def _model(content: Mapping[str, Any], weights: Weights, sampler: Sampler, where: str) -> tuple[GDSS, bool]:
    """Return the model with its weights, and whether these are averaged ones."""
    model, averaged = GDSS(_config(content, sampler, where)), weights == "ema"
    if weights == "official":
        averaged = bool((content["model_config"].get("sample") or {}).get("use_ema", False))
    with torch.no_grad():
        for net, key, part in ((model.node_net, "x", "params_x"), (model.edge_net, "adj", "params_adj")):
            _load(net, _state(content, key, averaged, where), f"{where}, {content[part]['model_type']}")
    return model, averaged


def _content(file: Path) -> dict[str, Any]:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    try:
        content = load_tensors(raw, {"easydict.EasyDict": OrderedDict})
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    missing = [key for key in _PARTS if not isinstance(content, dict) or not isinstance(content.get(key), dict)]
    if missing:
        raise CheckpointError(f"{file} is no checkpoint of GDSS: it has no {', '.join(missing)}")
    return dict(content)


def _config(content: Mapping[str, Any], sampler: Sampler, where: str) -> GDSSConfig:
    """Return the configuration that builds the networks of the file."""
    settings, x, adj = (content[key] for key in _PARTS[:3])
    sde, inputs = settings["sde"], {"deg": "degree", "atom": "type"}.get(settings["data"]["init"])
    if x["model_type"] not in _NETWORKS or adj["model_type"] != "ScoreNetworkA" or inputs is None:
        raise CheckpointError(
            f"{where}: networks {x['model_type']} and {adj['model_type']} on features "
            f"{settings['data']['init']!r}; known are {', '.join(_NETWORKS)} and ScoreNetworkA on 'deg' or 'atom'"
        )
    shared = {"adim": "attention", "num_linears": "mlp_layers", "c_init": "channels_init", "c_hid": "channels"}
    shared |= {"num_heads": "heads"}
    differing = [key for key in shared if x.get(key, adj[key]) != adj[key]]
    if differing or any(net.get("conv", "GCN") != "GCN" for net in (x, adj)):
        raise CheckpointError(f"{where}: networks that differ in {differing} or whose conv is not GCN do not exist")
    return GDSSConfig(
        node_types=operator.index(x["max_feat_num"]),
        max_nodes=operator.index(adj["max_node_num"]),
        node_input=inputs,  # type: ignore[arg-type]
        node_sde=sde["x"]["type"].lower(),
        node_low=float(sde["x"]["beta_min"]),
        node_high=float(sde["x"]["beta_max"]),
        edge_sde=sde["adj"]["type"].lower(),
        edge_low=float(sde["adj"]["beta_min"]),
        edge_high=float(sde["adj"]["beta_max"]),
        node_network=_NETWORKS[x["model_type"]],  # type: ignore[arg-type]
        node_depth=operator.index(x["depth"]),
        node_hidden=operator.index(x["nhid"]),
        edge_depth=operator.index(adj["num_layers"]),
        edge_hidden=operator.index(adj["nhid"]),
        channels_final=operator.index(adj["c_final"]),
        sampler=_sampler(settings, x["model_type"], sampler),
        **{ours: operator.index(adj[theirs]) for theirs, ours in shared.items()},  # type: ignore[arg-type]
    )


def _sampler(settings: Mapping[str, Any], network: str, wanted: Sampler) -> SamplerConfig:
    """Return the sampler of the file, else of the preset of its data; corrector settings are the paper's in both."""
    name = settings["data"]["data"].lower() + ("-gmh" if network == "ScoreNetworkX_GMH" else "")
    known = {key.lower(): preset for key, preset in PRESETS.items()}.get(name)
    given, steps = settings.get("sampler"), operator.index(settings["sde"]["adj"]["num_scales"])
    if wanted == "default":
        if known is not None:
            return known.model.sampler
        return SamplerConfig() if given is None else SamplerConfig(snr=given["snr"], scale_eps=given["scale_eps"])
    usual = {"probability_flow": False, "noise_removal": True, "eps": 1e-4, "n_steps": 1}
    asked = {**(settings.get("sample") or {}), **(given or {})}
    if unusual := [f"{key} = {asked[key]}" for key, value in usual.items() if asked.get(key, value) != value]:
        raise CheckpointError(f"a sampler with {', '.join(unusual)} does not exist here; take the default sampler")
    if given is None:
        if known is None:
            raise CheckpointError("the file names no sampler; take the default one and set snr and scale_eps yourself")
        return known.paper_sampler
    solver = _SOLVERS[given["predictor"]]
    snr = 0.0 if given["corrector"] == "None" and solver != "s4" else given["snr"]  # the official S4 moves always
    return SamplerConfig(solver, steps, snr, given["scale_eps"], "batch", False, "threshold")


def _state(content: Mapping[str, Any], key: str, averaged: bool, where: str) -> dict[str, Tensor]:
    """Return the weights of one network by their official names."""
    state = {name.removeprefix("module."): value for name, value in content[f"{key}_state_dict"].items()}
    if other := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(f"{where}: {other[0]} of its network {key} is no tensor")
    if averaged:
        shadow = (content.get(f"ema_{key}") or {}).get("shadow_params")
        if shadow is None:
            raise CheckpointError(f"{where} holds no averaged weights (ema_{key}); take weights='raw'")
        if [value.shape for value in shadow] != [value.shape for value in state.values()]:
            raise CheckpointError(f"{where}: its averaged weights are not those of its network {key}")
        state = dict(zip(state, shadow, strict=True))
    return state


def _load(net: nn.Module, official: dict[str, Tensor], where: str) -> None:
    """Give ``net`` the official weights; those of branches that nothing reads have no place in it."""
    own = net.state_dict()
    given = {key.replace(".linear.", ".linears.0."): value for key, value in official.items()}
    found = {key: value for key, value in given.items() if key in own}
    for key, value in given.items():
        head, _, rest = key.partition(".")
        layer, _, part = rest.partition(".")
        kind, _, tail = part.partition(".")
        if head == "layers" and kind in _RENAMED:
            found[f"layers.{layer}.{_RENAMED[kind]}.{tail}"] = value
    for layer in sorted({key.split(".")[1] for key in given if ".attn." in key}):
        prefix = f"layers.{layer}"
        read = ["gnn_q", "gnn_k"] if any(key.startswith(f"{prefix}.edge_mlp") for key in own) else []
        read += ["gnn_v"] if any(key.startswith(f"{prefix}.node_mlp") for key in own) else []
        for name in ("weight", "bias"):
            channels = [_parts(given, f"{prefix}.attn.{c}", read, name, where) for c in range(_channels(given, prefix))]
            stacked = torch.stack(channels)
            found[f"{prefix}.{name}"] = stacked if name == "weight" else stacked.unsqueeze(1)
    wrong = [key for key in own if key not in found or found[key].shape != own[key].shape]
    if wrong:
        raise CheckpointError(f"{where}: weights are missing or of another shape than its settings say: {wrong[:4]}")
    net.load_state_dict({key: found[key] for key in own})


def _channels(given: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.split(".")[3] for key in given if key.startswith(f"{prefix}.attn.")})


def _parts(given: Mapping[str, Tensor], prefix: str, read: list[str], name: str, where: str) -> Tensor:
    missing = [part for part in read if f"{prefix}.{part}.{name}" not in given]
    if missing:
        raise CheckpointError(f"{where}: no weights {prefix}.{missing[0]}.{name}")
    return torch.cat([given[f"{prefix}.{part}.{name}"] for part in read], -1)


def _known_counts(name: str) -> Tensor | None:
    """Return how many training graphs of an official data set have n nodes, ``[K]``, or None."""
    known = json.loads((shipped_folders()[0] / "node_counts.json").read_text())
    if name not in known:
        return None
    counts = {int(nodes): count for nodes, count in known[name].items()}
    histogram = torch.zeros(max(counts) + 1, dtype=torch.long)
    histogram[list(counts)] = torch.tensor(list(counts.values()))
    return histogram


def _vocabulary(config: GDSSConfig, name: str, data: GraphStore | None, where: str) -> Vocabulary:
    """Return what the types of nodes and edges are: of the given store, else of the data set of that name."""
    if config.node_input == "degree":
        return Vocabulary(("0",), ("1",), "generic")
    if data is None and name not in _ATOMS:
        raise CheckpointError(f"{where}: trained on {name!r}, whose atoms are not known; give data, the store of it")
    bonds = ("single", "double", "triple")
    vocabulary = Vocabulary(tuple(_ATOMS[name].split()), bonds, "element") if data is None else data.vocabulary
    if len(vocabulary.nodes) != config.node_types or vocabulary.edges != bonds:
        raise CheckpointError(
            f"{where}: {config.node_types} types of atoms and bonds {bonds}, and the vocabulary of the data has "
            f"{list(vocabulary.nodes)} and {list(vocabulary.edges)}"
        )
    return vocabulary


def _write(model: GDSS, output: Path, metadata: dict[str, Any]) -> None:
    if output.exists():
        raise InputError(f"{output} exists; choose another directory for the converted run")
    with atomic_directory(output) as folder:
        model.save(folder / "best", metadata=metadata)
