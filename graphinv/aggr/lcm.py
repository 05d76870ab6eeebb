"""Learnable commutative monoids (arXiv:2212.08541): a learned binary operator, folded over each set as a balanced tree.

Every group has a tree of its own: no padding, no batch-mates. With ``order="canonical"`` the tree meets the rows in
an order that their content decides, so that the result is a function of the set although the operator is only
approximately associative.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.dense import Linear

from graphinv.aggr._kernels import Kernel
from graphinv.aggr._order import content_order, is_transformed, random_order
from graphinv.aggr._tree import fold_kernel, fold_on_triton
from graphinv.aggr.base import GroupAggregation, dtype_of
from graphinv.aggr.layout import GroupLayout
from graphinv.aggr.operators import BinaryOp, GatedSumOp, GRUOp, KernelOp, MaxMinOp, MLPOp
from graphinv.errors import InputError
from graphinv.ops.tree import Packed, StaticPacked

__all__ = ["LCMAggregation"]

OPERATORS: dict[str, type[BinaryOp]] = {"gru": GRUOp, "gated_sum": GatedSumOp, "max_min": MaxMinOp, "mlp": MLPOp}
ORDERS = ("canonical", "given", "random")
PAIRINGS = ("strides", "neighbours")


class _Triples(NamedTuple):
    """Latents of one forward, three from a group: a leaf and two values of the tree; ``exists`` [S] marks real ones."""

    a: Tensor
    b: Tensor
    c: Tensor
    exists: Tensor


class LCMAggregation(GroupAggregation):
    """Fold each group with a learned commutative operator: ``x`` [N, F_in] to [G, F_out].

    A drop-in for PyG's ``LCMAggregation`` whose result for a group depends on that group alone, at the cost of
    exactly N - K operator rows for K non-empty groups; while compiling, or on an accelerator with
    ``max_num_elements``, of at most N / 2 rows in each level, since sizes may not be read there (on the Triton backend
    surplus rows cost nothing). Computed in float32
    (or float64, for such parameters) also under autocast and for half precision, where on the Triton backend the
    operands of products, but not states and sums, are rounded to it; the result has the dtype of ``x``.

    Args:
        in_channels: F_in, or -1 to take it from the first input.
        out_channels: F_out, the channels of a latent; ``in_channels`` if not given.
        project: start with relu(linear(x)). Without it, in_channels must equal out_channels.
        op: "gru" (the paper's), "gated_sum" (a quarter of the work, exact identity), "max_min" (a sixth of the work;
            extrapolates best to larger sets where extremes matter), "mlp", or a ``BinaryOp``.
        order: "canonical": rows meet in an order decided by their content: exactly invariant, not continuous where
            two rows change places. "given": as in the input. "random": anew in every training step, from torch's
            default generator as dropout does, and canonical in evaluation; use it with ``auxiliary_loss``.
        pairing: which rows of a group meet first: "strides" (the fastest), or "neighbours", as PyG pairs them.
        recompute: compute the gates again in the backward pass instead of keeping them; slower, a fraction of
            the memory. On the Triton backend that is always done.
        aux_triples: triples of latents per training step that ``auxiliary_loss`` looks at; 0 for none.

    Attributes:
        identity: [F_out] the learned result of an empty group; None if the operator has 0 as exact identity.

    Raises:
        InputError: settings that are unknown or do not fit together.

    Example:
        >>> aggregator = LCMAggregation(16, 32)
        >>> x, index = torch.randn(5, 16), torch.tensor([0, 2, 0, 2, 2])
        >>> aggregator(x, index, dim_size=3).shape
        torch.Size([3, 32])
        >>> aggregator.invariance_error(x, index) < 1e-5
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        project: bool = True,
        op: Literal["gru", "gated_sum", "max_min", "mlp"] | BinaryOp = "gru",
        order: Literal["canonical", "given", "random"] = "canonical",
        *,
        pairing: Literal["strides", "neighbours"] = "strides",
        recompute: bool = True,
        aux_triples: int = 64,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        _check(in_channels, out_channels, project, order, pairing, aux_triples)
        self.in_channels = in_channels if project else out_channels
        self.out_channels = out_channels
        self.project = project
        self.order, self.pairing, self.recompute, self.aux_triples = order, pairing, recompute, aux_triples
        self.lin = Linear(in_channels, out_channels) if project else None
        self.op = _operator(op, out_channels)
        self.identity = None if self.op.exact_identity else nn.Parameter(torch.zeros(out_channels))
        self._triples: _Triples | None = None

    def reset_parameters(self) -> None:
        """Draw all parameters anew; the identity starts at 0."""
        if self.lin is not None:
            self.lin.reset_parameters()
        self.op.reset_parameters()
        if self.identity is not None:
            nn.init.zeros_(self.identity)

    def reduce_groups(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Fold ``x`` [N, F_in] to [G, F_out]."""
        dtype = dtype_of(self, x)  # that of x may be narrower
        products = _half(x.device.type, dtype)
        with torch.autocast(x.device.type, enabled=False):
            latent = x.to(dtype) if self.lin is None else self.lin(x.to(dtype)).relu()
            self.in_channels = x.shape[1] if self.in_channels == -1 else self.in_channels
            if self._kernel is not None:
                latent = latent.to(torch.promote_types(dtype, torch.float32))
            return self._fold(latent, self._order(x, layout), layout, products).to(x.dtype)

    def _check_rows(self, rows: Tensor) -> None:
        if self.in_channels == -1 and self.lin is not None:
            self.in_channels = self.lin.in_channels  # known after the first rows or load_state_dict
        super()._check_rows(rows)

    @property
    def _kernel(self) -> type[Kernel] | None:
        """The kernel of the operator; None if it has none, or its ``forward`` is not that of the kernel any more."""
        return self.op.kernel if isinstance(self.op, KernelOp) and type(self.op).forward is KernelOp.forward else None

    def _order(self, x: Tensor, layout: GroupLayout) -> Tensor | None:
        if self.order == "given":
            return layout.order
        if self.order == "random" and self.training:
            return random_order(layout)
        return content_order(x, layout)

    def _fold(self, x: Tensor, order: Tensor | None, layout: GroupLayout, products: torch.dtype | None) -> Tensor:
        empty = x.new_zeros(self.out_channels) if self.identity is None else self.identity.to(x.dtype)
        self._triples = None
        if layout.num_rows == 0:
            if self._wants_triples():
                self._triples = _Triples(x, x, x, torch.zeros(0, dtype=torch.bool, device=x.device))
            return empty.expand(layout.num_groups, -1) + 0 * x.sum()
        plan, kernel = layout.plan(self.pairing), self._kernel
        rows = plan.perm if order is None else order[plan.perm]
        places, exists = self._places(plan)
        inner = places[1:].flatten()
        on_triton = fold_on_triton(kernel, x)
        if on_triton is None and isinstance(plan, Packed) and kernel is not None and not is_transformed():
            results, nodes = fold_kernel(x, rows, plan, inner, kernel, not self.recompute, self._weights(x))
        else:
            packed = x.index_select(0, rows)
            if on_triton is not None:
                results = on_triton(packed, plan, self._weights(x), products)
            else:
                results = plan.table(packed, self._combine)
            nodes = results.index_select(0, inner)
        if places.shape[1]:
            b, c = nodes.chunk(2)
            self._triples = _Triples(x.index_select(0, rows[places[0]]), b, c, exists)
        return plan.spread(results, layout.num_groups, empty)

    def _combine(self, a: Tensor, b: Tensor) -> Tensor:
        if self._kernel is not None:
            return self._kernel.plain(a, b, *self._weights(a))
        out: Tensor = self.op(a, b)
        if out.shape != a.shape:
            raise InputError(f"the operator must map {list(a.shape)} to the same shape, it returned {list(out.shape)}")
        return out

    def _weights(self, like: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(self.op, KernelOp)
        return tuple(weight.to(like.dtype) for weight in self.op.weights())

    def _places(self, plan: Packed | StaticPacked) -> tuple[Tensor, Tensor]:
        """Choose packed places spread evenly over the rows: [3, S], a leaf and two right operands of its group."""
        num_rows, count = plan.perm.shape[0], self.aux_triples if self._wants_triples() else 0
        leaf = torch.arange(count, device=plan.perm.device) * num_rows // max(count, 1)
        position = plan.position[leaf]
        rank = leaf - plan.offsets[position]
        others = plan.sizes[rank] - 1
        exists = others >= 2
        # Of three rows only the first is not among the two right operands: with itself it would not be a triple.
        position = torch.where(others == 2, 0, position)
        leaf = torch.where(others == 2, rank, leaf)
        second, third = (plan.offsets[1 + (position + k) % others.clamp(min=1)] for k in (0, 1))
        return torch.stack([leaf, *(torch.where(exists, p + rank, leaf) for p in (second, third))]), exists

    def _wants_triples(self) -> bool:
        return self.aux_triples > 0 and self.training and torch.is_grad_enabled() and not is_transformed()

    @property
    def has_auxiliary_loss(self) -> bool:
        """Whether ``aux_triples`` is not 0."""
        return self.aux_triples > 0

    def auxiliary_loss(self) -> Tensor:
        """Return the penalty that teaches the operator to be associative, of the last training forward: a scalar.

        The mean square of (a o b) o c - a o (b o c) over triples of latents of one group (arXiv:2212.08541), plus
        that of a o e - a, e the identity. Add it to the loss with a weight, 0.1 for example.

        Raises:
            InputError: there was no forward in training mode with gradients, or ``aux_triples`` is 0.
        """
        if self._triples is None:
            raise InputError(
                "auxiliary_loss looks at the last forward in training mode with gradients, and there is "
                f"none; call the module first (aux_triples is {self.aux_triples}, 0 switches it off)"
            )
        a, b, c, exists = self._triples
        with torch.autocast(a.device.type, enabled=False):
            gap = self._combine(self._combine(a, b), c) - self._combine(a, self._combine(b, c))
            loss = torch.where(exists, gap.square().mean(1), 0).sum() / exists.sum().clamp(min=1)
            if self.identity is not None:
                e = self.identity.to(a.dtype).expand_as(a)
                loss = loss + (self._combine(a, e) - a).square().sum() / max(a.numel(), 1)
        return loss

    @classmethod
    def from_pyg(
        cls,
        aggregation: pyg.LCMAggregation,
        order: Literal["canonical", "given", "random"] = "given",
        pairing: Literal["strides", "neighbours"] = "neighbours",
    ) -> LCMAggregation:
        """Return a module with a copy of the weights of PyG's ``LCMAggregation``.

        With the settings as they are, groups of one size 2^k give PyG's result; elsewhere PyG's depends on the
        largest group of the batch.

        Raises:
            InputError: ``aggregation`` is not PyG's class.
        """
        if type(aggregation).__name__ != "LCMAggregation" or not hasattr(aggregation, "gru_cell"):
            raise InputError(f"from_pyg needs PyG's LCMAggregation, got {type(aggregation).__name__}")
        weight = aggregation.gru_cell.weight_ih
        out = cls(aggregation.in_channels, aggregation.out_channels, aggregation.project, "gru", order, pairing=pairing)
        out.to(weight.device, weight.dtype)
        assert isinstance(out.op, GRUOp)
        out.op.cell.load_state_dict(aggregation.gru_cell.state_dict())
        if out.lin is not None:
            out.lin.load_state_dict(aggregation.lin.state_dict())
        return out

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_triples": None}  # latents with a graph can be neither copied nor saved

    def __repr__(self) -> str:
        name = type(self.op).__name__
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, project={self.project}, op={name}, "
            f"order={self.order!r})"
        )


def _half(device: str, dtype: torch.dtype) -> torch.dtype | None:
    """Return the half precision that the caller works in, by autocast or with parameters of ``dtype``; else None."""
    wanted = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else dtype
    return wanted if wanted in (torch.float16, torch.bfloat16) else None


def _operator(op: str | BinaryOp, channels: int) -> BinaryOp:
    if isinstance(op, str):
        if op not in OPERATORS:
            raise InputError(f"unknown op {op!r}; available: {', '.join(OPERATORS)}, or an instance of BinaryOp")
        return OPERATORS[op](channels)
    if not isinstance(op, BinaryOp):
        raise InputError(f"op must be a name or an instance of BinaryOp, got {type(op).__name__}")
    if op.channels != channels:
        raise InputError(f"op works on {op.channels} channels, but out_channels is {channels}")
    return op


def _check(in_channels: int, out_channels: int, project: bool, order: str, pairing: str, aux_triples: int) -> None:
    if in_channels != -1 and in_channels < 1:
        raise InputError(f"in_channels must be at least 1, or -1 to take it from the first input; got {in_channels}")
    if out_channels == -1:
        raise InputError("out_channels must be given when in_channels is -1")
    if out_channels < 1:
        raise InputError(f"out_channels must be at least 1, got {out_channels}")
    if not project and in_channels not in (-1, out_channels):
        raise InputError(f"without project, in_channels {in_channels} must equal out_channels {out_channels}")
    for name, value, choices in (("order", order, ORDERS), ("pairing", pairing, PAIRINGS)):
        if value not in choices:
            raise InputError(f"unknown {name} {value!r}; available: {', '.join(choices)}")
    if aux_triples < 0:
        raise InputError(f"aux_triples must be at least 0, got {aux_triples}")
