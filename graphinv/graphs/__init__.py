"""Batches of graphs, packed and padded, and their ways to PyG and networkx and back."""

from __future__ import annotations

from graphinv.graphs.batch import DenseGraphs, GraphBatch, Labels, pair_values

__all__ = ["DenseGraphs", "GraphBatch", "Labels", "pair_values"]
