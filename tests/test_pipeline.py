"""From a store to judged molecules, in Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import graphinv
from graphinv.data import GraphStore, Vocabulary, build_graphs, community_graphs, write_graphs
from graphinv.errors import CheckpointError, InputError
from graphinv.graphs import GraphBatch
from graphinv.models import GDSS, PARD, BlockSampler, GDSSConfig, GraphGenerator, PARDConfig, SamplerConfig
from graphinv.mol import MoleculeCodec, build_dataset, build_store
from graphinv.pipeline import MoleculeGenerator, TrainedGenerator, load, load_generator, sample_graphs
from graphinv.training import TrainConfig, train

SPLIT = "random:0.8/0.1/0.1:0"
SMILES = ["C", "CC", "CO", "CCO", "C#N", "CC=O", "C1CC1", "CCN", "COC", "CC#C", "NC=O", "OCCO"]


@pytest.fixture(scope="module")
def store() -> GraphStore:
    return build_store(SMILES * 8, workers=1, split="random:0.8/0.1/0.1:0", progress=False)[0]


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    model = GDSS.preset("smallmol", node_types=3, max_nodes=4, sampler=SamplerConfig(steps=8))
    return train(model, store, folder, TrainConfig(max_epochs=2, batch_size=32), progress=False)


def test_a_run_directory_loads_and_samples_as_many_lines_as_asked(run):
    model = MoleculeGenerator.load(run)
    samples = model.sample(7, seed=3, progress=False)
    assert len(samples.smiles) == samples.graphs.num_graphs == 7
    assert samples.evaluations == 2 * 8  # both networks, one call per step
    assert model.metadata["progress"]["epoch"] in (1, 2)


def test_molecule_k_depends_on_neither_n_nor_the_batch_size(run):
    model = MoleculeGenerator.load(run)
    model.generator.double()
    many = model.sample(9, seed=5, progress=False).smiles
    assert model.sample(4, seed=5, progress=False).smiles == many[:4]
    assert model.sample(9, seed=5, batch_size=2, progress=False).smiles == many
    assert model.sample(9, seed=6, progress=False).smiles != many


def test_best_comes_before_last_and_a_checkpoint_directory_loads_too(run):
    best = MoleculeGenerator.load(run / "best").metadata["progress"]
    assert MoleculeGenerator.load(run).metadata["progress"] == best
    assert MoleculeGenerator.load(run / "last", weights="raw").metadata["progress"]["epoch"] == 2


def test_repair_is_never_silent_and_gives_molecules(run):
    model = MoleculeGenerator.load(run)
    raw = model.sample(40, seed=1, progress=False)
    fixed = model.sample(40, seed=1, repair="valence", progress=False)
    assert raw.repaired == 0
    assert fixed.repaired == sum(a != b for a, b in zip(raw.smiles, fixed.smiles, strict=True))
    assert torch.equal(raw.graphs.x, fixed.graphs.x)
    report = graphinv.evaluate(fixed.smiles, progress=False)
    assert report["valid_strict"]["count"] == sum(bool(s) for s in fixed.smiles)


def test_charges_are_added_only_on_request():
    codec = MoleculeCodec(Vocabulary(("C", "N"), ("single", "double", "triple"), "element"))
    ammonium = codec.encode(["CN", "CN"])
    star = GraphBatch.single(
        torch.tensor([1, 0, 0, 0, 0]),
        torch.tensor([[0, 1, 0, 2, 0, 3, 0, 4], [1, 0, 2, 0, 3, 0, 4, 0]]),
        torch.ones(8, dtype=torch.long),
    )
    graphs = GraphBatch.from_graphs([ammonium, star])
    pipeline = MoleculeGenerator(GDSS(GDSSConfig(node_types=2)), codec)
    assert pipeline._decode(graphs, "none")[0][2] == codec.decode(graphs)[2]
    assert pipeline._decode(graphs, "charges") == (["CN", "CN", "C[N+](C)(C)C"], 1)


def test_a_checkpoint_without_a_vocabulary_is_no_molecule_generator(tmp_path):
    GDSS(GDSSConfig()).save(tmp_path, metadata={})
    GraphGenerator.load(tmp_path)
    with pytest.raises(CheckpointError, match="vocabulary"):
        MoleculeGenerator.load(tmp_path)


@pytest.fixture(scope="module")
def pard(store, tmp_path_factory):
    sizes = {"node_types": 3, "max_nodes": 4, "node_dim": 16, "edge_dim": 8, "layers": 1, "heads": 2}
    model = PARD.seeded(PARDConfig(**sizes, sampler=BlockSampler(6)), seed=0)
    settings = TrainConfig(max_epochs=1, batch_size=32)
    return train(model, store, tmp_path_factory.mktemp("runs") / "pard", settings, progress=False)


def test_pard_samples_through_the_same_door(pard):
    model = MoleculeGenerator.load(pard)
    samples = model.sample(10, seed=3, progress=False)
    assert len(samples.smiles) == samples.graphs.num_graphs == 10
    assert samples.path_consistent == model.generator.path_consistency(samples.graphs).double().mean()
    sized = model.sample(3, num_nodes=[1, 3, 4], progress=False, sampler=BlockSampler(2, 0.5))
    assert sized.graphs.node_counts().tolist() == [1, 3, 4]


@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_calls_per_graph_are_steps_and_finished_blocks_whatever_the_batch(trunk):
    sizes = {"max_nodes": 6, "node_dim": 16, "edge_dim": 8, "layers": 1, "heads": 2}
    model = PARD.seeded(PARDConfig(**sizes, trunk=trunk), seed=1)
    sampler = BlockSampler(3, steps_per_element=100)
    for size in (1, 4, 100):
        drawn = sample_graphs(model, 5, num_nodes=[1, 2, 6, 6, 4], batch_size=size, sampler=sampler, progress=False)
        block = drawn.graphs.block
        assert block is not None
        blocks = sum(
            int(block[a:b].max()) + 1 for a, b in zip(drawn.graphs.ptr[:-1], drawn.graphs.ptr[1:], strict=True)
        )
        assert drawn.evaluations == blocks * (3 + (1 if trunk == "shared" else 2)) / 5


def test_calls_per_graph_of_gdss_do_not_depend_on_the_batch(run):
    generator = load(run).generator
    for size in (None, 2, 5):
        drawn = sample_graphs(generator, 7, batch_size=size, progress=False)
        assert drawn.evaluations == 2 * 8 and drawn.path_consistent is None


def test_no_samples_are_no_error(pard, run):
    for folder in (pard, run):
        samples = MoleculeGenerator.load(folder).sample(0, progress=False)
        assert samples.smiles == [] and samples.evaluations == 0 and samples.path_consistent is None


def test_a_model_of_plain_graphs_is_no_molecule_generator_but_draws_graphs(tmp_path):
    model = PARD(PARDConfig(node_types=1, edge_types=1, node_dim=16, edge_dim=8, layers=1, heads=2))
    model.save(tmp_path, metadata={"vocabulary": Vocabulary(("0",), ("1",), "generic").to_json()})
    with pytest.raises(CheckpointError, match=r"graphinv\.load"):
        MoleculeGenerator.load(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded) is TrainedGenerator and loaded.vocabulary.scheme == "generic"
    assert loaded.sample(2, num_nodes=[0, 5], steps=2, progress=False).graphs.node_counts().tolist() == [0, 5]


def test_a_set_of_plain_graphs_is_not_built_as_molecules():
    with pytest.raises(InputError, match="graphinv.build or"):
        build_dataset("community_small")


def same_store(a, b):
    """Whether two stores hold the same graphs in the same splits, wherever they came from."""
    columns = ("node_type", "bond", "bond_type", "node_ptr", "bond_ptr", "split_id")
    return a.vocabulary == b.vocabulary and all(torch.equal(getattr(a, c), getattr(b, c)) for c in columns)


def test_one_build_takes_lines_files_and_names_of_molecules(tmp_path):
    quiet = {"workers": 1, "progress": False}
    expected, rejects = build_store([*SMILES, "C1"], split=SPLIT, **quiet)
    (tmp_path / "a.smi").write_text("\n".join([*SMILES, "C1"]))
    (tmp_path / "b.csv").write_text("id,smiles\n" + "".join(f"1,{text}\n" for text in [*SMILES, "C1"]))
    (tmp_path / "c.smi").write_text("\n".join(SMILES[:5]))
    (tmp_path / "d.smi").write_text("\n".join([*SMILES[5:], "C1"]))
    halves = [tmp_path / "c.smi", tmp_path / "d.smi"]
    for source in ([*SMILES, "C1"], iter([*SMILES, "C1"]), tmp_path / "a.smi", str(tmp_path / "b.csv"), halves):
        store, told = graphinv.build(source, **quiet)
        assert same_store(store, expected) and told.counts == rejects.counts == {"unparsable": 1}
    small, told = graphinv.build("smallmol", max_nodes=2, **quiet)
    assert same_store(small, build_dataset("smallmol", max_nodes=2, **quiet)[0]) and told.kept == len(small)
    chosen, _ = graphinv.build(SMILES, vocabulary=["O", "C"], scheme="element+charge", hydrogens=True, **quiet)
    assert chosen.vocabulary.nodes == ("H", "O", "C") and chosen.vocabulary.scheme == "element+charge"


def test_one_build_takes_graphs_of_every_kind(tmp_path):
    networkx = pytest.importorskip("networkx")
    batch = community_graphs(6)
    expected = GraphStore.from_graphs(batch)
    write_graphs(tmp_path / "a.g6", batch)
    sources = [batch, [batch.graph(k) for k in range(6)], batch.to_networkx(), batch.to_pyg(), tmp_path / "a.g6"]
    sources.append(batch.to_pyg().to_data_list())
    for source in sources:
        store, told = graphinv.build(source, split="none", progress=False)
        assert same_store(store, expected) and str(told).startswith("6 graphs")
    town = networkx.Graph([("a", "b", {"label": "road"})])
    networkx.set_node_attributes(town, {"a": "town", "b": "city"}, "label")
    labelled, _ = graphinv.build([town], split="none")
    assert labelled.vocabulary.nodes == ("city", "town") and labelled.vocabulary.edges == ("road",)
    single, _ = graphinv.build(networkx.path_graph(4), split="none", max_hops=1)
    assert single.node_counts().tolist() == [4] and single.block_rule == "hops:1"
    assert graphinv.build(batch)[0].provenance["split"] == SPLIT


@pytest.mark.parametrize(("source", "settings", "told"), [
    ([], {}, "empty"), (3, {}, "got int"), ([3], {}, "of one kind, got int"), ("nosuch.smi", {}, "nosuch.smi"),
    ("nosuch", {}, "nosuch"), (community_graphs(2), {"max_nodes": 3}, r"max_nodes \(--max-atoms\)"),
    ("planar", {"hydrogens": True, "scheme": "element"}, r"scheme \(--atoms\), hydrogens"),
    (["C"], {"columns": ["logp"]}, "no columns logp"),
    (community_graphs(2), {"vocabulary": ["C"]}, "Vocabulary, got list"),
    ([Path("a.g6"), Path("b.g6")], {}, "one file"), ("a.graphs", {}, "GraphStore.open"), (["C1"], {}, "no molecule"),
])  # fmt: skip
def test_what_cannot_be_built_is_told_in_a_line(source, settings, told):
    with pytest.raises(InputError, match=told):
        graphinv.build(source, **settings, **({} if isinstance(source, GraphBatch) else {"workers": 1}))


def test_one_load_returns_molecules_or_graphs_behind_one_method(run, tmp_path):
    molecules = graphinv.load(run)
    assert isinstance(molecules, MoleculeGenerator) and molecules.vocabulary == molecules.codec.vocabulary
    assert (
        molecules.sample(5, seed=2, progress=False).smiles
        == MoleculeGenerator.load(run).sample(5, seed=2, progress=False).smiles
    )
    GDSS(GDSSConfig(node_input="degree", sampler=SamplerConfig(steps=2))).save(
        tmp_path / "plain", metadata={"vocabulary": Vocabulary(("0",), ("1",), "generic").to_json()}
    )
    plain = graphinv.load(tmp_path / "plain")
    for model in (molecules, plain):
        drawn = model.sample(3, seed=1, num_nodes=[1, 3, 4], progress=False)
        assert drawn.graphs.node_counts().tolist() == [1, 3, 4] and drawn.seconds > 0
    with pytest.raises(CheckpointError, match="vocabulary"):
        GDSS(GDSSConfig()).save(tmp_path / "bare")
        graphinv.load(tmp_path / "bare")
    with pytest.raises(InputError, match="device"):
        graphinv.load(run, device="meta:x")


def test_old_names_warn_once_each_and_do_what_they_did(run):
    for name, arguments in (("build_dataset", ("smallmol",)), ("build_store", (SMILES,))):
        with pytest.warns(DeprecationWarning, match=rf"graphinv\.{name} is now graphinv\.build") as caught:
            old = getattr(graphinv, name)
        assert len(caught) == 1 and caught[0].filename == __file__
        assert same_store(old(*arguments, workers=1, progress=False)[0], graphinv.build(*arguments, workers=1)[0])
    with pytest.warns(DeprecationWarning, match=r"build_graphs is now graphinv\.build"):
        assert graphinv.build_graphs is build_graphs
    with pytest.warns(DeprecationWarning, match=r"load_generator is now graphinv\.load") as caught:
        generator, vocabulary, metadata = load_generator(run)
    assert caught[0].filename == __file__
    model = graphinv.load(run)
    assert (type(generator), vocabulary, metadata) == (type(model.generator), model.vocabulary, model.metadata)
    with pytest.warns(DeprecationWarning, match="num_atoms is now num_nodes") as caught:
        drawn = model.sample(2, num_atoms=[1, 3], progress=False)
    assert drawn.graphs.node_counts().tolist() == [1, 3] and caught[0].filename == __file__
