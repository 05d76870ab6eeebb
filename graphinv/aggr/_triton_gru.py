"""The GRU operator of a tree on Triton: one launch a level forward; one launch and torch's products backward.

The operands are read where they lie: right ones as a slice of the tree, left ones from the copy that the backward
pass needs anyway. No [2P, 6H] of gates is written in the forward pass. Products of float32 are exact unless torch is
allowed to use TF32.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from graphinv.aggr import _triton_gru_kernels as kernels
from graphinv.aggr._kernels import GRUKernel, Kept, TreeKernel, Work
from graphinv.aggr.layout import Tile

__all__ = ["GRUTritonKernel"]


class GRUTritonKernel(TreeKernel):
    """Mean of GRU(a, b) and GRU(b, a) for rows of float32, float16 or bfloat16; weights as in ``torch.nn.GRUCell``.

    Sums and gates are float32. The gates are always computed again in the backward pass: with their products in one
    launch that is about as fast as to write and read them.
    """

    plain = staticmethod(GRUKernel.plain)

    def __init__(self, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> None:
        self.hidden = w_hh.shape[1]
        self.weights = tuple(w.contiguous() for w in (w_ih, w_hh, b_ih, b_hh))

    def fold(self, tree: Tensor, tile: Tile, lefts: Tensor | None, work: Work, keep: bool) -> Kept:
        """Combine the pairs of a tile of the tree [N, H] in place."""
        pairs = tile.end - tile.begin
        lefts = work("lefts", pairs, self.hidden) if lefts is None else lefts
        torch.index_select(tree, 0, tile.left, out=lefts)
        self._launch(kernels.fold_level, pairs, tree, lefts, tree[tile.begin : tile.end], tile.left)
        return []

    def unfold(self, flow: Tensor, tree: Tensor, tile: Tile, lefts: Tensor, work: Work, kept: Kept) -> None:
        """Carry the gradients in ``flow`` [N, H] from the results of a tile to its operands."""
        pairs = tile.end - tile.begin
        rights, below = tree[tile.begin : tile.end], flow[tile.begin : tile.end]
        direct, d = work("direct", pairs, self.hidden), work("d", 2 * pairs, 6 * self.hidden)
        self._launch(kernels.unfold_level, pairs, flow, direct, d, lefts, rights, tile.left, below)
        flow.index_copy_(0, tile.left, direct.addmm_(d[:pairs], self._stacked))
        below.addmm_(d[pairs:], self._stacked)
        _add_product(self._grad_weight, d[:pairs].t(), lefts)
        _add_product(self._grad_weight, d[pairs:].t(), rights)
        self._grad_bias.add_(d.sum(0, dtype=self._grad_bias.dtype))

    def weight_gradients(self) -> tuple[Tensor, ...]:
        """Return the gradients of w_ih, w_hh, b_ih, b_hh."""
        dtype = self.weights[0].dtype
        # Copies, since the gradients of two parameters must not share their memory.
        halves = (*self._grad_weight.chunk(2), *self._grad_bias.chunk(2))
        return tuple(half.to(dtype, copy=True) for half in halves)

    @cached_property
    def _stacked(self) -> Tensor:
        """[6H, H] both weights, as the columns of d lie."""
        return torch.cat(self.weights[:2])

    @cached_property
    def _grad_weight(self) -> Tensor:
        return torch.zeros_like(self._stacked, dtype=torch.float32)

    @cached_property
    def _grad_bias(self) -> Tensor:
        return self._grad_weight.new_zeros(6 * self.hidden)

    def _launch(self, kernel: Any, pairs: int, *tensors: Tensor) -> None:
        if pairs == 0:
            return
        block, options = _settings(tensors[0], self.hidden)
        grid = (-(-pairs // block["BLOCK_P"]), -(-self.hidden // block["BLOCK_H"]))
        with torch.cuda.device_of(tensors[0]):  # type: ignore[no-untyped-call]
            kernel[grid](*tensors, *self.weights, pairs, self.hidden, **block, **options)


def _settings(x: Tensor, hidden: int) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the block sizes and the other settings of a launch, which depend on the dtype and H alone."""
    single, narrow = x.dtype == torch.float32, hidden <= 16
    exact = single and not _allows_tf32()
    # Without tensor cores the operands lie in registers beside the eight sums of 64 x 32: more warps and shorter
    # blocks keep them from spilling to memory.
    block = {"BLOCK_P": 64, "BLOCK_H": 16 if narrow else 32, "BLOCK_K": 16 if narrow or exact else 32}
    options = {
        "PRECISION": "tf32" if single and not exact else "ieee",  # for float32 alone; others multiply as they are
        "WIDEN": not x.is_cuda,  # Triton's interpreter multiplies the bits of bfloat16 as whole numbers
        "num_warps": 8 if exact else 4,
        "num_stages": 2 if single else 3,  # at most 80 KiB of shared memory
    }
    return block, options


def _allows_tf32() -> bool:
    matmul = torch.backends.cuda.matmul
    # Where there is the newer setting, to read the older one is an error once the newer was written.
    if hasattr(matmul, "fp32_precision"):
        return bool(matmul.fp32_precision == "tf32")
    return bool(matmul.allow_tf32)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a b to ``total``, which may be of a wider dtype."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)
