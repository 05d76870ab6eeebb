"""What a chemist types: load a trained model, draw molecules, judge them.

A ``MoleculeGenerator`` binds a graph generator to the codec it was trained with. Molecules come out as generated:
what cannot be one is an invalid SMILES, not a missing line, and a repair is asked for and counted. Graphs without
labels are drawn by ``load_generator`` and ``sample_graphs``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from graphinv.data import Vocabulary
from graphinv.errors import CheckpointError, InputError
from graphinv.graphs import GraphBatch
from graphinv.models import PARD, GraphGenerator
from graphinv.mol import MoleculeCodec, repair_smiles

__all__ = [
    "GraphSamples",
    "MoleculeGenerator",
    "Repair",
    "Samples",
    "load_generator",
    "sample_graphs",
]

Repair = Literal["none", "charges", "valence"]


@dataclass(frozen=True)
class GraphSamples:
    """What ``sample_graphs`` returns.

    Attributes:
        graphs: the samples.
        seconds: wall-clock time of the drawing.
        evaluations: mean number of network calls per graph; two networks at one step are two calls.
        path_consistent: share of graphs whose own block order is the one they were drawn in; None if not of PARD.
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


class MoleculeGenerator:
    """A trained graph generator and the codec of its training data.

    Args:
        generator: the graph generator.
        codec: vocabulary of its node and edge types.
        metadata: what the checkpoint carried.

    Example:
        >>> from graphinv.models import GDSS, GDSSConfig
        >>> codec = MoleculeCodec(Vocabulary(("C", "N", "O", "F"), ("single", "double", "triple"), "element"))
        >>> untrained = MoleculeGenerator(GDSS(GDSSConfig()), codec)
        >>> len(untrained.sample(3, num_atoms=[1, 4, 9], steps=2).smiles)
        3
    """

    def __init__(self, generator: GraphGenerator, codec: MoleculeCodec, metadata: dict[str, Any] | None = None) -> None:
        self.generator, self.codec, self.metadata = generator, codec, metadata or {}

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, weights: str = "ema", device: str = "cpu") -> MoleculeGenerator:
        """Load a run directory (its best checkpoint, else its last) or a checkpoint directory.

        Args:
            path: the directory.
            weights: "ema" (averaged, where the checkpoint has them) or "raw".
            device: where to put the model.

        Raises:
            CheckpointError: it is neither, it is damaged, or it was not trained on molecules.
            InputError: the device is not there.
        """
        generator, vocabulary, metadata = load_generator(path, weights=weights, device=device)
        if vocabulary.scheme == "generic":
            raise CheckpointError(
                f"{path} was not trained on molecules (its vocabulary is generic); draw graphs from it with "
                "graphinv.pipeline.load_generator and sample_graphs, or `graphinv sample`"
            )
        return cls(generator, MoleculeCodec(vocabulary), metadata)

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        num_atoms: Sequence[int] | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        repair: Repair = "none",
        progress: bool = True,
        **settings: Any,
    ) -> Samples:
        """Draw n molecules.

        Args:
            n: how many.
            seed: molecule k depends on (seed, k) only, not on n or the batch size.
            num_atoms: ``[n]`` atoms of each, hydrogens counted if they are nodes; as the model likes if None.
            steps: solver steps, or denoising steps of a block at most; the model's own if None.
            batch_size: graphs per network call; the model's own if None.
            repair: "none"; "charges" gives N, O and S with one bond too many a charge of +1; "valence" also lowers
                bonds until every atom is in its valence, and keeps the largest fragment. Counted in ``repaired``.
            progress: show a bar.
            settings: further arguments of the generator's ``sample``, such as ``sampler``.
        """
        drawn = sample_graphs(
            self.generator,
            n,
            seed=seed,
            num_nodes=num_atoms,
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


def load_generator(
    path: str | os.PathLike[str], *, weights: str = "ema", device: str = "cpu"
) -> tuple[GraphGenerator, Vocabulary, dict[str, Any]]:
    """Load a run directory or a checkpoint directory: the generator, the vocabulary of its graphs, the metadata.

    Arguments and errors are those of ``MoleculeGenerator.load``; a vocabulary of atoms is not needed.
    """
    folder = next((f for f in (Path(path) / "best", Path(path) / "last") if f.is_dir()), Path(path))
    generator, metadata = GraphGenerator.load(folder, weights=weights)
    vocabulary = metadata.get("vocabulary")
    if not isinstance(vocabulary, dict):
        raise CheckpointError(
            f"{folder} carries no vocabulary of its node and edge types, as training writes it; "
            "draw graphs from it with graphinv.GraphGenerator.load(...)[0].sample(...)"
        )
    return _on_device(generator, device), Vocabulary.from_json(vocabulary), metadata


def sample_graphs(
    generator: GraphGenerator,
    n: int,
    *,
    seed: int = 0,
    num_nodes: Sequence[int] | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> GraphSamples:
    """Draw n graphs and say what they cost; arguments as in ``MoleculeGenerator.sample``.

    Example:
        >>> from graphinv.models import PARD, PARDConfig
        >>> model = PARD(PARDConfig(node_types=1, edge_types=1, node_dim=16, edge_dim=8, layers=1, heads=2))
        >>> sample_graphs(model, 2, num_nodes=[3, 9], steps=4).graphs.node_counts().tolist()
        [3, 9]
    """
    counts = None if num_nodes is None else torch.as_tensor(list(num_nodes), dtype=torch.long)
    size = {} if batch_size is None else {"batch_size": batch_size}
    start = time.perf_counter()
    with _bar(n, progress) as tick, _count_calls(generator) as calls:
        graphs = generator.sample(n, seed=seed, num_nodes=counts, steps=steps, callback=tick, **size, **settings)
    seconds = time.perf_counter() - start
    consistent = (
        float(generator.path_consistency(graphs).double().mean()) if n and isinstance(generator, PARD) else None
    )
    return GraphSamples(graphs, seconds, calls[0] / max(n, 1), consistent)


def _on_device(generator: GraphGenerator, device: str) -> GraphGenerator:
    if device.partition(":")[0] == "mps":
        raise InputError(f"cannot use the device {device!r}: MPS has no float64, which sampling needs; use cpu")
    try:
        return generator.to(torch.empty(0, device=device).device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"cannot use the device {device!r} here: {error}") from error


@contextmanager
def _bar(n: int, progress: bool) -> Iterator[Any]:
    with tqdm(desc=f"sampling {n:,} graphs", unit="step", delay=1.0, disable=None if progress else True) as bar:

        def tick(done: int, total: int, graphs: Any) -> None:
            bar.unit = " graphs" if graphs is None else "step"  # what is under way, or a count of finished graphs
            bar.total = total
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
