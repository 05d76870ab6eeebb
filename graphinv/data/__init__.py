"""Graphs on disk and on their way to a model: stores, split rules, file readers and the loader."""

from __future__ import annotations

from graphinv.data.loader import GraphLoader
from graphinv.data.readers import file_sha256, read_columns, read_smiles
from graphinv.data.splits import apply_split, split_ids
from graphinv.data.store import SPLITS, GraphStore
from graphinv.data.vocabulary import Vocabulary

__all__ = [
    "SPLITS",
    "GraphLoader",
    "GraphStore",
    "Vocabulary",
    "apply_split",
    "file_sha256",
    "read_columns",
    "read_smiles",
    "split_ids",
]
