"""From a store to judged molecules, in Python."""

from __future__ import annotations

import pytest
import torch

import graphinv
from graphinv.data import GraphStore, Vocabulary
from graphinv.errors import CheckpointError, InputError
from graphinv.graphs import GraphBatch
from graphinv.models import GDSS, PARD, BlockSampler, GDSSConfig, GraphGenerator, PARDConfig, SamplerConfig
from graphinv.mol import MoleculeCodec, build_dataset, build_store
from graphinv.pipeline import MoleculeGenerator, TrainedGenerator, load, sample_graphs
from graphinv.training import TrainConfig, train

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
    with pytest.raises(InputError, match="graphinv.build_graphs"):
        build_dataset("community_small")
