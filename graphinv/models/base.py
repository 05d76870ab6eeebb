"""What every generator of graphs offers: a loss, samples, a checkpoint directory, and a description of itself.

A subclass says what it is (``kind``, ``config_class``), what it trains (``networks``, ``pad``, ``losses``) and how it
draws a batch of graphs (``draw``); checks, batches, keys and callbacks of sampling are here, once. A generator makes
graphs; turning them into molecules is the pipeline's work.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

import torch
from torch import Tensor, nn

from graphinv.data import GraphStore
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.models.checkpoint import load_checkpoint, save_checkpoint
from graphinv.models.settings import Preset

__all__ = ["Callback", "GraphGenerator", "PaddedBatch", "SampleRequest", "evaluation"]

Callback = Callable[[int, int, str], None]
"""Called as ``callback(done, total, unit)``; done never falls, total stays, unit is such as "steps" or "graphs"."""

Generator = TypeVar("Generator", bound="GraphGenerator")
Padded = TypeVar("Padded")


class PaddedBatch(Protocol):
    """Graphs padded as a generator computes on them: ``mask`` ``[B, M]`` and whatever else it needs."""

    @property
    def mask(self) -> Tensor:
        """``[B, M]`` bool, True for a node that exists."""
        ...

    def to(self, device: torch.device | str) -> PaddedBatch:
        """Return the graphs on ``device``."""
        ...


@dataclass(frozen=True)
class SampleRequest:
    """The graphs that ``GraphGenerator.draw`` is asked for, checked.

    Attributes:
        ids: ``[b]`` int64 numbers of the graphs in the whole sample.
        seed: of the sample.
        counts: ``[b]`` int64 nodes of each graph; None where the model decides (``draws_sizes``).
        sampler: settings; None where the configuration has none.
        batch_size: graphs per network call.
        tick: to be called as ``tick(done, total, unit)`` while this request is worked on.
    """

    ids: Tensor
    seed: int
    counts: Tensor | None
    sampler: Any
    batch_size: int
    tick: Callback

    @property
    def keys(self) -> Tensor:
        """``[b]`` int64, one per graph, for ``graphinv.noise.PerGraphNoise``: of (seed, number) only."""
        return self.ids + (self.seed << 32)

    def step(self, done: int, total: int, state: Any) -> None:
        """Tell of a step of a solver; the callback of ``graphinv.diffusion.integrate``."""
        self.tick(done, total, "steps")


class GraphGenerator(nn.Module, ABC):
    """Base of all generators; ``graphinv.models.register`` makes one known.

    Attributes:
        kind: name in checkpoints and at the command line.
        config_class: frozen dataclass of its settings; a field ``sampler``, itself one, says how samples are drawn.
        description: one paragraph for the command line; the first of the docstring unless it is set.
        presets: settings by name, such as those of a data set.
        training_defaults: fields of ``graphinv.TrainConfig`` that differ from its own where no preset is asked for.
        default_batch_size: graphs per network call of ``sample``.
        draws_sizes: the model itself decides how many nodes a graph has, unless it is told.
        any_size: it can draw graphs larger than ``max_nodes``.
        config: what the generator was built from.
        node_histogram: ``[max_nodes + 1]`` int64, how many training graphs have n nodes; samples draw n from it.
    """

    kind: ClassVar[str]
    config_class: ClassVar[type[Any]]
    description: ClassVar[str] = ""
    presets: ClassVar[Mapping[str, Preset]] = {}
    training_defaults: ClassVar[Mapping[str, Any]] = {}
    default_batch_size: ClassVar[int] = 1024
    draws_sizes: ClassVar[bool] = False
    any_size: ClassVar[bool] = False
    node_histogram: Tensor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "description" not in vars(cls):
            cls.description = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())

    def __init__(self, config: Any, max_nodes: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.max_nodes: int = config.max_nodes if max_nodes is None else max_nodes
        self.register_buffer("node_histogram", torch.zeros(self.max_nodes + 1, dtype=torch.long))

    @classmethod
    def seeded(cls: type[Generator], config: Any, seed: int) -> Generator:
        """Build a generator whose initial weights depend on ``seed`` only; the global random state stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    @classmethod
    def preset(cls: type[Generator], name: str, *, seed: int = 0, **changes: Any) -> Generator:
        """Return an untrained model with the settings of a preset.

        Args:
            name: one of ``presets``, in any case.
            seed: of the initial weights.
            changes: fields of the configuration to replace.

        Raises:
            InputError: there is none of that name.

        Example:
            >>> from graphinv.models import GDSS
            >>> GDSS.preset("qm9", max_nodes=7).config.max_nodes
            7
        """
        return cls.seeded(dataclasses.replace(cls.preset_settings(name).model, **changes), seed)

    @classmethod
    def preset_settings(cls, name: str) -> Preset:
        """Return the preset of that name, in any case: the configuration of the model and of its training.

        Raises:
            InputError: there is none of that name.

        Example:
            >>> from graphinv.models import PARD
            >>> PARD.preset_settings("planar").training["batch_size"]
            6
        """
        known = {key.lower(): preset for key, preset in cls.presets.items()}
        if name.lower() not in known:
            raise InputError(f"unknown preset {name!r} of {cls.kind}; available: {', '.join(cls.presets) or 'none'}")
        return known[name.lower()]

    @classmethod
    def preset_for(cls, store: GraphStore) -> str | None:
        """Return the preset to train with on a store if none is asked for; None for the defaults.

        Example:
            >>> from graphinv.models import PARD
            >>> from graphinv.testing import random_graphs
            >>> PARD.preset_for(GraphStore.from_graphs(random_graphs(5, min_nodes=20, max_nodes=20)))
            'tokens'
        """
        return None

    @classmethod
    def config_for(cls, store: GraphStore) -> dict[str, Any]:
        """Return the fields of the configuration that are read off a store: sizes and types, where it has them.

        Example:
            >>> from graphinv.models import PARD
            >>> from graphinv.testing import random_graphs
            >>> PARD.config_for(GraphStore.from_graphs(random_graphs(9, max_nodes=5, node_types=4)))
            {'max_nodes': 5, 'node_types': 4, 'edge_types': 3}
        """
        values = {
            "max_nodes": max(1, store.node_histogram("all").numel() - 1),
            "node_types": len(store.vocabulary.nodes),
            "edge_types": len(store.vocabulary.edges),
        }
        fields = {f.name for f in dataclasses.fields(cls.config_class)}
        return {name: value for name, value in values.items() if name in fields}

    @classmethod
    def sampler_class(cls) -> type[Any] | None:
        """Return the dataclass that says how samples are drawn; None if the configuration has no ``sampler``."""
        sampler: type[Any] | None = get_type_hints(cls.config_class).get("sampler")
        return sampler

    @abstractmethod
    def pad(self, batch: GraphBatch) -> PaddedBatch:
        """Return ``batch`` checked and padded, for ``losses``: all that looks at values, which on a GPU would wait.

        Raises:
            InputError: a graph does not fit the model.
        """

    @abstractmethod
    def losses(self, batch: GraphBatch | PaddedBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the named parts ``[]`` of the loss of a batch; one network's part never moves another's weights.

        On a GPU nothing waits if ``batch`` was made by ``pad`` on the CPU and then moved.
        """

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """Return the networks by name; gradients are clipped for each by itself."""

    @abstractmethod
    def draw(self, request: SampleRequest) -> GraphBatch:
        """Return the graphs of ``request`` on the CPU, in its order; further keyword arguments are those of ``sample``.

        A graph's draws depend on its key only, so that graph k of a sample is the same in every batch.
        """

    def evaluated(self) -> list[nn.Module]:
        """Return the modules whose calls are the cost of sampling; their first argument holds a batch of graphs."""
        return list(self.networks().values())

    def batches(self, n: int, counts: Tensor | None, request: SampleRequest) -> list[Tensor]:
        """Return the numbers ``[b]`` of the graphs that each call of ``draw`` gets, all n of them together.

        The default sorts graphs by ``counts`` ``[n]`` into batches of ``batch_size``, so that little is padded.
        """
        order = torch.arange(n) if counts is None else torch.argsort(counts, stable=True)
        return [order[k : k + request.batch_size] for k in range(0, n, request.batch_size)]

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        num_nodes: Tensor | Sequence[int] | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        callback: Callback | None = None,
        sampler: Any = None,
        **options: Any,
    ) -> GraphBatch:
        """Draw n graphs; graph k depends on (seed, k) only, up to floating-point rounding.

        Args:
            n: graphs to draw.
            seed: 0 .. 2^31 - 1.
            num_nodes: ``[n]`` node counts to keep to; drawn as in training, or by the model, if None.
            steps: steps of the sampler, overriding its own.
            batch_size: graphs per network call; ``default_batch_size`` if None.
            callback: called as ``callback(done, total, unit)`` while graphs are drawn; unit is "steps" or "graphs".
            sampler: settings, of ``sampler_class()``; the model's own if None.
            options: what ``draw`` of this kind of model takes besides.

        Raises:
            InputError: an argument is out of range, the model was not trained, or memory does not suffice.
        """
        size = self.default_batch_size if batch_size is None else batch_size
        if n < 0 or size < 1:
            raise InputError(f"expected n >= 0 and batch_size >= 1, got {n} and {size}")
        if not 0 <= seed < 2**31:
            raise InputError(f"seed must be in 0..{2**31 - 1}, got {seed}")
        counts = self._counts(n, seed, num_nodes)
        progress = _Progress(callback)
        whole = SampleRequest(torch.arange(n), seed, counts, self._sampler(sampler, steps), size, progress.tick)
        batches = self.batches(n, counts, whole)
        parts: list[GraphBatch] = []
        with evaluation(self):
            for ids in batches:
                progress.start(len(parts), len(batches))
                part = dataclasses.replace(whole, ids=ids, counts=None if counts is None else counts[ids])
                parts.append(self._draw(part, options))
                progress.end(sum(part.num_graphs for part in parts), n)
        if not parts:
            return _no_graphs()
        return GraphBatch.from_graphs(parts).select(torch.argsort(torch.cat(batches)))

    def _draw(self, request: SampleRequest, options: Mapping[str, Any]) -> GraphBatch:
        try:
            return self.draw(request, **options)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
                raise
            raise InputError(
                f"memory does not suffice for batch_size = {request.batch_size} graphs per network call on "
                f"{self.node_histogram.device}; give a smaller one"
            ) from error

    def _counts(self, n: int, seed: int, num_nodes: Tensor | Sequence[int] | None) -> Tensor | None:
        """Return ``[n]`` node counts, those asked for or drawn; None where the model decides."""
        if num_nodes is None:
            return None if self.draws_sizes else self.draw_node_counts(n, seed)
        counts = torch.as_tensor(num_nodes, device="cpu")
        if n == 0 and counts.numel() == 0:
            counts = counts.long()
        if counts.shape != (n,) or counts.is_floating_point() or (n and int(counts.min()) < 0):
            raise InputError(f"num_nodes must be [{n}] integer counts >= 0, got {counts.dtype} {list(counts.shape)}")
        if n and not self.any_size and int(counts.max()) > self.max_nodes:
            raise InputError(f"num_nodes goes up to {int(counts.max())}, this model makes up to {self.max_nodes} nodes")
        return counts.to(torch.long)

    def _sampler(self, sampler: Any, steps: int | None) -> Any:
        """Return the settings of a sampler, the model's own if None, with ``steps`` steps unless that is None."""
        kind = self.sampler_class()
        if kind is None and (sampler is not None or steps is not None):
            raise InputError(f"a {self.kind} model has no sampler to set; leave sampler and steps out")
        if sampler is not None and kind is not None and not isinstance(sampler, kind):
            raise InputError(f"the sampler of a {self.kind} model is a {kind.__name__}, got {type(sampler).__name__}")
        own = self.config.sampler if sampler is None and kind is not None else sampler
        return own if steps is None else dataclasses.replace(own, steps=steps)

    def path_consistency(self, batch: GraphBatch) -> Tensor | None:
        """Return ``[B]`` bool: whether each drawn graph's own order is the one it was generated in.

        None for a model that generates in no order, as most.
        """
        return None

    def to_padded(self, batch: GraphBatch | PaddedBatch, kind: type[Padded]) -> Padded:
        """Return ``batch``, padded unless it is.

        Raises:
            InputError: it was padded by another kind of model.
        """
        own = self.pad(batch) if isinstance(batch, GraphBatch) else batch
        if not isinstance(own, kind):
            raise InputError(
                f"a {self.kind} model computes on {kind.__name__}, got {type(own).__name__}; pass a GraphBatch, or "
                "what this model's pad() returns"
            )
        return own

    def loss(self, batch: GraphBatch | PaddedBatch, generator: torch.Generator | None = None) -> Tensor:
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
        self,
        directory: str | os.PathLike[str],
        *,
        metadata: Mapping[str, Any] | None = None,
        ema: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a checkpoint directory in one step; a checkpoint that stands there is replaced.

        Args:
            directory: made with its parents where they do not exist.
            metadata: anything that JSON holds; ``load`` returns it.
            ema: averaged weights by name, beside the generator's own.

        Raises:
            InputError: the directory holds other files, or the disk refuses the write; nothing is changed then.

        Example:
            >>> import tempfile
            >>> from graphinv.models import GDSS, GDSSConfig
            >>> folder = tempfile.mkdtemp() + "/runs/new"
            >>> GDSS(GDSSConfig()).save(folder, metadata={"note": "untrained"})
            >>> GraphGenerator.load(folder)[1]
            {'note': 'untrained'}
        """
        save_checkpoint(self, directory, metadata or {}, ema)

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
        return load_checkpoint(directory, weights)


class _Progress:
    """Tells a callback of all batches what ``draw`` tells of one; of finished batches where it tells nothing."""

    def __init__(self, callback: Callback | None) -> None:
        self.callback, self.part, self.parts, self.told = callback, 0, 1, False

    def start(self, part: int, parts: int) -> None:
        self.part, self.parts = part, parts

    def tick(self, done: int, total: int, unit: str) -> None:
        self.told = True
        if self.callback is not None:
            self.callback(self.part * total + done, self.parts * total, unit)

    def end(self, done: int, total: int) -> None:
        if self.callback is not None and not self.told:
            self.callback(done, total, "graphs")


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in eval mode for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _no_graphs() -> GraphBatch:
    empty = torch.zeros(0, dtype=torch.long)
    return GraphBatch(empty, empty.reshape(2, 0), empty, empty.new_zeros(1), empty.new_zeros(1))
