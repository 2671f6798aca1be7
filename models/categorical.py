r"""A categorical likelihood: each of the grey levels of a pixel has a probability of its own.

.. math:: P(x | z) = \prod_i \mathrm{softmax}(W_2 h + b_2)_{i, k_i}, \quad h = \tanh(W_1 z + b_1), \quad
    k_i = \lfloor K x_i \rfloor
"""

__all__ = ["CategoricalModel"]

from typing import Annotated

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.errors import Count, Range
from pyro_vae.grey import GreyCategorical
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Model


class CategoricalModel(Model):
    r"""Creates a model of grey levels that knows no order among them.

    Its last layer has `features * levels` outputs, 256 times those of the Bernoulli model: on MNIST that is 100 million
    weights with 500 hidden units, and 3 GB for the draws that an evaluation holds at once. There, take fewer levels,
    `--set model.levels=16`. Probabilities of other numbers of levels are of other events: do not compare them.

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        prior: A module that returns p(z); :math:`N(0, I)` if omitted.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        levels: The number of grey levels K.

    Example:
        >>> from pyro_vae.models.categorical import CategoricalModel
        >>> model = CategoricalModel(features=6, latent=2, hidden=8, levels=17)
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
        self.pixels = (features, levels)
        self.decoder = nn.Sequential(
            hidden_layer(latent, hidden, depth, activation), linear(hidden, features * levels, bias_std=0.0)
        )

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        return GreyCategorical(self.decoder(z).unflatten(-1, self.pixels)).to_event(1)
