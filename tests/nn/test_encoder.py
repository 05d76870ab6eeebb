"""The encoder of whole graphs: what it may and may not depend on, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graphinv import testing
from graphinv.aggr import FSPoolAggregation, LCMAggregation, SetTransformerAggregation
from graphinv.errors import InputError
from graphinv.nn.encoder import GraphEncoder

ENCODERS = {
    "sum": lambda: GraphEncoder(4, 3, 8, 2),
    "lcm": lambda: GraphEncoder(4, 3, 8, 2, aggr=lambda: LCMAggregation(8), readout=lambda: FSPoolAggregation(8)),
    "attention": lambda: GraphEncoder(4, 3, 8, 1, readout=lambda: SetTransformerAggregation(8, 8, hidden=8, heads=2)),
}
every = pytest.mark.parametrize("name", ENCODERS)


def make(name, dtype=torch.float64):
    torch.manual_seed(0)
    return ENCODERS[name]().to(dtype).eval()


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbering_of_nodes_and_batch_mates_change_nothing(name, dtype):
    encoder, graphs = make(name, dtype), testing.random_graphs(7, max_nodes=6, seed=1)
    out = encoder(graphs)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    testing.assert_close(encoder(testing.permute_graphs(graphs, seed=2)), out, "renumbered", tolerance=tolerance)
    for k in range(7):
        alone = encoder(graphs.select(torch.tensor([k])))
        testing.assert_close(alone, out[k : k + 1], f"graph {k}", tolerance=tolerance)


@every
def test_node_types_edge_types_and_edges_are_seen(name):
    encoder, graphs = make(name), testing.random_graphs(1, max_nodes=6, min_nodes=6, seed=3)
    out = encoder(graphs)
    other = graphs.edge_attr % 3 + 1
    without = replace(
        graphs, edge_index=graphs.edge_index[:, :0], edge_attr=graphs.edge_attr[:0], edge_ptr=torch.tensor([0, 0])
    )
    for changed in (replace(graphs, x=(graphs.x + 1) % 4), replace(graphs, edge_attr=other), without):
        assert float((encoder(changed) - out).abs().max()) > 1e-3


def test_every_parameter_learns():
    encoder = make("lcm").train()
    encoder(testing.random_graphs(9, seed=4)).square().sum().backward()
    missing = [name for name, p in encoder.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert missing in ([], ["layers.0.aggr_module.identity", "layers.1.aggr_module.identity"])


def test_types_that_do_not_fit_are_refused():
    encoder, graphs = make("sum"), testing.random_graphs(3, seed=5)
    for changed, told in (
        (replace(graphs, x=graphs.x + 4), "x must be in 0..3"),
        (replace(graphs, edge_attr=graphs.edge_attr + 9), "edge_attr must be in 0..3"),
        (replace(graphs, x=graphs.x.float()), "integer type"),
        (replace(graphs, edge_attr=None), "got None"),
    ):
        with pytest.raises(InputError, match=told):
            encoder(changed)
    with pytest.raises(InputError, match="layers must be at least 1"):
        GraphEncoder(4, 3, 8, 0)
