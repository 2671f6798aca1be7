r"""A Gaussian likelihood of real values: means without bounds, and a variance for each cell.

.. math:: p(x | z) = N(x; \mu, \mathrm{diag}\, \sigma^2), \quad h = \tanh(W_3 z + b_3), \quad
    \mu = W_4 h + b_4, \quad \log \sigma^2 = W_5 h + b_5
"""

__all__ = ["NormalModel"]

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.errors import Count
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Model


class NormalModel(Model):
    r"""Creates the paper's Gaussian model (Appendix C.2) without the sigmoid, for values that are no pixels.

    Arguments:
        features: The number of cells.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        prior: A module that returns p(z); :math:`N(0, I)` if omitted.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        min_log_variance: A floor under :math:`\log \sigma^2`, in the units that networks see: with `--scale standard`
            -8 keeps the standard deviation above 2 % of a cell's.

    Example:
        >>> from pyro_vae.models.normal import NormalModel
        >>> model = NormalModel(features=6, latent=2, hidden=8)
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
        min_log_variance: float = -8.0,
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
        return dist.Normal(self.mean(h), (0.5 * log_variance).exp()).to_event(1)
