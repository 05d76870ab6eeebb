"""A learnable commutative monoid in a GraphSAGE network, as aggregator and as readout, trained on ENZYMES.

TU files (tu/ENZYMES/*.txt.gz) are taken from GRAPHINV_DATA_DIR; without them PyG downloads the set.
Example: GRAPHINV_DATA_DIR=data python examples/lcm_in_a_gnn.py 30
"""

import gzip
import os
import sys
import tempfile
from pathlib import Path

import torch
from torch_geometric.datasets import TUDataset
from torch_geometric.loader import DataLoader
from torch_geometric.nn import SAGEConv

from graphinv.aggr import LCMAggregation


def enzymes() -> TUDataset:
    """Read the 600 graphs, with their 18 + 3 node features, in a fixed random order."""
    with tempfile.TemporaryDirectory() as root:
        raw = Path(root, "ENZYMES", "raw")
        raw.mkdir(parents=True)
        for file in Path(os.environ.get("GRAPHINV_DATA_DIR", ""), "tu", "ENZYMES").glob("*.txt.gz"):
            (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        return TUDataset(root, "ENZYMES", use_node_attr=True).shuffle()


class Network(torch.nn.Module):
    def __init__(self, features: int, classes: int, hidden: int = 32) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(features)
        self.conv1 = SAGEConv(features, hidden, aggr=LCMAggregation(features, op="gated_sum"))
        self.conv2 = SAGEConv(hidden, hidden, aggr=LCMAggregation(hidden, op="gated_sum"))
        self.readout = LCMAggregation(hidden, op="gated_sum")
        self.head = torch.nn.Linear(hidden, classes)

    def forward(self, data):
        x = self.conv1(self.norm(data.x), data.edge_index).relu()
        x = self.conv2(x, data.edge_index).relu()
        return self.head(self.readout(x, data.batch, dim_size=data.num_graphs))


def main(epochs: int = 30) -> float:
    torch.manual_seed(0)
    data = enzymes()
    model = Network(data.num_features, data.num_classes)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(1, epochs + 1):
        for batch in DataLoader(data[:480], 32, shuffle=True):
            loss = torch.nn.functional.cross_entropy(model(batch), batch.y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        model.eval()
        right = torch.cat([model(batch).argmax(1) == batch.y for batch in DataLoader(data[480:], 120)])
        model.train()
        print(
            f"epoch {epoch}: loss {float(loss.detach()):.3f}, accuracy on 120 graphs {float(right.float().mean()):.3f}"
        )
    return float(right.float().mean())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
