"""How many samples are molecules, in the four senses the literature uses, and how many are distinct and new.

Every rate of validity is over all samples: empty lines, "None" and unreadable text are invalid, never dropped.
Distribution distances (FCD, NSPDK) live elsewhere.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from rdkit import Chem, rdBase
from tqdm.auto import tqdm

from graphinv.errors import InputError
from graphinv.metrics.comparison import rate
from graphinv.metrics.molecule.judged import first_token, why_invalid
from graphinv.mol._encode import atom_label, flat_smiles, parse_smiles
from graphinv.mol.codec import canonical_smiles
from graphinv.mol.valence import add_charges, largest_fragment, repair_valence, sanitizes

__all__ = ["molecule_report"]

DEFINITIONS = {
    "samples": "all samples, the denominator of every valid_* and of connected",
    "valid_strict": "sanitises as written and is one fragment",
    "valid_fragment": "sanitises as written and so does its largest fragment; several fragments count",
    "valid_relaxed": "sanitises, after charge +1 on N, O, S with one bond order too many; several fragments count",
    "valid_corrected": "after valence repair, the largest fragment is a molecule",
    "connected": "readable and one fragment, valid or not",
    "unique": "distinct canonical SMILES without stereo of valid_strict; rate over valid_strict",
    "novel": "unique ones absent from the training set; rate over unique",
    "repair_edits": "charges set, bond orders lowered and bonds removed for valid_corrected, all samples together",
    "atoms": "atoms of all readable samples as written, by element and charge",
    "failures": "why samples are not valid_strict, with examples",
    "interval": "low and high: 95% Wilson score interval of the rate",
}

_EXAMPLES = 6  # of a reason


@dataclass
class _Tally:
    counts: Counter[str] = field(default_factory=Counter)
    atoms: Counter[tuple[int, int]] = field(default_factory=Counter)
    canonical: list[str] = field(default_factory=list)
    edits: int = 0
    failing: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, text: str) -> None:
        mol = parse_smiles(text)
        if mol is not None and mol.GetNumAtoms():
            self.counts.update(("valid_fragment", "valid_relaxed", "valid_corrected"))
            if len(Chem.GetMolFrags(mol)) == 1:
                self.counts.update(("valid_strict", "connected"))
                self.canonical.append(flat_smiles(mol))
            else:
                self._fail(text)
        else:
            self._fail(text)
            mol = Chem.MolFromSmiles(text, sanitize=False) if text.isascii() else None
            if mol is None or not mol.GetNumAtoms():
                return
            self.counts["connected"] += len(Chem.GetMolFrags(mol)) == 1
            self.counts["valid_relaxed"] += sanitizes(add_charges(mol))
            repaired, edits = repair_valence(mol)
            self.edits += edits
            self.counts["valid_corrected"] += sanitizes(largest_fragment(repaired))
        self.atoms.update((atom.GetAtomicNum(), atom.GetFormalCharge()) for atom in mol.GetAtoms())

    def _fail(self, text: str) -> None:
        self.failing.setdefault(why_invalid(text) or "not sanitisable", Counter())[text] += 1

    def failures(self) -> list[dict[str, Any]]:
        """Reasons, the most frequent first, with the shortest examples."""
        entries = [
            {"reason": reason, "count": texts.total(), "examples": sorted(texts, key=lambda t: (len(t), t))[:_EXAMPLES]}
            for reason, texts in self.failing.items()
        ]
        return sorted(entries, key=lambda entry: (-entry["count"], entry["reason"]))


def molecule_report(
    smiles: Sequence[str],
    train: Collection[str] | None = None,
    *,
    train_is_canonical: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Validity, uniqueness, novelty and atom types of samples as a JSON object; see its "definitions".

    Args:
        smiles: one text per sample; "" and "None" stand for a sample that is no molecule.
        train: SMILES of the training set, None leaves "novel" None.
        train_is_canonical: the training set was written by `canonical_smiles` or taken from a store.
        progress: a bar on stderr, from the third second on.

    Raises:
        InputError: there is no sample.

    Example:
        >>> report = molecule_report(["CO", "OC", "CCO", "CN(C)(C)C", ""], train=["CCO"])
        >>> report["valid_strict"]["rate"], report["valid_relaxed"]["rate"]
        (0.6, 0.8)
        >>> report["unique"]["count"], report["novel"]["rate"]
        (2, 0.5)
    """
    if not len(smiles):
        raise InputError("expected at least one sample, got none")
    tally = _Tally()
    with rdBase.BlockLogs():
        for text in tqdm(smiles, unit=" samples", delay=2.0, disable=None if progress else True, file=sys.stderr):
            tally.add(first_token(text))
    total = len(smiles)
    report: dict[str, Any] = {"samples": total}
    for name in ("valid_strict", "valid_fragment", "valid_relaxed", "valid_corrected", "connected"):
        report[name] = rate(tally.counts[name], total)
    unique = set(tally.canonical)
    report["unique"] = rate(len(unique), len(tally.canonical)) | {"rate_of_samples": len(unique) / total}
    report["novel"] = None
    if train is not None:
        canonical = set(train) if train_is_canonical else {canonical_smiles(line) for line in train}
        report["novel"] = rate(len(unique - canonical), len(unique))
    report["repair_edits"] = tally.edits
    report["atoms"] = {atom_label(*atom): count for atom, count in sorted(tally.atoms.items())}
    report["failures"] = tally.failures()
    report["definitions"] = DEFINITIONS
    return report
