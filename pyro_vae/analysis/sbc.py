r"""Simulation-based calibration: are guide and HMC right about data whose latent variables are known?

With :math:`z \sim p(z)`, :math:`x \sim p(x | z)` and L independent draws of :math:`p(z | x)`, the rank of each latent
variable among the draws is uniform (Talts et al., 2018).
"""

__all__ = ["simulate"]

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
from pyro_vae.log_joint import LogJoint
from pyro_vae.sites import evaluation_mode, isolated, sample_sites

# Draws that a rank is among; one chain each for HMC, so that they are independent.
_DRAWS = 19


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

    Arguments:
        model: The generative model, with one observed site that has the shape of x.
        guide: The recognition model; None calibrates HMC alone, and starts it from the prior.
        x: Data whose shape the simulations take, with shape `(datapoints, features)`.
        transitions: The number of HMC's transitions, in all of which step sizes are tuned but the last third.
        seed: The seed of the draws.
        compile: Whether gradients are traced and compiled.
        advance: Called after each transition with the share of the work.

    Returns:
        PIT values in (0, 1) under `hmc` and, where there is one, `guide`, with shape `(datapoints, latents)`.

    Raises:
        InputError: If the model has several observed sites, or one of another shape than x.

    References:
        Talts et al., Validating Bayesian Inference Algorithms with Simulation-Based Calibration (2018),
        https://arxiv.org/abs/1804.06788
    """
    with seeded(seed, x.device), evaluation_mode(model, guide), isolated():
        sites = sample_sites(poutine.trace(poutine.uncondition(model)).get_trace(x))
        observed = [site["value"] for site in sites.values() if "was_observed" in site["infer"]]
        if len(observed) != 1 or observed[0].shape != x.shape:
            raise InputError("simulation-based calibration needs one observed site of the shape of the data")
        log_joint = LogJoint(model, observed[0], compile)
        truth = log_joint.unconstrained({name: site["value"] for name, site in sites.items()})
        found = {} if guide is None else {"guide": log_joint.start(_DRAWS, guide)}
        kernel, loc, scale = whitened(log_joint, guide, _DRAWS)
        warmup = transitions * 2 // 3
        kernel.warm_up(warmup, lambda: advance(1 / transitions))
        for _ in range(transitions - warmup):
            kernel.transition()
            advance(1 / transitions)
        found["hmc"] = loc + scale * kernel.position
        # A uniform number inside the rank's cell makes PIT values that are uniform on (0, 1), not on a grid.
        return {
            name: (((draws < truth).sum(0) + torch.rand_like(truth)) / (_DRAWS + 1)).double().cpu().numpy()
            for name, draws in found.items()
        }
