"""Six graph properties learned at once by one message passing network, with only the aggregator exchanged.

After the multi-task benchmark of principal neighbourhood aggregation (PNA, arXiv:2004.05718): random graphs of ten
families with some edges toggled. Node targets are the distance from a source node, eccentricity and the Laplacian
times a random feature; graph targets are connected or not, diameter and spectral radius. Each is divided by its
largest size in training; the score is log10 of the mean squared error. Between unconnected nodes there is no path:
the distance from the source is then -1, and eccentricity and diameter are the longest of the paths there are.
"""

from __future__ import annotations

import copy
import random
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn
from torch_geometric.utils import scatter

from graphinv.aggr import batch_consistency_error, invariance_error

from .models import AGGREGATORS, Training, count_parameters, finite, fit, match_width, result_width

NODE_TARGETS = ("sssp", "eccentricity", "laplacian")
GRAPH_TARGETS = ("connected", "diameter", "spectral_radius")
FAMILIES = {  # share of each, as in PNA
    "erdos_renyi": 0.2,
    "barabasi_albert": 0.2,
    "grid": 0.05,
    "caveman": 0.05,
    "tree": 0.15,
    "ladder": 0.05,
    "line": 0.05,
    "star": 0.05,
    "caterpillar": 0.1,
    "lobster": 0.1,
}
TOGGLED = 0.1  # expected share of the edges that are removed; as many are added


@dataclass(frozen=True)
class PnaRun:
    """One training: of an aggregator and a seed, with every setting that moves its result.

    Attributes:
        params: parameters of the model, from which its width follows; 0 takes ``hidden`` as it is.
        rounds: of message passing, with shared weights.
        sizes: (least, most) nodes of training, validation and test graphs.
        extrapolate: further (least, most) nodes of test graphs.
        evaluate_every: steps between validations; the weights of the best one are tested.
        patience: steps without a better validation after which training ends.
    """

    task: str
    aggregator: str
    seed: int
    training: Training
    params: int = 0
    hidden: int = 16
    rounds: int = 8
    train_graphs: int = 512
    val_graphs: int = 128
    test_graphs: int = 256
    sizes: tuple[int, int] = (15, 24)
    extrapolate: tuple[tuple[int, int], ...] = ((25, 30), (45, 50))
    evaluate_every: int = 20
    patience: int = 200
    data_seed: int = 1234


@dataclass(frozen=True)
class Graphs:
    """Graphs side by side: ``x`` [N, 2] feature and source mark, ``edges`` [2, E] source and target in order of target.

    ``node_targets`` [N, 3], ``graph_targets`` [G, 3], ``graph`` [N] of each node.
    """

    x: Tensor
    edges: Tensor
    graph: Tensor
    node_targets: Tensor
    graph_targets: Tensor


def draw_graph(size: int, rng: random.Random) -> Tensor:
    """Return a random symmetric adjacency matrix [n, n], n = size, in which every node has an edge."""
    family = rng.choices(list(FAMILIES), weights=list(FAMILIES.values()))[0]
    order = list(range(size))
    rng.shuffle(order)
    graph = nx.relabel_nodes(_family(family, size, rng), dict(enumerate(order)))
    adjacency = torch.from_numpy(nx.to_numpy_array(graph, nodelist=range(size))).bool()
    adjacency.fill_diagonal_(False)
    free = size * (size - 1) // 2 - int(adjacency.sum()) // 2
    add = TOGGLED * (int(adjacency.sum()) // 2) / max(free, 1)
    for i in range(size):
        for j in range(i):
            if rng.random() < (TOGGLED if adjacency[i, j] else add):
                adjacency[i, j] = adjacency[j, i] = ~adjacency[i, j]
    for i in range(size):
        if not adjacency[i].any():
            j = rng.choice([k for k in range(size) if k != i])
            adjacency[i, j] = adjacency[j, i] = True
    return adjacency


def _family(family: str, size: int, rng: random.Random) -> nx.Graph:
    seed = rng.randrange(2**31)
    if family == "erdos_renyi":
        return nx.fast_gnp_random_graph(size, rng.uniform(0.1, 0.5), seed=seed)
    if family == "barabasi_albert":
        return nx.barabasi_albert_graph(size, rng.randint(1, size // 4), seed=seed)
    if family == "tree":
        # Attachment by degree with one edge each gives a tree with a power law of degrees.
        return nx.barabasi_albert_graph(size, 1, seed=seed)
    if family == "star":
        return nx.star_graph(size - 1)
    if family in ("caterpillar", "lobster"):
        return _hairy_line(size, 1 if family == "caterpillar" else 2, rng)
    if family == "caveman":
        clique = rng.randint(3, 5)
        return _first_nodes(nx.connected_caveman_graph(-(-size // clique), clique), size)
    rows = {"line": 1, "ladder": 2, "grid": rng.randint(3, 4)}[family]
    grid = nx.convert_node_labels_to_integers(nx.grid_2d_graph(-(-size // rows), rows), ordering="sorted")
    return _first_nodes(grid, size)


def _first_nodes(graph: nx.Graph, size: int) -> nx.Graph:
    return nx.Graph(graph.subgraph(range(size)))


def _hairy_line(size: int, reach: int, rng: random.Random) -> nx.Graph:
    """Return a tree of which every node is within ``reach`` edges of one path, of a third to two thirds of it."""
    spine = rng.randint(size // 3, 2 * size // 3)
    graph = nx.path_graph(spine)
    depth = dict.fromkeys(range(spine), 0)
    for node in range(spine, size):
        parent = rng.choice([other for other, far in depth.items() if far < reach])
        graph.add_edge(node, parent)
        depth[node] = depth[parent] + 1
    return graph


def distances(adjacency: Tensor) -> Tensor:
    """Return the edges of the shortest path between each two nodes [n, n]; -1 where there is none."""
    reached = torch.eye(len(adjacency), dtype=torch.bool)
    frontier, far, edges = reached, adjacency.new_full(adjacency.shape, -1, dtype=torch.int64), 0
    while frontier.any():
        far[frontier] = edges
        frontier = ((frontier.float() @ adjacency.float()) > 0) & ~reached
        reached = reached | frontier
        edges += 1
    return far


def targets(adjacency: Tensor, source: int, feature: Tensor) -> tuple[Tensor, Tensor]:
    """Return the node targets [n, 3] and the graph targets [3] in the order of their names; not yet divided."""
    far = distances(adjacency)
    dense = adjacency.to(feature.dtype)
    laplacian = dense.sum(1) * feature - dense @ feature
    node = torch.stack([far[source].to(feature.dtype), far.amax(1).to(feature.dtype), laplacian], 1)
    radius = torch.linalg.eigvalsh(dense).abs().max()
    graph = torch.stack([(far >= 0).all().to(feature.dtype), far.max().to(feature.dtype), radius])
    return node, graph


def draw_graphs(number: int, sizes: tuple[int, int], seed: int) -> Graphs:
    """Return random graphs side by side, targets not yet divided."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    parts: list[tuple[Tensor, ...]] = []
    num_nodes = 0
    for k in range(number):
        adjacency = draw_graph(rng.randint(*sizes), rng)
        size = len(adjacency)
        source, feature = rng.randrange(size), torch.rand(size, generator=generator)
        x = torch.stack([feature, (torch.arange(size) == source).float()], 1)
        edges = adjacency.nonzero().flip(1) + num_nodes
        parts.append((x, edges, torch.full((size,), k), *targets(adjacency, source, feature)))
        num_nodes += size
    x, edges, graph, node = (torch.cat(part) for part in list(zip(*parts, strict=True))[:4])
    return Graphs(x, edges.T.contiguous(), graph, node, torch.stack([part[4] for part in parts]))


@lru_cache(maxsize=8)
def load(run_sizes: tuple[tuple[int, tuple[int, int]], ...], batch_size: int, seed: int) -> tuple[list[Graphs], ...]:
    """Return batches of each (number, sizes), targets divided by their largest size in the first of them."""
    sets = [_batches(number, sizes, batch_size, 1000 * seed + k) for k, (number, sizes) in enumerate(run_sizes)]
    node_scale = torch.cat([g.node_targets for g in sets[0]]).abs().amax(0)
    graph_scale = torch.cat([g.graph_targets for g in sets[0]]).abs().amax(0).clamp(min=1e-6)
    return tuple(
        [Graphs(g.x, g.edges, g.graph, g.node_targets / node_scale, g.graph_targets / graph_scale) for g in batches]
        for batches in sets
    )


def _batches(number: int, sizes: tuple[int, int], batch_size: int, seed: int) -> list[Graphs]:
    counts = [min(batch_size, number - start) for start in range(0, number, batch_size)]
    return [draw_graphs(count, sizes, seed * 1000 + k) for k, count in enumerate(counts)]


class GraphModel(nn.Module):
    """Rounds of h_i <- GRU(aggregate_j M(h_i, h_j), h_i) with shared weights; mean and max over nodes as readout."""

    def __init__(self, aggregator: str, width: int, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.encoder = nn.Linear(2, width)
        self.message = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))
        self.aggregator = AGGREGATORS[aggregator](width)
        self.update = nn.GRUCell(result_width(aggregator, width), width)
        self.node_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))
        self.graph_head = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 3))

    def messages(self, h: Tensor, edges: Tensor) -> Tensor:
        return self.message(torch.cat([h[edges[1]], h[edges[0]]], 1))

    def forward(self, graphs: Graphs, edges: Tensor) -> tuple[Tensor, Tensor]:
        h, num_nodes = self.encoder(graphs.x), len(graphs.x)
        for _ in range(self.rounds):
            h = self.update(self.aggregator(self.messages(h, edges), edges[1], dim_size=num_nodes), h)
        pooled = [scatter(h, graphs.graph, 0, len(graphs.graph_targets), reduce) for reduce in ("mean", "max")]
        return self.node_head(h), self.graph_head(torch.cat(pooled, 1))


def squared_errors(model: GraphModel, graphs: Graphs, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared errors [N, 3] of the nodes and [G, 3] of the graphs."""
    node, graph = model(graphs, edges)
    return (node - graphs.node_targets).square(), (graph - graphs.graph_targets).square()


@torch.no_grad()
def scores(model: GraphModel, batches: list[Graphs]) -> dict[str, float]:
    """Return log10 of the mean squared error of each target, and the mean of the six."""
    model.eval()
    errors = [squared_errors(model, g, g.edges) for g in batches]
    model.train()
    values = torch.cat([torch.cat(part).mean(0) for part in zip(*errors, strict=True)]).log10()
    return dict(zip((*NODE_TARGETS, *GRAPH_TARGETS, "mean"), [*values.tolist(), float(values.mean())], strict=True))


def train_and_test(run: PnaRun) -> dict[str, Any]:
    """Return what the JSON line says of the run: test figures are those of the weights best in validation."""
    counts = ((run.train_graphs, run.sizes), (run.val_graphs, run.sizes), (run.test_graphs, run.sizes))
    further = tuple((max(run.test_graphs // 4, 1), sizes) for sizes in run.extrapolate)
    train, val, *tests = load((*counts, *further), run.training.batch_size, run.data_seed)

    def build(width: int) -> GraphModel:
        return GraphModel(run.aggregator, width, run.rounds)

    width = match_width(build, run.params) if run.params else run.hidden
    torch.manual_seed(run.seed)
    model = build(width)
    generator = torch.Generator().manual_seed(run.seed)
    best: list[Any] = [float("inf"), 0, copy.deepcopy(model.state_dict())]

    def loss() -> Tensor:
        graphs = train[int(torch.randint(len(train), (), generator=generator))]
        edges = shuffled(graphs.edges, generator)  # neighbours have no order
        return sum(part.mean() for part in squared_errors(model, graphs, edges)) / 2

    def after_step(step: int) -> bool:
        if step % run.evaluate_every == 0 or step == run.training.steps:
            score = scores(model, val)["mean"]
            if score < best[0]:
                best[:] = score, step, copy.deepcopy(model.state_dict())
        return step - best[1] >= run.patience

    start = time.perf_counter()
    fit(model, loss, run.training, run.aggregator, after_step)
    train_s = time.perf_counter() - start
    model.load_state_dict(best[2])
    names = [f"{low}-{high}" for low, high in (run.sizes, *run.extrapolate)]
    results = {name: scores(model, batches) for name, batches in zip(names, tests, strict=True)}
    return {
        "params": count_parameters(model),
        "hidden": width,
        "train_s": round(train_s, 2),
        "best_step": best[1],
        "log10_mse": {name: {key: finite(value) for key, value in row.items()} for name, row in results.items()},
        **message_errors(model, tests[0][0]),
    }


def shuffled(edges: Tensor, generator: torch.Generator) -> Tensor:
    """Return the edges [2, E] in order of target still, those of one target in random order."""
    edges = edges[:, torch.randperm(edges.shape[1], generator=generator)]
    return edges[:, torch.sort(edges[1], stable=True).indices]


@torch.no_grad()
def message_errors(model: GraphModel, graphs: Graphs) -> dict[str, float | None]:
    """Return both errors of the trained aggregator on the messages of the first round."""
    model.eval()
    x, index = model.messages(model.encoder(graphs.x), graphs.edges), graphs.edges[1].contiguous()
    invariance = invariance_error(model.aggregator, x, index, permutations=20)
    consistency = batch_consistency_error(model.aggregator, x, index)
    return {"invariance_error": finite(invariance), "batch_consistency_error": finite(consistency)}
