"""What samples are worth, under a named protocol: the one entry to all metrics.

The report carries all that is needed to compare it with another: protocol, counts, versions, seed, and hashes of
samples and references. Where the protocol is not met, it says so.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from graphinv import __version__
from graphinv.data import GraphStore
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.inputs import as_samples, split_of
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
        protocol: name, as in ``graphinv.metrics.protocols.PROTOCOLS``; None counts only.
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
    items, notes = as_samples(samples)
    if train is None and isinstance(reference, GraphStore) and len(reference.indices("train")):
        train = reference
    known = None if train is None else _side(train, "train", notes)
    test = None
    if reference is not None and not (isinstance(reference, GraphStore) and not len(reference.indices("test"))):
        test = _side(reference, "test", notes)
    for name, other in (("reference", test), ("train", known)):
        if other is not None and isinstance(other, GraphBatch) != isinstance(items, GraphBatch):
            kinds = ["graphs" if isinstance(x, GraphBatch) else "molecules" for x in (items, other)]
            raise InputError(f"samples are {kinds[0]} and {name} is {kinds[1]}; give both in one kind")
    options: dict[str, Any] = {"repeats": repeats, "seed": seed, "progress": progress}
    if isinstance(items, GraphBatch):
        report = _graphs(items, test, known, chosen, family, options)
    else:
        drawn = (samples.batch(samples.indices()), samples.vocabulary) if isinstance(samples, GraphStore) else None
        second = None if scaffolds is None else _side(scaffolds, "test", notes)
        sides = {"test": test, "train": known, "scaffolds": second, "mcf": mcf, "drawn": drawn}
        report = _molecules(items, sides, chosen, options)
    report["warnings"] = [*notes, *report.get("warnings", ()), *_cautions(report)]
    report["provenance"] = {
        "graphinv": __version__,
        **{name: version for name in _PACKAGES if (version := _version(name))},
        "seed": seed,
        "repeats": repeats,
        **{f"{name}_sha256": _sha256(x) for name, x in (("samples", items), ("test", test), ("train", known))},
    }
    if isinstance(reference, GraphStore):
        report["reference"] = {"hash": reference.content_hash, "training_molecules": len(reference.indices("train"))}
    return report


def _side(given: Any, split: Literal["test", "train"], notes: list[str]) -> list[str] | GraphBatch:
    """One split of a store, or all of what is given; molecules as canonical SMILES, unreadable ones left out."""
    if isinstance(given, GraphStore):
        items, said = split_of(given, split, split)
        notes += said
        return items
    items, said = as_samples(given, split)
    notes += said
    if isinstance(items, GraphBatch):
        return items
    from graphinv.mol import canonical_smiles

    kept = [text for line in items if (text := canonical_smiles(line)) is not None]
    if len(kept) < len(items):
        notes.append(f"{split}: {len(items) - len(kept):,} of {len(items):,} lines are no molecule and were left out")
    if not kept:
        raise InputError(f"{split}: none of {len(items):,} lines is a molecule")
    return kept


def _molecules(
    items: list[str], sides: dict[str, Any], protocol: Protocol | None, options: dict[str, Any]
) -> dict[str, Any]:
    from graphinv.metrics.molecule.report import Molecules, judge_molecules

    rules = None if protocol is None else protocol.molecules
    if protocol is not None and rules is None:
        raise InputError(f"{protocol.name} judges plain graphs, and the samples are molecules; {_others('molecules')}")
    report = {"kind": "molecules", **judge_molecules(items, Molecules(**sides), rules, **options)}
    if protocol is None or rules is None:
        return report | {"protocol": None}
    found = report["under_protocol"]["unique"]["count"] if rules.distinct else len(items)
    unmet = _count_notes(found, rules.samples, rules.distinct)
    unmet += _size_notes(len(sides[rules.against]), report["judged"], "molecules")
    return report | {"protocol": protocol.to_json() | {"met": not unmet, "unmet": unmet}}


def _graphs(
    items: GraphBatch, test: Any, train: Any, protocol: Protocol | None, family: str | None, options: dict[str, Any]
) -> dict[str, Any]:
    from graphinv.metrics.graph_report import judge_graphs

    rules = None if protocol is None else protocol.graphs
    if protocol is not None and rules is None:
        raise InputError(f"{protocol.name} judges molecules, and the samples are plain graphs; {_others('graphs')}")
    report = {"kind": "graphs", **judge_graphs(items, test, train, rules, family=family, **options)}
    if protocol is None or rules is None:
        return report | {"protocol": None}
    unmet = _count_notes(items.num_graphs, rules.samples or test.num_graphs, False)
    unmet += _size_notes(test.num_graphs, items.num_graphs, "graphs")
    return report | {"protocol": protocol.to_json() | {"met": not unmet, "unmet": unmet}}


def _others(kind: str) -> str:
    return f"for {kind} there are {', '.join(name for name, p in PROTOCOLS.items() if getattr(p, kind) is not None)}"


def _count_notes(found: int, asked: int, distinct: bool) -> list[str]:
    what = "distinct valid molecules" if distinct else "samples"
    return [] if found == asked else [f"asks for {asked:,} {what}, got {found:,}: distances depend on their number"]


def _size_notes(reference: int, samples: int, what: str) -> list[str]:
    few = f"the reference has {reference:,} {what}, fewer than the {samples:,} samples"
    return [few] if reference < samples else []


def _cautions(report: dict[str, Any]) -> list[str]:
    inside = [name for name, entry in (report.get("distances") or {}).items() if entry["inside_floor"]]
    if not inside:
        return []
    return [f"{', '.join(inside)}: cannot be told from training data; a smaller value would not mean a better model"]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _sha256(items: Sequence[str] | GraphBatch | None) -> str | None:
    """Of the lines, or of the packed arrays, in their order."""
    if items is None:
        return None
    if not isinstance(items, GraphBatch):
        return hashlib.sha256("\n".join(items).encode()).hexdigest()
    state = hashlib.sha256()
    for column in (items.ptr, items.edge_ptr, items.edge_index):
        state.update(column.contiguous().long().numpy().tobytes())
    return state.hexdigest()
