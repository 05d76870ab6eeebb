from __future__ import annotations

import pytest
import torch

from graphinv.errors import InputError
from graphinv.sets import jaccard, mean_jaccard

PTR = torch.tensor([0, 4, 5, 12, 12])


def test_the_coefficient_is_that_of_python_sets():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b = torch.rand(2, 12, generator=generator) < 0.5
        expected = []
        for begin, end in zip(PTR[:-1].tolist(), PTR[1:].tolist(), strict=True):
            one = {i for i in range(begin, end) if a[i]}
            other = {i for i in range(begin, end) if b[i]}
            expected.append(len(one & other) / len(one | other) if one | other else 1.0)
        assert jaccard(a, b, PTR).tolist() == expected
        assert mean_jaccard(a, b, PTR) == pytest.approx(sum(expected) / 4, abs=1e-15)
        assert jaccard(a, a, PTR).tolist() == [1.0] * 4


def test_bad_columns_are_refused():
    yes = torch.ones(12, dtype=torch.bool)
    for a, b in ((yes.long(), yes), (yes, yes[1:]), (yes, yes.float())):
        with pytest.raises(InputError, match="one bool per element"):
            jaccard(a, b, PTR)
    with pytest.raises(InputError, match="end at 12"):
        jaccard(yes, yes, PTR[:3])
    with pytest.raises(InputError, match="at least one set"):
        mean_jaccard(yes[:0], yes[:0], PTR[:1])
