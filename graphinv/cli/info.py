"""``graphinv info``: versions, devices, and which implementation of the segment kernels is in use."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from graphinv import __version__
from graphinv.cli.arguments import make_parser
from graphinv.ops import backend_report

__all__ = ["info_verb", "report", "report_lines"]

_PACKAGES = ("torch", "torch-geometric", "lightning", "rdkit", "networkx", "fcd", "triton", "torch-scatter")


def info_verb(args: list[str]) -> None:
    """Run ``info``."""
    p = make_parser(
        "info",
        "Say what runs here: versions of the packages, devices, and which implementation of the segment kernels is in "
        "use, with the reason for each that is not at hand. Worth a look before a long training and in a bug report.",
    )
    p.add_argument("--json", action="store_true", help="print JSON")
    values = p.parse_args(args)
    content = report()
    print(json.dumps(content, indent=2) if values.json else "\n".join(report_lines(content)))


def report() -> dict[str, Any]:
    """Return versions ("absent" where a package is not installed), devices and backends; text and numbers alone."""
    versions = {"graphinv": __version__, "python": platform.python_version()}
    return {
        "versions": versions | {name: _version(name) for name in _PACKAGES},
        "devices": [f"cpu, {torch.get_num_threads()} threads", *map(_device, range(torch.cuda.device_count()))],
        "backends": backend_report(),
    }


def report_lines(content: dict[str, Any]) -> list[str]:
    """Return a report as lines for a person to read."""
    versions, backends = content["versions"], content["backends"]
    return [
        "versions  " + ", ".join(f"{name} {number}" for name, number in versions.items()),
        *(f"device    {device}" for device in content["devices"]),
        *(f"kernels   {name}: {state}" for name, state in backends.items()),
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _device(number: int) -> str:
    device = torch.cuda.get_device_properties(number)
    return f"cuda:{number} {device.name}, {device.total_memory / 1e9:.0f} GB"
