"""Stores: round trip, hash, batches against a naive reconstruction, and every way a file can be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.numpy
import torch
from torch import Tensor

from graphinv.data import GraphStore, Vocabulary
from graphinv.errors import InputError, StoreError
from graphinv.graphs import GraphBatch

VOCABULARY = Vocabulary(("C", "N", "O"), ("single", "double", "triple"), "element")


def random_store(seed: int, num_graphs: int = 40, most: int = 12, vocabulary: Vocabulary = VOCABULARY) -> GraphStore:
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, size: int) -> Tensor:
        return torch.randint(low, high, (size,), generator=generator)

    counts = draw(0, most + 1, num_graphs)
    bonds, bond_counts = [], []
    for n in counts.tolist():
        pairs = torch.combinations(torch.arange(n)) if n > 1 else torch.empty(0, 2, dtype=torch.long)
        kept = pairs[torch.rand(len(pairs), generator=generator) < 0.4]
        bonds.append(kept)
        bond_counts.append(len(kept))
    bond = torch.cat([torch.empty(0, 2, dtype=torch.long), *bonds])
    node_ptr = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    bond_ptr = torch.tensor([0, *bond_counts]).cumsum(0)
    node_type = draw(0, len(vocabulary.nodes), int(node_ptr[-1]))
    return GraphStore.from_arrays(
        node_type,
        node_ptr,
        bond,
        draw(1, len(vocabulary.edges) + 1, len(bond)),
        bond_ptr,
        vocabulary=vocabulary,
        split_id=draw(0, 4, num_graphs),
        row=torch.arange(num_graphs) * 2,
        smiles=["C" * n for n in counts.tolist()],
        graph_columns={
            "gap": torch.rand(num_graphs, generator=generator),
            "u0": torch.rand(num_graphs, generator=generator).double(),
        },
        provenance={"counts": {"lines": num_graphs * 2, "kept": num_graphs, "rejects": {}}},
    )


def naive_batch(store: GraphStore, index: list[int]) -> GraphBatch:
    graphs = []
    for g in index:
        a, b = int(store.node_ptr[g]), int(store.node_ptr[g + 1])
        edges: list[tuple[int, int]] = []
        types: list[int] = []
        for e in range(int(store.bond_ptr[g]), int(store.bond_ptr[g + 1])):
            u, v = store.bond[e].tolist()
            edges += [(u, v), (v, u)]
            types += [int(store.bond_type[e])] * 2
        edge_index = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T
        graphs.append(GraphBatch.single(store.node_type[a:b].long(), edge_index, torch.tensor(types).long()))
    return GraphBatch.from_graphs(graphs)


def same_batch(a: GraphBatch, b: GraphBatch) -> bool:
    assert a.edge_attr is not None and b.edge_attr is not None
    pairs = [(a.x, b.x), (a.edge_index, b.edge_index), (a.edge_attr, b.edge_attr), (a.ptr, b.ptr)]
    return all(torch.equal(s, t) and s.dtype == t.dtype for s, t in [*pairs, (a.edge_ptr, b.edge_ptr)])


@pytest.mark.parametrize("seed", range(8))
def test_batch_equals_naive_reconstruction(seed: int) -> None:
    store = random_store(seed)
    generator = torch.Generator().manual_seed(seed)
    for size in (1, 2, 17, 80):
        index = torch.randint(0, len(store), (size,), generator=generator)
        assert same_batch(store.batch(index), naive_batch(store, index.tolist())), f"seed {seed}, index {index}"
        assert store.node_counts(index).tolist() == store.batch(index).node_counts().tolist()


def test_batch_of_no_graph_and_of_a_list() -> None:
    store = random_store(0)
    empty = store.batch(torch.empty(0, dtype=torch.long))
    assert (empty.num_graphs, empty.num_nodes, empty.num_edges) == (0, 0, 0)
    assert empty.ptr.tolist() == empty.edge_ptr.tolist() == [0]
    assert same_batch(store.batch([3, 3, 1]), store.batch(torch.tensor([3, 3, 1], dtype=torch.int32)))


@pytest.mark.parametrize("index", [[-1], [40], [0.5], [[1]], torch.ones(40, dtype=torch.bool)])
def test_index_outside_the_store_or_not_integer_is_rejected(index: object) -> None:
    with pytest.raises(InputError, match="index must"):
        random_store(0).batch(index)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_save_and_open_return_every_column(seed: int, tmp_path: Path) -> None:
    store = random_store(seed)
    store.save(tmp_path / "a.graphs")
    opened = GraphStore.open(tmp_path / "a.graphs")
    opened.verify()
    assert opened.vocabulary == store.vocabulary and opened.provenance == store.provenance
    assert opened.content_hash == store.content_hash
    for name, column in store._tensors().items():
        other = opened._tensors()[name]
        assert other.dtype == column.dtype and torch.equal(other, column), name
    assert opened.smiles() == store.smiles() == ["C" * n for n in store.node_counts().tolist()]
    assert opened.smiles([5, 1, 5]) == [store.smiles()[i] for i in (5, 1, 5)]
    assert same_batch(opened.batch(opened.indices()), store.batch(store.indices()))


def test_files_of_equal_stores_are_equal_and_an_opened_store_saves_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "a.graphs"
    random_store(1).save(tmp_path / "b.graphs")
    random_store(1).save(path)
    before = path.read_bytes()
    assert before == (tmp_path / "b.graphs").read_bytes()
    GraphStore.open(path).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["a.graphs"]


def test_hash_changes_with_content_and_split_but_not_with_provenance() -> None:
    store = random_store(2)
    variants = [
        replace(store, node_type=(store.node_type + 1) % 3),
        replace(store, bond_type=store.bond_type % 3 + 1),
        replace(store, row=store.row + 1),
        store.with_columns(graph={"gap": None, "u0": None}),
        store.with_columns(graph={"gap": None, "homo": store.graph_columns["gap"]}),
        store.with_columns(graph={"smiles": None}),
        store.with_columns(graph={"name": ["a"] * len(store)}),
        store.with_columns(node={"w": store.node_type}),
        store.with_columns(edge={"w": store.bond_type}),
        store.with_columns(graph={"w": store.row}),
        replace(store, vocabulary=Vocabulary(("C", "N", "S"), VOCABULARY.edges, "element")),
        store.with_split((store.split_id + 1) % 4, "other"),
    ]
    hashes = [store.content_hash, *(variant.content_hash for variant in variants)]
    assert len(set(hashes)) == len(hashes)
    assert replace(store, provenance={"other": 1}).content_hash == store.content_hash
    same = store.with_split(store.split_id, "same")
    assert same.content_hash == store.content_hash and same.provenance["split"] == "same"


def test_splits_partition_the_store_and_histogram_counts_them() -> None:
    store = random_store(3)
    parts = [store.indices(split) for split in ("train", "valid", "test", "none")]  # type: ignore[arg-type]
    assert torch.equal(torch.cat(parts).sort().values, store.indices("all"))
    histogram = store.node_histogram("test")
    assert histogram.sum() == len(parts[2])
    assert int(histogram @ torch.arange(len(histogram))) == int(store.node_counts(parts[2]).sum())
    with pytest.raises(InputError, match="available: train"):
        store.indices("dev")  # type: ignore[arg-type]


def test_store_of_no_graph_saves_and_opens(tmp_path: Path) -> None:
    store = GraphStore.from_arrays([], [0], [], [], [0], vocabulary=VOCABULARY, smiles=[])
    store.save(tmp_path / "empty.graphs")
    opened = GraphStore.open(tmp_path / "empty.graphs")
    opened.verify()
    assert len(opened) == 0 and opened.smiles() == [] and opened.node_histogram().tolist() == [0]
    assert opened.indices().tolist() == opened.indices("test").tolist() == []
    assert opened.batch(opened.indices()).num_graphs == 0


@pytest.mark.parametrize(("nodes", "dtype"), [(255, torch.uint8), (256, torch.int16), (40_000, torch.int32)])
def test_large_graphs_widen_local_ids(nodes: int, dtype: torch.dtype, tmp_path: Path) -> None:
    bond = torch.stack([torch.arange(nodes - 1), torch.arange(1, nodes)], 1)
    ptr, ones = [0, nodes], torch.ones(nodes - 1, dtype=torch.long)
    store = GraphStore.from_arrays(0 * torch.arange(nodes), ptr, bond, ones, [0, nodes - 1], vocabulary=VOCABULARY)
    store.save(tmp_path / "a.graphs")
    opened = GraphStore.open(tmp_path / "a.graphs")
    opened.verify()
    assert opened.bond.dtype == dtype and int(opened.batch([0]).edge_index.max()) == nodes - 1


def test_offsets_are_int32_until_they_overflow() -> None:
    from graphinv.data._columns import narrow_offsets

    assert random_store(0).node_ptr.dtype == torch.int32
    assert narrow_offsets(torch.tensor([0, 2**31 - 1])).dtype == torch.int32
    assert narrow_offsets(torch.tensor([0, 2**31])).dtype == torch.int64


BAD_ARRAYS = [
    ({"node_ptr": [0, 3]}, "node_ptr must start at 0 and end at 2"),
    ({"node_ptr": [0, 2, 1, 2], "bond_ptr": [0, 1, 1, 1]}, "node_ptr decreases"),
    ({"bond_ptr": [0, 1, 1]}, "column bond_ptr must have shape"),
    ({"bond": [[1, 0]]}, "u < v < 2"),
    ({"bond": [[0, 0]]}, "u < v < 2"),
    ({"bond": [[0, 2]]}, "u < v < 2"),
    ({"bond": [[-1, 1]]}, "u < v < 2"),
    ({"bond": [[0, 1], [0, 1]], "bond_type": [1, 2], "bond_ptr": [0, 2]}, "more than one bond"),
    ({"bond": [0, 1]}, "column bond"),
    ({"bond_type": [0]}, "bond_type must lie in 1..3"),
    ({"bond_type": [4]}, "bond_type must lie in 1..3"),
    ({"node_type": [0, 3]}, "node_type must lie in 0..2"),
    ({"node_type": [0, 300]}, "node_type must lie in"),
    ({"node_type": [0.5, 1.0]}, "must hold integers"),
    ({"split_id": [4]}, "split_id must lie in 0..3"),
    ({"row": [-1]}, "row must lie in"),
    ({"smiles": ["C", "N"]}, r"graph column 'smiles' must be a tensor \[1, \*\].* got 2 texts"),
    ({"graph_columns": {"gap": [1.0, 2.0]}}, r"graph column 'gap' must be a tensor \[1, \*\]"),
    ({"node_columns": {"w": [1.0]}}, r"node column 'w' must be a tensor \[2, \*\]"),
    ({"node_columns": {"w": ["a", "b"]}}, "node column 'w' must be"),
    ({"edge_columns": {"w": [1, 2]}}, r"edge column 'w' must be a tensor \[1, \*\]"),
    ({"graph_columns": {"w": [{}]}}, "graph column 'w' must hold numbers, or one text a graph"),
    ({"graph_columns": {"x": [1]}}, "other than x, edge_index"),
    ({"node_columns": {"block": [0, 0]}}, "use with_blocks"),
]


@pytest.mark.parametrize(("change", "message"), BAD_ARRAYS)
def test_from_arrays_names_what_is_wrong(change: dict[str, object], message: str) -> None:
    arrays = {"node_type": [0, 1], "node_ptr": [0, 2], "bond": [[0, 1]], "bond_type": [1], "bond_ptr": [0, 1]}
    with pytest.raises(InputError, match=message):
        GraphStore.from_arrays(**{**arrays, **change}, vocabulary=VOCABULARY)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(6))
def test_from_graphs_accepts_one_or_both_directions_in_any_order(seed: int) -> None:
    store = random_store(seed)
    batch = store.batch(store.indices())
    generator = torch.Generator().manual_seed(seed)
    spans = [(int(a), int(b)) for a, b in zip(batch.edge_ptr[:-1], batch.edge_ptr[1:], strict=True)]
    order = torch.cat([a + torch.randperm(b - a, generator=generator) for a, b in spans])
    assert batch.edge_attr is not None
    both = replace(batch, edge_index=batch.edge_index[:, order], edge_attr=batch.edge_attr[order])
    one = replace(
        batch, edge_index=batch.edge_index[:, 1::2], edge_attr=batch.edge_attr[1::2], edge_ptr=batch.edge_ptr // 2
    )
    for graphs in (both, one):
        rebuilt = GraphStore.from_graphs(graphs, VOCABULARY)
        assert same_batch(rebuilt.batch(rebuilt.indices()), batch)


def test_from_graphs_labels_types_by_number_without_a_vocabulary() -> None:
    graph = GraphBatch.single(torch.tensor([0, 2]), torch.tensor([[0, 1], [1, 0]]), torch.tensor([2, 2]))
    assert GraphStore.from_graphs(graph).vocabulary == Vocabulary(("0", "1", "2"), ("1", "2"), "generic")
    bare = GraphBatch.single(torch.tensor([0, 0]), torch.tensor([[0], [1]]))
    assert GraphStore.from_graphs(bare).batch([0]).edge_attr.tolist() == [1, 1]  # type: ignore[union-attr]


BAD_GRAPHS = [
    ([[0, 0], [0, 1]], None, "self loop"),
    ([[0, 0], [1, 1]], None, "repeated"),
    ([[0, 1], [1, 0]], [1, 2], "different types"),
    ([[0], [2]], None, "leaves its graph"),
    ([[-1], [1]], None, "leaves its graph"),
    ([[0], [1]], [0.5], "integer edge types"),
]


@pytest.mark.parametrize(("edges", "types", "message"), BAD_GRAPHS)
def test_from_graphs_rejects_what_a_simple_graph_cannot_hold(
    edges: list[list[int]], types: list[float] | None, message: str
) -> None:
    attr = None if types is None else torch.tensor(types)
    graph = GraphBatch.single(torch.zeros(2, dtype=torch.long), torch.tensor(edges), attr)
    with pytest.raises(InputError, match=message):
        GraphStore.from_graphs(graph)
    with pytest.raises(InputError, match="integer|features"):
        GraphStore.from_graphs(GraphBatch.single(torch.rand(2, 3), torch.tensor([[0], [1]])))


def test_vocabulary_round_trips_through_json_and_rejects_nonsense() -> None:
    assert Vocabulary.from_json(json.loads(json.dumps(VOCABULARY.to_json()))) == VOCABULARY
    for value in ({"nodes": ["C"]}, {"nodes": 1, "edges": [], "scheme": "element"}):
        with pytest.raises(InputError, match="needs nodes, edges and scheme"):
            Vocabulary.from_json(value)
    with pytest.raises(InputError, match="different labels"):
        Vocabulary(("C", "C"), (), "element")
    with pytest.raises(InputError, match="available: element"):
        Vocabulary(("C",), (), "atoms")


def test_files_that_are_no_store_are_named_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "bad.graphs"
    with pytest.raises(StoreError, match="missing.*graphinv data build"):
        GraphStore.open(path)
    with pytest.raises(StoreError, match="a folder"):
        GraphStore.open(tmp_path)
    for content in (b"", b"CCO\nCC\n" * 100, b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="rebuild it with `graphinv data build`"):
            GraphStore.open(path)
    path.write_bytes(safetensors.numpy.save({"weight": torch.zeros(3).numpy()}))
    with pytest.raises(StoreError, match="not a graph store"):
        GraphStore.open(path)


def test_a_store_cut_at_any_point_is_refused(tmp_path: Path) -> None:
    random_store(0).save(tmp_path / "whole.graphs")
    content = (tmp_path / "whole.graphs").read_bytes()
    for size in [*range(0, len(content), max(1, len(content) // 60)), len(content) - 1]:
        (tmp_path / "cut.graphs").write_bytes(content[:size])
        with pytest.raises(StoreError):
            GraphStore.open(tmp_path / "cut.graphs")


def test_verify_finds_a_flipped_byte(tmp_path: Path) -> None:
    random_store(0).save(tmp_path / "a.graphs")
    content = bytearray((tmp_path / "a.graphs").read_bytes())
    content[-1] ^= 1
    (tmp_path / "a.graphs").write_bytes(content)
    with pytest.raises(StoreError, match="corrupt"):
        GraphStore.open(tmp_path / "a.graphs").verify()


def _with_header(path: Path, **change: object) -> None:
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["graphinv_store"])
    header = {key: value for key, value in {**header, **change}.items() if value is not None}
    path.write_bytes(safetensors.numpy.save(arrays, metadata={"graphinv_store": json.dumps(header)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "upgrade graphinv"),
        ({"format": 0}, "rebuild"),
        ({"format": "x"}, "corrupt"),
        ({"vocabulary": None}, "corrupt"),
        ({"vocabulary": {"nodes": []}}, "corrupt"),
        ({"provenance": 3}, "corrupt"),
        ({"content_hash": None}, "corrupt"),
    ],
)
def test_header_of_another_version_or_damaged_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    random_store(0).save(tmp_path / "a.graphs")
    _with_header(tmp_path / "a.graphs", **change)
    with pytest.raises(StoreError, match=message):
        GraphStore.open(tmp_path / "a.graphs")


def test_a_store_with_a_column_missing_added_or_misshapen_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.graphs"
    random_store(0).save(path)
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    less = {name: value for name, value in arrays.items() if name != "bond_type"}
    more = {**arrays, "extra": arrays["row"]}
    short = {**arrays, "node_type": arrays["node_type"][:-1]}
    wide = {**arrays, "node_type": arrays["node_type"].astype("int64")}
    half = {name: value for name, value in arrays.items() if name != "smiles_ptr"}
    for damaged in (less, more, short, wide, half):
        path.write_bytes(safetensors.numpy.save(damaged, metadata=metadata))
        with pytest.raises(StoreError, match="corrupt"):
            GraphStore.open(path)


def test_provenance_that_is_not_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for value in (object(), float("nan")):
        with pytest.raises(InputError, match="must be JSON"):
            replace(random_store(0), provenance={"value": value}).save(tmp_path / "a.graphs")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_store_and_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "a.graphs"
    random_store(0).save(path)
    before = path.read_bytes()
    script = (
        "import resource, sys, torch\n"
        "from graphinv.data import GraphStore, Vocabulary\n"
        "from graphinv.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "store = GraphStore.from_arrays(torch.zeros(50_000, dtype=torch.long), [0, 50_000], [], [], [0, 0],\n"
        "    vocabulary=Vocabulary(('C',), ('single',), 'element'))\n"
        "try:\n"
        "    store.save(sys.argv[1])\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, cwd=root)
    assert result.returncode == 0 and "cannot write" in result.stdout, result.stderr
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def blocks_of(store: GraphStore, most: int = 4) -> Tensor:
    """Ids 0..k-1 in every graph, k at most ``most``."""
    local = torch.cat([torch.arange(n) for n in store.node_counts().tolist()])
    return local % most


@pytest.mark.parametrize("seed", range(3))
def test_blocks_are_saved_opened_and_batched_with_their_nodes(seed: int, tmp_path: Path) -> None:
    plain = random_store(seed)
    store = plain.with_blocks(blocks_of(plain), "hops:3")
    store.save(tmp_path / "a.graphs")
    opened = GraphStore.open(tmp_path / "a.graphs")
    opened.verify()
    assert opened.block is not None and opened.block.dtype == torch.uint8 and opened.block_rule == "hops:3"
    assert opened.content_hash == store.content_hash != plain.content_hash
    index = torch.randint(0, len(store), (30,), generator=torch.Generator().manual_seed(seed))
    batch = opened.batch(index)
    assert same_batch(batch, plain.batch(index)) and plain.batch(index).block is None
    assert batch.block is not None and batch.block.dtype == torch.int64
    starts = plain.node_ptr.tolist()
    expected = [blocks_of(plain)[starts[g] : starts[g + 1]] for g in index.tolist()]
    assert torch.equal(batch.block, torch.cat(expected))
    assert opened.batch(torch.empty(0, dtype=torch.long)).block.numel() == 0  # type: ignore[union-attr]


def test_blocks_outlive_another_split_and_other_provenance(tmp_path: Path) -> None:
    store = random_store(1)
    ordered = store.with_blocks(blocks_of(store), "hops:1:legacy")
    changed = replace(ordered.with_split(store.split_id % 2, "other"), provenance={})
    assert torch.equal(changed.block, ordered.block) and changed.block_rule == "hops:1:legacy"
    assert ordered.with_blocks(blocks_of(store, 2), "hops:2").content_hash != ordered.content_hash


def test_a_store_without_blocks_is_the_file_it_was(tmp_path: Path) -> None:
    random_store(0).save(tmp_path / "a.graphs")
    with safetensors.safe_open(tmp_path / "a.graphs", framework="pt") as file:
        assert "block" not in file.keys() and set(json.loads(file.metadata()["graphinv_store"])) == {
            "format", "provenance", "vocabulary", "content_hash"
        }  # fmt: skip
    opened = GraphStore.open(tmp_path / "a.graphs")
    assert opened.block is None and opened.block_rule is None


@pytest.mark.parametrize(("blocks", "dtype"), [(256, torch.uint8), (257, torch.int16), (32_769, torch.int32)])
def test_many_blocks_widen_their_ids(blocks: int, dtype: torch.dtype, tmp_path: Path) -> None:
    types = torch.zeros(blocks, dtype=torch.long)
    plain = GraphStore.from_arrays(types, [0, blocks], [], [], [0, 0], vocabulary=VOCABULARY)
    store = plain.with_blocks(torch.arange(blocks), "hops:1")
    assert store.block is not None and store.block.dtype == dtype
    store.save(tmp_path / "a.graphs")
    GraphStore.open(tmp_path / "a.graphs").verify()


BAD_BLOCKS = [
    ([0, 1], r"block must be \[3\] integers, got \[2\]"),
    ([0, 2, 0], "segment 0 there is 2 on 2 rows"),
    ([1, 1, 0], "segment 0 0 is on no row"),
    ([0, 0, -1], "segment 1 there is -1"),
    ([0.0, 0.5, 0.0], "must hold integers"),
]


@pytest.mark.parametrize(("block", "message"), BAD_BLOCKS)
def test_blocks_with_gaps_or_of_another_shape_are_refused(block: list[float], message: str) -> None:
    store = GraphStore.from_arrays([0, 0, 1], [0, 2, 3], [], [], [0, 0, 0], vocabulary=VOCABULARY)
    with pytest.raises(InputError, match=message):
        store.with_blocks(block, "hops:1")


def test_a_file_with_wrong_blocks_or_without_their_rule_is_refused(tmp_path: Path) -> None:
    path, store = tmp_path / "a.graphs", random_store(4)
    replace(store, node_columns={"block": blocks_of(store).to(torch.uint8) + 1}, block_rule="hops:1").save(path)
    with pytest.raises(StoreError, match="block must be 0..k-1"):
        GraphStore.open(path).verify()
    store.with_blocks(blocks_of(store), "hops:1").save(path)
    _with_header(path, block_rule=None)
    with pytest.raises(StoreError, match="block and block_rule go together"):
        GraphStore.open(path)
    with pytest.raises(InputError, match="column block must"):
        replace(store, node_columns={"block": blocks_of(store)}, block_rule="hops:1")
    store.save(path)
    _with_header(path, block_rule="hops:1")
    with pytest.raises(StoreError, match="block and block_rule go together"):
        GraphStore.open(path)
