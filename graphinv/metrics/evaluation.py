"""What samples are worth, under a named protocol: the one entry to all metrics.

The report carries all that is needed to compare it with another: protocol, counts, versions, seed, and hashes of
samples and references. Where the protocol is not met, it says so.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from graphinv import __version__
from graphinv.data import GraphStore
from graphinv.data.readers import file_sha256
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.cache import package_version
from graphinv.metrics.graph_report import judge_graphs
from graphinv.metrics.inputs import as_samples, split_of
from graphinv.metrics.molecule.distances import Filters
from graphinv.metrics.molecule.filters import read_patterns
from graphinv.metrics.molecule.report import References, judge_molecules
from graphinv.metrics.protocols import PROTOCOLS, Protocol, protocol_named

__all__ = ["evaluate"]

_PACKAGES = ("torch", "rdkit", "fcd", "networkx")


def evaluate(
    samples: Any,
    *,
    reference: Any = None,
    train: Any = None,
    protocol: str | Protocol | None = None,
    family: str | None = None,
    scaffolds: Sequence[str] | None = None,
    mcf: Path | None = None,
    repeats: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Judge molecules or plain graphs; return the report, a JSON object.

    Molecules: validity in four definitions over all samples, distinct and new ones, reasons of failure. Graphs:
    connected, valid of a family, distinct and new ones. Under a protocol also its distances to the test set, each with
    what training data scores in place of the samples (the floor) and a bootstrap interval, and distributions.

    Args:
        samples: SMILES, one text per sample, "" and unreadable ones included; or RDKit molecules, networkx graphs,
            PyG ``Data``, a GraphBatch, a GraphStore.
        reference: what distances compare with: a store, of which the test split, else any form of samples. Its
            training split, where it has one, is the default of ``train``.
        train: what novelty is counted against and what gives the floors, in any form of samples.
        protocol: name, as in ``graphinv.metrics.PROTOCOLS``, or one of your own; None counts only.
        family: what a valid plain graph is: "planar", "tree", "lobster" or "sbm".
        scaffolds: second reference of moses-2020, its scaffold test set.
        mcf: MOSES's file of medicinal chemistry filters, which moses-2020 then applies beside PAINS.
        repeats: draws of the bootstrap, 0 for no intervals.
        seed: of the bootstrap and of the training data drawn for floors.
        progress: show bars.

    Raises:
        InputError: there is no sample, samples and references are of different kinds, the protocol is unknown, has
            nothing to say of such samples, or lacks its reference.

    Example:
        >>> evaluate(["CCO", "CC(C)(C)(C)C"], train=["CCO"])["valid_strict"]["rate"]
        0.5
    """
    chosen = protocol_named(protocol) if isinstance(protocol, str) else protocol
    if not (chosen is None or isinstance(chosen, Protocol)):
        raise InputError(f"expected the name of a protocol or a Protocol, got {type(chosen).__name__}")
    repeats, seed = operator.index(repeats), operator.index(seed)
    _check_draws(repeats, seed)
    items, notes = as_samples(samples)
    plain = isinstance(items, GraphBatch)
    _check_options(plain, chosen, family=family, scaffolds=scaffolds, mcf=mcf)
    if train is None and isinstance(reference, GraphStore) and len(reference.indices("train")):
        train = reference
    training = None if train is None else _side(train, "train", notes)
    test = None
    if isinstance(reference, GraphStore) and not len(reference.indices("test")):
        notes.append("the reference has no test split: it serves as training data only")
    elif reference is not None:
        test = _side(reference, "test", notes)
    for name, other in (("reference", test), ("train", training)):
        if other is not None and isinstance(other, GraphBatch) != plain:
            kinds = ["graphs" if isinstance(x, GraphBatch) else "molecules" for x in (items, other)]
            raise InputError(f"samples are {kinds[0]} and {name} is {kinds[1]}; give both in one kind")
    hashed = {"samples": items, "test": test, "train": training}
    options: dict[str, Any] = {"repeats": repeats, "seed": seed, "progress": progress}
    if isinstance(items, GraphBatch):
        report = _graphs(items, test, training, chosen, family, options)
    else:
        graphs = (samples.batch(samples.indices()), samples.vocabulary) if isinstance(samples, GraphStore) else None
        second = None if scaffolds is None else _side(scaffolds, "test", notes)
        hashed["scaffolds"] = second
        sides = {"test": test, "train": training, "scaffolds": second}
        report = _molecules(items, sides, chosen if mcf is None else _with_filters(chosen, mcf), graphs, options)
    report["warnings"] = [*notes, *report.get("warnings", ()), *_cautions(report)]
    report["provenance"] = {
        "graphinv": __version__,
        **{name: version for name in _PACKAGES if (version := package_version(name))},
        "seed": seed,
        "repeats": repeats,
        **{f"{name}_sha256": _sha256(x) for name, x in hashed.items() if x is not None},
    }
    if mcf is not None:
        report["provenance"]["mcf_sha256"] = file_sha256(mcf)
    if isinstance(reference, GraphStore):
        report["reference"] = {"hash": reference.content_hash, "training_items": len(reference.indices("train"))}
    return report


def _check_draws(repeats: int, seed: int) -> None:
    if repeats < 0 or repeats == 1:
        raise InputError(f"expected 0 repeats (no intervals) or at least 2, got {repeats}")
    if not -(2**63) <= seed < 2**63:
        raise InputError(f"expected a seed of 64 bits, got {seed}")


def _check_options(plain: bool, protocol: Protocol | None, **options: Any) -> None:
    """Refuse what would be ignored."""
    rules = () if plain or protocol is None or protocol.molecules is None else protocol.molecules.distances
    reads = {
        "family": plain,
        "scaffolds": any(distance.against == "scaffolds" for distance in rules),
        "mcf": any(isinstance(distance.compute, Filters) for distance in rules),
    }
    for name, value in options.items():
        if value is not None and not reads[name]:
            what = "plain graphs" if name == "family" else "molecules under moses-2020"
            raise InputError(f"{name} is of {what} only; leave it out")


def _with_filters(protocol: Protocol | None, mcf: Path) -> Protocol | None:
    """The protocol with the patterns of MOSES's file in its filters."""
    if protocol is None or protocol.molecules is None:
        return protocol
    filters = Filters(read_patterns(mcf))
    distances = tuple(
        replace(distance, compute=filters) if isinstance(distance.compute, Filters) else distance
        for distance in protocol.molecules.distances
    )
    return replace(protocol, molecules=replace(protocol.molecules, distances=distances))


def _side(source: Any, split: Literal["test", "train"], notes: list[str]) -> list[str] | GraphBatch:
    """One split of a store, or all of what there is; molecules as canonical SMILES, unreadable ones left out."""
    if isinstance(source, GraphStore):
        items, more = split_of(source, split, split)
        notes += more
        return items
    items, more = as_samples(source, split)
    notes += more
    if isinstance(items, GraphBatch):
        return items
    from graphinv.mol import canonical_smiles

    molecules = [text for line in items if (text := canonical_smiles(line))]
    if len(molecules) < len(items):
        bad = len(items) - len(molecules)
        notes.append(f"{split}: {bad:,} of {len(items):,} lines are no molecule and were left out")
    if not molecules:
        raise InputError(f"{split}: none of {len(items):,} lines is a molecule")
    return molecules


def _molecules(
    items: list[str], sides: dict[str, Any], protocol: Protocol | None, graphs: Any, options: dict[str, Any]
) -> dict[str, Any]:
    rules = None if protocol is None else protocol.molecules
    if protocol is not None and rules is None:
        raise InputError(f"{protocol.name} judges plain graphs, and the samples are molecules; {_others('molecules')}")
    report = {"kind": "molecules", **judge_molecules(items, References(**sides), rules, graphs=graphs, **options)}
    if protocol is None or rules is None:
        return report | {"protocol": None}
    count = report["under_protocol"]["unique"]["count"] if rules.distinct else len(items)
    unmet = _count_notes(count, rules.samples, rules.distinct)
    unmet += _size_notes(len(sides[rules.against]), report["judged"], "molecules")
    return report | {"protocol": protocol.to_json() | {"met": not unmet, "unmet": unmet}}


def _graphs(
    items: GraphBatch, test: Any, train: Any, protocol: Protocol | None, family: str | None, options: dict[str, Any]
) -> dict[str, Any]:
    rules = None if protocol is None else protocol.graphs
    if protocol is not None and rules is None:
        raise InputError(f"{protocol.name} judges molecules, and the samples are plain graphs; {_others('graphs')}")
    report = {"kind": "graphs", **judge_graphs(items, test, train, rules, family=family, **options)}
    if protocol is None or rules is None:
        return report | {"protocol": None}
    count = int((items.node_counts() > 0).sum())
    unmet = _count_notes(count, rules.samples or test.num_graphs, False)
    unmet += _size_notes(test.num_graphs, items.num_graphs, "graphs")
    return report | {"protocol": protocol.to_json() | {"met": not unmet, "unmet": unmet}}


def _others(kind: str) -> str:
    return f"for {kind} there are {', '.join(name for name, p in PROTOCOLS.items() if getattr(p, kind) is not None)}"


def _count_notes(count: int, asked: int, distinct: bool) -> list[str]:
    what = "distinct valid molecules" if distinct else "samples"
    return [] if count == asked else [f"asks for {asked:,} {what}, got {count:,}: distances depend on their number"]


def _size_notes(reference: int, samples: int, what: str) -> list[str]:
    few = f"the reference has {reference:,} {what}, fewer than the {samples:,} samples"
    return [few] if reference < samples else []


def _cautions(report: dict[str, Any]) -> list[str]:
    """What to think of before figures are compared."""
    distances = report.get("distances") or {}
    inside, beyond = ([n for n, entry in distances.items() if entry[key]] for key in ("inside_floor", "beyond_floor"))
    small = [n for n, e in distances.items() if e["floor"] is not None and e["draws"] is None]
    cautions = []
    if inside:
        cautions.append(
            f"inside the floor: {', '.join(inside)}; so many samples cannot be told from real data, and of two models "
            "inside the floor neither is better"
        )
    if beyond:
        cautions.append(
            f"beyond the floor: {', '.join(beyond)}; the samples are closer to the reference than real data are: look "
            "for copies of the reference"
        )
    if small:
        cautions.append(f"{', '.join(small)}: real data are fewer than the samples, and not compared with them")
    return cautions


def _sha256(items: Sequence[str] | GraphBatch) -> str:
    """Of the lines, or of the packed arrays, in their order."""
    if not isinstance(items, GraphBatch):
        return hashlib.sha256("\n".join(items).encode(errors="surrogatepass")).hexdigest()
    state = hashlib.sha256()
    for column in (items.ptr, items.edge_ptr, items.edge_index):
        state.update(column.contiguous().long().numpy().tobytes())
    return state.hexdigest()
