"""What users meet at the edges of PARD: other types, other blocks, odd settings, damaged checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphinv.data import GraphStore
from graphinv.errors import CheckpointError, InputError
from graphinv.graphs import GraphBatch
from graphinv.models import PARD, BlockSampler, GraphGenerator, PARDConfig
from graphinv.models.pard import growing
from graphinv.models.pard import sampler as sampling
from graphinv.testing import random_graphs

TINY = PARDConfig(
    node_types=4, edge_types=3, max_nodes=6, node_dim=16, edge_dim=8, layers=1, heads=2, diffusion_steps=4
)


def graphs(count=12, seed=0):
    return random_graphs(count, max_nodes=6, seed=seed)


def model(batch=None, **changes):
    pard = PARD.seeded(replace(TINY, **changes), 0)
    batch = graphs() if batch is None else batch
    pard.prepare(GraphStore.from_graphs(batch, split_id=[0] * batch.num_graphs), progress=False)
    return pard.eval()


def test_the_likelihood_of_a_graph_depends_on_its_number_and_the_seed_only():
    pard, batch = model().double(), graphs()
    together = pard.log_likelihood(batch, samples=2, seed=3)
    first = pard.log_likelihood(batch.select([0, 1, 2]), samples=2, seed=3)
    assert torch.allclose(together.total[:3], first.total, atol=1e-4)
    other = pard.log_likelihood(batch.select([0, 1, 2]), samples=2, seed=4)
    assert not torch.allclose(other.blocks, first.blocks)


def test_the_likelihood_is_of_the_graph_whatever_blocks_it_carries():
    pard, batch = model(), graphs()
    carried = batch.with_columns(node={"block": torch.zeros_like(batch.x)})
    a, b = (pard.log_likelihood(g, samples=1).total for g in (batch, carried))
    assert torch.equal(a, b) and bool(a.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_types_may_be_of_any_integer_type(dtype):
    batch = graphs()
    narrow = replace(batch, x=batch.x.to(dtype), edge_attr=batch.edge_attr.to(dtype))
    pard = model()
    a, b = (pard.loss(g, torch.Generator().manual_seed(0)) for g in (batch, narrow))
    assert torch.equal(a, b)


def test_graphs_without_nodes_are_drawn_as_often_as_they_were_seen():
    half = GraphBatch.from_graphs([graphs(20), *[_nothing() for _ in range(20)]])
    pard = model(half)
    counts = pard.sample(400, seed=0).node_counts()
    assert abs(int((counts == 0).sum()) - 200) < 5 * 10
    assert bool(pard.log_likelihood(_nothing(), samples=1).sizes.isfinite().all())
    assert pard.loss(_nothing()).detach() == 0


def _nothing():
    none = torch.zeros(0, dtype=torch.long)
    return GraphBatch.single(none, none.reshape(2, 0), none)


def test_graphs_wait_where_what_is_kept_of_them_is_large(monkeypatch):
    pard, kept = model().double(), []
    largest = sampling._Drawing(pard, 0, pard.config.sampler)._bytes(pard.max_nodes)
    original, floats = sampling._Drawing.affordable, ("row", "column", "values", "left", "right")

    def affordable(self, graphs):
        parts = [getattr(context, name) for g in graphs for context in g.contexts for name in floats]
        kept.append(sum(part.numel() * part.element_size() for part in parts))
        assert kept[-1] == sum(self._bytes(g.nodes) for g in graphs)
        chosen = original(self, graphs)
        assert chosen or not graphs
        return chosen

    monkeypatch.setattr(sampling._Drawing, "affordable", affordable)
    expected = pard.sample(9, seed=1)
    free = [kept.pop() for _ in range(len(kept))]
    monkeypatch.setattr(sampling, "_POOL", 2 * largest)
    found = pard.sample(9, seed=1)
    assert max(kept) <= 4 * largest and len(kept) > len(free)
    assert torch.equal(found.x, expected.x) and torch.equal(found.edge_index, expected.edge_index)
    separate = sampling._Drawing(model(trunk="separate"), 0, pard.config.sampler)
    assert separate._bytes(pard.max_nodes) == largest  # two trunks, of half the bytes a number


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.dictionaries(
        st.tuples(st.integers(1, 20), st.integers(1, 9), st.integers(0, 30)), st.integers(1, 20), min_size=1, max_size=7
    ),
    most=st.integers(1, 25),
)
def test_batches_are_cut_where_calls_and_padding_cost_least(kinds, most):
    shapes = sorted(kinds)
    counts = [kinds[shape] for shape in shapes]

    def cost(runs):
        total = 0
        for start, end in runs:
            steps, size, nodes = (max(shape[i] for shape in shapes[start:end]) for i in (0, 1, 2))
            graphs = sum(counts[start:end])
            total += (1 + steps) * (-(-graphs // most) + graphs * size * (size + 2 * nodes) / 256)
        return total

    found = growing._cuts(shapes, counts, lambda size, nodes: size * (size + 2 * nodes) / 256, most)
    assert [k for run in found for k in range(*run)] == list(range(len(shapes)))
    inner = range(1, len(shapes))
    every = (cuts for n in range(len(shapes)) for cuts in combinations(inner, n))
    least = min(cost(pairwise([0, *cuts, len(shapes)])) for cuts in every)
    assert cost(found) == pytest.approx(least, rel=1e-12)


@pytest.mark.parametrize("temperature", [1e-40, 1e-3, 1.0, 1e6])
def test_any_temperature_gives_graphs(temperature):
    out = model().sample(6, seed=0, sampler=BlockSampler(steps=3, temperature=temperature))
    assert out.num_graphs == 6 and int(out.x.max()) < 4


@pytest.mark.parametrize("settings", [{"steps_per_element": torch.inf}, {"temperature": torch.inf}, {"steps": 0},
                                      {"temperature": 0.0}, {"steps_per_element": torch.nan}])  # fmt: skip
def test_settings_of_the_sampler_are_finite_and_positive(settings):
    with pytest.raises(InputError, match="expected steps >= 1"):
        BlockSampler(**settings)


@pytest.mark.parametrize("part", ["node_types", "edge_types"])
def test_a_denoiser_without_numbers_is_reported(part):
    pard = model()
    getattr(pard.net.denoiser, part).out.bias.data.fill_(torch.nan)
    with pytest.raises(InputError, match="NaN"):
        pard.sample(4)


@pytest.mark.parametrize("counts", [torch.tensor([2.7]), torch.tensor([-1]), torch.tensor([1, 2])])
def test_node_counts_are_one_integer_per_graph(counts):
    with pytest.raises(InputError, match="num_nodes must be"):
        model().sample(1, num_nodes=counts)
    assert model().sample(1, num_nodes=[3]).node_counts().tolist() == [3]


@pytest.mark.parametrize("norm", ["layer", "rms", "batch"])
def test_half_precision_trains(norm):
    pard = model(norm=norm).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = pard.loss(graphs(), torch.Generator().manual_seed(0))
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in pard.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": []},
        {"config": {"diffusion_steps": 2.5}},
        {"config": {"relative": "no"}},
        {"config": {"layers": True}},
        {"config": {"sampler": None}},
        {"config": {"sampler": {"steps": 2.5}}},
        {"config": {"recompute": "some"}},
    ],
    ids=str,
)
def test_a_damaged_description_of_a_model_is_named(change, tmp_path):
    model().save(tmp_path, metadata={})
    content = json.loads((tmp_path / "config.json").read_text())
    if "config" in change:
        content["config"] |= change["config"]
    else:
        content |= change
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        GraphGenerator.load(tmp_path)
