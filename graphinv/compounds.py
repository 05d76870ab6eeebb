"""Compound selection: which of these molecules to test? Ground sets of molecules with their most active, diverse few.

An assay is a list of molecules with an activity each, measured (``graphinv.data.load_affinities``) or computed
(``drug_likeness``). Ground sets are drawn from it; the subset to be found holds the most active compounds, thinned out
to those that are least alike. A selector of ``graphinv.sets`` learns to choose it from the molecules alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm

from graphinv.data import Affinities, GraphStore
from graphinv.errors import InputError, check_positive
from graphinv.graphs import GraphBatch
from graphinv.metrics.molecule.fingerprints import fingerprints, similarities
from graphinv.metrics.molecule.properties import properties
from graphinv.sets import SetBatch

__all__ = ["MoleculeTable", "active_and_diverse", "assays_of", "compound_sets", "drug_likeness"]

Assay = tuple[Tensor, Tensor]  # molecules [m] int64 of a store, activities [m], the larger the better


class MoleculeTable(nn.Module):
    """Encoder of molecules by their number in a table, [N] to [N, C]; each molecule of a batch is encoded once.

    Args:
        graphs: the molecules.
        encoder: maps them to vectors.

    Example:
        >>> from graphinv.nn.encoder import GraphEncoder
        >>> from graphinv.testing import random_graphs
        >>> table = MoleculeTable(random_graphs(5), GraphEncoder(4, 3, channels=8))
        >>> table(torch.tensor([4, 0, 4])).shape
        torch.Size([3, 8])
    """

    def __init__(self, graphs: GraphBatch, encoder: nn.Module) -> None:
        super().__init__()
        self.graphs, self.encoder = graphs, encoder

    def forward(self, numbers: Tensor) -> Tensor:
        """Return the vectors [N, C] of the molecules ``numbers`` [N] int64."""
        distinct, place = torch.unique(numbers, return_inverse=True)
        out: Tensor = self.encoder(self.graphs.select(distinct.cpu()).to(numbers.device))
        return out.index_select(0, place)


def drug_likeness(smiles: Sequence[str], log_p: tuple[float, float] = (1.0, 4.0), *, progress: bool = True) -> Tensor:
    """Return QED [n] in [0, 1], less one for each unit of Crippen's log P outside of the window.

    Args:
        smiles: valid molecules.
        log_p: the window, lower and upper end.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: a text is no molecule, or the window is empty.

    Example:
        >>> acid, salt = drug_likeness(["CC(=O)Oc1ccccc1C(=O)O", "C(CO)O"]).tolist()
        >>> acid > 0.5 > salt
        True
    """
    low, high = log_p
    if low > high:
        raise InputError(f"the window of log P must go from low to high, got {log_p}")
    found = properties(smiles, ("qed", "log_p"), progress=progress)
    return found["qed"] - (low - found["log_p"]).clamp(min=0) - (found["log_p"] - high).clamp(min=0)


def assays_of(affinities: Affinities, store: GraphStore, least: int = 1) -> list[Assay]:
    """Return the molecules of ``store`` measured on each protein, with their affinities, in the order of proteins.

    Args:
        affinities: measurements.
        store: made of ``affinities.smiles`` by ``graphinv.build``; what it rejected is left out.
        least: proteins with fewer molecules are left out.

    Example:
        >>> from graphinv.mol import build_store
        >>> values = torch.tensor([[7.0, 5.0], [float("nan"), 6.0]])
        >>> store, _ = build_store(["CCO", "CCN"], workers=1, split="none", progress=False)
        >>> [assay[0].tolist() for assay in assays_of(Affinities(("a", "b"), ("CCO", "CCN"), values), store)]
        [[0], [0, 1]]
    """
    values = affinities.values[store.row.long()]
    known = [column.isfinite().nonzero().flatten() for column in values.unbind(1)]
    return [(rows, values[rows, protein]) for protein, rows in enumerate(known) if len(rows) >= least]


def active_and_diverse(activity: Tensor, alike: Tensor, k: int, share: float = 1 / 3) -> Tensor:
    """Choose k of n compounds: the most active one, then again and again the one least like those chosen.

    Only the ``share`` most active, and at least k, may be chosen. Of equal ones the more active is taken, then the
    first.

    Args:
        activity: [n] finite, the larger the better.
        alike: [n, n] similarities.
        k: 1 .. n.
        share: in (0, 1].

    Returns:
        [k] int64 in the order of choice.

    Raises:
        InputError: ``k`` or ``share`` is out of range, or the shapes do not fit.

    Example:
        >>> alike = torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, 0.2], [0.1, 0.2, 1.0]])
        >>> active_and_diverse(torch.tensor([9.0, 8.0, 7.0]), alike, 2, share=1.0).tolist()
        [0, 2]
    """
    n = activity.shape[0]
    if not 1 <= k <= n or not 0 < share <= 1 or alike.shape != (n, n):
        raise InputError(
            f"expected 1 <= k <= {n}, share in (0, 1] and [{n}, {n}] similarities, got {k}, {share}, {alike.shape}"
        )
    pool = torch.sort(activity, descending=True, stable=True).indices[: max(k, round(share * n))]
    chosen, nearest = [0], alike[pool[0], pool].clone()
    while len(chosen) < k:
        nearest[chosen[-1]] = torch.inf  # never again
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, alike[pool[chosen[-1]], pool])
    return pool[torch.tensor(chosen)]


def compound_sets(
    assays: Sequence[Assay],
    store: GraphStore,
    *,
    n: int,
    k: int,
    per_assay: int = 1,
    share: float = 1 / 3,
    seed: int = 0,
    progress: bool = True,
) -> SetBatch:
    """Draw ground sets of n molecules of one assay each, with the k that ``active_and_diverse`` chooses.

    Args:
        assays: molecules of ``store`` and activities; each needs n molecules.
        store: the molecules, with SMILES.
        n: molecules of a ground set, drawn without repetition.
        k: of the subset.
        per_assay: ground sets of each assay.
        share: of the ground set that counts as active.
        seed: of the draws.
        progress: a bar on stderr, from the third second on.

    Returns:
        a batch whose x [N] int64 are molecules of ``store``, for ``MoleculeTable``.

    Raises:
        InputError: there is no assay, one has fewer than n molecules, or a number is out of range.

    Example:
        >>> from graphinv.mol import build_store
        >>> store, _ = build_store(["C" * size + "O" for size in range(1, 9)], workers=1, split="none", progress=False)
        >>> batch = compound_sets([(torch.arange(8), torch.arange(8.0))], store, n=6, k=2, per_assay=3)
        >>> batch.num_sets, batch.subset_sizes.tolist()
        (3, [2, 2, 2])
    """
    check_positive(n=n, k=k, per_assay=per_assay)
    short = [number for number, (rows, _) in enumerate(assays) if len(rows) < n]
    if not assays or short:
        raise InputError(f"every assay needs at least n = {n} molecules; {len(assays)} assays, too small: {short[:9]}")
    marks = fingerprints(store.smiles(), progress=progress)
    generator = torch.Generator().manual_seed(seed)
    sets, subsets = [], []
    todo = [assay for assay in assays for _ in range(per_assay)]
    for rows, activity in tqdm(todo, unit="set", delay=2, disable=None if progress else True):
        drawn = torch.randperm(len(rows), generator=generator)[:n]
        sets.append(rows[drawn])
        subsets.append(active_and_diverse(activity[drawn], similarities(marks[rows[drawn]]), k, share))
    return SetBatch.from_lists(sets, subsets)
