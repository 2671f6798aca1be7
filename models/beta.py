r"""A Beta likelihood of grey values.

.. math:: p(x | z) = \prod_i \frac{1}{s} \mathrm{Beta}\Big(\frac{x_i + e}{s}; \alpha_i, \beta_i\Big), \quad
    e = \frac{1}{512}, \quad s = 1 + 2 e

A Beta has no finite density at 0 and 1, where data of bytes have most of their pixels: this one reaches half a grey
level further on both sides.
"""

__all__ = ["BetaModel"]

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.errors import Count
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Model

_EDGE = 1 / 512


class BetaModel(Model):
    r"""Creates a model of Beta variables, which starts with uniform ones.

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        prior: A module that returns p(z); :math:`N(0, I)` if omitted.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        max_log_concentration: A ceiling over :math:`\log \alpha` and :math:`\log \beta`, without which the density of a
            pixel that never changes grows without limit. At 6 the density at the ends is as narrow as half a grey
            level; float32 loses what lies far above in the difference of logarithms of Gamma functions.
    """

    def __init__(
        self,
        features: int,
        latent: int,
        hidden: Count = 500,
        prior: nn.Module | None = None,
        depth: Count = 1,
        activation: Activation = "tanh",
        max_log_concentration: float = 6.0,
    ) -> None:
        super().__init__(latent, prior)
        self.max_log_concentration = max_log_concentration
        self.hidden = hidden_layer(latent, hidden, depth, activation)
        self.log_alpha = linear(hidden, features, bias_std=0.0)
        self.log_beta = linear(hidden, features, bias_std=0.0)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        h = self.hidden(z)
        outputs = (layer(h).clamp(max=self.max_log_concentration) for layer in (self.log_alpha, self.log_beta))
        alpha, beta = (output.exp() for output in outputs)
        return dist.AffineBeta(alpha, beta, -_EDGE, 1 + 2 * _EDGE).to_event(1)
