"""Similarities in blocks are those that RDKit computes pair by pair, and obey the laws of the measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from graphinv.errors import InputError
from graphinv.metrics.comparison import interval
from graphinv.metrics.molecule.fingerprints import fingerprints, internal_diversity, nearest, snn

FIXTURE = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "metrics" / "moses_smallmol.json").read_text(encoding="utf-8")
)
SAMPLES, REFERENCE = FIXTURE["samples"][:60], FIXTURE["reference"][:70]


def similarities(x: list[str], y: list[str], bits: int = 1024) -> torch.Tensor:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=bits)
    left, right = ([generator.GetFingerprint(Chem.MolFromSmiles(text)) for text in side] for side in (x, y))
    rows = [DataStructs.BulkTanimotoSimilarity(print_, right) for print_ in left]
    return torch.tensor(rows, dtype=torch.float64)


def random_prints(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randint(256, (count, 128), generator=generator)
    return (dense & torch.randint(256, (count, 128), generator=generator)).to(torch.uint8)


def test_nearest_is_rdkits_largest_similarity() -> None:
    found = nearest(fingerprints(SAMPLES), fingerprints(REFERENCE))
    torch.testing.assert_close(found, similarities(SAMPLES, REFERENCE).amax(1), rtol=1e-15, atol=0)
    found = nearest(fingerprints(SAMPLES, 4096))
    torch.testing.assert_close(
        found, similarities(SAMPLES, SAMPLES, 4096).fill_diagonal_(0).amax(1), rtol=1e-15, atol=0
    )


def test_blocks_make_no_difference() -> None:
    x = random_prints(4100)  # more than a block
    y = torch.cat([random_prints(5000)[4100:4120], x[4098:4100], x[:1]])
    whole = nearest(x, y)
    parts = torch.cat([nearest(x[:1000], y), nearest(x[1000:], y)])
    torch.testing.assert_close(whole, parts, rtol=0, atol=0)
    assert whole[4098:].tolist() == [1.0, 1.0] and whole[0] == 1.0
    backwards = nearest(y, x)
    assert backwards[-3:].tolist() == [1.0, 1.0, 1.0]


def test_a_set_is_nearest_to_itself_in_any_order() -> None:
    prints = fingerprints(SAMPLES)
    assert snn(prints, prints.flip(0)).value == pytest.approx(1, abs=1e-15)
    assert snn(prints, fingerprints(REFERENCE)).value == pytest.approx(
        snn(prints.flip(0), fingerprints(REFERENCE[::-1])).value, rel=1e-14
    )


@pytest.mark.parametrize("p", [1, 2, 3])
def test_internal_diversity_is_what_its_formula_says(p: int) -> None:
    table = similarities(SAMPLES, SAMPLES)
    expected = 1 - (table**p).mean(1).pow(1 / p).mean()
    assert internal_diversity(fingerprints(SAMPLES), p).value == pytest.approx(float(expected), rel=1e-7)


def test_alike_molecules_have_no_diversity_and_one_alone_has_none() -> None:
    prints = fingerprints(["CCO"] * 5)
    for p in (1, 2):
        assert internal_diversity(prints, p).value == pytest.approx(0, abs=1e-14)
        assert internal_diversity(prints[:1], p).value == pytest.approx(0, abs=1e-14)


def test_many_samples_have_the_exact_value_and_the_right_slope() -> None:
    n = 4200  # beyond the kept matrix
    prints = random_prints(n)
    bits = ((prints[:, :, None] >> torch.arange(8)) & 1).reshape(n, -1).float()
    common = bits @ bits.t()
    table = (common / (bits.sum(1, keepdim=True) + bits.sum(1) - common)).double()
    equal = torch.full((n,), 1 / n, dtype=torch.float64)
    slope = equal * torch.linspace(-1, 1, n, dtype=torch.float64)
    for p, powers in ((1, table), (2, table**2)):
        diversity = internal_diversity(prints, p, progress=False)
        sides = []
        for sign in (-1, 0, 1):
            weights = equal + sign * slope
            sides.append(1 - float(weights @ (powers @ weights) ** (1 / p)))
        assert diversity.value == pytest.approx(sides[1], rel=1e-9)
        expected = (sides[2] - sides[0]) / 2
        assert diversity.of(equal + slope) - diversity.value == pytest.approx(expected, rel=1e-2)


def test_an_interval_of_a_diversity_holds_it() -> None:
    diversity = internal_diversity(fingerprints(SAMPLES))
    low, high = interval(diversity, repeats=30)
    assert low < diversity.value < high


def test_similarities_of_nothing_are_refused() -> None:
    prints = fingerprints(["C"])
    assert fingerprints([]).shape == (0, 128) and nearest(prints[:0], prints).shape == (0,)
    for call in (lambda: snn(prints, prints[:0]), lambda: snn(prints[:0], prints)):
        with pytest.raises(InputError):
            call()
    with pytest.raises(InputError):
        internal_diversity(prints[:0])
    with pytest.raises(InputError, match="power"):
        internal_diversity(prints, 0)
    with pytest.raises(InputError, match="alike"):
        nearest(prints, fingerprints(["C"], 512))
    with pytest.raises(InputError, match="multiple of 8"):
        fingerprints(["C"], 100)
