"""Sets of graphs survive every file form, and a hostile or damaged file is an error that runs nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphinv.data import GraphStore, build_graphs, is_graph_file, read_graphs, split_ids, write_graphs
from graphinv.data._safe_pickle import load_tensors, pickled_graphs
from graphinv.data.manifests import list_datasets, load_manifest
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch

DATA = os.environ.get("GRAPHINV_DATA_DIR")
needs_data = pytest.mark.skipif(not DATA, reason="GRAPHINV_DATA_DIR is not set")
SETS = {  # name -> train, valid, test, most nodes
    "community_small": (80, 0, 20, 20),
    "ego_small": (160, 0, 40, 17),
    "enzymes": (470, 0, 117, 125),
    "grid": (80, 0, 20, 361),
    "planar": (128, 32, 40, 64),
    "sbm": (128, 32, 40, 187),
    "tree": (128, 32, 40, 64),
}


@st.composite
def batches(draw: Callable[..., Any]) -> GraphBatch:
    """Sets of up to four plain graphs of up to nine nodes, empty ones among them."""
    graphs = []
    for nodes in draw(st.lists(st.integers(0, 9), max_size=4)):
        pairs = [(u, v) for u in range(nodes) for v in range(u + 1, nodes)]
        graph = nx.empty_graph(nodes)
        graph.add_edges_from(draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else [])
        graphs.append(graph)
    return GraphBatch.from_networkx(graphs) if graphs else GraphBatch.from_networkx([nx.Graph()]).select([])


def sample() -> list[nx.Graph]:
    """An empty graph, one node, a triangle and an isolated node, and one of more than 255 nodes."""
    return [
        nx.Graph(),
        nx.empty_graph(1),
        nx.disjoint_union(nx.complete_graph(3), nx.empty_graph(1)),
        nx.path_graph(300),
    ]


def links(batch: GraphBatch) -> list[tuple[int, set[tuple[int, int]]]]:
    """What a set of graphs is, whatever the order of its edges."""
    return [(len(g), {(min(e), max(e)) for e in g.edges}) for g in batch.to_networkx()]


def put(folder: Path, content: Any, name: str = "set.pkl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


# what is written is read


@settings(max_examples=40, deadline=None)
@given(batches())
def test_graph6_gives_back_every_set_of_graphs(tmp_path_factory: pytest.TempPathFactory, batch: GraphBatch) -> None:
    path = tmp_path_factory.mktemp("g6") / "set.g6"
    write_graphs(path, batch)
    back, splits = read_graphs(path)
    assert links(back) == links(batch) and splits is None
    assert torch.equal(back.ptr, batch.ptr) and torch.equal(back.edge_ptr, batch.edge_ptr)
    assert not back.x.any() and bool((back.edge_attr == 1).all())


@pytest.mark.parametrize("form", ["set.g6", "set.s6", "set.g6.gz", "set.pkl", "set.pickle", "set.pkl.gz"])
def test_every_form_holds_empty_single_and_large_graphs(form: str, tmp_path: Path) -> None:
    kind = form.removesuffix(".gz")[-2:]
    writer = {"g6": nx.to_graph6_bytes, "s6": nx.to_sparse6_bytes}.get(kind)
    content = pickle.dumps(sample()) if writer is None else b"\n".join(writer(g) for g in sample())
    path = put(tmp_path, gzip.compress(content) if form.endswith(".gz") else content, form)
    assert is_graph_file(path)
    batch, _ = read_graphs(path)
    assert links(batch) == links(GraphBatch.from_networkx(sample()))
    store, told = build_graphs(path, split="none")
    assert len(store) == 4 and told == "4 graphs, 0 self loops removed"
    assert links(store.batch([0, 1, 2, 3])) == links(batch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_spectre_lists_hold_adjacency_matrices_of_any_type(dtype: torch.dtype, tmp_path: Path) -> None:
    adjacency = [torch.tensor(nx.to_numpy_array(g)).to(dtype).reshape(len(g), len(g)) for g in sample()]
    torch.save(
        [adjacency, [], [], [len(a) for a in adjacency], torch.ones(()), torch.ones(()), False, 300], tmp_path / "a.pt"
    )
    assert links(read_graphs(tmp_path / "a.pt")[0]) == links(GraphBatch.from_networkx(sample()))


def test_a_store_written_as_graphs_keeps_types_and_graph6_refuses_to_lose_them(tmp_path: Path) -> None:
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    typed = GraphBatch.single(torch.tensor([0, 2, 0]), edges, torch.tensor([1, 1, 3, 3]))
    write_graphs(tmp_path / "a.Graphs", typed)
    (tmp_path / "a.Graphs").rename(tmp_path / "a.graphs")
    store = GraphStore.open(tmp_path / "a.graphs")
    assert store.batch([0]).x.tolist() == [0, 2, 0] and store.bond_type.tolist() == [1, 3]
    same = GraphBatch.single(torch.tensor([2, 2, 2]), edges, torch.tensor([3, 3, 3, 3]))
    write_graphs(tmp_path / "same.G6", same)
    assert links(read_graphs(tmp_path / "same.G6")[0]) == links(same)
    for batch in (typed, GraphBatch.single(torch.zeros(3, 2), edges)):
        with pytest.raises(InputError, match="no node or edge types"):
            write_graphs(tmp_path / "a.g6", batch)
    with pytest.raises(InputError, match=r"\.g6 or \.graphs"):
        write_graphs(tmp_path / "a.txt", same)
    with pytest.raises(InputError, match="self loop"):
        write_graphs(tmp_path / "a.g6", GraphBatch.single(torch.zeros(1).long(), torch.zeros(2, 1).long()))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.graphs", "same.G6"]


def test_self_loops_are_removed_and_counted(tmp_path: Path) -> None:
    graph = nx.Graph([(0, 0), (0, 1), (1, 1)])
    for path in (put(tmp_path, [graph]), put(tmp_path, nx.to_sparse6_bytes(graph), "set.s6")):
        store, told = build_graphs(path)
        assert told == "1 graphs, 2 self loops removed" and store.bond.tolist() == [[0, 1]]
        assert store.provenance["counts"] == {"lines": 1, "kept": 1, "self_loops_removed": 2}


# what networkx leaves in a pickle


def test_attributes_and_looked_at_graphs_are_read_without_their_attributes(tmp_path: Path) -> None:
    graph = nx.Graph(name="mine")
    graph.add_node("b", label=np.int64(3), weight=np.float32(0.5), flag=np.bool_(True))
    graph.add_edge("b", "a", weight=[1.0, None, {"deep": (1, 2)}])
    _ = graph.nodes, graph.edges, graph.adj, graph.degree  # networkx keeps these views in the graph
    batch, _ = read_graphs(put(tmp_path, (graph, nx.freeze(nx.path_graph(2)))))
    assert links(batch) == [(2, {(0, 1)})] * 2


@pytest.mark.parametrize("number", [np.int64, np.int32, np.uint8, np.float64])
def test_nodes_named_by_numpy_numbers_are_told_apart(number: type, tmp_path: Path) -> None:
    graph = nx.relabel_nodes(nx.path_graph(4), {i: number(3 * i) for i in range(4)})
    assert links(read_graphs(put(tmp_path, [graph]))[0]) == [(4, {(0, 1), (1, 2), (2, 3)})]


def test_subgraph_views_show_their_nodes_in_the_order_of_the_whole_graph(tmp_path: Path) -> None:
    whole = nx.path_graph(10)
    batch, _ = read_graphs(put(tmp_path, [whole.subgraph([5, 4, 8]), whole.subgraph([]), whole.subgraph([9, 0])]))
    assert links(batch) == [(3, {(0, 1)}), (0, set()), (2, set())]


def test_splits_of_a_dict_are_kept_under_our_names(tmp_path: Path) -> None:
    path = put(tmp_path, {"train": sample(), "val": sample()[:1], "test": sample()[1:3]})
    batch, splits = read_graphs(path)
    assert batch.num_graphs == 7 and splits == ["train"] * 4 + ["valid"] + ["test"] * 2
    store, _ = build_graphs(path)
    assert store.split_id.tolist() == [0, 0, 0, 0, 1, 2, 2] and store.provenance["split"] == "given"
    assert build_graphs(path, split="head:0.5")[0].split_id.tolist() == [2, 2, 2, 0, 0, 0, 0]


# hostile and damaged files


class Hostile:
    """Unpickled in the usual way, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_calls_the_system_runs_nothing(protocol: int, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    graph = nx.path_graph(2)
    graph.graph["payload"] = Hostile(target)
    for value in (Hostile(target), [Hostile(target)], [graph]):
        with pytest.raises(InputError, match=r"system|copy_?reg"):
            read_graphs(put(tmp_path, pickle.dumps(value, protocol)))
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ndict.__class__\n.",
        b"c__builtin__\ngetattr\n.",
        b"cnetworkx.classes.graph\nnx\n.",
        b"cnumpy\nload\n.",
        b"cgraphinv.data._safe_pickle\ntorch\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x13dict.__subclasses__\x93.",
    ],
)
def test_names_outside_the_table_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(InputError, match="the pickle names"):
        pickled_graphs(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"this is a text file\n",
        b"\x82\x01.",  # a registered extension
        b"Pid\n.",  # a persistent id
        b"\x80\x04N",  # no end
        b"cnetworkx.classes.graph\nGraph\n(N}S'__new__'\nI1\nstb.",  # state for the class itself
        b"cnumpy.core.multiarray\nscalar\n(I1\nI2\ntR.",
        pickle.dumps(sample())[:-30],
        pickle.dumps(sample())[: len(pickle.dumps(sample())) // 2],
    ],
)
def test_damaged_pickles_are_errors_and_leave_no_trace(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set\.pkl: it is not a whole pickle"):
        read_graphs(put(tmp_path, content))
    assert links(read_graphs(put(tmp_path, sample()))[0])[2] == (4, {(0, 1), (0, 2), (1, 2)})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([nx.DiGraph([(0, 1)])], "DiGraph"),
        ([nx.MultiGraph([(0, 1)])], "MultiGraph"),
        ([nx.subgraph_view(nx.path_graph(3))], "another rule than a set of nodes"),
        ([np.zeros((2, 2))], "ndarray|_reconstruct|_frombuffer"),
        ([np.datetime64("2020")], "numpy scalar of type 'M8'"),
        (nx.path_graph(2), "got a networkx.classes.graph.Graph"),
        ([1], "item 0 of the list must be a networkx.Graph, got a int"),
        ([nx.path_graph(2), [nx.path_graph(2)]], "item 1"),
        ({"train": nx.path_graph(2)}, "split 'train' must be a list"),
        ({"trian": [nx.path_graph(2)]}, "a dict with keys of type str"),
        ({"train": [], 1: [], (2,): []}, "a dict with keys of type int, str, tuple"),
        ({}, "an empty dict"),
        ("text", "got a str"),
    ],
)
def test_pickles_of_something_else_say_what_they_hold(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_graphs(put(tmp_path, value))


def test_a_graph_with_a_foreign_inside_is_an_error(tmp_path: Path) -> None:
    huge = {10**30: {}}
    for change in (
        {"_adj": {0: {7: {}}}},
        {"_adj": None},
        {"_node": 3},
        {"_adj": {}},
        {"_adj": [[0]]},
        {"_adj": []},
        {"_adj": "ab"},
        {"_node": huge, "_adj": [[]]},
        {"_node": huge},
        {"_adj": {0: 5}},
        {"_adj": {0: [[]]}},
    ):
        graph = nx.empty_graph(1)
        vars(graph).update(change)
        with pytest.raises(InputError, match="not laid out like"):
            read_graphs(put(tmp_path, [graph]))


def tuples(depth: int, pack: bytes = b"\x85") -> bytes:
    """A pickle of an empty tuple in ``depth`` others, as the key of a dict."""
    return b"\x80\x04}(" + b"(" * depth * (pack == b"t") + b")" + pack * depth + b"K\x01u."


@pytest.mark.parametrize("depth", [200, 5_000, 300_000])
@pytest.mark.parametrize(
    "pack",
    [
        b"\x85",
        b"t",
        b"\x94\x85",
        b"K\x01\x86",
        b"q\x000h\x00\x85",  # by way of the memo
        b"20\x85",  # a copy is put on the stack and taken off
        b"Nb\x85",  # a state of None leaves any object as it is
    ],
)
def test_tuples_too_deep_to_hash_are_refused_before_anything_is_made(pack: bytes, depth: int, tmp_path: Path) -> None:
    path = put(tmp_path, gzip.compress(tuples(depth, pack), 1), "set.pkl.gz")
    with pytest.raises(InputError, match="nested more than 100 deep"):
        read_graphs(path)


@given(st.integers(0, 300))
@settings(max_examples=30, deadline=None)
def test_the_depth_of_tuples_alone_decides(depth: int) -> None:
    value: Any = ()
    for _ in range(depth):
        value = (value, [])
    graph = nx.path_graph(2, create_using=nx.Graph(deep=[[[[{"a": 1}]]]] * 200))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        vars(graph)["graph"]["value"] = value
        content = pickle.dumps([graph, graph], protocol)
        if depth < 90:
            assert pickled_graphs(content) == ([(2, {(0, 1)})] * 2, None)
        elif depth > 100:
            with pytest.raises(InputError, match="nested more than 100 deep"):
                pickled_graphs(content)


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for end in (b"", b"."):
        try:
            pickled_graphs(content + end)
        except InputError:
            pass


@pytest.mark.parametrize("line", [b"B", b"Bww", b"B\x01", b"C~~", b":", b"&BP_", b"?\xff", b":~~~~~~~~", b"edges 0 1"])
def test_a_broken_line_is_told_by_its_number(line: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set\.g6: line 3 is no undirected simple graph"):
        read_graphs(put(tmp_path, b">>graph6<<Bw\n\n" + line + b"\nBw\n", "set.g6"))


def test_a_multigraph_line_is_refused(tmp_path: Path) -> None:
    line = nx.to_sparse6_bytes(nx.MultiGraph([(0, 1), (0, 1)]))
    with pytest.raises(InputError, match="repeats an edge"):
        read_graphs(put(tmp_path, line, "set.s6"))


def test_pt_files_of_something_else_are_refused_and_run_nothing(tmp_path: Path) -> None:
    torch.save([[torch.eye(2).roll(1, 0)[:1]]], tmp_path / "a.pt")
    torch.save([[torch.tensor([[0.0, 1.0], [0.0, 0.0]])]], tmp_path / "b.pt")
    torch.save({"a": 1}, tmp_path / "c.pt")
    torch.save([Hostile(tmp_path / "ran")], tmp_path / "d.pt")
    (tmp_path / "e.pt").write_text("text")
    with zipfile.ZipFile(tmp_path / "f.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"")
    for name, message in zip("abcdef", ["matrix 0", "matrix 0", "SPECTRE", *["torch can load"] * 3], strict=True):
        with pytest.raises(InputError, match=message):
            read_graphs(tmp_path / f"{name}.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.eye(3).to_sparse_csr(),
        lambda: torch.zeros(3, 3, device="meta"),
        lambda: torch.quantize_per_tensor(torch.zeros(3, 3), 1.0, 0, torch.qint8),
        lambda: torch.nested.nested_tensor([torch.zeros(2, 2)]),
        lambda: torch.zeros(1).expand(10**7, 10**7),
        lambda: torch.ones(3).expand(3, 3),
        lambda: torch.zeros(()),
        lambda: torch.full((2, 2), float("nan")),
        lambda: "text",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_that_are_no_dense_matrices_are_refused(make: Callable[[], Any], tmp_path: Path) -> None:
    torch.save([[torch.zeros(2, 2), make()]], tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a\.pt: (adjacency matrix 1 must be a dense symmetric|.*torch can load)"):
        read_graphs(tmp_path / "a.pt")


def test_matrices_may_share_one_storage(tmp_path: Path) -> None:
    torch.save([list((1 - torch.eye(3)).repeat(2, 1, 1))], tmp_path / "a.pt")
    assert links(read_graphs(tmp_path / "a.pt")[0]) == [(3, {(0, 1), (0, 2), (1, 2)})] * 2


@pytest.mark.parametrize("name", ["data.pkl", "DATA.PKL"])
def test_tuples_too_deep_to_hash_are_refused_in_pt_files(name: str) -> None:
    plain, hostile = io.BytesIO(), io.BytesIO()
    torch.save([1], plain)
    with zipfile.ZipFile(plain) as whole, zipfile.ZipFile(hostile, "w") as archive:
        for entry in whole.infolist():
            if entry.filename.endswith("data.pkl"):
                archive.writestr(entry.filename.replace("data.pkl", name), tuples(300_000))
            else:
                archive.writestr(entry.filename, whole.read(entry))
    with pytest.raises(InputError, match="nested more than 100 deep"):
        load_tensors(hostile.getvalue())


def test_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    put(tmp_path, b"no gzip", "a.g6.gz")
    put(tmp_path, b"\n", "empty.g6")
    for name, message in (("a.g6.gz", "cannot read"), ("absent.pkl", "cannot read"), ("a.csv", "are read from")):
        with pytest.raises(InputError, match=message):
            read_graphs(tmp_path / name)
    with pytest.raises(InputError, match="holds no graph"):
        build_graphs(tmp_path / "empty.g6")
    with pytest.raises(InputError, match="names no splits"):
        build_graphs(put(tmp_path, sample()), split="given")
    with pytest.raises(InputError, match="unknown split rule"):
        build_graphs(put(tmp_path, sample()), split="thirds")


# the rule by which GDSS splits such sets


@pytest.mark.parametrize("lines", [0, 1, 5, 587])
@pytest.mark.parametrize("fraction", ["0", "0.2", "0.5", "1"])
def test_head_tests_on_the_first_lines_and_trains_on_the_rest(lines: int, fraction: str) -> None:
    ids = split_ids(f"head:{fraction}", torch.arange(lines), lines)
    held_out = int(lines * float(fraction))
    assert ids.dtype == torch.uint8 and ids.tolist() == [2] * held_out + [0] * (lines - held_out)


def test_head_counts_lines_and_not_graphs() -> None:
    assert split_ids("head:0.5", torch.tensor([1, 4, 5], dtype=torch.int32), 10).tolist() == [2, 2, 0]


@pytest.mark.parametrize("rule", ["head", "head:", "head:x", "head:1.5", "head:-0.1", "head:nan"])
def test_head_without_a_fraction_is_refused(rule: str) -> None:
    with pytest.raises(InputError, match="split rule"):
        split_ids(rule, torch.arange(5), 5)


# known sets


def test_sets_of_graphs_have_manifests_without_columns_and_labels() -> None:
    assert set(SETS) == {name for name in list_datasets() if load_manifest(name).kind == "graphs"}
    for name in SETS:
        manifest = load_manifest(name)
        assert manifest.vocabulary.scheme == "generic" and [file.role for file in manifest.files] == ["graphs"]
    with pytest.raises(InputError, match="holds molecules, not graphs"):
        build_graphs("smallmol")


def test_a_manifest_of_graphs_of_ones_own_is_built_and_takes_no_columns(tmp_path: Path) -> None:
    put(tmp_path, {"train": sample(), "test": sample()})
    text = 'name = "m"\nkind = "graphs"\ntitle = "M"\nlicence = "none stated"\ncitation = "none"\nsplit = "given"\n'
    file = '[[files]]\nname = "graphs"\npath = "set.pkl"\nrole = "graphs"\nsha256 = "{}"\n'
    digest = hashlib.sha256((tmp_path / "set.pkl").read_bytes()).hexdigest()
    (tmp_path / "m.toml").write_text(text + file.format(digest))
    store, _ = build_graphs(tmp_path / "m.toml")
    assert store.split_id.tolist() == [0] * 4 + [2] * 4
    assert store.provenance["sources"] == [{"name": "m", "sha256": digest}]
    for bad, message in ((text + "header = true\n", "unknown keys"), (text.replace('"graphs"', '"sets"'), "kind")):
        (tmp_path / "m.toml").write_text(bad + file.format(digest))
        with pytest.raises(InputError, match=message):
            build_graphs(tmp_path / "m.toml")


@needs_data
@pytest.mark.data
@pytest.mark.parametrize("name", list(SETS))
def test_published_sets_build_with_their_splits(name: str) -> None:
    store, _ = build_graphs(name, progress=False)
    *sizes, most = SETS[name]
    assert [store.indices(split).numel() for split in ("train", "valid", "test")] == sizes
    assert int(store.node_counts().max()) == most == load_manifest(name).max_nodes


@needs_data
@pytest.mark.data
@pytest.mark.parametrize("file", ["community_small.pkl", "ego_small.pkl", "tree.pkl"])
def test_real_pickles_read_like_networkx_reads_them(file: str) -> None:
    path = Path(str(DATA)) / "graphs" / file
    value = pickle.loads(path.read_bytes())
    batch, _ = read_graphs(path)
    graphs = value if isinstance(value, list) else [g for part in value.values() for g in part]
    for theirs, ours in zip(graphs, links(batch), strict=True):
        number = {node: i for i, node in enumerate(theirs)}
        ends = {(min(number[u], number[v]), max(number[u], number[v])) for u, v in theirs.edges}
        assert ours == (len(theirs), ends)


@needs_data
@pytest.mark.data
def test_the_views_of_enzymes_read_as_587_graphs_of_their_own() -> None:
    store, _ = build_graphs("enzymes", progress=False)
    bonds = store.bond_ptr.diff()
    assert (len(store), int(store.node_counts().min()), int(bonds.min()), int(bonds.max())) == (587, 10, 16, 149)
    graphs = store.batch(store.indices()).to_networkx()
    assert sum(not nx.is_connected(graph) for graph in graphs) == 25


@needs_data
@pytest.mark.data
def test_the_list_of_spectre_reads() -> None:
    batch, splits = read_graphs(Path(str(DATA)) / "graphs" / "community_12_21_100.pt")
    assert batch.num_graphs == 100 and splits is None
    assert {int(batch.node_counts().min()), int(batch.node_counts().max())} == {12, 20}
