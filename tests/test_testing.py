"""The property assertions pass where a property holds and fail, saying why, where it does not."""

from __future__ import annotations

import pytest
import torch

from graphinv import testing
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs

DTYPES = (torch.float32, torch.float64)
G = testing.random_dense(5, seed=1, dtype=torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_closeness_is_relative_and_absolute_and_names_what_where_and_how_far(dtype):
    one = torch.ones(3, dtype=dtype)
    limit = testing.TOLERANCE[dtype]
    testing.assert_close(one * (1 + limit), one, "near")
    testing.assert_close(one * 1e6 * (1 + limit / 2), one * 1e6, "near and large")
    with pytest.raises(AssertionError, match=r"far: largest error 0\.1.*\[3\], seed 4"):
        testing.assert_close(one + 0.1, one, "far", seed=4)
    with pytest.raises(AssertionError, match="inf"):
        testing.assert_close(one * torch.nan, one, "not a number")
    with pytest.raises(AssertionError, match=r"\[3\], expected \[3, 1\]"):
        testing.assert_close(one, one.unsqueeze(1), "shape")
    testing.assert_close(one[:0], one[:0], "empty")
    with pytest.raises(AssertionError):
        testing.assert_close(one * (1 + limit), one, "strict", tolerance=limit / 100)
    with pytest.raises(AssertionError):
        testing.assert_close(torch.tensor([1]), torch.tensor([2]), "integers are exact")


def test_random_graphs_are_in_range_undirected_and_repeat_with_their_seed():
    b = testing.random_graphs(60, min_nodes=2, max_nodes=6, node_types=3, edge_types=2, seed=3)
    counts = b.node_counts()
    assert (int(counts.min()), int(counts.max())) == (2, 6)
    assert set(b.x.tolist()) == {0, 1, 2} and set(b.edge_attr.tolist()) == {1, 2}
    dense = b.to_dense()
    assert torch.equal(dense.adj, dense.adj.transpose(1, 2)) and not dense.adj.diagonal(dim1=1, dim2=2).any()
    same, other = (testing.random_graphs(60, min_nodes=2, max_nodes=6, node_types=3, seed=s) for s in (3, 4))
    assert torch.equal(same.x, b.x) and not torch.equal(other.ptr, b.ptr)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_random_dense_graphs_are_symmetric_hollow_and_masked_with_the_given_counts(dtype):
    g = testing.random_dense(4, max_nodes=5, features=2, dtype=dtype, counts=[0, 1, 3, 5])
    assert g.mask.sum(1).tolist() == [0, 1, 3, 5] and g.x.dtype == g.adj.dtype == dtype
    assert torch.equal(g.adj, g.adj.transpose(1, 2)) and not g.adj.diagonal(dim1=1, dim2=2).any()
    assert not g.x[~g.mask].any() and not g.adj[~g.pair_mask].any()


def test_random_graphs_leave_the_global_state_alone():
    state = torch.random.get_rng_state()
    testing.random_graphs(3)
    testing.random_dense(3)
    testing.permute_graphs(testing.random_graphs(3))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_equivariance_is_told_from_its_absence_for_nodes_and_edges():
    testing.assert_equivariant(lambda g: g.adj @ g.x, G)
    testing.assert_equivariant(lambda g: g.x @ g.x.transpose(1, 2), G)
    place = torch.arange(7, dtype=torch.float64)
    for wrong in (lambda g: g.x + place[:, None], lambda g: g.adj + place, lambda g: g.adj.triu(), lambda g: g.x[:, :1]
                  .expand_as(g.x)):  # fmt: skip
        with pytest.raises(AssertionError, match="equivariant"):
            testing.assert_equivariant(wrong, G)


def test_equivariance_of_edges_is_seen_when_there_are_as_many_features_as_nodes():
    square = testing.random_dense(3, max_nodes=4, features=4, seed=2, dtype=torch.float64)
    testing.assert_equivariant(lambda g: g.adj @ g.x, square)
    testing.assert_equivariant(lambda g: g.adj * 2, square, edges=True)
    with pytest.raises(AssertionError, match="equivariant"):
        testing.assert_equivariant(lambda g: g.adj.triu(), square, edges=True)


def test_set_invariance_is_told_from_its_absence():
    x = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([2, 0, 0, 1, 2, 2, 0, 0, 2])

    def total(x, index):
        return x.new_zeros(3, 2).index_add(0, index, x)

    def last(x, index):
        return torch.stack([x[index == k][-1] for k in range(3)])

    for seed in range(3):
        testing.assert_permutation_invariant(total, x, index, seed=seed)
    with pytest.raises(AssertionError, match="permutation invariant"):
        testing.assert_permutation_invariant(last, x, index)


def test_batch_independence_is_told_from_its_absence_in_both_forms():
    testing.assert_batch_independent(lambda g: g.x.sum((1, 2)), G)
    with pytest.raises(AssertionError, match="graph 0 depends on its batch"):
        testing.assert_batch_independent(lambda g: g.x.sum((1, 2)) - g.x.mean(), G)
    packed = testing.random_graphs(4, min_nodes=2)
    testing.assert_batch_independent(lambda b: b.node_counts().double(), packed)
    with pytest.raises(AssertionError, match="depends on its batch"):
        testing.assert_batch_independent(lambda b: b.node_counts().double() / b.num_nodes, packed)


def test_padding_leaks_are_found_by_value_by_nan_and_by_amount():
    testing.assert_no_padding_leak(lambda g: g.masked().adj @ g.masked().x, G)
    with pytest.raises(AssertionError, match="padding .* leaks"):
        testing.assert_no_padding_leak(lambda g: g.x.sum((1, 2)), G)
    with pytest.raises(AssertionError, match="padding nan leaks"):
        testing.assert_no_padding_leak(lambda g: (g.x * g.mask.unsqueeze(-1)).sum((1, 2)), G)
    with pytest.raises(AssertionError, match="amount of padding leaks"):
        testing.assert_no_padding_leak(lambda g: g.masked().x.mean((1, 2)), G)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64], ids=str)
def test_a_function_that_looks_ahead_is_told_from_a_causal_one(dtype):
    x = torch.randint(-3, 4, (6, 2), generator=torch.Generator().manual_seed(0)).to(dtype)
    later = torch.tensor([False, False, True, False, True, True])
    for seed in range(3):
        testing.assert_causal(lambda x: x * 2, x, later, seed=seed)
        testing.assert_causal(lambda x: x.cumsum(0), x, torch.arange(6) > 3, seed=seed)
    with pytest.raises(AssertionError, match=r"later rows reach earlier ones: largest error .*\[3, 2\], seed 7"):
        testing.assert_causal(lambda x: x.cumsum(0), x, later, seed=7)
    for none in (torch.zeros(6, dtype=torch.bool), torch.ones(6, dtype=torch.bool)):
        testing.assert_causal(lambda x: x + x.sum(), x, none)
    testing.assert_causal(lambda x: x, x[:0], later[:0])


def test_causality_is_exact_unless_a_tolerance_is_given():
    x = torch.randn(4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    later = torch.arange(4) > 1
    testing.assert_causal(lambda x: x + 1e-12 * x.sum(), x, later, tolerance=1e-9)
    with pytest.raises(AssertionError, match="earlier ones"):
        testing.assert_causal(lambda x: x + 1e-12 * x.sum(), x, later)
    before = x.clone()
    testing.assert_causal(lambda x: x, x, later)
    assert torch.equal(x, before)


def test_round_trips_list_their_failures():
    testing.assert_round_trip(str, int, range(5))
    with pytest.raises(AssertionError, match=r"1 of 3.*\(' b', 'b'\)"):
        testing.assert_round_trip(str.strip, str, ["a", " b", "c"])


@pytest.mark.parametrize("order", [0.5, 1, 2, 4])
def test_fitted_order_is_the_exponent(order):
    assert testing.fitted_order(lambda n: 7 * n**-order, [8, 16, 64]) == pytest.approx(order)
    with pytest.raises(InputError, match="two step counts"):
        testing.fitted_order(lambda n: 1.0, [8])


def test_renumbering_dense_graphs_moves_every_field_alike():
    order = torch.tensor([3, 1, 0, 2, 4, 6, 5])
    moved = testing.permute_dense(G, order)
    for i, old in enumerate(order.tolist()):
        assert torch.equal(moved.x[:, i], G.x[:, old]) and torch.equal(moved.mask[:, i], G.mask[:, old])
        for j, other in enumerate(order.tolist()):
            assert torch.equal(moved.adj[:, i, j], G.adj[:, old, other])
    assert isinstance(moved, DenseGraphs)


def test_every_helper_is_listed_and_shows_an_example():
    for name in testing.__all__:
        value = getattr(testing, name)
        assert not callable(value) or ">>>" in (value.__doc__ or ""), name
