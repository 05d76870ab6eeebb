"""The report of an evaluation as one page of HTML: figures first, then how sure they are, then where they come from.

A single file that opens without a network and without JavaScript, on a phone, in the dark and on paper. What the page
says is the report and nothing else; the same report gives the same file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from graphinv._files import atomic_path
from graphinv.errors import InputError
from graphinv.metrics._page_figures import (
    FLOOR_KEY,
    SHARE_KEY,
    distance_row,
    distribution,
    percent,
    rate_row,
    rate_span,
)
from graphinv.metrics._page_markup import POLICY, STYLE, count, inline_svg, number, short, span, text

__all__ = ["write_page"]

_RATES = {
    "valid_strict": "Valid as written",
    "valid_fragment": "Valid, fragments allowed",
    "valid_relaxed": "Valid, charges relaxed",
    "valid_corrected": "Valid after correction",
    "valid": "Valid",
    "train_valid": "Valid among training graphs",
    "connected": "Connected",
    "unique": "Unique",
    "novel": "Novel",
    "vun": "Valid, unique and novel",
}
_FIRST = ("valid_strict", "valid", "unique", "novel")  # looked for first


def write_page(
    report: Mapping[str, Any], path: str | os.PathLike[str], title: str, pictures: str | None = None
) -> None:
    """Write a report to one self-contained HTML file.

    Args:
        report: plain data with "kind" ("molecules" or "graphs"), "samples" and "provenance"; every other part of a
            report may be missing or None and is left out then.
        path: the file, replaced as a whole or not at all.
        title: heading of the page.
        pictures: text of an SVG that shows samples, such as `graphinv.molecule_grid` draws.

    Raises:
        InputError: a part of the report has another form, ``pictures`` is no SVG, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> file = Path(tempfile.mkdtemp()) / "report.html"
        >>> rate = {"count": 1, "rate": 0.5, "low": 0.09, "high": 0.91}
        >>> write_page({"kind": "graphs", "samples": 2, "valid": rate, "provenance": {"seed": 0}}, file, "Trees")
        >>> "50.0%" in file.read_text(encoding="utf-8")
        True
    """
    if report.get("kind") not in ("molecules", "graphs"):
        raise InputError(f"expected a report of molecules or graphs, got kind={report.get('kind')!r}")
    samples = report.get("samples")
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 0:
        raise InputError(f"expected the number of samples in a report, got samples={samples!r}")
    parts = [
        _header(report, title),
        _headline(report),
        _rates(report),
        _distances(_table(report, "distances")),
        _distributions(_table(report, "distributions")),
        _pictures(str(report["kind"]), pictures),
        _failures(report),
        _background(report),
    ]
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )
    with atomic_path(path) as temporary:
        # A file name or a sample may hold bytes that are no text.
        temporary.write_bytes(page.encode("utf-8", errors="replace"))


def _table(report: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A part of the report that maps names to values; empty where the report has none."""
    part = report.get(key)
    if part is not None and not isinstance(part, Mapping):
        raise InputError(f"expected a mapping as {key!r} of a report, got {type(part).__name__}")
    return part or {}


def _tables(report: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
    """The same of named parts, without those that are None."""
    part = _table(report, key)
    return {name: _table(part, name) for name, value in part.items() if value is not None}


def _section(heading: str, *parts: str) -> str:
    return f"<section>\n<h2>{text(heading)}</h2>\n" + "\n".join(parts) + "\n</section>"


def _items(items: Iterable[object]) -> str:
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def _header(report: Mapping[str, Any], title: str) -> str:
    """What was judged, under which protocol, and what speaks against the figures."""
    samples, protocol = report["samples"], _table(report, "protocol")
    noun = str(report["kind"]).removesuffix("s") if samples == 1 else report["kind"]
    name = text(protocol.get("name") or "without a name")
    under = f"under the protocol <strong>{name}</strong>" if protocol else "under no named protocol"
    parts = [f"<header>\n<h1>{text(title)}</h1>", f'<p class="lead">{samples:,} {noun}, judged {under}.</p>']
    facts = {"It fixes": protocol.get("says"), "Source": protocol.get("source"), "Family": report.get("family")}
    sentences = [f"{word}: {fact}." for word, fact in facts.items() if fact]
    parts += [f'<p class="muted">{text(" ".join(sentences))}</p>'] if sentences else []
    if protocol.get("met") is False:
        parts.append(
            f'<div class="note" role="note"><p><strong>The protocol {name} is not met.</strong> '
            "Do not set these figures beside its tables.</p>" + _items(protocol.get("unmet") or []) + "</div>"
        )
    if report.get("warnings"):
        heading = '<div class="note" role="note"><p><strong>Before you read the figures</strong></p>'
        parts.append(heading + _items(report["warnings"]) + "</div>")
    return "\n".join(part for part in parts if part) + "\n</header>"


def _headline(report: Mapping[str, Any]) -> str:
    """The few figures that a reader looks for first."""
    plain = {_RATES[key]: _table(report, key) for key in _FIRST if report.get(key) is not None}
    rates = _under_protocol(report, _FIRST) or plain
    tiles = [(name, percent(rate), rate_span(rate)) for name, rate in rates.items()]
    for key, distance in list(_tables(report, "distances").items())[:2]:
        ends = span(distance.get("low"), distance.get("high"))
        tiles.append((_label(key, distance), short(distance.get("value")), ends))
    if number(report.get("ratio")) is not None:
        tiles.append(("Ratio", short(report["ratio"]), "mean of distance over floor"))
    if not tiles:
        return ""
    cards = [f"<li>{text(name)}<b>{figure}</b><small>{note}</small></li>" for name, figure, note in tiles]
    across = len(cards) if len(cards) < 6 else (len(cards) + 1) // 2
    grid = f'<ul class="tiles" style="--across: {across}">{"".join(cards)}</ul>'
    return _section("At a glance", grid, '<p class="muted">Below each figure its 95% interval, where it has one.</p>')


def _under_protocol(report: Mapping[str, Any], keys: Iterable[str] = ()) -> dict[str, Mapping[str, Any]]:
    """Rates as the protocol defines them, all or those of ``keys``, by names that say so."""
    named = _table(report, "protocol").get("name", "the protocol")
    rates = _tables(report, "under_protocol")
    first = [key for key in rates if key.startswith("unique_") and key.removeprefix("unique_").isdecimal()]
    labels = {key: f"Unique of the first {int(key.removeprefix('unique_')):,}" for key in first}
    places = [key for name in _RATES for key in ([name, *first] if name == "unique" else [name]) if key in rates]
    return {f"{(_RATES | labels)[key]}, {named}": rates[key] for key in keys or places if key in rates}


def _rates(report: Mapping[str, Any]) -> str:
    """A bar for every rate."""
    plain = {name: _table(report, key) for key, name in _RATES.items() if report.get(key) is not None}
    rows = [rate_row(name, rate) for name, rate in [*_under_protocol(report).items(), *plain.items()]]
    if not rows:
        return ""
    legend = '<p class="muted">Bars from 0 to 100%, across them the 95% interval; counts below the intervals.</p>'
    return _section("Rates", legend, f'<ul class="rows">{"".join(rows)}</ul>')


def _label(key: str, distance: Mapping[str, Any]) -> str:
    words = key.replace("_", " ")
    return str(distance.get("label") or words[:1].upper() + words[1:])


def _distances(part: Mapping[str, Any]) -> str:
    """A strip for every distance, and the same as numbers."""
    distances = {key: _table(part, key) for key, value in part.items() if value is not None}
    if not distances:
        return ""
    rows = [distance_row(_label(key, distance), distance) for key, distance in distances.items()]
    legend = '<p class="muted">Each on its own scale from 0; lower is better where nothing else is said.</p>'
    head = "Distance|Value|95% interval|Floor|Real draws ± spread|Ratio|Samples|Reference|Note".split("|")
    body = "".join(_distance_cells(_label(key, distance), distance) for key, distance in distances.items())
    table = (
        '<div class="scroll" role="region" aria-label="Distances as numbers" tabindex="0"><table><thead><tr>'
        + "".join(f'<th scope="col">{name}</th>' for name in head)
        + f"</tr></thead><tbody>{body}</tbody></table></div>"
    )
    return _section("Distances to the reference", legend, FLOOR_KEY, f'<ul class="rows">{"".join(rows)}</ul>', table)


def _distance_cells(name: str, distance: Mapping[str, Any]) -> str:
    floor, draws, spread = (number(distance.get(key)) for key in ("floor", "draws", "draws_spread"))
    notes = [str(distance["note"])] if distance.get("note") else []
    notes += ["inside the floor"] if distance.get("inside_floor") is True else []
    notes += ["beyond the floor"] if distance.get("beyond_floor") is True else []
    notes += ["higher is better"] if distance.get("better") == "higher" else []
    cells = [
        short(distance.get("value")),
        span(distance.get("low"), distance.get("high")) or "–",
        short(floor),
        (short(draws) + (f" ± {short(spread, 2)}" if spread else "")) if draws is not None else "–",
        short(distance.get("ratio")),
        count(distance.get("count")),
        count(distance.get("reference_count")),
        ", ".join(notes),
    ]
    return f'<tr><th scope="row">{text(name)}</th>' + "".join(f"<td>{text(cell)}</td>" for cell in cells) + "</tr>"


def _distributions(part: Mapping[str, Any]) -> str:
    """A chart for every distribution."""
    parts = [(name, _table(part, name)) for name, value in part.items() if value is not None]
    charts = [distribution(name, data, k) for k, (name, data) in enumerate(parts, 1)]
    if not any(charts):
        return ""
    return _section("Distributions", SHARE_KEY, f'<div class="charts">{"".join(charts)}</div>')


def _pictures(kind: str, pictures: str | None) -> str:
    if pictures is None:
        return ""
    picture = inline_svg(pictures, "picture-", f"Drawings of {kind} among the samples")
    scroll = f'<div class="pictures" role="region" aria-label="Drawings of {kind}" tabindex="0">{picture}</div>'
    return _section(f"Some of the {kind}", scroll)


def _failures(report: Mapping[str, Any]) -> str:
    """Why samples are not valid, with examples."""
    items = []
    for failure in (_table({"failures": item}, "failures") for item in report.get("failures") or []):
        seen = failure.get("count")
        times = number(seen)
        share = f" · {short(100 * times / report['samples'])}% of samples" if times and report["samples"] else ""
        examples = "".join(f"<code>{text(example)}</code> " for example in failure.get("examples") or [])
        reason = f"<strong>{text(failure.get('reason'))}</strong>"
        items.append(f'<li><span class="share-of muted">{count(seen)}{share}</span>{reason}<div>{examples}</div></li>')
    return _section("Why samples fail", f'<ul class="failures">{"".join(items)}</ul>') if items else ""


def _background(report: Mapping[str, Any]) -> str:
    """What the words mean and where the figures come from, folded away."""
    definitions, folded = _table(report, "definitions"), []
    if definitions:
        folded.append(("Definitions", _nested(definitions)))
    for key, heading in (("atoms", "Atoms of the samples"), ("provenance", "Provenance")):
        if report.get(key):
            folded.append((heading, _nested(report[key])))
    if not folded:
        return ""
    return _section(
        "Definitions and provenance",
        *(f"<details><summary>{heading}</summary>{content}</details>" for heading, content in folded),
    )


def _nested(value: object) -> str:
    """Plain data as nested lists of names and values."""
    if isinstance(value, Mapping):
        pairs = "".join(f"<dt>{text(key)}</dt><dd>{_nested(item)}</dd>" for key, item in value.items())
        return f"<dl>{pairs}</dl>" if pairs else "–"
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, (Mapping, list, tuple)) for item in value):
            return "<ol>" + "".join(f"<li>{_nested(item)}</li>" for item in value) + "</ol>"
        return ", ".join(text(item) for item in value) or "–"
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    return text(value)
