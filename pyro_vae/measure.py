r"""What a log likelihood is the logarithm of. Values of different measures must not meet in one table.

- `mass`: a probability of the data, such as a Bernoulli's of binary pixels or a discretised logistic's of grey levels.
- `density`: a density of real values in [0, 1], such as a Gaussian's. It is not bounded by 1.
- `relaxed`: neither of them. The paper scores grey pixels by the formula of a Bernoulli, whose values are 0 and 1.
"""

__all__ = ["in_bits", "measure"]

import math

import torch
from pyro import poutine
from torch import nn

from pyro_vae.device import seeded
from pyro_vae.sites import evaluation_mode, isolated, sample_sites
from pyro_vae.split import Split


@torch.no_grad()
def measure(model: nn.Module, data: Split) -> str:
    """Tells what the site `"x"` of a model scores, `mass`, `density` or `relaxed`, from its support and some data.

    A mass of another number of grey levels than 256 is one of other events, and says so: `mass of 16 levels`.

    Arguments:
        model: The generative model.
        data: The datapoints, the first hundred of which are looked at.
    """
    with seeded(0, data.device), isolated(), evaluation_mode(model):
        site = sample_sites(poutine.trace(model).get_trace(data.first(100)))["x"]
        likelihood, x = site["fn"], site["value"]
    if not likelihood.support.is_discrete:
        return "density"
    if not likelihood.support.check(x).all():
        return "relaxed"
    while hasattr(likelihood, "base_dist"):  # what the plate and `to_event` wrap around it
        likelihood = likelihood.base_dist
    levels = getattr(likelihood, "levels", 256)
    return "mass" if levels == 256 else f"mass of {levels} levels"


def in_bits(kind: str, nats: float, features: int) -> dict[str, float]:
    r"""Converts a log probability to bits per dimension, :math:`-\log_2 P / D`; only a mass has them.

    Arguments:
        kind: The measure.
        nats: The mean log probability of a datapoint, in nats.
        features: The number of pixels D.

    Returns:
        `bits_per_dim`, or nothing.
    """
    return {"bits_per_dim": -nats / (features * math.log(2))} if kind.startswith("mass") else {}
