"""What every part of the page is written with: its style, escaped text, numbers in short, foreign SVG made harmless.

Samples, file names and drawings are untrusted: text is escaped, an SVG keeps shapes and text alone, under ids of its
own. The page carries no script and, by its content policy, loads nothing.
"""

from __future__ import annotations

import html
import math
import re
from xml.etree import ElementTree

from graphinv.errors import InputError

POLICY = "default-src 'none'; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f5f7f9; --ink: #1a1f26; --muted: #56606c; --line: #d5dbe2;
  --samples: #0067a5; --samples-soft: #7fb8de; --floor: #a84300; --floor-soft: #f5cfb0; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --card: #1e2329; --ink: #e9ecf0; --muted: #a6b0bc; --line: #3a424c;
    --samples: #74bdf0; --samples-soft: #2c6d9c; --floor: #ffa15c; --floor-soft: #663b18; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
main { max-width: 70rem; margin: 0 auto; padding: clamp(1.5rem, 5vw, 4rem) clamp(1.1rem, 4vw, 3rem); }
h1 { margin: 0 0 .6rem; font-size: clamp(1.6rem, 4.5vw, 2.4rem); line-height: 1.15; letter-spacing: -.015em;
  text-wrap: balance; }
h2 { margin: 0 0 1rem; font-size: 1.3rem; line-height: 1.25; }
section { margin-top: 3.2rem; }
p { margin: 0 0 .8rem; max-width: 46rem; }
ul, ol { margin: 0; padding: 0; list-style: none; }
.lead { font-size: 1.12rem; }
.muted, small { color: var(--muted); font-size: .875rem; }
.note { margin: 1.3rem 0 0; padding: .9rem 1.2rem; border-left: 4px solid var(--floor); border-radius: 0 8px 8px 0;
  background: var(--card); }
.note p { margin: 0; }
.note ul { margin: .3rem 0 0; padding-left: 1.1rem; list-style: disc; }
.tiles { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fit,
  minmax(max(9.6rem, (100% - (var(--across) - 1) * .9rem) / var(--across)), 1fr)); }
.tiles li { padding: .95rem 1.1rem; font-size: .9rem; border-radius: 12px; background: var(--card); }
.tiles b { display: block; margin: .15rem 0; font-size: 1.7rem; font-weight: 650; line-height: 1.2;
  letter-spacing: -.02em; white-space: nowrap; }
.tiles + p, .key + * { margin-top: .9rem; }
.row { display: grid; grid-template: "name bar figure" / 12.5rem minmax(0, 1fr) 16.4rem; gap: .2rem 1.8rem;
  align-items: center; padding: .5rem 0; break-inside: avoid; }
.row + .row { border-top: 1px solid var(--line); }
.row .name { grid-area: name; line-height: 1.3; }
.row .name small { display: block; }
.row .bar { grid-area: bar; }
.row .figure { grid-area: figure; display: grid; grid-template-columns: 5.9rem minmax(0, 1fr); gap: 0 .6rem;
  align-items: baseline; line-height: 1.3; }
.row .figure b { white-space: nowrap; }
.row .figure small { grid-column: 2; }
.scale { display: flex; justify-content: space-between; color: var(--muted); font-size: .75rem; line-height: 1.2; }
svg.strip { display: block; width: 100%; height: 24px; overflow: visible; }
.track { fill: var(--line); }
.share { fill: var(--samples-soft); }
.reach { stroke: var(--ink); stroke-width: 1.6; }
.axis { stroke: var(--line); stroke-width: 1; }
.band { fill: var(--floor-soft); }
.floor { stroke: var(--floor); stroke-width: 2.5; }
.spread { stroke: var(--samples); stroke-width: 2.5; }
.dot { fill: var(--samples); stroke: var(--paper); stroke-width: 1.5; }
.outline { fill: none; stroke: var(--floor); stroke-width: 1.8; stroke-linejoin: round; }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; margin-bottom: .9rem; color: var(--muted);
  font-size: .875rem; }
.key svg { width: 34px; height: 14px; margin-right: .45rem; vertical-align: -2px; overflow: visible; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18.5rem), 1fr)); gap: 2rem 1.8rem; }
figure { margin: 0; break-inside: avoid; }
figcaption { margin-bottom: .3rem; font-weight: 600; }
figure svg { display: block; width: 100%; height: auto; max-width: 34rem; }
figure text { fill: var(--muted); font: 11px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
.scroll { overflow-x: auto; }
table { width: 100%; margin-top: 1.4rem; border-collapse: collapse; font-size: .86rem; }
th, td { padding: .45rem .65rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { padding-left: 0; text-align: left; font-weight: 600; }
th:last-child, td:last-child { padding-right: 0; text-align: left; white-space: normal; min-width: 8rem; }
.pictures { overflow-x: auto; padding: 1rem; border: 1px solid var(--line); border-radius: 12px;
  background: #ffffff; }
.pictures svg { display: block; height: auto; max-width: 100%; margin: 0 auto; }
.failures li { padding: .9rem 0; border-bottom: 1px solid var(--line); break-inside: avoid; }
.failures .share-of { float: right; padding-left: 1rem; }
code { font: .84em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; unicode-bidi: isolate; }
.failures code { display: inline-block; max-width: 100%; margin: .4rem .5rem 0 0; padding: .1rem .5rem;
  border-radius: 6px; background: var(--card); }
details { border-top: 1px solid var(--line); }
details:last-child { border-bottom: 1px solid var(--line); }
summary { padding: .8rem 0; font-weight: 600; cursor: pointer; }
dl { display: grid; grid-template-columns: minmax(7rem, 14rem) minmax(0, 1fr); gap: .35rem 1.5rem; margin: 0 0 1.2rem;
  font-size: .9rem; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
dd dl { margin: 0; }
:focus-visible { outline: 2px solid var(--samples); outline-offset: 3px; }
@media screen and (max-width: 54rem) {
  section { margin-top: 2.5rem; }
  .tiles b { font-size: 1.5rem; }
  .row { grid-template: "name figure" "bar bar" / minmax(5.3rem, 1fr) minmax(0, auto);
    column-gap: .9rem; }
  .row .figure { grid-template-columns: auto auto; align-content: end; justify-content: end; text-align: right; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: .6rem; }
  dd dl { padding-left: .9rem; border-left: 2px solid var(--line); } }
@media print {
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  section { margin-top: 1.6rem; }
  .scroll, .pictures { overflow: visible; }
  h2, summary, .key, h2 + .muted { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_DRAWN = frozenset(
    "svg g defs symbol use path rect circle ellipse line polyline polygon text tspan title desc clipPath mask marker "
    "linearGradient radialGradient stop pattern".split()
)
_REFERENCE = re.compile(r"url\(\s*(['\"]?)#([^)'\"]*)\1\s*\)")


def text(value: object) -> str:
    """Return anything as text between tags or inside a quoted attribute.

    Example:
        >>> text("<C>")
        '&lt;C&gt;'
    """
    return html.escape(str(value))


def number(value: object) -> float | None:
    """Return a finite number as float; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def short(value: object, digits: int = 3) -> str:
    """Return a number with as many digits, "–" where there is none.

    Example:
        >>> [short(x) for x in (1.9, 16.08, 0.000194, 12345.6, 3e-7, 0, None)]
        ['1.90', '16.1', '0.000194', '12,346', '3.00e-07', '0', '–']
    """
    finite = number(value)
    if finite is None:
        return "–"
    if finite == 0:
        return "0"
    if 999.5 <= abs(finite) < 1e12:
        return f"{finite:,.0f}"
    return f"{finite:#.{digits}g}".rstrip(".")


def span(low: object, high: object) -> str:
    """Return an interval as text: "1.85 – 2.02"; empty where an end is unknown."""
    if number(low) is None or number(high) is None:
        return ""
    return f"{short(low)} – {short(high)}"


def count(value: object) -> str:
    """Return a count with its thousands apart."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else "–"


def inline_svg(picture: str, prefix: str, label: str) -> str:
    """Return the text of an SVG as an element of a page: shapes and text only, ids behind ``prefix``, nothing loaded.

    Raises:
        InputError: it is no SVG.

    Example:
        >>> inline_svg('<svg xmlns="http://www.w3.org/2000/svg"><script/><g id="a"/></svg>', "p-", "A picture")
        '<svg role="img" aria-label="A picture"><g id="p-a" /></svg>'
    """
    try:
        root = ElementTree.fromstring(picture)
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"expected the text of an SVG as pictures, which cannot be read: {error}") from error
    if root.tag != f"{_SVG}svg":
        raise InputError(f"expected the text of an SVG as pictures, got a {root.tag!r} element")
    for element in list(root.iter()):
        for child in list(element):
            if not (isinstance(child.tag, str) and child.tag.removeprefix(_SVG) in _DRAWN):
                element.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = _harmless(element.attrib, prefix)
        if not (element.tail or "").strip():
            element.tail = None
    root.attrib = {"role": "img", "aria-label": label, **root.attrib}
    width = re.fullmatch(r"(\d{1,6})(\.\d+)?(px)?", root.get("width", ""))
    if width is not None:
        # On a narrow screen the picture is scrolled rather than shrunk until nothing can be read.
        root.set("style", f"min-width:{min(int(width[1]), 640)}px")
    return ElementTree.tostring(root, encoding="unicode")


def _harmless(attributes: dict[str, str], prefix: str) -> dict[str, str]:
    """Attributes without handlers, classes (the page has its own) and addresses outside of the picture."""
    harmless: dict[str, str] = {}
    for key, value in attributes.items():
        name = "href" if key == _LINK else key
        if name.startswith(("{", "on")) or name == "class" or (name == "href" and not value.startswith("#")):
            continue
        value = _REFERENCE.sub(rf"url(#{prefix}\2)", value)
        if "url(" in _REFERENCE.sub("", value).lower():
            continue
        harmless[name] = prefix + value if name == "id" else f"#{prefix}{value[1:]}" if name == "href" else value
    return harmless
