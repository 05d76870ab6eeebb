"""The trees under every fold: each pair once, as few levels as can be, and which rows meet."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphinv.ops.tree import adjacent_tree, pack, pack_static

COUNTS = st.lists(st.integers(0, 20), max_size=6)
TREES = {
    "adjacent": adjacent_tree,
    "strides": lambda ptr: pack(ptr, int(ptr[-1]), "strides"),
    "neighbours": lambda ptr: pack(ptr, int(ptr[-1]), "neighbours"),
    "bounded": lambda ptr: pack_static(ptr, int(ptr[-1]), int(ptr.diff().max()) + 3 if len(ptr) > 1 else 0, "strides"),
}


def ptr_of(counts):
    return torch.tensor([0, *counts]).cumsum(0)


def met(x, y):
    """Combine rows of sums and of counts of operators: the depth of a result, and how many rows are in it."""
    return torch.stack([torch.maximum(x[:, 0], y[:, 0]) + 1, x[:, 1] + y[:, 1]], 1)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(COUNTS)
@pytest.mark.parametrize("name", TREES)
def test_every_row_enters_once_at_the_least_depth(name, counts):
    ptr = ptr_of(counts)
    if not int(ptr[-1]):
        return
    tree = TREES[name](ptr)
    assert sorted(tree.perm.tolist()) == list(range(int(ptr[-1])))
    leaf = torch.tensor([0.0, 1.0]).repeat(int(ptr[-1]), 1)
    depth, rows = tree.spread(tree.fold(leaf, met), len(counts), torch.zeros(2)).unbind(1)
    assert rows.tolist() == counts
    assert depth.tolist() == [max(n - 1, 0).bit_length() for n in counts]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(COUNTS)
@pytest.mark.parametrize("name", TREES)
def test_the_table_begins_with_the_results(name, counts):
    ptr = ptr_of(counts)
    if not int(ptr[-1]):
        return
    tree = TREES[name](ptr)
    x = torch.arange(float(ptr[-1])).index_select(0, tree.perm)
    results = tree.fold(x, torch.add)
    table = tree.table(x, torch.add)
    assert table.shape == x.shape and torch.equal(table[: len(results)], results)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(COUNTS)
def test_neighbours_meet_in_order(counts):
    ptr = ptr_of(counts)
    tree = adjacent_tree(ptr)
    places = torch.stack([tree.perm, tree.perm + 1], 1)  # a row or a result: from where, to where

    def joined(a, b):
        assert torch.equal(a[:, 1], b[:, 0])  # the right operand begins where the left one ends
        return torch.stack([a[:, 0], b[:, 1]], 1)

    ends = tree.fold(places, joined)
    assert tree.groups.tolist() == [s for s, n in enumerate(counts) if n]
    assert torch.equal(ends, torch.stack([ptr[:-1], ptr[1:]], 1)[tree.groups])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([0, 1, 2, 4, 8, 16]), max_size=6))
def test_both_trees_of_neighbours_pair_the_same_rows_where_sizes_are_powers_of_two(counts):
    ptr = ptr_of(counts)
    if not int(ptr[-1]):
        return
    x = torch.randn(int(ptr[-1]), 3, generator=torch.Generator().manual_seed(0))
    ours, packed = (
        tree.spread(tree.fold(x[tree.perm], lambda a, b: torch.tanh(a - 2 * b)), len(counts), torch.zeros(3))
        for tree in (adjacent_tree(ptr), pack(ptr, len(x), "neighbours"))
    )
    assert torch.equal(ours, packed)


def test_a_combine_that_widens_its_rows_widens_the_result():
    tree = adjacent_tree(torch.tensor([0, 3, 4]))
    out = tree.fold(torch.ones(4)[tree.perm], lambda a, b: a.double() + b.double())
    assert out.dtype == torch.float64 and out.tolist() == [3.0, 1.0]
