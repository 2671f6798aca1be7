r"""Simulation-based calibration: are guide and HMC right about data whose latent variables are known?

With :math:`z \sim p(z)`, :math:`x \sim p(x | z)` and L independent draws of :math:`p(z | x)`, the rank of each latent
variable among the draws is uniform (Talts et al., 2018).

Data that the model makes need not look like the user's. Posterior calibration begins at these, x: with
:math:`z \sim p(z | x)`, :math:`x' \sim p(x' | z)` and draws of :math:`p(z | x, x')`, the rank of z is uniform as well
(Säilynoja et al., 2025). The first z is HMC's, so that it tests whether HMC agrees with itself there.
"""

__all__ = ["simulate", "simulate_at"]

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor

from pyro_vae.analysis.posterior import whitened
from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.generate import simulate_data
from pyro_vae.hmc import HMC, with_gradient
from pyro_vae.log_joint import LogJoint
from pyro_vae.sites import evaluation_mode, is_factor, isolated, sample_sites

# Draws that a rank is among; one chain each for HMC, so that they are independent.
_DRAWS = 19

# Fewer of them where each takes two sets of data.
_FEW_DRAWS = 9


@torch.no_grad()
def simulate(
    model: Callable[..., Any],
    guide: Callable[..., Any] | None,
    x: Tensor,
    *,
    transitions: int,
    seed: int = 0,
    compile: bool = False,
    advance: Callable[[float], None] = lambda share: None,
) -> dict[str, NDArray[np.float64]]:
    """Finds the ranks of simulated latent variables among draws given the simulated data.

    All observed sites are simulated, and HMC is given all of them. A guide is called with data alone: it is judged
    where there is one observed site that has the shape of the data, so that it can be shown what was simulated.

    Arguments:
        model: The generative model.
        guide: The recognition model, a density; None calibrates HMC alone, and starts it from the prior.
        x: Data whose shape the simulations take, with shape `(datapoints, features)`.
        transitions: The number of HMC's transitions, in all of which step sizes are tuned but the last third.
        seed: The seed of the draws.
        compile: Whether gradients are traced and compiled.
        advance: Called after each transition with the share of the work.

    Returns:
        PIT values in (0, 1) under `hmc` and, where it can be judged, `guide`, with shape `(datapoints, latents)`.

    Raises:
        InputError: If the model has a `pyro.factor`.

    References:
        Talts et al., Validating Bayesian Inference Algorithms with Simulation-Based Calibration (2018),
        https://arxiv.org/abs/1804.06788
    """
    with seeded(seed, x.device), evaluation_mode(model, guide), isolated():
        sites = sample_sites(simulate_data(model, x))
        if weighed := [name for name, site in sites.items() if is_factor(site)]:
            raise InputError(
                f"site '{weighed[0]}' is a pyro.factor, which weighs latent variables that are simulated without it"
            )
        data = {name: site["value"] for name, site in sites.items() if "was_observed" in site["infer"]}
        values = list(data.values())
        as_given = len(values) == 1 and values[0].shape == x.shape
        if as_given:
            log_joint = LogJoint(model, values[0], compile)
        else:
            guide = None
            log_joint = LogJoint(poutine.condition(model, data), x)
        truth = log_joint.unconstrained(
            {n: place.by_datapoint(sites[n]["value"], 1, len(x)).squeeze(0) for n, place in log_joint.places.items()}
        )
        found = {} if guide is None else {"guide": log_joint.start(_DRAWS, guide)}
        kernel, loc, scale = whitened(log_joint, guide, _DRAWS)
        _walk(kernel, transitions, advance, 1.0)
        found["hmc"] = loc + scale * kernel.position
        return {name: _pit(truth, draws) for name, draws in found.items()}


@torch.no_grad()
def simulate_at(
    model: Callable[..., Any],
    guide: Callable[..., Any] | None,
    x: Tensor,
    *,
    transitions: int,
    seed: int = 0,
    advance: Callable[[float], None] = lambda share: None,
) -> NDArray[np.float64]:
    """Finds the ranks of latent variables, drawn given data, among draws given these data and others made of them.

    Arguments:
        model: The generative model.
        guide: The recognition model, a density, where chains start; None starts them from the prior.
        x: The data, with shape `(datapoints, features)`.
        transitions: The number of HMC's transitions before the first draw, and again before the others.
        seed: The seed of the draws.
        advance: Called after each transition with the share of the work.

    Returns:
        PIT values in (0, 1) under HMC, with shape `(datapoints, latents)`.

    Raises:
        InputError: If some latent variables are discrete: HMC sums them out and draws none.

    References:
        Säilynoja et al., Posterior SBC: Simulation-Based Calibration Checking Conditional on Data (2025),
        https://arxiv.org/abs/2502.03279
    """
    with seeded(seed, x.device), evaluation_mode(model, guide), isolated():
        at = LogJoint(model, x)
        if at.summed:
            raise InputError(
                f"site '{at.summed[0]}' is discrete, and HMC sums it out: there is no draw of it to start from"
            )
        kernel, loc, scale = whitened(at, guide, 1)
        _walk(kernel, transitions, advance, 0.5)
        truth = loc + scale * kernel.position
        values = {name: value.squeeze(0) for name, value in at.in_plates(at.latents(truth)).items()}
        sites = sample_sites(simulate_data(model, x, values))
        data = {name: site["value"] for name, site in sites.items() if "was_observed" in site["infer"]}
        # A factor counts with the data, once.
        once = poutine.block(poutine.condition(model, data), hide_fn=lambda site: is_factor(dict(site)))
        both = _Both(at, LogJoint(once, x))
        kernel, loc, scale = whitened(both, guide, _FEW_DRAWS)  # type: ignore[arg-type]
        _walk(kernel, transitions, advance, 0.5)
        return _pit(truth.squeeze(0), loc + scale * kernel.position)


class _Both:
    """The log density of latent variables given data and other data of the same latent variables."""

    def __init__(self, one: LogJoint, other: LogJoint) -> None:
        self.model, self.start = one.model, one.start

        def density(position: Tensor) -> Tensor:
            return one(position) + other.parts(position)[1]

        self.with_gradient = with_gradient(density)

    def gradient(self, position: Tensor) -> Tensor:
        return self.with_gradient(position)[1]


def _walk(kernel: HMC, transitions: int, advance: Callable[[float], None], share: float) -> None:
    """Moves chains, in all but the last third with step sizes that are tuned."""
    warmup = transitions * 2 // 3
    kernel.warm_up(warmup, lambda: advance(share / transitions))
    for _ in range(transitions - warmup):
        kernel.transition()
        advance(share / transitions)


def _pit(truth: Tensor, draws: Tensor) -> NDArray[np.float64]:
    """The share of draws below the truth; a uniform number inside the rank's cell leaves no grid of values."""
    below: Tensor = (draws < truth).sum(0)
    return ((below + torch.rand_like(truth)) / (len(draws) + 1)).double().cpu().numpy()
