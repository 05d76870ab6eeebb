"""The ChemNet distance equals that of the package `fcd`, is 0 of a set and itself, and forgets nothing it computed."""

from __future__ import annotations

import json
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphinv.errors import InputError
from graphinv.metrics.molecule.fcd import Statistics, chemnet_activations, fcd_distance, reference_statistics

FIXTURE = Path(__file__).parents[2] / "fixtures" / "metrics" / "fcd_smallmol.json"


def points(seed: int, count: int, width: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=draw, dtype=torch.float64)
    return torch.randn(count, width, generator=draw, dtype=torch.float64) @ mix + torch.randn(width, generator=draw)


def eigenvalue_oracle(x: Tensor, y: Tensor) -> float:
    """The definition, by the eigenvalues of the product of covariances, which is not symmetric."""
    c, d = (torch.atleast_2d(rows.t().cov()) for rows in (x, y))
    between = torch.linalg.eigvals(c @ d).real.clamp(min=0).sqrt().sum()
    gap = (x.mean(0) - y.mean(0)).square().sum()
    return float(gap + c.trace() + d.trace() - 2 * between)


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """Two sets of molecules, their distance by `fcd`, and their activations by ours."""
    pytest.importorskip("fcd", reason="the package fcd is not installed")
    data = json.loads(FIXTURE.read_text(encoding="utf-8"))
    rows = chemnet_activations(data["samples"] + data["reference"], progress=False)
    return data | {"x": rows[:600], "y": rows[600:]}


def test_distances_of_real_sets_equal_those_of_the_package(published):
    reference = Statistics.of(published["y"])
    # fcd averages in float32: the two agree to 3e-8 of the distance.
    assert fcd_distance(published["x"], reference).value == pytest.approx(published["distance"], rel=1e-6)
    few = fcd_distance(published["x"][:300], reference)
    assert few.value == pytest.approx(published["distance_of_300"], rel=1e-6)
    assert (few.count, few.reference_count) == (300, 600)


def test_a_set_is_at_no_distance_from_itself_with_singular_covariance_too(published):
    for count in (600, 300, 2):
        rows = published["x"][:count]
        assert 0 <= fcd_distance(rows, Statistics.of(rows)).value <= 1e-4


def test_the_distance_is_symmetric_and_does_not_see_the_order(published):
    x, y = published["x"], published["y"]
    distance = fcd_distance(x, Statistics.of(y)).value
    # The root of an eigenvalue that should be 0 is the root of its rounding error.
    assert fcd_distance(y, Statistics.of(x)).value == pytest.approx(distance, rel=1e-7)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    assert fcd_distance(x[order], Statistics.of(y[order])).value == pytest.approx(distance, rel=1e-7)


def test_activations_equal_those_of_the_package_in_the_order_given(published):
    import fcd

    texts = published["samples"][:40] + ["C" * 349, "CC(=O)Oc1ccccc1C(=O)O", "[Na+].[Cl-]", "C", "FC(Cl)(Br)I"]
    theirs = torch.from_numpy(fcd.get_predictions(fcd.load_ref_model(), texts, n_jobs=0))
    torch.testing.assert_close(chemnet_activations(texts, progress=False), theirs, rtol=0, atol=1e-5)


def test_a_text_longer_than_the_input_of_the_network_changes_no_other(published):
    import fcd

    long = "C" * 400
    rows = chemnet_activations(["CCO", long, "CCN"], progress=False)
    alone = chemnet_activations(["CCO", "CCN"], progress=False)
    torch.testing.assert_close(rows[[0, 2]], alone, rtol=0, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.from_numpy(fcd.get_predictions(fcd.load_ref_model(), [long], n_jobs=0))
    torch.testing.assert_close(rows[1:2], theirs, rtol=0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 6), more=st.integers(2, 20), others=st.integers(2, 20))
def test_the_distance_is_the_formula(seed, width, more, others):
    x, y = points(seed, width + more, width), points(seed + 1, width + others, width)
    assert fcd_distance(x, Statistics.of(y)).value == pytest.approx(eigenvalue_oracle(x, y), rel=1e-8, abs=1e-8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 30), width=st.integers(1, 8))
def test_weights_stand_for_repeated_samples(seed, count, width):
    x, reference = points(seed, count, width), Statistics.of(points(seed + 1, 20, width))
    rows = torch.randint(count, (count,), generator=torch.Generator().manual_seed(seed))
    weights = torch.bincount(rows, minlength=count).double() / count
    repeated = fcd_distance(x[rows], reference).value
    assert fcd_distance(x, reference).of(weights) == pytest.approx(repeated, rel=1e-6, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), far=st.floats(-1e3, 1e3))
def test_a_shift_adds_its_square_and_a_rotation_nothing(seed, far):
    x, y = points(seed, 40, 4), points(seed + 1, 50, 4)
    turn = torch.linalg.qr(points(seed + 2, 4, 4)).Q
    distance = fcd_distance(x, Statistics.of(y)).value
    assert fcd_distance(x @ turn, Statistics.of(y @ turn)).value == pytest.approx(distance, rel=1e-6, abs=1e-6)
    assert fcd_distance(x + far, Statistics.of(x)).value == pytest.approx(4 * far**2, rel=1e-6, abs=1e-4)


def test_mean_and_covariance_are_in_double_precision_and_unbiased():
    x = points(0, 100, 5).float() + 1e3
    made = Statistics.of(x)
    assert made.count == 100 and made.covariance.dtype == torch.float64
    torch.testing.assert_close(made.covariance, x.double().t().cov(), rtol=1e-12, atol=1e-12)


def test_what_cannot_have_a_covariance_is_an_error():
    reference = Statistics.of(points(0, 9, 3))
    for bad in (torch.zeros(1, 3), torch.zeros(0, 3), torch.zeros(3), torch.full((4, 3), torch.nan)):
        with pytest.raises(InputError, match=r"covariance|finite"):
            fcd_distance(bad, reference)
    with pytest.raises(InputError, match="width 3, got 2"):
        fcd_distance(torch.zeros(5, 2), reference)


@pytest.mark.parametrize("text", ["", "None", "C(", "CCO ethanol", "C\u00e9"])
def test_a_text_that_is_no_molecule_is_an_error_that_names_it(text):
    pytest.importorskip("fcd", reason="the package fcd is not installed")
    with pytest.raises(InputError, match="row 1"):
        chemnet_activations(["CC", text], progress=False)


def test_no_molecules_have_no_activations_and_one_has_no_statistics():
    pytest.importorskip("fcd", reason="the package fcd is not installed")
    assert chemnet_activations([], progress=False).shape == (0, 512)
    with pytest.raises(InputError, match="at least 2 molecules, got 1"):
        reference_statistics(["CC"], progress=False)


def test_statistics_are_kept_for_the_same_molecules_in_any_order(tmp_path, monkeypatch):
    pytest.importorskip("fcd", reason="the package fcd is not installed")
    monkeypatch.setenv("GRAPHINV_CACHE_DIR", str(tmp_path))
    smiles = ["CCO", "CCN", "c1ccccc1", "CC"]
    made = reference_statistics(smiles, progress=False)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    assert len(files) == 1 and made.count == 4
    random.Random(0).shuffle(smiles)
    again = reference_statistics(smiles, progress=False)
    assert torch.equal(made.mean, again.mean) and torch.equal(made.covariance, again.covariance)
    assert files == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    reference_statistics([*smiles, "CC"], progress=False)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fcd", None)
    with pytest.raises(InputError, match=r"pip install 'graphinv\[metrics\]'"):
        chemnet_activations(["CC"], progress=False)
