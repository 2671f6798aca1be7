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
from pyro_vae.generate import simulate_data
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

    References:
        Talts et al., Validating Bayesian Inference Algorithms with Simulation-Based Calibration (2018),
        https://arxiv.org/abs/1804.06788
    """
    with seeded(seed, x.device), evaluation_mode(model, guide), isolated():
        sites = sample_sites(simulate_data(model, x))
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
