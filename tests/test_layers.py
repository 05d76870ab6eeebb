"""The shape of the house, read from the source: who imports whom, and how long anything is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import graphinv

PACKAGE = Path(graphinv.__file__).parent
ROWS = [
    {"errors"},
    {"_files", "_processes", "pretrained"},
    {"ops"},
    {"columns"},
    {"graphs", "noise"},
    {"aggr", "diffusion", "data", "testing"},
    {"nn", "mol"},
    {"models", "metrics", "sets", "draw"},
    {"training", "convert"},
    {"pipeline", "compounds", "sources"},
    {"cli"},
]
RANK = {name: row for row, names in enumerate(ROWS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))
RDKIT_HOMES = ("mol/", "metrics/molecule/")
PICKLE_HOME = "data/_safe_pickle.py"  # reads pickles of others without running them
MODULE_LINES, FUNCTION_LINES = 500, 60


def name_of(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def unit_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def tree_of(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def imports(module: Path) -> Iterator[tuple[str, int]]:
    """Yield every imported dotted name and its line, wherever in the module the statement stands."""
    package = ["graphinv", *module.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{source}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value), node.lineno


def internal(dotted: str) -> str | None:
    """Return the unit of graphinv that a dotted name reaches, through the lazy names of the package too."""
    parts = dotted.split(".")
    if parts[0] != "graphinv" or len(parts) == 1 or parts[1] == "__version__":
        return None
    home = graphinv._HOME.get(parts[1])
    return home.split(".")[1] if home is not None and parts[1] not in RANK else parts[1]


def test_every_unit_of_the_package_has_a_row():
    assert {unit_of(m) for m in MODULES} - {"__init__"} <= set(RANK)


@pytest.mark.parametrize("module", [m for m in MODULES if m != PACKAGE / "__init__.py"], ids=name_of)
def test_a_module_imports_only_from_rows_below_its_own(module):
    own = unit_of(module)
    wrong = []
    for dotted, line in imports(module):
        unit = internal(dotted)
        if unit is not None and unit != own and not RANK.get(unit, len(ROWS)) < RANK[own]:
            wrong.append(f"line {line}: {own} imports {dotted}")
    assert not wrong, wrong


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_rdkit_stays_at_home_and_nothing_is_pickled(module):
    roots = {dotted.split(".")[0] for dotted, _ in imports(module)}
    assert not roots & {"dill", "cloudpickle", "joblib"}
    assert "pickle" not in roots or name_of(module) == PICKLE_HOME
    assert "rdkit" not in roots or name_of(module).startswith(RDKIT_HOMES)


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_torch_loads_weights_only(module):
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            flags = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert flags.get("weights_only") == "True", f"line {node.lineno}"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_modules_and_functions_are_short(module):
    assert len(module.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES
    for node in ast.walk(tree_of(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = node.body[0] if ast.get_docstring(node) is not None else None
            hidden = docstring.end_lineno - docstring.lineno + 1 if docstring is not None else 0
            length = node.end_lineno - node.lineno + 1 - hidden
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("module", [m for m in MODULES if m.read_text().strip()], ids=name_of)
def test_modules_say_what_they_are(module):
    assert ast.get_docstring(tree_of(module))


def test_only_the_loop_calls_the_step_of_a_solver():
    """Solvers may call each other's; everything else that goes through time goes through ``solve``."""
    arguments = 7  # process, predict, x, t, s, carry, noise
    callers = {
        name_of(module)
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(".step")
        and len(node.args) + len(node.keywords) == arguments
    }
    assert callers == {"diffusion/integrate.py", "diffusion/solver/reverse.py"}
