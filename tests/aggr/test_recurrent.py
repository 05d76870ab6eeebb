"""Recurrent aggregators: each group by itself through torch's own module, and PyG's weights."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, jacrev, vmap
from torch_geometric.nn import aggr as pyg

from graphinv.aggr import PackedGRUAggregation, PackedLSTMAggregation
from graphinv.errors import InputError
from graphinv.testing import assert_close

PAIRS = [(PackedGRUAggregation, torch.nn.GRU), (PackedLSTMAggregation, torch.nn.LSTM)]
SETTINGS = [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "bidirectional": True}, {"num_layers": 3}]
INDEX = torch.tensor([3, 0, 0, 3, 3, 1, 0, 3, 5, 0, 0, 0])


def one_by_one(m, module, x, groups):
    """Run torch's module over each group alone."""
    out = []
    for group in range(groups):
        rows = x[INDEX == group]
        if not rows.shape[0]:
            out.append(torch.zeros(m.out_channels, dtype=x.dtype))
            continue
        state = module(rows.unsqueeze(1))[1]
        hidden = state[0] if isinstance(state, tuple) else state
        out.append(hidden[-(2 if m.bidirectional else 1) :, 0].flatten())
    return torch.stack(out)


@pytest.mark.parametrize(("cls", "module"), PAIRS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_group_is_read_by_itself(cls, module, settings, dtype):
    torch.manual_seed(0)
    m, plain = cls(4, 6, **settings).to(dtype), module(4, 6, **settings).to(dtype)
    plain.load_state_dict({name.split(".", 1)[1]: value for name, value in m.state_dict().items()})
    x = torch.randn(12, 4, dtype=dtype, requires_grad=True)
    out, expected = m(x, INDEX, dim_size=7), one_by_one(m, plain, x, 7)
    assert_close(out, expected, "state", tolerance=1e-12 if dtype == torch.float64 else 1e-5)
    got = torch.autograd.grad(out.square().sum(), [x, *m.parameters()])
    wanted = torch.autograd.grad(expected.square().sum(), [x, *plain.parameters()])
    for one, other in zip(got, wanted, strict=True):
        assert_close(one, other, "gradient", tolerance=1e-11 if dtype == torch.float64 else 1e-4)


# The behaviour matrix has a GRU of one layer and an LSTM of two in both directions.
@pytest.mark.parametrize(
    ("cls", "settings"),
    [(PackedGRUAggregation, SETTINGS[2]), (PackedLSTMAggregation, SETTINGS[2]), (PackedGRUAggregation, SETTINGS[3])],
    ids=str,
)
def test_compiled_it_is_the_same(cls, settings):
    torch._dynamo.reset()
    torch.manual_seed(0)
    m, x = cls(4, 6, **settings).double(), torch.randn(7, 4, dtype=torch.float64)
    index = torch.tensor([3, 0, 0, 3, 1, 0, 5])
    compiled = torch.compile(m, fullgraph=True, backend="aot_eager")  # unrolled: as many steps as the bound
    assert_close(compiled(x, index, dim_size=7, max_num_elements=4), m(x, index, dim_size=7), "compiled", 0, 1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(PackedGRUAggregation, pyg.GRUAggregation), (PackedLSTMAggregation, pyg.LSTMAggregation)]
)
def test_weights_of_pyg_load_and_agree_where_pyg_does_not_pad(ours, theirs):
    torch.manual_seed(0)
    m, other = ours(4, 6), theirs(4, 6)
    m.load_state_dict(other.state_dict())
    index, x = torch.arange(5).repeat_interleave(7), torch.randn(35, 4)
    assert_close(m(x, index), other(x, index), "PyG's state", tolerance=1e-6)


def test_dropout_is_between_layers_and_in_training_only():
    m = PackedGRUAggregation(4, 6, num_layers=2, dropout=0.5)
    x = torch.randn(12, 4)
    assert not torch.equal(m(x, INDEX), m(x, INDEX))
    m.eval()
    assert torch.equal(m(x, INDEX), m(x, INDEX))


def test_parameters_are_drawn_anew():
    m = PackedLSTMAggregation(4, 6)
    before = [p.detach().clone() for p in m.parameters()]
    m.reset_parameters()
    assert not any(torch.equal(p, b) for p, b in zip(m.parameters(), before, strict=True))
    assert repr(m) == "PackedLSTMAggregation(4, 6)"


@pytest.mark.parametrize("settings", [{"in_channels": -1}, {"num_layers": 0}, {"dropout": 2.0}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match="at least 1"):
        PackedGRUAggregation(**{"in_channels": 4, "out_channels": 6, **settings})


@pytest.mark.parametrize(("cls", "module"), PAIRS)
@pytest.mark.parametrize("settings", SETTINGS[:3], ids=str)
def test_gradcheck_and_gradgradcheck(cls, module, settings):
    torch.manual_seed(0)
    m, x = cls(2, 3, **settings).double(), torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    index, names = torch.tensor([0, 2, 0, 0, 2]), [name for name, _ in m.named_parameters()]

    def function(x, *parameters):
        return functional_call(m, dict(zip(names, parameters, strict=True)), (x, index), {"dim_size": 3})

    inputs = (x, *m.parameters())
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=bool(settings))


@pytest.mark.parametrize(("cls", "module"), PAIRS)
def test_torch_func_sees_the_same_function(cls, module, readable_transforms):
    torch.manual_seed(0)
    m, x = cls(4, 6, bidirectional=True).double(), torch.randn(12, 4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: m(x, INDEX, dim_size=7), x)
    assert_close(jacrev(lambda x: m(x, INDEX, dim_size=7))(x), jacobian, "jacrev", tolerance=1e-12)
    batch = torch.stack([x, 2 * x])
    mapped = vmap(lambda x: m(x, INDEX, dim_size=7))(batch)
    assert_close(mapped, m(batch, INDEX, dim_size=7), "vmap", tolerance=1e-12)
