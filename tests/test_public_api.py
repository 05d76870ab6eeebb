"""What users reach: every public name resolves, is documented, and costs nothing until it is used."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import graphinv

ROOT = Path(graphinv.__file__).parents[1]
MODULES = [m.name for m in pkgutil.walk_packages(graphinv.__path__, "graphinv.") if not m.name.endswith("__main__")]
DECLARING = [m for m in MODULES if "__all__" in vars(importlib.import_module(m))]


@pytest.mark.parametrize("name", graphinv.__all__)
def test_public_names_resolve_are_listed_and_come_from_their_home(name):
    value = getattr(graphinv, name)
    home = importlib.import_module(graphinv._HOME[name])
    assert value is getattr(home, name)
    assert name in home.__all__
    assert name in dir(graphinv)


def test_the_lazy_table_and_the_public_list_hold_the_same_names():
    assert set(graphinv._HOME) == set(graphinv.__all__)
    assert len(set(graphinv.__all__)) == len(graphinv.__all__)


def test_every_module_is_reached_by_attribute_after_import_graphinv_alone():
    modules = {m.name for m in pkgutil.iter_modules(graphinv.__path__) if not m.name.startswith("_")}
    assert set(graphinv._MODULES) == modules | {"pretrained"} and modules <= set(dir(graphinv))
    code = "import graphinv, sys; before = 'torch' in sys.modules; [getattr(graphinv, m) for m in graphinv._MODULES]"
    code += "; assert not before; graphinv.aggr.LCMAggregation; graphinv.metrics.PROTOCOLS"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors_that_list_the_known_ones():
    with pytest.raises(AttributeError, match="nonsense.*GraphStore"):
        _ = graphinv.nonsense


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, graphinv; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    roots = {name.split(".")[0] for name in done.stdout.split()}
    assert "graphinv" in roots
    assert not roots & {"torch", "torch_geometric", "rdkit", "lightning", "numpy", "networkx", "jsonargparse", "tqdm"}


@pytest.mark.parametrize(("module", "heavy"), [
    ("graphinv.models", {"rdkit", "lightning", "torch_geometric", "networkx"}),
    ("graphinv.data", {"rdkit", "lightning", "torch_geometric", "networkx"}),
    ("graphinv.training", {"rdkit", "lightning"}),
])  # fmt: skip
def test_modules_import_optional_engines_on_use_only(module, heavy):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in done.stdout.split()} & heavy


@pytest.mark.parametrize("module", DECLARING)
def test_declared_names_exist_once_and_are_documented(module):
    home = importlib.import_module(module)
    assert len(set(home.__all__)) == len(home.__all__)
    for name in home.__all__:
        value = getattr(home, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            text = inspect.getdoc(value)
            assert text and not text.startswith(f"{name}("), f"{module}.{name} has no docstring of its own"
            for member, method in vars(value).items() if inspect.isclass(value) else ():
                if inspect.isfunction(method) and not member.startswith("_"):
                    assert inspect.getdoc(method), f"{module}.{name}.{member} has no docstring"


def test_the_version_is_the_one_on_top_of_the_changelog_and_in_the_project_file():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert versions and versions[0] == graphinv.__version__
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{graphinv.__version__}"' in project
