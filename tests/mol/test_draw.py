"""Pages are drawn for everything a sampler may produce, and written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphinv.errors import InputError
from graphinv.mol import molecule_grid

SAMPLES = ["CCO", "c1ccccc1[N+](=O)[O-]", "C=F", "c1cccc1", "", "None", "C1CC", "CC.O", "\u00e9", "[2H]C"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".PNG"])
def test_every_sample_gets_a_panel(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"page{suffix}"
    molecule_grid(SAMPLES, path, columns=4, legends=[str(i) for i in range(len(SAMPLES))])
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if suffix.lower() == ".png" else b"<?xml")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_invalid_sample_is_marked(tmp_path: Path) -> None:
    sizes = []
    for name, legend in (("a", "x"), ("b", "x invalid")):
        molecule_grid(["CF" if name == "b" else "C=F"], tmp_path / f"{name}.svg", legends=[legend])
        sizes.append((tmp_path / f"{name}.svg").read_text().count("class='legend'"))
    assert sizes[0] == sizes[1] > 1


def test_the_limit_bounds_the_page(tmp_path: Path) -> None:
    molecule_grid(["C"] * 100, tmp_path / "all.svg", columns=3, limit=7)
    assert "width='660px' height='600px'" in (tmp_path / "all.svg").read_text()


def test_unusable_requests_are_explained_and_write_nothing(tmp_path: Path) -> None:
    for arguments, message in (
        ((["C"], tmp_path / "a.gif"), ".png or .svg"),
        (([], tmp_path / "a.png"), "nothing to draw"),
        ((["C"], tmp_path / "a.png", 0), "columns=0"),
        ((["C"], tmp_path / "a.png", 1, 1, ["a", "b"]), "one legend"),
    ):
        with pytest.raises(InputError, match=message):
            molecule_grid(*arguments)
    assert list(tmp_path.iterdir()) == []
