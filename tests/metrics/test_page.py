"""The page of a report: whole, harmless, the same for the same report, and true to its figures."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphinv.draw import graph_grid
from graphinv.errors import InputError
from graphinv.graphs import GraphBatch
from graphinv.metrics._page_figures import ceiling, distance_row, distribution, rate_row
from graphinv.metrics._page_markup import STYLE, inline_svg, short
from graphinv.metrics.page import write_page

EVIL = "<script>alert(1)</script>&\"'><img src=x onerror=alert(2)>"
VOID = {"meta", "br", "img", "link", "input", "hr"}
RATE = {"count": 9513, "rate": 0.9513, "low": 0.9469, "high": 0.9553}
NO_RATE = {"count": 0, "rate": None, "low": None, "high": None}
DISTANCE = {
    "value": 1.93, "low": 1.85, "high": 2.02, "count": 9500, "reference_count": 13082, "floor": 0.12,
    "floor_count": 9500, "draws": 0.13, "draws_spread": 0.01, "ratio": 16.1, "inside_floor": False,
    "beyond_floor": False, "better": "lower", "note": None,
}  # fmt: skip
FULL: dict[str, Any] = {
    "kind": "molecules",
    "samples": 10_000,
    "protocol": {"name": "gdss-2022", "source": "a paper", "says": "a rule", "met": False, "unmet": ["asks for more"]},
    **dict.fromkeys(("valid_strict", "valid_fragment", "valid_relaxed", "valid_corrected", "connected"), RATE),
    "unique": RATE,
    "novel": NO_RATE,
    "under_protocol": {"valid": RATE, "unique": RATE, "novel": NO_RATE},
    "distances": {"fcd": DISTANCE, "snn": {**DISTANCE, "better": "higher", "note": "PAINS only", "ratio": None}},
    "ratio": 3.2,
    "distributions": {
        "rings": {"title": "Rings", "unit": "share", "labels": ["3", "4"], "samples": [0.4, 0.6], "reference": None},
        "log_p": {"title": "logP", "unit": "share", "edges": [-1, 0, 1], "samples": [0.4, 0.6], "reference": [1, 0]},
    },
    "failures": [{"reason": "valence of N exceeded", "count": 312, "examples": ["CN(C)(C)C", "C" * 900]}],
    "warnings": ["fcd: inside the floor"],
    "definitions": {"valid_strict": "sanitises as written"},
    "provenance": {"graphinv": "0.1.0", "seed": 0, "reference": {"name": "qm9", "files": [{"a": 1}, None, True]}},
    "atoms": {"C": 63799, "N+": 132},
}
GRAPHS: dict[str, Any] = {"kind": "graphs", "samples": 1, "valid": RATE, "provenance": {}}
NOTHING: dict[str, Any] = {
    "kind": "molecules", "samples": 0, "valid_strict": NO_RATE, "under_protocol": {"valid": NO_RATE},
    "distances": {}, "distributions": {"rings": {"labels": [], "samples": [], "reference": []}},
    "failures": [], "warnings": [], "provenance": {},
}  # fmt: skip
REPORTS = {"full": FULL, "graphs": GRAPHS, "nothing": NOTHING}


class Page(HTMLParser):
    """A page read tag by tag: unbalanced tags raise, elements, texts and attributes are kept."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(source)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data + " "

    def all(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag and kind in (found.get("class") or "")]


def written(report: dict[str, Any], folder: Path, title: str = "A title", pictures: str | None = None) -> str:
    write_page(report, folder / "page.html", title, pictures)
    return (folder / "page.html").read_text(encoding="utf-8")


def in_every_text(value: object, replaced: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: in_every_text(item, replaced) for key, item in value.items()}
    if isinstance(value, list):
        return [in_every_text(item, replaced) for item in value]
    return replaced(value) if isinstance(value, str) else value


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_is_balanced_and_loads_nothing(name: str, tmp_path: Path) -> None:
    page = Page(written(REPORTS[name], tmp_path, pictures=drawing(tmp_path)))
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "img", "object", "embed", "base"}
    for tag, attributes in page.elements:
        assert not {"src", "srcset", "action", "data", "background"} & set(attributes), (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(key.startswith("on") for key in attributes)
        assert all(
            call.startswith("url(#") for value in attributes.values() for call in re.findall(r"url\(.?", value or "")
        )
    assert "url(" not in STYLE and "@import" not in STYLE
    (policy,) = [found["content"] for found in page.all("meta") if found.get("http-equiv")]
    assert policy is not None and policy.startswith("default-src 'none'")
    ids = [found["id"] for _, found in page.elements if found.get("id")]
    assert len(set(ids)) == len(ids)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and set(levels) <= {1, 2}


def test_text_of_others_stays_text(tmp_path: Path) -> None:
    report = in_every_text(copy.deepcopy(FULL), lambda found: EVIL) | {"kind": "molecules"}
    for key in ("definitions", "atoms", "provenance", "distances", "distributions"):
        report[key] = {EVIL: next(iter(report[key].values()))}
    page = Page(written(report, tmp_path, title=EVIL))
    assert not page.all("script") and not page.all("img")
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert page.words.count(EVIL) > 20


def test_a_sample_that_is_no_text_is_written(tmp_path: Path) -> None:
    report = {**FULL, "failures": [{"reason": "unreadable", "count": 1, "examples": ["C\udcffC", "\u202eC"]}]}
    assert "C?C" in Page(written(report, tmp_path)).words


@pytest.mark.parametrize("missing", [None, "left out"])
@pytest.mark.parametrize("key", [key for key in FULL if key not in ("kind", "samples", "provenance")])
def test_every_part_may_be_missing(key: str, missing: str | None, tmp_path: Path) -> None:
    report = {name: part for name, part in FULL.items() if name != key} | ({} if missing else {key: None})
    Page(written(report, tmp_path))


@pytest.mark.parametrize("key", [*(key for key in DISTANCE if key != "note"), "every"])
def test_a_distance_may_know_only_a_part(key: str) -> None:
    for value in (None, math.nan, math.inf):
        part = {} if key == "every" else {**DISTANCE, key: value}
        assert "nan" not in Page(distance_row("FCD", part)).words.lower()


def test_an_unknown_part_is_ignored_and_the_same_report_gives_the_same_file(tmp_path: Path) -> None:
    first = written(FULL, tmp_path)
    assert written({**copy.deepcopy(FULL), "repair_edits": 294, "novelty": {"x": EVIL}}, tmp_path) == first


def test_nothing_judged_is_said_and_not_drawn(tmp_path: Path) -> None:
    page = Page(written(NOTHING, tmp_path))
    assert "0 molecules" in page.words and "–" in page.words
    assert not page.all("rect", "share") and not page.all("figure") and not page.all("table")
    assert "1 graph," in Page(written(GRAPHS, tmp_path)).words


def test_a_protocol_that_is_not_met_is_said_before_the_figures(tmp_path: Path) -> None:
    words = Page(written(FULL, tmp_path)).words
    assert words.index("is not met") < words.index("asks for more") < words.index("fcd: inside") < words.index("95.13%")
    met = {**FULL, "protocol": {**FULL["protocol"], "met": True}}
    assert "is not met" not in Page(written(met, tmp_path)).words
    assert "no named protocol" in Page(written(GRAPHS, tmp_path)).words


def test_the_figures_of_the_report_are_on_the_page(tmp_path: Path) -> None:
    report = {**FULL, "samples": 10**18, "failures": [{"reason": "r", "count": 10**17, "examples": []}]}
    report["distances"] = {"fcd": {**DISTANCE, "count": 10**15, "inside_floor": True}}
    words = Page(written(report, tmp_path)).words
    counts = ["1,000,000,000,000,000,000", "100,000,000,000,000,000", "1,000,000,000,000,000", "9,513", "13,082"]
    figures = ["10.0%", "95.13%", "94.69 – 95.53%", "1.93", "1.85 – 2.02", "0.130 ± 0.010", "0.120", "16.1", "inside"]
    for figure in counts + figures:
        assert figure in words, figure


@given(value=st.floats(0, 1e12), reach=st.floats(0, 10), floor=st.floats(0, 1e12), spread=st.floats(0, 1e12))
def test_marks_of_a_distance_lie_in_order_on_its_scale(value: float, reach: float, floor: float, spread: float) -> None:
    part = {"value": value, "low": value / (1 + reach), "high": value * (1 + reach), "floor": floor}
    page = Page(distance_row("x", {**part, "draws_spread": spread}))
    at = [float(x.removesuffix("%")) for _, a in page.elements for k in ("x1", "x2", "cx", "x") if (x := a.get(k))]
    assert all(0 <= x <= 100 for x in at)
    low, high = (float(str(found["x1"]).removesuffix("%")) for found in page.all("line", "spread")[1:])
    (dot,) = (float(str(found["cx"]).removesuffix("%")) for found in page.all("circle"))
    (mark,) = (float(str(found["x1"]).removesuffix("%")) for found in page.all("line", "floor"))
    assert low <= dot <= high and (mark <= dot if floor <= value else mark >= dot)


@given(st.floats(1e-200, 1e200))
def test_a_scale_holds_its_values_and_little_more(most: float) -> None:
    assert most <= ceiling(most) * (1 + 1e-9) and ceiling(most) <= 1.34 * most


@given(st.floats(-1e15, 1e15))
def test_short_numbers_keep_three_digits(value: float) -> None:
    assert float(short(value).replace(",", "")) == pytest.approx(value, rel=0.006)


def test_a_rate_is_as_long_as_it_is_large() -> None:
    page = Page(rate_row("Valid", {"count": 3, "rate": 0.25, "low": 0.1, "high": 0.5}))
    assert [found["width"] for found in page.all("rect", "share")] == ["25.00%"]
    assert {found["x1"] for found in page.all("line", "reach")} == {"10.00%", "50.00%"}


SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@given(shares=SHARES, joined=st.booleans())
def test_bars_are_as_high_as_their_shares(shares: list[float], joined: bool) -> None:
    where = (
        {"edges": [3.0 * k for k in range(len(shares) + 1)]}
        if joined
        else {"labels": [str(k) for k in range(len(shares))]}
    )
    page = Page(distribution("rings", {**where, "samples": shares, "reference": shares[::-1]}, 1))
    bars = [{key: float(str(bar[key])) for key in ("x", "y", "width", "height")} for bar in page.all("rect", "share")]
    assert len(bars) == len(shares) and all(bar["y"] >= 20 and bar["x"] >= 40 for bar in bars)
    assert all(
        bar["x"] + bar["width"] <= 330 and bar["y"] + bar["height"] == pytest.approx(166, abs=0.2) for bar in bars
    )
    scale = 142 / ceiling(max(shares))
    assert [bar["height"] for bar in bars] == pytest.approx([scale * share for share in shares], abs=0.2)
    (outline,) = page.all("path", "outline")
    assert str(outline["d"]).count("H") == len(shares)


@pytest.mark.parametrize("bins", [1, 2, 17, 400])
def test_labels_of_bars_do_not_run_into_each_other(bins: int) -> None:
    names = [f"size {k:,}" for k in range(bins)]
    chart = distribution("sizes", {"labels": names, "samples": [1 / bins] * bins, "reference": None}, 1)
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="181"', chart)]
    assert places and all(right - left >= 50 for left, right in zip(places, places[1:], strict=False))
    assert len(Page(chart).all("rect", "share")) == bins


@pytest.mark.parametrize("edges", [[0, 1e-9], [-5, 5], [1e6, 1e6 + 1], [0, 7e12], [-0.3, 0.1]])
def test_a_scale_of_numbers_has_some_round_ticks_inside(edges: list[float]) -> None:
    chart = distribution("x", {"edges": edges, "samples": [1.0], "reference": [1.0]}, 1)
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="181"', chart)]
    assert 2 <= len(places) <= 8 and all(41.9 <= x <= 326.1 for x in places)


def drawing(folder: Path) -> str:
    graph_grid(GraphBatch.from_networkx([nx.cycle_graph(5), nx.empty_graph(0)]), folder / "graphs.svg")
    return (folder / "graphs.svg").read_text(encoding="utf-8")


def test_a_page_of_graphs_is_drawn_inline(tmp_path: Path) -> None:
    page = Page(written(GRAPHS, tmp_path, pictures="<?xml version='1.0' encoding='iso-8859-1'?>\n" + drawing(tmp_path)))
    assert len(page.all("circle")) == 5 and "5 nodes, 5 edges" in page.words
    assert "<?xml" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_drawing_keeps_its_references_and_loses_all_else() -> None:
    svg = inline_svg(
        """<?xml version="1.0"?><!DOCTYPE svg><svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink"
        xmlns:o="urn:other" width="900px" height="90" onload="alert(1)"><style>p { color: red }</style>
        <defs><linearGradient id="chart-1"/></defs><o:mol o:smiles="C"/><script>alert(1)</script>
        <foreignObject><div/></foreignObject><a href="javascript:alert(1)"><text>lost</text></a>
        <path id="b" class="note" fill="url(#chart-1)" d="M0 0"/><use x:href="#b"/><use x:href="https://a.example/#b"/>
        <rect style="fill: URL(//a.example/x)" mask="url('#chart-1')" onclick="alert(1)"/><image href="https://a.example"/>
        <text>a &lt;b&gt; <tspan>c</tspan> d</text></svg>""",
        "p-",
        "Drawings",
    )
    page = Page(svg)
    assert [tag for tag, _ in page.elements] == [
        "svg", "defs", "lineargradient", "path", "use", "use", "rect", "text", "tspan"
    ]  # fmt: skip
    assert page.all("path") == [{"id": "p-b", "fill": "url(#p-chart-1)", "d": "M0 0"}]
    assert page.all("use") == [{"href": "#p-b"}, {}] and page.all("rect") == [{"mask": "url(#p-chart-1)"}]
    assert "example" not in svg and "alert" not in svg and page.words.split() == ["a", "<b>", "c", "d"]


@pytest.mark.parametrize("pictures", ["", "no picture", "<svg>", "<svg/>", "<html/>", "\udcff"])
def test_pictures_that_are_no_svg_leave_the_old_file(pictures: str, tmp_path: Path) -> None:
    old = written(FULL, tmp_path)
    with pytest.raises(InputError, match="SVG"):
        write_page(GRAPHS, tmp_path / "page.html", "new", pictures)
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == old
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_file_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        write_page(GRAPHS, tmp_path, "title")
    write_page(GRAPHS, tmp_path / "new" / "page.html", "title")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["page.html"]


RINGS = {"labels": ["3", "4"], "samples": [0.5, 0.5], "reference": None}


@pytest.mark.parametrize(
    "part",
    [
        {"kind": "sets"},
        {"samples": None},
        {"samples": -1},
        {"unique": 0.5},
        {"distances": [1.9]},
        {"distances": {"fcd": 1.9}},
        {"failures": ["valence"]},
        {"distributions": {"rings": {**RINGS, "labels": ["3"]}}},
        {"distributions": {"rings": {**RINGS, "reference": [1.0]}}},
        {"distributions": {"rings": {**RINGS, "samples": [0.5, None]}}},
        {"distributions": {"rings": {**RINGS, "edges": [0, 1]}}},
        {"distributions": {"rings": {**RINGS, "edges": [0, 2, 1]}}},
        {"distributions": {"rings": {**RINGS, "edges": [-1.7e308, 0, 1.7e308]}}},
    ],
    ids=str,
)
def test_a_report_of_another_form_is_refused(part: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_page({**FULL, **part}, tmp_path / "page.html", "title")
    assert not list(tmp_path.iterdir())


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_stand_out(scheme: int) -> None:
    sets = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{[^}]+\}", STYLE)]
    assert len(sets) == 2
    of = sets[scheme]
    for ground in ("paper", "card"):
        assert contrast(of["ink"], of[ground]) >= 7 and contrast(of["muted"], of[ground]) >= 4.5
    assert min(contrast(of[mark], of["paper"]) for mark in ("samples", "floor")) >= 4.5
    assert contrast(of["floor"], of["samples-soft"]) >= 2.5 and contrast(of["ink"], of["samples-soft"]) >= 4.5
    assert contrast(of["samples"], of["floor-soft"]) >= 3
