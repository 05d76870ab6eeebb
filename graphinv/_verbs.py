"""The work behind the verbs of the command line: from parsed arguments to files."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch

from graphinv._files import atomic_path
from graphinv.data import (
    SPLITS,
    GraphStore,
    Vocabulary,
    build_graphs,
    file_sha256,
    is_graph_file,
    read_smiles,
    write_graphs,
)
from graphinv.data.manifests import list_datasets, load_manifest
from graphinv.draw import graph_grid
from graphinv.errors import InputError
from graphinv.models import (
    GDSS,
    PARD,
    PARD_TRAINING,
    GDSSPreset,
    GraphGenerator,
    PARDPreset,
    gdss_preset,
    gdss_presets,
    ordered_store,
    pard_preset,
    pard_presets,
)
from graphinv.mol import MoleculeCodec, Rejects, build_dataset, build_store
from graphinv.ops import segment_reduce
from graphinv.pipeline import GraphSamples, MoleculeGenerator, Samples, load_generator, sample_graphs
from graphinv.training import TrainConfig, train

BONDS = ("single", "double", "triple")
SAMPLER_OPTIONS = ("solver", "steps", "snr", "scale_eps", "norm", "decode", "early", "steps_per_element", "temperature")


def build(files: Sequence[str], given: Any) -> tuple[GraphStore, Rejects | str]:
    """Encode files, or a known data set by name, as the arguments of ``data build`` say; also what was read."""
    store, told = _build(files, given)
    return store if given.max_hops is None else ordered_store(store, given.max_hops), told


def mean_blocks(store: GraphStore) -> float | None:
    """Return the mean number of generation blocks of a graph; None if the store holds no blocks."""
    if store.block is None:
        return None
    last = segment_reduce(store.block.long(), store.node_ptr.long(), "max")
    return float((last + 1)[store.node_counts() > 0].sum()) / max(len(store), 1)


def store_info(path: str) -> dict[str, Any]:
    """Check a store and return what it holds; text and numbers alone."""
    store = GraphStore.open(path)
    store.verify()
    blocks = mean_blocks(store)
    return {
        "graphs": store.num_graphs,
        "splits": {s: n for s in SPLITS if (n := store.indices(s).numel())},
        "nodes": dict(enumerate(store.node_histogram("all").tolist())),
        "vocabulary": store.vocabulary.to_json(),
        "blocks": None if blocks is None else {"rule": store.block_rule, "mean": blocks},
        "hash": store.content_hash,
        "provenance": store.provenance,
    }


def store_lines(path: str, found: Mapping[str, Any]) -> list[str]:
    """Return what a store holds as lines for a person to read."""
    vocabulary, blocks = found["vocabulary"], found["blocks"]
    lines = [
        f"{path}: {found['graphs']:,} graphs, hash {found['hash'][:12]}",
        "splits     " + ", ".join(f"{k} {v:,}" for k, v in found["splits"].items()),
        f"node types {' '.join(vocabulary['nodes'])} ({vocabulary['scheme']})",
        "edge types " + " ".join(vocabulary["edges"]),
        "node count " + ", ".join(f"{k}: {v:,}" for k, v in found["nodes"].items() if v),
    ]
    if blocks is not None:
        lines.append(f"blocks     {blocks['rule']}, {blocks['mean']:.2f} a graph on average")
    return [*lines, "provenance " + json.dumps(found["provenance"])]


def _build(files: Sequence[str], given: Any) -> tuple[GraphStore, Rejects | str]:
    if any(_holds_graphs(file) for file in files):
        return _build_graphs(files, given)
    if len(files) == 1 and (files[0] in list_datasets() or files[0].endswith(".toml")):
        return build_dataset(
            files[0],
            scheme=given.atoms,
            vocabulary=_vocabulary(given.vocabulary, given.atoms or "element"),
            hydrogens=given.hydrogens,
            max_nodes=given.max_atoms,
            split=given.split,
            workers=given.workers,
            rejects_path=given.rejects,
        )
    column: str | int = int(given.column) if given.column.isdecimal() else given.column
    sources = [read_smiles(file, column, header=given.header) for file in files]
    scheme = given.atoms or "element"
    digest = file_sha256(files[0]) if len(files) == 1 and files[0] != "-" else None
    return build_store(
        chain.from_iterable(sources),
        scheme=scheme,
        vocabulary=_vocabulary(given.vocabulary, scheme),
        hydrogens=given.hydrogens,
        max_nodes=given.max_atoms,
        workers=given.workers,
        split=given.split or "random:0.8/0.1/0.1:0",
        rejects_path=given.rejects,
        name=", ".join(files),
        sha256=digest,
    )


def _holds_graphs(source: str) -> bool:
    known = source in list_datasets() or source.endswith(".toml")
    return load_manifest(source).kind == "graphs" if known else is_graph_file(source)


def _build_graphs(files: Sequence[str], given: Any) -> tuple[GraphStore, str]:
    if len(files) != 1:
        raise InputError(f"a store of graphs is built from one file or data set, got {', '.join(files)}")
    flags = ("atoms", "vocabulary", "hydrogens", "max_atoms", "rejects")
    foreign = [f"--{flag.replace('_', '-')}" for flag in flags if getattr(given, flag) not in (None, False)]
    if foreign:
        raise InputError(f"{files[0]} holds graphs without labels; leave out {', '.join(foreign)}, made for molecules")
    return build_graphs(files[0], split=given.split)


def _vocabulary(text: str | None, scheme: str) -> Vocabulary | None:
    return None if text is None else Vocabulary(tuple(a.strip() for a in text.split(",") if a.strip()), BONDS, scheme)


class _Kind(NamedTuple):
    """What tells the models apart at the command line."""

    model: type[GraphGenerator]
    preset: Callable[[str], GDSSPreset | PARDPreset]
    presets: tuple[str, ...]
    node_types: str  # the setting that counts them
    training: Mapping[str, Any]  # what differs from TrainConfig without a preset


_KINDS = {
    "gdss": _Kind(GDSS, gdss_preset, gdss_presets(), "features", {}),
    "pard": _Kind(PARD, pard_preset, pard_presets(), "node_types", PARD_TRAINING),
}


def train_parser(parser: Any, kind: str, args: Sequence[str]) -> Any:
    """Add the arguments of ``train KIND``; defaults are those of the preset, sizes those of the store in ``args``."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset")
    first.add_argument("--data")
    early, _ = first.parse_known_args(args)
    parser.add_argument("--data", required=True, help="a store written by graphinv data build")
    parser.add_argument("-o", "--output", required=True, help="the run directory to write")
    parser.add_argument("--preset", default=None, help=f"settings of a data set: {', '.join(_KINDS[kind].presets)}")
    parser.add_argument("--config", action="config", help="YAML file of model.* and trainer.* settings")
    parser.add_argument("--resume", action="store_true", help="go on from RUN/last if it is there")
    parser.add_class_arguments(_KINDS[kind].model.config_class, "model")
    parser.add_class_arguments(TrainConfig, "trainer")
    parser.set_defaults(_defaults(_KINDS[kind], early.preset, early.data))
    return parser


def _defaults(kind: _Kind, preset: str | None, data: str | None) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    training = kind.training
    if preset is not None:
        chosen = kind.preset(preset)
        flat = dataclasses.asdict(chosen.model)
        flat |= {f"sampler.{k}": v for k, v in flat.pop("sampler").items()}
        defaults |= {f"model.{k}": v for k, v in flat.items()}
        training = chosen.training
    defaults |= {f"trainer.{k}": v for k, v in training.items()}
    if data is not None and Path(data).exists():
        store = GraphStore.open(data)
        defaults["model.max_nodes"] = max(1, store.node_histogram("all").numel() - 1)
        if kind.model is PARD or store.vocabulary.scheme != "generic":  # GDSS reads degrees where there are no types
            defaults[f"model.{kind.node_types}"] = len(store.vocabulary.nodes)
        if kind.model is PARD:
            defaults["model.edge_types"] = max(defaults.get("model.edge_types", 1), len(store.vocabulary.edges))
    return defaults


def train_run(kind: str, given: Any) -> Path:
    """Train as the arguments of ``train KIND`` say; return the run directory."""
    store = GraphStore.open(given.data)
    store.verify()
    settings = TrainConfig(**given.trainer.as_dict())
    model = given.model.as_dict()
    sampler = model["sampler"]
    if dataclasses.is_dataclass(sampler) and not isinstance(sampler, type):
        sampler = dataclasses.asdict(sampler)
    config = _KINDS[kind].model.config_class(**{**model, "sampler": dict(sampler)})
    generator = _KINDS[kind].model.seeded(config, settings.seed)
    return train(generator, store, given.output, settings, resume="auto" if given.resume else False)


def draw_samples(given: Any) -> str:
    """Sample as the arguments of ``sample`` say, write the files and return what to tell the user."""
    generator, vocabulary, metadata = load_generator(given.model, weights=given.weights, device=given.device)
    _check_files(given, vocabulary)
    settings = {"seed": given.seed, "batch_size": given.batch_size, "sampler": _sampler(generator, given)}
    drawn: GraphSamples
    device = torch.device(given.device).type
    with torch.autocast(device, torch.bfloat16, enabled=given.precision == "bfloat16"):
        if vocabulary.scheme == "generic":
            drawn = sample_graphs(generator, given.count, **settings)
        else:
            molecules = MoleculeGenerator(generator, MoleculeCodec(vocabulary), metadata)
            drawn = molecules.sample(given.count, repair=given.repair, **settings)
    _write(drawn, vocabulary, given, {"sampled": {"generator": generator.kind, "seed": given.seed}})
    cost = f"{drawn.seconds:.1f} s, {drawn.evaluations:.4g} network calls each"
    told = [f"{given.output}: {given.count:,} samples in {cost}"]
    if drawn.path_consistent is not None:
        told.append(f"path consistency: {drawn.path_consistent:.1%} have the block order they were drawn in")
    if isinstance(drawn, Samples) and given.repair != "none":
        told.append(f"repair {given.repair!r} changed {drawn.repaired:,} of {given.count:,} samples")
    if given.grid:
        told.append(f"picture: {given.grid}")
    return "\n".join(told)


def _sampler(generator: GraphGenerator, given: Any) -> Any:
    """Return the model's sampler with the changes of ``given``."""
    own = generator.config.sampler
    known = [f.name for f in dataclasses.fields(own)]
    changes = {name: value for name in SAMPLER_OPTIONS if (value := getattr(given, name)) is not None}
    foreign = [f"--{name.replace('_', '-')}" for name in changes if name not in known]
    if foreign:
        usable = ", ".join(f"--{name.replace('_', '-')}" for name in SAMPLER_OPTIONS if name in known)
        raise InputError(f"{given.model} is a {generator.kind} model, without {', '.join(foreign)}; it has {usable}")
    return dataclasses.replace(own, **changes)


def _check_files(given: Any, vocabulary: Vocabulary) -> None:
    suffix = Path(given.output).suffix.lower()
    if vocabulary.scheme == "generic":
        if suffix not in (".g6", ".graphs"):
            raise InputError(f"{given.model} makes graphs, not molecules: write .g6 or .graphs, got {given.output!r}")
        if suffix == ".g6" and max(len(vocabulary.nodes), len(vocabulary.edges)) > 1:
            raise InputError(f"graph6 holds no node and edge types, which {given.model} makes; write .graphs")
        if given.repair != "none":
            raise InputError(f"--repair mends molecules, and {given.model} makes graphs; leave it out")
    elif suffix == ".g6":
        raise InputError(f"graph6 holds no atoms; write molecules as SMILES (.smi) or .graphs, got {given.output!r}")
    elif suffix == ".graphs" and given.repair != "none":
        raise InputError(
            "--repair mends SMILES, and a .graphs store holds graphs as drawn; write .smi, or leave it out"
        )
    pictures = (".svg",) if vocabulary.scheme == "generic" else (".png", ".svg")
    if given.grid and Path(given.grid).suffix.lower() not in pictures:
        raise InputError(f"--grid draws {' or '.join(pictures)} here, got {given.grid!r}")


def _write(drawn: GraphSamples, vocabulary: Vocabulary, given: Any, provenance: dict[str, Any]) -> None:
    graphs = drawn.graphs
    if len(vocabulary.nodes) == 1:  # GDSS leaves the class of its degree in each node
        graphs = dataclasses.replace(graphs, x=torch.zeros_like(graphs.x))
    if given.output.lower().endswith(".graphs"):
        GraphStore.from_graphs(graphs, vocabulary, provenance=provenance).save(given.output)
    elif isinstance(drawn, Samples):
        with atomic_path(given.output) as file:
            file.write_text("".join(f"{text}\n" for text in drawn.smiles))
    else:
        write_graphs(given.output, graphs)
    if not given.grid:
        return
    if isinstance(drawn, Samples):
        from graphinv.mol import molecule_grid

        molecule_grid(drawn.smiles, given.grid)
    else:
        graph_grid(graphs, given.grid)
