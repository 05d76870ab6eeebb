"""Inputs and targets of unit variance at every time, for networks that read the time (arXiv:2206.00364, section 5).

With x(t) = a x0 + s z and data of standard deviation d, v = s^2 + a^2 d^2 is the variance of x(t). The network reads
x / sqrt(v), and its output F gives the score -x / v + a d F / (s sqrt(v)): no step from data that the network
predicts well, at small t, nor from noise that it cannot predict, at large t.
"""

from __future__ import annotations

from torch import Tensor

from graphinv.diffusion.gaussian import SDE
from graphinv.diffusion.process import Process
from graphinv.diffusion.state import S

__all__ = ["network_error", "network_input", "network_score"]


def network_input(process: Process, g: S, t: Tensor, spread: float) -> S:
    """Return what the network reads of ``g`` at ``t``.

    Args:
        process: an SDE, or a GraphProcess of two.
        g: the noisy state.
        t: times in (0, 1], ``[B]`` or ``[]``.
        spread: standard deviation d of the data.

    Returns:
        A state shaped like ``g``.
    """
    return process.map(lambda sde, x: (x / _scales(sde, x, t, spread)[2],), g)[0]


def network_score(process: Process, g: S, out: S, t: Tensor, spread: float) -> S:
    """Return the score at ``g``, shaped like it, from the output ``out`` of the network; see ``network_input``.

    Example:
        >>> import torch
        >>> from graphinv.diffusion import VESDE
        >>> x, t = torch.tensor([[2.0]]), torch.tensor(1.0)
        >>> round(network_score(VESDE(0.1, 1.0), x, torch.zeros(1, 1), t, spread=1.0).item(), 4)  # of N(0, 1 + 1)
        -1.0
    """

    def update(sde: SDE, x: Tensor, out: Tensor) -> tuple[Tensor, ...]:
        data, std, deviation = _scales(sde, x, t, spread)
        return (data * out / (std * deviation) - x / deviation.square(),)

    return process.map(update, g, out)[0]


def network_error(process: Process, score: S, z: S, t: Tensor, spread: float) -> S:
    """Return the output behind ``score`` less that of the noise ``z`` that made the state, shaped like it.

    Its square is what ``GDSS.losses_at`` sums.
    """

    def update(sde: SDE, score: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        data, std, deviation = _scales(sde, score, t, spread)
        return ((std * score + z) * deviation / data,)

    return process.map(update, score, z)[0]


def _scales(sde: SDE, like: Tensor, t: Tensor, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return a d, s and sqrt(v), broadcastable."""
    scale, std = sde.marginal(like.new_ones(t.shape[:1] + (1,) * (like.dim() - 1)), t)
    data = spread * scale
    return data, std, (std.square() + data.square()).sqrt()
