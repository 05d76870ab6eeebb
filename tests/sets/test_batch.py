from __future__ import annotations

import pytest
import torch

from graphinv.errors import InputError
from graphinv.sets import SetBatch


def batch():
    x = torch.arange(12.0).reshape(6, 2)
    return SetBatch(x, torch.tensor([0, 1, 4, 6]), torch.tensor([1, 0, 1, 1, 1, 0]).bool())


def test_sizes_and_layout_follow_from_the_offsets():
    b = batch()
    assert (b.num_sets, b.num_elements) == (3, 6)
    assert b.sizes.tolist() == [1, 3, 2] and b.subset_sizes.tolist() == [1, 2, 1]
    assert b.layout.index.tolist() == [0, 1, 1, 1, 2, 2] and b.layout is b.layout


def test_selected_sets_keep_rows_subsets_and_keys_in_the_order_asked_for():
    b = batch()
    part = b.select([2, 0, 2])
    assert torch.equal(part.x, torch.cat([b.x[4:6], b.x[0:1], b.x[4:6]]))
    assert part.selected.tolist() == [True, False, True, True, False]
    assert part.keys.tolist() == [2, 0, 2] and part.select([1]).keys.tolist() == [0]
    assert b.select([]).num_sets == 0 and b.to("cpu").select([1]).sizes.tolist() == [3]


def test_from_lists_joins_what_select_takes_apart():
    b = batch()
    parts = [b.select([k]) for k in range(3)]
    by_mask = SetBatch.from_lists([p.x for p in parts], [p.selected for p in parts])
    by_number = SetBatch.from_lists([p.x for p in parts], [p.selected.nonzero().flatten().tolist() for p in parts])
    for joined in (by_mask, by_number):
        assert torch.equal(joined.x, b.x) and torch.equal(joined.ptr, b.ptr)
        assert torch.equal(joined.selected, b.selected)
    assert SetBatch.from_lists([b.x]).selected is None


def test_equal_rows_are_distinct_elements():
    b = SetBatch.from_lists([torch.zeros(3, 2)], [[1]])
    assert b.sizes.tolist() == [3] and b.selected.tolist() == [False, True, False]


X, PTR, YES = torch.zeros(3, 2), torch.tensor([0, 1, 3]), torch.tensor([True, True, False])
BAD = {
    "an empty set": (lambda: SetBatch(X, torch.tensor([0, 0, 3])), "set 0 is empty"),
    "an empty subset": (lambda: SetBatch(X, PTR, ~YES & False), "empty subset"),
    "a short column": (lambda: SetBatch(X, PTR, YES[:2]), r"one bool per element, \[3\]"),
    "numbers for bools": (lambda: SetBatch(X, PTR, YES.long()), "torch.int64"),
    "a list for a tensor": (lambda: SetBatch(X, PTR, [True]), "got list"),
    "keys of elements": (lambda: SetBatch(X, PTR, key=torch.arange(3)), r"one int64 per set, \[2\]"),
    "offsets that end early": (lambda: SetBatch(X, PTR[:2]), "end at 3"),
    "NaN": (lambda: SetBatch(X.index_fill(0, torch.tensor(2), float("nan")), PTR), "set 1 has an element that is NaN"),
    "infinity in a vector": (lambda: SetBatch(torch.tensor([1.0, float("inf")]), torch.tensor([0, 2])), "infinite"),
    "no rows": (lambda: SetBatch(torch.tensor(1.0), PTR), "one row per element"),
    "no set": (lambda: SetBatch.from_lists([]), "at least one set"),
    "an empty set in a list": (lambda: SetBatch.from_lists([X, X[:0]]), "set 1 is empty"),
    "too few subsets": (lambda: SetBatch.from_lists([X, X], [[0]]), "2 sets and 1 subsets"),
    "an empty subset in a list": (lambda: SetBatch.from_lists([X], [[]]), "empty subset"),
    "an element twice": (lambda: SetBatch.from_lists([X], [[1, 1]]), "twice"),
    "an element that is not there": (lambda: SetBatch.from_lists([X], [[3]]), r"elements 0..2"),
    "a short mask": (lambda: SetBatch.from_lists([X], [YES[:2]]), "one bool per element"),
    "a set that is not there": (lambda: batch().select([3]), "sets 0..2"),
    "a negative set": (lambda: batch().select([-1]), "sets 0..2"),
    "unknown subsets": (lambda: SetBatch(X, PTR).subset_sizes, "optimal subsets"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_sets_are_refused(case):
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make()
