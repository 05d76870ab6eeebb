"""A device that is not the CPU: a GPU, or one that is pretended, so that what a GPU would refuse is found without one.

GRAPHINV_TEST_DEVICE chooses: "cuda", or "pretended", which wants a C++ compiler and takes half a minute to build.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.cpp_extension import include_paths, library_paths

CHOICE = os.environ.get("GRAPHINV_TEST_DEVICE", "")


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> torch.device:
    if CHOICE == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    if CHOICE == "pretended":
        return pretended(tmp_path_factory.mktemp("device") / "pretended.so")
    pytest.skip("no second device: set GRAPHINV_TEST_DEVICE to cuda or pretended")


def pretended(library: Path) -> torch.device:
    """Build the device and make it known to torch, for the rest of the process."""
    build(library)
    torch.ops.load_library(str(library))
    torch.utils.rename_privateuse1_backend("pretended")
    answers: dict[str, Any] = {"is_available": True, "is_initialized": True, "current_device": 0, "device_count": 1}
    answers |= {"_is_in_bad_fork": False, "_lazy_init": None, "manual_seed_all": None}
    answers |= {"get_amp_supported_dtype": [torch.bfloat16]}
    calls = {name: lambda *args, answer=answer: answer for name, answer in answers.items()}
    torch._register_device_module("pretended", SimpleNamespace(**calls))
    return torch.device("pretended", 0)


def build(library: Path) -> None:
    compiler = os.environ.get("CXX", "c++")
    flags = [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}", "-std=c++20", "-O1", "-fPIC", "-w"]
    includes = [f"-I{path}" for path in include_paths()]
    links = [f"-L{path}" for path in library_paths()] + ["-ltorch_cpu", "-lc10"]
    source = Path(__file__).with_name("pretended.cpp")
    command = [compiler, *flags, *includes, "-shared", str(source), "-o", str(library), *links]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{compiler} could not build {source.name}:\n{done.stderr[-3000:]}")
