"""Numbers that chemists read off a molecule, and the distance between two samples of one of them.

Four properties are MOSES's (arXiv:1811.12823), nine descriptors GuacaMol's (arXiv:1811.09621); RDKit computes them all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from rdkit import Chem
from torch import Tensor

from graphinv.errors import InputError
from graphinv.metrics.comparison import Comparison
from graphinv.metrics.molecule._map import each, load_or_measure
from graphinv.mol.descriptors import descriptor

__all__ = ["GUACAMOL_DESCRIPTORS", "MOSES_PROPERTIES", "load_properties", "properties", "wasserstein"]

MOSES_PROPERTIES = ("log_p", "sa", "qed", "weight")
_STORED = {"log_p": "logp", "weight": "mw"}  # MOSES's names and those of columns of a store
GUACAMOL_DESCRIPTORS = (
    "BertzCT",
    "MolLogP",
    "MolWt",
    "TPSA",
    "NumHAcceptors",
    "NumHDonors",
    "NumRotatableBonds",
    "NumAliphaticRings",
    "NumAromaticRings",
)


def properties(
    smiles: Sequence[str],
    names: Sequence[str] = MOSES_PROPERTIES,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Return float64 [n] of each property by name.

    ``log_p`` is Crippen's octanol-water coefficient, ``sa`` the synthetic accessibility of Ertl and Schuffenhauer from
    1 (easy) to 10, ``qed`` the drug-likeness of Bickerton et al. in [0, 1], ``weight`` in g/mol; GuacaMol's descriptors
    have RDKit's names. A value that is not finite counts as 0, as in GuacaMol.

    Args:
        smiles: canonical and valid.
        names: of `MOSES_PROPERTIES` or `GUACAMOL_DESCRIPTORS`.
        workers: processes; None takes the CPUs this process may use.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: there is no property of a name, a text is no molecule, or RDKit lacks its SA score.

    Example:
        >>> properties(["CCO", "C"], ["weight", "NumHDonors"])
        {'weight': tensor([46.0690, 16.0430], dtype=torch.float64), 'NumHDonors': tensor([1., 0.], dtype=torch.float64)}
    """
    known = (*MOSES_PROPERTIES, *GUACAMOL_DESCRIPTORS)
    wrong = [name for name in names if name not in known]
    if wrong:
        raise InputError(f"no property {wrong[0]!r}; there are {', '.join(known)}")
    rows = each(partial(_row, tuple(names)), smiles, workers=workers, progress=progress, name="molecules measured")
    table = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(names))
    return {name: table[:, column].contiguous() for column, name in enumerate(names)}


def load_properties(
    smiles: Sequence[str],
    names: Sequence[str] = MOSES_PROPERTIES,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Tensor]:
    """`properties`, those of 1,000 molecules or more from the cache where they were computed before."""

    def make() -> dict[str, Tensor]:
        return properties(smiles, names, workers=workers, progress=progress)

    return load_or_measure("properties", smiles, make, *names)


def wasserstein(x: Tensor, y: Tensor) -> Comparison:
    """The 1-Wasserstein distance of samples ``x`` [n] and a reference ``y`` [m], in the unit of both.

    The area between the two distribution functions, exact.

    Raises:
        InputError: a sample is empty or a value is not finite.

    Example:
        >>> wasserstein(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0])).value
        1.0
    """
    x, y = x.double(), y.double()
    if not bool(x.isfinite().all() and y.isfinite().all()):
        raise InputError("a Wasserstein distance needs finite values, got some that are not")
    points = torch.cat([x, y]).sort().values
    gaps, left = points.diff(), points[:-1]
    ordered, order = x.sort()
    below = torch.searchsorted(ordered, left, right=True)  # [n + m - 1] samples at or before each point
    reference = torch.searchsorted(y.sort().values, left, right=True).double() / max(len(y), 1)

    def of(weights: Tensor) -> float:
        distribution = torch.cat([weights.new_zeros(1), weights[order].cumsum(0)])
        return float((distribution[below] - reference).abs() @ gaps)

    return Comparison(of, len(x), len(y))


def _row(names: tuple[str, ...], mol: Chem.Mol) -> list[float]:
    values = [float(descriptor(_STORED.get(name, name))(mol)) for name in names]
    return [value if math.isfinite(value) else 0.0 for value in values]
