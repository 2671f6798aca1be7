r"""Leave-one-out densities of training data under random weights (the paper's Appendix F; Vehtari et al., 2017).

.. math:: \log p(x_i | x_{-i}) = -\log E_{q(\theta)} \frac{1}{p(x_i | \theta)}

by Pareto-smoothed importance sampling. The latent variables of a datapoint are integrated out first: without that,
leaving out a datapoint would leave nothing to know of them.

The draws are of :math:`q(\theta)`, the expectation is over :math:`p(\theta | X)`. Where X, all of the training data, is
given, each draw counts by :math:`p(\theta) \, p(X | \theta) / q(\theta)` as well (Magnusson et al., 2019), and k-hat
tells of a q that is far from the posterior.
"""

__all__ = ["loo"]

import math
from functools import partial

import arviz as az
import numpy as np
import torch
import xarray as xr
from arviz_stats.utils import ELPDData
from torch import Tensor, nn

from pyro_vae.bayesian import has_random_weights
from pyro_vae.device import seeded
from pyro_vae.elbo import ROWS, log_weights
from pyro_vae.errors import InputError
from pyro_vae.plates import look
from pyro_vae.sites import evaluation_mode, isolated


@torch.no_grad()
def loo(
    model: nn.Module,
    guide: nn.Module,
    x: Tensor,
    draws: int = 200,
    particles: int = 200,
    seed: int = 0,
    corrected: bool = False,
) -> ELPDData:
    r"""Estimates the leave-one-out density of each datapoint by `az.loo`, or by `az.loo_approximate_posterior`.

    Arguments:
        model: A model with a Gaussian over its weights, as `full_vb` trains it.
        guide: The recognition model.
        x: Training data, with shape `(datapoints, features)`.
        draws: The number of draws of the weights.
        particles: The number of importance samples behind each :math:`\log p(x_i | \theta)`. Their noise counts as if
            the weights made it, so that few of them lower the result.
        seed: The seed of the draws.
        corrected: Whether x are all of the training data, so that draws of :math:`q(\theta)` can be weighted to the
            posterior. Otherwise they are taken for draws of it.

    Returns:
        What these return, pointwise: `elpd` in nats, a sum over datapoints, `se`, `p` and `pareto_k`.

    Raises:
        InputError: If the model's weights are not random.
    """
    if not has_random_weights(model):
        raise InputError(f"{type(model).__name__} has no random weights: leave-one-out is for runs of full_vb")
    if names := look(guide, x).shared:
        raise InputError(f"site '{min(names)}' is global, and drawn by the guide: leave-one-out is for runs of full_vb")
    log_px = torch.empty(1, draws, len(x), dtype=torch.float64)
    log_ratio = torch.empty(1, draws, dtype=torch.float64)
    with seeded(seed, x.device), isolated(), evaluation_mode(model, guide):
        for draw in range(draws):
            weights = model.draw()
            log_ratio[0, draw] = model.log_ratio(weights).double()
            given = partial(model.with_weights, weights)
            parts = [log_weights(given, guide, some, particles) for some in x.split(max(1, ROWS // particles))]
            log_px[0, draw] = torch.cat(parts, dim=1).double().logsumexp(0).cpu() - math.log(particles)
    values = xr.DataArray(log_px.numpy(), dims=("chain", "draw", "datapoint"), name="x")
    tree = xr.DataTree.from_dict({"log_likelihood": values.to_dataset()})
    if corrected:
        log_p = (log_ratio + log_px.sum(-1)).numpy()
        return az.loo_approximate_posterior(tree, log_p, np.zeros_like(log_p), pointwise=True)
    return az.loo(tree, reff=1.0, pointwise=True)  # the draws are independent
