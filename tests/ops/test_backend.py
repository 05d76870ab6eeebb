"""The choice of a backend: scoped, local to a thread, kept for backward, explained when impossible."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import graphinv.ops
from graphinv.errors import InputError
from graphinv.ops import available_backends, backend_report, current_backend, segment_reduce, use_backend
from graphinv.ops import backend as backend_module

pytestmark = pytest.mark.backends


def test_torch_is_always_available_and_the_default_without_a_gpu():
    assert available_backends()[0] == "torch"
    default = "triton" if torch.cuda.is_available() and "triton" in available_backends() else "torch"
    assert current_backend() == default


def test_an_unknown_backend_is_named_with_the_known_ones():
    before = current_backend()
    with pytest.raises(InputError, match="unknown backend 'tritn'; available: torch, torch_scatter, triton"):
        use_backend("tritn")
    assert current_backend() == before


@pytest.mark.skipif("torch_scatter" in available_backends(), reason="torch_scatter is importable here")
def test_a_missing_backend_is_named_with_the_command_that_installs_it():
    with pytest.raises(InputError, match="pip install --no-build-isolation torch-scatter"):
        use_backend("torch_scatter")


@pytest.mark.skipif("triton" in available_backends(), reason="triton can run here")
def test_triton_that_cannot_run_says_what_is_missing():
    missing = "CUDA device, and TRITON_INTERPRET is not 1|No module named 'triton'"
    with pytest.raises(InputError, match=f"'triton' cannot be loaded.*({missing}).*pip install 'triton>=3.1'"):
        use_backend("triton")


def test_the_report_names_the_backend_in_use_and_a_reason_for_each_that_cannot_run():
    with use_backend("torch"):
        report = backend_report()
    assert list(report) == ["torch", "torch_scatter", "triton"] and report["torch"] == "in use"
    for name in ("torch_scatter", "triton"):
        assert (report[name] == "available") == (name in available_backends())
        assert len(report[name]) > 8


def test_importing_the_kernels_leaves_triton_alone():
    code = "import sys, graphinv.ops; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=Path(graphinv.ops.__file__).parents[2], check=True)


@pytest.mark.torch_scatter
def test_a_block_restores_the_backend_even_after_an_error():
    with pytest.raises(KeyError), use_backend("torch_scatter"):
        assert current_backend() == "torch_scatter"
        with use_backend("torch"):
            assert current_backend() == "torch"
        assert current_backend() == "torch_scatter"
        raise KeyError
    assert current_backend() == "torch"


@pytest.mark.torch_scatter
def test_a_call_sets_the_backend_from_then_on_in_its_thread_only():
    seen = []

    def work() -> None:
        use_backend("torch_scatter")
        seen.append(current_backend())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["torch_scatter"] and current_backend() == "torch"


@pytest.mark.torch_scatter
def test_backends_agree():
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ptr = torch.tensor([0, 0, 20, 21, 50])
    for reduce in ("sum", "mean", "std"):
        with use_backend("torch_scatter"):
            other = segment_reduce(x, ptr, reduce)
        torch.testing.assert_close(other, segment_reduce(x, ptr, reduce))


@pytest.mark.torch_scatter
def test_backward_runs_on_the_backend_of_the_forward_pass():
    x = torch.ones(4, 3, requires_grad=True)
    with use_backend("torch_scatter"):
        out = segment_reduce(x, torch.tensor([0, 4]), "mean")
    out.sum().backward()
    node = out.grad_fn
    while not hasattr(node, "segments"):
        node = node.next_functions[0][0]
    assert node.segments.kernels is not backend_module.current_kernels()
    assert torch.equal(x.grad, torch.full((4, 3), 0.25))


def test_every_backend_is_loaded_once():
    assert backend_module.current_kernels() is backend_module.current_kernels()


def test_the_public_names_are_those_of_the_contract():
    assert set(graphinv.ops.__all__) == {
        "available_backends",
        "backend_report",
        "current_backend",
        "from_pairs",
        "index_to_ptr",
        "ptr_to_index",
        "segment_attention",
        "segment_fold",
        "segment_reduce",
        "segment_softmax",
        "segment_sort",
        "segment_sort_columns",
        "to_pairs",
        "use_backend",
    }
    assert all(hasattr(graphinv.ops, name) for name in graphinv.ops.__all__)
