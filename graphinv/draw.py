"""A page of graphs as one self-contained SVG: nodes coloured by type, laid out by springs.

Springs (networkx) start from the two slowest modes of the Laplacian, so that grids and trees unfold. Molecules have
their own drawing in ``graphinv.mol``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphinv._files import atomic_path
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch

__all__ = ["graph_grid"]

_PANEL, _MARGIN, _CAPTION = 200, 14, 18  # pixels
_SPRING_NODES = 499  # networkx takes another, scipy-based route from 500 nodes on
_MOST_NODES = 2000  # a panel has 40,000 pixels, and the Laplacian of 2,000 nodes takes a second
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000")  # Okabe and Ito


def graph_grid(batch: GraphBatch, path: str | os.PathLike[str], limit: int = 36, columns: int = 6) -> None:
    """Draw the first ``limit`` graphs, row by row, to an .svg file; on one machine the same graphs give the same file.

    Node type k has colour k of eight, which repeat; edges are drawn once whatever their type. Graphs of 500 nodes and
    more are laid out by the Laplacian alone. A graph without nodes is an empty panel.

    Raises:
        InputError: another suffix, nothing to draw, features where node types belong, or over 2,000 nodes in a graph.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "page.svg"
        >>> graph_grid(GraphBatch.single(torch.tensor([0, 1]), torch.tensor([[0, 1], [1, 0]])), file)
        >>> file.read_text().count("<circle"), file.read_text().count("<line")
        (2, 1)
    """
    if Path(path).suffix.lower() != ".svg":
        raise InputError(f"expected an .svg file to draw to, got {os.fspath(path)!r}")
    shown = min(batch.num_graphs, limit)
    if shown < 1 or columns < 1:
        raise InputError(f"nothing to draw: {batch.num_graphs} graphs, limit={limit}, columns={columns}")
    if batch.x.dim() != 1 or batch.x.is_floating_point():
        raise InputError(f"colours need integer node types [N], got {batch.x.dtype} {list(batch.x.shape)}")
    most = int(batch.node_counts()[:shown].max())
    if most > _MOST_NODES:
        raise InputError(f"graphs of up to {_MOST_NODES:,} nodes are drawn, one has {most:,}; draw a smaller selection")
    columns = min(columns, shown)
    width, height = columns * _PANEL, -(-shown // columns) * (_PANEL + _CAPTION)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for k, graph in enumerate(batch.select(range(shown)).to_networkx()):
        left, top = k % columns * _PANEL, k // columns * (_PANEL + _CAPTION)
        parts += [f'<g transform="translate({left} {top})">', *_panel(graph), "</g>"]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def _panel(graph: Any) -> list[str]:
    """SVG elements of one graph: links below, nodes above, its size underneath."""
    place = [f"{x:.1f} {y:.1f}".split() for x, y in _fitted(_layout(graph)).tolist()]
    radius = min(5.0, max(1.5, 28 / max(len(graph), 1) ** 0.5))
    lines = []
    for u, v in graph.edges:
        (x1, y1), (x2, y2) = place[u], place[v]
        lines.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    dots = [
        f'<circle cx="{x}" cy="{y}" r="{radius:.1f}" fill="{_COLOURS[int(kind) % len(_COLOURS)]}"/>'
        for (x, y), (_, kind) in zip(place, graph.nodes(data="x"), strict=True)
    ]
    text = f"{graph.number_of_nodes()} nodes, {graph.number_of_edges()} edges"
    caption = (
        f'<text x="{_PANEL // 2}" y="{_PANEL + 8}" text-anchor="middle" font-family="sans-serif" font-size="11" '
        f'fill="#555555">{text}</text>'
    )
    return [
        f'<g stroke="#8c8c8c" stroke-width="{min(1.2, radius / 3):.2f}">', *lines, "</g>",
        '<g stroke="#ffffff" stroke-width="0.6">', *dots, "</g>", caption,
    ]  # fmt: skip


def _layout(graph: Any) -> Tensor:
    """Positions ``[n, 2]``; parts that are not connected hang on one invisible node, else they would drift apart."""
    import networkx as nx

    nodes = len(graph)
    parts = [max(part, key=graph.degree) for part in nx.connected_components(graph)]
    tied = nx.Graph()
    tied.add_nodes_from(range(nodes))
    tied.add_edges_from(graph.edges)
    if len(parts) > 1:
        tied.add_edges_from((nodes, node) for node in parts)
    start = _slow_modes(tied)
    if not 1 < nodes < _SPRING_NODES:
        return start[:nodes]
    placed = nx.spring_layout(tied, pos=dict(enumerate(start.tolist())), iterations=60, seed=0)
    return torch.tensor([[float(value) for value in placed[node]] for node in range(nodes)], dtype=torch.float64)


def _slow_modes(graph: Any) -> Tensor:
    """Eigenvectors 1 and 2 of the Laplacian ``[n, 2]``, slightly shaken: nodes that are alike would coincide."""
    nodes = len(graph)
    laplacian = torch.zeros(nodes, nodes, dtype=torch.float64)
    for u, v in graph.edges:
        laplacian[u, v] = laplacian[v, u] = -1.0
    laplacian.fill_diagonal_(0.0)
    laplacian -= torch.diag(laplacian.sum(1))
    modes = torch.zeros(nodes, 2, dtype=torch.float64)
    if nodes:
        found = torch.linalg.eigh(laplacian).eigenvectors[:, 1:3]
        modes[:, : found.size(1)] = found * nodes**0.5
    return modes + 0.1 * torch.rand(nodes, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _fitted(place: Tensor) -> Tensor:
    """Positions moved and scaled, with one factor for both axes, to the middle of a panel in pixels."""
    if not place.size(0):
        return place
    low, high = place.amin(0), place.amax(0)
    scale = (_PANEL - 2 * _MARGIN) / (high - low).max().clamp_min(1e-9)
    return (place - (low + high) / 2) * scale + _PANEL / 2
