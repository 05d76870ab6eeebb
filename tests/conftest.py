"""Fixtures of more than one test file, and what holds for all: one thread a process, backends that may be missing."""

from __future__ import annotations

import os
from types import ModuleType

import pytest
import torch

from graphinv.ops import available_backends, backend_report
from tests.nn import plain_score


def pytest_runtest_setup() -> None:
    """Keep each process of pytest-xdist, and what it starts, to one thread: the processes share the cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked with a backend that cannot run here."""
    for name, reason in backend_report().items():
        if name not in available_backends():
            skip = pytest.mark.skip(reason=f"no {name} here: {reason}")
            for item in items:
                if item.get_closest_marker(name):
                    item.add_marker(skip)


@pytest.fixture(scope="session")
def plain() -> ModuleType:
    """The plain transcription of the score networks."""
    return plain_score


@pytest.fixture(scope="session")
def readable_transforms() -> None:
    """Skip where torch.func keeps a function from reading its own tensors of integers, as torch 2.6 does."""
    try:
        torch.func.grad(lambda x: x.sum() * (torch.zeros(1).sort().indices).tolist()[0])(torch.ones(1))
    except RuntimeError as error:
        pytest.skip(f"torch {torch.__version__} reads no tensor inside torch.func.grad: {error}")


collect_ignore = ["models/bernoulli.py"]  # a module of its own to those who import it by path
