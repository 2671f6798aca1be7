r"""A Gaussian likelihood with one noise level for all pixels and images, which is learnt.

.. math:: p(x | z) = N(x; \mu, \sigma^2 I), \quad \mu = \sigma(W_2 \tanh(W_1 z + b_1) + b_2)
"""

__all__ = ["IsotropicModel"]

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.errors import Count
from pyro_vae.networks import Activation

from .bernoulli import BernoulliModel


class IsotropicModel(BernoulliModel):
    r"""Creates the Gaussian model with one learned noise level, which starts at 1.

    Its bound is that of a squared error, weighed by a noise that fits. A single level cannot fall to zero as long as
    some pixel is uncertain, and so it needs no floor.

    Its arguments are those of `BernoulliModel`.

    Example:
        >>> from pyro_vae.models.isotropic import IsotropicModel
        >>> model = IsotropicModel(features=6, latent=2, hidden=8)
        >>> model(size=3).shape
        torch.Size([3, 6])
    """

    def __init__(
        self,
        features: int,
        latent: int,
        hidden: Count = 500,
        prior: nn.Module | None = None,
        depth: Count = 1,
        activation: Activation = "tanh",
    ) -> None:
        super().__init__(features, latent, hidden, prior, depth, activation)
        self.log_noise = nn.Parameter(torch.zeros(()))

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        return dist.Normal(self.decoder(z).sigmoid(), self.log_noise.exp()).to_event(1)
