r"""A mixture of Gaussians with learned weights, means and scales.

.. math:: p(z) = \sum_k \pi_k \, N(z; \mu_k, \mathrm{diag}\, \sigma_k^2)
"""

__all__ = ["MixturePrior"]

import pyro.distributions as dist
import torch
from torch import nn

from pyro_vae.errors import Count


class MixturePrior(nn.Module):
    r"""Creates a mixture of diagonal Gaussians, whose parts are learnt with the decoder.

    Weights start equal, means at draws from :math:`N(0, I)`, scales at 1. The learning algorithm's prior on weights,
    :math:`N(0, I)`, holds for the means as well.

    Arguments:
        latent: The number of latent variables.
        components: The number of parts.

    Example:
        >>> from pyro_vae.models.priors.mixture import MixturePrior
        >>> prior = MixturePrior(latent=2, components=10)
        >>> prior().sample((5,)).shape
        torch.Size([5, 2])
    """

    def __init__(self, latent: int, components: Count = 10) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.randn(components, latent))
        self.log_scale = nn.Parameter(torch.zeros(components, latent))

    def forward(self) -> dist.Distribution:
        """Returns p(z), with event shape `(latent,)`."""
        parts = dist.Normal(self.mean, self.log_scale.exp()).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), parts)
