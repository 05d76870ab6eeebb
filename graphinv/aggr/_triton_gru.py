"""The GRU tree on Triton: all strides up to 32 in one launch, each longer one in a launch of its own.

Operators that the compiler sees as one, of known shapes, on the packed rows of an exact plan or of a static one: which
rows meet follows from offsets on the device, and nothing is read back. Products of float32 are exact unless torch is
allowed to use TF32; where the caller works in half precision they have its dtype, while states, sums and gradients are
float32. The gates are computed again in the backward pass; the gradient of the weights is one matrix product for all
strides up to 32, unless that takes much memory, and one for each longer stride.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphinv.aggr import _triton_gru_kernels as kernels
from graphinv.aggr._kernels import GRUKernel
from graphinv.ops.tree import Packed, StaticPacked

__all__ = ["fold_gru"]

_TOP = 32  # the longest stride of the common launch
_DEFERRED = 1 << 27  # numbers of gradients that may wait for the product of the weights


@dataclass(frozen=True, eq=False)
class _Plan:
    """What the kernels know of the tree: tensors on the device, and bounds on the host."""

    offsets: Tensor  # [L + 1] packed row where each position begins
    sizes: Tensor  # [>= R] rows of each rank, never increasing
    position: Tensor  # [N] of each packed row
    ranks: int  # R
    first: int  # rows before it are no right operands; 0 where that is not known
    levels: list[int]  # most pairs of each stride, the longest one first

    @staticmethod
    def of(plan: Packed | StaticPacked) -> _Plan:
        ranks = min(plan.groups.shape[0], plan.perm.shape[0])
        if isinstance(plan, Packed):
            levels = [end - begin for begin, end, _ in plan.levels]
            return _Plan(plan.offsets, plan.sizes, plan.position, ranks, ranks, levels)
        levels = [pairs for _, pairs in plan.bounds()]
        return _Plan(plan.offsets, plan.sizes, plan.position, ranks, 0, levels)

    def strides(self) -> list[tuple[int, int]]:
        """Return each stride and its pairs, the longest one first."""
        count = len(self.levels)
        return [(1 << (count - 1 - place), pairs) for place, pairs in enumerate(self.levels)]


def fold_gru(
    x: Tensor,
    plan: Packed | StaticPacked,
    weights: tuple[Tensor, ...],
    products: torch.dtype | None = None,
) -> Tensor:
    """Fold packed rows ``x`` [N, H] of float32, N > 0, as ``plan.table`` does: [N, H], the result of each rank first.

    Args:
        x: packed rows.
        plan: of the rows.
        weights: w_ih, w_hh, b_ih, b_hh as in ``torch.nn.GRUCell``, float32.
        products: what the operands of products are rounded to; float32 if None.
    """
    w_ih, w_hh, b_ih, b_hh = weights
    hidden = x.shape[1]
    bias = torch.cat([b_ih[: 2 * hidden] + b_hh[: 2 * hidden], b_ih[2 * hidden :], b_hh[2 * hidden :]])
    bounds = _Plan.of(plan)
    where = (bounds.offsets, bounds.sizes, bounds.position, bounds.ranks, bounds.first, bounds.levels)
    tree: Tensor = gru_tree(x, torch.cat([w_ih, w_hh]), bias, *where, products or x.dtype)[0]
    return tree


# Written out, as torch 2.6 does not read list[int].
_GIVEN = "Tensor weight, Tensor bias, Tensor offsets, Tensor sizes, Tensor position"
_KNOWN = "SymInt ranks, SymInt first, SymInt[] levels, ScalarType products"
_FORWARD = f"(Tensor x, {_GIVEN}, {_KNOWN}) -> (Tensor, Tensor)"
_BACKWARD = f"(Tensor grad, Tensor tree, Tensor lefts, {_GIVEN}, {_KNOWN}) -> (Tensor, Tensor, Tensor)"


@torch.library.custom_op("graphinv::gru_tree", mutates_args=(), schema=_FORWARD)
def gru_tree(
    x: Tensor, weight: Tensor, bias: Tensor, offsets: Tensor, sizes: Tensor, position: Tensor,
    ranks: int, first: int, levels: list[int], products: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Fold rows ``x`` [N, H]; return the tree [N, H], and the left operands in the rows of the right ones less first.

    ``weight`` [6H, H] are w_ih and w_hh; ``bias`` [4H] those of reset and update, of new of the input, and of new of
    the hidden state.
    """
    plan = _Plan(offsets, sizes, position, ranks, first, levels)
    launch = _Launch(x, products)
    tree = x.contiguous().clone()
    # Surplus rows of a static plan are multiplied by 0.
    lefts = (torch.zeros_like if first == 0 else torch.empty_like)(tree[first:])
    given = launch.operands(weight, bias)
    for stride, pairs in plan.strides():
        if stride > _TOP:
            where = (offsets, position)
            launch(kernels.fold_level, pairs, tree, lefts, *where, *given, len(offsets) - 1, first, pairs, stride)
    if plan.levels:
        launch.subtrees(kernels.fold_subtrees, ranks, tree, lefts, offsets, sizes, *given, ranks, first)
    return tree, lefts


@gru_tree.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, offsets: Tensor, sizes: Tensor, position: Tensor,
    ranks: int, first: int, levels: list[int], products: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return torch.empty_like(x), x.new_empty(x.shape[0] - first, x.shape[1])


@torch.library.custom_op("graphinv::gru_tree_backward", mutates_args=(), schema=_BACKWARD)
def gru_tree_backward(
    grad: Tensor, tree: Tensor, lefts: Tensor, weight: Tensor, bias: Tensor, offsets: Tensor, sizes: Tensor,
    position: Tensor, ranks: int, first: int, levels: list[int], products: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of ``x``, ``weight`` and ``bias`` of ``gru_tree`` from that of the tree, ``grad`` [N, H]."""
    plan = _Plan(offsets, sizes, position, ranks, first, levels)
    launch = _Launch(tree, products)
    flow = grad.contiguous().clone()
    gathered = _WeightGradient(weight)
    given = launch.operands(weight, bias)
    length, hidden = len(offsets) - 1, tree.shape[1]
    together = 12 * hidden * lefts.shape[0] <= _DEFERRED
    if together and plan.levels:
        rows = sum(pairs for stride, pairs in plan.strides() if stride <= _TOP) if first else lefts.shape[0]
        new = tree.new_empty if first else tree.new_zeros
        d = new(2, rows, 6 * hidden, dtype=products)
        where = (flow, d, tree, lefts, offsets, sizes)
        launch.subtrees(kernels.unfold_subtrees, ranks, *where, *given, ranks, first, rows)
        gathered.add(d, lefts[:rows], tree[first : first + rows])
    for stride, pairs in reversed(plan.strides()):
        if stride <= _TOP and together:
            continue
        for skip, count in _parts(pairs, max(_DEFERRED // (12 * hidden), 1)):
            d = tree.new_empty(2, count, 6 * hidden, dtype=products)
            where = (flow, d, tree, lefts, offsets, position)
            launch(kernels.unfold_level, count, *where, *given, length, first, skip, count, stride)
            tails = (offsets[stride] + torch.arange(skip, skip + count, device=d.device)).clamp(max=len(tree) - 1)
            gathered.add(d, lefts.index_select(0, tails - first), tree.index_select(0, tails))
    return flow, gathered.weight, gathered.bias()


@gru_tree_backward.register_fake
def _(
    grad: Tensor, tree: Tensor, lefts: Tensor, weight: Tensor, bias: Tensor, offsets: Tensor, sizes: Tensor,
    position: Tensor, ranks: int, first: int, levels: list[int], products: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return torch.empty_like(tree), torch.empty_like(weight), torch.empty_like(bias)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, offsets, sizes, position, *ctx.settings = inputs
    tree, lefts = output
    ctx.mark_non_differentiable(lefts)
    ctx.save_for_backward(x, weight, bias, offsets, sizes, position, tree, lefts)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, offsets, sizes, position, tree, lefts = ctx.saved_tensors
    where = (offsets, sizes, position)
    if torch.is_grad_enabled():  # create_graph=True, where the gradient itself will be differentiated
        found = _plainly(grad, (x, weight, bias), _Plan(*where, *ctx.settings[:-1]))
    else:
        found = gru_tree_backward(grad, tree, lefts, weight, bias, *where, *ctx.settings)
    return (*found, *[None] * 7)


gru_tree.register_autograd(_differentiate, setup_context=_save)


def _plainly(grad: Tensor, inputs: tuple[Tensor, ...], plan: _Plan) -> tuple[Tensor | None, ...]:
    """Return the gradients of the inputs in operations that can be differentiated again."""
    x, weight, bias = (t.view_as(t) for t in inputs)  # what leads from one to another does not count as a path
    hidden = x.shape[1]
    none = bias.new_zeros(2 * hidden)
    given = (*weight.chunk(2), bias[: 3 * hidden], torch.cat([none, bias[3 * hidden :]]))
    # The order of the rows is all that the tree knows of groups.
    static = StaticPacked(plan.position, plan.position, plan.sizes[: plan.ranks], plan.sizes, plan.offsets)
    table = static.table(x, lambda a, b: GRUKernel.plain(a, b, *given))
    wanted = [t for t in (x, weight, bias) if t.requires_grad]
    found = iter(torch.autograd.grad(table, wanted, grad, create_graph=True))
    return tuple(next(found) if t.requires_grad else None for t in (x, weight, bias))


class _WeightGradient:
    """Gathers the gradients of the weight and the bias, in float32."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = torch.zeros_like(weight)
        self.sums = weight.new_zeros(weight.shape[0])

    def add(self, d: Tensor, lefts: Tensor, rights: Tensor) -> None:
        """Add what pairs of rows [P, H] give, ``d`` [2, P, 6H] being the gradients of their products."""
        for slopes, rows in zip(d, (lefts, rights), strict=True):
            if d.dtype == rows.dtype:
                self.weight.addmm_(slopes.t(), rows)
            else:
                self.weight.add_(slopes.t() @ rows.to(d.dtype))
        self.sums.add_(d.sum((0, 1), dtype=torch.float32))

    def bias(self) -> Tensor:
        """Return the gradient of the bias [4H]; the inputs of reset and update have the same as their hidden parts."""
        hidden = self.weight.shape[1]
        return torch.cat([self.sums[: 3 * hidden], self.sums[5 * hidden :]])


class _Launch:
    """Starts kernels with the settings for the dtype of products, H and the device."""

    def __init__(self, like: Tensor, products: torch.dtype) -> None:
        self.like, self.products, self.hidden = like, products, like.shape[1]
        capability = torch.cuda.get_device_capability(like.device) if like.is_cuda else (0, 0)
        self.block, self.options = _settings(products, self.hidden, capability)

    def operands(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight as it is multiplied, and the bias."""
        return weight.to(self.products).contiguous(), bias.contiguous()

    def __call__(self, kernel: Any, pairs: int, *args: Any) -> None:
        """Launch for pairs of one stride."""
        self._start(kernel, -(-pairs // self.block["BLOCK_P"]), *args)

    def subtrees(self, kernel: Any, ranks: int, *args: Any) -> None:
        """Launch for ranks."""
        together = self.block["BLOCK_P"] // 2  # from stride 2 on their pairs fill a block
        self._start(kernel, -(-ranks // together), *args, _TOP, together)

    def _start(self, kernel: Any, programs: int, *args: Any) -> None:
        if programs:
            with torch.cuda.device_of(self.like):  # type: ignore[no-untyped-call]
                kernel[(programs,)](*args, self.hidden, **self.block, **self.options)


def _parts(pairs: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield begin and length of parts of at most ``most`` pairs."""
    for begin, end in itertools.pairwise([*range(0, pairs, most), pairs]):
        yield begin, end - begin


def _settings(products: torch.dtype, hidden: int, capability: tuple[int, int]) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the block sizes and the other settings of a launch, which depend on the dtype, H and the GPU alone.

    No more than 90 KiB of shared memory are asked for. As the compiler for sm_80 and sm_90 counts registers, some
    250 bytes a thread spill to memory at worst, up to 1,000 where H is no multiple of 4.
    """
    single, narrow = products == torch.float32, hidden <= 16
    exact = single and not _allows_tf32()
    # From Hopper on the units take their operands from shared memory, which leaves registers for the sums of twice the
    # pairs, so that every weight read from the cache is multiplied twice as often.
    wide = not single and capability >= (9, 0)
    block = {
        "BLOCK_P": 128 if wide else 64,
        "BLOCK_H": 16 if narrow else 32,
        "BLOCK_K": 16 if narrow or exact else 32,
    }
    options = {
        "PRECISION": "tf32" if single and not exact else "ieee",  # for float32 alone; others multiply as they are
        "WIDEN": capability == (0, 0),  # Triton's interpreter multiplies the bits of bfloat16 as whole numbers
        "num_warps": 8,
        "num_stages": 2 if single or wide else 3,
    }
    return block, options


def _allows_tf32() -> bool:
    matmul = torch.backends.cuda.matmul
    # Where there is the newer setting, to read the older one is an error once the newer was written.
    if hasattr(matmul, "fp32_precision"):
        return bool(matmul.fp32_precision == "tf32")
    return bool(matmul.allow_tf32)
