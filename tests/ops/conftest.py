from __future__ import annotations

from collections.abc import Iterator

import pytest

from graphinv.ops import available_backends, use_backend

MARKS = {"triton": pytest.mark.triton, "torch_scatter": pytest.mark.torch_scatter}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in available_backends()])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with use_backend(request.param):
        yield request.param
