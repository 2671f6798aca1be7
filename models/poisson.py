r"""A Poisson likelihood of counts.

.. math:: P(x | z) = \prod_i \frac{\lambda_i^{x_i} e^{-\lambda_i}}{x_i!}, \quad
    \log \lambda = W_2 \tanh(W_1 z + b_1) + b_2
"""

__all__ = ["PoissonModel"]

import pyro.distributions as dist
from torch import Tensor

from .bernoulli import BernoulliModel


class PoissonModel(BernoulliModel):
    """Creates a model of counts whose variance is their mean. Its bounds are those of true log probabilities.

    Its arguments are those of `BernoulliModel`.

    Example:
        >>> from pyro_vae.models.poisson import PoissonModel
        >>> model = PoissonModel(features=6, latent=2, hidden=8)
        >>> model(size=3).shape
        torch.Size([3, 6])
    """

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        return dist.Poisson(self.decoder(z).exp()).to_event(1)
