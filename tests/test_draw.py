"""A page of graphs: well-formed SVG with every node and link in its panel, the same for the same graphs."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import networkx as nx
import pytest
import torch

from graphinv.draw import graph_grid
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch

SVG = "{http://www.w3.org/2000/svg}"
GRAPHS = {
    "empty": nx.Graph(),
    "one": nx.empty_graph(1),
    "two apart": nx.empty_graph(2),
    "pair": nx.path_graph(2),
    "isolated": nx.disjoint_union(nx.cycle_graph(5), nx.empty_graph(4)),
    "star": nx.star_graph(8),
    "loop": nx.Graph([(0, 0), (0, 1)]),
    "grid": nx.convert_node_labels_to_integers(nx.grid_2d_graph(5, 6)),
    "huge": nx.path_graph(505),
}


def drawn(graphs: list[nx.Graph], folder: Path, **options: int) -> ElementTree.Element:
    graph_grid(GraphBatch.from_networkx(graphs), folder / "page.svg", **options)
    return ElementTree.parse(folder / "page.svg").getroot()


def panels(page: ElementTree.Element) -> list[ElementTree.Element]:
    return page.findall(f"{SVG}g")


@pytest.mark.parametrize("name", GRAPHS)
def test_every_node_is_apart_from_the_others_and_inside_the_panel(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]
    (panel,) = panels(drawn([graph], tmp_path))
    dots = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in panel.iter(f"{SVG}circle")]
    assert len(dots) == len(graph) and len(list(panel.iter(f"{SVG}line"))) == graph.number_of_edges()
    assert all(0 < x < 200 and 0 < y < 200 for x, y in dots)
    if 1 < len(graph) < 100:
        gaps = torch.pdist(torch.tensor(dots))
        assert float(gaps.min()) > 3, f"nodes {float(gaps.min()):.2f} pixels apart"
    assert f"{len(graph)} nodes" in str(next(panel.iter(f"{SVG}text")).text)


def test_the_same_graphs_give_the_same_file_and_the_limit_holds(tmp_path: Path) -> None:
    page = drawn([nx.cycle_graph(5)] * 9, tmp_path, limit=7, columns=3)
    assert len(panels(page)) == 7 and (page.attrib["width"], page.attrib["height"]) == ("600", "654")
    first = (tmp_path / "page.svg").read_bytes()
    state = torch.random.get_rng_state()
    drawn([nx.cycle_graph(5)] * 9, tmp_path, limit=7, columns=3)
    assert (tmp_path / "page.svg").read_bytes() == first and torch.equal(state, torch.random.get_rng_state())
    assert [p.name for p in tmp_path.iterdir()] == ["page.svg"]


def test_node_types_have_colours_of_their_own(tmp_path: Path) -> None:
    graph = nx.path_graph(9)
    nx.set_node_attributes(graph, {i: i for i in range(9)}, "x")
    colours = [c.attrib["fill"] for c in drawn([graph], tmp_path).iter(f"{SVG}circle")]
    assert len(set(colours[:8])) == 8 and colours[8] == colours[0]


def test_what_cannot_be_drawn_is_an_error_without_a_file(tmp_path: Path) -> None:
    batch = GraphBatch.from_networkx([nx.path_graph(3)])
    features = GraphBatch.single(torch.zeros(3, 2), batch.edge_index)
    for wrong, name, limit, message in (
        (batch, "a.png", 36, r"\.svg"),
        (batch, "a.svg", 0, "nothing to draw"),
        (batch.select([]), "a.svg", 36, "nothing to draw"),
        (features, "a.svg", 36, "node types"),
        (GraphBatch.from_networkx([nx.empty_graph(2001)]), "a.svg", 36, "up to 2,000 nodes"),
    ):
        with pytest.raises(InputError, match=message):
            graph_grid(wrong, tmp_path / name, limit)
    assert not list(tmp_path.iterdir())
