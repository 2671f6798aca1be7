r"""A negative binomial likelihood of counts that scatter more than a Poisson's, as those of sequenced genes do.

.. math:: P(x | z) = \prod_i \frac{\Gamma(x_i + r_i)}{x_i! \, \Gamma(r_i)}
    \Bigl(\frac{r_i}{r_i + \mu_i}\Bigr)^{r_i} \Bigl(\frac{\mu_i}{r_i + \mu_i}\Bigr)^{x_i}, \quad
    \log \mu = W_2 \tanh(W_1 z + b_1) + b_2

The variance is :math:`\mu_i + \mu_i^2 / r_i`; :math:`r_i` is learnt for each cell.
"""

__all__ = ["NegativeBinomialModel"]

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.errors import Count
from pyro_vae.networks import Activation

from .bernoulli import BernoulliModel


class NegativeBinomialModel(BernoulliModel):
    """Creates a model of overdispersed counts, whose r start at 1. Its bounds are those of true log probabilities.

    Its arguments are those of `BernoulliModel`.

    Example:
        >>> from pyro_vae.models.negative_binomial import NegativeBinomialModel
        >>> model = NegativeBinomialModel(features=6, latent=2, hidden=8)
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
        self.log_r = nn.Parameter(torch.zeros(features))

    def counts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Returns r and the logits :math:`\log \mu - \log r`, with shapes `(features,)` and `(..., features)`."""
        # Beyond e^9 it is a Poisson, and float32 loses what its logarithms of Gamma functions differ by.
        log_r = self.log_r.clamp(-9.0, 9.0)
        return log_r.exp(), self.decoder(z) - log_r

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        r, logits = self.counts(z)
        return dist.NegativeBinomial(r, logits=logits).to_event(1)
