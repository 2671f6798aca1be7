r"""A binomial likelihood of counts with a largest one, such as grey levels or scores.

.. math:: P(x | z) = \prod_i \binom{n}{x_i} y_i^{x_i} (1 - y_i)^{n - x_i}, \quad
    y = \sigma(W_2 \tanh(W_1 z + b_1) + b_2)
"""

__all__ = ["BinomialModel"]

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.errors import Count
from pyro_vae.networks import Activation

from .bernoulli import BernoulliModel


class BinomialModel(BernoulliModel):
    """Creates a model of counts up to a largest one. Its bounds are those of true log probabilities.

    Arguments:
        features: The number of cells.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        prior: A module that returns p(z); `N(0, I)` if omitted.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        total_count: The largest count n: 16 for digits with `--divisor 1`.

    Example:
        >>> from pyro_vae.models.binomial import BinomialModel
        >>> model = BinomialModel(features=6, latent=2, hidden=8, total_count=16)
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
        total_count: Count = 16,
    ) -> None:
        super().__init__(features, latent, hidden, prior, depth, activation)
        self.total_count = total_count

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        return dist.Binomial(self.total_count, logits=self.decoder(z)).to_event(1)
