"""The host never waits for the device inside a step: more steps, as many values that travel."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from graphinv.models import GDSS, PARD
from graphinv.models.pard_settings import BlockSampler
from graphinv.models.settings import SamplerConfig
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
    model = GDSS.preset(preset, features=4, max_nodes=9).eval().to(device)
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


@pytest.mark.parametrize("preset", ["qm9", "qm9-ppgn"])
def test_training_of_gdss(preset, device):
    model = GDSS.preset(preset, features=4).to(device)
    few, many = (
        traffic(lambda b=b: model.loss(b).backward(), device)
        for b in (random_graphs(n, max_nodes=9).to(device) for n in (3, 20))
    )
    assert few == many
