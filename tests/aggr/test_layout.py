"""The index plan: what it says about the groups, when it is kept, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from graphinv.aggr import GroupLayout, forget_layouts
from graphinv.aggr.base import find_layout
from graphinv.aggr.layout import _cache, cached_layout
from graphinv.errors import InputError

SIZES = [[3, 0, 1, 7, 16, 2, 5], [1], [0, 0], [4, 4, 4, 4], [0, 1, 0], [33], [1] * 9 + [40], []]


def index_of(sizes, shuffled, seed=0):
    index = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.int64))
    if shuffled:
        index = index[torch.randperm(index.numel(), generator=torch.Generator().manual_seed(seed))]
    return index


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("shuffled", [False, True])
def test_rows_lie_group_after_group_in_their_order(sizes, shuffled):
    index = index_of(sizes, shuffled)
    layout = GroupLayout.from_index(index, dim_size=len(sizes))
    assert layout.counts.tolist() == sizes
    rows = layout.grouped(torch.arange(index.numel()).unsqueeze(1)).flatten().tolist()
    assert rows == sorted(range(index.numel()), key=lambda row: (int(index[row]), row))
    assert (layout.order is None) == (index.tolist() == sorted(index.tolist()))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("pairing", ["strides", "neighbours"])
def test_packed_rows_are_position_by_position_and_levels_pair_every_row_once(sizes, pairing):
    layout = GroupLayout.from_index(index_of(sizes, True), dim_size=len(sizes))
    plan = layout.packed(pairing)
    nonempty = [s for s in sizes if s]
    assert sorted(plan.perm.tolist()) == list(range(sum(sizes)))
    assert plan.position.tolist() == sorted(plan.position.tolist())
    assert plan.batch_sizes.tolist() == [sum(s > p for s in sizes) for p in range(max(sizes, default=0))]
    assert [sizes[g] for g in plan.groups.tolist()] == sorted(nonempty, reverse=True)
    # Every level combines disjoint pairs within a group; in all N - K rows are used up, in ceil(log2 L) levels.
    group = torch.searchsorted(layout.ptr[1:], plan.perm, right=True)
    used = 0
    alive = sum(sizes)
    for begin, end, left in plan.levels:
        assert end == alive and left.numel() == end - begin
        assert torch.equal(group[left], group[begin:end]) and bool((left < begin).all())
        assert bool((left.diff() > 0).all())
        used, alive = used + end - begin, begin
    assert used == sum(sizes) - len(nonempty)
    assert len(plan.levels) == max(max(s - 1, 0).bit_length() for s in [1, *sizes])
    for rows in (1, 3, 1000):
        tiles = plan.tiles(rows)
        assert sum(t.end - t.begin for t in tiles) == used
        for tile in tiles:
            if tile.first is not None:
                assert tile.left.tolist() == list(range(tile.first, tile.first + tile.end - tile.begin))


@pytest.mark.parametrize("sizes", [s for s in SIZES if sum(s)], ids=str)
@pytest.mark.parametrize("pairing", ["strides", "neighbours"])
def test_the_static_plan_says_the_same(sizes, pairing):
    layout = GroupLayout.from_index(index_of(sizes, True), dim_size=len(sizes), max_num_elements=max(sizes) + 3)
    plan, static = layout.packed(pairing), layout.static_packed(pairing)
    assert torch.equal(plan.perm, static.perm) and torch.equal(plan.position, static.position)
    assert torch.equal(plan.groups, static.groups[: plan.groups.numel()])
    for position, count in enumerate(plan.batch_sizes.tolist()):
        places, exists = static.rows_between(position, position + 1, sum(sizes))
        assert int(exists.sum()) == count and bool((places[~exists] == sum(sizes)).all())


def test_neighbours_meet_first_in_groups_of_a_power_of_two():
    plan = GroupLayout.from_ptr(torch.tensor([0, 8, 12]), 12).packed("neighbours")
    begin, end, left = plan.levels[0]  # stride 4: only the group of 8
    assert sorted(zip(plan.perm[left].tolist(), plan.perm[begin:end].tolist(), strict=True)) == [
        (0, 1), (2, 3), (4, 5), (6, 7),
    ]  # fmt: skip


def test_ptr_and_index_make_the_same_layout():
    ptr = torch.tensor([0, 2, 2, 5])
    by_ptr = GroupLayout.from_ptr(ptr, 5)
    by_index = GroupLayout.from_index(torch.tensor([0, 0, 2, 2, 2]), dim_size=3)
    assert torch.equal(by_ptr.ptr, by_index.ptr) and torch.equal(by_ptr.index, by_index.index)


def test_copies_keep_their_groups_apart():
    layout = GroupLayout.from_index(torch.tensor([1, 0, 1]), dim_size=3)
    twice = layout.repeated(2)
    expected = GroupLayout.from_index(torch.tensor([1, 0, 1, 4, 3, 4]), dim_size=6)
    assert torch.equal(twice.ptr, expected.ptr) and torch.equal(twice.index, expected.index)
    assert torch.equal(twice.order, expected.order)


def test_a_layout_is_found_once_per_tensor_and_version():
    forget_layouts()
    x = torch.zeros(4, 1)
    edge_index = torch.tensor([[0, 1, 2, 3], [1, 1, 0, 2]])
    first = find_layout(x, 4, edge_index[1], None, 3, None)
    assert find_layout(x, 4, edge_index[1], None, 3, None) is first  # another view of the same memory
    assert find_layout(x, 4, edge_index[0], None, 4, None) is not first
    assert find_layout(x, 4, edge_index[1], None, 5, None) is not first
    edge_index[1, 0] = 2
    changed = find_layout(x, 4, edge_index[1], None, 3, None)
    assert changed.counts.tolist() == [1, 1, 2]


WRITES = {
    "numpy memory": lambda index, buffer, new: np.copyto(buffer, new),
    "numpy view": lambda index, buffer, new: np.copyto(index.numpy(), new),
    "data": lambda index, buffer, new: index.data.copy_(torch.from_numpy(new)),
    "dlpack": lambda index, buffer, new: np.copyto(np.from_dlpack(index), new),
    "torch": lambda index, buffer, new: index.copy_(torch.from_numpy(new)),
    "storage": lambda index, buffer, new: index.untyped_storage().copy_(torch.from_numpy(new).untyped_storage()),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("kind", ["index", "ptr"])
def test_a_layout_is_not_kept_beyond_the_values_it_was_made_of(write, kind):
    forget_layouts()
    first, second = ([0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]) if kind == "index" else ([0, 2, 6], [0, 5, 6])
    buffer, x = np.array(first), torch.arange(6.0).unsqueeze(1)
    index = torch.from_numpy(buffer)
    for values in (first, second, first):
        WRITES[write](index, buffer, np.array(values))
        args = (index, None, 2, None) if kind == "index" else (None, index, None, None)
        layout = find_layout(x, 6, *args)
        expected = torch.tensor(values)
        assert torch.equal(layout.index if kind == "index" else layout.ptr, expected)
        assert find_layout(x, 6, *args) is layout


def test_the_cache_keeps_no_tensor_alive_and_is_never_fooled_by_reused_memory():
    forget_layouts()
    memories = []
    for value in range(50):
        index = torch.full((1000,), value % 7)
        memories.append(StorageWeakRef(index.untyped_storage()))
        assert find_layout(index, 1000, index, None, 7, None).counts[value % 7] == 1000
        del index
    assert all(memory.expired() for memory in memories) and len(_cache) <= 16


def test_a_layout_does_not_change_with_the_index_it_was_made_of():
    index, ptr = torch.tensor([0, 0, 1]), torch.tensor([0, 2, 3])
    layouts = [GroupLayout.from_index(index, 2), GroupLayout.from_ptr(ptr, 3)]
    index.fill_(1), ptr.fill_(0)
    for layout in layouts:
        assert layout.index.tolist() == [0, 0, 1] and layout.ptr.tolist() == [0, 2, 3]


def test_another_dtype_in_the_same_memory_is_not_taken_for_an_index():
    index = torch.tensor([0, 1])
    find_layout(index, 2, index, None, 2, None)
    with pytest.raises(InputError, match="torch.int64"):
        find_layout(index, 2, index.view(torch.float64), None, 2, None)


def test_inference_tensors_are_not_cache():
    forget_layouts()
    with torch.inference_mode():
        index = torch.tensor([0, 1])
        layouts = [cached_layout(index, lambda: GroupLayout.from_index(index)) for _ in range(2)]
    assert layouts[0] is not layouts[1] and not _cache


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupLayout.from_index(torch.tensor([0, -1])), "at least 0 and below"),
        (lambda: GroupLayout.from_index(torch.tensor([0, 3]), dim_size=3), "below dim_size = 3"),
        (lambda: GroupLayout.from_index(torch.tensor([0.0])), "torch.int64"),
        (lambda: GroupLayout.from_index(torch.zeros(2, 2, dtype=torch.int64)), "vector"),
        (lambda: GroupLayout.from_index(torch.tensor([0, 0]), max_num_elements=1), "a group has 2 rows"),
        (lambda: GroupLayout.from_index(torch.tensor([0]), dim_size=-1), "at least 0"),
        (lambda: GroupLayout.from_index(torch.tensor([0]), dim_size=2.0), "whole number"),
        (lambda: GroupLayout.from_index([0, 1]), "must be a tensor"),
        (lambda: GroupLayout.from_index(torch.tensor([0, 10**14])), "more than memory holds"),
        (lambda: GroupLayout.from_ptr(torch.tensor([0, 2, 1, 3]), 3), "never decrease"),
        (lambda: GroupLayout.from_ptr(torch.tensor([0, 2]), 3), "end at 3"),
        (lambda: GroupLayout.from_ptr(torch.tensor([1, 3]), 3), "start at 0"),
        (lambda: GroupLayout.from_ptr(torch.tensor([0, 3]), 3, max_num_elements=2), "a group has 3 rows"),
    ],
)
def test_bad_input_is_refused_with_what_came(make, message):
    with pytest.raises(InputError, match=message):
        make()
