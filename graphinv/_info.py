"""What ``graphinv info`` says: versions, devices, and which implementation of the segment kernels is in use."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from graphinv import __version__
from graphinv.ops import backend_report

PACKAGES = ("torch", "torch-geometric", "lightning", "rdkit", "networkx", "fcd", "triton", "torch-scatter")


def report() -> dict[str, Any]:
    """Return versions ("absent" where a package is not installed), devices and backends; text and numbers alone."""
    versions = {"graphinv": __version__, "python": platform.python_version()}
    return {
        "versions": versions | {name: _version(name) for name in PACKAGES},
        "devices": [f"cpu, {torch.get_num_threads()} threads", *map(_device, range(torch.cuda.device_count()))],
        "backends": backend_report(),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Return a report as lines for a person to read."""
    versions, backends = found["versions"], found["backends"]
    return [
        "versions  " + ", ".join(f"{name} {number}" for name, number in versions.items()),
        *(f"device    {device}" for device in found["devices"]),
        *(f"kernels   {name}: {state}" for name, state in backends.items()),
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _device(number: int) -> str:
    found = torch.cuda.get_device_properties(number)
    return f"cuda:{number} {found.name}, {found.total_memory / 1e9:.0f} GB"
