"""Permutation-invariant learning on graphs and sets: aggregators, graph generators, molecules in and out.

Everything below is imported on first use, so that importing graphinv costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "GDSS": "graphinv.models",
    "PARD": "graphinv.models",
    "DenseGraphs": "graphinv.graphs",
    "GraphBatch": "graphinv.graphs",
    "GraphGenerator": "graphinv.models",
    "GraphLoader": "graphinv.data",
    "GraphStore": "graphinv.data",
    "GraphinvError": "graphinv.errors",
    "GroupLayout": "graphinv.aggr",
    "LCMAggregation": "graphinv.aggr",
    "MoleculeCodec": "graphinv.mol",
    "MoleculeGenerator": "graphinv.pipeline",
    "MonoidBankAggregation": "graphinv.aggr",
    "Samples": "graphinv.pipeline",
    "TrainConfig": "graphinv.training",
    "Vocabulary": "graphinv.data",
    "block_order": "graphinv.diffusion",
    "build": "graphinv.sources",
    "evaluate": "graphinv.metrics.evaluation",
    "load": "graphinv.pipeline",
    "train": "graphinv.training",
}
_OLD = {  # name: where it lives, and what takes its place
    "build_dataset": ("graphinv.mol", "graphinv.build"),
    "build_graphs": ("graphinv.data", "graphinv.build"),
    "build_store": ("graphinv.mol", "graphinv.build"),
}

_MODULES = (  # reached by attribute, too
    *("aggr", "cli", "columns", "compounds", "convert", "data", "diffusion", "draw", "errors", "graphs", "metrics"),
    *("models", "mol", "nn", "noise", "ops", "pipeline", "pretrained", "sets", "sources", "testing", "training"),
)

if TYPE_CHECKING:
    from graphinv.aggr import GroupLayout, LCMAggregation, MonoidBankAggregation
    from graphinv.data import GraphLoader, GraphStore, Vocabulary
    from graphinv.diffusion import block_order
    from graphinv.errors import GraphinvError
    from graphinv.graphs import DenseGraphs, GraphBatch
    from graphinv.metrics.evaluation import evaluate
    from graphinv.models import GDSS, PARD, GraphGenerator
    from graphinv.mol import MoleculeCodec
    from graphinv.pipeline import MoleculeGenerator, Samples, load
    from graphinv.sources import build
    from graphinv.training import TrainConfig, train

__all__ = [
    "GDSS",
    "PARD",
    "DenseGraphs",
    "GraphBatch",
    "GraphGenerator",
    "GraphLoader",
    "GraphStore",
    "GraphinvError",
    "GroupLayout",
    "LCMAggregation",
    "MoleculeCodec",
    "MoleculeGenerator",
    "MonoidBankAggregation",
    "Samples",
    "TrainConfig",
    "Vocabulary",
    "block_order",
    "build",
    "evaluate",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"graphinv.{name}")
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _OLD:
        home, new = _OLD[name]
        from graphinv.errors import warn_old_name

        warn_old_name(f"graphinv.{name}", new)
        return getattr(import_module(home), name)
    raise AttributeError(f"module 'graphinv' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
