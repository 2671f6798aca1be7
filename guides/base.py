r"""The recognition model :math:`q(z | x)` as a Pyro guide (Section 2.1)."""

__all__ = ["Guide"]

import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor

from pyro_vae.leading import with_leading


class Guide(PyroModule):
    """Base class of guides with one latent site `"z"`. A subclass gives `posterior`.

    Example:
        >>> import pyro.distributions as dist
        >>> import torch
        >>> from torch import nn
        >>> from pyro_vae.guides.base import Guide
        >>> class Unit(Guide):
        ...     def __init__(self, features, latent):
        ...         super().__init__()
        ...         self.mean = nn.Linear(features, latent)
        ...
        ...     def posterior(self, x):
        ...         return dist.Normal(self.mean(x), 1.0).to_event(1)
        >>> Unit(features=6, latent=2)(torch.rand(3, 6)).shape
        torch.Size([3, 2])
    """

    def __init__(self) -> None:
        super().__init__("guide")  # the prefix of its parameters in Pyro's store, apart from the model's

    def posterior(self, x: Tensor) -> dist.Distribution:
        """Returns q(z | x), with event shape `(latent,)`.

        Arguments:
            x: The data, with shape `(..., features)`; see `likelihood` of models.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method posterior(x)")

    def forward(self, x: Tensor) -> Tensor:
        """Samples z inside the plate `"data"`.

        Arguments:
            x: The data, with shape `(datapoints, features)`.

        Returns:
            The latent variables, with shape `(datapoints, latent)`.
        """
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", with_leading(self, self.posterior, x))
