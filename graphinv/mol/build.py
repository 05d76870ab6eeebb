"""A stream of SMILES lines to a `GraphStore`, in parallel, with every line accounted for.

Worker processes encode chunks of lines and send packed arrays back in order; lines = kept + rejected.
The number of lines in flight is bounded, so memory grows with the result only.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm.auto import tqdm

from graphinv import __version__
from graphinv._files import atomic_path
from graphinv._processes import process_pool, worker_count
from graphinv.columns import Text
from graphinv.data.splits import apply_split, split_ids
from graphinv.data.store import GraphStore, Vocabulary
from graphinv.errors import InputError
from graphinv.mol._cells import Cells
from graphinv.mol._encode import DROPPED, HYDROGEN, REASONS, Chunk, Limits, atom_label, encode_chunk, split_key
from graphinv.mol.codec import node_types, vocabulary_limits

__all__ = ["Rejects", "build_store"]

_CHUNK_LINES = 2000
_LOG_MEMORY = 1 << 24  # bytes of rejected lines held before they go to a temporary file
_SCHEMES = ("element", "element+charge")


@dataclass
class Rejects:
    """Lines that gave no molecule, counted by reason: ``lines == kept + total``; and what kept ones lost.

    Example:
        >>> _, rejects = build_store(["CO", "", "C1", "CC", "CN"], workers=1, split="none", progress=False)
        >>> rejects.lines, rejects.kept, rejects.counts
        (5, 3, {'unparsable': 1, 'empty line': 1})
    """

    lines: int = 0
    kept: int = 0
    counts: dict[str, int] = field(default_factory=dict)  # reason -> lines, only reasons that occurred
    cells: dict[str, tuple[int, str]] = field(default_factory=dict)  # column -> cells that are no number, one of them
    dropped: dict[str, int] = field(default_factory=dict)  # kind -> kept molecules that lost it, such as "stereo marks"
    notes: list[str] = field(default_factory=list)  # how files were read, where that is worth telling

    @property
    def total(self) -> int:
        """Number of rejected lines."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.counts.items()) or "none"
        told = f"{self.lines:,} lines = {self.kept:,} kept + {self.total:,} rejected ({reasons})"
        cells = [f"{count:,} in {name} (such as {text!r})" for name, (count, text) in self.cells.items()]
        told += f"; cells that are no number, now NaN: {', '.join(cells)}" if cells else ""
        lost = [f"{kind} dropped from {count:,} molecules" for kind, count in self.dropped.items()]
        return "\n".join([told, *lost, *self.notes])


def build_store(
    source: Iterable[str] | Iterable[tuple[str, tuple[str, ...]]],
    *,
    scheme: str = "element+charge",
    vocabulary: Vocabulary | None = None,
    hydrogens: bool = False,
    max_nodes: int | None = None,
    workers: int | None = None,
    split: str = "random:0.8/0.1/0.1:0",
    keep_smiles: bool = True,
    columns: Sequence[str] = (),
    properties: Sequence[str] = (),
    rejects_path: str | os.PathLike[str] | None = None,
    progress: bool = True,
    name: str = "stdin",
    sha256: str | None = None,
) -> tuple[GraphStore, Rejects]:
    """Encode lines of SMILES (first token of each line, no header) into a store.

    Args:
        source: the lines, read once; with ``columns`` each with the texts of its cells, as
            `graphinv.data.read_rows` yields them.
        scheme: "element+charge" tells formal charges apart, "element" drops them; a vocabulary brings its own.
        vocabulary: None infers it, sorted by atomic number, then charge 0, +1, -1, +2, ...; given, an atom
            outside it rejects the line.
        hydrogens: make hydrogens nodes, which adds "H" to a vocabulary without it; a vocabulary with "H" does so
            by itself.
        max_nodes: most heavy atoms of a molecule, hydrogens never counted; None for no limit. A SMILES of more
            than 5,000 characters is too large in any case.
        workers: processes; None takes the CPUs this process may use, 0 or 1 works in this process.
        split: rule of `graphinv.data.splits`.
        keep_smiles: store the canonical SMILES (of the molecule as read: with charges, without stereo).
        columns: names of the cells that come with each line; they become graph columns, float64. An empty cell is NaN,
            and so is one that is no number, which is counted in ``Rejects.cells``.
        properties: graph columns computed by RDKit, of `graphinv.mol.descriptors.PROPERTIES`: logp, qed, sa, tpsa, mw,
            rings. One that is among the ``columns`` too is called NAME_rdkit.
        rejects_path: file for rejected lines, ``row<TAB>reason<TAB>line``.
        progress: a bar on stderr, from the third second on.
        name: source name kept in the provenance, with ``sha256`` of its file.

    Raises:
        InputError: no line gave a molecule, an argument is out of range, or a line comes without its cells.

    Example:
        >>> store, rejects = build_store(["CCO", "c1ccncc1"], workers=1, split="none", progress=False)
        >>> store.vocabulary.nodes, store.smiles(), str(rejects)
        (('C', 'N', 'O'), ['CCO', 'c1ccncc1'], '2 lines = 2 kept + 0 rejected (none)')
        >>> rows = [("CCO", ("-0.1",)), ("C1CC", ("7",)), ("C", ("low",))]
        >>> store, rejects = build_store(rows, columns=["logp"], workers=1, split="none", progress=False)
        >>> store.graph_columns["logp"].tolist(), rejects.cells
        ([-0.1, nan], {'logp': (1, 'low')})
    """
    scheme = scheme if vocabulary is None else vocabulary.scheme
    _check(scheme, max_nodes, workers, split, properties)
    if vocabulary is None:
        limits = Limits(scheme == "element+charge", None, max_nodes, keep_smiles=keep_smiles, hydrogens=hydrogens)
    else:
        if hydrogens and "H" not in vocabulary.nodes:
            vocabulary = replace(vocabulary, nodes=("H", *vocabulary.nodes))
        limits = vocabulary_limits(vocabulary, max_nodes, keep_smiles)
    limits = replace(limits, properties=tuple(properties))
    cells, encoded = Cells(columns), _Columns()
    with ExitStack() as stack:
        log = stack.enter_context(SpooledTemporaryFile(_LOG_MEMORY, "w+", encoding="utf-8", newline="\n"))
        chunks = stack.enter_context(closing(_encoded(cells.lines(source), limits, worker_count(workers))))
        bar = stack.enter_context(tqdm(unit=" lines", delay=2.0, disable=None if progress else True, file=sys.stderr))
        for lines, chunk in chunks:
            if rejects_path is not None:
                _log_rejects(log, encoded.rejects.lines, lines, chunk)
            encoded.append(chunk)
            bar.update(chunk.lines)
        if rejects_path is not None:
            log.seek(0)
            with atomic_path(rejects_path) as temporary, open(temporary, "w", encoding="utf-8") as file:
                shutil.copyfileobj(log, file)
    if encoded.rejects.kept == 0:
        raise InputError(f"no molecule in {name}: {encoded.rejects}; expected one SMILES per line, without a header")
    settings: dict[str, Any] = {"scheme": scheme, "max_nodes": max_nodes, "keep_smiles": keep_smiles}
    settings |= {n: list(v) for n, v in (("columns", columns), ("properties", properties)) if v}
    provenance = {"sources": [{"name": name, "sha256": sha256}], "settings": settings}
    measured = encoded.measured(limits.properties, columns)
    store = encoded.store(limits, vocabulary, provenance)
    encoded.rejects.cells = cells.wrong_among(store.row)
    store = store.with_columns(graph={**cells.numbers(store.row), **measured})
    return apply_split(store, split), encoded.rejects


def _check(scheme: str, max_nodes: int | None, workers: int | None, split: str, properties: Sequence[str]) -> None:
    """Refuse what is out of range or misspelt now, not after the last line."""
    if scheme not in _SCHEMES:
        raise InputError(f"expected a scheme of {_SCHEMES} for molecules, got {scheme!r}")
    if max_nodes is not None and max_nodes < 1:
        raise InputError(f"max_nodes must be at least 1, got {max_nodes}")
    if workers is not None and workers < 0:
        raise InputError(f"workers must be 0 or more, got {workers}")
    if not split.startswith(("gdss-", "index:")):
        split_ids(split, torch.zeros(0, dtype=torch.int64), 0)
    if properties:
        from graphinv.mol.descriptors import measures

        measures(properties)


class _Columns:
    """Chunks collected in order, turned into the columns of a store at the end."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.rejects = Rejects()

    def append(self, chunk: Chunk) -> None:
        chunk.row += self.rejects.lines
        chunk.bond = chunk.bond.astype(_index_type(int(chunk.nodes.max(initial=0))))
        self.chunks.append(chunk)
        self.rejects.lines += chunk.lines
        self.rejects.kept += len(chunk.row)
        counts = Counter(self.rejects.counts) + Counter(REASONS[reason] for _, reason in chunk.rejects)
        self.rejects.counts = {reason: counts[reason] for reason in REASONS if counts[reason]}
        lost = Counter(self.rejects.dropped) + Counter(chunk.dropped)
        self.rejects.dropped = {kind: lost[kind] for kind in DROPPED if lost[kind]}

    def store(self, limits: Limits, vocabulary: Vocabulary | None, provenance: dict[str, Any]) -> GraphStore:
        nodes, keys, keep_smiles = self._column("nodes"), self._column("key"), limits.keep_smiles
        vocabulary = _infer_vocabulary(keys, limits) if vocabulary is None else vocabulary
        rejects = self.rejects
        counts = {"lines": rejects.lines, "kept": rejects.kept, "rejects": rejects.counts}
        counts |= {"dropped": rejects.dropped} if rejects.dropped else {}
        smiles = {}
        if keep_smiles:
            smiles["smiles"] = Text(torch.from_numpy(self._column("smiles")), _offsets(self._column("smiles_len")))
        return GraphStore(
            node_type=node_types(vocabulary).to(torch.uint8)[torch.from_numpy(keys.astype(np.int32))],
            bond=torch.from_numpy(self._column("bond").astype(_index_type(int(nodes.max())), copy=False)),
            bond_type=torch.from_numpy(self._column("order")),
            node_ptr=_offsets(nodes),
            bond_ptr=_offsets(self._column("bonds")),
            split_id=torch.zeros(len(nodes), dtype=torch.uint8),
            row=torch.from_numpy(self._column("row")),
            vocabulary=vocabulary,
            provenance={**provenance, "counts": counts, "graphinv": __version__},
            graph_columns=smiles,
        )

    def measured(self, properties: Sequence[str], columns: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """The computed properties under their names in the store."""
        if not properties:
            return {}
        table = self._column("values")
        named = {f"{name}_rdkit" if name in columns else name: table[:, k] for k, name in enumerate(properties)}
        return {name: values.astype(np.int64) if name.startswith("rings") else values for name, values in named.items()}

    def _column(self, name: str) -> npt.NDArray[Any]:
        """Join one column, releasing its parts."""
        parts = []
        for chunk in self.chunks:
            part = getattr(chunk, name)
            parts.append(np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part)
            setattr(chunk, name, None)
        return np.concatenate(parts)


def _encoded(source: Iterable[str], limits: Limits, workers: int) -> Generator[tuple[list[str], Chunk], None, None]:
    """Yield (lines, their chunk) in order, with at most four chunks per worker in flight."""
    stream = iter(source)
    batches = iter(lambda: list(islice(stream, _CHUNK_LINES)), [])
    head = list(islice(batches, 2))
    if workers < 2 or len(head) < 2:  # one chunk is done before a second process has started
        for lines in (*head, *batches):
            yield lines, encode_chunk(lines, limits)
        return
    with process_pool(workers) as pool:
        flight = deque((lines, pool.submit(encode_chunk, lines, limits)) for lines in head)
        while flight:
            for lines in islice(batches, max(0, 4 * workers - len(flight))):
                flight.append((lines, pool.submit(encode_chunk, lines, limits)))
            lines, future = flight.popleft()
            yield lines, future.result()


def _log_rejects(log: IO[str], first: int, lines: list[str], chunk: Chunk) -> None:
    for row, reason in chunk.rejects:
        text = lines[row].strip().encode("utf-8", "backslashreplace").decode()
        log.write(f"{first + row}\t{REASONS[reason]}\t{text}\n")


def _infer_vocabulary(keys: npt.NDArray[np.uint16], limits: Limits) -> Vocabulary:
    scheme = "element+charge" if limits.charges else "element"
    present = {*np.flatnonzero(np.bincount(keys, minlength=1 << 16)).tolist()}
    if limits.hydrogens:  # even if no molecule has any: the label says that none are implied
        present.add(HYDROGEN)
    atoms = sorted((split_key(key) for key in present), key=lambda a: (a[0], abs(a[1]), a[1] < 0))
    if len(atoms) > 255:
        raise InputError(f"a store holds at most 255 atom types, the data have {len(atoms)}; use scheme 'element'")
    return Vocabulary(tuple(atom_label(*atom) for atom in atoms), ("single", "double", "triple"), scheme)


def _offsets(counts: npt.NDArray[np.int32]) -> Tensor:
    ptr = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return torch.from_numpy(ptr.astype(np.int32) if ptr[-1] < 1 << 31 else ptr)


def _index_type(most_nodes: int) -> type[np.uint8] | type[np.int16] | type[np.int32]:
    """Narrowest type of local node ids for graphs of up to ``most_nodes`` nodes."""
    if most_nodes <= 255:
        return np.uint8
    return np.int16 if most_nodes <= 32767 else np.int32
