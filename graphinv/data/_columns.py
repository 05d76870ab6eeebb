"""The columns of a graph store as plain tensors: their shapes, their content, their hash and their one file.

The file is safetensors, so it is memory-mapped and runs no code; everything that is not a tensor is one JSON text in
its metadata. Nothing here knows what a graph is beyond "offsets, types and pairs of local ids".
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
from graphinv.errors import InputError, StoreError
from graphinv.ops.labels import label_slots

FORMAT_VERSION = 1
PROPERTY = "property."
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
_SMILES: dict[str, tuple[torch.dtype, ...]] = {"smiles_bytes": (torch.uint8,), "smiles_ptr": _OFFSETS}


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


def floats(values: Any) -> Tensor:
    """Return numbers as float64 if they are, else float32."""
    column = torch.as_tensor(values)
    return column if column.dtype == torch.float64 else column.to(torch.float32)


def pack_text(lines: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the UTF-8 characters ``[C]`` uint8 of the lines back to back and their offsets ``[G+1]``."""
    text = [line.encode() for line in lines]
    ptr = torch.tensor([0, *map(len, text)], dtype=torch.int64).cumsum(0)
    characters = torch.frombuffer(bytearray(b"".join(text) or b"\0"), dtype=torch.uint8)
    return characters[: int(ptr[-1])], narrow_offsets(ptr)


def narrow_offsets(ptr: Tensor) -> Tensor:
    """Return the offsets as int32, or int64 where the last one would overflow."""
    fits = ptr.numel() == 0 or int(ptr[-1]) <= torch.iinfo(torch.int32).max
    return ptr.to(torch.int32 if fits else torch.int64).contiguous()


def narrow_ids(ids: Tensor, most: int) -> Tensor:
    """Return local ids (nodes or blocks of a graph) in the narrowest type that holds ``most``."""
    dtype = torch.uint8 if most <= 255 else torch.int16 if most <= 32767 else torch.int32
    return ids.to(dtype).contiguous()


def check_shapes(columns: Mapping[str, Tensor]) -> None:
    """Check types, shapes and the ends of the offsets in constant time.

    Raises:
        InputError: a column is missing or does not fit the others.
    """
    expected = _REQUIRED | (_SMILES if _SMILES.keys() & columns.keys() else {})
    expected |= {"block": _LOCAL_IDS} if "block" in columns else {}
    for name, dtypes in expected.items():
        if name not in columns:
            raise InputError(f"the graph store has no column {name}")
        if columns[name].dtype not in dtypes:
            raise InputError(f"column {name} must be {_names(dtypes)}, got {columns[name].dtype}")
    num_graphs = columns["node_ptr"].numel() - 1
    num_bonds = columns["bond"].size(0) if columns["bond"].dim() else 0
    if num_graphs < 0:
        raise InputError("node_ptr must hold num_graphs + 1 offsets, got none")
    shapes = {name: [num_graphs] for name in ("split_id", "row")}
    shapes |= {name: [num_graphs + 1] for name in ("node_ptr", "bond_ptr", "smiles_ptr") if name in columns}
    shapes |= {"bond": [num_bonds, 2], "bond_type": [num_bonds], "block": [columns["node_type"].numel()]}
    for name, column in columns.items():
        if name.startswith(PROPERTY):
            shapes[name] = [num_graphs]
            if column.dtype not in (torch.float32, torch.float64):
                raise InputError(f"{name} must be float32 or float64, got {column.dtype}")
        shape = shapes.get(name, [column.numel()])
        if list(column.shape) != shape:
            raise InputError(f"column {name} must have shape {shape}, got {list(column.shape)}")
    for offsets, rows in (("node_ptr", "node_type"), ("bond_ptr", "bond"), ("smiles_ptr", "smiles_bytes")):
        if offsets in columns:
            _check_ends(offsets, columns[offsets], columns[rows].size(0))


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
    for name in ("node_ptr", "bond_ptr", "smiles_ptr"):
        if name in columns and bool((columns[name].diff() < 0).any()):
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
    known = {"format": FORMAT_VERSION} | {name: value for name, value in header.items() if value is not None}
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
    if version < FORMAT_VERSION:
        raise StoreError(f"{path} has store format {version}, this graphinv reads {FORMAT_VERSION}; {_REBUILD}")
    return dict(header)


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
