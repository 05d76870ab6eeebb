"""Properties that graph and set functions promise, as assertions, and random graphs to check them on.

For tests of this library and of anything built on it. Each assertion names the largest error, the seed and the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphinv.columns import Columns
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs, GraphBatch

__all__ = [
    "TOLERANCE",
    "assert_batch_independent",
    "assert_causal",
    "assert_close",
    "assert_equivariant",
    "assert_no_padding_leak",
    "assert_permutation_invariant",
    "assert_round_trip",
    "fitted_order",
    "permute_dense",
    "permute_graphs",
    "random_dense",
    "random_graphs",
]

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Absolute and relative tolerance per dtype."""

GraphFunction = Callable[[DenseGraphs], Tensor]


def assert_close(actual: Tensor, expected: Tensor, what: str, seed: int = 0, tolerance: float | None = None) -> None:
    """Assert equality within the tolerance of the dtype, naming the largest error.

    Example:
        >>> assert_close(torch.ones(2), torch.ones(2), "ones")
    """
    __tracebackhide__ = True
    limit = TOLERANCE.get(actual.dtype, 0.0) if tolerance is None else tolerance
    if actual.shape != expected.shape:
        raise AssertionError(f"{what}: shape {list(actual.shape)}, expected {list(expected.shape)} (seed {seed})")
    if actual.numel() == 0:
        return
    gap = (actual.to(torch.float64) - expected.to(torch.float64)).abs()
    bound = limit * (1 + expected.to(torch.float64).abs())
    if not bool((gap <= bound).all()):
        worst = float(gap.nan_to_num(nan=torch.inf).max())
        raise AssertionError(
            f"{what}: largest error {worst:.3g} above {limit:.3g}, shape {list(actual.shape)}, seed {seed}"
        )


def random_graphs(
    count: int, *, max_nodes: int = 9, min_nodes: int = 1, node_types: int = 4, edge_types: int = 3, seed: int = 0
) -> GraphBatch:
    """Return ``count`` random undirected graphs with integer types, edges present with probability 1/2.

    Example:
        >>> random_graphs(5, seed=1).num_graphs
        5
    """
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(min_nodes, max_nodes + 1, (count,), generator=generator)
    mask = torch.arange(max_nodes) < counts.unsqueeze(1)
    x = torch.randint(node_types, (count, max_nodes), generator=generator)
    kinds = torch.randint(1, edge_types + 1, (count, max_nodes, max_nodes), generator=generator)
    present = torch.rand(count, max_nodes, max_nodes, generator=generator) < 0.5
    upper = (kinds * present).triu(1)
    return DenseGraphs(x, upper + upper.transpose(1, 2), mask).masked().to_packed()


def random_dense(
    count: int,
    *,
    max_nodes: int = 7,
    features: int = 4,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    counts: Sequence[int] | None = None,
) -> DenseGraphs:
    """Return ``count`` real-valued symmetric graphs with zero diagonal and node counts 1..max_nodes.

    Example:
        >>> random_dense(2, max_nodes=3).adj.shape
        torch.Size([2, 3, 3])
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(1, max_nodes + 1, (count,), generator=generator)
    sizes = drawn if counts is None else torch.as_tensor(counts)
    x = torch.randn(count, max_nodes, features, generator=generator, dtype=torch.float64)
    upper = torch.randn(count, max_nodes, max_nodes, generator=generator, dtype=torch.float64).triu(1)
    mask = torch.arange(max_nodes) < sizes.unsqueeze(1)
    return DenseGraphs(x.to(dtype), (upper + upper.transpose(1, 2)).to(dtype), mask).masked()


def permute_dense(g: DenseGraphs, order: Tensor) -> DenseGraphs:
    """Return ``g`` with the nodes of every graph in the order ``order`` ``[M]``.

    Example:
        >>> permute_dense(random_dense(1, max_nodes=2, counts=[1]), torch.tensor([1, 0])).mask.tolist()
        [[False, True]]
    """
    return DenseGraphs(g.x[:, order], g.adj[:, order][:, :, order], g.mask[:, order])


def permute_graphs(batch: GraphBatch, seed: int = 0) -> GraphBatch:
    """Return ``batch`` with the nodes of each graph renumbered at random.

    Example:
        >>> permute_graphs(random_graphs(3), seed=1).num_graphs
        3
    """
    generator = torch.Generator().manual_seed(seed)
    owner = batch.node_graph()
    key = torch.rand(batch.num_nodes, generator=generator, dtype=torch.float64)
    order = torch.argsort(owner.to(torch.float64) * 2 + key)  # new position -> old node
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel())
    columns = Columns(batch.node_columns).take(order)
    return replace(batch, x=batch.x[order], edge_index=place[batch.edge_index], node_columns=columns)


def assert_equivariant(
    function: GraphFunction,
    g: DenseGraphs,
    *,
    edges: bool | None = None,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Assert that permuting the nodes of ``g`` permutes ``function(g)`` (``[B, M, *]`` or ``[B, M, M]``) alike.

    Args:
        function: what to try.
        g: what to try it on.
        edges: whether both axes of the output are nodes; None decides by its shape, nodes first if x has M features.
        seed: of the permutation.
        tolerance: in place of the one of the dtype.

    Example:
        >>> assert_equivariant(lambda g: g.adj @ g.x, random_dense(3))
    """
    __tracebackhide__ = True
    size = g.mask.size(1)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    out = function(g)
    expected = out[:, order]
    if edges is None:
        edges = out.dim() >= 3 and out.shape[1:3] == (size, size) and out.shape != g.x.shape
    if edges:
        expected = expected[:, :, order]
    assert_close(function(permute_dense(g, order)), expected, "not equivariant", seed, tolerance)


def assert_permutation_invariant(
    function: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    index: Tensor,
    *,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Assert that ``function(x [N, F], index [N])`` keeps its value when rows move within their set.

    Example:
        >>> total = lambda x, index: torch.zeros(2, 3).index_add(0, index, x)
        >>> assert_permutation_invariant(total, torch.randn(5, 3), torch.tensor([0, 0, 0, 1, 1]))
    """
    __tracebackhide__ = True
    key = torch.rand(index.numel(), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    order = torch.argsort(index.to(torch.float64) * 2 + key)
    start = torch.argsort(index, stable=True)
    moved = x.clone()
    moved[start] = x[order]
    assert_close(function(moved, index), function(x, index), "not permutation invariant", seed, tolerance)


def assert_batch_independent(
    function: Callable[[Any], Tensor], batch: Any, *, seed: int = 0, tolerance: float | None = None
) -> None:
    """Assert that each graph's result alone equals its result among its batch-mates.

    Args:
        function: maps ``DenseGraphs`` or ``GraphBatch`` to ``[B, *]``.
        batch: what to try it on.

    Example:
        >>> assert_batch_independent(lambda g: g.x.sum((1, 2)), random_dense(4))
    """
    __tracebackhide__ = True
    together = function(batch)
    count = batch.mask.size(0) if isinstance(batch, DenseGraphs) else batch.num_graphs
    for k in range(count):
        if isinstance(batch, DenseGraphs):
            alone = function(DenseGraphs(batch.x[k : k + 1], batch.adj[k : k + 1], batch.mask[k : k + 1]))
        else:
            alone = function(batch.graph(k))
        assert_close(alone, together[k : k + 1], f"graph {k} depends on its batch", seed, tolerance)


def assert_causal(
    function: Callable[[Tensor], Tensor], x: Tensor, later: Tensor, *, seed: int = 0, tolerance: float = 0.0
) -> None:
    """Assert that redrawing the rows of ``x`` in ``later`` changes no row of ``function(x)`` outside it.

    Args:
        function: maps ``[N, *]`` to ``[N, *]``.
        x: ``[N, *]``; real numbers are redrawn as standard normals, integers within the range of ``x``.
        later: ``[N]`` bool.
        seed: of the new rows.
        tolerance: 0 asks for the same bits.

    Example:
        >>> assert_causal(lambda x: x.cumsum(0), torch.randn(5, 2), torch.arange(5) > 2)
    """
    __tracebackhide__ = True
    generator = torch.Generator().manual_seed(-1 - seed)  # x itself may come from this seed
    if x.is_floating_point():
        drawn = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    elif x.numel():
        drawn = torch.randint(int(x.min()), int(x.max()) + 1, x.shape, generator=generator)
    else:
        drawn = x
    changed = x.clone()
    changed[later] = drawn.to(x.device, x.dtype)[later]
    expected, out = function(x), function(changed)
    assert_close(out[~later], expected[~later], "later rows reach earlier ones", seed, tolerance)


def assert_no_padding_leak(
    function: GraphFunction, g: DenseGraphs, *, seed: int = 0, tolerance: float | None = None
) -> None:
    """Assert that neither the values in the padding (random, NaN) nor its amount reach a real node.

    Example:
        >>> assert_no_padding_leak(lambda g: g.masked().x.sum((1, 2)), random_dense(4))
    """
    __tracebackhide__ = True
    generator = torch.Generator().manual_seed(seed)
    expected = function(g)
    size = g.mask.size(1)
    for fill in (7 * torch.randn((), generator=generator).item(), float("nan")):
        x = torch.where(g.mask.unsqueeze(-1), g.x, torch.full_like(g.x, fill))
        adj = torch.where(g.pair_mask, g.adj, torch.full_like(g.adj, fill))
        assert_close(function(DenseGraphs(x, adj, g.mask)), expected, f"padding {fill:.3g} leaks", seed, tolerance)
    pad = torch.nn.functional.pad
    larger = DenseGraphs(pad(g.x, (0, 0, 0, 2)), pad(g.adj, (0, 2, 0, 2)), pad(g.mask, (0, 2)))
    out = function(larger)
    for axis in (1, 2):
        if out.dim() > axis and expected.dim() > axis and out.size(axis) == size + 2:
            out = out.narrow(axis, 0, size)
    assert_close(out, expected, "the amount of padding leaks", seed, tolerance)


def assert_round_trip(forward: Callable[[Any], Any], back: Callable[[Any], Any], items: Sequence[Any]) -> None:
    """Assert ``back(forward(item)) == item`` for every item, listing the first failures.

    Example:
        >>> assert_round_trip(str, int, [1, 2])
    """
    __tracebackhide__ = True
    wrong = [(item, result) for item in items if (result := back(forward(item))) != item]
    if wrong:
        raise AssertionError(f"{len(wrong)} of {len(items)} do not come back, first: {wrong[:3]}")


def fitted_order(error: Callable[[int], float], steps: Sequence[int]) -> float:
    """Return the slope of log error against log step size: the convergence order of a solver.

    Args:
        error: error after solving with a number of steps, > 0.
        steps: increasing numbers of steps, at least two.

    Example:
        >>> round(fitted_order(lambda n: 3.0 / n**2, [10, 20, 40]), 3)
        2.0
    """
    if len(steps) < 2:
        raise InputError(f"fitting an order needs at least two step counts, got {list(steps)}")
    x = torch.tensor([1.0 / n for n in steps], dtype=torch.float64).log()
    y = torch.tensor([error(n) for n in steps], dtype=torch.float64).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / x.square().sum())
