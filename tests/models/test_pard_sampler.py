"""What PARD draws: graphs of the right form, each its own whatever it was drawn with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graphinv.data import GraphStore
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.models.pard import PARD
from graphinv.models.pard.config import BlockSampler, PARDConfig
from graphinv.testing import random_graphs

SMALL = PARDConfig(
    node_types=4, edge_types=3, max_nodes=7, node_dim=16, edge_dim=8, layers=2, heads=2, diffusion_steps=4,
    sampler=BlockSampler(steps=3),
)  # fmt: skip


TOKENS = {"network": "tokens", "walks": 2}


def model(seed=0, stop=0.0, trained=True, dtype=torch.float64, **changes):
    """Return a model with random weights everywhere; ``stop`` is added to the logit of stopping."""
    pard = PARD.seeded(replace(SMALL, **changes), seed)
    generator = torch.Generator().manual_seed(seed)
    for p in pard.parameters():
        p.data += 0.3 * torch.randn(p.shape, generator=generator)
    pard.net.properties.size.out.bias.data[0] += stop
    if trained:
        pard.prepare(store(pard.max_nodes), progress=False)
    return pard.to(dtype).eval()


def store(most=7, count=60):
    batch = random_graphs(count, max_nodes=most, seed=5)
    return GraphStore.from_graphs(batch, split_id=torch.zeros(count, dtype=torch.uint8))


def assert_same(a, b):
    for name in ("x", "edge_index", "edge_attr", "ptr", "edge_ptr", "block"):
        assert torch.equal(getattr(a, name), getattr(b, name)), f"{name} differs"


def assert_well_formed(batch, most=7):
    dense = batch.to_dense()
    assert torch.equal(dense.adj, dense.adj.transpose(1, 2)) and not dense.adj.diagonal(dim1=1, dim2=2).any()
    assert batch.x.dtype == torch.int64 and bool(((batch.x >= 0) & (batch.x < 4)).all())
    assert bool(((batch.edge_attr >= 1) & (batch.edge_attr <= 3)).all())
    assert batch.num_graphs == 0 or int(batch.node_counts().max()) <= most
    for part in batch.block.split(batch.node_counts().tolist()):
        assert not part.numel() or part[0] == 0
        assert bool(((part.diff() == 0) | (part.diff() == 1)).all())


@pytest.mark.parametrize("prior", ["absorbing", "marginal", "uniform", "empty"])
@pytest.mark.parametrize("changes", [{}, {"trunk": "separate", "norm": "batch"}, TOKENS], ids=str)
def test_samples_are_simple_undirected_graphs_of_known_classes_in_consecutive_blocks(prior, changes):
    assert_well_formed(model(prior=prior, **changes).sample(25, seed=1))
    assert_well_formed(model(prior=prior, **changes, dtype=torch.float32).sample(5, steps=1))


@pytest.mark.parametrize("trained", [True, False])
def test_node_counts_are_kept_to_from_none_to_the_most(trained):
    counts = torch.tensor([0, 1, 7, 3, 0, 7, 2, 6, 5, 4])
    batch = model(trained=trained, stop=5.0).sample(10, seed=2, num_nodes=counts)
    assert torch.equal(batch.node_counts(), counts)
    assert_well_formed(batch)


def test_node_counts_come_before_sizes_that_training_never_showed():
    pard = model()
    pard.sizes.zero_()
    pard.first_sizes.zero_()
    pard.sizes[[0, 3]] = pard.first_sizes[3] = 1
    counts = torch.tensor([1, 2, 3, 4, 5, 6, 7])
    assert torch.equal(pard.sample(7, num_nodes=counts).node_counts(), counts)


def test_sizes_and_degrees_that_training_never_showed_are_not_drawn():
    pard, seen_degrees = model(stop=-1.0), []
    pard.sizes.zero_()
    pard.first_sizes.zero_()
    pard.degrees.zero_()
    pard.sizes[[0, 1, 3]], pard.first_sizes[[1, 3]], pard.degrees[[0, 2]] = 5, 5, 5
    original = pard.net.finish

    def finish(contexts, new):
        seen_degrees.append(new.degree)
        return original(contexts, new)

    pard.net.finish = finish
    batch = pard.sample(40, seed=4)
    sizes = torch.cat([p.bincount() for p in batch.block.split(batch.node_counts().tolist())])
    assert set(sizes.tolist()) == {1, 3}
    assert set(torch.cat(seen_degrees).tolist()) == {0, 2}


def test_the_stop_of_training_graphs_does_not_make_degree_nought_a_known_one():
    ring = torch.tensor([[0, 1, 2, 0, 1, 2], [1, 2, 0, 2, 0, 1]])
    triangle = GraphBatch.single(torch.zeros(3, dtype=torch.long), ring, torch.ones(6, dtype=torch.long))
    pard = PARD.seeded(replace(SMALL, node_types=1, edge_types=1), 0)
    pard.prepare(GraphStore.from_graphs(triangle, split_id=[0]), progress=False)
    assert pard.degrees.nonzero().flatten().tolist() == [2]


def test_a_graph_that_never_stops_ends_at_the_most_nodes_with_all_its_blocks():
    pard = model(stop=-1e4)
    batch = pard.sample(12, seed=3)
    assert batch.node_counts().tolist() == [7] * 12
    assert_well_formed(batch)
    pard.sizes.zero_()
    pard.first_sizes.zero_()
    pard.sizes[[0, 1]], pard.first_sizes[1] = 1, 1
    assert torch.equal(pard.sample(3, seed=3).block, torch.arange(7).repeat(3))


def test_a_graph_that_stops_at_once_has_one_block():
    batch = model(stop=1e4).sample(12, seed=3)
    assert not batch.block.any() and bool((batch.node_counts() > 0).all())


@pytest.mark.parametrize("changes", [{}, {"trunk": "separate"}, TOKENS, {**TOKENS, "prior": "empty"}], ids=str)
@pytest.mark.parametrize("counts", [None, torch.tensor([4, 0, 7, 1, 6, 5, 7, 2, 3, 7])], ids=["free", "given"])
def test_graph_k_is_the_same_in_any_batch_and_number_of_graphs(changes, counts):
    pard = model(**changes)
    expected = pard.sample(10, seed=6, num_nodes=counts, batch_size=100)
    for batch_size in (1, 3):
        assert_same(pard.sample(10, seed=6, num_nodes=counts, batch_size=batch_size), expected)
    for n in (1, 4):
        assert_same(pard.sample(n, seed=6, num_nodes=None if counts is None else counts[:n]), expected.select(range(n)))


def test_samples_repeat_with_their_seed_differ_between_seeds_and_leave_the_global_state_alone():
    pard, state = model(), torch.random.get_rng_state()
    first, again, other = pard.sample(10, seed=1), pard.sample(10, seed=1), pard.sample(10, seed=2)
    assert_same(first, again)
    assert first.x.tolist() != other.x.tolist()
    assert torch.equal(torch.random.get_rng_state(), state)
    graphs = [tuple(sorted(first.graph(k).x.tolist())) + (first.graph(k).num_edges,) for k in range(10)]
    assert len(set(graphs)) > 1


def test_sampling_changes_neither_weights_nor_mode():
    pard = model(norm="batch")
    before = {k: v.clone() for k, v in pard.state_dict().items()}
    pard.sample(5)
    assert not pard.training and all(torch.equal(v, before[k]) for k, v in pard.state_dict().items())


def test_a_model_in_training_mode_draws_by_its_running_statistics():
    pard = model(norm="batch").train()
    before = {k: v.clone() for k, v in pard.state_dict().items()}
    pard.sample(3)
    assert all(torch.equal(v, before[k]) for k, v in pard.state_dict().items())


@pytest.mark.parametrize("prior", ["absorbing", "uniform"])
def test_classes_follow_the_logits_of_the_network(prior):
    pard = model(prior=prior)
    for head, best in ((pard.net.denoiser.node_types, 2), (pard.net.denoiser.edge_types, 3)):
        head.out.weight.data.zero_()
        head.out.bias.data.zero_()
        head.out.bias.data[best] = 60.0
    batch = pard.sample(8, seed=1, num_nodes=torch.tensor([1, 2, 3, 4, 5, 6, 7, 7]))
    counts = batch.node_counts()
    assert bool((batch.x == 2).all()) and bool((batch.edge_attr == 3).all())
    assert batch.num_edges == int((counts * (counts - 1)).sum())


def test_no_graphs_and_models_of_one_node_and_of_one_block_can_be_drawn():
    assert model().sample(0).num_graphs == 0
    single = model(max_nodes=1).sample(4)
    assert single.node_counts().tolist() == [1] * 4 and single.num_edges == 0
    assert not model(max_hops=0, stop=20.0).sample(5).block.any()


def test_drawn_graphs_can_be_scored_and_trained_on_with_the_blocks_they_carry():
    pard = model()
    batch = pard.sample(6, seed=1)
    g = pard.pad(batch)
    assert torch.equal(g.block[g.mask], batch.block)
    assert bool(pard.loss(batch, torch.Generator().manual_seed(0)).isfinite())


def test_the_callback_hears_of_every_graph_once():
    heard = []
    model().sample(9, batch_size=2, callback=lambda done, n, _: heard.append((done, n)))
    assert heard[-1] == (9, 9) and heard == sorted(heard)


def test_steps_and_sampler_change_the_cost_only():
    pard, calls = model(prior="uniform"), []
    original = pard.net.denoise
    pard.net.denoise = lambda *a: (calls.append(float(a[2][0])), original(*a))[1]
    counts = torch.tensor([1])
    pard.sample(1, num_nodes=counts, steps=50)
    assert calls == [1.0, 0.5]  # two steps for the one unknown
    calls.clear()
    pard.sample(1, num_nodes=counts, sampler=BlockSampler(steps=4, steps_per_element=10))
    assert calls == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n": -1}, "n >= 0"),
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"seed": -1}, "seed"),
        ({"num_nodes": torch.tensor([1])}, "num_nodes must be"),
        ({"num_nodes": torch.tensor([1, -1])}, "num_nodes must be"),
        ({"num_nodes": torch.tensor([1, 8])}, "up to 8, this model makes up to 7"),
        ({"steps": 0}, "steps >= 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes, said):
    with pytest.raises(InputError, match=said):
        model().sample(**{"n": 2, **changes})


def test_an_untrained_model_and_damaged_weights_say_what_to_do():
    with pytest.raises(InputError, match="train it first"):
        model(trained=False).sample(2)
    assert model(trained=False).sample(2, num_nodes=torch.tensor([1, 2])).node_counts().tolist() == [1, 2]
    damaged = model()
    damaged.net.trunk.node_type.weight.data.fill_(torch.nan)
    with pytest.raises(InputError, match="NaN"):
        damaged.sample(2)
