"""The task benchmark: answers against plain Python, one parameter budget, resuming, and tables that invent nothing."""

from __future__ import annotations

import json
import random
from collections import Counter

import networkx as nx
import numpy as np
import pytest
import torch

from examples.benchmarks import aggregator_tasks as script
from examples.benchmarks.tasks import models, pna
from examples.benchmarks.tasks import sets as set_tasks

KEYS = {"suite", "task", "aggregator", "seed", "params", "hidden", "steps", "train_s", "invariance_error"}
KEYS |= {"batch_consistency_error", "torch", "threads", "settings"}
TINY_SETS = ["--steps", "3", "--test-sets", "8", "--test-sizes", "4", "9", "--batch-size", "8", "--seeds", "1"]
TINY_PNA = ["--suite", "pna", "--steps", "3", "--seeds", "1", "--rounds", "2", "--extrapolate", "25-26"]
TINY_PNA += ["--train-graphs", "6", "--val-graphs", "4", "--test-graphs", "4", "--batch-size", "4"]


@pytest.fixture(autouse=True, scope="module")
def threads():
    """The script sets the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


ORACLES = {
    "second_minimum": lambda s: sorted(s)[min(1, len(s) - 1)],
    "kth_minimum": lambda s: sorted(s)[min(3, len(s) - 1)],
    "median": lambda s: sorted(s)[(len(s) - 1) // 2],
    "unique_count": lambda s: len(set(s)),
    "mode": lambda s: min(v for v, n in Counter(s).items() if n == max(Counter(s).values())),
    "parity": lambda s: sum(v % 2 for v in s) % 2,
}


@pytest.mark.parametrize("name", ORACLES)
def test_answers_are_those_of_plain_python_and_elements_are_in_range(name):
    task = set_tasks.TASKS[name]
    sizes = torch.randint(1, 20, (300,), generator=torch.Generator().manual_seed(1))
    sets = set_tasks.draw_sets(task, sizes, torch.Generator().manual_seed(2))
    assert torch.equal(sets.index.bincount(minlength=300), sizes)
    assert 0 <= int(sets.values.min()) and int(sets.values.max()) < 1 << task.bits
    for k, bits in enumerate(sets.answer.long().tolist()):
        expected = ORACLES[name](sets.values[sets.index == k].tolist())
        assert sum(bit << place for place, bit in enumerate(bits)) == expected, f"{name}, set {k}"


@pytest.mark.parametrize("name", ORACLES)
def test_a_constant_answer_is_mostly_wrong_at_every_size(name):
    task = set_tasks.TASKS[name]
    for size in (16, 32, 64, 128):
        sets = set_tasks.draw_sets(task, torch.full((500,), size), torch.Generator().manual_seed(size))
        share = sets.answer.unique(dim=0, return_counts=True)[1].max() / 500
        assert share < (0.6 if name == "parity" else 0.5), f"{name} at {size}: {share}"


def test_sets_of_a_seed_are_the_same_and_of_another_seed_different():
    task, sizes = set_tasks.TASKS["median"], torch.full((20,), 9)
    first, again, other = (
        set_tasks.draw_sets(task, sizes, torch.Generator().manual_seed(seed)).values for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def adjacencies():
    rng = random.Random(0)
    return [pna.draw_graph(size, rng) for size in (15, 18, 24) for _ in range(8)]


def test_graphs_are_simple_symmetric_and_without_isolated_nodes():
    for adjacency in adjacencies():
        assert torch.equal(adjacency, adjacency.T)
        assert not adjacency.diagonal().any()
        assert adjacency.any(1).all()


@pytest.mark.parametrize("family_nodes", [15, 17, 24])
def test_every_family_has_graphs_of_the_size_asked_for(family_nodes):
    for family in pna.FAMILIES:
        graph = pna._family(family, family_nodes, random.Random(3))
        assert sorted(graph) == list(range(family_nodes)), family
        if family in ("tree", "line", "star", "caterpillar", "lobster"):
            assert nx.is_tree(graph), family
        if family in ("grid", "ladder"):
            assert nx.is_connected(graph), family


def test_graph_targets_are_those_of_networkx():
    graphs = [*adjacencies(), torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)).bool().fill_diagonal_(False)]
    for adjacency in graphs:
        size = len(adjacency)
        feature = torch.rand(size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        node, whole = pna.targets(adjacency, 1, feature)
        graph = nx.from_numpy_array(adjacency.numpy().astype(int))
        paths = dict(nx.all_pairs_shortest_path_length(graph))
        assert node[:, 0].tolist() == [paths[1].get(i, -1) for i in range(size)]
        assert node[:, 1].tolist() == [max(paths[i].values()) for i in range(size)]
        differences = [sum(float(feature[i] - feature[j]) for j in graph.neighbors(i)) for i in range(size)]
        torch.testing.assert_close(node[:, 2], torch.tensor(differences, dtype=torch.float64))
        radius = max(abs(np.linalg.eigvals(nx.to_numpy_array(graph))))
        expected = [float(nx.is_connected(graph)), max(max(p.values()) for p in paths.values()), radius]
        torch.testing.assert_close(whole, torch.tensor(expected, dtype=torch.float64))


def test_batches_of_graphs_have_sorted_edges_in_both_directions_and_targets_up_to_one():
    train, test = pna.load(((10, (15, 24)), (4, (25, 26))), 5, 7)
    assert [len(g.graph_targets) for g in train] == [5, 5]
    for graphs in (*train, *test):
        source, target = graphs.edges
        assert torch.equal(target, target.sort().values)
        assert torch.equal(graphs.graph[source], graphs.graph[target])
        assert {(a, b) for a, b in graphs.edges.T.tolist()} == {(b, a) for a, b in graphs.edges.T.tolist()}
    largest = torch.cat([g.node_targets for g in train]).abs().amax(0)
    torch.testing.assert_close(largest, torch.ones(3))


@pytest.mark.parametrize("budget", [8_000, 20_000, 40_000])
def test_all_models_have_the_same_number_of_parameters_within_a_tenth(budget):
    task = set_tasks.TASKS["second_minimum"]
    for name in models.AGGREGATORS:
        width = models.match_width(lambda w, n=name: set_tasks.SetModel(task, n, w, 0.0), budget)
        number = models.count_parameters(set_tasks.SetModel(task, name, width, 0.0))
        assert abs(number - budget) <= 0.1 * budget, f"{name}: {number}"


@pytest.mark.parametrize("name", list(models.AGGREGATORS))
def test_three_steps_of_each_aggregator_give_a_full_line_on_sets(name, capsys):
    script.main([*TINY_SETS, "--tasks", "mode", "--aggregators", name])
    line = json.loads(capsys.readouterr().out)
    assert line.keys() >= KEYS | {"accuracy", "flip_share"}
    assert line["accuracy"].keys() == line["flip_share"].keys() == {"4", "9"}
    assert all(0 <= value <= 1 for value in line["accuracy"].values())
    ordered = name in ("packed_gru", "pyg_lcm") or name.endswith("_random")
    assert (line["invariance_error"] < 1e-4) != ordered
    if name != "pyg_lcm":
        assert line["batch_consistency_error"] < 1e-4


@pytest.mark.parametrize("name", list(models.AGGREGATORS))
def test_three_steps_of_each_aggregator_give_a_full_line_on_graphs(name, capsys):
    script.main([*TINY_PNA, "--aggregators", name])
    line = json.loads(capsys.readouterr().out)
    assert line.keys() >= KEYS | {"log10_mse", "best_step"}
    assert line["log10_mse"].keys() == {"15-24", "25-26"}
    row = line["log10_mse"]["15-24"]
    targets = [*pna.NODE_TARGETS, *pna.GRAPH_TARGETS]
    assert row.keys() == {*targets, "mean"}
    assert row["mean"] == pytest.approx(sum(row[target] for target in targets) / 6, abs=1e-2)


def test_a_run_is_the_same_when_repeated(capsys):
    command = [*TINY_SETS, "--tasks", "second_minimum", "--aggregators", "lcm_gru_random"]
    lines = []
    for _ in range(2):
        script.main(command)
        lines.append(json.loads(capsys.readouterr().out))
    for line in lines:
        del line["train_s"], line["test_s"]
    assert lines[0] == lines[1]


def test_resume_makes_only_the_runs_that_are_missing_with_these_settings(tmp_path, capsys):
    out = tmp_path / "results.jsonl"
    command = [*TINY_SETS, "--tasks", "mode", "--out", str(out)]
    script.main([*command, "--aggregators", "sum"])
    with out.open("a") as file:
        file.write('{"cut off')
    script.main([*command, "--aggregators", "sum", "max", "--resume"])
    script.main([*command, "--aggregators", "sum", "--steps", "2", "--resume"])
    made = [(line["aggregator"], line["steps"]) for line in script.read_lines(out)]
    assert made == [("sum", 3), ("max", 3), ("sum", 2)]


def test_an_existing_file_is_not_appended_to_without_resume(tmp_path, capsys):
    out = tmp_path / "results.jsonl"
    out.write_text("")
    with pytest.raises(SystemExit):
        script.main([*TINY_SETS, "--out", str(out)])
    assert "--resume" in capsys.readouterr().err


def test_a_spent_budget_names_what_is_missing(capsys):
    script.main([*TINY_SETS, "--tasks", "mode", "--aggregators", "sum", "max", "--budget-minutes", "-1"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "mode sum seed 0" in captured.err and "mode max seed 0" in captured.err


def test_tables_show_missing_runs_as_missing(tmp_path, capsys):
    out = tmp_path / "results.jsonl"
    script.main([*TINY_SETS, "--tasks", "mode", "--aggregators", "sum", "--out", str(out)])
    capsys.readouterr()
    script.main(["--table", str(out), "--tasks", "mode", "parity", "--aggregators", "sum", "max", "--seeds", "2"])
    text = capsys.readouterr().out
    first, second = text.split("### parity")
    row = next(line for line in first.splitlines() if line.startswith("| sum"))
    assert "1 of 2" in row and "missing" not in row and "±" not in row
    assert "0 of 2 | missing" in next(line for line in first.splitlines() if line.startswith("| max"))
    assert all("0 of 2 | missing" in line for line in second.splitlines() if line.startswith(("| sum", "| max")))


def test_tables_give_mean_and_deviation_over_seeds():
    settings = {"task": "mode", "aggregator": "sum", "training": {"steps": 5}}
    line = {
        "suite": "sets",
        "task": "mode",
        "aggregator": "sum",
        "steps": 5,
        "params": 40000,
        "flip_share": {"16": 0.5},
    }
    line |= {"invariance_error": 1e-7, "batch_consistency_error": None}
    lines = [
        {**line, "seed": seed, "accuracy": {"16": value}, "settings": {**settings, "seed": seed}}
        for seed, value in enumerate((0.2, 0.4))
    ]
    text = script.table([*lines, *lines], "sets", "mode", ["sum"], range(2))
    assert "| sum | 5 | 2 of 2 | 0.300 ± 0.141 | 0.500 ± 0.000 | 40,000 | 1e-07 | not finite |" in text


@pytest.mark.parametrize(
    "wrong",
    [["--tasks", "maximum"], ["--aggregators", "suum"], ["--resume"], ["--steps", "0"], ["--extrapolate", "30-25"]],
)
def test_wrong_arguments_end_with_one_line_that_helps(wrong, capsys):
    with pytest.raises(SystemExit):
        script.main(wrong)
    message = capsys.readouterr().err
    assert any(word in message for word in ("there are:", "name one", "at least 1", "'30-25'"))


def test_a_table_of_a_wrong_file_says_so(tmp_path, capsys):
    with pytest.raises(SystemExit, match="not a file"):
        script.main(["--table", str(tmp_path / "none.jsonl")])
    (tmp_path / "other.jsonl").write_text('{"bad": 1}\nnot json\n')
    script.main(["--table", str(tmp_path / "other.jsonl"), "--tasks", "mode", "--aggregators", "sum"])
    out = capsys.readouterr()
    assert out.err.count("not a line of this script") == 2 and "missing" in out.out
