"""One measure over many molecules, in processes where there are enough of them: results in the order given.

A measure is a function of a module, of one molecule as RDKit reads it, that returns what can be sent between processes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from rdkit import Chem, rdBase
from torch import Tensor
from tqdm.auto import tqdm

from graphinv._processes import process_pool, worker_count
from graphinv.errors import InputError
from graphinv.metrics.cache import digest, load_or_make

__all__ = ["each", "load_or_measure"]

T = TypeVar("T")
_CHUNK = 250
_KEPT = 1000  # fewer molecules are measured anew, in about a second
_PARALLEL = 2000  # fewer molecules are done before a second process has started


def each(
    measure: Callable[[Chem.Mol], T],
    smiles: Sequence[str],
    *,
    workers: int | None = None,
    progress: bool = True,
    name: str = "molecules",
) -> list[T]:
    """Return ``measure`` of each molecule.

    Args:
        measure: must not depend on other molecules, so that results do not depend on ``workers``.
        smiles: valid ones, as `graphinv.mol.canonical_smiles` writes them.
        workers: processes; None takes the CPUs this process may use, 0 or 1 works in this process.
        progress: a bar on stderr, from the third second on.
        name: what the bar counts.

    Raises:
        InputError: a text is no molecule, or ``workers`` is negative.

    Example:
        >>> each(Chem.Mol.GetNumAtoms, ["CO", "C"])
        [2, 1]
    """
    if workers is not None and workers < 0:
        raise InputError(f"workers must be 0 or more, got {workers}")
    chunks = [smiles[first : first + _CHUNK] for first in range(0, len(smiles), _CHUNK)]
    disable = None if progress else True
    results: list[T] = []
    with tqdm(total=len(smiles), unit=f" {name}", delay=2.0, disable=disable, file=sys.stderr) as bar:
        for part in _parts(partial(_measured, measure), chunks, workers):
            results += part
            bar.update(len(part))
    return results


def load_or_measure(
    kind: str, smiles: Sequence[str], make: Callable[[], dict[str, Tensor]], *settings: object
) -> dict[str, Tensor]:
    """Return what ``make`` computes of many molecules, from the cache where RDKit of this version has computed it."""
    if len(smiles) < _KEPT:
        return make()
    return load_or_make(kind, digest(smiles, rdBase.rdkitVersion, *settings), make)


def _parts(
    function: Callable[[Sequence[str]], list[T]], chunks: list[Sequence[str]], workers: int | None
) -> Iterator[list[T]]:
    processes = worker_count(workers)
    if processes < 2 or len(chunks) * _CHUNK <= _PARALLEL:
        yield from map(function, chunks)
        return
    with process_pool(processes) as pool:
        yield from pool.map(function, chunks)


def _measured(measure: Callable[[Chem.Mol], T], smiles: Sequence[str]) -> list[T]:
    with rdBase.BlockLogs():
        return [measure(_molecule(text)) for text in smiles]


def _molecule(text: str) -> Chem.Mol:
    mol = Chem.MolFromSmiles(text) if text.isascii() else None
    if mol is None or not mol.GetNumAtoms():
        raise InputError(f"expected SMILES of molecules, got {text[:80]!r}; leave out the samples that are not valid")
    return mol
