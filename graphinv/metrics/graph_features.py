"""Descriptors of plain graphs, one row per graph: histograms of degrees, clustering, spectra, wavelets; orbit means.

Of a graph only who is linked to whom is read. Every function takes a packed batch of simple undirected graphs and
returns [B, D] float64; a graph without nodes has no descriptor and is refused, one without edges has all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.orbits import orbit_counts
from graphinv.ops import ptr_to_index

__all__ = [
    "clustering_histograms",
    "degree_histograms",
    "orbit_means",
    "spectral_histograms",
    "wavelet_histograms",
]

_ENTRIES = 2**22  # numbers of one intermediate tensor

# The filter bank of the "wavelet" descriptor: cubic spline wavelets (arXiv:0912.3848, section 8.1) at 11 scales for
# a spectrum in [0, 2] whose lower end is taken as 2 / 20, and a scaling function as high as the wavelets' peak.
_SCALES = torch.linspace(math.log(20.0), math.log(0.5), 11, dtype=torch.float64).exp()
_PEAK = 1 + 2 / (3 * math.sqrt(3))
_CUTOFF = 0.6 * 2 / 20


def degree_histograms(graphs: GraphBatch) -> Tensor:
    """Return the share of nodes of each degree, [B, largest degree + 1].

    Raises:
        InputError: a graph without nodes; self loops; edges that repeat, leave their graph or have one direction only.

    Example:
        >>> path = GraphBatch.single(torch.zeros(3), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
        >>> degree_histograms(path).mul(3).tolist()
        [[0.0, 2.0, 1.0]]
    """
    _check(graphs)
    degree = torch.bincount(graphs.edge_index[0], minlength=graphs.num_nodes)
    width = int(degree.max()) + 1 if graphs.num_nodes else 1
    flat = torch.bincount(graphs.node_graph() * width + degree, minlength=graphs.num_graphs * width)
    return flat.view(-1, width).double() / graphs.node_counts()[:, None]


def clustering_histograms(graphs: GraphBatch, bins: int = 100) -> Tensor:
    """Return the share of nodes by clustering coefficient, [B, bins] over [0, 1]; a node of degree 0 or 1 has 0.

    Bins hold their lower edge, the last its upper too, to the last digit as ``numpy.histogram`` places them: small
    fractions lie on the edges.

    Raises:
        InputError: as `degree_histograms`, or no bins.

    Example:
        >>> triangle = GraphBatch.single(torch.zeros(3), torch.tensor([[0, 1, 1, 2, 0, 2], [1, 0, 2, 1, 2, 0]]))
        >>> clustering_histograms(triangle, bins=4).tolist()
        [[0.0, 0.0, 0.0, 1.0]]
    """
    _check(graphs)
    degree = torch.bincount(graphs.edge_index[0], minlength=graphs.num_nodes)
    triangles = orbit_counts(graphs)[:, 3]
    coefficients = torch.where(triangles > 0, (2 * triangles).double() / (degree * (degree - 1)), 0.0)
    return _normalised(_histograms(coefficients, graphs.node_graph(), graphs.num_graphs, (0.0, 1.0), bins))


def orbit_means(graphs: GraphBatch) -> Tensor:
    """Return how often a node is in each orbit of the connected graphs of 2 to 4 nodes, mean over nodes, [B, 15].

    Orbits are numbered as by Przulj (Bioinformatics 23, 2007): 0 is the degree, 14 the complete graph of 4 nodes.

    Raises:
        InputError: as `degree_histograms`.

    Example:
        >>> edge = GraphBatch.single(torch.zeros(2), torch.tensor([[0, 1], [1, 0]]))
        >>> orbit_means(edge)[0, :3].tolist()
        [1.0, 0.0, 0.0]
    """
    _check(graphs)
    totals = torch.zeros(graphs.num_graphs, 15, dtype=torch.float64)
    totals.index_add_(0, graphs.node_graph(), orbit_counts(graphs).double())
    return totals / graphs.node_counts()[:, None]


def spectral_histograms(graphs: GraphBatch, bins: int = 200) -> Tensor:
    """Return the share of eigenvalues of the normalised Laplacian, [B, bins] over [-1e-5, 2].

    Eigenvalues beyond 2 by rounding count as 2, as those of bipartite graphs can be. Isolated nodes have eigenvalue 0.

    Raises:
        InputError: as `degree_histograms`, or no bins.

    Example:
        >>> edge = GraphBatch.single(torch.zeros(2), torch.tensor([[0, 1], [1, 0]]))
        >>> spectral_histograms(edge, bins=4).tolist()
        [[0.5, 0.0, 0.0, 0.5]]
    """
    _check(graphs)
    counts = torch.zeros(graphs.num_graphs, bins, dtype=torch.float64)
    for index, laplacian in _laplacians(graphs):
        values = torch.linalg.eigvalsh(laplacian).clamp(max=2.0)
        owner = torch.arange(len(index)).repeat_interleave(values.size(1))
        counts[index] = _histograms(values.flatten(), owner, len(index), (-1e-5, 2.0), bins)
    return _normalised(counts)


def wavelet_histograms(graphs: GraphBatch, bins: int = 100) -> Tensor:
    """Return the shares of squared responses to 12 spectral graph wavelets, [B, 12 bins] (arXiv:2204.01613).

    Row f of ``bins`` values is of g_f(L), L the normalised Laplacian: the squared length of its row at each node,
    over [0, 1.3849], the filters' peak; longer rows of the first filter, of nodes that hardly belong to the rest of
    their graph, are left out.

    Raises:
        InputError: as `degree_histograms`, or no bins.

    Example:
        >>> edge = GraphBatch.single(torch.zeros(2), torch.tensor([[0, 1], [1, 0]]))
        >>> wavelet_histograms(edge, bins=2).shape, round(float(wavelet_histograms(edge, bins=2).sum()), 6)
        (torch.Size([1, 24]), 1.0)
    """
    _check(graphs)
    counts = torch.zeros(graphs.num_graphs, (len(_SCALES) + 1) * bins, dtype=torch.float64)
    for index, laplacian in _laplacians(graphs):
        values, vectors = torch.linalg.eigh(laplacian)
        lengths = vectors.square() @ _filters(values).square()
        number = len(index) * lengths.size(2)
        owner = torch.arange(number).view(-1, 1, lengths.size(2)).expand_as(lengths).reshape(-1)
        counts[index] = _histograms(lengths.flatten(), owner, number, (0.0, _PEAK), bins).view(len(index), -1)
    return _normalised(counts)


def _filters(values: Tensor) -> Tensor:
    """Responses [..., 12] of the filter bank at eigenvalues [...]."""
    x = values.unsqueeze(-1) * _SCALES
    spline = ((x - 6) * x + 11) * x - 5  # joins x^2 at 1 and 4 / x^2 at 2, with their slopes
    band = torch.where(x < 1, x.square(), torch.where(x < 2, spline, 4 / x.square()))
    return torch.cat([_PEAK * torch.exp(-((values / _CUTOFF) ** 4)).unsqueeze(-1), band], -1)


def _laplacians(graphs: GraphBatch) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the numbers [b] and normalised Laplacians [b, n, n] of graphs of n nodes, some at a time."""
    counts = graphs.node_counts()
    for n in torch.unique(counts).tolist():
        for index in torch.split((counts == n).nonzero().flatten(), max(1, _ENTRIES // n**2)):
            part = graphs.select(index)
            owner = ptr_to_index(part.edge_ptr)
            u, v = part.edge_index - part.ptr[owner]
            adjacency = torch.zeros(len(index), n, n, dtype=torch.float64)
            adjacency[owner, u, v] = 1.0
            degree = adjacency.sum(-1)
            scale = torch.where(degree > 0, degree.rsqrt(), 0.0)
            scaled = scale.unsqueeze(-1) * adjacency * scale.unsqueeze(-2)
            yield index, torch.diag_embed((degree > 0).double()) - scaled


def _histograms(values: Tensor, owner: Tensor, rows: int, span: tuple[float, float], bins: int) -> Tensor:
    """Counts [rows, bins] of values [n] of rows ``owner`` [n]; those outside of the span are left out."""
    if bins < 1:
        raise InputError(f"a histogram needs at least 1 bin, got {bins}")
    low, high = span
    # These products are numpy's edges to the last digit; torch.linspace rounds otherwise.
    edges = torch.arange(bins + 1, dtype=torch.float64) * ((high - low) / bins) + low
    edges[-1] = high
    inside = (values >= low) & (values <= high)
    place = (torch.bucketize(values[inside], edges, right=True) - 1).clamp(max=bins - 1)
    return torch.bincount(owner[inside] * bins + place, minlength=rows * bins).view(rows, bins).double()


def _normalised(counts: Tensor) -> Tensor:
    return counts / counts.sum(1, keepdim=True)


def _check(graphs: GraphBatch) -> None:
    """Check that the graphs are simple, undirected and not empty."""
    empty = (graphs.node_counts() == 0).nonzero().flatten().tolist()
    if empty:
        raise InputError(f"graph {empty[0]} has no nodes and so no descriptor; leave out such graphs ({len(empty)})")
    u, v = graphs.edge_index
    owner, graph = ptr_to_index(graphs.edge_ptr), graphs.node_graph()
    if bool(((graph[u] != owner) | (graph[v] != owner)).any()):
        raise InputError("an edge leaves its graph; edges must be grouped by graph")
    if bool((u == v).any()):
        raise InputError(f"graph {int(owner[u == v][0])} has a self loop; remove self loops first")
    pairs = torch.unique(u * graphs.num_nodes + v)
    if len(pairs) != graphs.num_edges:
        raise InputError(f"{graphs.num_edges - len(pairs)} edges are repeated; hold one per pair and direction")
    if not torch.equal(pairs, torch.unique(v * graphs.num_nodes + u)):
        raise InputError("an edge is held in one direction only; undirected graphs hold both")
