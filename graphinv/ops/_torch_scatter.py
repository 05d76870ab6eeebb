"""The optional torch_scatter backend: its CSR kernels behind the table of functions.

Only sums and their adjoint are taken: the extremes of torch_scatter skip NaN and turn a segment of -inf into
the lowest finite number, so minimum and maximum stay with the reference.
"""

from __future__ import annotations

import importlib
from typing import cast

from torch import Tensor

from graphinv.ops import _torch
from graphinv.ops._torch import Kernels


def load() -> Kernels:
    """Import torch_scatter and return its table.

    Raises:
        ImportError, OSError, RuntimeError: torch_scatter is absent, or was built for another torch.
    """
    torch_scatter = importlib.import_module("torch_scatter")

    def add(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
        if x.numel() == 0:  # segment_csr refuses rows without columns
            return _torch.KERNELS.sum(x, ptr, index)
        return cast(Tensor, torch_scatter.segment_csr(x, ptr, reduce="sum"))

    def spread(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
        if x.numel() == 0:
            return _torch.KERNELS.spread(x, ptr, index)
        return cast(Tensor, torch_scatter.gather_csr(x, ptr))

    rest = _torch.KERNELS
    return Kernels(add, rest.min, rest.max, spread, _torch.softmax_of(add, rest.max, spread), rest.sort)
