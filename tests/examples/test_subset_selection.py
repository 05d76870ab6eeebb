"""The script of subset selection trains, tests known and unknown sizes, and draws as its lines say."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from examples.benchmarks import subset_selection as script
from examples.benchmarks.pages import sets as page
from graphinv.sets import SetBatch, mean_jaccard, two_moons

TINY = "--data two_moons --count 40 --epochs 2 --channels 16 --hidden 16 --lr 0.003 --seeds 3".split()


def test_every_selector_gives_a_line_per_size_and_the_same_again(monkeypatch, capsys, tmp_path):
    outs = []
    for name in ("a", "b"):
        out = tmp_path / name
        monkeypatch.setattr(
            sys, "argv", ["subset_selection.py", *TINY, "--sizes", "20", "50", "--encoder", "mlp", "--out", str(out)]
        )
        script.main()
        outs.append([json.loads(line) for line in out.read_text().splitlines()])
    lines = outs[0]
    assert [(line["model"], line["n"], line["k"]) for line in lines] == [
        (model, n, n // 10) for model in script.MODELS for n in (20, 50)
    ]
    assert all(0 <= line["jaccard"] <= 1 for line in lines)
    assert all(0 <= line["jaccard_unknown"] <= 1 for line in lines if line["model"] != "greedy")
    assert lines[-1]["mode"] == "shared" and lines[-1]["parameters"] > lines[-3]["parameters"]
    assert [line["jaccard"] for line in lines] == [line["jaccard"] for line in outs[1]]


def test_random_choice_scores_what_chance_gives():
    test = two_moons(400, n=100, k=10, seed=5)
    found = script.tested(script.RandomSelector(), test, 0, None)
    assert abs(found - 0.0545) < 0.006  # hypergeometric: mean of j / (20 - j)


class Known:
    """Scores that are right, but all above one half."""

    def scores(self, batch, seed=0):
        return torch.where(batch.truth, 0.9, 0.7)

    def select(self, batch, sizes, threshold, seed):
        return self.scores(batch) > threshold if sizes is None else batch.truth


def test_the_threshold_is_found_where_one_half_would_take_everything():
    batch: SetBatch = two_moons(30, n=50, k=5, seed=1)
    level = script.best_threshold(Known(), batch, 0)
    assert 0.7 <= level < 0.9
    assert script.tested(Known(), batch, 0, level) == 1.0
    assert mean_jaccard(Known().scores(batch) > 0.5, batch.truth, batch.ptr) == pytest.approx(0.1)


def test_sizes_of_which_a_tenth_is_nothing_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["subset_selection.py", "--sizes", "9"])
    with pytest.raises(SystemExit):
        script.main()
    assert "at least 10" in capsys.readouterr().err


def cells(table):
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines() if "|" in row]


def test_the_page_compares_what_an_epoch_costs():
    line = {"data": "d", "model": "equivset", "n": 100, "jaccard": 0.9}
    lines = [
        {**line, "mode": mode, "seed": seed, "epoch_cpu_s": seconds + seed}
        for mode, seconds in (("independent", 7.5), ("first_order", 1.5))
        for seed in (0, 1)
    ]
    rows = cells(page.costs(lines))
    assert rows[2:] == [
        ["independent", "2", "8.00", "1.000", "0.900 ± 0.000"],
        ["first order", "2", "2.00", "0.250", "0.900 ± 0.000"],
    ]


def test_the_page_pairs_differences_by_seed():
    found = {"inset": {0: 0.5, 1: 0.7, 2: 0.6}, "deep_sets": {1: 0.5, 0: 0.4, 5: 0.9}, "mean_activity": {0: None}}
    lines = [
        {"data": "d", "n": 9, "k": 2, "model": model, "seed": seed, "jaccard": value, "command": "script.py"}
        for model, seeds in found.items()
        for seed, value in seeds.items()
    ]
    longer = {**lines[0], "jaccard": 0.9, "command": "script.py --epochs 40"}
    made = page.compound_charts([*lines, longer])
    assert list(made) == ["compounds_d_12.svg", "compounds_d_40.svg"]
    assert [made[name].count("<circle") for name in made] == [2, 1]
    assert page.compounds([*lines, longer]).count("### d: 2 of 9, up to 40 epochs") == 1
    rows = cells(page.compounds(lines))
    assert rows[2][:4] == ["inset", "3", "0.600 ± 0.100", ""]
    assert rows[3][:4] == ["deep_sets", "3", "0.600 ± 0.265", "+0.150 ± 0.050 (2 of 2)"]
    assert len(rows) == 4  # what had nothing to go by is left out


def test_the_page_has_a_row_per_selector_and_a_column_per_size():
    line = {"data": "d", "model": "inset", "encoder": "mlp", "mode": "shared", "epoch_cpu_s": 2.0}
    lines = [
        {**line, "seed": seed, "n": n, "jaccard": (6 + seed) / n, "jaccard_unknown": 0.1 * seed}
        for seed in (0, 2)
        for n in (10, 20)
    ]
    lines += [
        {**lines[0], "jaccard": 0.2},
        {"data": "d", "model": "random", "seed": 0, "n": 10, **dict.fromkeys(("jaccard", "jaccard_unknown"), 0.05)},
    ]
    rows = cells(page.tables(lines))
    assert rows[0][-2:] == ["n = 10", "n = 20"]
    assert rows[2] == ["inset", "mlp", "shared", "2", "2.00", "0.100 ± 0.141", "0.500 ± 0.424", "0.350 ± 0.071"]
    assert rows[3] == ["random", "", "", "1", "", "0.050", "0.050", ""]
    made = page.charts(lines)
    assert list(made) == ["sets_d.svg"] and made["sets_d.svg"].count("<circle") == 3
    assert page.charts([]) == {}
