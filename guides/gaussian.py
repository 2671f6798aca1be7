r"""The paper's recognition model: a diagonal Gaussian with a perceptron encoder (Appendix C.2).

.. math:: q(z | x) = N(z; \mu, \mathrm{diag}\, \sigma^2), \quad h = \tanh(W_3 x + b_3), \quad
    \mu = W_4 h + b_4, \quad \log \sigma^2 = W_5 h + b_5
"""

__all__ = ["GaussianGuide"]

import pyro.distributions as dist
from torch import Tensor

from pyro_vae.errors import Count
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Guide


class GaussianGuide(Guide):
    """Creates the paper's recognition model (Appendix C.2, Equation 12).

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        log_variance_factor: What the weights of the log variance, though not its biases, are multiplied by: 1 in the
            paper and in the author's AEVB, 0.1 in his wake-sleep.

    Example:
        >>> import torch
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> guide = GaussianGuide(features=6, latent=2, hidden=8)
        >>> guide.posterior(torch.rand(3, 6)).event_shape
        torch.Size([2])
    """

    def __init__(
        self,
        features: int,
        latent: int,
        hidden: Count = 500,
        depth: Count = 1,
        activation: Activation = "tanh",
        log_variance_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.log_variance_factor = log_variance_factor
        self.hidden = hidden_layer(features, hidden, depth, activation)
        self.mean = linear(hidden, latent)
        self.log_variance = linear(hidden, latent, std=0.0, bias_std=0.0)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """Returns q(z | x), with event shape `(latent,)`."""
        h = self.hidden(x)
        log_variance = self.log_variance(self.log_variance_factor * h)
        return dist.Normal(self.mean(h), (0.5 * log_variance).exp()).to_event(1)
