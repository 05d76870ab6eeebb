"""A page of molecules as PNG or SVG, drawn by RDKit.

Samples that are no molecules are drawn as far as they can be read and marked in their legend, never skipped.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from graphinv._files import atomic_path
from graphinv.errors import InputError
from graphinv.mol._encode import parse_smiles

__all__ = ["molecule_grid"]

_WIDTH, _HEIGHT = 220, 200  # pixels of a panel


def molecule_grid(
    smiles: Sequence[str],
    path: str | os.PathLike[str],
    columns: int = 6,
    limit: int = 36,
    legends: Sequence[str] | None = None,
) -> None:
    """Draw the first ``limit`` samples, row by row, to a .png or .svg file.

    Raises:
        InputError: another suffix, nothing to draw, or not one legend per sample.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> molecule_grid(["CCO", "c1ccccc1", "C=F"], folder / "page.svg", columns=3)
        >>> (folder / "page.svg").read_text().count("<svg")
        1
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".svg"):
        raise InputError(f"expected a .png or .svg file to draw to, got {os.fspath(path)!r}")
    if not len(smiles) or columns < 1 or limit < 1:
        raise InputError(f"nothing to draw: {len(smiles)} samples, columns={columns}, limit={limit}")
    if legends is not None and len(legends) != len(smiles):
        raise InputError(f"expected one legend for each of {len(smiles)} samples, got {len(legends)}")
    with rdBase.BlockLogs():
        panels = [_panel(text) for text in smiles[:limit]]
    names = [""] * len(panels) if legends is None else list(legends)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    drawer = rdMolDraw2D.MolDraw2DCairo if suffix == ".png" else rdMolDraw2D.MolDraw2DSVG
    page = drawer(columns * _WIDTH, rows * _HEIGHT, _WIDTH, _HEIGHT)
    options: Any = page.drawOptions()
    options.prepareMolsBeforeDrawing = False
    titles = [" ".join(filter(None, (name, mark))) for name, (_, mark) in zip(names, panels, strict=False)]
    page.DrawMolecules([mol for mol, _ in panels], legends=titles)
    page.FinishDrawing()
    content = page.GetDrawingText()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())


def _panel(text: str) -> tuple[Chem.Mol, str]:
    """A molecule ready to draw and the mark for its legend."""
    mol = parse_smiles(text)
    if mol is not None and mol.GetNumAtoms():
        return rdMolDraw2D.PrepareMolForDrawing(mol), ""
    mol = Chem.MolFromSmiles(text, sanitize=False) if text.isascii() else None
    if mol is None:
        return _placeholder(), "invalid (unreadable)"
    if not mol.GetNumAtoms():
        return _placeholder(), "invalid (empty)"
    mol.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(mol)
    rdDepictor.Compute2DCoords(mol)
    return mol, "invalid"


def _placeholder() -> Chem.Mol:
    """A question mark: RDKit draws no legend below a molecule without atoms."""
    mol = Chem.RWMol()
    mol.AddAtom(Chem.Atom(0))
    mol.GetAtomWithIdx(0).SetProp("atomLabel", "?")
    mol.UpdatePropertyCache(strict=False)
    rdDepictor.Compute2DCoords(mol)
    return mol
