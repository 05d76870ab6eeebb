"""The host never waits for the device inside a step: more steps, as many values that travel."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from graphinv.data import GraphStore
from graphinv.data.vocabulary import Vocabulary
from graphinv.models import GDSS, PARD
from graphinv.models.gdss.config import SamplerConfig
from graphinv.models.pard.config import BlockSampler
from graphinv.testing import random_graphs

WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique_dim", "_unique2"}


class Traffic(TorchDispatchMode):
    """Counts the operators that make the host wait: values read back, shapes that depend on values, copies."""

    def __init__(self, device):
        super().__init__()
        self.device, self.seen = device, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        tensors = [x for x in torch.utils._pytree.tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        places = {x.device.type for x in tensors}
        if self.device.type in places:
            masks = [x for x in tensors if x.dtype == torch.bool] if name in ("index", "index_put_") else []
            if name in WAITING or masks or (len(places) > 1 and name in ("_to_copy", "copy_", "_copy_from")):
                self.seen.append(name)
        return out


def traffic(run, device):
    with Traffic(device) as mode:
        run()
    return sorted(mode.seen)


def test_the_count_sees_what_waits(device):
    x = torch.ones(3, device=device)
    assert len(traffic(lambda: (x.sum().item(), x[x > 0], x.cpu(), x.nonzero()), device)) >= 4
    assert traffic(lambda: (x * 2).cumsum(0).softmax(0), device) == []


@pytest.mark.parametrize("solver", ["s4", "exponential", "flow", "heun", "reverse", "euler"])
@pytest.mark.parametrize("preset", ["qm9", "qm9-ppgn", "zinc250k-gmh"])
def test_steps_of_gdss(preset, solver, device):
    model = GDSS.preset(preset, node_types=4, max_nodes=9).eval().to(device)
    nodes = torch.tensor([9, 4, 7])
    few, many = (
        traffic(lambda n=n: model.sample(3, num_nodes=nodes, sampler=SamplerConfig(solver=solver, steps=n)), device)
        for n in (3, 8)
    )
    assert few == many


@pytest.mark.parametrize("prior", ["marginal", "absorbing"])
def test_steps_of_pard(prior, device):
    """Graphs of one node are one block, however many steps it takes."""
    small = {"node_dim": 32, "edge_dim": 8, "layers": 2, "heads": 2, "prior": prior}
    model = PARD.preset("qm9", node_types=4, max_nodes=9, **small).eval().to(device)
    one = torch.tensor([1, 1])
    model.sample(2, num_nodes=one)  # the processes of a model are made once
    few, many = (
        traffic(lambda k=k: model.sample(2, num_nodes=one, sampler=BlockSampler(k, steps_per_element=99.0)), device)
        for k in (3, 8)
    )
    assert few == many


@pytest.mark.parametrize("name", ["qm9", "qm9-ppgn", "degrees", "pard", "pard, absorbing", "pard, disturbed"])
def test_a_training_step_on_a_batch_made_ready_before(name, device):
    small = {"node_dim": 32, "edge_dim": 8, "layers": 2, "heads": 2, "node_types": 4, "max_nodes": 9}
    if name.startswith("pard"):
        changes = {"pard, absorbing": {"prior": "absorbing"}, "pard, disturbed": {"context_noise": 0.2}}
        model = PARD.preset("qm9", **small, **changes.get(name, {}))
    elif name == "degrees":
        model = GDSS.preset("community_small", max_nodes=9)
    else:
        model = GDSS.preset(name, node_types=4)
    vocabulary = Vocabulary(tuple("CNOF") if name != "degrees" else ("",), ("1", "2", "3"), "generic")
    types = len(vocabulary.nodes)
    store = GraphStore.from_graphs(random_graphs(9, max_nodes=9, node_types=types), vocabulary)
    padded = model.pad(model.prepare(store, progress=False).batch(torch.arange(9))).to(device)
    model = model.to(device)
    generator = torch.Generator(device).manual_seed(0)

    def step():
        torch.stack(list(model.losses(padded, generator).values())).sum().backward()

    step()  # the processes of a model are made once
    assert traffic(step, device) == []


def test_ready_batches_have_the_losses_of_packed_ones(device):
    for model in (GDSS.preset("qm9", node_types=4), PARD.preset("qm9", node_types=4, max_nodes=9)):
        batch = random_graphs(5, max_nodes=9, node_types=4)
        packed, padded = (model.losses(given, torch.Generator().manual_seed(0)) for given in (batch, model.pad(batch)))
        assert all(torch.equal(packed[key], padded[key]) for key in packed)
