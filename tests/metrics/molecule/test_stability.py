"""Stability by two routes: text and graphs agree, whole molecules are stable, broken ones are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from graphinv.data.vocabulary import Vocabulary
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics.molecule.stability import Stability, graph_stability, stability
from graphinv.mol import MoleculeCodec

FIXTURE = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "metrics" / "moses_smallmol.json").read_text(encoding="utf-8")
)
WORDS = Vocabulary(("H", "C", "N", "O", "F"), ("single", "double", "triple"), "element")
NEUTRAL = [text for text in FIXTURE["samples"] if "+" not in text and "-]" not in text]
LIMITS = {"H": {1}, "C": {4}, "N": {3}, "O": {2}, "F": {1}}


def counts(found: Stability | None) -> tuple[int, int, int, int]:
    assert found is not None
    return found.atoms_stable, found.atoms, found.molecules_stable, found.molecules


def explicit(text: str, kekulised: bool) -> str:
    mol = Chem.AddHs(Chem.MolFromSmiles(text))
    if kekulised:
        Chem.Kekulize(mol, clearAromaticFlags=True)
    return str(Chem.MolToSmiles(mol))


def random_graph(seed: int) -> GraphBatch:
    generator = torch.Generator().manual_seed(seed)
    nodes = int(torch.randint(0, 7, (1,), generator=generator))
    x = torch.randint(0, 5, (nodes,), generator=generator)
    pairs = torch.combinations(torch.arange(nodes))
    order = torch.randint(0, 4, (len(pairs),), generator=generator)
    ends, order = pairs[order > 0].reshape(-1, 2), order[order > 0]
    return GraphBatch.single(x, torch.cat([ends, ends.flip(1)]).t(), order.repeat(2))


def loop(graph: GraphBatch) -> tuple[int, int]:
    sums = [0] * graph.num_nodes
    assert graph.edge_attr is not None
    for (u, _), order in zip(graph.edge_index.t().tolist(), graph.edge_attr.tolist(), strict=True):
        sums[u] += order
    types = graph.x.tolist()
    return sum(total in LIMITS[WORDS.nodes[kind]] for total, kind in zip(sums, types, strict=True)), len(types)


@pytest.mark.parametrize("kekulised", [True, False])
def test_neutral_molecules_with_all_hydrogens_are_stable(kekulised: bool) -> None:
    texts = [explicit(text, kekulised) for text in NEUTRAL if "n" not in text and "o" not in text]
    found = counts(stability(texts))
    assert found[0] == found[1] > 1000 and found[2] == found[3] == len(texts)


def test_graphs_and_text_agree_on_whole_molecules() -> None:
    graphs = MoleculeCodec(WORDS).encode(NEUTRAL)
    found = counts(graph_stability(graphs, WORDS))
    assert found == counts(stability([explicit(text, True) for text in NEUTRAL]))
    assert found[0] == found[1] == graphs.num_nodes


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6))
def test_any_graphs_are_counted_as_in_a_loop(seeds: list[int]) -> None:
    graphs = [random_graph(seed) for seed in seeds]
    batch = GraphBatch.from_graphs(graphs)
    found = graph_stability(batch, WORDS)
    if not bool((batch.x == 0).any()):
        assert found is None
        return
    rows = [loop(graph) for graph in graphs]
    assert counts(found) == (
        sum(stable for stable, _ in rows),
        sum(atoms for _, atoms in rows),
        sum(stable == atoms > 0 for stable, atoms in rows),
        len(rows),
    )


def test_text_that_cannot_be_read_is_a_molecule_that_is_not_stable() -> None:
    assert counts(stability(["[H]O[H]", "", "C(", "Ö"])) == (3, 3, 1, 4)


def test_hydrogens_in_brackets_are_atoms() -> None:
    assert counts(stability(["[CH4]", "[H][H]", "[H][H]"])) == (9, 9, 3, 3)
    assert counts(stability(["[CH3]", "[H][H]", "[H][H]"])) == (7, 8, 2, 3)


def test_sets_without_hydrogen_atoms_have_no_stability() -> None:
    assert stability(["O", "[CH3]", "c1cc[nH]c1"]) is None and stability([]) is None
    assert stability(["[H]/N=C/C", "CC", ""]) is None  # a hydrogen that only carries stereo
    heavy = Vocabulary(("C", "O"), ("single", "double", "triple"), "element")
    assert graph_stability(MoleculeCodec(heavy).encode(["CO"]), heavy) is None


def test_charges_are_not_looked_at_and_elements_outside_the_table_are_never_stable() -> None:
    assert counts(stability(["[H][N+]([H])([H])[H]"])) == (4, 5, 0, 1)
    assert counts(stability(["[H][Xe][H]"])) == (2, 3, 0, 1)
    assert counts(stability(["[H]S[H]", "[H]S([H])([H])[H]"])) == (7, 8, 1, 2)  # as in the table of DiGress


def test_shares_weigh_molecules_by_their_atoms() -> None:
    found = stability(["[H]O[H]", "[H]O", "Ö"])
    assert found is not None
    shares = {"atom_stability": found.of_atoms(), "molecule_stability": found.of_molecules()}
    assert shares["atom_stability"].value == pytest.approx(4 / 5)
    assert shares["molecule_stability"].value == pytest.approx(1 / 3)
    weights = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert shares["atom_stability"].of(weights) == 0.5 and shares["molecule_stability"].of(weights) == 0
    assert shares["atom_stability"].of(weights.roll(1)) == 0


def test_types_outside_the_vocabulary_are_refused() -> None:
    bonds = torch.tensor([[0, 1], [1, 0]])
    for x, order in (([0, 9], [1, 1]), ([0, 1], [4, 4]), ([-1, 1], [1, 1])):
        with pytest.raises(InputError, match="expected one"):
            graph_stability(GraphBatch.single(torch.tensor(x), bonds, torch.tensor(order)), WORDS)
    with pytest.raises(InputError, match="expected bonds of types"):
        graph_stability(GraphBatch.single(torch.tensor([0, 1]), bonds), WORDS)
    with pytest.raises(InputError, match="expected bonds of types"):
        graph_stability(random_graph(3), Vocabulary(("H",), ("wobbly",), "generic"))
