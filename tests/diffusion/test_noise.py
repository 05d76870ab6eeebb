"""The counter-based noise: standard normal, independent in every direction, the same whatever surrounds a graph.

Every bound is z = 5 standard errors of the statistic for independent normals, for fixed keys.
"""

from __future__ import annotations

import math

import pytest
import torch

from graphinv import testing
from graphinv.diffusion import VESDE, VPSDE, GeneratorNoise, GraphProcess, PerGraphNoise

Z = 5.0
SEEDED = torch.arange(400) + (12345 << 32)


def draws(keys, count, entries):
    noise = PerGraphNoise(keys)
    like = torch.zeros(len(keys), entries, dtype=torch.float64)
    return torch.stack([noise.child(k).normal(like) for k in range(count)])  # [draw, graph, entry]


def assert_uncorrelated(a, b):
    a, b = a.flatten(), b.flatten()
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) * math.sqrt(a.numel()) < Z
    squares = torch.corrcoef(torch.stack([a.square(), b.square()]))[0, 1]
    assert abs(float(squares)) * math.sqrt(a.numel()) < Z


@pytest.mark.parametrize(
    "keys", [SEEDED, torch.arange(400), -torch.arange(400) * 2**40], ids=["seeded", "small", "far"]
)
def test_draws_are_standard_normal(keys):
    z = draws(keys, 25, 40).flatten()
    n = z.numel()
    assert bool(z.isfinite().all())
    assert abs(float(z.mean())) * math.sqrt(n) < Z
    assert abs(float(z.var()) - 1) / math.sqrt(2 / n) < Z
    assert abs(float(z.pow(3).mean())) / math.sqrt(15 / n) < Z
    assert abs(float(z.pow(4).mean()) - 3) / math.sqrt(96 / n) < Z
    expected = torch.special.ndtr(torch.linspace(-4, 4, 33, dtype=torch.float64))
    reached = torch.tensor([float((z <= c).double().mean()) for c in torch.linspace(-4, 4, 33)], dtype=torch.float64)
    error = (reached - expected).abs() / (expected * (1 - expected) / n).sqrt()
    assert float(error.max()) < Z


@pytest.mark.parametrize("lag", [1, 2, 3, 16])
def test_draws_graphs_and_entries_are_uncorrelated(lag):
    z = draws(SEEDED, 20, 40)
    assert_uncorrelated(z[lag:], z[:-lag])
    assert_uncorrelated(z[:, lag:], z[:, :-lag])
    assert_uncorrelated(z[:, :, lag:], z[:, :, :-lag])
    assert_uncorrelated(z[lag:, lag:], z[:-lag, :-lag])
    assert_uncorrelated(z[lag:, :, lag:], z[:-lag, :, :-lag])
    assert_uncorrelated(z[:-lag, lag:], z[lag:, :-lag])


def test_no_value_repeats_between_draws_graphs_entries_and_seeds():
    z = torch.cat([draws(SEEDED, 20, 40).flatten(), draws(SEEDED + (1 << 32), 20, 40).flatten()])
    assert z.unique().numel() == z.numel()


def test_pairs_are_standard_normal_one_draw_each_and_independent_of_nodes():
    size, noise = 12, PerGraphNoise(SEEDED)
    like = torch.zeros(len(SEEDED), size, size, dtype=torch.float64)
    first, second = noise.symmetric(like), noise.child(1).symmetric(like)
    assert torch.equal(first, first.transpose(1, 2)) and not first.diagonal(dim1=1, dim2=2).any()
    row, col = torch.triu_indices(size, size, 1)
    pairs = first[:, row, col]
    assert pairs.unique().numel() == pairs.numel()
    n = pairs.numel()
    assert abs(float(pairs.mean())) * math.sqrt(n) < Z
    assert abs(float(pairs.var()) - 1) / math.sqrt(2 / n) < Z
    assert_uncorrelated(pairs, second[:, row, col])
    nodes = PerGraphNoise(SEEDED).normal(torch.zeros(len(SEEDED), len(row), dtype=torch.float64))
    assert_uncorrelated(noise.child(0).symmetric(like)[:, row, col], nodes)


FIELDS = GraphProcess(VPSDE(), VESDE())


def field_noise(g):
    return FIELDS.noise(g, PerGraphNoise(torch.arange(g.mask.size(0))))


def test_a_graphs_noise_is_its_own_in_any_batch_order_and_padding():
    keys = torch.tensor([3, 99, 2**40])
    for size in (1, 4, 9):
        like_x, like_a = torch.zeros(3, size, 5, dtype=torch.float64), torch.zeros(3, size, size, dtype=torch.float64)
        together = PerGraphNoise(keys)
        x, a = together.normal(like_x), together.symmetric(like_a)
        for k in range(3):
            alone = PerGraphNoise(keys[k : k + 1])
            assert torch.equal(alone.normal(torch.zeros(1, 12, 5, dtype=torch.float64))[0, :size], x[k])
            wide = alone.symmetric(torch.zeros(1, 12, 12, dtype=torch.float64))[0]
            assert torch.equal(wide[:size, :size], a[k])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_noise_of_a_narrow_dtype_is_the_rounded_wide_one(dtype):
    like = torch.zeros(3, 4, 2, dtype=torch.float64)
    wide, narrow = PerGraphNoise(torch.arange(3)), PerGraphNoise(torch.arange(3))
    assert torch.equal(narrow.normal(like.to(dtype)), wide.normal(like).to(dtype))
    square = torch.zeros(3, 4, 4, dtype=torch.float64)
    assert torch.equal(narrow.symmetric(square.to(dtype)), wide.symmetric(square).to(dtype))


def test_noise_repeats_with_its_key_or_generator_and_leaves_the_global_state_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    g = testing.random_dense(4)
    assert torch.equal(field_noise(g).adj, field_noise(g).adj)
    same = [FIELDS.noise(g, GeneratorNoise(torch.Generator().manual_seed(5))) for _ in range(2)]
    assert torch.equal(same[0].x, same[1].x) and torch.equal(same[0].adj, same[1].adj)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_generator_noise_on_edges_is_one_standard_normal_per_pair():
    like = torch.zeros(500, 8, 8, dtype=torch.float64)
    z = GeneratorNoise(torch.Generator().manual_seed(0)).symmetric(like)
    assert torch.equal(z, z.transpose(1, 2)) and not z.diagonal(dim1=1, dim2=2).any()
    row, col = torch.triu_indices(8, 8, 1)
    pairs = z[:, row, col]
    n = pairs.numel()
    assert pairs.unique().numel() == n
    assert abs(float(pairs.mean())) * math.sqrt(n) < Z and abs(float(pairs.var()) - 1) / math.sqrt(2 / n) < Z


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (2, 1)])
def test_empty_fields_get_empty_noise(shape):
    batch, size = shape
    for noise in (PerGraphNoise(torch.arange(batch)), GeneratorNoise(torch.Generator().manual_seed(0))):
        assert noise.normal(torch.zeros(batch, size, 2)).shape == (batch, size, 2)
        assert noise.symmetric(torch.zeros(batch, size, size)).shape == (batch, size, size)


def entries_of(batch, size):
    return torch.arange(size).expand(batch, -1)


@pytest.mark.parametrize("keys", [SEEDED, -torch.arange(400) * 2**40], ids=["seeded", "far"])
@pytest.mark.parametrize("child", [None, 0, 3])
def test_uniform_draws_are_uniform(keys, child):
    noise = PerGraphNoise(keys)
    noise = noise if child is None else noise.child(torch.full_like(keys, child))
    u = torch.stack([noise.child(k).uniform(entries_of(len(keys), 60)) for k in range(5)]).flatten()
    n = u.numel()
    assert u.dtype == torch.float64 and 0 <= float(u.min()) and float(u.max()) < 1
    assert abs(float(u.mean()) - 1 / 2) / math.sqrt(1 / 12 / n) < Z
    assert abs(float(u.var()) - 1 / 12) / math.sqrt(1 / 180 / n) < Z
    for c in torch.linspace(0.01, 0.99, 21).tolist():
        assert abs(float((u < c).double().mean()) - c) / math.sqrt(c * (1 - c) / n) < Z
    low_bits = (u * 2**53).long() & 0xFF  # all 53 bits are drawn, not a float32 widened
    assert abs(float(low_bits.double().mean()) - 127.5) / math.sqrt((256**2 - 1) / 12 / n) < Z


def test_uniform_draws_of_draws_graphs_entries_and_children_are_uncorrelated():
    parts = [PerGraphNoise(SEEDED), *(PerGraphNoise(SEEDED).child(torch.full_like(SEEDED, k)) for k in (0, 1, 2))]
    u = (
        torch.stack(
            [torch.stack([p.child(9 + k).uniform(entries_of(len(SEEDED), 50)) for k in range(3)]) for p in parts]
        )
        - 0.5
    )
    assert u.unique().numel() == u.numel()
    for lag in (1, 2):
        for axis in range(4):
            length = u.size(axis) - lag
            assert_uncorrelated(u.narrow(axis, lag, length), u.narrow(axis, 0, length))


def test_equal_numbers_give_equal_draws_and_others_give_others():
    entries = torch.tensor([[[3, 7], [7, 3]], [[3, 3], [9, 7]]])
    u = PerGraphNoise(torch.tensor([1, 2])).uniform(entries)
    assert u.shape == entries.shape
    assert torch.equal(u[0], u[0].t()) and u[0, 0, 0] != u[0, 0, 1]
    assert u[1, 0, 0] == u[1, 0, 1] and u[1].unique().numel() == 3
    assert not torch.isin(u[0], u[1]).any()


def test_uniform_draws_of_a_graph_and_its_parts_are_its_own_in_any_batch_and_padding():
    keys, parts = torch.tensor([3, 99, 2**40, 99]), torch.tensor([0, 5, 1, 6])
    noise, children = PerGraphNoise(keys), PerGraphNoise(keys).child(parts)
    first = [noise.uniform(entries_of(4, 5)), children.uniform(entries_of(4, 5))]
    assert torch.equal(noise.uniform(entries_of(4, 5)), first[0])  # the same call, the same draws
    for k in range(4):
        alone = PerGraphNoise(keys[k : k + 1])
        assert torch.equal(alone.uniform(entries_of(1, 9))[0, :5], first[0][k])
        part = PerGraphNoise(keys[k : k + 1]).child(parts[k : k + 1])
        assert torch.equal(part.uniform(entries_of(1, 9))[0, :5], first[1][k])
    assert torch.equal(first[0][1], first[0][3]) and not torch.equal(first[1][1], first[1][3])


def test_children_of_one_graph_differ_from_each_other_their_parent_and_grandchildren():
    keys = torch.zeros(200, dtype=torch.int64)
    children = PerGraphNoise(keys).child(torch.arange(200))
    grandchildren = children.child(torch.arange(200))
    u = torch.cat([p.uniform(entries_of(len(p.keys), 4)) for p in (PerGraphNoise(keys[:1]), children, grandchildren)])
    assert u.unique().numel() == u.numel()


def test_uniform_draws_of_no_graph_or_no_entry_are_empty():
    for shape in ((0, 3), (2, 0), (2, 3, 0)):
        noise = PerGraphNoise(torch.arange(shape[0]))
        assert noise.uniform(torch.zeros(shape, dtype=torch.int64)).shape == shape
        assert noise.child(torch.arange(shape[0])).uniform(torch.zeros(shape, dtype=torch.int64)).shape == shape


@pytest.mark.parametrize("number", [0, 1, 12, 2**31, -3])
def test_a_child_is_the_same_by_a_number_and_by_a_tensor(number):
    noise = PerGraphNoise(torch.tensor([3, -(2**62), 99]))
    own = noise.child(number).keys
    for same in (torch.tensor(number), torch.tensor([number]), torch.full((3,), number)):
        assert torch.equal(noise.child(same).keys, own)


def test_equal_numbers_of_a_generator_share_a_draw():
    entries = torch.tensor([[[3, 7], [7, 3]], [[0, 0], [1, 7]]])
    u = GeneratorNoise(torch.Generator().manual_seed(0)).uniform(entries)
    assert torch.equal(u[0], u[0].t()) and u[1, 0, 0] == u[1, 0, 1] and u.unique().numel() == 5
    assert u.dtype == torch.float64 and 0 <= float(u.min()) and float(u.max()) < 1
