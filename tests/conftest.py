"""Fixtures of more than one test file: a test file cannot import its neighbour."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="session")
def plain() -> ModuleType:
    """The plain transcription of the score networks."""
    spec = importlib.util.spec_from_file_location("plain_score", Path(__file__).parent / "nn" / "plain_score.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def readable_transforms() -> None:
    """Skip where torch.func keeps a function from reading its own tensors of integers, as torch 2.6 does."""
    try:
        torch.func.grad(lambda x: x.sum() * (torch.zeros(1).sort().indices).tolist()[0])(torch.ones(1))
    except RuntimeError as error:
        pytest.skip(f"torch {torch.__version__} reads no tensor inside torch.func.grad: {error}")
