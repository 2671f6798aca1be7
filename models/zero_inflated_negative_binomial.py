r"""A negative binomial likelihood of counts with zeros of another origin, such as molecules that were not caught.

.. math:: P(x | z) = \prod_i \bigl( g_i \, 1[x_i = 0] + (1 - g_i) \, \mathrm{NB}(x_i; \mu_i, r_i) \bigr), \quad
    g = \sigma(W_3 h + b_3), \quad \log \mu = W_2 h + b_2, \quad h = \tanh(W_1 z + b_1)
"""

__all__ = ["ZeroInflatedNegativeBinomialModel"]

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.errors import Count
from pyro_vae.networks import Activation, linear

from .negative_binomial import NegativeBinomialModel


class ZeroInflatedNegativeBinomialModel(NegativeBinomialModel):
    """Creates a negative binomial model with a gate g for each cell that makes its count 0.

    Its arguments are those of `BernoulliModel`.

    Example:
        >>> from pyro_vae.models.zero_inflated_negative_binomial import ZeroInflatedNegativeBinomialModel
        >>> model = ZeroInflatedNegativeBinomialModel(features=6, latent=2, hidden=8)
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
        self.gate = linear(hidden, features, bias_std=0.0)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        r, logits = self.counts(z)
        gate = self.gate(self.decoder[0](z))
        return dist.ZeroInflatedNegativeBinomial(r, logits=logits, gate_logits=gate).to_event(1)
