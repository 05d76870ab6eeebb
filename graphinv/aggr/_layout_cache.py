"""Remember the last few layouts, so that a network of many layers finds the groups of its edges once.

A layout is kept per memory of the index tensor, its place in it, and its version: writing to the tensor in place
makes a new layout. The tensor itself is not kept alive. Writes that torch does not count (through numpy, or
``tensor.data``) are not noticed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from graphinv.aggr.layout import GroupLayout

__all__ = ["cached_layout", "forget_layouts"]

_CAPACITY = 16
_kept: OrderedDict[tuple[Any, ...], tuple[StorageWeakRef, GroupLayout]] = OrderedDict()
_lock = Lock()


def cached_layout(tensor: Tensor, build: Callable[[], GroupLayout], *settings: int | str | None) -> GroupLayout:
    """Return the layout kept for ``tensor`` and ``settings``, or the one that ``build`` makes.

    Example:
        >>> index = torch.tensor([0, 1, 1])
        >>> a, b = (cached_layout(index, lambda: GroupLayout.from_index(index), None) for _ in range(2))
        >>> a is b
        True
    """
    if torch.compiler.is_compiling() or tensor.is_inference() or type(tensor) is not Tensor:
        return build()
    try:
        memory = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    except (NotImplementedError, RuntimeError):  # a tensor without memory of its own, as inside torch.func.vmap
        return build()
    # The weak reference keeps the address from being used again for as long as the entry is here.
    place = (memory.cdata, tensor.storage_offset(), tensor._version)
    key: tuple[Any, ...] = (*place, tensor.shape, tensor.stride(), tensor.dtype, *settings)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key][1]
    layout = build()
    with _lock:
        for old in [k for k, (ref, _) in _kept.items() if _gone(ref) or (k[0] == key[0] and k[2] != key[2])]:
            del _kept[old]
        _kept[key] = (memory, layout)
        while len(_kept) > _CAPACITY:
            _kept.popitem(last=False)
    return layout


def forget_layouts() -> None:
    """Drop every layout that is kept, to free their memory.

    Example:
        >>> forget_layouts()
    """
    with _lock:
        _kept.clear()


def _gone(memory: StorageWeakRef) -> bool:
    return bool(memory.expired())  # type: ignore[no-untyped-call]
