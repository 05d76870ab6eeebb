"""Properties of the report: denominators, nested notions of validity, intervals."""

from __future__ import annotations

import json
import random

import pytest

from graphinv.errors import InputError
from graphinv.metrics.molecule import molecule_report
from graphinv.metrics.table import format_report

POOL = [
    "CCO",
    "OCC",
    "c1ccccc1",
    "C=F",
    "CN(C)(C)C",
    "",
    "None",
    "C1CC",
    "CC.O",
    "CC.C=F",
    "CN(=O)=O",
    "[CH5]",
    "c1cccc1",
]
VALIDITY = ("valid_strict", "valid_fragment", "valid_relaxed", "valid_corrected")


def test_every_sample_counts_in_the_denominator() -> None:
    report = molecule_report(POOL, train=["C[N+](=O)[O-]", "OCC"])
    assert report["samples"] == len(POOL)
    expected = {"valid_strict": 4, "valid_fragment": 5, "valid_relaxed": 6, "valid_corrected": 10, "connected": 8}
    for name, count in expected.items():
        assert report[name]["count"] == count, name
        assert report[name]["rate"] == count / len(POOL)
    assert report["unique"]["count"] == 3 and report["unique"]["rate"] == 3 / 4
    assert report["unique"]["rate_of_samples"] == 3 / len(POOL)
    assert report["novel"]["count"] == 1 and report["novel"]["rate"] == 1 / 3
    assert report["atoms"]["N+"] == 1 and report["repair_edits"] > 0


def test_the_four_notions_are_nested_and_independent_of_order() -> None:
    rng = random.Random(0)
    for _ in range(10):
        sample = rng.choices(POOL, k=rng.randrange(1, 60))
        report = molecule_report(sample)
        counts = [report[name]["count"] for name in VALIDITY]
        assert counts == sorted(counts)
        for name in VALIDITY:
            assert 0 <= report[name]["low"] <= report[name]["rate"] <= report[name]["high"] <= 1
        rng.shuffle(sample)
        assert molecule_report(sample) == report
        assert json.loads(json.dumps(report)) == report


def test_each_key_of_the_report_is_defined() -> None:
    report = molecule_report(["C"], train=[])
    assert set(report) - {"definitions", "samples"} <= set(report["definitions"])


def test_novelty_canonicalises_the_training_set_unless_told_otherwise() -> None:
    assert molecule_report(["CCO"], train=["O[13CH2]C"])["novel"]["count"] == 0
    assert molecule_report(["CCO"], train=["OCC"], train_is_canonical=True)["novel"]["count"] == 1
    assert molecule_report(["CCO"])["novel"] is None


def test_rates_of_nothing_are_none_and_no_sample_is_an_error() -> None:
    report = molecule_report(["", "None"], train=["C"])
    assert report["unique"]["rate"] is None and report["novel"]["rate"] is None
    assert report["valid_corrected"]["count"] == 0 and report["valid_strict"]["high"] > 0
    assert "unique" in format_report(report)
    with pytest.raises(InputError, match="at least one sample"):
        molecule_report([])


def test_wilson_interval_matches_its_textbook_value() -> None:
    strict = molecule_report(["C"] * 8 + [""] * 2)["valid_strict"]
    assert strict["low"] == pytest.approx(0.4902, abs=1e-4) and strict["high"] == pytest.approx(0.9433, abs=1e-4)


def test_the_table_names_every_rate() -> None:
    text = format_report(molecule_report(POOL, train=["CC"]))
    assert all(name in text for name in (*VALIDITY, "connected", "unique", "novel", "repair_edits", "13 samples"))
