from __future__ import annotations

from collections.abc import Iterator

import pytest

from graphinv.ops import available_backends, use_backend


@pytest.fixture(params=available_backends())
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with use_backend(request.param):
        yield request.param
