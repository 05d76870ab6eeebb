"""Charts as self-contained SVG text for pages of docs/benchmarks: lines over one axis, points by cost and
quality, one mean a row."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 300, 52, 150, 34, 44
COLOURS = ("#1f6feb", "#d9480f", "#2b8a3e", "#862e9c", "#b08800", "#0b7285", "#c2255c", "#495057")

Series = dict[str, Sequence[tuple[float, float]]]


def line_chart(title: str, x_label: str, series: Series, low: float, high: float) -> str:
    """Return the SVG of ``series`` (name -> points), the vertical axis from ``low`` to ``high``."""
    last = max(x for points in series.values() for x, _ in points) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + x / last * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [text(LEFT, 20, title, "start", 14)]
    for k in range(6):
        value = low + k * (high - low) / 5
        (x, y), (end, _) = place(0, value), place(last, value)
        parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{end:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, y + 4, f"{value:.3g}", "end"))
        parts.append(text(place(k * last / 5, low)[0], HEIGHT - BOTTOM + 16, f"{k * last / 5:.3g}", "middle"))
    parts.append(text(place(last / 2, low)[0], HEIGHT - 8, x_label, "middle"))
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        at = [place(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
        parts.append(text(WIDTH - RIGHT + 12, TOP + 12 + 18 * number, name, "start", colour=colour))
    return drawing(parts, HEIGHT)


class Point(NamedTuple):
    """A labelled value with its interval."""

    x: float
    y: float
    low: float
    high: float
    label: str


def cost_chart(title: str, x_label: str, series: dict[str, list[Point]]) -> str:
    """Return the SVG of points with intervals: x on a logarithmic axis, y from 0; the names stand below."""
    found = [point for points in series.values() for point in points]
    first, last = math.log10(min(p.x for p in found)) - 0.3, math.log10(max(p.x for p in found)) + 0.2
    top, right = 1.12 * max(p.high for p in found), WIDTH - 20

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - first) / (last - first)
        return LEFT + across * (right - LEFT), HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    parts = [text(LEFT, 20, title, "start", 14)]
    step = round_step(top)
    for k in range(int(top / step) + 1):
        y = place(10**first, k * step)[1]
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, y + 4, f"{k * step:.3g}", "end"))
    ticks = [m * 10**e for e in range(math.floor(first), math.ceil(last) + 1) for m in (1, 2, 5)]
    for tick in (t for t in ticks if first <= math.log10(t) <= last):
        parts.append(text(place(tick, 0)[0], HEIGHT - BOTTOM + 16, f"{tick:g}", "middle"))
    parts.append(text((LEFT + right) / 2, HEIGHT - 8, x_label, "middle"))
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        for place_of, p in enumerate(sorted(points)):  # labels above and below in turn, out of each other's way
            (x, y), (_, low), (_, high) = place(p.x, p.y), place(p.x, p.low), place(p.x, p.high)
            parts.append(
                f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{colour}" stroke-width="2"/>'
            )
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            parts.append(text(x, low + 15 if place_of % 2 else high - 7, p.label, "middle", colour=colour))
        y = HEIGHT + 16 + 18 * number
        parts.append(f'<circle cx="{LEFT + 4}" cy="{y - 4}" r="4" fill="{colour}"/>')
        parts.append(text(LEFT + 14, y, name, "start", colour=colour))
    return drawing(parts, HEIGHT + 10 + 18 * len(series))


def row_chart(title: str, x_label: str, rows: list[Point], marked: Collection[str] = ()) -> str:
    """Return the SVG of one row for each point, its label, a dot at x and a line from low to high, x from 0.

    Those whose label is ``marked`` have another colour.
    """
    left, end, top = 130, WIDTH - 20, 36
    bottom, most = top + 20 * len(rows), 1.05 * max(p.high for p in rows)
    parts = [text(left, 20, title, "start", 14)]
    step = round_step(most)
    for k in range(int(most / step) + 1):
        x = left + k * step / most * (end - left)
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(text(x, bottom + 16, f"{k * step:.3g}", "middle"))
    parts.append(text((left + end) / 2, bottom + 34, x_label, "middle"))
    for number, p in enumerate(rows):
        y = top + 20 * number + 10
        low, x, high = (left + max(value, 0) / most * (end - left) for value in (p.low, p.x, p.high))
        colour = COLOURS[p.label in marked]
        parts.append(text(left - 8, y + 4, p.label, "end"))
        parts.append(f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{colour}"/>')
    return drawing(parts, bottom + 44)


def round_step(top: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten, of which at most five fit below ``top``."""
    decade = 10 ** math.floor(math.log10(top / 5))
    return float(next(m * decade for m in (1, 2, 5, 10) if m * decade >= top / 5))


def drawing(parts: list[str], height: int) -> str:
    """Return the SVG of ``parts``."""
    body = "\n".join(parts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
    return f'{head}\n<rect width="{WIDTH}" height="{height}" fill="white"/>\n{body}\n</svg>\n'


def text(x: float, y: float, words: str, anchor: str, size: int = 11, colour: str = "#333") -> str:
    """Return one line of text."""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
    return f"<text {where}>{escape(words)}</text>"
