"""Plain graphs under a protocol: valid, distinct and new ones, distances to a reference with floors, distributions.

Two graphs are the same if they are isomorphic, tested exactly; a search that reaches its limit is counted and said.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.comparison import rate
from graphinv.metrics.distance import Distance, Floor, Undefined, figure
from graphinv.metrics.graph_distances import GraphSet, graph_floor, ratio
from graphinv.metrics.graph_features import clustering_histograms, degree_histograms, spectral_histograms
from graphinv.metrics.graph_validity import connected, valid_graphs
from graphinv.metrics.inputs import without_isolated
from graphinv.metrics.isomorphism import isomorphism_classes, matches

if TYPE_CHECKING:
    from graphinv.metrics.protocols import GraphProtocol

__all__ = ["judge_graphs"]

DEFINITIONS = {
    "samples": "all samples, the denominator of connected, valid, unique and vun",
    "connected": "one component, at least one node",
    "valid": "of the family: planar, tree and lobster ask for connected graphs; sbm for block sizes, numbers and "
    "densities that a test cannot tell from the generator's",
    "train_valid": "valid, of up to 200 training graphs: what the data itself reaches",
    "unique": "classes of isomorphic graphs, over all samples",
    "novel": "samples isomorphic to no training graph, over all samples",
    "vun": "samples that are valid, new, and the first of their class",
    "interval": "low and high: of a rate the 95% Wilson score interval; of a distance the 95% bootstrap over samples",
    "floor": "what training graphs score in place of samples; draws: as many of them as there are "
    "samples, several times",
}
_EXAMPLES = 6
_FEW = 500  # graphs of which a draw costs next to nothing
_TRAIN_VALID = 200  # training graphs whose validity is looked at
_FLOOR_DRAWS = 20  # of training subsets: the spread over 5 is as large as their mean on small sets


def judge_graphs(
    samples: GraphBatch,
    test: GraphBatch | None,
    train: GraphBatch | None,
    protocol: GraphProtocol | None,
    *,
    family: str | None = None,
    repeats: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Return the report of plain graphs: counts, and under a protocol distances, their floors and their ratio.

    Args:
        samples: B graphs without self loops and types.
        test: graphs that distances compare with.
        train: graphs that novelty is counted against, and that give the floors.
        family: "planar", "tree", "lobster" or "sbm": what a valid graph is.

    Raises:
        InputError: the protocol needs graphs that are not given, or the family is unknown.

    Example:
        >>> import networkx as nx
        >>> graphs = GraphBatch.from_networkx([nx.path_graph(3), nx.path_graph(3), nx.complete_graph(5)])
        >>> report = judge_graphs(graphs, None, graphs, None, family="planar")
        >>> report["unique"]["count"], report["valid"]["count"], report["vun"]["count"]
        (2, 2, 0)
    """
    report = _counts(samples, train, family, progress)
    if protocol is not None and test is None:
        raise InputError("a protocol compares with test graphs, and there are none; give reference")
    warnings: list[str] = report["warnings"]
    ours = _with_nodes(samples, "samples", warnings)
    test, train = (_with_nodes(x, name, warnings) for x, name in ((test, "test"), (train, "train")))
    if protocol is not None:
        report["distances"] = {}
        if ours is None or test is None:
            warnings.append("no distances: no sample, or no test graph, has a node")
        else:
            compared = _compare(ours, test, train, protocol, repeats, seed, progress)
            report |= compared | {"warnings": warnings + compared["warnings"]}
    reference = test if test is not None else train
    if reference is not None and ours is not None:
        report["distributions"] = _distributions(ours, reference)
    return report | {"family": family, "definitions": DEFINITIONS}


def _with_nodes(graphs: GraphBatch | None, name: str, warnings: list[str]) -> GraphBatch | None:
    """The graphs that have nodes, None if there is none; the others are said."""
    if graphs is None:
        return None
    index = (graphs.node_counts() > 0).nonzero().flatten()
    if len(index) < graphs.num_graphs:
        empty = graphs.num_graphs - len(index)
        warnings.append(f"{name}: {empty:,} graphs have no nodes and are left out of distances")
    return graphs.select(index) if len(index) else None


def _counts(samples: GraphBatch, train: GraphBatch | None, family: str | None, progress: bool) -> dict[str, Any]:
    total = samples.num_graphs
    classes = isomorphism_classes(samples, progress=progress)
    seen = torch.cummax(torch.cat([classes.label.new_full((1,), -1), classes.label]), 0).values
    first = classes.label > seen[:-1]  # classes are numbered as they first occur
    joined = connected(samples)
    undecided, warnings = classes.undecided, []
    report: dict[str, Any] = {"samples": total, "connected": rate(int(joined.sum()), total)}
    good = torch.ones(total, dtype=torch.bool) if family is None else valid_graphs(samples, family, progress)
    report["valid"] = None if family is None else rate(int(good.sum()), total)
    report["train_valid"] = None
    if family is not None and train is not None:
        own = train.select(range(min(train.num_graphs, _TRAIN_VALID)))
        report["train_valid"] = rate(int(valid_graphs(own, family, progress).sum()), own.num_graphs)
    report["unique"] = rate(int(first.sum()), total)
    new = torch.ones(total, dtype=torch.bool)
    if train is not None:
        same, more = matches(samples, train, progress=progress)
        new, undecided = ~same, undecided + more
    report["novel"] = None if train is None else rate(int(new.sum()), total)
    report["vun"] = None if train is None or family is None else rate(int((good & first & new).sum()), total)
    if undecided:
        warnings.append(f"{undecided:,} pairs of graphs reached the limit of the search and count as different")
    return report | {"failures": _failures(joined, good, family), "warnings": warnings}


def _failures(joined: Tensor, good: Tensor, family: str | None) -> list[dict[str, Any]]:
    reasons = [("not connected", ~joined)] + ([] if family is None else [(f"no {family} graph", joined & ~good)])
    failures = [
        {"reason": r, "count": int(x.sum()), "examples": [f"graph {k}" for k in x.nonzero()[:_EXAMPLES, 0].tolist()]}
        for r, x in reasons
        if bool(x.any())
    ]
    return sorted(failures, key=lambda entry: -int(str(entry["count"])))


def _compare(
    samples: GraphBatch,
    test: GraphBatch,
    train: GraphBatch | None,
    protocol: GraphProtocol,
    repeats: int,
    seed: int,
    progress: bool,
) -> dict[str, Any]:
    warnings: list[str] = []
    if protocol.drop_isolated:
        before, samples = samples.num_nodes, without_isolated(samples)
        if samples.num_nodes < before:
            warnings.append(f"samples: {before - samples.num_nodes:,} nodes without edges were taken out for distances")
    ours, reference, real = GraphSet(samples), GraphSet(test), None if train is None else GraphSet(train)
    distances: dict[str, Any] = {}
    for distance in _bar(protocol.distances, progress):  # one at a time: each keeps a matrix of all pairs of samples
        try:
            comparison = distance.compare(ours, reference)
            floor = None if real is None else _floor(distance, real, reference, len(ours), protocol, seed)
            distances[distance.name] = figure(
                distance, comparison, floor, repeats=repeats, seed=seed, progress=progress
            )
        except Undefined as error:
            warnings.append(f"{distance.name}: {error}")
    report: dict[str, Any] = {"distances": distances, "warnings": warnings}
    if protocol.ratio and all(entry["draws"] is not None for entry in distances.values()):
        summed = {name: entry for name, entry in distances.items() if entry["better"] == "lower"}
        values, floors = ({name: entry[key] for name, entry in summed.items()} for key in ("value", "floor"))
        for name, entry in summed.items():  # rounded as in the published mean of them
            entry["ratio"] = ratio({name: values[name]}, {name: floors[name]})
        report["ratio"] = ratio(values, floors)
    return report


def _bar(distances: Sequence[Distance[GraphSet]], progress: bool) -> Iterable[Distance[GraphSet]]:
    bar: Iterable[Distance[GraphSet]] = tqdm(
        distances, unit=" distances", delay=2.0, disable=None if progress else True, file=sys.stderr, leave=False
    )
    return bar


def _floor(
    distance: Distance[GraphSet],
    train: GraphSet,
    test: GraphSet,
    count: int,
    protocol: GraphProtocol,
    seed: int,
) -> Floor | None:
    """What training graphs score: as many as the protocol says, and draws of as many as there are samples.

    Draws without repetition from N graphs vary by sqrt(1 - n / N) too little; with n = N, draws of N - 1 tell how much.
    """
    total, few = len(train), max(count, len(test)) <= _FEW

    def draw(size: int) -> tuple[float, float]:
        return graph_floor(distance, train, test, size, _FLOOR_DRAWS if few else 5, seed)

    draws = None
    try:
        if count <= total and total > 1:
            size = min(count, total - 1)
            mean, spread = draw(size)
            draws = mean, spread / math.sqrt(1 - size / total)
        if protocol.floor == "all":
            return Floor(graph_floor(distance, train, test, None)[0], total, draws)
        size = min(protocol.samples or len(test), total)
        return Floor(draws[0] if draws and size == count < total else draw(size)[0], size, draws)
    except Undefined:
        return None


def _distributions(samples: GraphBatch, reference: GraphBatch) -> dict[str, Any]:
    """Histograms of samples and reference over the same bins, each the mean over graphs."""
    most = max(int(samples.node_counts().max()), int(reference.node_counts().max()))
    width = 1 + most // 25
    sizes = torch.arange(0, most + width + 1, width).tolist()
    turns = [-1e-5 + 2.00001 * k / 40 for k in range(41)]

    def count_sizes(graphs: GraphBatch) -> Tensor:
        return torch.nn.functional.one_hot(graphs.node_counts() // width, len(sizes) - 1).double()

    def overlay(title: str, unit: str, make: Callable[[GraphBatch], Tensor], **axis: list[Any]) -> dict[str, Any]:
        shares = [make(graphs).mean(0).tolist() for graphs in (samples, reference)]
        bins = max(map(len, shares))
        ours, theirs = (values + [0.0] * (bins - len(values)) for values in shares)
        axis = axis or {"labels": [str(k) for k in range(bins)]}
        return {"title": title, "unit": unit, **axis, "samples": ours, "reference": theirs}

    return {
        "nodes": overlay("Nodes", "share of graphs", count_sizes, edges=sizes),
        "degree": overlay("Degree", "share of nodes", degree_histograms),
        "clustering": overlay(
            "Clustering coefficient",
            "share of nodes",
            lambda graphs: clustering_histograms(graphs, 20),
            edges=[k / 20 for k in range(21)],
        ),
        "spectral": overlay(
            "Eigenvalues of the normalised Laplacian",
            "share of eigenvalues",
            lambda graphs: spectral_histograms(graphs, 40),
            edges=turns,
        ),
    }
