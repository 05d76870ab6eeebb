"""Calls that are recorded and replayed: the same values, whatever changes from call to call."""

from __future__ import annotations

import logging

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from graphinv.ops import replay
from graphinv.ops.replay import Replay


def traced(function, inputs):
    """Record operators, as a CUDA graph records kernels: Python is not run again."""
    graph = make_fx(function)(*inputs)
    outputs = tuple(graph(*inputs))

    def run():
        for out, new in zip(outputs, graph(*inputs), strict=True):
            out.copy_(new)
        return outputs

    return run


@pytest.fixture
def recorded(monkeypatch):
    """Record on the CPU; return the functions that were."""
    found = []
    monkeypatch.setitem(replay.RECORDERS, "cpu", lambda *args: found.append(args[0]) or traced(*args))
    return found


def counted(calls):
    def function(x, y):
        calls.append(1)
        return x + y.sin(), x * y

    return function


def pairs(count):
    return torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(0)).unbind()


def test_from_the_third_call_on_python_is_not_run(recorded):
    calls = []
    run = Replay(counted(calls), times=20)
    results = [run(x, y) for x, y in pairs(20)]
    assert len(recorded) == 1 and len(calls) == 3  # two of them before, one to record
    for (x, y), out in zip(pairs(20), results, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(out, (x + y.sin(), x * y), strict=True))


def test_inputs_are_left_alone_and_outputs_can_be_inputs(recorded):
    run, x, y = Replay(lambda x, y: (x + y, y), times=9), torch.ones(2), torch.ones(2)
    for _ in range(9):
        x, y = run(x, y)
    assert recorded and x.tolist() == [10.0, 10.0] and y.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("times", "count"), [(7, 0), (8, 1)])
def test_few_calls_are_not_recorded(recorded, times, count):
    calls = []
    run = Replay(counted(calls), times)
    for x, y in pairs(times):
        run(x, y)
    assert len(recorded) == count and (count or len(calls) == times)


def test_on_a_cpu_nothing_is_recorded():
    calls = []
    run = Replay(counted(calls), times=20)
    for x, y in pairs(20):
        run(x, y)
    assert len(calls) == 20


def test_what_cannot_be_recorded_is_called_and_said_once(monkeypatch, caplog):
    def refuses(function, inputs):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setitem(replay.RECORDERS, "cpu", refuses)
    calls = []
    run = Replay(counted(calls), times=20)
    with caplog.at_level(logging.WARNING):
        results = [run(x, y) for x, y in pairs(20)]
    assert len(calls) == 20 and caplog.text.count("not permitted") == 1
    assert torch.equal(results[-1][1], torch.stack(pairs(20))[-1].prod(0))
