r"""Leave-one-out densities of training data under random weights (the paper's Appendix F; Vehtari et al., 2017).

.. math:: \log p(x_i | x_{-i}) = -\log E_{q(\theta)} \frac{1}{p(x_i | \theta)}

by Pareto-smoothed importance sampling. The latent variables of a datapoint are integrated out first: without that,
leaving out a datapoint would leave nothing to know of them.
"""

__all__ = ["loo"]

import math
from functools import partial

import arviz as az
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
    model: nn.Module, guide: nn.Module, x: Tensor, draws: int = 200, particles: int = 200, seed: int = 0
) -> ELPDData:
    r"""Estimates the leave-one-out density of each datapoint by `az.loo`.

    Arguments:
        model: A model with a Gaussian over its weights, as `full_vb` trains it.
        guide: The recognition model.
        x: Training data, with shape `(datapoints, features)`.
        draws: The number of draws of the weights. They are taken for draws of the posterior, which
            :math:`q(\theta)` approximates.
        particles: The number of importance samples behind each :math:`\log p(x_i | \theta)`. Their noise counts as if
            the weights made it, so that few of them lower the result.
        seed: The seed of the draws.

    Returns:
        What `az.loo` returns, pointwise: `elpd` in nats, a sum over datapoints, `se`, `p` and `pareto_k`.

    Raises:
        InputError: If the model's weights are not random.
    """
    if not has_random_weights(model):
        raise InputError(f"{type(model).__name__} has no random weights: leave-one-out is for runs of full_vb")
    if names := look(guide, x).shared:
        raise InputError(f"site '{min(names)}' is global, and drawn by the guide: leave-one-out is for runs of full_vb")
    log_px = torch.empty(1, draws, len(x), dtype=torch.float64)
    with seeded(seed, x.device), isolated(), evaluation_mode(model, guide):
        for draw in range(draws):
            given = partial(model.with_weights, model.draw())
            parts = [log_weights(given, guide, some, particles) for some in x.split(max(1, ROWS // particles))]
            log_px[0, draw] = torch.cat(parts, dim=1).double().logsumexp(0).cpu() - math.log(particles)
    values = xr.DataArray(log_px.numpy(), dims=("chain", "draw", "datapoint"), name="x")
    tree = xr.DataTree.from_dict({"log_likelihood": values.to_dataset()})
    return az.loo(tree, reff=1.0, pointwise=True)  # the draws are independent
