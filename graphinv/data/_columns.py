"""The columns of a graph store as plain tensors: their shapes, their content, their hash and their one file.

The file is safetensors, so it is memory-mapped and runs no code; everything that is not a tensor is one JSON text in
its metadata. Nothing here knows what a graph is beyond "offsets, types and pairs of local ids", with named columns
beside nodes, bonds and graphs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.numpy
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from graphinv._files import atomic_path
from graphinv.columns import Column, Columns, Text, check_columns
from graphinv.errors import InputError, StoreError
from graphinv.ops.labels import label_slots

FORMAT_VERSION = 2  # 1 where a store holds nothing that format 1 did not know
KINDS = ("node", "edge", "graph")
RESERVED = ("x", "edge_index", "edge_attr", "ptr", "edge_ptr")
NUM_SPLIT_IDS = 4  # train, valid, test, none
_KEY = "graphinv_store"
_REBUILD = "rebuild it with `graphinv data build`"
_OFFSETS = (torch.int32, torch.int64)
_LOCAL_IDS = (torch.uint8, torch.int16, torch.int32)
_REQUIRED: dict[str, tuple[torch.dtype, ...]] = {
    "node_type": (torch.uint8,),
    "bond": _LOCAL_IDS,
    "bond_type": (torch.uint8,),
    "node_ptr": _OFFSETS,
    "bond_ptr": _OFFSETS,
    "split_id": (torch.uint8,),
    "row": (torch.int32,),
}
# How named columns are called in the file; the three above the line are those of format 1.
_PROPERTY, _BLOCK, _SMILES = "property.", "block", ("smiles_bytes", "smiles_ptr")
_PREFIXES = {"node": "node.", "edge": "edge.", "graph": "graph."}
_TEXT = ("text_bytes.", "text_ptr.")
_FLOATS = (torch.float32, torch.float64)
_NUMBERS = (torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64, *_FLOATS)


def integers(name: str, values: Any) -> Tensor:
    """Return integer values of any array type as int64; InputError for anything else."""
    column = torch.as_tensor(values)
    if column.numel() and (column.is_floating_point() or column.is_complex() or column.dtype == torch.bool):
        raise InputError(f"{name} must hold integers, got {column.dtype}")
    return column.long()


def to_uint8(name: str, values: Any) -> Tensor:
    """Return integer values as uint8; InputError outside 0..255."""
    column = integers(name, values)
    check_range(name, column, 0, 255)
    return column.to(torch.uint8)


def to_int32(name: str, values: Any) -> Tensor:
    """Return integer values as int32; InputError if negative or too large."""
    column = integers(name, values)
    check_range(name, column, 0, torch.iinfo(torch.int32).max)
    return column.to(torch.int32)


def narrow_columns(kind: str, columns: Mapping[str, Any], rows: int) -> Columns:
    """Return columns of tensors, arrays or lists as a store holds them: integers in the narrowest type, text packed.

    Raises:
        InputError: a name is not allowed, or a column does not fit ``rows``.
    """
    made: dict[str, Any] = {}
    for name, column in columns.items():
        text = isinstance(column, Sequence) and len(column) > 0 and all(isinstance(value, str) for value in column)
        if isinstance(column, (str, Text)) or text:
            made[name] = column
            continue
        try:
            made[name] = _narrow_numbers(torch.as_tensor(column))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{kind} column {name!r} must hold numbers, or one text a graph: {error}") from error
    checked = check_columns(kind, made, rows, RESERVED)
    return Columns({name: pack_text(c) if not isinstance(c, Tensor) else c for name, c in checked.items()})


def pack_text(lines: Sequence[str]) -> Text:
    """Return texts packed without gaps, their offsets narrow."""
    text = lines.packed() if isinstance(lines, Text) else Text.pack(lines)
    return Text(text.characters, narrow_offsets(text.ptr))


def stored_columns(columns: Mapping[str, Columns]) -> dict[str, Tensor]:
    """Return the columns of each kind under their names in the file."""
    stored: dict[str, Tensor] = {}
    for kind in KINDS:
        for name, column in columns[kind].items():
            if isinstance(column, Text):
                names = _SMILES if name == "smiles" else (_TEXT[0] + name, _TEXT[1] + name)
                stored |= zip(names, (column.characters, column.ptr), strict=True)
            elif isinstance(column, Tensor):
                old = kind == "graph" and column.dim() == 1 and column.dtype in _FLOATS
                prefix = _PROPERTY if old else _PREFIXES[kind]
                stored[_BLOCK if (kind, name) == ("node", "block") else prefix + name] = column
    return stored


def named_columns(stored: dict[str, Tensor]) -> dict[str, dict[str, Column]]:
    """Take the columns out of a file's tensors, and return them by kind; what else there is stays.

    Raises:
        InputError: a text lacks its characters or its offsets.
    """
    columns: dict[str, dict[str, Column]] = {kind: {} for kind in KINDS}
    prefixes = [(_PROPERTY, "graph"), *((prefix, kind) for kind, prefix in _PREFIXES.items())]
    for full in list(stored):
        for prefix, kind in prefixes:
            if full.startswith(prefix):
                columns[kind][full.removeprefix(prefix)] = stored.pop(full)
    if _BLOCK in stored:
        columns["node"]["block"] = stored.pop(_BLOCK)
    texts = {
        name.removeprefix(part): (_TEXT[0], _TEXT[1]) for name in stored for part in _TEXT if name.startswith(part)
    }
    pairs = {name: (first + name, second + name) for name, (first, second) in texts.items()}
    if set(_SMILES) & stored.keys():
        pairs["smiles"] = _SMILES
    for name, (characters, ptr) in pairs.items():
        if not {characters, ptr} <= stored.keys():
            raise InputError(f"the text column {name!r} needs both {characters} and {ptr}")
        columns["graph"][name] = Text(stored.pop(characters), stored.pop(ptr))
    return columns


def narrow_offsets(ptr: Tensor) -> Tensor:
    """Return the offsets as int32, or int64 where the last one would overflow."""
    fits = ptr.numel() == 0 or int(ptr[-1]) <= torch.iinfo(torch.int32).max
    return ptr.to(torch.int32 if fits else torch.int64).contiguous()


def _narrow_numbers(column: Tensor) -> Tensor:
    if column.dtype in (torch.float16, torch.bfloat16):
        return column.float()
    if column.dtype in (torch.bool, *_FLOATS) or column.is_complex():
        return column.contiguous()
    least, most = (int(bound) for bound in torch.aminmax(column)) if column.numel() else (0, 0)
    fits = (
        t for t in (torch.uint8, torch.int16, torch.int32) if torch.iinfo(t).min <= least and most <= torch.iinfo(t).max
    )
    return column.to(next(fits, torch.int64)).contiguous()


def narrow_ids(ids: Tensor, most: int) -> Tensor:
    """Return local ids (nodes or blocks of a graph) in the narrowest type that holds ``most``."""
    dtype = torch.uint8 if most <= 255 else torch.int16 if most <= 32767 else torch.int32
    return ids.to(dtype).contiguous()


def check_shapes(columns: Mapping[str, Tensor]) -> None:
    """Check types, shapes and the ends of the offsets of nodes, bonds and graphs in constant time.

    Raises:
        InputError: a column is missing or does not fit the others.
    """
    for name, dtypes in _REQUIRED.items():
        if name not in columns:
            raise InputError(f"the graph store has no column {name}")
        if columns[name].dtype not in dtypes:
            raise InputError(f"column {name} must be {_names(dtypes)}, got {columns[name].dtype}")
    num_graphs = columns["node_ptr"].numel() - 1
    num_bonds = columns["bond"].size(0) if columns["bond"].dim() else 0
    if num_graphs < 0:
        raise InputError("node_ptr must hold num_graphs + 1 offsets, got none")
    shapes = {name: [num_graphs] for name in ("split_id", "row")}
    shapes |= {name: [num_graphs + 1] for name in ("node_ptr", "bond_ptr")}
    shapes |= {"bond": [num_bonds, 2], "bond_type": [num_bonds]}
    for name, column in columns.items():
        shape = shapes.get(name, [column.numel()])
        if list(column.shape) != shape:
            raise InputError(f"column {name} must have shape {shape}, got {list(column.shape)}")
    for offsets, rows in (("node_ptr", "node_type"), ("bond_ptr", "bond")):
        _check_ends(offsets, columns[offsets], columns[rows].size(0))


def check_named(kind: str, columns: Mapping[str, Any], rows: int) -> Columns:
    """Return named columns frozen, in the types that a store holds, checked in constant time.

    Raises:
        InputError: a column does not fit ``rows``, or is of another type.
    """
    checked = check_columns(kind, columns, rows, RESERVED)
    for name, column in checked.items():
        types = _LOCAL_IDS if (kind, name) == ("node", "block") else _NUMBERS
        if isinstance(column, Tensor) and column.dtype not in types:
            raise InputError(f"column {name} must be {_names(types)}, got {column.dtype}")
        if isinstance(column, Text) and (column.characters.dtype != torch.uint8 or column.ptr.dtype not in _OFFSETS):
            raise InputError(f"the text column {name!r} must be uint8 characters and int32 or int64 offsets")
        if isinstance(column, Text):
            _check_ends(f"the offsets of text column {name!r}", column.ptr, column.characters.numel())
    texts = {name: pack_text(c) for name, c in checked.items() if not isinstance(c, (Tensor, Text))}
    return checked.change(texts)


def _check_ends(name: str, ptr: Tensor, end: int) -> None:
    first, last = int(ptr[0]), int(ptr[-1])
    if (first, last) != (0, end):
        raise InputError(f"{name} must start at 0 and end at {end}, got {first}..{last}")


def check_content(columns: Mapping[str, Tensor], node_types: int, edge_types: int) -> None:
    """Check every row: monotone offsets, bonds u < v inside their graph and held once, types in the
    vocabulary, blocks 0..k-1 in each graph.

    Raises:
        InputError: a row breaks one of these.
    """
    for name in columns:
        if name.startswith(_TEXT[1]) or name in ("node_ptr", "bond_ptr", _SMILES[1]):
            if bool((columns[name].diff() < 0).any()):
                raise InputError(f"{name} decreases; offsets must never do")
    check_range("node_type", columns["node_type"], 0, node_types - 1)
    check_range("bond_type", columns["bond_type"], 1, edge_types)
    check_range("split_id", columns["split_id"], 0, NUM_SPLIT_IDS - 1)
    check_range("row", columns["row"], 0, torch.iinfo(torch.int32).max)
    if "block" in columns:
        label_slots("block", columns["block"], columns["node_ptr"].long())
    bonds_of, node_ptr = columns["bond_ptr"].diff().long(), columns["node_ptr"].long()
    size = torch.repeat_interleave(node_ptr.diff(), bonds_of)
    u, v = columns["bond"].long().unbind(1)
    wrong = (u < 0) | (u >= v) | (v >= size)
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        graph = int(torch.searchsorted(columns["bond_ptr"].long(), at, right=True)) - 1
        raise InputError(
            f"bond {at} of graph {graph} joins nodes {int(u[at])} and {int(v[at])}; "
            f"expected u < v < {int(size[at])}, the number of its nodes"
        )
    start = torch.repeat_interleave(node_ptr[:-1], bonds_of)
    pair = (start + u) * (int(size.max()) if size.numel() else 1) + v
    if torch.unique(pair).numel() != pair.numel():
        raise InputError("two nodes are joined by more than one bond; hold each pair once")


def check_range(name: str, column: Tensor, low: int, high: int) -> None:
    """Raise InputError unless every value lies in ``low..high``."""
    least, most = (int(bound) for bound in torch.aminmax(column)) if column.numel() else (low, high)
    if least < low or most > high:
        raise InputError(f"{name} must lie in {low}..{high}, got {least}..{most}")


def content_hash(columns: Mapping[str, Tensor], vocabulary: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of name, type, shape and bytes of each column and of the vocabulary."""
    digest = hashlib.sha256(json.dumps(vocabulary, sort_keys=True).encode())
    for name in sorted(columns):
        column = columns[name].contiguous()
        digest.update(f"\n{name} {column.dtype} {list(column.shape)}\n".encode())
        if column.numel():
            digest.update(column.view(-1).numpy().data)
    return digest.hexdigest()


def write_columns(path: Path, columns: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write columns and the JSON ``header``, its None left out, as one file, all or nothing.

    Raises:
        InputError: the header is not JSON, or the disk refuses the write; no partial file stays.
    """
    new = (*_PREFIXES.values(), *_TEXT)
    version = FORMAT_VERSION if any(name.startswith(new) for name in columns) else 1
    known = {"format": version} | {name: value for name, value in header.items() if value is not None}
    try:
        text = json.dumps(known, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the provenance of a graph store must be JSON (numbers finite): {error}") from error
    arrays = {name: column.contiguous().numpy() for name, column in columns.items()}
    content = safetensors.numpy.save(arrays, metadata={_KEY: text})
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(content)


def read_columns(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Memory-map the columns of a store and return them with its JSON header; no column is read.

    Raises:
        StoreError: the file is missing, truncated, corrupt, not a graph store or of another format version.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "missing"
        raise StoreError(f"graph store {path} is {what}; expected a file made by `graphinv data build`")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise StoreError(f"{path} is a safetensors file but not a graph store; {_REBUILD}")
            header = _parse_header(path, text)
            return {name: file.get_tensor(name) for name in file.keys()}, header
    except SafetensorError as error:
        raise StoreError(f"{path} is truncated, corrupt or no graph store ({error}); {_REBUILD}") from error
    except OSError as error:
        raise StoreError(f"cannot read graph store {path}: {error.strerror or error}") from error


def _parse_header(path: Path, text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
        version = int(header["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the header of graph store {path} is corrupt; {_REBUILD}") from error
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{path} has store format {version}, this graphinv reads {FORMAT_VERSION}; upgrade graphinv or {_REBUILD}"
        )
    if version < 1:
        raise StoreError(f"{path} has store format {version}, this graphinv reads {FORMAT_VERSION}; {_REBUILD}")
    return dict(header)


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
