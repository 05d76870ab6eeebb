"""Inside PyG: message passing, readout, several aggregators at once, resolution by name, and learning."""

from __future__ import annotations

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.nn import GATConv, GINConv, MessagePassing, MultiAggregation, SAGEConv
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.resolver import aggregation_resolver

from graphinv.aggr import LCMAggregation, MonoidBankAggregation, PackedGRUAggregation, forget_layouts, register
from graphinv.aggr.layout import _cache
from graphinv.testing import assert_close, random_graphs

AGGREGATORS = {
    "lcm": lambda: LCMAggregation(8),
    "gated_sum": lambda: LCMAggregation(8, op="gated_sum"),
    "monoid_bank": lambda: MonoidBankAggregation(8, 8),
}


@pytest.fixture
def registered():
    undo = register()
    yield
    undo()


def graph():
    batch = random_graphs(6, max_nodes=9, seed=1)
    shuffled = torch.randperm(batch.num_edges, generator=torch.Generator().manual_seed(0))
    x = torch.randn(batch.num_nodes, 8, generator=torch.Generator().manual_seed(2))
    return x, batch.edge_index[:, shuffled], batch.node_graph(), batch


@pytest.mark.parametrize("name", AGGREGATORS)
def test_message_passing_takes_edges_in_any_order_and_nodes_by_any_name(name):
    torch.manual_seed(0)
    x, edges, _, _ = graph()
    conv = SAGEConv(8, 5, aggr=AGGREGATORS[name]())
    out = conv(x, edges)
    assert out.shape == (x.shape[0], 5)
    by_target = edges[:, torch.sort(edges[1], stable=True).indices]
    assert_close(conv(x, by_target), out, "order of the edges", tolerance=1e-5)
    names = torch.randperm(x.shape[0], generator=torch.Generator().manual_seed(3))
    renamed = torch.empty_like(x)
    renamed[names] = x
    assert_close(conv(renamed, names[edges])[names], out, "names of the nodes", tolerance=1e-5)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_edge_index_objects_of_pyg(name):
    x, edges, _, _ = graph()
    conv = SAGEConv(8, 5, aggr=AGGREGATORS[name]())
    by_target = edges[:, torch.sort(edges[1], stable=True).indices]
    size = (x.shape[0], x.shape[0])
    for given in (EdgeIndex(edges, sparse_size=size), EdgeIndex(by_target, sparse_size=size, sort_order="col")):
        assert_close(conv(x, given), conv(x, edges), "EdgeIndex", tolerance=1e-5)


def test_all_layers_of_a_network_share_one_layout():
    forget_layouts()
    x, edges, _, _ = graph()
    for layer in [SAGEConv(8, 8, aggr=LCMAggregation(8)) for _ in range(4)]:
        x = layer(x, edges)
    assert len(_cache) == 1


@pytest.mark.parametrize("name", AGGREGATORS)
def test_readout_of_graphs(name):
    torch.manual_seed(0)
    x, _, owner, batch = graph()
    readout = AGGREGATORS[name]()
    out = readout(x, owner, dim_size=batch.num_graphs)
    assert torch.equal(readout(x, ptr=batch.ptr), out)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_layers_with_heads_of_their_own(name):
    x, edges, _, _ = graph()
    out = GATConv(8, 8, heads=2, aggr=AGGREGATORS[name]())(x, edges)
    assert out.shape == (x.shape[0], 16)


def test_several_aggregators_at_once():
    x, edges, _, _ = graph()
    multi = MultiAggregation(["mean", LCMAggregation(8), MonoidBankAggregation(8, 4), PackedGRUAggregation(8, 3)])
    out = multi(x[edges[0]], edges[1], dim_size=x.shape[0])
    assert out.shape == (x.shape[0], 8 + 8 + 4 + 3)
    assert_close(out[:, :8], pyg.MeanAggregation()(x[edges[0]], edges[1], dim_size=x.shape[0]), "mean")


def test_resolution_by_name(registered):
    register()
    assert isinstance(aggregation_resolver("lcm", in_channels=8), LCMAggregation)
    assert isinstance(aggregation_resolver("monoid_bank", in_channels=8, out_channels=8), MonoidBankAggregation)
    conv = SAGEConv(8, 5, aggr="lcm", aggr_kwargs={"in_channels": 8, "op": "gated_sum"})
    x, edges, _, _ = graph()
    assert conv(x, edges).shape == (x.shape[0], 5)
    multi = MultiAggregation(["sum", "packed_gru"], aggrs_kwargs=[{}, {"in_channels": 8, "out_channels": 8}])
    assert isinstance(multi.aggrs[1], PackedGRUAggregation)
    assert isinstance(aggregation_resolver("sum"), pyg.SumAggregation)


@pytest.mark.parametrize("name", "fishnets fs_pool fsw gen_agg janossy ot_kernel pswe set_transformer slot_set".split())
def test_every_pooling_is_found_by_name_and_runs_inside_a_layer(registered, name):
    conv = SAGEConv(8, 5, aggr=name, aggr_kwargs={"in_channels": 8, "out_channels": 8})
    x, edges, _, _ = graph()
    assert type(conv.aggr_module).__module__.startswith("graphinv.aggr.pool")
    assert conv(x, edges).shape == (x.shape[0], 5)


def test_pygs_own_class_is_out_of_the_way_only_while_registered():
    assert pyg.LCMAggregation.__module__ == "torch_geometric.nn.aggr.lcm" and not hasattr(pyg, "FSWAggregation")
    first = register()
    second = register()
    assert pyg.LCMAggregation is LCMAggregation
    second()
    assert pyg.LCMAggregation is LCMAggregation
    first()
    assert pyg.LCMAggregation.__module__ == "torch_geometric.nn.aggr.lcm" and not hasattr(pyg, "FSWAggregation")


def test_channels_are_taken_from_the_first_messages():
    class Conv(MessagePassing):
        def forward(self, x, edge_index):
            return self.propagate(edge_index, x=x)

    x, edges, _, _ = graph()
    assert Conv(aggr=LCMAggregation(-1, 6))(x, edges).shape == (x.shape[0], 6)
    assert Conv(aggr=MonoidBankAggregation(-1, 6))(x, edges).shape == (x.shape[0], 6)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_a_network_learns_what_no_mean_can(name):
    """Whether the largest value of the first channel of a graph is above 1.2."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(64).repeat_interleave(torch.randint(1, 9, (64,), generator=generator))
    x = torch.randn(index.numel(), 8, generator=generator)
    target = (torch.zeros(64).scatter_reduce(0, index, x[:, 0], "amax", include_self=False) > 1.2).float()
    readout, head = AGGREGATORS[name](), torch.nn.Linear(8, 1)
    optimiser = torch.optim.Adam([*readout.parameters(), *head.parameters()], lr=2e-2)
    losses = []
    for _ in range(60):
        logits = head(readout(x, index, dim_size=64)).squeeze(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("name", ["lcm", "monoid_bank"])
def test_a_gin_compiles_whole(name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    x, edges, _, _ = graph()
    conv = GINConv(torch.nn.Linear(8, 8), aggr=AGGREGATORS[name]())
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x, edges), conv(x, edges), "compiled", tolerance=1e-5)
