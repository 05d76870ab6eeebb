"""Metrics of molecules: what RDKit says of each sample, and distances between sets of them."""

from graphinv.metrics.molecule.validity import molecule_report

__all__ = ["molecule_report"]
