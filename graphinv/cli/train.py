"""``graphinv train``: a generator of any registered kind, its settings from preset, file and flags."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from graphinv.cli.arguments import make_parser
from graphinv.data import GraphStore
from graphinv.errors import InputError
from graphinv.models import GraphGenerator, generator_class, generator_kinds
from graphinv.models.checkpoint import begin_from
from graphinv.models.settings import settings_from
from graphinv.training import TrainConfig, train
from graphinv.training.directory import rank

__all__ = ["train_verb"]

_RUNS = (
    "RUN/best holds the lowest validation loss, RUN/last the newest state; --resume goes on from it. Settings come "
    "from --preset, then --config (YAML), then --model.KEY and --trainer.KEY; types and the largest graph are read off "
    "the store."
)


def train_verb(args: list[str]) -> None:
    """Run ``train KIND``."""
    if args and args[0] in ("-h", "--help"):
        print(_kinds_help())
        raise SystemExit(0)
    if not args or args[0].startswith("-"):
        raise InputError(f"train needs a kind of generator first: {', '.join(generator_kinds())}")
    kind = generator_class(args[0])
    args = _today(kind, args[1:])
    values = _parser(kind, args).parse_args(args)
    folder = _run(kind, values)
    if rank() != 0:
        return
    print(f"trained: {folder}/best; next: graphinv sample {folder} -n 1000 -o out.smi (plain graphs: out.g6)")


def _kinds_help() -> str:
    """Return the help of ``train``: each kind with the first sentence of what it says of itself."""
    lines = [
        "usage: graphinv train KIND --data STORE -o RUN [arguments]",
        "",
        "Train a generator on a store. graphinv train KIND --help explains one kind and lists its settings.",
        "",
    ]
    for name in generator_kinds():
        try:
            told = generator_class(name).description.split(". ")[0].rstrip(".")
        except InputError as error:
            told = f"not available: {error}"
        lines.append(f"  {name:10} {told}")
    own = "A generator of your own is listed once its module is imported: graphinv --import MODULE train --help."
    return "\n".join([*lines, "", own])


def _today(kind: type[GraphGenerator], args: Sequence[str]) -> list[str]:
    """Return the arguments with settings of the model under today's names."""
    today = []
    for arg in args:
        flag, *value = arg.split("=", 1)
        old = flag.removeprefix("--model.")
        new = getattr(kind.config_class, "old_names", {}).get(old) if flag.startswith("--model.") else None
        if new is not None:
            print(f"graphinv: {flag} is now --model.{new}; the old name goes in version 0.2", file=sys.stderr)
            arg = "=".join([f"--model.{new}", *value])
        today.append(arg)
    return today


def _parser(kind: type[GraphGenerator], args: Sequence[str]) -> ArgumentParser:
    """Return the parser of a kind; defaults are those of the preset, sizes those of the store in ``args``."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset")
    first.add_argument("--data")
    early, _ = first.parse_known_args(args)
    parser = make_parser(f"train {kind.kind}", f"{kind.description} {_RUNS}")
    parser.add_argument("--data", required=True, help="a store written by graphinv data build")
    parser.add_argument("-o", "--output", required=True, help="the run directory to write")
    known = ", ".join(kind.presets) or "this kind has none"
    parser.add_argument("--preset", default=None, help=f"settings of a data set: {known}")
    parser.add_argument("--config", action="config", help="YAML file of model.* and trainer.* settings")
    parser.add_argument("--resume", action="store_true", help="go on from RUN/last if it is there")
    parser.add_argument("--from", dest="begin", default=None, help="a run or checkpoint whose weights to begin with")
    parser.add_class_arguments(kind.config_class, "model")
    parser.add_class_arguments(TrainConfig, "trainer")
    parser.set_defaults(_defaults(kind, early.preset, early.data))
    return parser


def _defaults(kind: type[GraphGenerator], preset: str | None, data: str | None) -> dict[str, Any]:
    model: dict[str, Any] = {}
    training = kind.training_defaults
    store = GraphStore.open(data) if data is not None and Path(data).exists() else None
    if preset is None and store is not None:
        preset = kind.preset_for(store)
        if preset is not None:
            print(f"graphinv: preset {preset} for graphs of this size; --preset chooses another", file=sys.stderr)
    if preset is not None:
        chosen = kind.preset_settings(preset)
        model, training = _flat(dataclasses.asdict(chosen.model)), chosen.training
    if store is not None:
        model |= kind.config_for(store)
    return {f"model.{k}": v for k, v in model.items()} | {f"trainer.{k}": v for k, v in training.items()}


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Return nested records under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{k}": v for k, v in _flat(value).items()} if isinstance(value, dict) else {name: value}
    return flat


def _run(kind: type[GraphGenerator], values: Any) -> Path:
    store = GraphStore.open(values.data)
    store.verify()
    settings = TrainConfig(**values.trainer.as_dict())
    generator = kind.seeded(settings_from(kind.config_class, values.model.as_dict()), settings.seed)
    resumed = values.resume and (Path(values.output) / "last").exists()
    if values.begin is not None and not resumed:
        new = begin_from(generator, values.begin, store.vocabulary.to_json())
        told = f"; {len(new)} parameters are new, such as {new[0]}" if new else ""
        print(f"graphinv: begun with the weights of {values.begin}{told}", file=sys.stderr)
    return train(generator, store, values.output, settings, resume="auto" if values.resume else False)
