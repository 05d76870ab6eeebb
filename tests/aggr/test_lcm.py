"""The learnable monoid: against a recursion by hand, its gradients, its orders, its penalty, PyG's weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.func import functional_call, jacrev, jvp, vmap
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.aggr import lcm as pyg_lcm  # PyG's own, whatever is registered

from graphinv.aggr import BinaryOp, GatedSumOp, GRUOp, LCMAggregation, MaxMinOp, MLPOp, auxiliary_loss
from graphinv.aggr._order import _score
from graphinv.errors import InputError
from graphinv.testing import assert_close, assert_permutation_invariant

OPS = ["gru", "gated_sum", "max_min", "mlp"]
DTYPES = [torch.float64, torch.float32]
INDEX = torch.tensor([0] * 3 + [2] + [3] * 7 + [4] * 16 + [5] * 2 + [7] * 5)


class Affine(BinaryOp):
    """An operator of a user: plain torch, not associative."""

    def __init__(self, channels):
        super().__init__(channels)
        self.linear = torch.nn.Linear(channels, channels)

    def forward(self, a, b):
        return torch.tanh(self.linear(a) + self.linear(b))


def make(op="gru", dtype=torch.float64, seed=0, **settings):
    torch.manual_seed(seed)
    op = Affine(4) if op == "custom" else op
    return LCMAggregation(**{"in_channels": 3, "out_channels": 4, "op": op, "order": "given", **settings}).to(dtype)


def rows(count=34, dtype=torch.float64, seed=0, channels=3):
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def fold_by_hand(op, xs, pairing):
    """Fold a list of [1, H] rows as the documentation says."""
    xs = list(xs)
    if pairing == "neighbours":
        while len(xs) > 1:
            xs = [op(xs[2 * k], xs[2 * k + 1]) for k in range(len(xs) // 2)] + xs[len(xs) // 2 * 2 :]
        return xs[0]
    stride = 1 << max(len(xs) - 1, 0).bit_length() >> 1
    while stride:
        for place in range(stride, len(xs)):
            xs[place - stride] = op(xs[place - stride], xs[place])
        xs, stride = xs[:stride], stride >> 1
    return xs[0]


def by_hand(m, x, index, groups, pairing="strides"):
    latent = m.lin(x).relu()
    empty = torch.zeros(m.out_channels, dtype=x.dtype) if m.identity is None else m.identity
    out = []
    for group in range(groups):
        own = latent[index == group]
        out.append(fold_by_hand(m.op, own.split(1), pairing)[0] if own.shape[0] else empty)
    return torch.stack(out)


def by_hand_latent(m, latent):
    return fold_by_hand(m.op, latent.split(1), "strides")


@pytest.mark.parametrize("op", [*OPS, "custom"])
@pytest.mark.parametrize("recompute", [True, False])
def test_forward_and_every_gradient_equal_the_recursion_by_hand(op, recompute):
    m, x = make(op, recompute=recompute), rows().requires_grad_()
    if m.identity is not None:
        torch.nn.init.normal_(m.identity)
    shuffle = torch.randperm(INDEX.numel(), generator=torch.Generator().manual_seed(1))
    for index, given in ((INDEX, x), (INDEX[shuffle], x[shuffle])):
        out, expected = m(given, index, dim_size=9), by_hand(m, given, index, 9)
        assert_close(out, expected, "result", tolerance=1e-13)
        weight = rows(9, seed=2, channels=4)
        inputs = [x, *m.parameters()]
        got = torch.autograd.grad((out * weight).sum(), inputs, retain_graph=True)
        wanted = torch.autograd.grad((expected * weight).sum(), inputs)
        for one, other in zip(got, wanted, strict=True):
            assert_close(one, other, "gradient", tolerance=1e-12)


@pytest.mark.parametrize("op", OPS)
def test_many_tiles_and_levels_equal_the_recursion_by_hand(op, monkeypatch):
    monkeypatch.setattr("graphinv.aggr._tree._tile_rows", lambda x: 7)
    index = torch.arange(40).repeat_interleave(torch.arange(40) % 23)
    m, x = make(op), rows(index.numel()).requires_grad_()
    out, expected = m(x, index, dim_size=41), by_hand(m, x, index, 41)
    assert_close(out, expected, "result", tolerance=1e-13)
    inputs = [x, *m.op.parameters()]
    for one, other in zip(
        torch.autograd.grad(out.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        assert_close(one, other, "gradient", tolerance=1e-11)


def test_neighbours_pair_as_written_for_groups_of_powers_of_two():
    index = torch.arange(5).repeat_interleave(torch.tensor([1, 2, 4, 8, 16]))
    m, x = make(pairing="neighbours"), rows(31)
    assert_close(m(x, index), by_hand(m, x, index, 5, "neighbours"), "result", tolerance=1e-13)


@pytest.mark.parametrize(("op", "order"), [*((op, "given") for op in OPS), ("gru", "canonical")])
def test_gradcheck_and_gradgradcheck(op, order):
    index = torch.tensor([2, 0, 0, 2, 2, 1, 2, 2])
    m = make(op, order=order)
    names = [name for name, _ in m.named_parameters()]

    def function(x, *parameters):
        return functional_call(m, dict(zip(names, parameters, strict=True)), (x, index), {"dim_size": 4})

    inputs = (rows(8).requires_grad_(), *m.parameters())
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("order", ["given", "canonical"])
def test_torch_func_sees_the_same_function(op, order):
    index = torch.tensor([2, 0, 0, 2, 1])
    m, x = make(op, order=order), rows(5)

    def function(x):
        return m(x, index, dim_size=4)

    jacobian = torch.autograd.functional.jacobian(function, x)
    assert_close(jacrev(function)(x), jacobian, "jacrev", tolerance=1e-12)
    direction = rows(5, seed=3)
    assert_close(jvp(function, (x,), (direction,))[1], (jacobian * direction).sum((-2, -1)), "jvp", tolerance=1e-12)
    batch = rows(15).reshape(3, 5, 3)
    assert_close(vmap(function)(batch), m(batch, index, dim_size=4), "vmap", tolerance=1e-12)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_operators_commute(op, dtype):
    m = make(op, dtype)
    a, b = rows(50, dtype, channels=4), rows(50, dtype, seed=1, channels=4)
    assert_close(m.op(a, b), m.op(b, a), "o is not commutative", tolerance=1e-12 if dtype == torch.float64 else 1e-6)


def test_max_min_can_hold_the_two_largest_exactly():
    op = MaxMinOp(2)
    with torch.no_grad():
        op.linear.weight.zero_()
        op.linear.weight[1, 2] = 1  # channel 1 takes the smaller of channel 0
        op.linear.bias.copy_(torch.tensor([-100.0, 0.0]))
    index = torch.arange(9).repeat_interleave(torch.arange(2, 11))
    values = rows(index.numel(), torch.float32, channels=1).abs()
    start = torch.cat([values, torch.zeros_like(values)], 1)
    out = LCMAggregation(2, project=False, op=op)(start, index)
    for group in range(9):
        assert torch.equal(out[group], values[index == group].flatten().sort(descending=True).values[:2])


def test_max_min_shares_the_gradient_of_ties_as_torch_does():
    op, x = MaxMinOp(4), torch.zeros(6, 4, requires_grad=True)
    m = LCMAggregation(4, project=False, op=op, order="given")
    with torch.no_grad():
        op.linear.bias.zero_()
    weight = rows(1, torch.float32, channels=4)
    (fast,) = torch.autograd.grad((m(x) * weight).sum(), x)
    (plain,) = torch.autograd.grad((by_hand_latent(m, x) * weight).sum(), x)
    assert_close(fast, plain, "gradient of ties")


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_is_the_exact_identity_of_the_gated_sum(dtype):
    m, x = GatedSumOp(4).to(dtype), rows(9, dtype, channels=4)
    assert torch.equal(m(x, torch.zeros_like(x)), x) and torch.equal(m(torch.zeros_like(x), x), x)
    # Through the kernel too: a set with a zero row added is the same set.
    aggregation = LCMAggregation(4, project=False, op=m, order="given")
    padded = torch.cat([x, torch.zeros(7, 4, dtype=dtype)])
    index = torch.cat([torch.arange(9), torch.arange(7)])
    assert torch.equal(aggregation(padded, index), x)


@pytest.mark.parametrize("op", [*OPS, "custom"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_canonical_order_makes_the_result_a_function_of_the_set(op, dtype):
    m = make(op, dtype, order="canonical")
    x = rows(dtype=dtype)
    x[::3] = x[0]  # equal rows, some of them in one group
    x[1::5, 1:] = 0  # and rows that agree in part
    for seed in range(5):
        assert_permutation_invariant(
            lambda x, index: m(x, index, dim_size=9), x, INDEX, seed=seed,
            tolerance=1e-12 if dtype == torch.float64 else 1e-5,
        )  # fmt: skip


def test_rows_that_tie_in_score_are_ordered_by_all_their_channels(monkeypatch):
    monkeypatch.setattr("graphinv.aggr._order._score", lambda x: torch.zeros(x.shape[0], dtype=torch.float64))
    m, x = make(order="canonical"), rows()
    x[5] = x[4]
    for seed in range(5):
        assert_permutation_invariant(lambda x, index: m(x, index, dim_size=9), x, INDEX, seed=seed, tolerance=1e-12)


def test_given_order_of_the_paper_is_not_invariant_and_the_number_says_so():
    m = make(order="given")
    assert m.invariance_error(rows(), INDEX) > 1e-3 > make(order="canonical").invariance_error(rows(), INDEX)


@pytest.mark.parametrize("compiled", [False, True])
def test_rows_of_whole_numbers_have_scores_of_their_own(compiled):
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(2000, 32, generator=generator) < 0.1).double()
    distinct = torch.unique(x, dim=0)
    assert torch.unique(_score(distinct)).numel() == distinct.shape[0]
    index = torch.randint(0, 20, (2000,), generator=generator)
    m = make(in_channels=32, order="canonical")
    if compiled:
        torch._dynamo.reset()
        m.compile(fullgraph=True, backend="aot_eager")
    for seed in range(2):
        assert_permutation_invariant(
            lambda x, index: m(x, index, dim_size=20, max_num_elements=150), x, index, seed=seed, tolerance=1e-12
        )


def test_one_trace_serves_batches_of_many_sizes():
    torch._dynamo.reset()
    traces = []

    def counting(graph, inputs):
        traces.append(graph)
        return graph

    m = make(order="canonical", aux_triples=0)
    compiled = torch.compile(m, fullgraph=True, backend=counting, dynamic=True)
    for count in range(20, 30):
        index = torch.arange(count) % 7
        assert_close(
            compiled(rows(count), index, dim_size=7, max_num_elements=30), m(rows(count), index, dim_size=7), "compiled"
        )
    assert len(traces) <= 3


def test_an_operator_with_a_forward_of_its_own_is_asked():
    class Sum(GRUOp):
        def forward(self, a, b):
            return a + b

    assert LCMAggregation(2, project=False, op=Sum(2))(torch.ones(4, 2)).tolist() == [[4.0, 4.0]]


def test_triples_are_of_three_rows():
    m = make(project=False, in_channels=4)
    m(rows(300, channels=4), torch.arange(100).repeat_interleave(3))
    a, b, c, exists = m._triples
    assert bool(exists.all())
    for one, other in ((a, b), (b, c), (a, c)):
        assert not bool((one == other).all(1).any())


def test_the_penalty_of_a_model_leaves_out_what_is_not_trained():
    model = torch.nn.ModuleList([make(), make().eval(), make(aux_triples=0)])
    for m in model:
        m(rows(), INDEX)
    assert_close(auxiliary_loss(model), model[0].auxiliary_loss(), "penalty")


def test_random_order_is_new_in_training_and_settled_in_evaluation():
    m, x = make(order="random"), rows()
    torch.manual_seed(0)
    first, second = m(x, INDEX), m(x, INDEX)
    torch.manual_seed(0)
    assert torch.equal(m(x, INDEX), first) and not torch.equal(first, second)
    m.eval()
    assert torch.equal(m(x, INDEX), make(order="canonical")(x, INDEX))


@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize("size", [1, 4, 16])
def test_weights_of_pyg_give_its_result_on_equal_groups_of_a_power_of_two(project, size):
    torch.manual_seed(0)
    theirs = pyg_lcm.LCMAggregation(6, 6, project=project)
    ours = LCMAggregation.from_pyg(theirs)
    index, x = torch.arange(7).repeat_interleave(size), torch.randn(7 * size, 6)
    assert_close(ours(x, index), theirs(x, index), "PyG's result", tolerance=1e-6)
    assert float((ours(x, index) - theirs(x, index)).detach().abs().max()) <= 1e-6


def test_the_penalty_teaches_associativity():
    m = LCMAggregation(4, project=False, op="mlp", order="random", aux_triples=64)
    optimiser = torch.optim.Adam(m.parameters(), lr=1e-2)
    losses = []
    torch.manual_seed(0)
    x, index = torch.randn(100, 4), torch.arange(10).repeat_interleave(10)
    for _ in range(60):
        m(x, index)
        loss = auxiliary_loss(m)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("op", [*OPS, "custom"])
def test_the_penalty_has_the_gradient_of_plain_autograd(op):
    """The values of inner tree nodes are a second output of the kernel: its gradient must go all the way down."""
    m, x = make(op, aux_triples=9), rows().requires_grad_()
    inputs = [x, *(p for p in m.parameters())]
    m(x, INDEX)
    got = torch.autograd.grad(m.auxiliary_loss(), inputs, allow_unused=True)

    def plain(x):
        m(x, INDEX)
        return m.auxiliary_loss()

    eps, direction = 1e-6, rows(seed=4)
    difference = (plain(x + eps * direction) - plain(x - eps * direction)) / (2 * eps)
    assert_close((got[0] * direction).sum(), difference.detach(), "slope of the penalty", tolerance=1e-7)
    if op == "gated_sum":
        assert m.identity is None
    else:
        assert got[[n for n, _ in m.named_parameters()].index("identity") + 1].abs().sum() > 0


def test_an_associative_operator_with_identity_has_no_penalty():
    class Add(BinaryOp):
        exact_identity = True

        def forward(self, a, b):
            return a + b

    m = LCMAggregation(3, project=False, op=Add(3))
    m(rows(), INDEX)
    assert float(m.auxiliary_loss()) < 1e-28


def test_small_groups_have_no_triples_and_a_finite_penalty():
    m = make()
    m(rows(4), torch.tensor([0, 0, 1, 1]))
    loss = m.auxiliary_loss()
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is None or p.grad.isfinite().all() for p in m.parameters())


def test_the_penalty_asks_for_a_training_forward():
    m = make()
    with pytest.raises(InputError, match="training mode"):
        m.auxiliary_loss()
    m.eval()(rows(), INDEX)
    with pytest.raises(InputError, match="training mode"):
        m.auxiliary_loss()


def test_a_module_in_the_middle_of_training_can_be_copied():
    m = make()
    m(rows(), INDEX)
    twin = copy.deepcopy(m)
    assert torch.equal(twin(rows(), INDEX), m(rows(), INDEX))


@pytest.mark.parametrize("recompute", [True, False])
def test_after_the_backward_pass_nothing_of_the_tree_is_held(recompute):
    m, x = make(recompute=recompute, project=False, in_channels=4), rows(channels=4).requires_grad_()
    m(x, INDEX).sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        m.auxiliary_loss().backward()


def test_without_gradients_nothing_is_saved_for_them(monkeypatch):
    saved = []
    original = torch.autograd.function.FunctionCtx.save_for_backward
    monkeypatch.setattr(
        torch.autograd.function.FunctionCtx,
        "save_for_backward",
        lambda ctx, *tensors: (saved.append(sum(t.numel() for t in tensors)), original(ctx, *tensors))[1],
    )
    m, x = make(recompute=False, project=False, in_channels=4), rows(channels=4)
    m(x, INDEX)
    with torch.no_grad():
        m(x, INDEX)
    trained, not_trained = saved
    assert trained - not_trained >= 7 * 4 * 27  # left operands and gates of 27 operator rows


def test_empty_groups_give_the_identity_and_train_it():
    m = make()
    torch.nn.init.normal_(m.identity)
    out = m(rows(2), torch.tensor([1, 1]), dim_size=3)
    assert torch.equal(out[[0, 2]], m.identity.expand(2, -1))
    out[0].sum().backward()
    assert torch.equal(m.identity.grad, torch.ones(4, dtype=torch.float64))
    assert torch.equal(make("gated_sum")(rows(0), dim_size=2), torch.zeros(2, 4, dtype=torch.float64))


def test_channels_can_be_taken_from_the_first_input():
    m = LCMAggregation(-1, 8)
    assert m(torch.randn(5, 6)).shape == (1, 8) and m.in_channels == 6
    with pytest.raises(InputError, match="made for 6 channels"):
        m(torch.randn(5, 7))
    loaded = LCMAggregation(-1, 8)
    loaded.load_state_dict(m.state_dict())
    with pytest.raises(InputError, match="made for 6 channels"):
        loaded(torch.randn(5, 7))


def test_parameters_are_drawn_anew():
    m = make()
    before = [p.detach().clone() for p in m.parameters()]
    torch.nn.init.ones_(m.identity)
    m.reset_parameters()
    assert float(m.identity.detach().abs().sum()) == 0
    assert not any(torch.equal(p, b) for (n, p), b in zip(m.named_parameters(), before, strict=True) if n != "identity")
    assert repr(m) == "LCMAggregation(3, 4, project=True, op=GRUOp, order='given')"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"op": "lstm"}, "available: gru, gated_sum, max_min, mlp"),
        ({"op": GRUOp(5)}, "5 channels"),
        ({"op": torch.nn.Linear(4, 4)}, "instance of BinaryOp"),
        ({"order": "sorted"}, "available: canonical, given, random"),
        ({"pairing": "tree"}, "available: strides, neighbours"),
        ({"project": False}, "must equal out_channels"),
        ({"aux_triples": -1}, "at least 0"),
        ({"in_channels": 0, "out_channels": None}, "in_channels must be at least 1"),
        ({"out_channels": 0}, "out_channels must be at least 1"),
        ({"in_channels": -1, "out_channels": None}, "out_channels must be given"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        LCMAggregation(**{"in_channels": 3, "out_channels": 4, **settings})


def test_bad_operators_and_dtypes_are_refused():
    class Narrow(BinaryOp):
        def forward(self, a, b):
            return a[:, :1]

    with pytest.raises(InputError, match="same shape"):
        LCMAggregation(3, project=False, op=Narrow(3))(torch.randn(4, 3))
    with pytest.raises(InputError, match="at least 1"):
        GRUOp(0)
    with pytest.raises(InputError, match="hidden must be"):
        MLPOp(3, hidden=0)
    with pytest.raises(InputError, match="PyG's LCMAggregation"):
        LCMAggregation.from_pyg(pyg.SumAggregation())
