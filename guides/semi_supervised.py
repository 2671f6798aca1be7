r"""The recognition model of M2: a classifier, and a Gaussian given its class (Kingma et al., 2014, Section 2.2).

.. math:: q(y, z | x) = q(y | x) \, q(z | x, y)
"""

__all__ = ["SemiSupervisedGuide"]

from typing import Annotated

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.classes import known
from pyro_vae.errors import Count, Range
from pyro_vae.networks import Activation, hidden_layer, linear

from .conditional import ConditionalGuide


class SemiSupervisedGuide(ConditionalGuide):
    r"""Creates the guide of `--model semi_supervised`: that of a conditional model, and a classifier beside it.

    A label that is known takes the place of q(y | x), which would learn nothing from it: training adds the term
    :math:`\alpha \log q(\mathrm{label} | x)` (Equation 9), and evaluation leaves it out.

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        classes: The number of classes.
        hidden: The number of hidden units in each layer, those of the classifier among them.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        alpha: The weight of the classification of each datapoint whose label is known. In the article it is
            :math:`0.1 N / N_l`, which is 50 where the labels of 100 of 50,000 are known.

    Raises:
        InputError: If the data have no labels.

    Example:
        >>> import torch
        >>> from pyro_vae.guides.semi_supervised import SemiSupervisedGuide
        >>> guide = SemiSupervisedGuide(features=6, latent=2, classes=10, hidden=8)
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
        alpha: Annotated[float, Range(above=0)] = 50.0,
    ) -> None:
        super().__init__(features, latent, classes, hidden, depth, activation)
        self.alpha = alpha
        self.classifier = nn.Sequential(
            hidden_layer(features, hidden, depth, activation), linear(hidden, classes, bias_std=0.0)
        )

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Samples y and z inside the plate `"data"`.

        Arguments:
            x: The data, with shape `(datapoints, features)`.
            label: The number of the class of each datapoint, -1 where it is not known, with shape `(datapoints,)`.

        Returns:
            The latent variables z, with shape `(..., datapoints, latent)`.
        """
        logits = self.classifier(x)
        with pyro.plate("data", len(x), dim=-1):
            if label is not None:
                if self.training:
                    log_q = dist.Categorical(logits=logits).log_prob(label.clamp(min=0))
                    pyro.factor("classification", -self.alpha * log_q * (label >= 0), has_rsample=True)
                logits = known(label, logits)
            y = pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            return pyro.sample("z", self.posterior(x, y))
