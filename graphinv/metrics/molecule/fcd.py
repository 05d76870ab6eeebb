"""The Frechet ChemNet distance: how far the activations of two sets of molecules are apart as normal distributions.

|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of means and covariances (arXiv:1803.09518). A distance, smaller is
better; GuacaMol prints exp(-distance / 5). The network and its weights come with the package `fcd`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rdkit import Chem, rdBase
from torch import Tensor
from tqdm.auto import tqdm

from graphinv.errors import InputError
from graphinv.metrics.cache import digest, load_or_make
from graphinv.metrics.comparison import Comparison

__all__ = ["Statistics", "chemnet_activations", "fcd_distance", "reference_statistics"]

_PADDED = 350  # characters, the end mark among them, that a text is padded to
_BATCH = 128
_ROWS = 1 << 14  # in double precision at once


@dataclass(frozen=True)
class Statistics:
    """What the distance needs of a set of molecules: ``mean`` [F] and ``covariance`` [F, F], float64, of ``count``.

    Example:
        >>> Statistics.of(torch.tensor([[0.0, 1.0], [2.0, 1.0]])).covariance.tolist()
        [[2.0, 0.0], [0.0, 0.0]]
    """

    mean: Tensor
    covariance: Tensor
    count: int

    @staticmethod
    def of(activations: Tensor) -> Statistics:
        """Return mean and unbiased covariance of ``activations`` [n, F].

        Raises:
            InputError: there are fewer than 2 rows, or one is not finite.
        """
        rows = _checked(activations)
        mean = rows.mean(0, dtype=torch.float64)
        square = torch.zeros(len(mean), len(mean), dtype=torch.float64)
        for start in range(0, len(rows), _ROWS):
            centred = rows[start : start + _ROWS].double() - mean
            square += centred.t() @ centred
        return Statistics(mean, square / (len(rows) - 1), len(rows))


def chemnet_activations(smiles: Sequence[str], progress: bool = True) -> Tensor:
    """Return the activations [n, 512] float32 of ChemNet's last hidden layer, in the order of ``smiles``.

    The network reads characters: canonicalise first, as two SMILES of one molecule give different rows. Texts are
    padded to 350 characters; one of 350 or more is padded to its own length and an end mark. (`fcd` pads all texts of
    a call to the longest, so that one long text changes the rows of the others.) Runs on CUDA where there is one.

    Args:
        smiles: n valid SMILES, best canonical ones.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: a text is no molecule, or the package `fcd` is missing.

    Example:
        >>> chemnet_activations(["CCO", "c1ccccc1"]).shape  # doctest: +SKIP
        torch.Size([2, 512])
    """
    fcd = _fcd()
    _check_molecules(smiles, progress)
    device = _device()
    out = torch.empty(len(smiles), 512)
    by_length: dict[int, list[int]] = {}
    for row, text in enumerate(smiles):
        by_length.setdefault(max(_PADDED, len(text) + 1), []).append(row)
    with torch.random.fork_rng(devices=[]):  # it draws weights before it reads them
        model = fcd.load_ref_model()
    bar = tqdm(total=len(smiles), unit=" molecules", delay=2.0, disable=None if progress else True, file=sys.stderr)
    exact = torch.backends.cudnn.flags(allow_tf32=False)
    with bar, exact, torch.inference_mode(), fcd.utils.todevice(model, device):
        for length, rows in by_length.items():
            for start in range(0, len(rows), _BATCH):
                chosen = rows[start : start + _BATCH]
                out[chosen] = model(_one_hot(fcd, [smiles[row] for row in chosen], length).to(device)).cpu()
                bar.update(len(chosen))
    return out


def reference_statistics(smiles: Sequence[str], progress: bool = True) -> Statistics:
    """Return the `Statistics` of valid SMILES, from the cache where the same molecules were asked for before.

    The order does not matter. The cache is GRAPHINV_CACHE_DIR, else ``~/.cache/graphinv``.

    Raises:
        InputError: as `chemnet_activations`, or there are fewer than 2 molecules.

    Example:
        >>> reference_statistics(["CCO", "c1ccccc1", "CC"]).mean.shape  # doctest: +SKIP
        torch.Size([512])
    """
    if len(smiles) < 2:
        raise InputError(f"a covariance needs at least 2 molecules, got {len(smiles)}")

    def make() -> dict[str, Tensor]:
        statistics = Statistics.of(chemnet_activations(smiles, progress))
        return {"mean": statistics.mean, "covariance": statistics.covariance}

    tensors = load_or_make("chemnet", digest(sorted(smiles), _device()), make)
    return Statistics(tensors["mean"], tensors["covariance"], len(smiles))


def fcd_distance(activations: Tensor, reference: Statistics) -> Comparison:
    """Squared Frechet distance of ``activations`` [n, F] to a reference (arXiv:1803.09518); 0 or above.

    Covariances are unbiased, divided by n - 1, as in `fcd`; they may be singular (n <= F). The distance of few samples
    is too large, by about a constant over n: compare only at one n.

    Raises:
        InputError: there are fewer than 2 samples, one is not finite, or the reference has another width.

    Example:
        >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 2.0]])
        >>> round(fcd_distance(points + 3, Statistics.of(points)).value, 9)
        18.0
    """
    rows = _checked(activations)
    if rows.size(1) != reference.mean.numel():
        raise InputError(f"expected activations of width {reference.mean.numel()}, got {rows.size(1)}")
    # About the mean of the reference, so that the square of a far mean does not eat the digits of the covariance.
    rows = rows.double() - reference.mean
    values, vectors = torch.linalg.eigh(reference.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.t()
    turned, length = rows @ root, rows.square().sum(1)
    total, unbiased = float(reference.covariance.trace()), len(rows) / (len(rows) - 1)

    def of(weights: Tensor) -> float:
        shift = weights @ rows
        used = weights.nonzero().squeeze(1)
        part = turned[used] * weights[used].sqrt().unsqueeze(1)
        mean = shift @ root
        # The eigenvalues of C1 C2 are those of R C1 R, where R R = C2.
        product = unbiased * (part.t() @ part - torch.outer(mean, mean))
        between = float(torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum())
        gap = float(shift @ shift)
        return max(0.0, gap + unbiased * (float(weights @ length) - gap) + total - 2 * between)

    return Comparison(of, len(rows), reference.count)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _checked(activations: Tensor) -> Tensor:
    if activations.dim() != 2 or len(activations) < 2:
        raise InputError(
            f"a covariance needs activations [n, F] of at least 2 molecules, got {list(activations.shape)}"
        )
    if not bool(activations.isfinite().all()):
        raise InputError("expected finite activations, got NaN or infinity")
    return activations.cpu()


def _check_molecules(smiles: Sequence[str], progress: bool) -> None:
    bar = tqdm(smiles, unit=" read", delay=2.0, disable=None if progress else True, file=sys.stderr)
    with rdBase.BlockLogs():
        for row, text in enumerate(bar):
            mol = Chem.MolFromSmiles(text) if text.isascii() and text.split() == [text] else None
            if mol is None:
                raise InputError(f"expected molecules, got {text[:80]!r} in row {row}; leave it out")


def _one_hot(fcd: Any, texts: Sequence[str], length: int) -> Tensor:
    """What ChemNet reads: [B, 35, length], zero behind the end mark, 1 / 35 in place of one."""
    out = torch.zeros(len(texts), length, 35)
    for row, text in enumerate(texts):
        marks = torch.from_numpy(fcd.utils.get_one_hot(text))
        out[row, : len(marks)] = marks / marks.size(1)
    return out.transpose(1, 2)


def _fcd() -> Any:
    try:
        import fcd
    except ImportError as error:
        raise InputError("the ChemNet distance needs the package fcd: pip install 'graphinv[metrics]'") from error
    return fcd
