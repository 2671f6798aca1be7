r"""The paper's model of MNIST: a Bernoulli likelihood with a perceptron decoder (Appendix C.1).

.. math:: \log p(x | z) = \sum_i x_i \log y_i + (1 - x_i) \log (1 - y_i),
    \quad y = \sigma(W_2 \tanh(W_1 z + b_1) + b_2)
"""

__all__ = ["BernoulliModel"]

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.errors import Count
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Model


class BernoulliModel(Model):
    r"""Creates the paper's Bernoulli model (Appendix C.1, Equation 11).

    Grey values in [0, 1] are scored as in the paper. They are not a probability of the data then, but a
    relaxed one: compare such bounds with each other only, never with those of binarised data.

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        prior: A module that returns p(z); :math:`N(0, I)` if omitted.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.

    Example:
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> model = BernoulliModel(features=6, latent=2, hidden=8)
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
        super().__init__(latent, prior)
        self.decoder = nn.Sequential(
            hidden_layer(latent, hidden, depth, activation), linear(hidden, features, bias_std=0.0)
        )

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        # Grey values lie outside the support {0, 1}: this one distribution goes unvalidated.
        return dist.Bernoulli(logits=self.decoder(z), validate_args=False).to_event(1)
