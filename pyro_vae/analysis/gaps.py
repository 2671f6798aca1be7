r"""How far is the bound below :math:`\log p(x)`, and why?

.. math:: \log p(x) - L(q) = [\log p(x) - L(q^*)] + [L(q^*) - L(q)]

with :math:`q^*` the best diagonal Gaussian of the datapoint: the first term is the *approximation gap* of the family,
the second the *amortisation gap* of a network that must serve all datapoints (Cremer et al., 2018).
"""

__all__ = ["gaps"]

import math
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from pyro_vae.device import seeded
from pyro_vae.elbo import log_weights
from pyro_vae.local import fit_gaussian
from pyro_vae.marginal import Marginal
from pyro_vae.sites import evaluation_mode, isolated
from pyro_vae.split import Split

# Datapoints whose Gaussians are fitted at once, and draws of each for its bound.
_FITTED, _DRAWS = 500, 400


@torch.no_grad()
def gaps(model: nn.Module, guide: nn.Module | None, x: Tensor, estimator: Any, seed: int = 0) -> xr.Dataset:
    """Estimates log p(x) and the bound of a Gaussian of its own for each datapoint.

    Arguments:
        model: The generative model.
        guide: The recognition model, which the estimator may use; None where there is none.
        x: The data, with shape `(datapoints, features)`.
        estimator: An estimator of log p(x), from the shelf `inference`.
        seed: The seed of the draws.

    Returns:
        By datapoint, in nats: `log_px` and `log_px_se`, `local_bound` and `local_bound_se`.

    References:
        Cremer et al., Inference Suboptimality in Variational Autoencoders (2018), https://arxiv.org/abs/1801.03558
    """
    with seeded(seed, x.device):
        marginal: Marginal = estimator.estimate(model, guide, Split(x))
        bounds = [_local_bound(model, some) for some in x.split(_FITTED)]
    local = torch.cat(bounds, dim=1)
    values = {
        "log_px": marginal.log_px,
        "log_px_se": marginal.se,
        "local_bound": local.mean(0),
        "local_bound_se": local.std(0) / math.sqrt(_DRAWS),
    }
    return xr.Dataset({name: ("datapoint", value.cpu().numpy()) for name, value in values.items()})


def _local_bound(model: nn.Module, x: Tensor) -> Tensor:
    q = fit_gaussian(model, x)
    few = 8  # draws at once
    with isolated(), evaluation_mode(model, q):
        return torch.cat([log_weights(model, q, x, few).double() for _ in range(_DRAWS // few)])
