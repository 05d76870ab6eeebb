"""Fragments and scaffolds hold what they should, and the cosine of counts obeys its laws."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from graphinv.errors import InputError
from graphinv.metrics.molecule.fragments import cosine, fragments, scaffolds, totals

FIXTURE = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "metrics" / "moses_smallmol.json").read_text(encoding="utf-8")
)
parts = st.lists(st.lists(st.sampled_from("abcd"), max_size=4), min_size=1, max_size=8)


def heavy_atoms(smiles: str) -> int:
    return sum(atom.GetAtomicNum() > 1 for atom in Chem.MolFromSmiles(smiles).GetAtoms())


def test_fragments_share_out_the_heavy_atoms() -> None:
    molecules = [*FIXTURE["samples"], *FIXTURE["filtered"]]
    for text, pieces in zip(molecules, fragments(molecules), strict=True):
        assert sum(map(heavy_atoms, pieces)) == heavy_atoms(text), text


def test_scaffolds_have_two_rings_or_are_missing() -> None:
    molecules = [*FIXTURE["samples"], *FIXTURE["filtered"]]
    found = scaffolds(molecules)
    assert any(found) and not all(found)
    for text, scaffold in zip(molecules, found, strict=True):
        mol = Chem.MolFromSmiles(text)
        if not scaffold:
            assert mol.GetRingInfo().NumRings() < 2, text
            continue
        core = Chem.MolFromSmiles(scaffold[0])
        assert core.GetRingInfo().NumRings() == mol.GetRingInfo().NumRings() >= 2
        assert mol.HasSubstructMatch(core)


def test_molecules_with_nothing_to_cut_are_one_fragment() -> None:
    assert fragments(["C", "c1ccccc1", "CC"]) == [["C"], ["c1ccccc1"], ["CC"]]
    assert scaffolds(["C", "c1ccccc1", "CC"]) == [[], [], []]


@settings(max_examples=60, deadline=None)
@given(parts, parts)
def test_cosine_is_in_range_symmetric_and_one_with_itself(x: list[list[str]], y: list[list[str]]) -> None:
    if not any(x) or not any(y):
        with pytest.raises(InputError, match="no parts to compare"):
            cosine(x, totals(y), len(y))
        return
    value = cosine(x, totals(y), len(y)).value
    assert 0 <= value <= 1
    assert value == pytest.approx(cosine(y, totals(x), len(x)).value)
    assert cosine(x[::-1], totals(x), len(x)).value == pytest.approx(1)
    left, right = totals(x), totals(y)
    dot = sum(count * right.get(part, 0) for part, count in left.items())
    assert value == pytest.approx(dot / math.hypot(*left.values()) / math.hypot(*right.values()))


@settings(max_examples=40, deadline=None)
@given(parts, parts)
def test_a_repeated_sample_is_one_of_weight_two(x: list[list[str]], y: list[list[str]]) -> None:
    if not any(x) or not any(y):
        return
    weights = torch.ones(len(x), dtype=torch.float64)
    weights[0] = 2
    twice = cosine([*x, x[0]], totals(y), len(y)).value
    assert cosine(x, totals(y), len(y)).of(weights / weights.sum()) == pytest.approx(twice)


def test_a_draw_without_any_part_has_nothing_in_common() -> None:
    assert cosine([["a"], []], {"a": 1}, 1).of(torch.tensor([0.0, 1.0], dtype=torch.float64)) == 0
