"""The GRU operator of a tree on Triton: one launch a level forward; one launch and torch's products backward.

The operands are read where they lie: right ones as a slice of the tree, left ones from the copy that the backward
pass needs anyway. No [2P, 6H] of gates is written in the forward pass. Products of float32 are exact unless torch is
allowed to use TF32; where the caller works in half precision they have its dtype, while states and sums are float32.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from graphinv.aggr import _triton_gru_kernels as kernels
from graphinv.aggr._kernels import GRUKernel, Kept, TreeKernel, Work
from graphinv.aggr.layout import Tile

__all__ = ["KERNELS", "GRUTritonKernel"]


class GRUTritonKernel(TreeKernel):
    """Mean of GRU(a, b) and GRU(b, a) for rows of float32; weights as in ``torch.nn.GRUCell``.

    The gates are always computed again in the backward pass: with their products in one launch that is about as fast
    as to write and read them.
    """

    products = torch.float32  # dtype of the operands of products; states, sums and gradients of weights are float32
    plain = staticmethod(GRUKernel.plain)

    def __init__(self, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> None:
        hidden = self.hidden = w_hh.shape[1]
        self.weight = torch.cat([w_ih, w_hh]).to(self.products)
        gates = b_ih[: 2 * hidden] + b_hh[: 2 * hidden]
        self.bias = torch.cat([gates, b_ih[2 * hidden :], b_hh[2 * hidden :]])

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
        direct = work("direct", pairs, self.hidden)
        d = work("d", 2 * pairs, 6 * self.hidden, self.products)
        self._launch(kernels.unfold_level, pairs, flow, direct, d, lefts, rights, tile.left, below)
        of_left, of_right = d[:pairs], d[pairs:]
        _add_product(direct, of_left, self.weight)
        flow.index_copy_(0, tile.left, direct)
        _add_product(below, of_right, self.weight)
        _add_product(self._grad_weight, of_left.t(), lefts)
        _add_product(self._grad_weight, of_right.t(), rights)
        self._grad_bias.add_(d.sum(0, dtype=torch.float32))

    def weight_gradients(self) -> tuple[Tensor, ...]:
        """Return the gradients of w_ih, w_hh, b_ih, b_hh."""
        # Copies, since the gradients of two parameters must not share their memory.
        return tuple(half.clone() for total in (self._grad_weight, self._grad_bias) for half in total.chunk(2))

    @cached_property
    def _grad_weight(self) -> Tensor:
        return torch.zeros_like(self.weight, dtype=torch.float32)

    @cached_property
    def _grad_bias(self) -> Tensor:
        return self._grad_weight.new_zeros(6 * self.hidden)

    def _launch(self, kernel: Any, pairs: int, *tensors: Tensor) -> None:
        if pairs == 0:
            return
        capability = torch.cuda.get_device_capability(tensors[0].device) if tensors[0].is_cuda else (0, 0)
        block, options = _settings(self.products, self.hidden, capability)
        grid = (-(-pairs // block["BLOCK_P"]), -(-self.hidden // block["BLOCK_H"]))
        with torch.cuda.device_of(tensors[0]):  # type: ignore[no-untyped-call]
            kernel[grid](*tensors, self.weight, self.bias, pairs, self.hidden, **block, **options)


class _Float16(GRUTritonKernel):
    products = torch.float16


class _BFloat16(GRUTritonKernel):
    products = torch.bfloat16


KERNELS = {kernel.products: kernel for kernel in (GRUTritonKernel, _Float16, _BFloat16)}


def _settings(products: torch.dtype, hidden: int, capability: tuple[int, int]) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the block sizes and the other settings of a launch, which depend on the dtype, H and the GPU alone.

    No more than 80 KiB of shared memory are asked for. As the compiler for sm_80 to sm_90 counts registers, nothing
    much spills to memory.
    """
    single, narrow = products == torch.float32, hidden <= 16
    exact = single and not _allows_tf32()
    # From Hopper on the units take their operands from shared memory, which leaves registers for twice the columns,
    # so that every row read from the cache is multiplied twice as often.
    wide = not single and hidden > 32 and capability >= (9, 0)
    # Without tensor cores the operands lie in registers beside the eight sums of 64 x 32: more warps and shorter
    # blocks keep them from spilling.
    block = {
        "BLOCK_P": 64,
        "BLOCK_H": 16 if narrow else 64 if wide else 32,
        "BLOCK_K": 16 if narrow or exact else 32,
    }
    options = {
        "PRECISION": "tf32" if single and not exact else "ieee",  # for float32 alone; others multiply as they are
        "WIDEN": capability == (0, 0),  # Triton's interpreter multiplies the bits of bfloat16 as whole numbers
        "num_warps": 8 if exact or wide else 4,
        "num_stages": 2 if single or wide else 3,
    }
    return block, options


def _allows_tf32() -> bool:
    matmul = torch.backends.cuda.matmul
    # Where there is the newer setting, to read the older one is an error once the newer was written.
    if hasattr(matmul, "fp32_precision"):
        return bool(matmul.fp32_precision == "tf32")
    return bool(matmul.allow_tf32)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a b to ``total`` of float32, multiplied in the dtype that one of them was rounded to."""
    if total.dtype == a.dtype == b.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b.to(a.dtype))
