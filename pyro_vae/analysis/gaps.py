r"""How far is the bound below :math:`\log p(x)`, and why?

.. math:: \log p(x) - L(q) = [\log p(x) - L(q^*)] + [L(q^*) - L(q)]

with :math:`q^*` the best diagonal Gaussian of the datapoint: the first term is the *approximation gap* of the family,
the second the *amortisation gap* of a network that must serve all datapoints (Cremer et al., 2018).
"""

__all__ = ["gaps"]

from typing import Any

import xarray as xr
from torch import Tensor, nn

from pyro_vae.device import seeded
from pyro_vae.marginal import LOOKED_AT, bounds, proposal
from pyro_vae.run.score import score
from pyro_vae.split import Split

# Draws of each datapoint's Gaussian for its bound.
_DRAWS = 400


def gaps(model: nn.Module, guide: nn.Module | None, x: Tensor, estimator: Any, seed: int = 0) -> xr.Dataset:
    """Estimates log p(x) and the bound of a Gaussian of its own for each datapoint.

    Arguments:
        model: The generative model.
        guide: The recognition model, which the estimator may use where it is a density; None where there is none.
        x: The data, with shape `(datapoints, features)`.
        estimator: An estimator of log p(x), from the shelf `inference`.
        seed: The seed of the draws.

    Returns:
        By datapoint, in nats: `log_px` and `log_px_se`, `local_bound` and `local_bound_se`.

    Raises:
        InputError: If the estimator declines, or the model has latent variables that no Gaussian can be fitted to.

    References:
        Cremer et al., Inference Suboptimality in Variational Autoencoders (2018), https://arxiv.org/abs/1801.03558
    """
    name, data = type(estimator).__name__, Split(x)
    found = score(model, proposal(guide, x[:LOOKED_AT]), data, {name: estimator}, particles=0, seed=seed)
    with seeded(seed, x.device):
        local = bounds(model, None, data, _DRAWS)
    pairs = {"log_px": found.marginals[name].estimates, "local_bound": local}
    values = {name: each.values for name, each in pairs.items()} | {
        f"{name}_se": each.se for name, each in pairs.items()
    }
    return xr.Dataset({name: ("datapoint", value.cpu().numpy()) for name, value in values.items()})
