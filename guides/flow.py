r"""A normalising flow as the recognition model (Rezende & Mohamed, 2015), with affine couplings (Dinh et al., 2017).

.. math:: z = f_h(\epsilon), \quad \epsilon \sim N(0, I), \quad h = \tanh(W_3 x + b_3), \quad
    \log q(z | x) = \log N(\epsilon; 0, I) - \log |\det \partial f_h / \partial \epsilon|
"""

__all__ = ["FlowGuide"]

import pyro.distributions as dist
import zuko
from torch import Tensor

from pyro_vae.errors import Count
from pyro_vae.flows import Flow
from pyro_vae.networks import Activation, hidden_layer

from .base import Guide


class FlowGuide(Guide):
    """Creates a recognition model that can take shapes other than a Gaussian's.

    Each transform moves one half of the latent variables given the other half and x, so that draws and densities cost
    the same: the bound asks for the first, wake-sleep for the second. There is no closed form of its divergence from
    any prior: with `kl = analytic` it is sampled.

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer of the encoder.
        depth: The number of hidden layers of the encoder.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        transforms: The number of coupling transforms, each with a hidden layer of 64 units.

    Example:
        >>> import torch
        >>> from pyro_vae.guides.flow import FlowGuide
        >>> guide = FlowGuide(features=6, latent=2, hidden=8, transforms=2)
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
        transforms: Count = 4,
    ) -> None:
        super().__init__()
        self.hidden = hidden_layer(features, hidden, depth, activation)
        self.flow = zuko.flows.MAF(latent, context=hidden, transforms=transforms, passes=2, hidden_features=(64,))

    def posterior(self, x: Tensor) -> dist.Distribution:
        """Returns q(z | x), with event shape `(latent,)`."""
        return Flow(self.flow(self.hidden(x)))
