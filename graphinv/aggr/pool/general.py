"""Two general sums: a mean of functions with learned shape, and Fisher information added up.

``GenAggAggregation`` learns which mean to take, one shape for all channels. ``FishnetsAggregation`` lets each row say
how much it knows about a few learned quantities, and combines as a Gaussian posterior does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from graphinv.aggr._flow import affine
from graphinv.aggr._group_folds import group_sum
from graphinv.aggr._order import is_transformed
from graphinv.aggr.base import GroupAggregation
from graphinv.aggr.layout import GroupLayout
from graphinv.aggr.streaming import State, StreamingAggregation
from graphinv.errors import InputError, check_positive

__all__ = ["FishnetsAggregation", "GenAggAggregation"]


class GenAggAggregation(GroupAggregation):
    """Generalised f-mean (GenAgg, arXiv:2306.13826): ``x`` [N, F] to [G, F], or [G, F_out] with ``out_channels``.

    f^-1( n^(alpha - 1) sum_i f(x_i - beta mu) ), mu the mean of the group, n its rows; f and f^-1 are two learned
    maps of numbers, shared by all channels, alpha and beta are learned. It starts as the mean (both maps the
    identity, alpha = beta = 0); alpha = 1 is the sum, f a high power a maximum, f a square and beta = 1 the
    standard deviation. f^-1 learns to invert f by ``auxiliary_loss``, which belongs in the loss.

    Use it where it is not known which of the standard means suits. Computed in float32 at least; the result has the
    dtype of ``x``. An empty group gives zeros (before the linear map). Cost: ``hidden`` numbers per number of ``x``,
    kept for the gradient in two layers.

    Args:
        in_channels: F, at least 1.
        out_channels: F_out; a linear map of the result. Without it the result has the channels of the rows.
        hidden: width of the two hidden layers of f and of f^-1, at least 1.

    Attributes:
        f: map of numbers [*], element by element; any module of that kind may take its place.
        f_inverse: its inverse, likewise. For an empty group it is called with 1, and the result ignored.
        alpha: scalar, 0 for a mean and 1 for a sum.
        beta: scalar, 1 to subtract the mean of the group first.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> aggregator = GenAggAggregation(2)
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
        >>> aggregator(x, torch.tensor([0, 0]), dim_size=2).tolist()
        [[2.0, 4.0], [0.0, 0.0]]
        >>> aggregator.auxiliary_loss().item()
        0.0
    """

    def __init__(self, in_channels: int, out_channels: int | None = None, *, hidden: int = 8) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, out_channels=1 if out_channels is None else out_channels, hidden=hidden)
        self.in_channels = in_channels
        self.out_channels = in_channels if out_channels is None else out_channels
        self.f: nn.Module = _ScalarMap(hidden)
        self.f_inverse: nn.Module = _ScalarMap(hidden)
        self.alpha = nn.Parameter(torch.empty(()))
        self.beta = nn.Parameter(torch.empty(()))
        self.project = None if out_channels is None else nn.Linear(in_channels, out_channels)
        self._seen: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew; the aggregation starts as the mean."""
        for module in (self.f, self.f_inverse, self.project):
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
        nn.init.zeros_(self.alpha)
        nn.init.zeros_(self.beta)

    def reduce_groups(self, x: Tensor, layout: GroupLayout) -> Tensor:
        """Return the generalised mean of the rows ``x`` [N, F]: [G, F_out]."""
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(self.alpha.dtype, torch.float32)
            rows, count = x.to(dtype), layout.counts.unsqueeze(1)
            some = count.clamp(min=1).to(dtype)
            mean = group_sum(rows, layout) / some
            values = rows - self.beta.to(dtype) * mean.index_select(0, layout.index)
            wanted = self.training and torch.is_grad_enabled() and not is_transformed()
            self._seen = values.detach() if wanted else None
            total = ((self.alpha.to(dtype) - 1) * some.log()).exp() * group_sum(self.f(values), layout)
            # The inverse need not be defined at 0, and neither may be its slope.
            out = torch.where(count > 0, self.f_inverse(torch.where(count > 0, total, 1)), 0)
            if self.project is not None:
                out = affine(self.project.weight, self.project.bias, out)
            return out.to(x.dtype)

    @property
    def has_auxiliary_loss(self) -> bool:
        """True: f^-1 has to learn what f does."""
        return True

    def auxiliary_loss(self) -> Tensor:
        """Return the mean of (f^-1(f(v)) - v)^2 over the values v of the last training forward: a scalar.

        The values x_i - beta mu are constants here: the loss trains f and f^-1 alone. Add it to the loss with a
        weight, 1 for example. It is 0 after a forward without rows.

        Raises:
            InputError: there was no forward in training mode with gradients.
        """
        if self._seen is None:
            raise InputError(
                "auxiliary_loss looks at the last forward in training mode with gradients, and there is none; call "
                "the module first"
            )
        values = self._seen
        with torch.autocast(values.device.type, enabled=False):
            gap: Tensor = self.f_inverse(self.f(values)) - values
            return gap.square().sum() / max(values.numel(), 1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": None}  # a batch is no part of a saved module

    def __repr__(self) -> str:
        projected = "" if self.project is None else f", {self.out_channels}"
        return f"{type(self).__name__}({self.in_channels}{projected})"


class _ScalarMap(nn.Module):
    """v + a small network of v, on numbers [*] one by one; it starts as the identity."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in ((1, hidden), (hidden, hidden), (hidden, 1)))

    def reset_parameters(self) -> None:
        first, second, last = self._linears()
        first.reset_parameters()
        second.reset_parameters()
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, v: Tensor) -> Tensor:
        first, second, last = self._linears()
        h = silu(affine(first.weight, first.bias, v.unsqueeze(-1)))
        h = silu(affine(second.weight, second.bias, h))
        return v + affine(last.weight, last.bias, h).squeeze(-1)

    def _linears(self) -> list[nn.Linear]:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]


class FishnetsAggregation(StreamingAggregation):
    """Sum of scores, weighed by summed Fisher information (Fishnets, arXiv:2310.03812): ``x`` [N, F] to [G, F_out].

    Each row gives a score t_i [p] and a lower triangular factor L_i [p, p] with positive diagonal; F_i = L_i L_i^T
    is what the row knows about p learned quantities. The result is a linear map of
    (I + sum_i F_i)^-1 sum_i t_i, the mean of a Gaussian posterior under the prior N(0, I).

    Use it where rows are of unequal quality, or sets of sizes other than in training. It is exactly a sum:
    ``init``, ``update``, ``merge`` and ``finalize`` give the same result from parts of the groups. Computed in
    float32 at least; the result has the dtype of ``x``. An empty group gives the linear map of 0. Cost: a network of
    one hidden layer and p^2 numbers per row, one p by p solve per group.

    Args:
        in_channels: F, at least 1.
        out_channels: F_out, at least 1.
        parameters: p, at least 1.
        hidden: width of the network of a row, at least 1.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> aggregator = FishnetsAggregation(4, 8, parameters=3)
        >>> aggregator(torch.randn(3, 4), torch.tensor([0, 2, 0]), dim_size=3).shape
        torch.Size([3, 8])
        >>> state = aggregator.update(aggregator.init(3), torch.randn(3, 4), torch.tensor([0, 2, 0]))
        >>> aggregator.finalize(aggregator.merge(state, aggregator.init(3))).shape
        torch.Size([3, 8])
    """

    def __init__(self, in_channels: int, out_channels: int, *, parameters: int = 8, hidden: int = 64) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, out_channels=out_channels, parameters=parameters, hidden=hidden)
        self.in_channels, self.out_channels, self.num_parameters = in_channels, out_channels, parameters
        self.first = nn.Linear(in_channels, hidden)
        self.second = nn.Linear(hidden, parameters + parameters * (parameters + 1) // 2)
        self.project = nn.Linear(parameters, out_channels)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for linear in (self.first, self.second, self.project):
            linear.reset_parameters()

    def scores_and_factors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return t [N, p] and L [N, p, p] of the rows ``x`` [N, F], float32 at least; override for known ones."""
        p = self.num_parameters
        out = affine(self.second.weight, self.second.bias, silu(affine(self.first.weight, self.first.bias, x)))
        scores, diagonal, below = torch.split(out, [p, p, p * (p - 1) // 2], 1)
        row, column = torch.tril_indices(p, p, -1, device=x.device)
        factors = torch.diag_embed(softplus(diagonal)).flatten(1).index_copy(1, row * p + column, below)
        return scores, factors.reshape(-1, p, p)

    def fold(self, x: Tensor, layout: GroupLayout) -> State:
        """Return the summed scores [G, p] and information [G, p, p] of the rows ``x`` [N, F]."""
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(self.project.weight.dtype, torch.float32)
            scores, factors = self.scores_and_factors(x.to(dtype))
            p = self.num_parameters
            fisher = group_sum((factors @ factors.mT).flatten(1), layout).reshape(-1, p, p)
            return {"score": group_sum(scores, layout), "fisher": fisher}

    def finish(self, state: State) -> Tensor:
        """Return the posterior mean, mapped to [G, F_out]."""
        score, fisher = state["score"], state["fisher"]
        with torch.autocast(score.device.type, enabled=False):
            information = fisher + torch.eye(self.num_parameters, dtype=fisher.dtype, device=fisher.device)
            # Unchecked: a group with NaN must not raise for the whole batch.
            mean = torch.linalg.solve_ex(information, score.unsqueeze(2)).result.squeeze(2)
            return affine(self.project.weight, self.project.bias, mean)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, parameters={self.num_parameters})"
