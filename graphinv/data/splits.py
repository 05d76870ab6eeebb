"""Split rules: which graphs train, validate and test, written as one short text that provenance keeps.

A rule refers to data lines and not to graphs, so a published split stays the published one when some lines are
rejected. Lines that belong to no part of a published split get split "none" and are never trained or tested on.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor

from graphinv.data.store import SPLITS, GraphStore
from graphinv.errors import InputError

__all__ = ["apply_split", "split_ids"]

_TRAIN, _TEST, _NONE = SPLITS.index("train"), SPLITS.index("test"), SPLITS.index("none")
_INDEX_FILES = {"gdss-qm9": "valid_idx_qm9.json", "gdss-zinc250k": "valid_idx_zinc250k.json"}
_QM9_LINES, _ZINC_CSV_LINES, _ZINC_EXTRA_LINE = 133_885, 249_455, 234_299
_RULES = "none, random:TRAIN/VALID/TEST:SEED, head:FRACTION, index:FILE.json, gdss-qm9, gdss-zinc250k"


def apply_split(
    store: GraphStore,
    rule: str,
    index_file: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> GraphStore:
    """Return the store split by ``rule``; see ``split_ids``. The lines read are ``provenance["counts"]["lines"]``.

    Raises:
        InputError: the rule is unknown or does not fit the store.
    """
    lines = store.provenance.get("counts", {}).get("lines")
    num_lines = int(lines) if lines is not None else int(store.row.max()) + 1 if len(store) else 0
    return store.with_split(split_ids(rule, store.row, num_lines, index_file, data_dir), rule)


def split_ids(
    rule: str,
    row: Tensor,
    num_lines: int,
    index_file: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> Tensor:
    """Return ``[G]`` uint8 split ids of the graphs that came from the data lines ``row`` ``[G]`` of ``num_lines``.

    Rules:
        none: all train.
        random:TRAIN/VALID/TEST:SEED: fractions of the graphs (sum 1) of a random order drawn from SEED >= 0.
        head:FRACTION: the first FRACTION of the lines (rounded down) is test, the rest train; GDSS (arXiv:2202.02514)
            splits its sets of generic graphs by head:0.2.
        index:FILE.json: the 0-based lines listed in FILE are test, the rest train.
        gdss-qm9: ``valid_idx_qm9.json`` of GDSS is test, the rest train; needs the 133,885 lines of QM9.
        gdss-zinc250k: ``valid_idx_zinc250k.json`` likewise; it counts the 249,455 rows of the csv. The .smi file has
            one line more (0-based 234,299): that line is in no split ("none") and the ones after it move up by one.

    The index file is ``index_file``, else the file of that name anywhere below ``data_dir``, else below the folder
    that the environment variable GRAPHINV_DATA_DIR names. Both JSON forms are read: a list of numbers, and
    ``{"valid_idxs": [...]}`` with digits as text.

    Raises:
        InputError: unknown rule, fractions that do not sum to 1, a missing or malformed index file, an index outside
            the lines, or another number of lines than the rule is made for.

    Example:
        >>> split_ids("random:0.5/0.25/0.25:0", torch.arange(8), 8).bincount().tolist()
        [4, 2, 2]
    """
    name, _, argument = rule.partition(":")
    if rule == "none":
        return torch.zeros(row.numel(), dtype=torch.uint8)
    if name == "random":
        return _random_split(rule, argument, row.numel())
    if name == "head":
        return _head_split(rule, argument, row, num_lines)
    if name == "index" and argument:
        return _index_split(_read_indices(Path(argument)), row, num_lines, argument)
    if rule in _INDEX_FILES:
        path = Path(index_file) if index_file is not None else _find_index(rule, data_dir)
        return _gdss_split(rule, _read_indices(path), row, num_lines, str(path))
    raise InputError(f"unknown split rule {rule!r}; available: {_RULES}")


def _random_split(rule: str, argument: str, num_graphs: int) -> Tensor:
    try:
        text, seed_text = argument.split(":")
        fractions, seed = [float(part) for part in text.split("/")], int(seed_text)
    except ValueError as error:
        raise InputError(f"split rule {rule!r} must read random:TRAIN/VALID/TEST:SEED") from error
    if len(fractions) != 3 or not all(0 <= part <= 1 for part in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(f"split rule {rule!r} needs three fractions in [0, 1] with sum 1, got sum {sum(fractions):g}")
    if not 0 <= seed < 2**63:
        raise InputError(f"split rule {rule!r} needs a seed in 0..2**63 - 1, got {seed}")
    order = torch.randperm(num_graphs, generator=torch.Generator().manual_seed(seed))
    ids = torch.empty(num_graphs, dtype=torch.uint8)
    first, second = (round(num_graphs * part) for part in (fractions[0], fractions[0] + fractions[1]))
    for split, part in enumerate((order[:first], order[first:second], order[second:])):
        ids[part] = split
    return ids


def _head_split(rule: str, argument: str, row: Tensor, num_lines: int) -> Tensor:
    try:
        fraction = float(argument)
    except ValueError as error:
        raise InputError(f"split rule {rule!r} must read head:FRACTION, such as head:0.2") from error
    if not 0 <= fraction <= 1:
        raise InputError(f"split rule {rule!r} needs a fraction in [0, 1], got {argument}")
    return torch.where(row < int(fraction * num_lines), _TEST, _TRAIN).to(torch.uint8)


def _gdss_split(rule: str, indices: Tensor, row: Tensor, num_lines: int, source: str) -> Tensor:
    if rule == "gdss-qm9":
        _check_lines(rule, num_lines, {_QM9_LINES})
        return _index_split(indices, row, num_lines, source)
    _check_lines(rule, num_lines, {_ZINC_CSV_LINES, _ZINC_CSV_LINES + 1})
    csv_row = row.long()
    if num_lines == _ZINC_CSV_LINES + 1:
        csv_row = csv_row - (csv_row > _ZINC_EXTRA_LINE).long()
    ids = _index_split(indices, csv_row, _ZINC_CSV_LINES, source)
    if num_lines == _ZINC_CSV_LINES + 1:
        ids[row == _ZINC_EXTRA_LINE] = _NONE
    return ids


def _check_lines(rule: str, num_lines: int, expected: set[int]) -> None:
    if num_lines not in expected:
        raise InputError(
            f"split rule {rule} needs the complete file of {' or '.join(f'{n:,}' for n in sorted(expected))} "
            f"data lines, got {num_lines:,}; use the original file, or a random: or index: rule"
        )


def _index_split(indices: Tensor, row: Tensor, num_lines: int, source: str) -> Tensor:
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < num_lines:
        low, high = int(indices.min()), int(indices.max())
        raise InputError(f"{source} lists lines {low}..{high}, but the data has lines 0..{num_lines - 1}")
    held_out = torch.zeros(num_lines, dtype=torch.bool)
    held_out[indices] = True
    if row.numel() and int(row.max()) >= num_lines:
        raise InputError(f"a graph came from line {int(row.max())}, but the data has lines 0..{num_lines - 1}")
    return torch.where(held_out[row.long()], _TEST, _TRAIN).to(torch.uint8)


def _find_index(rule: str, data_dir: str | os.PathLike[str] | None) -> Path:
    name, folder = _INDEX_FILES[rule], data_dir if data_dir is not None else os.environ.get("GRAPHINV_DATA_DIR")
    found = sorted(Path(folder).rglob(name)) if folder else []
    if not found:
        where = f"not below {folder}" if folder else "and GRAPHINV_DATA_DIR is not set"
        raise InputError(
            f"split rule {rule} needs {name} ({where}): take it from data/{name} of github.com/harryjo97/GDSS, "
            "then give the file itself or put it below the folder that GRAPHINV_DATA_DIR names"
        )
    return found[0]


def _read_indices(path: Path) -> Tensor:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read index file {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"index file {path} is not JSON: {error}") from error
    entries = value.get("valid_idxs") if isinstance(value, dict) else value
    if not isinstance(entries, list) or not all(type(entry) in (int, str) for entry in entries):
        raise InputError(f'index file {path} must hold a list of line numbers or {{"valid_idxs": [...]}}')
    try:
        indices = torch.tensor([int(entry) for entry in entries], dtype=torch.int64)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"index file {path} holds an entry that is no line number: {error}") from error
    if torch.unique(indices).numel() != indices.numel():
        raise InputError(f"index file {path} lists a line twice")
    return indices
