"""What a data set is, as a file: where its files come from, their digests, licence, split rule and vocabulary.

A manifest is one TOML file; ``load_manifest`` reads it strictly and ``locate`` finds, or downloads and verifies, one of
its files. The digest of the uncompressed content identifies a file, so a gzipped and a plain copy are the same file.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import logging
import os
import re
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from graphinv._files import atomic_path, shipped_folders
from graphinv.data._download import fetch
from graphinv.data.vocabulary import Vocabulary
from graphinv.errors import DownloadError, InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["DataFile", "DatasetManifest", "Source", "list_datasets", "load_manifest", "locate"]

_log = logging.getLogger(__name__)
_PATTERNS = {  # the form of a value, by table and key
    ("Source", "url"): r"https?://\S+",
    ("Source", "compression"): "none|gzip",
    ("Source", "sha256"): "[0-9a-f]{64}",
    ("Source", "md5"): "[0-9a-f]{32}",
    ("DataFile", "sha256"): "[0-9a-f]{64}",
    ("DatasetManifest", "kind"): "molecules|graphs|affinities",
    ("DataFile", "role"): "molecules|graphs|split-index|ligands|affinities",
    ("DataFile", "split"): "train|valid|test|none",
    ("DataFile", "path"): r"(?!.*(^|/)\.\.?(/|$))[^/\\:]+(/[^/\\:]+)*",  # relative, stays below its folder
}
_GENERIC = {
    "header": False,
    "column": 0,
    "vocabulary": Vocabulary(("0",), ("1",), "generic"),
}  # without SMILES in a column
_T = TypeVar("_T")


@dataclass(frozen=True)
class Source:
    """One place to download a file from; digests are of the file as it is served."""

    url: str
    compression: str = "none"  # "none" or "gzip"
    sha256: str | None = None
    md5: str | None = None  # detects damage, not forgery


@dataclass(frozen=True)
class DataFile:
    """One file of a data set; ``sha256`` and ``size`` (bytes) are of the uncompressed content."""

    name: str
    path: str  # relative to a data folder; with or without .gz, both are accepted
    role: str  # "molecules", "graphs", "split-index", "ligands" or "affinities"
    folder: Path  # of the manifest
    sources: tuple[Source, ...] = ()
    sha256: str | None = None
    size: int | None = None
    split: str | None = None  # "train", "valid", "test" or "none", where the split rule is "files"


@dataclass(frozen=True)
class DatasetManifest:
    """A data set: what it is, its files and how they are read and split.

    Example:
        >>> manifest = load_manifest("smallmol")
        >>> manifest.vocabulary.nodes, manifest.max_nodes
        (('C', 'N', 'O', 'F'), 7)
    """

    name: str
    title: str
    licence: str
    citation: str
    split: str  # a split rule, "files": each molecule file is a split, or "given": the file of graphs names them
    header: bool
    column: str | int  # of the SMILES: a name, or a 0-based number
    vocabulary: Vocabulary
    files: tuple[DataFile, ...]
    homepage: str | None = None
    max_nodes: int | None = None
    kind: str = "molecules"  # or "graphs" without labels, "affinities": no header, column and vocabulary in the file

    def file(self, name: str) -> DataFile:
        """Return the file called ``name``.

        Raises:
            InputError: there is none.
        """
        for file in self.files:
            if file.name == name:
                return file
        raise InputError(f"data set {self.name} has no file {name!r}; it has {[file.name for file in self.files]}")


def list_datasets() -> list[str]:
    """Return the names of the shipped manifests, sorted.

    Example:
        >>> "smallmol" in list_datasets()
        True
    """
    return sorted({path.stem for folder in shipped_folders() for path in folder.glob("*.toml")})


def load_manifest(name_or_path: str | os.PathLike[str]) -> DatasetManifest:
    """Read a shipped manifest by name, or one's own by the path of its ``.toml`` file.

    Raises:
        InputError: there is none of that name, or it is not a valid manifest.

    Example:
        >>> [file.role for file in load_manifest("qm9").files]
        ['molecules', 'split-index']
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        found = [folder / f"{name_or_path}.toml" for folder in shipped_folders()]
        path = next((candidate for candidate in found if candidate.is_file()), path)
    if path.suffix != ".toml" or not path.is_file():
        shipped = ", ".join(list_datasets())
        raise InputError(f"no data set {str(name_or_path)!r}; available: {shipped}, or the path of a .toml manifest")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a readable TOML file: {error}") from error
    return _manifest(table, path)


def locate(
    file: DataFile,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    progress: bool = True,
) -> Path:
    """Return the path of a verified copy of ``file``, plain or gzipped (then it ends in ``.gz``).

    Looked for in ``data_dir`` (default: environment variable GRAPHINV_DATA_DIR), in ``cache_dir`` (default:
    GRAPHINV_CACHE_DIR, else ``~/.cache/graphinv``) and beside the manifest; then downloaded into the cache. A file
    whose manifest gives no digest is trusted on first use: a warning is logged, its digest is written to
    ``NAME.sha256`` in the cache, and it must not change afterwards.

    Raises:
        DownloadError: a copy has the wrong digest, or there is none and it cannot be downloaded.

    Example:
        >>> locate(load_manifest("smallmol").file("molecules"), download=False).name
        'smallmol.smi.gz'
    """
    data = data_dir or os.environ.get("GRAPHINV_DATA_DIR")
    cache = cache_folder(cache_dir)
    for folder in (Path(data) if data else None, cache, file.folder):
        for path in (folder / form for form in _forms(file.path)) if folder else ():
            if path.is_file():
                problem = _problem(file, path, _packed(path), cache)
                if problem:
                    raise DownloadError(f"{path}: {problem}; delete or replace it")
                return path
    failures = [] if download else ["download=False"]
    for source in file.sources if download else ():
        target = cache / _forms(file.path)[source.compression == "none"]
        try:
            fetch(
                source.url,
                target,
                partial(_problem, file, packed=source.compression == "gzip", cache=cache),
                progress=progress,
            )
            return target
        except DownloadError as error:
            failures.append(str(error))
    reasons = "; ".join(failures) or "the manifest gives no place to download it from"
    raise DownloadError(
        f"no copy of {file.path} is at hand and none could be downloaded ({reasons}). Put the file at "
        f"{cache / file.path}, or at {file.path} below a folder named by the environment variable GRAPHINV_DATA_DIR"
    )


def _problem(file: DataFile, path: Path, packed: bool, cache: Path) -> str | None:
    """What is wrong with the copy at ``path``, or None; records the digest if the manifest gives none."""
    if not packed and file.size not in (None, path.stat().st_size):
        return f"it should be {file.size} bytes, got {path.stat().st_size}"
    if file.sha256 is not None:
        return _mismatch("the content's sha256", {file.sha256}, _digest(path, "sha256", packed))
    for kind in ("sha256", "md5"):
        for compression in ("gzip", "none") if packed else ("none",):
            known = {getattr(source, kind) for source in file.sources if source.compression == compression} - {None}
            if known:
                return _mismatch(f"its {kind}", known, _digest(path, kind, packed and compression == "none"))
    digest = _digest(path, "sha256", packed)
    record = cache / f"{file.path}.sha256"
    if record.is_file():
        return _mismatch(f"the content's sha256 recorded in {record}", {record.read_text().strip()}, digest)
    _log.warning("%s is unverified: its manifest gives no digest; sha256 %s is recorded in %s", path, digest, record)
    with atomic_path(record) as temporary:
        temporary.write_text(f"{digest}\n")
    return None


def _mismatch(what: str, known: set[str], got: str) -> str | None:
    return None if got in known else f"{what} should be {' or '.join(sorted(known))}, got {got}"


def _digest(path: Path, kind: str, packed: bool) -> str:
    """Hexadecimal digest of the file, or of what it unpacks to; of an unreadable file, why."""
    digest = hashlib.new(kind, usedforsecurity=kind != "md5")
    try:
        with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except (OSError, EOFError, zlib.error) as error:
        return f"nothing readable ({error})"
    return digest.hexdigest()


def _packed(path: Path) -> bool:
    return path.suffix == ".gz"


def _forms(path: str) -> tuple[str, str]:
    """The gzipped and the plain name of a file."""
    plain = path.removesuffix(".gz")
    return f"{plain}.gz", plain


def cache_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """Return ``given``, else GRAPHINV_CACHE_DIR, else graphinv below XDG_CACHE_HOME or ~/.cache."""
    chosen = given or os.environ.get("GRAPHINV_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graphinv"


def _manifest(table: dict[str, Any], path: Path) -> DatasetManifest:
    files = []
    for number, entry in enumerate(_tables(table.pop("files", None), f"{path}: files")):
        where = f"{path}: files[{number}]"
        sources = _tables(entry.pop("sources", []), f"{where}.sources")
        made = tuple(_build(Source, source, f"{where}.sources[{i}]") for i, source in enumerate(sources))
        files.append(_build(DataFile, entry, where, folder=path.parent, sources=made))
    if not files:
        raise InputError(f"{path}: a manifest needs at least one [[files]] table")
    if table.get("kind") in ("graphs", "affinities"):
        return _build(DatasetManifest, table, str(path), files=tuple(files), **_GENERIC)
    vocabulary = table.pop("vocabulary", None)
    if not isinstance(vocabulary, Mapping) or set(vocabulary) != {"nodes", "edges", "scheme"}:
        raise InputError(
            f"{path}: [vocabulary] must have exactly the keys nodes, edges and scheme, got {vocabulary}; "
            'only kind = "graphs" and "affinities" go without'
        )
    made_vocabulary = Vocabulary.from_json(vocabulary)
    return _build(DatasetManifest, table, str(path), vocabulary=made_vocabulary, files=tuple(files))


def _tables(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InputError(f"{where} must be an array of tables, got {value!r}")
    return value


def _build(cls: type[_T], table: Mapping[str, Any], where: str, **made: Any) -> _T:
    """An instance of the dataclass ``cls`` from a TOML table: unknown, missing and mistyped keys are errors."""
    fields = {field.name: field for field in dataclasses.fields(cls) if field.name not in made}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    unknown = sorted(set(table) - set(fields))
    if unknown:
        raise InputError(f"{where}: unknown keys {unknown}; known: {sorted(fields)}")
    missing = sorted(n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in table)
    if missing:
        raise InputError(f"{where}: missing keys {missing}")
    for name, value in table.items():
        hint, pattern = hints[name], _PATTERNS.get((cls.__name__, name))
        if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
            raise InputError(f"{where}: {name} must be {getattr(hint, '__name__', hint)}, got {value!r}")
        if pattern is not None and not re.fullmatch(pattern, value):
            raise InputError(f"{where}: {name} = {value!r} does not have the form {pattern}")
    return cls(**table, **made)
