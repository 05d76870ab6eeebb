"""A function of tensors that is called many times: on a GPU recorded once and replayed, as one launch.

A step of a sampler is some hundred small kernels, and a GPU often waits for the host to launch the next one. What is
recorded are the kernels with their addresses: whatever changes from call to call must be a tensor among the inputs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Replay"]

Function = Callable[..., tuple[Tensor, ...]]
# Takes a function and the tensors that it will always read; what it returns fills the same outputs at each call.
Recorder = Callable[[Function, tuple[Tensor, ...]], Callable[[], tuple[Tensor, ...]]]

_EAGER = 2  # calls before the one that is recorded: kernels are compiled and libraries loaded by then
_LEAST = 8  # fewer calls are not worth a recording
_log = logging.getLogger(__name__)


class Replay:
    """Call ``function`` again and again; on CUDA, replay a CUDA graph of it from the third call on.

    Gives the same bits as the function. If it cannot be recorded, a warning says why and it is called as it is.

    Args:
        function: takes tensors, returns a tuple of new tensors; must have no other inputs that change and no effects,
            and must not wait for the device.
        times: how often it will be called.

    Example:
        >>> double = Replay(lambda x: (2 * x,), times=100)
        >>> double(torch.ones(2))[0].tolist()
        [2.0, 2.0]
    """

    def __init__(self, function: Function, times: int) -> None:
        self.function = function
        self._before = _EAGER  # calls before the recording
        self._worth = times >= _LEAST
        self._inputs: tuple[Tensor, ...] = ()
        self._run: Callable[[], tuple[Tensor, ...]] | None = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return ``function(*inputs)``; inputs keep their shapes, dtypes and devices from call to call."""
        if self._run is None and not self._record(inputs):
            return self.function(*inputs)
        assert self._run is not None
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        return tuple(out.clone() for out in self._run())

    def _record(self, inputs: tuple[Tensor, ...]) -> bool:
        recorder = RECORDERS.get(inputs[0].device.type)
        if recorder is None or not self._worth:
            return False
        if self._before:
            self._before -= 1
            return False
        self._inputs = tuple(x.clone() for x in inputs)
        try:
            self._run = recorder(self.function, self._inputs)
        except RuntimeError as error:
            _log.warning("a step could not be recorded and runs kernel by kernel: %s", error)
            self._worth = False
            return False
        return True


def _cuda_graph(function: Function, inputs: tuple[Tensor, ...]) -> Callable[[], tuple[Tensor, ...]]:
    with torch.cuda.device(inputs[0].device):
        # Once more on another stream, as in the recording: libraries keep work space per stream.
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            function(*inputs)
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = function(*inputs)

    def run() -> tuple[Tensor, ...]:
        graph.replay()
        return outputs

    return run


RECORDERS: dict[str, Recorder] = {"cuda": _cuda_graph}
