"""``graphinv sample``: molecules or graphs from a trained generator, to a file and a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from graphinv._files import atomic_path, keep_inputs
from graphinv.cli.arguments import make_parser
from graphinv.data import GraphStore, Vocabulary, write_graphs
from graphinv.draw import graph_grid
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.models import GraphGenerator, generator_class, generator_kinds
from graphinv.models.settings import Option, options_of
from graphinv.mol import molecule_grid
from graphinv.pipeline import GraphSamples, MoleculeGenerator, Samples, load

__all__ = ["sample_verb"]


def sample_verb(args: list[str]) -> None:
    """Run ``sample``."""
    kinds = _loadable()
    p = make_parser(
        "sample",
        "Draw from a trained generator: molecules as SMILES, one a line, invalid ones included, or as a .graphs store; "
        "graphs without labels as .g6 or .graphs. Sampler settings not given are those of the model.",
    )
    p.add_argument(
        "model",
        help="a run directory, one of its checkpoints, or the name of a generator that comes along: qm9, zinc250k",
    )
    p.add_argument("-n", type=int, default=1000, dest="count", help="samples to draw")
    p.add_argument("-o", "--output", required=True, help="file to write: .smi, .graphs; without labels .g6, .graphs")
    p.add_argument("--seed", type=int, default=0, help="sample k depends on the seed and k only")
    p.add_argument("--repair", default="none", choices=["none", "charges", "valence"], help="mend invalid molecules")
    p.add_argument("--weights", default="ema", choices=["ema", "raw"], help="averaged or last weights")
    sizes = ", ".join(f"{kind.default_batch_size} ({name})" for name, kind in kinds.items())
    p.add_argument("--batch-size", type=int, default=None, help=f"graphs per network call; unless given {sizes}")
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument(
        "--precision",
        default="float32",
        choices=["float32", "bfloat16"],
        help="of the products of matrices; bfloat16 is faster on recent GPUs, slower on most CPUs",
    )
    p.add_argument("--grid", default=None, help="draw the first 36 samples to this .png or .svg (graphs: .svg)")
    names = _add_sampler_options(p, kinds)
    values = p.parse_args(args)
    changes = {name: getattr(values, name) for name in names if getattr(values, name) is not None}
    print(_draw(values, changes))


def _loadable() -> dict[str, type[GraphGenerator]]:
    """Return the registered generators; one that cannot be loaded is told by its own checkpoints."""
    kinds = {}
    for name in generator_kinds():
        try:
            kinds[name] = generator_class(name)
        except InputError:
            continue
    return kinds


def _add_sampler_options(parser: ArgumentParser, kinds: dict[str, type[GraphGenerator]]) -> list[str]:
    """Add the sampler settings of all kinds, each once, in a group of those that have it; return their names."""
    owners: dict[str, dict[str, Option]] = {}
    for name, kind in kinds.items():
        sampler = kind.sampler_class()
        for option in options_of(sampler).values() if sampler is not None else ():
            owners.setdefault(option.name, {})[name] = option
    groups: dict[str, Any] = {}
    for name, options in sorted(owners.items(), key=lambda item: -len(item[1])):
        title = f"sampler of {' and '.join(options)} models"
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        texts = {option.help for option in options.values()}
        text = texts.pop() if len(texts) == 1 else "; ".join(f"{k}: {o.help.rstrip('.')}" for k, o in options.items())
        types = {option.type for option in options.values()}
        limits: dict[str, Any] = {"type": types.pop() if len(types) == 1 else str}
        if all(option.choices for option in options.values()):
            limits = {"choices": list(dict.fromkeys(c for option in options.values() for c in option.choices))}
        groups[title].add_argument(_flag(name), default=None, help=text.replace("%", "%%"), **limits)
    return list(owners)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _draw(values: Any, changes: dict[str, Any]) -> str:
    """Sample, write the files and return what to tell the user."""
    keep_inputs({"--output": values.output, "--grid": values.grid}, Path(values.model).glob("**/*"))
    model = load(values.model, weights=values.weights, device=values.device)
    _check_files(values, model.vocabulary)
    settings: dict[str, Any] = {"seed": values.seed, "batch_size": values.batch_size}
    settings["sampler"] = _sampler(model.generator, values.model, changes)
    if isinstance(model, MoleculeGenerator):
        settings["repair"] = values.repair
    device = torch.device(values.device).type
    with torch.autocast(device, torch.bfloat16, enabled=values.precision == "bfloat16"):
        drawn = model.sample(values.count, **settings)
    _write(drawn, model.vocabulary, values, {"sampled": {"generator": model.generator.kind, "seed": values.seed}})
    cost = f"{drawn.seconds:.1f} s, {drawn.evaluations:.4g} network calls each"
    told = [f"{values.output}: {values.count:,} samples in {cost}"]
    if drawn.path_consistent is not None:
        told.append(f"path consistency: {drawn.path_consistent:.1%} have the block order they were drawn in")
    told += _redraws(drawn.graphs)
    if getattr(settings["sampler"] or getattr(model.generator.config, "sampler", None), "valence", False):
        told.append("valence: nodes took no more bonds than their type did in training")
    if isinstance(drawn, Samples) and values.repair != "none":
        told.append(f"repair {values.repair!r} changed {drawn.repaired:,} of {values.count:,} samples")
    if values.grid:
        told.append(f"picture: {values.grid}")
    return "\n".join(told)


def _sampler(generator: GraphGenerator, path: str, changes: dict[str, Any]) -> Any:
    """Return the model's sampler with ``changes``; None if it has none."""
    kind = generator.sampler_class()
    options = {} if kind is None else options_of(kind)
    foreign = [_flag(name) for name in changes if name not in options]
    if foreign:
        usable = ", ".join(_flag(name) for name in options) or "no sampler settings"
        raise InputError(f"{path} is a {generator.kind} model, without {', '.join(foreign)}; it has {usable}")
    if kind is None:
        return None
    try:
        values = {name: options[name].type(value) for name, value in changes.items()}
    except ValueError as error:
        raise InputError(f"a sampler setting of {generator.kind} models has another type: {error}") from error
    return dataclasses.replace(generator.config.sampler, **values)


def _check_files(values: Any, vocabulary: Vocabulary) -> None:
    suffix = Path(values.output).suffix.lower()
    if vocabulary.scheme == "generic":
        if suffix not in (".g6", ".graphs"):
            raise InputError(f"{values.model} makes graphs, not molecules: write .g6 or .graphs, got {values.output!r}")
        if suffix == ".g6" and max(len(vocabulary.nodes), len(vocabulary.edges)) > 1:
            raise InputError(f"graph6 holds no node and edge types, which {values.model} makes; write .graphs")
        if values.repair != "none":
            raise InputError(f"--repair mends molecules, and {values.model} makes graphs; leave it out")
    elif suffix == ".g6":
        raise InputError(f"graph6 holds no atoms; write molecules as SMILES (.smi) or .graphs, got {values.output!r}")
    elif suffix == ".graphs" and values.repair != "none":
        raise InputError(
            "--repair mends SMILES, and a .graphs store holds graphs as drawn; write .smi, or leave it out"
        )
    pictures = (".svg",) if vocabulary.scheme == "generic" else (".png", ".svg")
    if values.grid and Path(values.grid).suffix.lower() not in pictures:
        raise InputError(f"--grid draws {' or '.join(pictures)} here, got {values.grid!r}")


def _write(drawn: GraphSamples, vocabulary: Vocabulary, values: Any, provenance: dict[str, Any]) -> None:
    if values.output.lower().endswith(".graphs"):
        GraphStore.from_graphs(drawn.graphs, vocabulary, provenance=provenance).save(values.output)
    elif isinstance(drawn, Samples):
        with atomic_path(values.output) as file:
            file.write_text("".join(f"{text}\n" for text in drawn.smiles))
    else:
        write_graphs(values.output, drawn.graphs)
    if not values.grid:
        return
    if isinstance(drawn, Samples):
        molecule_grid(drawn.smiles, values.grid)
    else:
        graph_grid(drawn.graphs, values.grid)


def _redraws(graphs: GraphBatch) -> list[str]:
    """Return a line on blocks that were drawn again and graphs begun anew, if there were any."""
    counts = [graphs.graph_columns.get(name) for name in ("redraws", "restarts")]
    totals = [int(c.sum()) if isinstance(c, Tensor) else 0 for c in counts]
    if not any(totals):
        return []
    return [
        f"drawn again: {totals[0] / graphs.num_graphs:.2f} blocks a graph; {totals[1]:,} times a graph was begun anew"
    ]
