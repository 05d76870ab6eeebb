"""What a chemist types: load a trained model, draw molecules or graphs.

``load`` returns a trained generator with the labels of its training data. Molecules come out as generated: what cannot
be one is an invalid SMILES, not a missing line, and a repair is asked for and counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from graphinv.data import Vocabulary
from graphinv.errors import CheckpointError, InputError, warn_old_name
from graphinv.graphs import GraphBatch
from graphinv.models import Callback, GraphGenerator
from graphinv.models.checkpoint import checkpoint_in
from graphinv.mol import MoleculeCodec, repair_smiles

__all__ = [
    "GraphSamples",
    "MoleculeGenerator",
    "Repair",
    "Samples",
    "TrainedGenerator",
    "load",
    "load_generator",
    "sample_graphs",
]

Repair = Literal["none", "charges", "valence"]


@dataclass(frozen=True)
class GraphSamples:
    """Graphs that were drawn, and what they cost.

    Attributes:
        graphs: the samples.
        seconds: wall-clock time of the drawing.
        evaluations: mean number of network calls per graph; two networks at one step are two calls.
        path_consistent: share of graphs whose own order is the one they were drawn in; None for models without one.
    """

    graphs: GraphBatch
    seconds: float
    evaluations: float
    path_consistent: float | None


@dataclass(frozen=True)
class Samples(GraphSamples):
    """What ``MoleculeGenerator.sample`` returns: ``graphs`` are before any repair.

    Attributes:
        smiles: one text per sample; canonical where it is a molecule, "" for no atoms at all.
        repaired: samples that the repair changed.
    """

    smiles: list[str]
    repaired: int


class TrainedGenerator:
    """A graph generator and the labels of its training data; ``MoleculeGenerator`` where these are atoms and bonds.

    Args:
        generator: the graph generator.
        vocabulary: labels of its node and edge types.
        metadata: what the checkpoint carried.

    Example:
        >>> from graphinv.models import GDSS, GDSSConfig
        >>> untrained = TrainedGenerator(GDSS(GDSSConfig(node_input="degree")), Vocabulary(("0",), ("1",), "generic"))
        >>> untrained.sample(2, num_nodes=[3, 9], steps=2).graphs.node_counts().tolist()
        [3, 9]
    """

    def __init__(
        self, generator: GraphGenerator, vocabulary: Vocabulary, metadata: dict[str, Any] | None = None
    ) -> None:
        self.generator, self.vocabulary, self.metadata = generator, vocabulary, metadata or {}

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        num_nodes: Sequence[int] | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        progress: bool = True,
        **settings: Any,
    ) -> GraphSamples:
        """Draw n graphs.

        Args:
            n: how many.
            seed: graph k depends on (seed, k) only, not on n or the batch size.
            num_nodes: ``[n]`` nodes of each; as the model likes if None.
            steps: steps of the sampler; the model's own if None.
            batch_size: graphs per network call; the model's own if None.
            progress: show a bar.
            settings: further arguments of the generator's ``sample``, such as ``sampler``.
        """
        return sample_graphs(
            self.generator,
            n,
            seed=seed,
            num_nodes=num_nodes,
            steps=steps,
            batch_size=batch_size,
            progress=progress,
            **settings,
        )


class MoleculeGenerator(TrainedGenerator):
    """A trained graph generator and the codec of its training data.

    Args:
        generator: the graph generator.
        codec: vocabulary of its node and edge types.
        metadata: what the checkpoint carried.

    Example:
        >>> from graphinv.models import GDSS, GDSSConfig
        >>> codec = MoleculeCodec(Vocabulary(("C", "N", "O", "F"), ("single", "double", "triple"), "element"))
        >>> untrained = MoleculeGenerator(GDSS(GDSSConfig()), codec)
        >>> len(untrained.sample(3, num_nodes=[1, 4, 9], steps=2).smiles)
        3
    """

    def __init__(self, generator: GraphGenerator, codec: MoleculeCodec, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(generator, codec.vocabulary, metadata)
        self.codec = codec

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, weights: str = "ema", device: str = "cpu") -> MoleculeGenerator:
        """Load a model of molecules, as ``graphinv.load`` does.

        Raises:
            CheckpointError: it is damaged, or was not trained on molecules.
            InputError: the device is not there.
        """
        model = load(path, weights=weights, device=device)
        if not isinstance(model, cls):
            raise CheckpointError(
                f"{path} was not trained on molecules (its vocabulary is generic); draw graphs from it with "
                "graphinv.load, or `graphinv sample`"
            )
        return model

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        num_nodes: Sequence[int] | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        progress: bool = True,
        repair: Repair = "none",
        num_atoms: Sequence[int] | None = None,
        **settings: Any,
    ) -> Samples:
        """Draw n molecules; arguments as in ``TrainedGenerator.sample``, and these.

        Args:
            num_nodes: ``[n]`` atoms of each, hydrogens counted if they are nodes; as the model likes if None.
            repair: "none"; "charges" gives N, O and S with one bond too many a charge of +1; "valence" also lowers
                bonds until every atom is in its valence, and keeps the largest fragment. Counted in ``repaired``.
            num_atoms: the old name of ``num_nodes``.
        """
        if num_atoms is not None:
            warn_old_name("num_atoms", "num_nodes")
            num_nodes = num_atoms
        drawn = super().sample(
            n,
            seed=seed,
            num_nodes=num_nodes,
            steps=steps,
            batch_size=batch_size,
            progress=progress,
            **settings,
        )
        smiles, repaired = self._decode(drawn.graphs, repair)
        return Samples(**vars(drawn), smiles=smiles, repaired=repaired)

    def _decode(self, graphs: GraphBatch, repair: Repair) -> tuple[list[str], int]:
        smiles = self.codec.decode(graphs)
        if repair == "none":
            return smiles, 0
        fixed = [repair_smiles(text, repair) for text in smiles]
        return fixed, sum(a != b for a, b in zip(smiles, fixed, strict=True))


def load(path: str | os.PathLike[str], *, weights: str = "ema", device: str = "cpu") -> TrainedGenerator:
    """Load a run directory (its best checkpoint, else its last) or a checkpoint directory.

    Args:
        path: the directory.
        weights: "ema" (averaged, where the checkpoint has them) or "raw".
        device: where to put the model.

    Returns:
        a ``MoleculeGenerator``, or a ``TrainedGenerator`` of graphs that are no molecules; both ``.sample(n, seed=0)``.

    Raises:
        CheckpointError: it is neither, it is damaged, or it does not say what its node and edge types are.
        InputError: the device is not there.

    Example:
        >>> import tempfile
        >>> from graphinv.models import GDSS, GDSSConfig
        >>> labels = Vocabulary(("C", "N", "O", "F"), ("single", "double", "triple"), "element")
        >>> folder = tempfile.mkdtemp() + "/untrained"
        >>> GDSS(GDSSConfig()).save(folder, metadata={"vocabulary": labels.to_json()})
        >>> len(load(folder).sample(2, num_nodes=[3, 4], steps=2).smiles)
        2
    """
    folder = checkpoint_in(path)
    generator, metadata = GraphGenerator.load(folder, weights=weights)
    labels = metadata.get("vocabulary")
    if not isinstance(labels, dict):
        raise CheckpointError(
            f"{folder} carries no vocabulary of its node and edge types, as training writes it; "
            "draw graphs from it with graphinv.GraphGenerator.load(...)[0].sample(...)"
        )
    generator, vocabulary = _on_device(generator, device), Vocabulary.from_json(labels)
    if vocabulary.scheme == "generic":
        return TrainedGenerator(generator, vocabulary, metadata)
    return MoleculeGenerator(generator, MoleculeCodec(vocabulary), metadata)


def load_generator(
    path: str | os.PathLike[str], *, weights: str = "ema", device: str = "cpu"
) -> tuple[GraphGenerator, Vocabulary, dict[str, Any]]:
    """Return what ``load`` does in three parts: the generator, the vocabulary, the metadata; the old name."""
    warn_old_name("load_generator", "graphinv.load")
    model = load(path, weights=weights, device=device)
    return model.generator, model.vocabulary, model.metadata


def sample_graphs(generator: GraphGenerator, n: int, *, progress: bool = True, **settings: Any) -> GraphSamples:
    """Draw n graphs and say what they cost; ``settings`` are further arguments of ``generator.sample``, such as seed.

    Example:
        >>> from graphinv.models import PARD, PARDConfig
        >>> model = PARD(PARDConfig(node_types=1, edge_types=1, node_dim=16, edge_dim=8, layers=1, heads=2))
        >>> sample_graphs(model, 2, num_nodes=[3, 9], steps=4).graphs.node_counts().tolist()
        [3, 9]
    """
    start = time.perf_counter()
    with _bar(n, progress) as tick, _count_calls(generator) as calls:
        graphs = generator.sample(n, callback=tick, **settings)
    seconds = time.perf_counter() - start
    consistent = generator.path_consistency(graphs) if n else None
    share = None if consistent is None else float(consistent.double().mean())
    return GraphSamples(graphs, seconds, calls[0] / max(n, 1), share)


def _on_device(generator: GraphGenerator, device: str) -> GraphGenerator:
    if device.partition(":")[0] == "mps":
        raise InputError(f"cannot use the device {device!r}: MPS has no float64, which sampling needs; use cpu")
    try:
        return generator.to(torch.empty(0, device=device).device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"cannot use the device {device!r} here: {error}") from error


@contextmanager
def _bar(n: int, progress: bool) -> Iterator[Callback]:
    with tqdm(desc=f"sampling {n:,} graphs", delay=1.0, disable=None if progress else True) as bar:

        def tick(done: int, total: int, unit: str) -> None:
            bar.unit, bar.total = f" {unit}", total
            bar.update(done - bar.n)

        yield tick


@contextmanager
def _count_calls(generator: GraphGenerator) -> Iterator[list[int]]:
    """Count calls of each graph, whatever the batch it is in."""
    calls = [0]

    def count(_: Any, inputs: tuple[Any, ...]) -> None:
        calls[0] += len(inputs[0] if isinstance(inputs[0], Tensor) else inputs[0].mask)

    hooks = [network.register_forward_pre_hook(count) for network in generator.evaluated()]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
