r"""A conditional model: what an image looks like given its class, which is known (Kingma et al., 2014, Section 2).

.. math:: z \sim N(0, I), \quad x | z, y \sim p(x | z, y)
"""

__all__ = ["ConditionalModel"]

from typing import Annotated

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.classes import beside, ones, require_classes
from pyro_vae.errors import Count, Range
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Model


class ConditionalModel(Model):
    """Creates a model of images given their labels, with a Bernoulli likelihood: z is what the label leaves open.

    Bounds and log p are those of p(x | label). Without `--guide conditional`, q(z | x) does not see the label, which
    the image most often tells.

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        classes: The number of classes.
        hidden: The number of hidden units in each layer.
        prior: A module that returns p(z); :math:`N(0, I)` if omitted.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.

    Raises:
        InputError: If the data have no labels.

    Example:
        >>> import torch
        >>> from pyro_vae.models.conditional import ConditionalModel
        >>> model = ConditionalModel(features=6, latent=2, classes=10, hidden=8)
        >>> model(size=3, label=torch.tensor([0, 1, 7])).shape
        torch.Size([3, 6])
    """

    def __init__(
        self,
        features: int,
        latent: int,
        classes: Annotated[int, Range(0)] = 10,
        hidden: Count = 500,
        prior: nn.Module | None = None,
        depth: Count = 1,
        activation: Activation = "tanh",
    ) -> None:
        super().__init__(latent, prior)
        require_classes("model conditional", classes)
        self.classes = classes
        self.decoder = nn.Sequential(
            hidden_layer(latent + classes, hidden, depth, activation), linear(hidden, features, bias_std=0.0)
        )

    def likelihood(self, z: Tensor, label: Tensor | None = None) -> dist.Distribution:
        """Returns p(x | z, label), with event shape `(features,)`; of no class where the label is -1 or omitted."""
        given = z.new_zeros(self.classes) if label is None else ones(label, self.classes)
        # Grey values lie outside the support {0, 1}: this one distribution goes unvalidated.
        return dist.Bernoulli(logits=beside(self.decoder, z, given), validate_args=False).to_event(1)

    def forward(self, x: Tensor | None = None, size: int | None = None, label: Tensor | None = None) -> Tensor:
        """Samples z and x inside the plate `"data"`, or scores x where it is given.

        Arguments:
            x: The data, with shape `(datapoints, features)`.
            size: The number of datapoints to generate where there is no x.
            label: The number of the class of each datapoint, -1 where it is not known, with shape `(datapoints,)`.

        Returns:
            The data, with shape `(datapoints, features)`.
        """
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", self.likelihood(z, label), obs=x)
