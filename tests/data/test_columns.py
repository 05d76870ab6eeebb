"""Columns of a store: from a batch to the file, the loader and back, and what a file of an older graphinv holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphinv.columns import Text
from graphinv.data import GraphLoader, GraphStore, Vocabulary
from graphinv.errors import InputError, StoreError
from graphinv.graphs import GraphBatch
from graphinv.testing import random_graphs

VOCABULARY = Vocabulary(("0", "1", "2", "3"), ("1", "2", "3"), "generic")
KINDS = ("node_columns", "edge_columns", "graph_columns")


def values(rows: int, kind: int, generator: torch.Generator) -> torch.Tensor:
    numbers = torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    numbers[numbers > 1.5] = torch.nan
    whole = torch.randint(-3, 4, (rows,), generator=generator)
    forms = (numbers[:, 0], numbers.float(), whole, whole > 0, whole.abs() * 200, whole * 10**6, whole * 10**12)
    return forms[kind % len(forms)]


def with_columns(batch: GraphBatch, kind: int, seed: int) -> GraphBatch:
    generator = torch.Generator().manual_seed(seed)
    ends, pair = batch.pairs()
    texts = ["", "C=O", "μ" * 30, "two words\t"]
    return batch.with_columns(
        node={f"n{i}": values(batch.num_nodes, kind + i, generator) for i in range(2)},
        edge={"e.dotted": values(ends.size(1), kind + 2, generator)[pair]},
        graph={f"g{i}": values(batch.num_graphs, kind + i, generator) for i in range(3)}
        | {
            name: [texts[(k + shift) % 4] for k in range(batch.num_graphs)]
            for shift, name in enumerate(("smiles", "a b"))
        },
    )


def rows_of(batch: GraphBatch) -> list[Any]:
    """Every graph with its columns as plain values, edges in the order of their ends."""
    graphs = []
    for k in range(batch.num_graphs):
        g = batch.graph(k)
        order = torch.argsort(g.edge_index[0] * 1000 + g.edge_index[1])
        columns = {
            (kind, name): repr(
                list(c) if not isinstance(c, torch.Tensor) else (c[order] if kind == KINDS[1] else c).tolist()
            )
            for kind in KINDS
            for name, c in getattr(g, kind).items()
        }
        graphs.append((g.x.tolist(), g.edge_index[:, order].tolist(), g.edge_attr[order].tolist(), columns))  # type: ignore[index]
    return graphs


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), count=st.integers(0, 7), kind=st.integers(0, 6), data=st.data())
def test_columns_go_through_batch_store_file_split_and_loader(tmp_path_factory, seed, count, kind, data):
    batch = random_graphs(8, seed=seed, max_nodes=6).select(range(count))
    batch = with_columns(batch, kind, seed)
    store = GraphStore.from_graphs(batch, VOCABULARY)
    path = tmp_path_factory.mktemp("columns") / "a.graphs"
    store.save(path)
    opened = GraphStore.open(path)
    opened.verify()
    assert opened.content_hash == store.content_hash
    assert rows_of(opened.batch(opened.indices())) == rows_of(batch)
    for held in (getattr(opened.batch(opened.indices()), name) for name in KINDS):
        for column in held.values():
            wide = isinstance(column, torch.Tensor) and not column.is_floating_point() and column.dtype != torch.bool
            assert not wide or column.dtype == torch.int64
    assert rows_of(GraphStore.from_graphs(opened.batch(opened.indices()), VOCABULARY).batch(range(count))) == rows_of(
        batch
    )
    if not count:
        return
    chosen = data.draw(st.lists(st.integers(0, count - 1), max_size=9))
    assert rows_of(opened.batch(chosen)) == rows_of(batch.select(chosen))
    part = opened.select(chosen)
    part.verify()
    assert rows_of(part.batch(range(len(chosen)))) == rows_of(batch.select(chosen))
    assert part.smiles() == [opened.smiles()[k] for k in chosen]
    split = opened.with_split(torch.arange(count) % 2, "half")
    loader = GraphLoader(split, "valid", batch_size=2, seed=seed)
    expected = [rows_of(batch.select(ids)) for ids in loader.batch_indices()]
    assert [rows_of(drawn) for drawn in loader] == expected
    assert sum(map(len, expected)) == count // 2
    if opened.batch(chosen).num_nodes and opened.batch(chosen).num_edges:
        assert rows_of(GraphBatch.from_pyg(opened.batch(chosen).to_pyg())) == rows_of(batch.select(chosen))


def test_a_file_of_an_older_graphinv_opens_with_its_columns_and_is_written_the_same(tmp_path: Path) -> None:
    store = GraphStore.from_arrays([0, 1], [0, 2], [[0, 1]], [1], [0, 1], vocabulary=VOCABULARY, smiles=["CO"],
        graph_columns={"gap": torch.tensor([0.5]), "u0": torch.tensor([1.5], dtype=torch.float64)})  # fmt: skip
    store = store.with_blocks([0, 1], "hops:1")
    store.save(tmp_path / "new.graphs")
    arrays = safetensors.numpy.load_file(tmp_path / "new.graphs")
    assert {"block", "smiles_bytes", "smiles_ptr", "property.gap", "property.u0"} <= set(arrays)
    with safetensors.safe_open(tmp_path / "new.graphs", framework="pt") as file:
        assert json.loads(file.metadata()["graphinv_store"])["format"] == 1
    newer = store.with_columns(graph={"rings": [3]})
    newer.save(tmp_path / "newer.graphs")
    with safetensors.safe_open(tmp_path / "newer.graphs", framework="pt") as file:
        assert json.loads(file.metadata()["graphinv_store"])["format"] == 2
    assert newer.with_columns(graph={"rings": None}).content_hash == store.content_hash


def test_a_text_column_that_lacks_a_part_or_has_wrong_offsets_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.graphs"
    GraphStore.from_arrays([0], [0, 1], [], [], [0, 0], vocabulary=VOCABULARY, graph_columns={"t": ["ab"]}).save(path)
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    less = {name: value for name, value in arrays.items() if name != "text_bytes.t"}
    end = {**arrays, "text_ptr.t": arrays["text_ptr.t"] + 1}
    kind = {**arrays, "text_bytes.t": arrays["text_bytes.t"].astype("int16")}
    numbers = {**arrays, "node.w": arrays["text_bytes.t"]}
    for damaged in (less, end, kind, numbers):
        path.write_bytes(safetensors.numpy.save(damaged, metadata=metadata))
        with pytest.raises(StoreError, match="corrupt"):
            GraphStore.open(path)


def test_columns_that_a_bond_cannot_hold_are_refused_and_blocks_need_their_rule() -> None:
    pair = GraphBatch.single(torch.tensor([0, 0]), torch.tensor([[0, 1], [1, 0]]))
    with pytest.raises(InputError, match="edge column 'w' differs between the directions"):
        GraphStore.from_graphs(pair.with_columns(edge={"w": torch.tensor([0.0, 1.0])}))
    assert GraphStore.from_graphs(pair.with_columns(node={"block": torch.tensor([0, 1])})).block is None
    store = GraphStore.from_graphs(pair).with_blocks([0, 1], "hops:1")
    assert store.with_columns(node={"block": None}).block_rule is None
    assert store.with_columns(graph={"a": [1]}).block_rule == "hops:1"


def test_old_names_of_graph_columns_work_and_say_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match="now graph_columns"):
        store = GraphStore.from_arrays([0], [0, 1], [], [], [0, 0], vocabulary=VOCABULARY, properties={"a": [0.5]})
    with pytest.warns(DeprecationWarning, match="now graph_columns"):
        assert store.properties["a"].tolist() == [0.5]


def test_text_is_read_when_it_is_looked_at_and_equals_its_texts() -> None:
    text = Text.pack(["a", "", "ü"])
    assert list(text) == ["a", "", "ü"] and text[-1] == "ü" and text[1:] == ("", "ü") and text == ("a", "", "ü")
    assert text != ["a"] and text != "aü" and list(text.take(torch.tensor([2, 0])).packed()) == ["ü", "a"]
    with pytest.raises(IndexError):
        _ = text[3]
