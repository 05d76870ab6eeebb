"""A modular utility as a fixture: F(S) = sum of one weight per element, whose posterior is known in closed form."""

from __future__ import annotations

import pytest
import torch


class Modular:
    """phi [N, 1] are the weights; p(S) is a product of sigmoid(phi_i)."""

    def values(self, phi, layout, samples):
        out = torch.zeros(layout.num_groups, samples.shape[1], dtype=phi.dtype)
        return out.index_add(0, layout.index, phi * samples.to(phi.dtype))

    def differences(self, phi, layout, samples, *, independent=False):
        return phi.expand(-1, samples.shape[1])

    def gradients(self, phi, layout, samples):
        return phi.expand(-1, samples.shape[1])


@pytest.fixture
def modular():
    return Modular()
