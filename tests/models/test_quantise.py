"""Rounding real fields to graphs: thresholds, ties, and which nodes stay."""

from __future__ import annotations

import pytest
import torch

from graphinv import testing
from graphinv.graphs import DenseGraphs
from graphinv.models.gdss import quantise


def one_pair(value, dtype=torch.float64):
    adj = torch.tensor([[[0.0, value], [value, 0.0]]], dtype=dtype)
    return DenseGraphs(torch.eye(2, dtype=dtype).unsqueeze(0), adj, torch.ones(1, 2, dtype=torch.bool))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("value", "kind"), [
    (-9.0, 0), (0.0, 0), (0.499, 0), (0.5, 1), (1.0, 1), (1.499, 1), (1.5, 2), (2.499, 2), (2.5, 3), (9.0, 3),
])  # fmt: skip
def test_edge_types_change_at_the_half_integers_closed_below(value, kind, dtype):
    out = quantise(one_pair(value, dtype))
    assert out.edge_attr.tolist() == ([kind] * 2 if kind else [])
    generic = quantise(one_pair(value, dtype), edge_types=1)
    assert generic.edge_attr.tolist() == ([1] * 2 if kind else [])


def test_largest_value_below_a_half_stays_below():
    for whole in (0.5, 1.5, 2.5):
        below = torch.nextafter(torch.tensor(whole, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64))
        assert quantise(one_pair(float(below))).edge_attr.tolist() == [int(whole)] * (2 if whole > 1 else 0)


def rows(x, mask=None):
    x = torch.tensor([x], dtype=torch.float64)
    size = x.size(1)
    adj = 1 - torch.eye(size, dtype=torch.float64).unsqueeze(0)
    mask = torch.ones(1, size, dtype=torch.bool) if mask is None else torch.tensor([mask])
    return DenseGraphs(x, adj, mask)


def test_threshold_decoding_takes_the_first_entry_above_a_half_and_drops_nodes_without():
    g = rows([[0.2, 0.4, 0.3], [0.6, 0.9, 0.0], [0.5, 0.5, 0.5], [0.0, 0.1, 0.51]])
    out = quantise(g, "threshold")
    assert out.x.tolist() == [0, 2]
    assert out.edge_index.tolist() == [[0, 1], [1, 0]]


def test_argmax_decoding_keeps_every_node_of_the_mask_and_takes_the_first_of_ties():
    g = rows([[0.2, 0.4, 0.3], [0.6, 0.9, 0.9], [-5.0, -6.0, -7.0], [9.0, 9.0, 9.0]], [True, True, True, False])
    out = quantise(g)
    assert out.x.tolist() == [1, 1, 0]
    assert out.num_edges == 6


@pytest.mark.parametrize("decode", ["argmax", "threshold"])
def test_isolated_nodes_stay_and_padding_never_shows(decode):
    x = torch.nn.functional.one_hot(torch.tensor([[0, 1, 1]]), 2).double()
    mask = torch.tensor([[True, True, False]])
    out = quantise(DenseGraphs(x, torch.full((1, 3, 3), 9.0, dtype=torch.float64).triu(1) * 0, mask), decode)
    assert (out.x.tolist(), out.num_edges) == ([0, 1], 0)


def test_empty_graphs_stay_in_their_place():
    g = testing.random_dense(3, max_nodes=3, counts=[0, 2, 0])
    assert quantise(g).node_counts().tolist() == [0, 2, 0]
    all_dropped = DenseGraphs(g.x * 0, g.adj, g.mask)
    assert quantise(all_dropped, "threshold").node_counts().tolist() == [0, 0, 0]


def test_quantised_fields_of_a_graph_are_that_graph():
    batch = testing.random_graphs(20, seed=3)
    dense = batch.to_dense()
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.one_hot(dense.x, 4).double()
    x = x + 0.4 * (torch.rand(x.shape, generator=generator, dtype=x.dtype) - 0.5)
    jitter = 0.9 * (torch.rand(dense.adj.shape, generator=generator, dtype=x.dtype) - 0.5).triu(1)
    noisy = DenseGraphs(x, dense.adj + jitter + jitter.transpose(1, 2), dense.mask)
    for decode in ("argmax", "threshold"):
        out = quantise(noisy, decode)
        assert torch.equal(out.x, batch.x) and torch.equal(out.edge_index, batch.edge_index)
        assert torch.equal(out.edge_attr, batch.edge_attr) and torch.equal(out.ptr, batch.ptr)
