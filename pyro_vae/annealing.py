r"""Chains between the prior and the posterior of each datapoint, and what their weights say of :math:`\log p(x)`.

A walk goes through :math:`p_t(z) \propto p(z) \, p(x | z)^{\beta_t}`, :math:`0 = \beta_0 < ... < \beta_T = 1`, with one
HMC transition at each temperature, and collects the weight (Neal, 2001)

.. math:: \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log p(x | z_{t-1})

Up from draws of the prior, :math:`E[w] = p(x)`. Down from draws of the posterior, :math:`E[1 / w] = 1 / p(x)` (Grosse,
Ghahramani & Adams, 2015).
"""

__all__ = ["ROWS", "Walk", "down", "schedule", "up"]

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_vae.hmc import HMC
from pyro_vae.log_joint import LogJoint

# Rows (datapoints times chains) that go through the networks at once.
ROWS = 4_000

# Chains of the pilot run: all that it finds is step sizes.
_PILOTS = 2

# Where the posterior's precision is 1 + beta L in units of the prior's, the variance of log p(x|z) is that of a
# Gaussian, L^2 / (1 + beta L)^2 / 2, and equal steps of log(1 + beta L) share it out alike: the best schedule there is.
# L is not known; this one serves sharp posteriors and wide ones. Measured on linear-Gaussian models of 20 latents, 467
# temperatures, as the variance of log w: L from 170 to 5,700: 8, against 10 for beta = t^4, 13 for t^3 and 22 for an
# assumed L of 100; L from 7 to 230: 3.5, against 3.6, 3.2 and 2.8.
_PRECISION = 1000.0


class Walk(NamedTuple):
    """What chains have found on their way.

    Arguments:
        position: Where they have come to, with shape `(chains, datapoints, size)`.
        log_w: The log weights in nats, float64 with shape `(chains, datapoints)`.
        acceptance: Mean acceptance probabilities, with shape `(datapoints,)`.
        log_steps: The logarithms of the step sizes at each temperature, from the lowest on, with shape
            `(temperatures, datapoints)`.
    """

    position: Tensor
    log_w: Tensor
    acceptance: Tensor
    log_steps: Tensor


def schedule(temperatures: int, device: torch.device) -> Tensor:
    """Returns inverse temperatures from 0 to 1, float64 with shape `(temperatures + 1, 1)`."""
    grid = torch.linspace(0, math.log1p(_PRECISION), temperatures + 1, dtype=torch.float64, device=device)
    return (grid.expm1() / _PRECISION).unsqueeze(1)


def up(log_joint: LogJoint, temperatures: int, chains: int, leapfrogs: int) -> Walk:
    """Walks from the prior to the posterior of each datapoint.

    Step sizes that depend on the chain they move would bias it: a pilot run finds them.

    Arguments:
        log_joint: The log joint of the datapoints.
        temperatures: The number of temperatures T.
        chains: The number of chains of each datapoint.
        leapfrogs: The number of leapfrog steps in a transition.
    """
    pilot = _climb(log_joint, temperatures, _PILOTS, leapfrogs, None)
    return _climb(log_joint, temperatures, chains, leapfrogs, pilot.log_steps)


def _climb(log_joint: LogJoint, temperatures: int, chains: int, leapfrogs: int, log_steps: Tensor | None) -> Walk:
    """Walks with given step sizes, or tunes them on the way."""
    betas = schedule(temperatures, log_joint.x.device)
    tempered, kernel = _chains(log_joint, log_joint.start(chains), betas[0], leapfrogs)
    log_w = torch.zeros_like(kernel.value)
    used, acceptance = [], []
    for t, beta in enumerate(betas[1:]):
        before = kernel.value
        tempered.beta = beta
        kernel.refresh()
        log_w += kernel.value - before
        if log_steps is not None:
            kernel.log_step = log_steps[t]
        used.append(kernel.log_step)
        acceptance.append(kernel.transition().acceptance)
        if log_steps is None:
            kernel.adapt(acceptance[-1], gain=0.5)
    return Walk(kernel.position, log_w, torch.stack(acceptance).mean((0, 1)), torch.stack(used))


def down(log_joint: LogJoint, start: Tensor, log_steps: Tensor, leapfrogs: int) -> Walk:
    """Walks from the posterior to the prior of each datapoint, each step the reverse of one of `up`.

    Arguments:
        log_joint: The log joint of the datapoints.
        start: Draws of the posterior, with shape `(chains, datapoints, size)`.
        log_steps: The step sizes that `up` has used, as many as there are temperatures.
        leapfrogs: The number of leapfrog steps in a transition.
    """
    betas = schedule(len(log_steps), log_joint.x.device)
    tempered, kernel = _chains(log_joint, start, betas[-1], leapfrogs)
    log_w = torch.zeros_like(kernel.value)
    acceptance = []
    for log_step, beta in zip(log_steps.flip(0), betas[:-1].flip(0), strict=True):
        kernel.log_step = log_step
        acceptance.append(kernel.transition().acceptance)
        before = kernel.value
        tempered.beta = beta
        kernel.refresh()
        log_w += before - kernel.value
    return Walk(kernel.position, log_w, torch.stack(acceptance).mean((0, 1)), log_steps)


class _Tempered:
    """The log density of chains at a temperature, which moves: log p(z) + beta log p(x|z)."""

    def __init__(self, log_joint: LogJoint, beta: Tensor) -> None:
        self.log_joint, self.beta = log_joint, beta

    def with_gradient(self, position: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_joint.with_gradient(position, self.beta)

    def gradient(self, position: Tensor) -> Tensor:
        return self.log_joint.gradient(position, self.beta)


def _chains(log_joint: LogJoint, start: Tensor, beta: Tensor, leapfrogs: int) -> tuple[_Tempered, HMC]:
    tempered = _Tempered(log_joint, beta)
    kernel = HMC(tempered.with_gradient, start, step_size=0.5, leapfrogs=leapfrogs, gradient=tempered.gradient)
    return tempered, kernel
