"""Optimal transport kernel embedding: each learned reference receives a share of the set, by entropic transport.

A soft clustering whose clusters are learned and, unlike in attention, all receive the same mass. Sinkhorn's
iterations run in the log domain over the rows of all groups at once; nothing is padded.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from graphinv.aggr._flow import affine
from graphinv.aggr._group_folds import finite, group_max, group_sum
from graphinv.aggr.base import GroupAggregation
from graphinv.aggr.layout import GroupLayout
from graphinv.errors import InputError, check_positive

__all__ = ["OTKernelAggregation"]

KERNELS = ("linear", "gaussian")


class OTKernelAggregation(GroupAggregation):
    """Optimal transport kernel embedding (OTKE, arXiv:2006.12065): ``x`` [N, F_in] to [G, F_out].

    With features phi(x_i) [H], p learned references z_j [H] and similarities K_ij = <phi(x_i), z_j>, P [n, p] is
    the plan between the weights 1 / n on the rows of a group and 1 / p on the references that has the largest
    sum_ij P_ij K_ij + eps entropy(P). The result is a linear map of sqrt(p) P^T phi(x) [p, H], flattened.

    Sinkhorn stops after ``iterations`` rounds. Each round fits the margin of the rows, then that of the references:
    so each reference receives exactly 1 / p, sqrt(p) times its part of the result is a weighted mean of the
    features, and the margin of the rows holds as far as the iterations have converged (slower with small ``eps``).

    Use it where a set is a mixture of kinds of elements whose averages matter. Computed in float32 at least; the
    result has the dtype of ``x``. An empty group gives zeros before the linear map. Cost: N p H for the plan and
    the result; each iteration works on, and for the gradient keeps, some 4 N p numbers.

    Args:
        in_channels: F_in, at least 1.
        out_channels: F_out, at least 1.
        references: p, at least 1.
        hidden: H, channels of phi, at least 1.
        kernel: "linear": phi(x) = W x + b. "gaussian": phi(x) = sqrt(2 / H) cos(W x + b), learned Fourier features
            (Rahimi and Recht, 2007), which are bounded and start as those of the Gaussian kernel exp(-|x - y|^2 / 2).
        eps: weight of the entropy, above 0; the smaller, the closer P is to an assignment.
        iterations: rounds of Sinkhorn, at least 1.

    Attributes:
        references: [p, H] the learned references, in the space of the features.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> aggregator = OTKernelAggregation(4, 16, references=3)
        >>> x, index = torch.randn(5, 4), torch.tensor([0, 2, 0, 2, 2])
        >>> aggregator(x, index, dim_size=3).shape
        torch.Size([3, 16])
        >>> layout = GroupLayout.from_index(index, dim_size=3)
        >>> aggregator.transport_plan(x, layout)[index == 2].sum(0)  # each reference receives a third
        tensor([0.3333, 0.3333, 0.3333], grad_fn=<SumBackward1>)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        references: int = 8,
        hidden: int = 32,
        kernel: Literal["linear", "gaussian"] = "linear",
        eps: float = 0.5,
        iterations: int = 10,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, out_channels=out_channels, references=references)
        check_positive(hidden=hidden, iterations=iterations)
        if kernel not in KERNELS:
            raise InputError(f"unknown kernel {kernel!r}; available: {', '.join(KERNELS)}")
        if not 0 < eps < math.inf:
            raise InputError(f"eps must be positive and finite, got {eps}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel, self.eps, self.iterations = kernel, eps, iterations
        self.features = nn.Linear(in_channels, hidden)
        self.references = nn.Parameter(torch.empty(references, hidden))
        self.project = nn.Linear(references * hidden, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew; the references have length 1 on average."""
        self.features.reset_parameters()
        self.project.reset_parameters()
        nn.init.normal_(self.references, std=self.references.shape[1] ** -0.5)
        if self.kernel == "gaussian":
            nn.init.normal_(self.features.weight)
            nn.init.uniform_(self.features.bias, 0, 2 * math.pi)

    def reduce_groups(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Return the embedding of the rows ``x`` [N, F_in] of each group: [G, F_out]."""
        with torch.autocast(x.device.type, enabled=False):
            phi = self._phi(x)
            plan = self._plan(phi, layout)
            # One reference after the other: all at once would hold N p H numbers.
            parts = [group_sum(share.unsqueeze(1) * phi, layout) for share in plan.unbind(1)]
            embedding = math.sqrt(len(parts)) * torch.cat(parts, 1)
            return affine(self.project.weight, self.project.bias, embedding).to(x.dtype)

    def transport_plan(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Return P, [N, p] in float32 at least: the mass that goes from each row of ``x`` [N, F_in] to each reference.

        A group with rows has mass 1 in all.

        Raises:
            InputError: the rows do not fit the layout or the module.
        """
        if x.dim() != 2 or x.shape[0] != layout.num_rows:
            raise InputError(f"x must be [N, F] rows of the layout, got shape {list(x.shape)} for {layout}")
        self._check_rows(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._plan(self._phi(x), layout)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, references={self.references.shape[0]}, "
            f"hidden={self.references.shape[1]}, kernel={self.kernel!r}, eps={self.eps}, iterations={self.iterations})"
        )

    def _phi(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(self.references.dtype, torch.float32)
        z = affine(self.features.weight, self.features.bias, x.to(dtype))
        return z if self.kernel == "linear" else math.sqrt(2 / z.shape[1]) * z.cos()

    def _plan(self, phi: Tensor, layout: GroupLayout) -> Tensor:
        scores = phi @ self.references.to(phi.dtype).T / self.eps  # [N, p]
        row_mass = -layout.counts.clamp(min=1).to(phi.dtype).log()[layout.index].unsqueeze(1)  # [N, 1]
        # Scaled by exp(rows_i + columns_j), exp(scores) becomes the plan; the columns' 1 / p is left for the end.
        columns = torch.zeros_like(scores)
        for _ in range(self.iterations - 1):
            _, total, greatest = _exponentials(_fit_rows(scores, columns, row_mass), layout)
            columns = -(total.log() + greatest)
        weight, total, _ = _exponentials(_fit_rows(scores, columns, row_mass), layout)
        return weight / (total * scores.shape[1])


def _fit_rows(scores: Tensor, columns: Tensor, row_mass: Tensor) -> Tensor:
    return scores + (row_mass - torch.logsumexp(scores + columns, 1, keepdim=True))


def _exponentials(x: Tensor, layout: GroupLayout) -> tuple[Tensor, Tensor, Tensor]:
    """Return e = exp(x - m), its sum over the group, and m, the greatest of the group: [N, p] each."""
    greatest = finite(group_max(x.detach(), layout)).index_select(0, layout.index)
    weight = (x - greatest).exp()
    # Spread to the rows, since a logarithm may follow: that of an empty group would have no slope.
    return weight, group_sum(weight, layout).index_select(0, layout.index), greatest
