"""What every generator of graphs offers: a loss, samples, and a checkpoint directory.

A checkpoint is ``config.json`` + ``model.safetensors`` (+ ``ema.safetensors``): data only, nothing in it is executed.
A generator makes graphs; turning them into molecules is the pipeline's work.
"""

from __future__ import annotations

import dataclasses
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

import torch
from torch import Tensor, nn

from graphinv.data import GraphStore
from graphinv.errors import CheckpointError, InputError
from graphinv.graphs import GraphBatch

__all__ = ["FORMAT", "GraphGenerator", "ReadyBatch", "evaluation"]

FORMAT = 1
Generator = TypeVar("Generator", bound="GraphGenerator")
Ready = TypeVar("Ready")
_KINDS = {"gdss": "graphinv.models.gdss.model:GDSS", "pard": "graphinv.models.pard.model:PARD"}


class ReadyBatch(Protocol):
    """Graphs padded as a generator computes on them: ``mask`` ``[B, M]`` and whatever else it needs."""

    @property
    def mask(self) -> Tensor:
        """``[B, M]`` bool, True for a node that exists."""
        ...

    def to(self, device: torch.device | str) -> ReadyBatch:
        """Return the graphs on ``device``."""
        ...


class GraphGenerator(nn.Module, ABC):
    """Base of all generators.

    Attributes:
        kind: name in checkpoints and at the command line.
        config: frozen dataclass from which the generator is built.
        node_histogram: ``[max_nodes + 1]`` int64, how many training graphs have n nodes; samples draw n from it.
    """

    kind: ClassVar[str]
    config_class: ClassVar[type[Any]]
    node_histogram: Tensor

    def __init__(self, config: Any, max_nodes: int) -> None:
        super().__init__()
        self.config = config
        self.max_nodes = max_nodes
        self.register_buffer("node_histogram", torch.zeros(max_nodes + 1, dtype=torch.long))

    @classmethod
    def seeded(cls: type[Generator], config: Any, seed: int) -> Generator:
        """Build a generator whose initial weights depend on ``seed`` only; the global random state stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)  # type: ignore[call-arg]

    @abstractmethod
    def ready(self, batch: GraphBatch) -> ReadyBatch:
        """Return ``batch`` checked and padded, for ``losses``: all that looks at values, which on a GPU would wait.

        Raises:
            InputError: a graph does not fit the model.
        """

    @abstractmethod
    def losses(self, batch: GraphBatch | ReadyBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the named parts ``[]`` of the loss of a batch; one network's part never moves another's weights.

        On a GPU nothing waits if ``batch`` was made by ``ready`` on the CPU and then moved.
        """

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """Return the networks by name; gradients are clipped for each by itself."""

    def evaluated(self) -> list[nn.Module]:
        """Return the modules whose calls are the cost of sampling; their first argument holds a batch of graphs."""
        return list(self.networks().values())

    @abstractmethod
    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        num_nodes: Tensor | None = None,
        steps: int | None = None,
        batch_size: int = 1024,
        callback: Callable[[int, int, Any], None] | None = None,
    ) -> GraphBatch:
        """Draw n graphs; graph k depends on (seed, k) only, not on n or the batch size."""

    def made_ready(self, batch: GraphBatch | ReadyBatch, kind: type[Ready]) -> Ready:
        """Return ``batch``, made ready unless it is.

        Raises:
            InputError: it was made ready by another kind of model.
        """
        given = self.ready(batch) if isinstance(batch, GraphBatch) else batch
        if not isinstance(given, kind):
            raise InputError(
                f"a {self.kind} model computes on {kind.__name__}, got {type(given).__name__}; pass a GraphBatch, or "
                "what this model's ready() returns"
            )
        return given

    def loss(self, batch: GraphBatch | ReadyBatch, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss ``[]`` of a batch, the sum of its parts."""
        return torch.stack(list(self.losses(batch, generator).values())).sum()

    def prepare(self, store: GraphStore, *, progress: bool = True) -> GraphStore:
        """Check that the model fits the store, keep what sampling needs of it, and return the store to train on.

        Raises:
            InputError: the store has no training graphs, larger ones than the model allows, or another vocabulary.
        """
        if not store.indices("train").numel():
            raise InputError("the store has no training graphs; build it with a split that has some: --split none")
        self.fit_node_counts(store.node_histogram("train"))
        return store

    def fit_node_counts(self, histogram: Tensor) -> None:
        """Keep how many training graphs have n = 0, 1, .. nodes, ``[K]`` integer.

        Raises:
            InputError: a graph is larger than the model allows, or the histogram is empty.
        """
        histogram = histogram.to(torch.long)
        large = int(histogram[self.max_nodes + 1 :].sum())
        if int(histogram.sum()) == 0:
            raise InputError("there are no graphs to take node counts from; give a histogram of the training split")
        if large:
            raise InputError(
                f"{large} of {int(histogram.sum())} training graphs have more than max_nodes = {self.max_nodes} nodes; "
                "raise max_nodes or build the store with a smaller limit"
            )
        self.node_histogram.zero_()
        kept = histogram[: self.max_nodes + 1]
        self.node_histogram[: kept.numel()] = kept

    def draw_node_counts(self, n: int, seed: int) -> Tensor:
        """Draw ``[n]`` node counts from the training histogram; the first k do not depend on n."""
        if int(self.node_histogram.sum()) == 0:
            raise InputError("this model holds no node counts: train it first, or pass num_nodes")
        weights = self.node_histogram.to("cpu", torch.float64)
        uniform = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return torch.searchsorted((weights / weights.sum()).cumsum(0), uniform, right=True).clamp(max=self.max_nodes)

    def save(
        self, directory: str | os.PathLike[str], *, metadata: dict[str, Any], ema: dict[str, Tensor] | None = None
    ) -> None:
        """Write the checkpoint files into an existing ``directory`` (see ``graphinv._files.atomic_directory``)."""
        folder = Path(directory)
        config = {
            "format": FORMAT,
            "generator": self.kind,
            "config": dataclasses.asdict(self.config),
            "metadata": metadata,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        _save_weights(self.state_dict(), folder / "model.safetensors")
        if ema is not None:
            _save_weights(ema, folder / "ema.safetensors")

    @staticmethod
    def load(directory: str | os.PathLike[str], *, weights: str = "ema") -> tuple[GraphGenerator, dict[str, Any]]:
        """Read a checkpoint directory; return the generator in eval mode and the metadata it was saved with.

        Args:
            directory: holds config.json and model.safetensors.
            weights: "ema" (averaged weights where the checkpoint has them) or "raw".

        Raises:
            CheckpointError: a file is missing or unreadable, a key is unknown or missing, or a shape differs.
            InputError: ``weights`` is neither.
        """
        if weights not in ("ema", "raw"):
            raise InputError(f"weights must be 'ema' or 'raw', got {weights!r}")
        folder = Path(directory)
        content = _read_json(folder / "config.json")
        kind = content.get("generator")
        if not isinstance(kind, str) or kind not in _KINDS or content.get("format") != FORMAT:
            raise CheckpointError(
                f"{folder}: expected format {FORMAT} of one of {sorted(_KINDS)}, "
                f"got format {content.get('format')} of {kind!r}; it may come from another version of graphinv"
            )
        module, name = _KINDS[kind].split(":")
        cls = getattr(import_module(module), name)
        generator = _build(cls, content.get("config"), folder)
        averaged = folder / "ema.safetensors"
        file = averaged if weights == "ema" and averaged.exists() else folder / "model.safetensors"
        _load_weights(generator, file)
        metadata = content.get("metadata", {})
        if not isinstance(metadata, dict):
            raise CheckpointError(f"{folder / 'config.json'}: metadata must be an object, got {metadata!r}")
        return generator.eval(), metadata


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in eval mode for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _build(cls: type[GraphGenerator], values: Any, folder: Path) -> GraphGenerator:
    known = {f.name for f in dataclasses.fields(cls.config_class)}
    if not isinstance(values, dict) or not set(values) <= known:
        unknown = sorted(set(values) - set(known)) if isinstance(values, dict) else [type(values).__name__]
        raise CheckpointError(
            f"{folder / 'config.json'}: unknown configuration keys {unknown}; this version of graphinv knows "
            f"{sorted(known)}. Load it with the version that wrote it, or retrain"
        )
    try:
        config = cls.config_class(**values)
        _check_types(config)
        return cls(config)  # type: ignore[call-arg]
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
        raise CheckpointError(f"{file.parent} is not a checkpoint: it has no {file.name}; give the run directory")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"cannot read {file}: {error}; the checkpoint is damaged, take another one") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: expected a JSON object, got {type(content).__name__}")
    return content


def _save_weights(state: dict[str, Tensor], file: Path) -> None:
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
            f"{shapes[:5]}; the two files come from different models"
        )
    model.load_state_dict(state)
