"""A store gets its blocks once: those of the batch, whatever the chunks, and none are computed twice."""

from __future__ import annotations

import pytest
import torch

from graphinv.data import GraphStore
from graphinv.diffusion import block_order
from graphinv.errors import InputError
from graphinv.models.pard import ordered_store as ordering
from graphinv.models.pard.ordered_store import ordered_store
from graphinv.testing import random_graphs


@pytest.fixture(scope="module")
def store() -> GraphStore:
    return GraphStore.from_graphs(random_graphs(100, min_nodes=0, max_nodes=12, seed=2))


@pytest.mark.parametrize("chunk", [1, 7, 4096])
@pytest.mark.parametrize(("max_hops", "legacy", "rule"), [(0, False, "hops:0"), (3, False, "hops:3"),
                                                          (3, True, "hops:3:legacy")])  # fmt: skip
def test_blocks_are_those_of_the_whole_batch(store, max_hops, legacy, rule, chunk, monkeypatch):
    monkeypatch.setattr(ordering, "_CHUNK", chunk)
    ordered = ordered_store(store, max_hops, legacy, progress=False)
    batch = ordered.batch(ordered.indices())
    assert ordered.block_rule == rule
    assert torch.equal(batch.block, block_order(batch.edge_index, batch.ptr, max_hops, legacy).block)
    ordered.verify()
    assert store.block is None


def test_a_store_that_has_exactly_this_rule_is_returned_itself(store, tmp_path):
    ordered = ordered_store(store, 2)
    assert ordered_store(ordered, 2) is ordered
    for max_hops, legacy in ((3, False), (2, True)):
        other = ordered_store(ordered, max_hops, legacy)
        assert other is not ordered and other.content_hash == ordered_store(store, max_hops, legacy).content_hash
    ordered.save(tmp_path / "a.graphs")
    opened = GraphStore.open(tmp_path / "a.graphs")
    assert ordered_store(opened, 2) is opened


def test_a_store_of_no_graph_gets_its_rule_and_a_bad_hop_count_is_refused(store):
    empty = GraphStore.from_arrays([], [0], [], [], [0], vocabulary=store.vocabulary)
    assert ordered_store(empty, 2).block_rule == "hops:2"
    for wrong in (-1, 1.5):
        for given in (store, empty):
            with pytest.raises(InputError, match="max_hops"):
                ordered_store(given, wrong)  # type: ignore[arg-type]


def test_no_bar_where_stderr_is_no_terminal(store, capsys):
    ordered_store(store, 1)
    assert capsys.readouterr().err == ""
