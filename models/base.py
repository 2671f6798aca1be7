r"""The generative model :math:`p(x, z) = p(z) \, p(x | z)` as a Pyro model (Section 2.1)."""

__all__ = ["Model"]

import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_vae.leading import with_leading

from .priors.normal import NormalPrior


class Model(PyroModule):
    r"""Base class of models with one latent site `"z"` and one observed site `"x"`.

    A subclass gives `likelihood`; it may give `prior` as well.

    Arguments:
        latent: The number of latent variables.
        prior: A module that returns p(z) when called, with event shape `(latent,)`.
            :math:`N(0, I)` if omitted.

    Example:
        >>> import pyro.distributions as dist
        >>> from torch import nn
        >>> from pyro_vae.models.base import Model
        >>> class Poisson(Model):
        ...     def __init__(self, features, latent):
        ...         super().__init__(latent)
        ...         self.log_rate = nn.Linear(latent, features)
        ...
        ...     def likelihood(self, z):
        ...         return dist.Poisson(self.log_rate(z).exp()).to_event(1)
        >>> Poisson(features=6, latent=2)(size=3).shape
        torch.Size([3, 6])
    """

    def __init__(self, latent: int, prior: nn.Module | None = None) -> None:
        super().__init__("model")  # the prefix of its parameters in Pyro's store, apart from the guide's
        self.p_z = NormalPrior(latent) if prior is None else prior

    def prior(self) -> dist.Distribution:
        """Returns p(z), with event shape `(latent,)`; the plate gives it its batch."""
        return self.p_z()

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`.

        Arguments:
            z: The latent variables, with shape `(..., latent)`; where networks know one leading dimension, or it fails
                on more, with shape `(n, latent)`, see `pyro_vae.leading`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method likelihood(z)")

    def forward(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        """Samples z and x inside the plate `"data"`, or scores x where it is given.

        Arguments:
            x: The data, with shape `(datapoints, features)`.
            size: The number of datapoints to generate where there is no x.

        Returns:
            The data, with shape `(datapoints, features)`.
        """
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", with_leading(self, self.likelihood, z), obs=x)
