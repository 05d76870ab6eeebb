"""Affinities of ligands to proteins: what is read back, what is refused, and the real files where they are at hand."""

from __future__ import annotations

import gzip
import json
import os

import pytest
import torch

from graphinv.data import load_affinities, read_affinities
from graphinv.errors import InputError
from graphinv.mol import build_dataset

SMILES = {"z": "CCO", "a": "CCN", "7": "C"}


def files(tmp_path, matrix, ligands=None, packed=False):
    texts = {"ligands.txt": json.dumps(SMILES) if ligands is None else ligands, "matrix.txt": matrix}
    paths = []
    for name, text in texts.items():
        path = tmp_path / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        paths.append(path)
    return paths


@pytest.mark.parametrize("packed", [False, True])
def test_rows_keep_the_order_of_the_ligands_and_unknown_values_stay_unknown(tmp_path, packed):
    found = read_affinities(*files(tmp_path, "1\t2.5\tnan\t\r\nnan\tnan\t3\t\r\n4 5 -6\r\n\r\n", packed=packed))
    assert found.names == tuple(SMILES) and found.smiles == tuple(SMILES.values())
    expected = torch.tensor([[1, 2.5, torch.nan], [torch.nan, torch.nan, 3], [4, 5, -6]], dtype=torch.float64)
    torch.testing.assert_close(found.values, expected, equal_nan=True, rtol=0, atol=0)
    for protein, (rows, values) in enumerate((([0, 2], [1, 4]), ([0, 2], [2.5, 5]), ([1, 2], [3, -6]))):
        known, affinity = found.of_protein(protein)
        assert known.tolist() == rows and affinity.tolist() == values
    with pytest.raises(InputError, match="0..2, got 3"):
        found.of_protein(3)


def test_a_tenth_of_the_constant_is_one_more_pkd(tmp_path):
    values = read_affinities(*files(tmp_path, "1000\n100\n10\n"), nanomolar=True).values
    torch.testing.assert_close(values, torch.tensor([[6.0], [7.0], [8.0]], dtype=torch.float64))


BAD = {
    "a row too few": ("1 2\n3 4\n", None, "one row per ligand"),
    "rows of different lengths": ("1 2\n3\n4 5\n", None, "line 2: expected 2"),
    "a word": ("1\n2\nweak\n", None, "line 3: expected numbers"),
    "an infinite value": ("1\n2\ninf\n", None, "line 3"),
    "no rows": ("\n", None, "one row per ligand"),
    "a list of ligands": ("1\n", '["CCO"]', "JSON object of name to SMILES, got list"),
    "broken JSON": ("1\n", '{"a": ', "not a JSON object"),
    "a number for a SMILES": ("1\n", '{"a": 3}', "name to SMILES"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_of_another_form_are_refused(tmp_path, case):
    matrix, ligands, told = BAD[case]
    with pytest.raises(InputError, match=told):
        read_affinities(*files(tmp_path, matrix, ligands))


def test_constants_that_have_no_logarithm_are_refused(tmp_path):
    with pytest.raises(InputError, match="above 0 nM, got -3"):
        read_affinities(*files(tmp_path, "1\n-3\nnan\n"), nanomolar=True)


def test_other_data_sets_say_what_they_hold():
    with pytest.raises(InputError, match="holds molecules; affinities are in davis, kiba"):
        load_affinities("smallmol")
    with pytest.raises(InputError, match="load_affinities"):
        build_dataset("davis", progress=False)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "ligands", "proteins", "known"), [("davis", 68, 442, 30056), ("kiba", 2111, 229, 118254)]
)
def test_real_files_hold_what_their_papers_say(name, ligands, proteins, known):
    if not os.environ.get("GRAPHINV_DATA_DIR"):
        pytest.skip("GRAPHINV_DATA_DIR is not set")
    found = load_affinities(name, progress=False)
    assert found.values.shape == (ligands, proteins) and int(found.values.isfinite().sum()) == known
    least = float(found.values.nan_to_num(99).min())
    assert least == (5 if name == "davis" else 0)
