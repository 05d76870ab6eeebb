"""Segment kernels: reduce, normalise, sort, fold and attend to consecutive rows, on plain torch.

Rows [N, *] are divided into S segments by offsets ``ptr`` [S+1]; everything a graph or a set does is such an
operation. Plain torch is the reference; a compiled backend can be chosen with ``use_backend``.
"""

from __future__ import annotations

from graphinv.ops.attention import segment_attention
from graphinv.ops.backend import available_backends, backend_report, current_backend, use_backend
from graphinv.ops.columns import segment_sort_columns
from graphinv.ops.fold import segment_fold
from graphinv.ops.pairs import from_pairs, to_pairs
from graphinv.ops.pointer import index_to_ptr, ptr_to_index
from graphinv.ops.segment import segment_reduce, segment_softmax, segment_sort

__all__ = [
    "available_backends",
    "backend_report",
    "current_backend",
    "from_pairs",
    "index_to_ptr",
    "ptr_to_index",
    "segment_attention",
    "segment_fold",
    "segment_reduce",
    "segment_softmax",
    "segment_sort",
    "segment_sort_columns",
    "to_pairs",
    "use_backend",
]
