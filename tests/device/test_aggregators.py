"""Kernels and aggregators give on another device what they give on the CPU, and so do their gradients."""

from __future__ import annotations

import pytest
import torch

from graphinv.aggr import GroupLayout, LCMAggregation, SlotSetAggregation
from graphinv.nn.encoder import GraphEncoder
from graphinv.ops import (
    from_pairs,
    index_to_ptr,
    ptr_to_index,
    segment_attention,
    segment_fold,
    segment_reduce,
    segment_softmax,
    segment_sort,
    segment_sort_columns,
    to_pairs,
)
from graphinv.testing import assert_close, random_graphs
from tests.aggr import test_behaviour as matrix

PTR = torch.tensor([0, 3, 3, 4, 20, 22])

KERNELS = {
    **{
        name: lambda x, ptr, name=name: segment_reduce(x, ptr, name)
        for name in ("sum", "mean", "min", "max", "var", "std", "logsumexp")
    },
    "softmax": segment_softmax,
    "sort": lambda x, ptr: segment_sort(x[:, 0], ptr)[0],
    "sort descending": lambda x, ptr: segment_sort(x[:, 0], ptr, True)[0],
    "sort columns": lambda x, ptr: segment_sort_columns(x, ptr)[0],
    "fold": lambda x, ptr: segment_fold(x, ptr, torch.mul, torch.ones(4, device=x.device)),
    "attention": lambda x, ptr: segment_attention(*x.reshape(1, 22, 2, 2).expand(3, -1, -1, -1), ptr, ptr),
    "pairs": lambda x, ptr: to_pairs(from_pairs(x[:10].t(), 5)),
    "pointers": lambda x, ptr: x * index_to_ptr(ptr_to_index(ptr, 22), 5).sum() * x.sum(),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels(name, device):
    x = torch.randn(22, 4, generator=torch.Generator().manual_seed(0))
    expected, actual = (gradients(lambda y, d=d: KERNELS[name](y, PTR.to(d)), x.to(d)) for d in ("cpu", device))
    for a, b in zip(actual, expected, strict=True):
        assert a.device.type == device.type
        assert_close(a.cpu(), b, name, tolerance=1e-4)


@pytest.mark.parametrize("ordered", [True, False], ids=["sorted", "any order"])
@pytest.mark.parametrize("name", matrix.EVERY)
def test_aggregators(name, ordered, device):
    aggregator = matrix.make(name, torch.float32)
    index = torch.repeat_interleave(torch.arange(len(matrix.SIZES)), torch.tensor(matrix.SIZES))
    if not ordered:
        index = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(1))]
    x = torch.randn(len(index), matrix.F, generator=torch.Generator().manual_seed(0))
    seen = {}
    for d in (torch.device("cpu"), device):
        moved = aggregator.to(d)
        out, grad = gradients(lambda y, m=moved, d=d: m(y, index.to(d), dim_size=matrix.GROUPS), x.to(d))
        weights = [p.grad.cpu() for p in moved.parameters() if p.grad is not None]
        moved.zero_grad()
        seen[d.type] = [out.cpu(), grad.cpu(), *weights]
    for a, b in zip(seen[device.type], seen["cpu"], strict=True):
        assert_close(a, b, name, tolerance=1e-4)


def test_a_layout_of_given_sizes_and_a_static_one(device):
    sizes = torch.tensor(matrix.SIZES)
    x = torch.randn(int(sizes.sum()), matrix.F, generator=torch.Generator().manual_seed(0))
    aggregator = matrix.make("lcm_given", torch.float32)
    index = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    expected = aggregator(x, index, dim_size=len(sizes))
    aggregator = aggregator.to(device)
    layout = GroupLayout.from_index(index.to(device), len(sizes))
    assert_close(aggregator(x.to(device), layout=layout).cpu(), expected, "layout", tolerance=1e-4)
    most = int(sizes.max())
    static = aggregator(x.to(device), index.to(device), dim_size=len(sizes), max_num_elements=most)
    assert_close(static.cpu(), expected, "static", tolerance=1e-4)


def test_sets_that_come_in_parts(device):
    aggregator = SlotSetAggregation(4, 4, slots=3, hidden=8)
    x, index = torch.randn(9, 4), torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1])
    expected = aggregator(x, index)
    aggregator = aggregator.to(device)
    state = aggregator.init(2)
    for rows in (slice(0, 6), slice(6, 9)):
        state = aggregator.update(state, x[rows].to(device), index[rows].to(device))
    assert_close(aggregator.finalize(state).cpu(), expected, "streamed", tolerance=1e-4)


def test_an_encoder_of_graphs(device):
    batch = random_graphs(7)
    encoder = GraphEncoder(4, 3, 8, aggr=lambda: LCMAggregation(8, 8))
    expected = encoder(batch)
    assert_close(encoder.to(device)(batch.to(device)).cpu(), expected, "graphs", tolerance=1e-4)


def gradients(function, x):
    """Return the result and the gradient of a weighted sum of it."""
    leaf = x.detach().clone().requires_grad_()
    out = function(leaf)
    weight = torch.arange(1.0, out.numel() + 1).reshape(out.shape) / max(out.numel(), 1)
    torch.where(out.isfinite(), out * weight.to(out.device), 0).sum().backward()
    return out.detach().nan_to_num(neginf=-1e3), leaf.grad
