"""Pickled networkx graphs read without running anything of the file: every admitted name becomes an inert record.

A pickle says which classes and functions to call; here each name is looked up in a short table, and what is called is
a record of its arguments, made anew for each file. It guards against code and crashes, not against memory exhausted.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from graphinv.errors import InputError

__all__ = ["PlainGraph", "load_tensors", "pickled_graphs"]

PlainGraph = tuple[int, set[tuple[int, int]]]  # number of nodes, pairs u <= v of linked nodes (u = v is a self loop)

_ADMITTED = {
    "networkx.classes.graph": {"Graph"},
    "networkx.classes.coreviews": {"AtlasView", "AdjacencyView", "FilterAtlas", "FilterAdjacency"},
    "networkx.classes.reportviews": {"NodeView", "EdgeView", "DegreeView"},  # kept beside the data once looked at
    "networkx.classes.filters": {"show_nodes", "no_filter"},  # a subgraph is a view
    "networkx.classes.function": {"frozen"},
    "builtins": {"dict"},
    "numpy": {"dtype"},
}
_GRAPH, _ALL_EDGES, _SOME_NODES = (
    f"networkx.classes.{name}" for name in ("graph.Graph", "filters.no_filter", "filters.show_nodes")
)
_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_FORMS = dict(zip("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split(), "?bhiqBHIQefd", strict=True))  # numpy's to struct's
_DEEPEST = 100  # tuples in tuples: hash() of deeper ones overruns the C stack, a crash and no exception
_TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"}
_PUTS, _GETS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"GET", "BINGET", "LONG_BINGET", "DUP"}
_SPLITS = {"train": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}


class _Record:
    """What the file gives one object: the arguments of its maker and its state; ``kind`` is its name in the file."""

    __slots__ = ("args", "state")
    kind: str
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Any:
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Scalar:
    """A numpy scalar, given as its type and bytes, turned into the Python number (node names can be numpy's)."""

    def __new__(cls, dtype: Any, content: Any) -> Any:
        code, order = dtype.args[0], dtype.state[1]
        if code not in _FORMS:
            raise InputError(f"the pickle holds a numpy scalar of type {code!r}; only integers, floats, bools are read")
        return struct.unpack((">" if order == ">" else "<") + _FORMS[code], content)[0]


class _Unpickler(pickle.Unpickler):
    """Answers each name with a class of its own, new for each file, so that no file changes what another one meets."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._made: dict[str, type] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        kind = f"{module}.{name}"
        if kind not in self._made:
            if kind in _SCALARS:
                self._made[kind] = type(name, (_Scalar,), {})
            elif name in _ADMITTED.get(module, ()):
                self._made[kind] = type(name, (_Record,), {"__slots__": (), "kind": kind})
            else:
                raise InputError(
                    f"the pickle names {kind}, and none of it was run; only undirected networkx.Graph, Python "
                    "containers, numbers and text are admitted. Save plain graphs without other attributes, or graph6"
                )
        return self._made[kind]


def pickled_graphs(content: bytes) -> tuple[list[PlainGraph], list[str] | None]:
    """Return the graphs of a pickled list, or of a dict of lists by split, then with the split of each.

    Raises:
        InputError: anything but undirected simple graphs is named, the layout is another, tuples are nested more than
            100 deep, or the pickle is damaged.

    Example:
        >>> import networkx
        >>> pickled_graphs(pickle.dumps([networkx.path_graph(2)]))
        ([(2, {(0, 1)})], None)
    """
    try:
        _check_nesting(content)
        value = _Unpickler(content).load()
    except InputError:
        raise
    except Exception as error:  # whatever a damaged stream makes the unpickler trip over
        raise InputError(f"it is not a whole pickle ({type(error).__name__}: {error})") from error
    if isinstance(value, (list, tuple)):
        return _graphs(value, "the list"), None
    if not isinstance(value, dict) or not value or not set(value) <= set(_SPLITS):
        got = f"a {_described(value)}"
        if isinstance(value, dict):  # the keys themselves can be of any length
            kinds = ", ".join(sorted({_described(key) for key in value}))
            got = f"a dict with keys of type {kinds}" if value else "an empty dict"
        raise InputError(
            f"expected a list of networkx.Graph, or a dict of such lists by train, val and test, got {got}"
        )
    graphs: list[PlainGraph] = []
    splits: list[str] = []
    for name, part in value.items():
        if not isinstance(part, (list, tuple)):
            raise InputError(f"split {name!r} must be a list of networkx.Graph, got a {_described(part)}")
        graphs += _graphs(part, f"split {name!r}")
        splits += [_SPLITS[name]] * len(part)
    return graphs, splits


def load_tensors(content: bytes, admitted: Mapping[str, type] | None = None) -> Any:
    """Return what ``torch.save`` wrote, tensors, containers and numbers only.

    ``admitted`` names further classes, such as "easydict.EasyDict", and the container that takes the place of each.

    Raises:
        InputError: it holds anything else or tuples nested more than 100 deep, is damaged, or is no zip archive, as
            torch before 1.6 wrote it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                if entry.filename.lower().endswith("data.pkl"):  # torch looks it up in any case
                    _check_nesting(archive.read(entry))
        with torch.serialization.safe_globals([(kind, name) for name, kind in (admitted or {}).items()]):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # as above
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"it is no file of tensors that torch can load safely ({reason})") from error


def _check_nesting(content: bytes) -> None:
    """Refuse a pickle that would make deeply nested tuples, by their depth alone: nothing is made.

    Each opcode moves the depths of its operands on the stack; what it leaves counts as deep as the deepest of them,
    and a tuple as one more. Lists and dicts have no hash and add nothing.
    """
    stack: list[int | None] = []  # None is a mark
    memo: dict[Any, int | None] = {}
    for opcode, argument, _ in pickletools.genops(content):
        name, before = opcode.name, opcode.stack_before
        if name == "MARK":
            stack.append(None)
        elif name in _PUTS:
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in _GETS:
            stack.append(stack[-1] if name == "DUP" else memo[argument])
        else:
            count, deepest = len(before), 0
            if pickletools.markobject in before:
                while (depth := stack.pop()) is not None:
                    deepest = max(deepest, depth)
                count = before.index(pickletools.markobject)
            for _ in range(count):
                deepest = max(deepest, stack.pop() or 0)
            deepest += name in _TUPLES
            if deepest > _DEEPEST:
                raise InputError(f"its tuples are nested more than {_DEEPEST} deep; no graph needs that")
            stack += [deepest] * len(opcode.stack_after)


def _graphs(items: Sequence[Any], where: str) -> list[PlainGraph]:
    ranks: dict[int, dict[Any, int]] = {}
    return [_graph(item, f"item {k} of {where}", ranks) for k, item in enumerate(items)]


def _graph(item: Any, where: str, ranks: dict[int, dict[Any, int]]) -> PlainGraph:
    if not isinstance(item, _Record) or item.kind != _GRAPH:
        raise InputError(f"{where} must be a networkx.Graph, got a {_described(item)}")
    try:
        nodes, rows = item.state["_node"], item.state["_adj"]
        view = isinstance(nodes, _Record)
        if view:
            nodes, rows = _viewed(nodes, rows, ranks)
        if not isinstance(rows, dict):
            raise ValueError("_adj is no dict")
        number = {node: i for i, node in enumerate(nodes)}
        ends = [(i, other) for node, i in number.items() for other in rows[node] if not view or other in number]
        pairs = {(min(i, number[other]), max(i, number[other])) for i, other in ends}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else type(error).__name__  # not the key, of any length
        raise InputError(f"{where} is not laid out like a networkx.Graph ({reason}); save nx.Graph(graph)") from error
    return len(number), pairs


def _viewed(nodes: _Record, rows: _Record, ranks: dict[int, dict[Any, int]]) -> tuple[list[Any], Any]:
    """The nodes that a subgraph view shows, in the order of the graph it looks at, and the rows of that graph.

    ``ranks`` keeps the orders, by graph looked at: ENZYMES is 587 views of one graph.
    """
    for part in (nodes, rows):
        if part.state["NODE_OK"].kind != _SOME_NODES:
            raise ValueError("a view that chooses by another rule than a set of nodes")
    shown, atlas = set(nodes.state["NODE_OK"].state["nodes"]), nodes.state["_atlas"]
    if shown != set(rows.state["NODE_OK"].state["nodes"]) or rows.state["EDGE_OK"].kind != _ALL_EDGES:
        raise ValueError("a view that hides edges")
    if id(atlas) not in ranks:
        ranks[id(atlas)] = {node: rank for rank, node in enumerate(atlas)}
    rank = ranks[id(atlas)]
    return sorted(shown & rank.keys(), key=rank.__getitem__), rows.state["_atlas"]


def _described(value: Any) -> str:
    return value.kind if isinstance(value, _Record) else type(value).__name__
