r"""A Gaussian mixture over the latent variables with the component as a variable of its own, for clustering.

.. math:: y \sim \mathrm{Categorical}(\pi), \quad z | y \sim N(\mu_y, \mathrm{diag}\, \sigma_y^2), \quad
    x | z \sim p(x | z)
"""

__all__ = ["MixtureOfGaussiansModel"]

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.errors import Count
from pyro_vae.networks import Activation

from .bernoulli import BernoulliModel


class MixtureOfGaussiansModel(BernoulliModel):
    r"""Creates the Bernoulli model with a mixture in the place of its prior, which `TraceEnum_ELBO` trains.

    With `--prior mixture`, p(x) is the same. Here the component y is a latent site, which Pyro sums out, so that its
    posterior probabilities :math:`p(y | z)` can be read: they are the clusters. A guide samples z alone.

    Weights start equal, means at draws from :math:`N(0, I)`, scales at 1.

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        components: The number of components.

    Example:
        >>> import torch
        >>> from pyro_vae.models.mixture_of_gaussians import MixtureOfGaussiansModel
        >>> model = MixtureOfGaussiansModel(features=6, latent=2, hidden=8, components=10)
        >>> model.responsibilities(torch.zeros(3, 2)).shape
        torch.Size([3, 10])
    """

    def __init__(
        self,
        features: int,
        latent: int,
        hidden: Count = 500,
        depth: Count = 1,
        activation: Activation = "tanh",
        components: Count = 10,
    ) -> None:
        super().__init__(features, latent, hidden, nn.Identity(), depth, activation)
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.randn(components, latent))
        self.log_scale = nn.Parameter(torch.zeros(components, latent))

    def component(self, y: Tensor) -> dist.Distribution:
        """Returns p(z | y), with event shape `(latent,)`."""
        return dist.Normal(self.mean[y], self.log_scale[y].exp()).to_event(1)

    def responsibilities(self, z: Tensor) -> Tensor:
        """Returns p(y | z), with shape `(..., components)`, of latent variables with shape `(..., latent)`."""
        parts = dist.Normal(self.mean, self.log_scale.exp()).to_event(1)
        return (self.logits.log_softmax(-1) + parts.log_prob(z.unsqueeze(-2))).softmax(-1)

    def forward(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        """Samples y, z and x inside the plate `"data"`, or scores x where it is given.

        Arguments:
            x: The data, with shape `(datapoints, features)`.
            size: The number of datapoints to generate where there is no x.

        Returns:
            The data, with shape `(datapoints, features)`.
        """
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=self.logits), infer={"enumerate": "parallel"})
            z = pyro.sample("z", self.component(y))
            return pyro.sample("x", self.likelihood(z), obs=x)
