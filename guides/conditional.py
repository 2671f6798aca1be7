r"""The recognition model of a conditional model: a diagonal Gaussian that sees the label as well.

.. math:: q(z | x, y) = N(z; \mu, \mathrm{diag}\, \sigma^2), \quad h = \tanh(W_3 x + V_3 y + b_3)
"""

__all__ = ["ConditionalGuide"]

from typing import Annotated

import pyro
import pyro.distributions as dist
from torch import Tensor

from pyro_vae.classes import beside, ones, require_classes
from pyro_vae.errors import Count, Range
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Guide


class ConditionalGuide(Guide):
    """Creates the paper's recognition model with the label beside the pixels.

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        classes: The number of classes.
        hidden: The number of hidden units in each layer.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.

    Raises:
        InputError: If the data have no labels.

    Example:
        >>> import torch
        >>> from pyro_vae.guides.conditional import ConditionalGuide
        >>> guide = ConditionalGuide(features=6, latent=2, classes=10, hidden=8)
        >>> guide.posterior(torch.rand(3, 6), torch.tensor([0, 1, 7])).event_shape
        torch.Size([2])
    """

    def __init__(
        self,
        features: int,
        latent: int,
        classes: Annotated[int, Range(0)] = 10,
        hidden: Count = 500,
        depth: Count = 1,
        activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        require_classes("guide conditional", classes)
        self.classes = classes
        self.hidden = hidden_layer(features + classes, hidden, depth, activation)
        self.mean = linear(hidden, latent)
        self.log_variance = linear(hidden, latent, std=0.0, bias_std=0.0)

    def posterior(self, x: Tensor, label: Tensor | None = None) -> dist.Distribution:
        """Returns q(z | x, label), with event shape `(latent,)`.

        Arguments:
            x: The data, with shape `(..., features)`.
            label: The number of the class of each datapoint, -1 where it is not known, with shape `(...,)`.
        """
        given = x.new_zeros(self.classes) if label is None else ones(label, self.classes)
        h = beside(self.hidden, x, given)
        return dist.Normal(self.mean(h), (0.5 * self.log_variance(h)).exp()).to_event(1)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Samples z inside the plate `"data"`; see `posterior`."""
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", self.posterior(x, label))
