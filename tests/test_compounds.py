"""Compound selection: the rule that makes subsets, ground sets from assays, molecules encoded once, and learning."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch

from graphinv.compounds import MoleculeTable, active_and_diverse, assays_of, compound_sets, drug_likeness
from graphinv.data import Affinities, load_affinities
from graphinv.errors import InputError
from graphinv.mol import build_dataset, build_store
from graphinv.nn.encoder import GraphEncoder
from graphinv.sets import DeepSetsSelector, FitConfig, fit, mean_jaccard
from graphinv.testing import assert_close, random_graphs

SMILES = ["C" * size + end for size in range(1, 8) for end in ("O", "N", "F")]


@pytest.fixture(scope="module")
def store():
    return build_store(SMILES, workers=1, split="none", progress=False)[0]


def by_hand(activity, alike, k, share):
    """The rule, in words and lists."""
    n = len(activity)
    ranked = sorted(range(n), key=lambda i: (-activity[i], i))[: max(k, round(share * n))]
    chosen = [ranked[0]]
    while len(chosen) < k:
        left = [i for i in ranked if i not in chosen]
        chosen.append(min(left, key=lambda i: (max(alike[i][j] for j in chosen), ranked.index(i))))
    return chosen


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_the_choice_is_that_of_the_rule(k, share):
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        activity = torch.randint(0, 6, (12,), generator=generator).double()  # with ties
        alike = torch.randint(0, 4, (12, 12), generator=generator).double() / 4
        alike = torch.maximum(alike, alike.T).fill_diagonal_(1.0)
        found = active_and_diverse(activity, alike, k, share)
        assert found.tolist() == by_hand(activity.tolist(), alike.tolist(), k, share)


@pytest.mark.parametrize(("k", "share"), [(0, 0.5), (5, 0.5), (2, 0.0), (2, 1.5)])
def test_choices_that_cannot_be_made_are_refused(k, share):
    with pytest.raises(InputError, match="expected 1 <= k <= 4"):
        active_and_diverse(torch.zeros(4), torch.eye(4), k, share)


def test_ground_sets_are_drawn_from_one_assay_without_repetition_and_repeat_with_their_seed(store):
    rows = torch.tensor([0, 3, 5, 7, 8, 11, 20])
    assays = [(rows, torch.arange(7.0)), (torch.arange(12), -torch.arange(12.0))]
    batch = compound_sets(assays, store, n=6, k=2, per_assay=4, share=0.5, seed=3, progress=False)
    assert batch.num_sets == 8 and batch.x.dtype == torch.int64
    for number, members in enumerate(torch.split(batch.x, 6)):
        own, activity = assays[number // 4]
        assert len(set(members.tolist())) == 6 and set(members.tolist()) <= set(own.tolist())
        value = {int(molecule): float(a) for molecule, a in zip(own, activity, strict=True)}
        chosen = members[batch.truth[6 * number : 6 * number + 6]].tolist()
        ranked = sorted(members.tolist(), key=lambda molecule: -value[molecule])
        assert ranked[0] in chosen and set(chosen) <= set(ranked[:3])
    again, other = (compound_sets(assays, store, n=6, k=2, per_assay=4, seed=seed) for seed in (3, 4))
    assert torch.equal(again.x, batch.x) and not torch.equal(other.x, batch.x)


def test_assays_too_small_are_refused(store):
    with pytest.raises(InputError, match="too small: \\[1\\]"):
        compound_sets([(torch.arange(9), torch.arange(9.0)), (torch.arange(3), torch.arange(3.0))], store, n=6, k=2)
    with pytest.raises(InputError, match="0 assays"):
        compound_sets([], store, n=6, k=2)


def test_measurements_of_rejected_molecules_are_left_out():
    smiles = ("CCO", "C.C", "CCN", "CO")
    store, rejects = build_store(smiles, workers=1, split="none", progress=False)
    assert rejects.total == 1
    nan = float("nan")
    values = torch.tensor([[5.0, nan], [6.0, 6.0], [nan, 7.0], [8.0, 9.0]])
    first, second = assays_of(Affinities(tuple("abcd"), smiles, values), store)
    assert [store.smiles(first[0]), first[1].tolist()] == [["CCO", "CO"], [5, 8]]
    assert [store.smiles(second[0]), second[1].tolist()] == [["CCN", "CO"], [7, 9]]
    assert len(assays_of(Affinities(tuple("abcd"), smiles, values), store, least=3)) == 0


def test_drug_likeness_falls_by_one_for_each_unit_outside_of_the_window():
    smiles = ["CC(=O)Oc1ccccc1C(=O)O"]
    inside, below, above = (float(drug_likeness(smiles, window)[0]) for window in ((0, 5), (2.31, 5), (-5, 0.31)))
    assert 0 < inside < 1  # log P of aspirin is 1.31
    assert below == pytest.approx(inside - 1, abs=1e-3) and above == pytest.approx(inside - 1, abs=1e-3)
    with pytest.raises(InputError, match="from low to high"):
        drug_likeness(smiles, (3, 1))


def test_a_table_encodes_each_molecule_as_the_encoder_does():
    torch.manual_seed(0)
    graphs, encoder = random_graphs(6, seed=2), GraphEncoder(4, 3, 8, 2).double()
    table, numbers = MoleculeTable(graphs, encoder), torch.tensor([5, 0, 5, 3])
    assert_close(table(numbers), encoder(graphs)[numbers], "rows of the table", tolerance=1e-12)


def test_a_selector_learns_from_the_graphs_which_molecules_to_take():
    store, _ = build_dataset("smallmol", workers=1, progress=False)
    rows = torch.arange(0, len(store), 37)
    score = drug_likeness(store.smiles(rows), (0.0, 1.0), progress=False)
    train, validation, test = (
        compound_sets([(rows, score)], store, n=24, k=4, per_assay=60, share=1 / 6, seed=seed, progress=False)
        for seed in range(3)
    )
    torch.manual_seed(0)
    encode = partial(GraphEncoder, len(store.vocabulary.nodes), len(store.vocabulary.edges), 32, 2)
    graphs = store.batch(torch.arange(len(store)))
    model = DeepSetsSelector(lambda: MoleculeTable(graphs, encode()), 32, hidden=32)
    fit(
        model,
        train,
        validation,
        FitConfig(learning_rate=3e-3, max_epochs=30, patience=30, batch_size=20),
        progress=False,
    )
    found = mean_jaccard(model.select(test, "oracle"), test.truth, test.ptr)
    assert found > 0.3  # chance is 0.10


@pytest.mark.data
@pytest.mark.parametrize(("name", "n", "proteins"), [("davis", 60, 442), ("kiba", 300, 161)])
def test_real_assays_become_ground_sets(name, n, proteins):
    if not os.environ.get("GRAPHINV_DATA_DIR"):
        pytest.skip("GRAPHINV_DATA_DIR is not set")
    affinities = load_affinities(name, progress=False)
    store, _ = build_store(affinities.smiles, workers=1, split="none", progress=False)
    assays = assays_of(affinities, store, least=n)
    assert len(assays) == proteins
    batch = compound_sets(assays[:3], store, n=n, k=15, progress=False)
    assert batch.sizes.tolist() == [n] * 3 and batch.subset_sizes.tolist() == [15] * 3
