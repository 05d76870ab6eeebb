"""What the integer types of a store mean: the labels of node and edge types, saved with the data.

A vocabulary is data and not code: a model trained on a store decodes with the labels the store was built with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphinv.errors import InputError

__all__ = ["Vocabulary"]

_SCHEMES = ("element", "element+charge", "generic")


@dataclass(frozen=True)
class Vocabulary:
    """The labels of node and edge types.

    Attributes:
        nodes: label of node type i: an element ("C"), with a charge ("N+", "O-", "S+2"), or any text.
        edges: label of edge type i + 1; type 0 means no edge.
        scheme: "element", "element+charge" or "generic".

    Raises:
        InputError: a label repeats, there are more than 256 node or 255 edge types, or the scheme is unknown.

    Example:
        >>> Vocabulary(("C", "N"), ("single", "double", "triple"), "element").nodes.index("N")
        1
    """

    nodes: tuple[str, ...]
    edges: tuple[str, ...]
    scheme: str

    def __post_init__(self) -> None:
        for name, labels, most in (("nodes", self.nodes, 256), ("edges", self.edges, 255)):
            if len(set(labels)) != len(labels) or len(labels) > most:
                raise InputError(f"vocabulary {name} must be at most {most} different labels, got {labels}")
        if self.scheme not in _SCHEMES:
            raise InputError(f"unknown vocabulary scheme {self.scheme!r}; available: {', '.join(_SCHEMES)}")

    def to_json(self) -> dict[str, Any]:
        """Return the vocabulary as a JSON object."""
        return {"nodes": list(self.nodes), "edges": list(self.edges), "scheme": self.scheme}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Vocabulary:
        """Return the vocabulary written by ``to_json``.

        Raises:
            InputError: a key is missing or not a list of labels.
        """
        try:
            nodes, edges = (tuple(str(label) for label in value[key]) for key in ("nodes", "edges"))
            return cls(nodes, edges, str(value["scheme"]))
        except (KeyError, TypeError) as error:
            raise InputError(f"a vocabulary needs nodes, edges and scheme, got {value!r}") from error
