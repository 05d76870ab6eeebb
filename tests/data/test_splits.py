"""Split rules: partitions, published counts, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from graphinv.data import GraphStore, Vocabulary, apply_split, split_ids
from graphinv.errors import InputError

DATA = os.environ.get("GRAPHINV_DATA_DIR")
needs_data = pytest.mark.skipif(not DATA, reason="GRAPHINV_DATA_DIR is not set")
QM9_LINES, ZINC_CSV_LINES, ZINC_EXTRA = 133_885, 249_455, 234_299


def index_file(folder: Path, value: object, name: str = "index.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value))
    return path


def test_none_trains_on_everything() -> None:
    assert split_ids("none", torch.arange(5), 9).tolist() == [0] * 5


@pytest.mark.parametrize("size", [0, 1, 2, 10, 1001])
@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.3, 0.2)])
def test_random_split_has_the_fractions_and_depends_on_the_seed_alone(
    size: int, fractions: tuple[float, float, float]
) -> None:
    rule = "random:" + "/".join(map(str, fractions))
    row = torch.arange(size)
    ids = split_ids(f"{rule}:3", row, size)
    torch.manual_seed(0)
    assert ids.dtype == torch.uint8 and torch.equal(ids, split_ids(f"{rule}:3", row, size))
    counts = torch.bincount(ids, minlength=3)
    assert all(abs(int(count) - part * size) <= 1 for count, part in zip(counts, fractions, strict=True)), counts
    if size > 100 and max(fractions) < 1:
        assert not torch.equal(ids, split_ids(f"{rule}:4", row, size))


@pytest.mark.parametrize("value", [[1, 4], {"valid_idxs": ["0001", "04"]}])
def test_index_rule_reads_both_forms_and_counts_lines_not_graphs(value: object, tmp_path: Path) -> None:
    path = index_file(tmp_path, value)
    row = torch.tensor([0, 2, 4], dtype=torch.int32)  # lines 1 and 3 were rejected
    assert split_ids(f"index:{path}", row, 5).tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([5], "lists lines 5..5"),
        ([-1], "lists lines -1"),
        ([1, 1], "twice"),
        ([1.5], "must hold a list"),
        (["x"], "no line number"),
        ([True], "must hold a list"),
        ({"test": [1]}, "must hold a list"),
        (3, "must hold a list"),
    ],
)
def test_malformed_index_files_are_refused(value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        split_ids(f"index:{index_file(tmp_path, value)}", torch.arange(5), 5)


def test_index_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("no json")
    for name, message in (("absent.json", "cannot read"), ("text.json", "not JSON"), ("", "cannot read")):
        with pytest.raises(InputError, match=message):
            split_ids(f"index:{tmp_path / name}", torch.arange(5), 5)


@pytest.mark.parametrize(
    "rule",
    ["", "random", "random:0.5/0.5:0", "random:0.5/0.2/0.2:0", "random:a/b/c:0", "random:0.8/0.1/0.1:-1", "index:"]
    + ["random:1.5/-0.5/0:0", "scaffold", "gdss-qm9:1", "random:0.8/0.1/0.1:0:1", "random:nan/0/0:0"],
)
def test_rules_that_are_no_rule_are_refused(rule: str) -> None:
    with pytest.raises(InputError, match="split rule"):
        split_ids(rule, torch.arange(5), 5)


def test_gdss_rules_need_all_lines_and_the_index_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = index_file(tmp_path, [0])
    for rule in ("gdss-qm9", "gdss-zinc250k"):
        with pytest.raises(InputError, match="complete file of"):
            split_ids(rule, torch.arange(5), 5, index_file=path)
        monkeypatch.delenv("GRAPHINV_DATA_DIR", raising=False)
        with pytest.raises(InputError, match="GRAPHINV_DATA_DIR is not set.*GDSS"):
            split_ids(rule, torch.arange(5), 5)
        with pytest.raises(InputError, match="not below"):
            split_ids(rule, torch.arange(5), 5, data_dir=tmp_path)


def test_gdss_index_file_is_found_at_any_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    index_file(folder, {"valid_idxs": ["000007"]}, "valid_idx_qm9.json")
    monkeypatch.setenv("GRAPHINV_DATA_DIR", str(tmp_path))
    assert split_ids("gdss-qm9", torch.arange(QM9_LINES), QM9_LINES).nonzero().flatten().tolist() == [7]


def test_zinc_rule_moves_rows_after_the_extra_line_and_puts_that_line_in_no_split(tmp_path: Path) -> None:
    listed = [0, ZINC_EXTRA - 1, ZINC_EXTRA, ZINC_CSV_LINES - 1]
    path = index_file(tmp_path, listed)
    csv = split_ids("gdss-zinc250k", torch.arange(ZINC_CSV_LINES), ZINC_CSV_LINES, path)
    smi = split_ids("gdss-zinc250k", torch.arange(ZINC_CSV_LINES + 1), ZINC_CSV_LINES + 1, path)
    assert csv.nonzero().flatten().tolist() == listed
    assert int(smi[ZINC_EXTRA]) == 3
    assert torch.equal(torch.cat([smi[:ZINC_EXTRA], smi[ZINC_EXTRA + 1 :]]), csv)


def test_apply_split_uses_the_lines_of_the_provenance_and_records_the_rule(tmp_path: Path) -> None:
    arrays = {"node_type": [0, 0], "node_ptr": [0, 1, 2], "bond": [], "bond_type": [], "bond_ptr": [0, 0, 0]}
    counts = {"counts": {"lines": 6}}
    vocabulary = Vocabulary(("C",), ("single",), "element")
    store = GraphStore.from_arrays(**arrays, vocabulary=vocabulary, row=[1, 5], provenance=counts)  # type: ignore[arg-type]
    rule = f"index:{index_file(tmp_path, [5])}"
    split = apply_split(store, rule)
    assert split.split_id.tolist() == [0, 2] and split.provenance == {**counts, "split": rule}
    assert store.split_id.tolist() == [0, 0] and "split" not in store.provenance
    with pytest.raises(InputError, match="lists lines 5..5"):
        split_ids(rule, store.row, 5)
    with pytest.raises(InputError, match="came from line 5"):
        split_ids(f"index:{index_file(tmp_path, [0])}", store.row, 5)


@needs_data
@pytest.mark.data
def test_published_splits_have_the_published_counts() -> None:
    qm9 = split_ids("gdss-qm9", torch.arange(QM9_LINES), QM9_LINES)
    assert torch.bincount(qm9).tolist() == [120_803, 0, 13_082]
    assert qm9[7278] == 2  # "007278" is row 7278, molecule gdb_7279
    csv = split_ids("gdss-zinc250k", torch.arange(ZINC_CSV_LINES), ZINC_CSV_LINES)
    assert torch.bincount(csv).tolist() == [224_568, 0, 24_887]
    smi = split_ids("gdss-zinc250k", torch.arange(ZINC_CSV_LINES + 1), ZINC_CSV_LINES + 1)
    assert torch.bincount(smi).tolist() == [224_568, 0, 24_887, 1]
