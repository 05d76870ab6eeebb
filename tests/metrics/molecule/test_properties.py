"""Properties against other routes to them, and the Wasserstein distance against scipy and its own laws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, RDConfig
from rdkit.Chem import rdMolDescriptors

from graphinv.errors import InputError
from graphinv.metrics.comparison import interval
from graphinv.metrics.molecule.properties import (
    GUACAMOL_DESCRIPTORS,
    MOSES_PROPERTIES,
    load_properties,
    properties,
    wasserstein,
)
from graphinv.mol.descriptors import _sa_score

FIXTURE = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "metrics" / "moses_wasserstein.json").read_text(encoding="utf-8")
)
DRUGS = ["CC(=O)Oc1ccccc1C(=O)O", "Cn1c(=O)c2c(ncn2C)n(C)c1=O", "CC(C)Cc1ccc(C(C)C(=O)O)cc1", "C"]
numbers = st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=12)


def tensor(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_every_property_has_one_finite_number_per_molecule() -> None:
    found = properties(DRUGS, [*MOSES_PROPERTIES, *GUACAMOL_DESCRIPTORS])
    assert list(found) == [*MOSES_PROPERTIES, *GUACAMOL_DESCRIPTORS]
    for name, values in found.items():
        assert values.shape == (len(DRUGS),) and values.dtype == torch.float64, name
        assert bool(values.isfinite().all()), name
    assert bool(((found["qed"] > 0) & (found["qed"] < 1)).all())
    assert bool(((found["sa"] >= 1) & (found["sa"] <= 10)).all())


def test_properties_equal_what_rdkits_other_functions_say() -> None:
    found = properties(DRUGS, [*MOSES_PROPERTIES, *GUACAMOL_DESCRIPTORS])
    for row, text in enumerate(DRUGS):
        mol = Chem.MolFromSmiles(text)
        assert float(found["log_p"][row]) == pytest.approx(rdMolDescriptors.CalcCrippenDescriptors(mol)[0], abs=1e-9)
        assert float(found["TPSA"][row]) == pytest.approx(rdMolDescriptors.CalcTPSA(mol))
        assert float(found["NumRotatableBonds"][row]) == rdMolDescriptors.CalcNumRotatableBonds(mol)
        assert float(found["NumAromaticRings"][row]) == rdMolDescriptors.CalcNumAromaticRings(mol)
        heavy = sum(atom.GetMass() for atom in mol.GetAtoms())
        hydrogens = sum(atom.GetTotalNumHs() for atom in mol.GetAtoms())
        assert float(found["weight"][row]) == pytest.approx(heavy + 1.008 * hydrogens, rel=1e-6)
    torch.testing.assert_close(found["MolLogP"], found["log_p"])
    torch.testing.assert_close(found["MolWt"], found["weight"])


def test_aspirin_is_as_drug_like_and_easy_to_make_as_published() -> None:
    found = properties(DRUGS[:1])
    assert float(found["qed"]) == pytest.approx(0.550, abs=1e-3)  # Bickerton et al. 2012
    assert float(found["sa"]) == pytest.approx(1.58, abs=1e-2)


def test_workers_and_the_cache_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHINV_CACHE_DIR", str(tmp_path))
    many = ["C" * (1 + k % 40) + "O" for k in range(2400)]
    alone = properties(many, ["weight"], workers=1)["weight"]
    torch.testing.assert_close(properties(many, ["weight"], workers=2)["weight"], alone, rtol=0, atol=0)
    for _ in range(2):
        torch.testing.assert_close(load_properties(many, ["weight"])["weight"], alone, rtol=0, atol=0)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_no_molecules_have_no_properties() -> None:
    assert properties([])["qed"].shape == (0,)


@pytest.mark.parametrize("text", ["", "None", "C(C)(C)(C)(C)C", "CÖ"])
def test_what_is_no_molecule_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(InputError, match="expected SMILES of molecules"):
        properties(["C", text], ["weight"])


def test_an_unknown_property_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="no property 'logp'; there are log_p"):
        properties(["C"], ["logp"])
    with pytest.raises(InputError, match="workers must be 0 or more"):
        properties(["C"], workers=-1)


def test_a_build_of_rdkit_without_the_sa_score_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(RDConfig, "RDContribDir", str(tmp_path))
    _sa_score.cache_clear()
    with pytest.raises(InputError, match="lacks Contrib/SA_Score"):
        properties(["C"], ["sa"])
    _sa_score.cache_clear()


@pytest.mark.parametrize("case", FIXTURE["cases"])
def test_wasserstein_is_scipys(case: dict[str, list[float]]) -> None:
    distance = wasserstein(tensor(case["x"]), tensor(case["y"]))
    weights = tensor(case["weights"])
    assert distance.value == pytest.approx(case["equal"], rel=1e-12, abs=1e-14)
    assert distance.of(weights / weights.sum()) == pytest.approx(case["weighted"], rel=1e-12, abs=1e-14)


@settings(max_examples=50, deadline=None)
@given(numbers, numbers, st.integers(-5, 5))
def test_wasserstein_is_a_metric_that_a_shift_moves_by_itself(x: list[float], y: list[float], by: int) -> None:
    forth, back = wasserstein(tensor(x), tensor(y)).value, wasserstein(tensor(y), tensor(x)).value
    assert forth == pytest.approx(back, abs=1e-12) and forth >= 0
    assert wasserstein(tensor(x), tensor(x[::-1])).value == pytest.approx(0, abs=1e-12)
    assert wasserstein(tensor(x), tensor(x) + by).value == pytest.approx(abs(by), abs=1e-12)
    if len(x) == len(y):
        assert forth == pytest.approx(float((tensor(x).sort().values - tensor(y).sort().values).abs().mean()))


@settings(max_examples=30, deadline=None)
@given(numbers, numbers)
def test_a_repeated_sample_is_one_of_weight_two(x: list[float], y: list[float]) -> None:
    weights = torch.ones(len(x), dtype=torch.float64)
    weights[0] = 2
    twice = wasserstein(tensor([*x, x[0]]), tensor(y)).value
    assert wasserstein(tensor(x), tensor(y)).of(weights / weights.sum()) == pytest.approx(twice, abs=1e-12)


def test_an_interval_of_a_wasserstein_distance_holds_it() -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distance = wasserstein(x, x + 0.5)
    low, high = interval(distance, repeats=50)
    assert low < distance.value < high


def test_wasserstein_refuses_nothing_and_what_is_no_number() -> None:
    with pytest.raises(InputError):
        wasserstein(tensor([]), tensor([1.0]))
    with pytest.raises(InputError):
        wasserstein(tensor([1.0]), tensor([]))
    with pytest.raises(InputError, match="finite"):
        wasserstein(tensor([float("nan")]), tensor([1.0]))
