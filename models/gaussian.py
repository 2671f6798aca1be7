r"""The paper's model of Frey Face: a Gaussian likelihood with a perceptron decoder (Appendix C.2).

.. math:: p(x | z) = N(x; \mu, \mathrm{diag}\, \sigma^2), \quad h = \tanh(W_3 z + b_3), \quad
    \mu = \sigma(W_4 h + b_4), \quad \log \sigma^2 = W_5 h + b_5
"""

__all__ = ["GaussianModel"]

import math

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.errors import Count
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Model


class GaussianModel(Model):
    r"""Creates the paper's Gaussian model, with sigmoid means (Appendix C.2, Equation 12).

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        prior: A module that returns p(z); :math:`N(0, I)` if omitted.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        min_log_variance: A floor under :math:`\log \sigma^2`. The paper has none, so a pixel that never
            changes lets the density grow without limit; -10 keeps the standard deviation above 0.7 %
            of the grey scale.

    Example:
        >>> from pyro_vae.models.gaussian import GaussianModel
        >>> model = GaussianModel(features=6, latent=2, hidden=8)
        >>> model(size=3).shape
        torch.Size([3, 6])
    """

    when_not_finite = "give the variance a floor, --set model.min_log_variance=-10"

    def __init__(
        self,
        features: int,
        latent: int,
        hidden: Count = 500,
        prior: nn.Module | None = None,
        depth: Count = 1,
        activation: Activation = "tanh",
        min_log_variance: float = -math.inf,
    ) -> None:
        super().__init__(latent, prior)
        self.min_log_variance = min_log_variance
        self.hidden = hidden_layer(latent, hidden, depth, activation)
        self.mean = linear(hidden, features, bias_std=0.0)
        self.log_variance = linear(hidden, features, bias_std=0.0)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        h = self.hidden(z)
        log_variance = self.log_variance(h).clamp(min=self.min_log_variance)
        return dist.Normal(self.mean(h).sigmoid(), (0.5 * log_variance).exp()).to_event(1)
