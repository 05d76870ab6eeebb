"""The report as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["format_report"]


def format_report(report: Mapping[str, Any]) -> str:
    """Rates with their intervals, distances with their intervals and floors, then what to be careful about.

    Example:
        >>> from graphinv.metrics.molecule import molecule_report
        >>> print(format_report(molecule_report(["C", "CC", "C=F"])).splitlines()[1])
        valid_strict          2   66.67 %  20.77 .. 93.85
    """
    lines = [f"{'of ' + format(report['samples'], ',') + ' samples':<16}{'count':>7}{'rate':>10}  95% interval"]
    lines += [_rate_line(name, value) for name, value in report.items() if _is_rate(value)]
    if report.get("family"):
        lines.append(f"valid: of the family {report['family']}")
    under, protocol = report.get("under_protocol"), report.get("protocol")
    if protocol and under:
        lines.append(f"as {protocol['name']} counts, {report['judged']:,} molecules judged")
        lines += [_rate_line(name, value) for name, value in under.items() if _is_rate(value)]
    if report.get("repair_edits") is not None:
        lines.append(f"{'repair_edits':<16}{report['repair_edits']:>7}")
    atoms = report.get("atoms") or {}
    if atoms:
        total = sum(atoms.values())
        lines.append("atoms           " + ", ".join(f"{a} {100 * n / total:.1f}%" for a, n in atoms.items()))
    lines += _distance_lines(report.get("distances") or {}, protocol["name"] if protocol else "")
    if report.get("ratio") is not None:
        lines.append(f"{'ratio to floor':<20}{report['ratio']:>12.4g}")
    if protocol:
        lines += [f"{protocol['name']} is not met: {text}" for text in protocol["unmet"]]
    lines += [f"note: {text}" for text in report.get("warnings", ())]
    return "\n".join(lines)


def _is_rate(value: object) -> bool:
    return isinstance(value, Mapping) and "rate" in value


def _rate_line(name: str, value: Mapping[str, Any]) -> str:
    if value["rate"] is None:
        return f"{name:<16}{value['count']:>7}{'-':>10}"
    span = f"{100 * value['low']:.2f} .. {100 * value['high']:.2f}"
    return f"{name:<16}{value['count']:>7}{100 * value['rate']:>8.2f} %  {span}"


def _distance_lines(distances: Mapping[str, Mapping[str, Any]], protocol: str) -> list[str]:
    if not distances:
        return []
    width = max(20, 1 + max(map(len, distances)))
    lines = [
        f"distances of {protocol}",
        f"{'':<{width}}{'value':>12}  {'95% interval':<24}{'floor':>12}{'N':>9}{'reference':>11}",
    ]
    for name, entry in distances.items():
        span = "-" if entry["low"] is None else f"{entry['low']:.4g} .. {entry['high']:.4g}"
        floor = "-" if entry["floor"] is None else f"{entry['floor']:.4g}"
        marks = " higher is better" if entry["better"] == "higher" else ""
        marks += " (inside the floor)" if entry["inside_floor"] else ""
        marks += " (beyond the floor)" if entry["beyond_floor"] else ""
        small = entry["floor"] is not None and entry["draws"] is None
        marks += f" (floor of {entry['floor_count']:,} only)" if small else ""
        marks += f" [{entry['note']}]" if entry["note"] else ""
        counts = f"{entry['count']:>9,}{entry['reference_count']:>11,}"
        lines.append(f"{name:<{width}}{entry['value']:>12.5g}  {span:<24}{floor:>12}{counts}{marks}")
    return lines
