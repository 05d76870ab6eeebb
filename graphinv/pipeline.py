"""What a chemist types: load a trained model, draw molecules, judge them.

A ``MoleculeGenerator`` binds a graph generator to the codec it was trained with. Molecules come out as generated:
what cannot be one is an invalid SMILES, not a missing line, and a repair is asked for and counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from graphinv.data import GraphStore, Vocabulary
from graphinv.errors import CheckpointError, InputError
from graphinv.graphs import GraphBatch
from graphinv.models import GraphGenerator
from graphinv.mol import MoleculeCodec, repair_smiles

__all__ = ["MoleculeGenerator", "Repair", "Samples", "evaluate", "training_smiles"]

Repair = Literal["none", "charges", "valence"]


@dataclass(frozen=True)
class Samples:
    """What ``MoleculeGenerator.sample`` returns.

    Attributes:
        smiles: one text per sample; canonical where it is a molecule, "" for no atoms at all.
        graphs: the same samples as graphs, before any repair.
        seconds: wall-clock time of the drawing.
        evaluations: network calls per graph, both networks counted.
        repaired: samples that the repair changed.
    """

    smiles: list[str]
    graphs: GraphBatch
    seconds: float
    evaluations: int
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
        """
        folder = next((f for f in (Path(path) / "best", Path(path) / "last") if f.is_dir()), Path(path))
        generator, metadata = GraphGenerator.load(folder, weights=weights)
        vocabulary = metadata.get("vocabulary")
        if not isinstance(vocabulary, dict) or vocabulary.get("scheme") == "generic":
            raise CheckpointError(
                f"{folder} was not trained on molecules (it carries no vocabulary of atoms); "
                "draw graphs from it with graphinv.GraphGenerator.load(...)[0].sample(...)"
            )
        return cls(_on_device(generator, device), MoleculeCodec(Vocabulary.from_json(vocabulary)), metadata)

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        num_atoms: Sequence[int] | None = None,
        steps: int | None = None,
        batch_size: int = 1024,
        repair: Repair = "none",
        progress: bool = True,
        **settings: Any,
    ) -> Samples:
        """Draw n molecules.

        Args:
            n: how many.
            seed: molecule k depends on (seed, k) only, not on n or the batch size.
            num_atoms: ``[n]`` heavy atoms of each; drawn as in the training data if None.
            steps: solver steps; the model's own if None.
            batch_size: graphs per network call.
            repair: "none"; "charges" gives N, O and S with one bond too many a charge of +1; "valence" also lowers
                bonds until every atom is in its valence, and keeps the largest fragment. Counted in ``repaired``.
            progress: show a bar.
            settings: further arguments of the generator's ``sample``, such as ``sampler``.
        """
        counts = None if num_atoms is None else torch.as_tensor(list(num_atoms), dtype=torch.long)
        start = time.perf_counter()
        with _bar(n, progress) as tick, _count_calls(self.generator) as calls:
            graphs = self.generator.sample(
                n, seed=seed, num_nodes=counts, steps=steps, batch_size=batch_size, callback=tick, **settings
            )
        seconds = time.perf_counter() - start
        batches = max(1, -(-n // batch_size))
        smiles, repaired = self._decode(graphs, repair)
        return Samples(smiles, graphs, seconds, calls[0] // batches, repaired)

    def _decode(self, graphs: GraphBatch, repair: Repair) -> tuple[list[str], int]:
        smiles = self.codec.decode(graphs)
        if repair == "none":
            return smiles, 0
        fixed = [repair_smiles(text, repair) for text in smiles]
        return fixed, sum(a != b for a, b in zip(smiles, fixed, strict=True))


def evaluate(
    smiles: Sequence[str],
    *,
    reference: GraphStore | None = None,
    train: Collection[str] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Judge molecules: validity in four definitions over all samples, uniqueness, novelty (a JSON object).

    Args:
        smiles: one text per sample, "" and unreadable ones included.
        reference: store whose training molecules novelty is counted against.
        train: the same as SMILES, instead of a store.
        progress: show a bar.

    Raises:
        InputError: there is no sample, or both ``reference`` and ``train`` are given.

    Example:
        >>> evaluate(["CCO", "CC(C)(C)(C)C"], train=["CCO"])["valid_strict"]["rate"]
        0.5
    """
    from graphinv.metrics.molecule import molecule_report

    if reference is not None and train is not None:
        raise InputError("give the training molecules either as reference (a store) or as train (SMILES), not both")
    if reference is None:
        return molecule_report(smiles, train, progress=progress)
    known = training_smiles(reference)
    report = molecule_report(smiles, known, train_is_canonical=True, progress=progress)
    report["reference"] = {"hash": reference.content_hash, "training_molecules": len(known)}
    return report


def training_smiles(store: GraphStore) -> list[str]:
    """Return the canonical SMILES of the training split, from the store's column or, without one, from its graphs."""
    index = store.indices("train")
    if store.smiles_bytes is not None:
        return store.smiles(index)
    return MoleculeCodec(store.vocabulary).decode(store.batch(index))


def _on_device(generator: GraphGenerator, device: str) -> GraphGenerator:
    try:
        return generator.to(torch.empty(0, device=device).device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"cannot use the device {device!r} here: {error}") from error


@contextmanager
def _bar(n: int, progress: bool) -> Iterator[Any]:
    with tqdm(desc=f"sampling {n:,} graphs", unit="step", delay=1.0, disable=None if progress else True) as bar:

        def tick(done: int, total: int, graphs: Any) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield tick


@contextmanager
def _count_calls(generator: GraphGenerator) -> Iterator[list[int]]:
    calls = [0]

    def count(*_: Any) -> None:
        calls[0] += 1

    hooks = [network.register_forward_pre_hook(count) for network in generator.networks().values()]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
