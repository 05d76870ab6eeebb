"""The loader: every graph once per epoch, an order of (seed, epoch) alone, full buckets, equal ranks."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch
from torch import Tensor

from graphinv.data import GraphLoader, GraphStore, Vocabulary
from graphinv.errors import InputError


def store_of(counts: Tensor) -> GraphStore:
    """Graphs without bonds; graph g has counts[g] nodes."""
    ptr = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    node_type = torch.zeros(int(ptr[-1]), dtype=torch.uint8)
    split = torch.arange(len(counts)) % 3
    zeros = torch.zeros(len(counts) + 1, dtype=torch.long)
    vocabulary = Vocabulary(("C",), ("single",), "element")
    return GraphStore.from_arrays(node_type, ptr, [], [], zeros, vocabulary=vocabulary, split_id=split)


def random_counts(size: int, low: int = 1, high: int = 30) -> Tensor:
    return torch.randint(low, high, (size,), generator=torch.Generator().manual_seed(size))


STORE = store_of(random_counts(101))
SETTINGS = list(product([True, False], [True, False], [1, 7, 101, 500]))


@pytest.mark.parametrize(("shuffle", "bucket", "batch_size"), SETTINGS)
def test_every_graph_comes_once_per_epoch(shuffle: bool, bucket: bool, batch_size: int) -> None:
    loader = GraphLoader(STORE, batch_size=batch_size, shuffle=shuffle, bucket=bucket)
    for epoch in range(3):
        loader.set_epoch(epoch)
        batches = loader.batch_indices()
        assert torch.equal(torch.cat(batches).sort().values, torch.arange(101))
        assert max(map(len, batches)) <= batch_size and len(batches) == len(loader)
        assert [b.num_graphs for b in loader] == list(map(len, batches))


@pytest.mark.parametrize(("shuffle", "bucket", "batch_size"), SETTINGS)
def test_drop_last_gives_full_batches_only(shuffle: bool, bucket: bool, batch_size: int) -> None:
    loader = GraphLoader(STORE, batch_size=batch_size, shuffle=shuffle, bucket=bucket, drop_last=True)
    batches = loader.batch_indices()
    assert len(batches) == len(loader) == 101 // batch_size
    assert all(len(b) == batch_size for b in batches)
    assert max(Counter(torch.cat([*batches, torch.empty(0).long()]).tolist()).values(), default=1) == 1


def test_drop_last_does_not_always_drop_the_largest_graphs() -> None:
    loader = GraphLoader(STORE, batch_size=50, drop_last=True)
    dropped = set()
    for epoch in range(40):
        loader.set_epoch(epoch)
        dropped |= set(range(101)) - set(torch.cat(loader.batch_indices()).tolist())
    assert len(dropped) > 20


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(s, t) for s, t in zip(a, b, strict=True))


@pytest.mark.parametrize("bucket", [True, False])
def test_order_depends_on_seed_and_epoch_alone(bucket: bool) -> None:
    first, second = (GraphLoader(STORE, batch_size=8, seed=5, bucket=bucket) for _ in range(2))
    orders = []
    for epoch in (0, 1, 2):
        first.set_epoch(epoch)
        orders.append(first.batch_indices())
    torch.manual_seed(1)
    second.set_epoch(2)
    assert same(second.batch_indices(), orders[2]) and same(second.batch_indices(), orders[2])
    other = GraphLoader(STORE, batch_size=8, seed=6, bucket=bucket).batch_indices()
    assert not any(same(a, b) for a, b in [(orders[0], orders[1]), (orders[1], orders[2]), (orders[0], other)])


def test_without_shuffle_and_buckets_the_order_is_that_of_the_index() -> None:
    index = torch.tensor([9, 3, 3, 50])
    batches = GraphLoader(STORE, index, batch_size=3, shuffle=False, bucket=False).batch_indices()
    assert [b.tolist() for b in batches] == [[9, 3, 3], [50]]


def test_a_bucketed_batch_spans_neighbouring_sizes_in_shuffled_order() -> None:
    batches = GraphLoader(STORE, batch_size=10).batch_indices()
    spans = [(int(c.min()), int(c.max())) for c in (STORE.node_counts(b) for b in batches)]
    ordered = sorted(spans)
    assert all(a[1] <= b[0] for a, b in zip(ordered[:-1], ordered[1:], strict=True))
    assert spans != ordered


def test_buckets_leave_hardly_any_padding_for_sizes_like_those_of_zinc() -> None:
    draws = 23.2 + 4.5 * torch.randn(50_000, generator=torch.Generator().manual_seed(0))
    counts = draws.round().clamp(6, 38).long()
    shares = {}
    for bucket in (True, False):
        batches = GraphLoader(store_of(counts), batch_size=1024, bucket=bucket).batch_indices()
        real = sum(int((counts[b] ** 2).sum()) for b in batches)
        shares[bucket] = real / sum(len(b) * int(counts[b].max()) ** 2 for b in batches)
    assert shares[True] >= 0.95 and shares[False] < 0.6, shares


@pytest.mark.parametrize(("size", "world"), [(101, 2), (101, 3), (101, 4), (20, 4), (5, 4), (101, 11)])
@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks_get_equally_many_batches_and_together_everything(size: int, world: int, drop_last: bool) -> None:
    store = store_of(random_counts(size))
    options = {"batch_size": 10, "drop_last": drop_last, "seed": 2}
    ranks = [GraphLoader(store, rank=r, world_size=world, **options) for r in range(world)]  # type: ignore[arg-type]
    parts = [loader.batch_indices() for loader in ranks]
    alone = GraphLoader(store, **options).batch_indices()  # type: ignore[arg-type]
    assert {len(part) for part in parts} == {len(loader) for loader in ranks}
    assert len({len(part) for part in parts}) == 1
    together = Counter(tuple(b.tolist()) for part in parts for b in part)
    if drop_last:
        assert set(together) <= {tuple(b.tolist()) for b in alone} and set(together.values()) <= {1}
        assert sum(together.values()) == len(alone) // world * world
    else:
        assert set(together) == {tuple(b.tolist()) for b in alone}
        assert sum(together.values()) - len(alone) < world


def test_a_split_name_chooses_its_graphs() -> None:
    loader = GraphLoader(STORE, "valid", batch_size=8)
    assert torch.equal(torch.cat(loader.batch_indices()).sort().values, STORE.indices("valid"))


@pytest.mark.parametrize("drop_last", [True, False])
def test_no_graph_makes_no_batch(drop_last: bool) -> None:
    for store, index in ((store_of(torch.empty(0).long()), None), (STORE, []), (STORE, "none")):
        loader = GraphLoader(store, index, world_size=2, drop_last=drop_last)
        assert len(loader) == 0 and list(loader) == []


def test_settings_out_of_range_are_refused() -> None:
    for settings in ({"batch_size": 0}, {"seed": -1}, {"rank": 1}, {"rank": -1}, {"world_size": 0}):
        with pytest.raises(InputError, match="expected batch_size >= 1"):
            GraphLoader(STORE, **settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown split 'dev'"):
        GraphLoader(STORE, "dev")
    for index in ([101], [-1], torch.ones(101, dtype=torch.bool)):
        with pytest.raises(InputError, match="index must"):
            GraphLoader(STORE, index)
    with pytest.raises(InputError, match="epoch"):
        GraphLoader(STORE).set_epoch(-1)
