"""Stores of the known data sets, by name: located or downloaded, encoded and split as the manifest says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from graphinv.data import SPLITS, GraphStore, Vocabulary, apply_split, read_rows, read_smiles
from graphinv.data.manifests import DataFile, DatasetManifest, load_manifest, locate
from graphinv.errors import InputError
from graphinv.mol.build import Rejects, build_store

__all__ = ["build_dataset"]


def build_dataset(
    name: str | os.PathLike[str],
    *,
    scheme: str | None = None,
    vocabulary: Vocabulary | None = None,
    hydrogens: bool = False,
    max_nodes: int | None = None,
    split: str | None = None,
    columns: Sequence[str] = (),
    properties: Sequence[str] = (),
    workers: int | None = None,
    rejects_path: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> tuple[GraphStore, Rejects]:
    """Build the store of a data set: smallmol (embedded), qm9, zinc250k, moses, guacamol, or one's own manifest.

    Files are looked for below GRAPHINV_DATA_DIR, then in the cache, then downloaded and checked.

    Args:
        name: of the data set, or the path of a manifest (.toml).
        scheme, vocabulary, max_nodes, split: as in ``build_store``; the manifest's if None. A scheme other than the
            manifest's infers its vocabulary from the data.
        columns: names of columns of its tables to keep, as in ``build_store``.
        properties: computed by RDKit, as in ``build_store``.
        hydrogens: make hydrogens nodes: "H" joins the vocabulary; ``max_nodes`` still counts heavy atoms only.
        workers, rejects_path, progress: as in ``build_store``.

    Raises:
        InputError: there is no such data set, or it holds graphs that are not molecules.
        DownloadError: a file is neither at hand nor to be had.

    Example:
        >>> store, rejects = build_dataset("smallmol", workers=1, progress=False)
        >>> len(store), rejects.total
        (18500, 0)
    """
    manifest = load_manifest(name)
    if manifest.kind == "affinities":
        raise InputError(
            f"data set {manifest.name} holds affinities, not molecules alone; read it with "
            f"graphinv.data.load_affinities({manifest.name!r})"
        )
    if manifest.kind != "molecules":
        raise InputError(
            f"data set {manifest.name} holds {manifest.kind}, not molecules; build it with "
            f"graphinv.build or `graphinv data build {manifest.name}`"
        )
    scheme = scheme or manifest.vocabulary.scheme
    if vocabulary is None and scheme == manifest.vocabulary.scheme:
        vocabulary = manifest.vocabulary
    paths = {file.name: locate(file, progress=progress) for file in manifest.files}
    parts = [file for file in manifest.files if file.role == "molecules"]
    rule = split or manifest.split
    lines: list[int] = []
    published = rule == "files" or rule.startswith("gdss-")
    store, rejects = build_store(
        _lines([str(paths[part.name]) for part in parts], manifest, columns, lines),
        scheme=scheme,
        vocabulary=vocabulary,
        hydrogens=hydrogens,
        max_nodes=max_nodes or manifest.max_nodes,
        columns=columns,
        properties=properties,
        workers=workers,
        split="none" if published else rule,
        rejects_path=rejects_path,
        progress=progress,
        name=manifest.name,
        sha256=parts[0].sha256 if len(parts) == 1 else None,
    )
    if rule == "files":
        return _split_by_file(store, parts, lines), rejects
    if published:
        index = next((paths[file.name] for file in manifest.files if file.role == "split-index"), None)
        return apply_split(store, rule, index_file=index), rejects
    return store, rejects


def _lines(files: Sequence[str], manifest: DatasetManifest, columns: Sequence[str], counts: list[int]) -> Iterator[Any]:
    """Yield the lines of all files, with their cells of ``columns``, and note in ``counts`` how many each had."""
    for file in files:
        counts.append(0)
        place, header = manifest.column, manifest.header
        rows = read_rows(file, columns, place, header) if columns else read_smiles(file, place, header=header)
        for row in rows:
            counts[-1] += 1
            yield row


def _split_by_file(store: GraphStore, parts: Sequence[DataFile], lines: Sequence[int]) -> GraphStore:
    file = torch.searchsorted(torch.tensor(lines).cumsum(0), store.row.long(), right=True)
    ids = [[str(s) for s in SPLITS].index(part.split or "train") for part in parts]
    return store.with_split(torch.tensor(ids, dtype=torch.uint8)[file], "files")
