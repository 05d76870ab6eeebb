"""Measured affinities of ligands to proteins, as the sets Davis and KIBA hold them: a list of ligands and a matrix.

Which ligands were measured on a protein, and how strongly each binds, makes one ground set for subset selection.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from graphinv.data._text import text_lines
from graphinv.data.manifests import list_datasets, load_manifest, locate
from graphinv.errors import InputError

__all__ = ["Affinities", "load_affinities", "read_affinities"]


@dataclass(frozen=True, eq=False)
class Affinities:
    """L ligands and what is known of their binding to P proteins.

    Attributes:
        names: of the ligands, as their source names them.
        smiles: of the ligands.
        values: ``[L, P]`` float64, the larger the stronger; NaN where nothing was measured.
    """

    names: tuple[str, ...]
    smiles: tuple[str, ...]
    values: Tensor

    @property
    def num_proteins(self) -> int:
        """P."""
        return self.values.shape[1]

    def of_protein(self, protein: int) -> tuple[Tensor, Tensor]:
        """Return the ligands measured on a protein, ``[n]`` int64, and their affinities, ``[n]``.

        Raises:
            InputError: there is no protein of that number.
        """
        if not 0 <= protein < self.num_proteins:
            raise InputError(f"protein must be in 0..{self.num_proteins - 1}, got {protein}")
        column = self.values[:, protein]
        known = column.isfinite().nonzero().flatten()
        return known, column[known]

    def __repr__(self) -> str:
        known = int(self.values.isfinite().sum())
        return f"Affinities(ligands={len(self.names)}, proteins={self.num_proteins}, known={known})"


def load_affinities(name: str, *, progress: bool = True) -> Affinities:
    """Return a known set of affinities: "davis" (as pKd, 5 where no binding was seen) or "kiba" (KIBA scores).

    Its files are found as those of every data set, or downloaded and verified.

    Raises:
        InputError: there is no set of affinities of that name.
        DownloadError: a file is neither at hand nor to be had.
    """
    manifest = load_manifest(name)
    if manifest.kind != "affinities":
        known = [other for other in list_datasets() if load_manifest(other).kind == "affinities"]
        raise InputError(f"data set {manifest.name} holds {manifest.kind}; affinities are in {', '.join(known)}")
    ligands, matrix = (locate(manifest.file(part), progress=progress) for part in ("ligands", "affinities"))
    return read_affinities(ligands, matrix, nanomolar=manifest.name == "davis")


def read_affinities(
    ligands: str | os.PathLike[str], matrix: str | os.PathLike[str], *, nanomolar: bool = False
) -> Affinities:
    """Read affinities from two files, either of them gzipped or not.

    Args:
        ligands: a JSON object, name to SMILES; its order is that of the rows of the matrix.
        matrix: one line per ligand of numbers separated by blanks or tabs, one per protein; nan where unknown.
        nanomolar: the numbers are dissociation constants in nM, larger is weaker; they become pKd = 9 - log10.

    Raises:
        InputError: a file is unreadable or of another form, the rows are not as many as the ligands, or a constant
            is not above 0.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "ligands.txt").write_text('{"7": "CCO", "9": "CCN"}')
        >>> _ = (folder / "kd.txt").write_text("10 nan\\n1000 1\\n")
        >>> found = read_affinities(folder / "ligands.txt", folder / "kd.txt", nanomolar=True)
        >>> found.values.tolist(), found.of_protein(1)[0].tolist()
        ([[8.0, nan], [6.0, 9.0]], [1])
    """
    names, smiles = _ligands(Path(ligands))
    values = torch.tensor(list(_rows(Path(matrix))), dtype=torch.float64)
    if values.dim() != 2 or values.shape[0] != len(names):
        raise InputError(f"{matrix} must have one row per ligand of {ligands}, {len(names)}, got {list(values.shape)}")
    if nanomolar:
        if bool((values <= 0).any()):
            raise InputError(
                f"{matrix}: dissociation constants must be above 0 nM, got {float(values.nan_to_num(1).min())}"
            )
        values = 9 - values.log10()
    return Affinities(names, smiles, values)


def _ligands(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        table = json.loads("\n".join(text_lines(path)))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not a JSON object of name to SMILES: {error}") from error
    if not isinstance(table, dict) or not table or not all(isinstance(value, str) for value in table.values()):
        raise InputError(f"{path} must hold a JSON object of name to SMILES, got {type(table).__name__}")
    return tuple(table), tuple(table.values())


def _rows(path: Path) -> Iterator[list[float]]:
    width = None
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = [float(cell) for cell in line.split()]
        except ValueError as error:
            raise InputError(f"{path}, line {number}: expected numbers or nan: {error}") from error
        if width not in (None, len(row)) or any(math.isinf(value) for value in row):
            raise InputError(f"{path}, line {number}: expected {width} finite numbers or nan, got {len(row)}")
        width = len(row)
        yield row
