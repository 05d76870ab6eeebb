"""The GDSS generator: its loss, its samples, and what neither may depend on."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from graphinv import testing
from graphinv.data import GraphStore
from graphinv.diffusion import S4, VESDE, GeneratorNoise, Langevin
from graphinv.errors import InputError
from graphinv.graphs import DenseGraphs, GraphBatch
from graphinv.models import GDSS, PARD, GDSSConfig, SamplerConfig

SMALL = GDSSConfig(node_types=3, max_nodes=5, node_hidden=8, edge_hidden=8, attention=8, edge_depth=2, mlp_layers=2)
CONFIGS = {
    "ve": SMALL,
    "vp": replace(SMALL, node_sde="vp", edge_sde="vp"),
    "subvp": replace(SMALL, node_sde="subvp", edge_sde="ve"),
    "gmh": replace(SMALL, node_network="gmh"),
    "degree": replace(SMALL, node_input="degree", node_sde="vp", edge_sde="vp", node_types=5),
}
PAPER = tuple(CONFIGS)
CONFIGS["ppgn vp"] = replace(SMALL, network="ppgn", node_hidden=16, node_sde="vp", prior="matched")
CONFIGS["ppgn"] = replace(SMALL, network="ppgn", node_hidden=16, edge_high=3.0, prior="matched")
DTYPES = (torch.float32, torch.float64)


def model(name="ve", dtype=torch.float64, seed=0):
    return GDSS.seeded(CONFIGS[name], seed).to(dtype).eval()


def graphs(count=8, seed=0):
    return testing.random_graphs(count, max_nodes=5, node_types=3, seed=seed)


def methane():
    empty = torch.zeros(0, dtype=torch.long)
    return GraphBatch.single(torch.tensor([1]), empty.reshape(2, 0), empty)


def assert_same_graphs(a, b):
    for name in ("x", "edge_index", "edge_attr", "ptr", "edge_ptr"):
        assert torch.equal(getattr(a, name), getattr(b, name)), f"{name} differs"


class ExactGDSS(GDSS):
    """Gives the score that points at known clean graphs."""

    def score(self, g, t):
        def update(sde, x, clean):
            mean, std = sde.marginal(clean, t)
            return ((mean - x) / std.square(),)

        return self.process.map(update, g, self.clean)[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_is_zero_for_the_score_of_the_noise_itself(name):
    exact = ExactGDSS(CONFIGS[name]).double()
    exact.clean = exact.to_fields(graphs())
    losses = exact.losses(graphs(), torch.Generator().manual_seed(0))
    assert all(float(v) < 1e-15 for v in losses.values()), losses


@pytest.mark.parametrize("name", PAPER)
def test_loss_is_half_the_sum_over_entries_and_both_triangles_averaged_over_graphs(name):
    net = model(name)
    g0 = net.to_fields(graphs(4))
    generator = torch.Generator().manual_seed(1)
    t = torch.rand(4, generator=generator, dtype=torch.float64)
    z = testing.random_dense(4, max_nodes=g0.mask.size(1), features=g0.x.size(-1), seed=2, dtype=torch.float64)
    z = DenseGraphs(z.x, z.adj, g0.mask).masked()
    losses = {k: v.detach() for k, v in net.losses_at(g0, t, z).items()}
    expected = {"node": 0.0, "edge": 0.0}
    for b in range(4):
        fields = []
        for sde, clean, noise in ((net.process.node, g0.x, z.x), (net.process.edge, g0.adj, z.adj)):
            scale, std = (float(v) for v in sde.marginal(torch.ones(1, dtype=torch.float64), t[b : b + 1]))
            fields.append((scale * clean[b : b + 1] + std * noise[b : b + 1], std, noise[b], sde))
        noisy = DenseGraphs(fields[0][0], fields[1][0], g0.mask[b : b + 1])
        for key, network, (_, std, noise, sde) in zip(("node", "edge"), net.networks().values(), fields, strict=True):
            raw = network(noisy)[0].detach()
            score = raw if isinstance(sde, VESDE) else -raw / std
            count = int(g0.mask[b].sum())
            block = (score * std + noise)[:count] if key == "node" else (score * std + noise)[:count, :count]
            expected[key] += 0.5 * float(block.square().sum()) / 4
    for key, value in expected.items():
        assert float(losses[key]) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PAPER)
def test_each_part_of_the_loss_moves_its_own_network_only_and_all_of_it(name, dtype):
    net = model(name, dtype)
    for part in ("node", "edge"):
        net.zero_grad(set_to_none=True)
        loss = net.losses(graphs(), torch.Generator().manual_seed(0))[part]
        assert loss.dtype == dtype and loss.shape == ()
        loss.backward()
        for key, network in net.networks().items():
            gradients = [p.grad for p in network.parameters()]
            assert all((g is not None and bool(g.isfinite().all())) is (key == part) for g in gradients)
    assert {id(p) for n in net.networks().values() for p in n.parameters()} == {id(p) for p in net.parameters()}


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_does_not_depend_on_padding_node_order_or_batch_mates(name):
    net, batch = model(name), graphs(6)
    g0, t = net.to_fields(batch), torch.linspace(0.1, 1, 6, dtype=torch.float64)
    z = testing.random_dense(6, max_nodes=g0.mask.size(1), features=g0.x.size(-1), dtype=torch.float64)
    z = DenseGraphs(z.x, z.adj, g0.mask).masked()
    whole = net.losses_at(g0, t, z)
    order = torch.randperm(g0.mask.size(1), generator=torch.Generator().manual_seed(0))
    moved = net.losses_at(testing.permute_dense(g0, order), t, testing.permute_dense(z, order))
    for key, value in whole.items():
        testing.assert_close(moved[key], value, f"{key} loss after renumbering")
    parts = []
    for k in range(6):
        size = int(g0.mask[k].sum())
        cut = [DenseGraphs(g.x[k : k + 1, :size], g.adj[k : k + 1, :size, :size], g.mask[k : k + 1, :size])
               for g in (g0, z)]  # fmt: skip
        parts.append(net.losses_at(cut[0], t[k : k + 1], cut[1]))
    for key, value in whole.items():
        testing.assert_close(torch.stack([p[key] for p in parts]).mean(), value, f"{key} loss graph by graph")


@pytest.mark.parametrize("name", ["ppgn", "ppgn vp"])
def test_loss_of_a_network_that_reads_the_time_is_its_distance_from_the_target(name):
    net = model(name)
    g0, t = net.to_fields(graphs(4)), torch.linspace(0.05, 1, 4, dtype=torch.float64)
    z = testing.random_dense(4, max_nodes=g0.mask.size(1), features=3, seed=2, dtype=torch.float64)
    z = DenseGraphs(z.x, z.adj, g0.mask).masked()
    fields, targets = [], []
    for sde, clean, noise in ((net.process.node, g0.x, z.x), (net.process.edge, g0.adj, z.adj)):
        scale, std = (v.reshape(4, 1, 1) for v in sde.marginal(torch.ones(4, 1, 1, dtype=torch.float64), t))
        sigma = std / scale  # arXiv:2206.00364, equations 7 and 8 and table 1, for data of deviation 1/2
        noisy = clean + sigma * noise
        root = (sigma.square() + 0.25).sqrt()
        fields.append(noisy / root)
        targets.append((clean - 0.25 / root.square() * noisy) / (0.5 * sigma / root))
    out = net.joint_net(DenseGraphs(*fields, g0.mask).masked(), t)
    missed = DenseGraphs(out.x - targets[0], out.adj - targets[1], g0.mask).masked()
    losses = net.losses_at(g0, t, z)
    for key, field in (("node", missed.x), ("edge", missed.adj)):
        testing.assert_close(losses[key], 0.5 * field.square().flatten(1).sum(1).mean(), f"{key} loss")


@pytest.mark.parametrize("name", ["ppgn", "ppgn vp"])
def test_a_matched_prior_has_the_moments_of_the_forward_process_at_its_end(name):
    store = GraphStore.from_graphs(graphs(400, seed=4), split_id=[0] * 400)
    net = model(name)
    net.prepare(store, progress=False)
    batch, source = graphs(400, seed=4), GeneratorNoise(torch.Generator().manual_seed(0))
    g0 = net.to_fields(batch)
    g0 = DenseGraphs(*(torch.cat([f] * 50) for f in (g0.x, g0.adj, g0.mask)))
    forward = net.process.corrupt(g0, torch.ones(len(g0.mask), dtype=torch.float64), source)
    drawn = net.prior(g0, source)
    assert torch.equal(drawn.adj, drawn.adj.transpose(1, 2)) and not drawn.adj.diagonal(dim1=1, dim2=2).any()
    assert not drawn.x[~g0.mask].any() and not drawn.adj[~g0.pair_mask].any()
    pairs = g0.pair_mask & ~torch.eye(g0.mask.size(1), dtype=torch.bool)
    for ours, theirs in [(drawn.x[g0.mask], forward.x[g0.mask]), (drawn.adj[pairs], forward.adj[pairs])]:
        ours, theirs = ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1)
        error = 5 * theirs.std(0) * math.sqrt(4 / len(theirs))  # each pair stands twice
        assert bool(((ours.mean(0) - theirs.mean(0)).abs() < error).all())
        assert bool(((ours.std(0) - theirs.std(0)).abs() < error).all())


def test_loss_repeats_with_its_generator_and_leaves_the_global_state_alone():
    net, state = model(), torch.random.get_rng_state()
    losses = [net.loss(graphs(), torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_loss_of_the_zero_score_is_half_the_number_of_entries():
    net = model("vp")
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    batch = GraphBatch.from_graphs([graphs(1, seed=5)] * 4000)
    n = int(batch.node_counts()[0])
    losses = {k: float(v.detach()) for k, v in net.losses(batch, torch.Generator().manual_seed(0)).items()}
    for key, free, weight in (("node", 3 * n, 1), ("edge", n * (n - 1) / 2, 2)):
        spread = 0.5 * weight * math.sqrt(2 * free / 4000)
        assert abs(losses[key] - 0.5 * weight * free) < 5 * spread


def test_fields_hold_types_as_unit_vectors_and_isolated_nodes():
    batch = GraphBatch.from_graphs([methane(), graphs(1, seed=1)])
    g = model().to_fields(batch)
    assert g.mask[0].tolist() == [True] + [False] * (g.mask.size(1) - 1)
    assert g.x[0, 0].tolist() == [0, 1, 0] and not g.x[0, 1:].any()
    assert torch.equal(g.mask.sum(1), batch.node_counts())
    assert g.x.dtype == g.adj.dtype == torch.float64
    degree = model("degree").to_fields(batch)
    counted = (batch.to_dense().adj != 0).sum(-1)
    assert torch.equal(degree.x.argmax(-1)[degree.mask], counted[degree.mask])


def test_fields_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="vocabular"):
        model().to_fields(testing.random_graphs(30, max_nodes=5, node_types=4))
    with pytest.raises(InputError, match="6 nodes.*built for 5"):
        model().to_fields(testing.random_graphs(1, max_nodes=6, min_nodes=6, node_types=3))
    features = graphs(2)
    features = GraphBatch(torch.zeros(features.num_nodes, 3), *(getattr(features, f) for f in
                          ("edge_index", "edge_attr", "ptr", "edge_ptr")))  # fmt: skip
    with pytest.raises(InputError):
        model().to_fields(features)


SAMPLERS = [SamplerConfig(steps=6), SamplerConfig("reverse", 4), SamplerConfig("euler", 4, snr=0.0, denoise=False)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.solver)
@pytest.mark.parametrize("name", CONFIGS)
def test_graph_k_depends_on_seed_and_k_only(name, sampler):
    net = model(name)
    net.fit_node_counts(torch.tensor([0, 1, 2, 3, 2, 1]))
    whole = net.sample(12, seed=7, sampler=sampler)
    for n, batch_size in ((12, 1), (12, 5), (4, 2), (1, 1024)):
        part = net.sample(n, seed=7, sampler=sampler, batch_size=batch_size)
        assert_same_graphs(part, whole.select(range(n)))
    other = net.sample(12, seed=8, sampler=sampler)
    assert not torch.equal(other.x, whole.x) or not torch.equal(other.edge_index, whole.edge_index)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_node_counts_are_honoured_exactly_in_order(name, dtype):
    counts = torch.tensor([5, 1, 3, 1, 0, 2, 7])
    out = model(name, dtype).sample(7, num_nodes=counts, steps=3, batch_size=3)
    assert torch.equal(out.node_counts(), counts)
    kinds = 1 if name == "degree" else 3
    assert out.num_edges == 0 or (int(out.edge_attr.min()) >= 1 and int(out.edge_attr.max()) <= kinds)
    dense = out.to_dense()
    assert torch.equal(dense.adj, dense.adj.transpose(1, 2)) and not dense.adj.diagonal(dim1=1, dim2=2).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_single_atoms_are_sampled_and_survive(name):
    for count in (1, 3):
        out = model(name).sample(count, num_nodes=torch.ones(count, dtype=torch.long), steps=3)
        assert out.node_counts().tolist() == [1] * count and out.num_edges == 0


def test_no_graphs_are_no_graphs():
    out = model().sample(0, num_nodes=torch.zeros(0, dtype=torch.long), steps=3)
    assert (out.num_graphs, out.num_nodes, out.num_edges) == (0, 0, 0)


def test_sampling_leaves_weights_and_global_state_alone():
    net, state = model(), torch.random.get_rng_state()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.sample(2, num_nodes=torch.tensor([2, 3]), steps=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(("sampler", "calls"), [
    (SamplerConfig("s4", 5), 5), (SamplerConfig("reverse", 5), 9), (SamplerConfig("reverse", 5, denoise=False), 10),
    (SamplerConfig("euler", 5, snr=0.0), 5), (SamplerConfig("s4", 5, snr=0.0, denoise=False), 5),
    (SamplerConfig("exponential", 5, early=2.0), 5), (SamplerConfig("flow", 5), 5), (SamplerConfig("heun", 5), 9),
])  # fmt: skip
def test_network_calls_and_callbacks_per_batch(sampler, calls):
    net, seen, ticks = model(), {"node": 0, "edge": 0}, []

    def count(key):
        def hook(*_):
            seen[key] += 1

        return hook

    for key, network in net.networks().items():
        network.register_forward_hook(count(key))
    counts = torch.tensor([2, 3, 4])
    net.sample(3, num_nodes=counts, sampler=sampler, batch_size=2, callback=lambda k, n, g: ticks.append((k, n)))
    assert seen == {"node": 2 * calls, "edge": 2 * calls}
    assert ticks == [(k, 10) for k in range(1, 11)]


def test_a_solver_object_overrides_the_sampler():
    net, counts = model(), torch.tensor([3, 4])
    own = net.sample(2, num_nodes=counts, steps=5, solver=S4(Langevin(snr=0.3)))
    assert_same_graphs(own, net.sample(2, num_nodes=counts, sampler=SamplerConfig(steps=5, snr=0.3)))


@pytest.mark.parametrize("change", [
    {"n": -1}, {"batch_size": 0}, {"num_nodes": torch.tensor([1])}, {"num_nodes": torch.tensor([1, -2, 3])},
    {"steps": 0}, {"num_nodes": None}, {"seed": 2**31}, {"seed": -1},
])  # fmt: skip
def test_impossible_requests_are_refused(change):
    settings = {"n": 3, "num_nodes": torch.tensor([1, 2, 3]), "steps": 2, **change}
    with pytest.raises(InputError):
        model().sample(settings.pop("n"), **settings)


def test_float32_and_float64_samples_start_alike():
    counts = torch.full((64,), 5)
    narrow, wide = (model("vp", dtype).sample(64, num_nodes=counts, steps=4) for dtype in DTYPES)
    assert float((narrow.x == wide.x).double().mean()) > 0.98


@pytest.mark.parametrize("name", GDSS.presets)
def test_presets_make_models_whose_loss_and_samples_work(name):
    net = GDSS.preset(name)
    batch = testing.random_graphs(2, max_nodes=5, node_types=min(4, net.config.node_types))
    assert bool(net.loss(batch, torch.Generator().manual_seed(0)).isfinite())
    assert net.sample(2, num_nodes=torch.tensor([3, 4]), steps=2).num_graphs == 2


def test_presets_repeat_with_their_seed_and_take_changes():
    same = [GDSS.preset("qm9", seed=s).state_dict() for s in (1, 1, 2)]
    assert all(torch.equal(same[0][k], same[1][k]) for k in same[0])
    assert any(not torch.equal(same[0][k], same[2][k]) for k in same[0])
    assert GDSS.preset("qm9", max_nodes=7).max_nodes == 7
    with pytest.raises(InputError, match="available"):
        GDSS.preset("qm10")


@pytest.mark.parametrize("change", [{"node_sde": "vq"}, {"node_low": 2.0}, {"edge_low": 0.0}])
def test_impossible_configurations_are_refused(change):
    with pytest.raises(InputError):
        GDSS(replace(SMALL, **change))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"heads": 3}, "heads = 3 must divide attention"),
        ({"edge_hidden": 18}, "edge_hidden"),
        ({"node_network": "gmh", "node_hidden": 6}, "node_hidden"),
        ({"max_nodes": 0}, "max_nodes must be at least 1"),
        ({"node_sde": "vpp"}, "one of vp, ve, subvp"),
        ({"sampler": {"steps": 0}}, "steps >= 1"),
        ({"sampler": {"snr": float("nan")}}, "snr >= 0"),
        ({"sampler": {"norm": "none"}}, "one of graph, batch"),
        ({"sampler": {"early": 0.0}}, "early > 0"),
        ({"network": "ppgn", "node_hidden": 18}, "heads = 4 must divide node_hidden"),
        ({"network": "time"}, "one of gdss, ppgn"),
        ({"prior": "normal"}, "one of standard, matched"),
    ],
)
def test_settings_that_cannot_work_are_told_when_they_are_made(changes, told):
    with pytest.raises(InputError, match=told):
        GDSSConfig(**changes)


def test_a_batch_made_ready_by_another_kind_of_model_is_refused():
    models = GDSS.preset("qm9", node_types=4), PARD.preset("qm9", node_types=4, max_nodes=9)
    batch = testing.random_graphs(3, max_nodes=5, node_types=4)
    for one, other in (models, models[::-1]):
        with pytest.raises(InputError, match=f"a {one.kind} model computes on"):
            one.losses(other.pad(batch))
