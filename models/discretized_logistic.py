r"""A discretised logistic likelihood: a probability of the 256 grey levels (Kingma et al., 2016).

.. math:: P(x | z) = \prod_i \sigma\Bigl(\frac{(k_i + 1) / K - \mu_i}{s_i}\Bigr) -
    \sigma\Bigl(\frac{k_i / K - \mu_i}{s_i}\Bigr), \quad k_i = \lfloor K x_i \rfloor
"""

__all__ = ["DiscretizedLogisticModel"]

from typing import Annotated

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.errors import Count, Range
from pyro_vae.grey import DiscretizedLogistic
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Model

# Far narrower than a grey level, so that the probability of a cell can be 1 but for rounding.
_MIN_LOG_SCALE = -9.0


class DiscretizedLogisticModel(Model):
    r"""Creates a model of grey levels with sigmoid means and a scale for each pixel.

    Its bounds are those of true log probabilities, which cannot exceed 0; `evaluate` tells them in bits per dimension,
    too.

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        prior: A module that returns p(z); :math:`N(0, I)` if omitted.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        levels: The number of grey levels K.

    Example:
        >>> from pyro_vae.models.discretized_logistic import DiscretizedLogisticModel
        >>> model = DiscretizedLogisticModel(features=6, latent=2, hidden=8, levels=17)
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
        levels: Annotated[int, Range(2)] = 256,
    ) -> None:
        super().__init__(latent, prior)
        self.levels = levels
        self.hidden = hidden_layer(latent, hidden, depth, activation)
        self.mean = linear(hidden, features, bias_std=0.0)
        self.log_scale = linear(hidden, features, bias_std=0.0)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        h = self.hidden(z)
        scale = self.log_scale(h).clamp(min=_MIN_LOG_SCALE).exp()
        return DiscretizedLogistic(self.mean(h).sigmoid(), scale, self.levels).to_event(1)
