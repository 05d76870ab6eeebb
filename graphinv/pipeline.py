"""What a chemist types: build a store, load a trained model, draw molecules or graphs.

``build`` takes whatever graphs come as; ``load`` returns a trained generator with the labels of its training data.
Molecules come out as generated: what cannot be one is an invalid SMILES, not a missing line, and a repair is asked for
and counted.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from graphinv.data import GraphStore, Vocabulary, apply_split, build_graphs, file_sha256, is_graph_file, read_smiles
from graphinv.data.manifests import list_datasets, load_manifest
from graphinv.errors import CheckpointError, InputError
from graphinv.graphs import GraphBatch
from graphinv.models import Callback, GraphGenerator, ordered_store
from graphinv.mol import MoleculeCodec, Rejects, build_dataset, build_store, repair_smiles

__all__ = [
    "GraphSamples",
    "MoleculeGenerator",
    "Repair",
    "Samples",
    "TrainedGenerator",
    "build",
    "load",
    "load_generator",
    "sample_graphs",
]

Repair = Literal["none", "charges", "valence"]

_SPLIT = "random:0.8/0.1/0.1:0"
_BONDS = ("single", "double", "triple")
_OF_MOLECULES = {  # settings of build, with their flags at the command line
    "scheme": "--atoms",
    "vocabulary": "--vocabulary",
    "hydrogens": "--hydrogens",
    "max_nodes": "--max-atoms",
    "rejects_path": "--rejects",
}


def build(
    source: Any,
    *,
    split: str | None = None,
    max_hops: int | None = None,
    column: str | int = "smiles",
    header: bool = True,
    scheme: str | None = None,
    vocabulary: Vocabulary | Sequence[str] | None = None,
    hydrogens: bool = False,
    max_nodes: int | None = None,
    workers: int | None = None,
    rejects_path: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> tuple[GraphStore, Rejects | str]:
    """Build the store of a data set, a file, lines of SMILES or graphs; return it and what was read.

    Args:
        source: the name of a known data set (smallmol, qm9, planar, ...) or the path of a manifest (.toml); the path
            of a file of molecules (.smi, .csv, .tsv, .txt, each also .gz; "-" is standard input) or of plain graphs
            (.g6, .s6, .pkl, .pt), several files of molecules as a list of ``pathlib.Path``; lines of SMILES, any
            iterable of str; or graphs: a ``GraphBatch``, networkx graphs or PyG ``Data``, one or a list.
        split: a rule of ``graphinv.data.split_ids``; None is the published rule of a data set, the splits that a file
            names, else random:0.8/0.1/0.1:0.
        max_hops: H; the generation blocks of every node by this order go into the store.
        column, header: of a table, as in ``graphinv.data.read_smiles``.
        scheme, hydrogens, max_nodes, workers, rejects_path: of molecules, as in ``graphinv.mol.build_store``.
        vocabulary: the atoms allowed, such as ["C", "N", "O"]; inferred if None.
        progress: show bars.

    Returns:
        the store, and what was read: ``Rejects`` of molecules (lines, kept, counts by reason), a line of graphs.

    Raises:
        InputError: there is no such source, it holds nothing, or a setting does not fit it.
        DownloadError: a file of a data set is neither at hand nor to be had.

    Example:
        >>> store, rejects = build(["CCO", "C1CC1", "C1CC"], split="none", workers=1, progress=False)
        >>> len(store), rejects.counts
        (2, {'unparsable': 1})
        >>> import networkx
        >>> store, told = build([networkx.path_graph(3), networkx.cycle_graph(4)], split="none")
        >>> store.node_counts().tolist(), told
        ([3, 4], '2 graphs')
    """
    settings = {
        "scheme": scheme,
        "vocabulary": vocabulary,
        "hydrogens": hydrogens,
        "max_nodes": max_nodes,
        "rejects_path": rejects_path,
    }
    store: GraphStore
    told: Rejects | str
    items, files = _items(source)
    if files and any(_holds_graphs(file) for file in files):
        if len(files) > 1:
            raise InputError(f"a store of graphs is built from one file or data set, got {', '.join(files)}")
        _refuse(settings, files[0])
        store, told = build_graphs(files[0], split=split, progress=progress)
    elif isinstance(items, GraphBatch):
        _refuse(settings, "the source")
        store, told = _store_of(items, split or _SPLIT)
    else:
        if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
            settings["vocabulary"] = Vocabulary(tuple(vocabulary), _BONDS, scheme or "element")
        settings |= {"workers": workers, "progress": progress}
        store, told = _molecules(items, files, split, column, header, settings)
    return (store if max_hops is None else ordered_store(store, max_hops, progress=progress)), told


def _items(source: Any) -> tuple[Any, list[str]]:
    """Return graphs as a batch, or lines of SMILES, or None and the names of files and data sets."""
    if isinstance(source, (str, os.PathLike)):
        return None, [os.fspath(source)]
    if isinstance(source, GraphBatch):
        return source, []
    if hasattr(source, "edge_index"):  # PyG
        return GraphBatch.from_pyg(source), []
    if hasattr(source, "nodes") and hasattr(source, "edges"):  # networkx
        return GraphBatch.from_networkx([source]), []
    if not isinstance(source, Iterable):
        raise InputError(f"expected a file, a data set, lines of SMILES or graphs, got {type(source).__name__}")
    rest = iter(source)
    first = next(rest, None)
    if first is None:
        raise InputError("there is nothing to build a store of: the source is empty")
    if isinstance(first, str):
        return chain([first], rest), []
    every = [first, *rest]
    if all(isinstance(item, os.PathLike) for item in every):
        return None, [os.fspath(item) for item in every]
    if all(isinstance(item, GraphBatch) for item in every):
        return GraphBatch.from_graphs(every), []
    if hasattr(first, "edge_index"):
        return GraphBatch.from_pyg(every), []
    if hasattr(first, "nodes") and hasattr(first, "edges"):
        return GraphBatch.from_networkx(every), []
    raise InputError(f"expected lines of SMILES, paths or graphs, got a list of {type(first).__name__}")


def _holds_graphs(source: str) -> bool:
    known = source in list_datasets() or source.endswith(".toml")
    return load_manifest(source).kind == "graphs" if known else is_graph_file(source)


def _refuse(settings: dict[str, Any], source: str) -> None:
    foreign = [f"{name} ({_OF_MOLECULES[name]})" for name, value in settings.items() if value not in (None, False)]
    if foreign:
        raise InputError(f"{source} holds graphs, not molecules; leave out {', '.join(foreign)}, made for molecules")


def _store_of(graphs: GraphBatch, split: str) -> tuple[GraphStore, str]:
    counts = {"lines": graphs.num_graphs, "kept": graphs.num_graphs}
    provenance = {"sources": [{"name": "memory", "sha256": None}], "counts": counts}
    return apply_split(GraphStore.from_graphs(graphs, provenance=provenance), split), f"{graphs.num_graphs:,} graphs"


def _molecules(
    lines: Iterable[str] | None,
    files: list[str],
    split: str | None,
    column: str | int,
    header: bool,
    settings: dict[str, Any],
) -> tuple[GraphStore, Rejects]:
    if len(files) == 1 and (files[0] in list_datasets() or files[0].endswith(".toml")):
        return build_dataset(files[0], split=split, **settings)
    if any(file.endswith(".graphs") for file in files):
        raise InputError(f"{files[0]} is a store already; open it with GraphStore.open")
    if lines is None:
        lines = chain.from_iterable([read_smiles(file, column, header=header) for file in files])
        settings["name"] = ", ".join(files)
        settings["sha256"] = file_sha256(files[0]) if len(files) == 1 and files[0] != "-" else None
    else:
        settings["name"] = "memory"
    return build_store(lines, split=split or _SPLIT, **{**settings, "scheme": settings["scheme"] or "element"})


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
            _warn("num_atoms", "num_nodes")
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
    folder = next((f for f in (Path(path) / "best", Path(path) / "last") if f.is_dir()), Path(path))
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
    _warn("load_generator", "graphinv.load")
    model = load(path, weights=weights, device=device)
    return model.generator, model.vocabulary, model.metadata


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
    """Draw n graphs and say what they cost; arguments as in ``TrainedGenerator.sample``.

    Example:
        >>> from graphinv.models import PARD, PARDConfig
        >>> model = PARD(PARDConfig(node_types=1, edge_types=1, node_dim=16, edge_dim=8, layers=1, heads=2))
        >>> sample_graphs(model, 2, num_nodes=[3, 9], steps=4).graphs.node_counts().tolist()
        [3, 9]
    """
    settings |= {"seed": seed, "num_nodes": num_nodes, "steps": steps, "batch_size": batch_size}
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


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}; the old name goes in version 0.2", DeprecationWarning, stacklevel=3)
