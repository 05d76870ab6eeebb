"""The work behind the verbs of the command line: from parsed arguments to files."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from graphinv._files import atomic_path
from graphinv.data import GraphStore, Vocabulary, build_graphs, file_sha256, is_graph_file, read_smiles
from graphinv.data.manifests import list_datasets, load_manifest
from graphinv.errors import InputError
from graphinv.models import GDSS, GDSSConfig, SamplerConfig, gdss_preset, gdss_presets
from graphinv.mol import Rejects, build_dataset, build_store
from graphinv.pipeline import MoleculeGenerator
from graphinv.training import TrainConfig, train

BONDS = ("single", "double", "triple")


def build(files: Sequence[str], given: Any) -> tuple[GraphStore, Rejects | str]:
    """Encode files, or a known data set by name, as the arguments of ``data build`` say; also what was read."""
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
    column: str | int = int(given.column) if given.column.isdigit() else given.column
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


def train_parser(parser: Any, args: Sequence[str]) -> Any:
    """Add the arguments of ``train gdss``; defaults are those of the preset, sizes those of the store in ``args``."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset")
    first.add_argument("--data")
    early, _ = first.parse_known_args(args)
    parser.add_argument("--data", required=True, help="a store written by graphinv data build")
    parser.add_argument("-o", "--output", required=True, help="the run directory to write")
    parser.add_argument("--preset", default=None, help=f"settings of a data set: {', '.join(gdss_presets())}")
    parser.add_argument("--config", action="config", help="YAML file of model.* and trainer.* settings")
    parser.add_argument("--resume", action="store_true", help="go on from RUN/last if it is there")
    parser.add_class_arguments(GDSSConfig, "model")
    parser.add_class_arguments(TrainConfig, "trainer")
    parser.set_defaults(_defaults(early.preset, early.data))
    return parser


def _defaults(preset: str | None, data: str | None) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    if preset is not None:
        chosen = gdss_preset(preset)
        flat = {f.name: getattr(chosen.model, f.name) for f in dataclasses.fields(GDSSConfig) if f.name != "sampler"}
        flat |= {f"sampler.{k}": v for k, v in dataclasses.asdict(chosen.model.sampler).items()}
        defaults |= {f"model.{k}": v for k, v in flat.items()}
        defaults |= {f"trainer.{k}": v for k, v in chosen.training.items()}
    if data is not None and Path(data).exists():
        store = GraphStore.open(data)
        defaults["model.max_nodes"] = max(1, store.node_histogram("all").numel() - 1)
        if store.vocabulary.scheme != "generic":
            defaults["model.features"] = len(store.vocabulary.nodes)
    return defaults


def train_run(given: Any) -> Path:
    """Train as the arguments of ``train gdss`` say; return the run directory."""
    store = GraphStore.open(given.data)
    store.verify()
    settings = TrainConfig(**given.trainer.as_dict())
    model = given.model.as_dict()
    config = GDSSConfig(**{**model, "sampler": SamplerConfig(**_plain(model["sampler"]))})
    generator = GDSS.seeded(config, settings.seed)
    return train(generator, store, given.output, settings, resume="auto" if given.resume else False)


def _plain(value: Any) -> dict[str, Any]:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else dict(value)


def draw_samples(given: Any) -> str:
    """Sample as the arguments of ``sample`` say, write the files and return what to tell the user."""
    model = MoleculeGenerator.load(given.model, weights=given.weights, device=given.device)
    names = ("solver", "steps", "snr", "scale_eps", "norm", "decode")
    changes = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    sampler = dataclasses.replace(model.generator.config.sampler, **changes)
    if given.grid and Path(given.grid).suffix.lower() not in (".png", ".svg"):
        raise InputError(f"--grid draws .png or .svg, got {given.grid!r}")
    samples = model.sample(
        given.count, seed=given.seed, batch_size=given.batch_size, repair=given.repair, sampler=sampler
    )
    with atomic_path(given.output) as file:
        file.write_text("".join(f"{text}\n" for text in samples.smiles))
    told = [
        f"{given.output}: {given.count:,} samples in {samples.seconds:.1f} s, {samples.evaluations} network calls each"
    ]
    if given.repair != "none":
        told.append(f"repair {given.repair!r} changed {samples.repaired:,} of {given.count:,} samples")
    if given.grid:
        from graphinv.mol import molecule_grid

        molecule_grid(samples.smiles, given.grid)
        told.append(f"picture: {given.grid}")
    return "\n".join(told)
