"""Graphs on disk and on their way to a model: stores, split rules, file readers and the loader."""

from __future__ import annotations

from graphinv.data.affinities import Affinities, load_affinities, read_affinities
from graphinv.data.graph_files import build_graphs, is_graph_file, read_graphs, write_graphs
from graphinv.data.loader import GraphLoader
from graphinv.data.readers import file_sha256, read_columns, read_rows, read_smiles
from graphinv.data.splits import apply_split, split_ids
from graphinv.data.store import SPLITS, GraphStore
from graphinv.data.synthetic import community_graphs, grid_graphs, tree_graphs
from graphinv.data.vocabulary import Vocabulary

__all__ = [
    "SPLITS",
    "Affinities",
    "GraphLoader",
    "GraphStore",
    "Vocabulary",
    "apply_split",
    "build_graphs",
    "community_graphs",
    "file_sha256",
    "grid_graphs",
    "is_graph_file",
    "load_affinities",
    "read_affinities",
    "read_columns",
    "read_graphs",
    "read_rows",
    "read_smiles",
    "split_ids",
    "tree_graphs",
    "write_graphs",
]
