"""Figures of the page, drawn as inline SVG: rates, distances beside their floor, overlaid distributions.

Strips are as wide as their box, with positions in percent; charts scale as a whole. Samples are blue and filled,
what they are compared with is orange and a band or an outline, so that colour never stands alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from graphinv.errors import InputError
from graphinv.metrics._page_markup import count, number, short, span, text

_WIDTH, _HEIGHT = 340, 208  # of a chart; its labels are 11 units high
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 326, 24, 166
_LETTER = 6.2  # units, the width of a digit
_STEPS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)

_SWATCH = '<svg aria-hidden="true">'

FLOOR_KEY = (
    f'<p class="key"><span>{_SWATCH}<line class="spread" x1="0" x2="34" y1="7" y2="7"/>'
    '<circle class="dot" cx="17" cy="7" r="5"/></svg>samples, with 95% interval</span>'
    f'<span>{_SWATCH}<rect class="band" width="34" height="14"/><line class="floor" x1="17" x2="17" y1="0" y2="14"/>'
    "</svg>floor: as many real items in place of the samples, ± spread</span></p>"
)
SHARE_KEY = (
    f'<p class="key"><span>{_SWATCH}<rect class="share" width="34" height="14"/></svg>samples</span>'
    f'<span>{_SWATCH}<rect class="outline" x="1" y="1" width="32" height="12"/></svg>reference</span></p>'
)


def percent(rate: Mapping[str, Any], key: str = "rate") -> str:
    """Return a rate, or an end of its interval, in percent with the digits that its interval allows."""
    value, low, high = (number(rate.get(name)) for name in (key, "low", "high"))
    if value is None:
        return "–"
    return f"{100 * value:.{1 if low is not None and high is not None and high - low > 0.02 else 2}f}%"


def rate_span(rate: Mapping[str, Any]) -> str:
    """Return the interval of a rate in percent; empty where it has none."""
    if number(rate.get("low")) is None or number(rate.get("high")) is None or number(rate.get("rate")) is None:
        return ""
    return f"{percent(rate, 'low').removesuffix('%')} – {percent(rate, 'high')}"


def rate_row(name: str, rate: Mapping[str, Any]) -> str:
    """Return a rate as a bar from 0 to 100% with its interval across."""
    value, low, high = (number(rate.get(key)) for key in ("rate", "low", "high"))
    parts = ['<rect class="track" width="100%" y="6" height="12" rx="3"/>']
    if value is not None:
        parts.append(f'<rect class="share" width="{_place(value, 1)}" y="6" height="12" rx="3"/>')
        parts += _reach(low, high, 1, "reach")
    return _row(text(name), _strip(parts), _figure(percent(rate), rate_span(rate), count(rate.get("count"))))


def distance_row(name: str, distance: Mapping[str, Any]) -> str:
    """Return a distance as a dot with its interval beside the band of its floor, on a scale of its own from 0."""
    value, low, high, floor = (number(distance.get(key)) for key in ("value", "low", "high", "draws"))
    floor = number(distance.get("floor")) if floor is None else floor
    spread = number(distance.get("draws_spread")) or 0.0
    top = ceiling(max(x for x in (value, high, None if floor is None else floor + spread, 0.0) if x is not None))
    parts = ['<line class="axis" x1="0%" x2="100%" y1="12" y2="12"/>', *_ends("0%"), *_ends("100%")]
    if floor is not None:
        left, right = max(floor - spread, 0) / top, (floor + spread) / top
        width = f"{100 * max(right - left, 0):.2f}%"
        parts.append(f'<rect class="band" x="{_place(left, 1)}" width="{width}" y="0" height="24"/>')
        parts.append(f'<line class="floor" x1="{_place(floor, top)}" x2="{_place(floor, top)}" y1="0" y2="24"/>')
    if value is not None:
        parts += _reach(low, high, top, "spread")
        parts.append(f'<circle class="dot" cx="{_place(value, top)}" cy="12" r="5"/>')
    scale = f'<div class="scale" aria-hidden="true"><span>0</span><span>{tick(top)}</span></div>'
    hints = [str(distance["note"])] if distance.get("note") else []
    hints += ["higher is better"] if distance.get("better") == "higher" else []
    label = text(name) + "".join(f"<small>{text(hint)}</small>" for hint in hints)
    return _row(label, _strip(parts) + scale, _figure(short(value), span(low, high), _against_floor(distance)))


def _against_floor(distance: Mapping[str, Any]) -> str:
    """Return how a distance compares with its floor, in words; empty where it has none."""
    ratio = number(distance.get("ratio"))
    times = "" if ratio is None else f"{short(ratio)}×"
    if distance.get("inside_floor") is True:
        return f"inside floor, {times}" if times else "inside floor"
    if distance.get("beyond_floor") is True:
        return "beyond floor"
    return times and f"{times} floor"


def ceiling(most: float) -> float:
    """Return the end of a scale that holds ``most``.

    Example:
        >>> ceiling(1.93), ceiling(0.00031), ceiling(0)
        (2.0, 0.0004, 1.0)
    """
    if most < 1e-300:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(most))
    return float(next((f"{step * unit:.6g}" for step in _STEPS if step * unit >= most), 10 * unit))


def tick(value: float) -> str:
    """Return a number of a scale, without digits that say nothing."""
    written = f"{value:,.0f}" if 999.5 <= abs(value) < 1e9 else f"{value:.4g}"
    return written.replace("-", "−")


def distribution(name: str, data: Mapping[str, Any], place: int) -> str:
    """Return shares of samples as bars and of the reference as outline; empty where there is nothing to draw.

    Raises:
        InputError: not one share per label, or not one edge more than shares.
    """
    samples, reference = _shares(name, data, "samples"), _shares(name, data, "reference")
    bins = len(samples or reference)
    if not bins:
        return ""
    spans = _spans(name, data, bins)
    top = ceiling(max([*samples, *reference, 0.0]))
    unit, title = str(data.get("unit") or "share"), str(data.get("title") or name)
    edges = data.get("edges") is not None
    names = _numbered(data["edges"]) if edges else [str(label) for label in data["labels"]]
    parts = [*_grid(top, unit), *_bars(spans, samples, reference, names, top)]
    if reference:
        parts.append(_outline(spans, reference, top, edges))
    parts += _edge_ticks(data["edges"]) if edges else _labels(spans, names)
    middle = (_LEFT + _RIGHT) / 2
    parts.append(f'<text x="{middle:g}" y="{_HEIGHT - 8}" text-anchor="middle">{text(title)}</text>')
    words = f"{title}: {unit}, samples as bars" + (", reference as outline" if reference else "")
    return (
        f'<figure><figcaption>{text(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-labelledby="chart-{place}"><title id="chart-{place}">{text(words)}</title>{"".join(parts)}</svg>'
        "</figure>"
    )


def _row(name: str, bar: str, figure: str) -> str:
    return (
        f'<li class="row"><div class="name">{name}</div><div class="bar">{bar}</div>'
        f'<div class="figure">{figure}</div></li>'
    )


def _figure(value: str, *notes: str) -> str:
    return f"<b>{value}</b>" + "".join(f"<small>{note}</small>" for note in notes if note)


def _strip(parts: Sequence[str]) -> str:
    return f'<svg class="strip" aria-hidden="true">{"".join(parts)}</svg>'


def _place(value: float, top: float) -> str:
    return f"{100 * min(max(value / top, 0.0), 1.0):.2f}%"


def _reach(low: float | None, high: float | None, top: float, kind: str) -> list[str]:
    """An interval: a line with its ends."""
    if low is None or high is None:
        return []
    ends = [_place(low, top), _place(high, top)]
    caps = [f'<line class="{kind}" x1="{x}" x2="{x}" y1="7" y2="17"/>' for x in ends]
    return [f'<line class="{kind}" x1="{ends[0]}" x2="{ends[1]}" y1="12" y2="12"/>', *caps]


def _ends(x: str) -> list[str]:
    return [f'<line class="axis" x1="{x}" x2="{x}" y1="7" y2="17"/>']


def _shares(name: str, data: Mapping[str, Any], key: str) -> list[float]:
    shares = [number(value) for value in data.get(key) or []]
    finite = [max(value, 0.0) for value in shares if value is not None]
    if len(finite) != len(shares):
        raise InputError(f"distribution {name!r}: expected finite shares of {key}, got {data[key]!r}")
    return finite


def _spans(name: str, data: Mapping[str, Any], bins: int) -> list[tuple[float, float]]:
    """Left and right of every bar in units of the chart; bars of labels keep apart."""
    width = _RIGHT - _LEFT
    for key in ("samples", "reference"):
        if data.get(key) and len(data[key]) != bins:
            raise InputError(f"distribution {name!r}: {bins} shares of samples, {len(data[key])} of {key}")
    if data.get("edges") is None:
        if len(data.get("labels") or []) != bins:
            raise InputError(f"distribution {name!r}: {bins} shares, {len(data.get('labels') or [])} labels")
        each = width / bins
        return [(_LEFT + (k + 0.12) * each, _LEFT + (k + 0.88) * each) for k in range(bins)]
    edges = [number(edge) for edge in data["edges"]]
    finite = [edge for edge in edges if edge is not None]
    rising = all(low < high for low, high in zip(finite, finite[1:], strict=False))
    if not (len(finite) == len(edges) == bins + 1 and rising and math.isfinite(finite[-1] - finite[0])):
        raise InputError(
            f"distribution {name!r}: expected {bins + 1} rising edges of {bins} bars, got {data['edges']!r}"
        )
    at = [_LEFT + width * (edge - finite[0]) / (finite[-1] - finite[0]) for edge in finite]
    return list(zip(at, at[1:], strict=False))


def _numbered(edges: Sequence[float]) -> list[str]:
    return [f"{tick(low)} to {tick(high)}" for low, high in zip(edges, edges[1:], strict=False)]


def _height(share: float, top: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * share / top


def _grid(top: float, unit: str) -> list[str]:
    """Three lines across with their shares, and what is counted above them."""
    parts = [f'<text x="0" y="12">{text(unit)}</text>']
    for share in (0.0, top / 2, top):
        y = _height(share, top)
        written = f"{tick(100 * share)}%" if top <= 1 else tick(share)
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{written}</text>')
    return parts


def _bars(
    spans: Sequence[tuple[float, float]],
    samples: Sequence[float],
    reference: Sequence[float],
    names: Sequence[str],
    top: float,
) -> list[str]:
    """A bar per share of samples, with both shares where a pointer rests."""
    parts = []
    for k, (left, right) in enumerate(spans):
        share = samples[k] if samples else 0.0
        y = _height(share, top)
        words = [f"samples {short(share)}"] if samples else []
        words += [f"reference {short(reference[k])}"] if reference else []
        parts.append(
            f'<rect class="share" x="{left:.1f}" y="{y:.1f}" width="{right - left:.1f}" height="{_BOTTOM - y:.1f}">'
            f"<title>{text(names[k])}: {', '.join(words)}</title></rect>"
        )
    return parts


def _outline(spans: Sequence[tuple[float, float]], shares: Sequence[float], top: float, joined: bool) -> str:
    """The reference: steps over bins that touch, a frame around each bar that stands alone."""
    steps = [f"V{_height(share, top):.1f}H{right:.1f}" for (_, right), share in zip(spans, shares, strict=True)]
    if joined:
        return f'<path class="outline" d="M{spans[0][0]:.1f} {_BOTTOM}{"".join(steps)}V{_BOTTOM}"/>'
    frames = [f"M{left:.1f} {_BOTTOM}{step}V{_BOTTOM}" for (left, _), step in zip(spans, steps, strict=True)]
    return f'<path class="outline" d="{"".join(frames)}"/>'


def _labels(spans: Sequence[tuple[float, float]], names: Sequence[str]) -> list[str]:
    """Labels below their bars, as many as fit side by side."""
    shown = [name if len(name) <= 9 else f"{name[:8]}…" for name in names]
    each = (_RIGHT - _LEFT) / len(spans)
    stride = math.ceil((max(map(len, shown)) * _LETTER + 3) / each)
    return [
        f'<text x="{(left + right) / 2:.1f}" y="{_BOTTOM + 15}" text-anchor="middle">{text(name)}</text>'
        for k, ((left, right), name) in enumerate(zip(spans, shown, strict=True))
        if k % stride == 0
    ]


def _edge_ticks(edges: Sequence[float]) -> list[str]:
    """Round numbers along a scale."""
    low, high = float(edges[0]), float(edges[-1])
    unit = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(factor * unit for factor in (1, 2, 5, 10) if (high - low) / (factor * unit) <= 6)
    parts = []
    for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        x = _LEFT + (_RIGHT - _LEFT) * (k * step - low) / (high - low)
        parts.append(f'<text x="{x:.1f}" y="{_BOTTOM + 15}" text-anchor="middle">{tick(k * step)}</text>')
    return parts
