"""Does a graph belong to its family: planar, tree, lobster, or a stochastic block model.

These are the definitions behind the "valid" of valid, unique and novel (SPECTRE, arXiv:2204.01613; trees of
arXiv:2312.11529; lobsters of GRAN, arXiv:1910.00760). Every verdict is of one graph, whatever stands beside it.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from tqdm.auto import tqdm

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.block_model import sbm_test

__all__ = ["FAMILIES", "connected", "valid_graphs"]

FAMILIES = ("planar", "tree", "lobster", "sbm")


def valid_graphs(graphs: GraphBatch, family: str, progress: bool = True) -> Tensor:
    """Return ``[B]`` bool, which graphs belong to a family; types do not matter, and no nodes is no member.

    - planar: connected, and can be drawn without crossings (a loop or a repeated edge changes nothing).
    - tree: connected, one edge less than nodes.
    - lobster: a tree that is a path, or nothing, once its leaves have been removed twice.
    - sbm: ``sbm_test`` with its defaults.

    Args:
        graphs: B graphs, undirected.
        family: one of the four.
        progress: a bar on stderr, from the third second on, for planar and sbm.

    Raises:
        InputError: the family is unknown.

    Example:
        >>> import networkx as nx
        >>> graphs = GraphBatch.from_networkx([nx.path_graph(4), nx.complete_graph(4), nx.complete_graph(5)])
        >>> valid_graphs(graphs, "planar").tolist(), valid_graphs(graphs, "lobster").tolist()
        ([True, True, False], [True, False, False])
    """
    if family not in FAMILIES:
        raise InputError(f"unknown family {family!r} of graphs; available: {', '.join(FAMILIES)}")
    if family == "tree":
        return _trees(graphs)
    if family == "lobster":
        return _lobsters(graphs)
    one = _planar if family == "planar" else _block_model
    candidates = connected(graphs) if family == "planar" else torch.ones(graphs.num_graphs, dtype=torch.bool)
    bar = tqdm(candidates.tolist(), unit=" graphs", delay=2.0, disable=None if progress else True, file=sys.stderr)
    return torch.tensor([may and one(graphs.graph(k)) for k, may in enumerate(bar)], dtype=torch.bool)


def connected(graphs: GraphBatch) -> Tensor:
    """Return ``[B]`` bool, which graphs have exactly one connected component; one without nodes has none.

    Example:
        >>> import networkx as nx
        >>> connected(GraphBatch.from_networkx([nx.path_graph(3), nx.empty_graph(2), nx.Graph()])).tolist()
        [True, False, False]
    """
    source, target = torch.cat([graphs.edge_index, graphs.edge_index.flip(0)], 1)
    number = torch.arange(graphs.num_nodes, device=source.device)
    root = number
    while True:
        least = torch.minimum(root[source], root[target])
        new = root.scatter_reduce(0, root[source], least, "amin")
        new = new.scatter_reduce(0, source, least, "amin")
        new = new[new]
        if bool((new == root).all()):
            break
        root = new
    components = torch.zeros_like(graphs.ptr[1:]).index_add_(0, graphs.node_graph(), (root == number).long())
    return components == 1


def _trees(graphs: GraphBatch) -> Tensor:
    owner = graphs.node_graph()[graphs.pairs()[0][0]]
    edges = torch.bincount(owner, minlength=graphs.num_graphs)
    return connected(graphs) & (edges == graphs.node_counts() - 1)


def _lobsters(graphs: GraphBatch) -> Tensor:
    pairs, owner = graphs.pairs()[0], graphs.node_graph()
    left = torch.ones_like(owner, dtype=torch.bool)
    for _ in range(2):
        left = left & (_degree(pairs, left) != 1)
    branches = torch.bincount(owner[left & (_degree(pairs, left) > 2)], minlength=graphs.num_graphs)
    return _trees(graphs) & (branches == 0)


def _degree(pairs: Tensor, left: Tensor) -> Tensor:
    """Return ``[N]`` int64, the number of edges of each node whose both ends are left."""
    ends = pairs[:, left[pairs].all(0)]
    return torch.bincount(ends.flatten(), minlength=left.numel())


def _planar(graph: GraphBatch) -> bool:
    import networkx as nx

    pairs = graph.pairs()[0]
    pairs = pairs[:, pairs[0] != pairs[1]]
    if pairs.size(1) > max(3 * graph.num_nodes - 6, graph.num_nodes):  # Euler's bound, from 3 nodes on
        return False
    plain = nx.Graph(pairs.t().tolist())
    return bool(nx.check_planarity(plain)[0])


def _block_model(graph: GraphBatch) -> bool:
    return sbm_test(graph).valid
