"""A generator as a directory: ``config.json`` + ``model.safetensors`` (+ ``ema.safetensors``).

Data only: nothing in it is executed. Which class it is of, the registry knows.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import torch
from torch import Tensor, nn

from graphinv._files import atomic_directory, whole_directory
from graphinv.errors import CheckpointError, InputError
from graphinv.models.registry import generator_class, generator_kinds
from graphinv.models.settings import settings_from
from graphinv.pretrained import names, path_of

if TYPE_CHECKING:
    from graphinv.models.base import GraphGenerator

__all__ = ["FORMAT", "begin_from", "checkpoint_in", "load_checkpoint", "save_checkpoint", "write_checkpoint"]

FORMAT = 1
_FILES = ("config.json", "model.safetensors", "ema.safetensors")


def save_checkpoint(
    generator: GraphGenerator,
    directory: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    ema: Mapping[str, Tensor] | None,
) -> None:
    """Make or replace a checkpoint directory in one step; see ``GraphGenerator.save``."""
    folder = Path(directory)
    other = sorted(f.name for f in folder.iterdir() if f.name not in _FILES) if folder.is_dir() else []
    if other or (folder.exists() and not folder.is_dir()):
        raise InputError(
            f"{folder} is no checkpoint: it holds {', '.join(other[:3]) or 'a file'}; give a new directory"
        )
    with atomic_directory(folder) as temporary:
        write_checkpoint(generator, temporary, metadata, ema)


def write_checkpoint(
    generator: GraphGenerator, folder: Path, metadata: Mapping[str, Any], ema: Mapping[str, Tensor] | None
) -> None:
    """Write the files of a checkpoint into a folder that exists, such as one of ``atomic_directory``."""
    config = {
        "format": FORMAT,
        "generator": generator.kind,
        "config": dataclasses.asdict(generator.config),
        "metadata": dict(metadata),
    }
    try:
        text = json.dumps(config, indent=2)
    except (TypeError, ValueError) as error:
        raise InputError(f"metadata must be what JSON holds: {error}") from error
    (folder / "config.json").write_text(f"{text}\n")
    _save_weights(generator.state_dict(), folder / "model.safetensors")
    if ema is not None:
        _save_weights(ema, folder / "ema.safetensors")


def load_checkpoint(directory: str | os.PathLike[str], weights: str = "ema") -> tuple[GraphGenerator, dict[str, Any]]:
    """Return the generator and the metadata of a checkpoint directory; see ``GraphGenerator.load``."""
    if weights not in ("ema", "raw"):
        raise InputError(f"weights must be 'ema' or 'raw', got {weights!r}")
    folder = Path(directory)
    content = _read_json(folder / "config.json")
    kind = content.get("generator")
    if not isinstance(kind, str) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder}: expected format {FORMAT} of one of {', '.join(generator_kinds())}, "
            f"got format {content.get('format')} of {kind!r}; it may come from another version of graphinv"
        )
    try:
        cls = generator_class(kind)
    except InputError as error:
        raise CheckpointError(f"{folder} may come from another version of graphinv: {error}") from error
    generator = _build(cls, content.get("config"), folder)
    averaged = folder / "ema.safetensors"
    file = averaged if weights == "ema" and averaged.exists() else folder / "model.safetensors"
    _load_weights(generator, file)
    metadata = content.get("metadata", {})
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{folder / 'config.json'}: metadata must be an object, got {metadata!r}")
    return generator.eval(), metadata


def checkpoint_in(path: str | os.PathLike[str]) -> Path:
    """Return the best checkpoint of a run directory, its last one if there is no best, or the path itself.

    Where there is no such path, the name of a generator that comes with graphinv is taken (``graphinv.pretrained``).
    """
    if not Path(path).exists() and (shipped := path_of(os.fspath(path))) is not None:
        return shipped
    folders = (whole_directory(Path(path) / name) for name in ("best", "last"))
    return next((folder for folder in folders if folder.is_dir()), Path(path))


def begin_from(
    generator: GraphGenerator, path: str | os.PathLike[str], vocabulary: Mapping[str, Any] | None = None
) -> list[str]:
    """Give ``generator`` the averaged weights of a checkpoint; return the names of parameters that it lacks.

    Args:
        generator: as it would begin without.
        path: a run directory or a checkpoint.
        vocabulary: that of the data, as JSON; compared with that of the checkpoint where both are there.

    Raises:
        InputError: the checkpoint is of another kind or vocabulary, or a parameter of another shape.
        CheckpointError: it cannot be read.
    """
    directory = checkpoint_in(path)
    source, metadata = load_checkpoint(directory)
    before = metadata.get("vocabulary")
    if vocabulary is not None and before is not None and dict(vocabulary) != before:
        raise InputError(f"{directory} was trained with the vocabulary {before}, the data have {dict(vocabulary)}")
    if source.kind != generator.kind:
        raise InputError(f"{directory} holds a {source.kind}, not a {generator.kind}")
    weights, own = dict(source.named_parameters()), dict(generator.named_parameters())
    other = [name for name, p in weights.items() if name not in own or own[name].shape != p.shape]
    if other:
        raise InputError(
            f"{directory} has other shapes in {len(other)} parameters, such as {other[0]}: train with the same "
            f"settings of the model and the same vocabulary; its settings are {dataclasses.asdict(source.config)}"
        )
    with torch.no_grad():
        for name, p in weights.items():
            own[name].copy_(p)
    return [name for name in own if name not in weights]


def _build(cls: type[GraphGenerator], values: Any, folder: Path) -> GraphGenerator:
    known = {f.name for f in dataclasses.fields(cls.config_class)}
    if isinstance(values, dict):
        names = getattr(cls.config_class, "old_names", {})
        values = {names.get(name, name): value for name, value in values.items()}
    if not isinstance(values, dict) or not set(values) <= known:
        unknown = sorted(set(values) - set(known)) if isinstance(values, dict) else [type(values).__name__]
        raise CheckpointError(
            f"{folder / 'config.json'}: unknown configuration keys {unknown}; this version of graphinv knows "
            f"{sorted(known)}. Load it with the version that wrote it, or retrain"
        )
    try:
        config = settings_from(cls.config_class, values)
        _check_types(config)
        return cls(config)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder / 'config.json'} describes no model that can be built: {error}") from error


def _check_types(config: Any) -> None:
    """Raise TypeError where a number, a flag or a nested record of ``config`` is of another type."""
    kinds: dict[Any, Any] = {int: int, float: (int, float), bool: bool, str: str}
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        wanted = kinds.get(hint, hint if dataclasses.is_dataclass(hint) else object)
        if not isinstance(value, wanted) or (hint is not bool and isinstance(value, bool)):
            raise TypeError(f"{name} must be {hint.__name__}, got {value!r}")
        if dataclasses.is_dataclass(value):
            _check_types(value)


def _read_json(file: Path) -> dict[str, Any]:
    if not file.exists():
        raise CheckpointError(
            f"{file.parent} is not a checkpoint: it has no {file.name}; give the run directory, or the name of what "
            f"comes with graphinv: {', '.join(names()) or 'nothing'}"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"cannot read {file}: {error}; the checkpoint is damaged, take another one") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: expected a JSON object, got {type(content).__name__}")
    return content


def _save_weights(state: Mapping[str, Tensor], file: Path) -> None:
    from safetensors.torch import save

    # the library's own writer hides a full disk behind an error that is no OSError
    file.write_bytes(save({name: value.detach().cpu().contiguous() for name, value in state.items()}))


def _load_weights(model: nn.Module, file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read {file}: {error}; the checkpoint is damaged or incomplete") from error
    own = model.state_dict()
    unknown, missing = sorted(set(state) - set(own)), sorted(set(own) - set(state))
    shapes = [
        f"{k}: {list(state[k].shape)} in the file, {list(own[k].shape)} in the model"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    if unknown or missing or shapes:
        raise CheckpointError(
            f"{file} does not fit its config.json: unknown {unknown[:5]}, missing {missing[:5]}, other shapes "
            f"{shapes[:5]}; the two files come from different models, or from a version of graphinv that builds this "
            "model otherwise: load it with that version, or train again"
        )
    model.load_state_dict(state)
