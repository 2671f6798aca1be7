r"""Independent Laplace variables: sparser than the normal prior.

.. math:: p(z) = \prod_j \frac{1}{2 b} \exp(-|z_j| / b)
"""

__all__ = ["LaplacePrior"]

from typing import Annotated

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.errors import Range


class LaplacePrior(nn.Module):
    r"""Creates a Laplace prior with mean 0.

    It has nothing to learn: the decoder's first layer can shift and scale the latent variables as it likes.

    Arguments:
        latent: The number of latent variables.
        scale: The scale b; the standard deviation is :math:`\sqrt 2 \, b`.

    Example:
        >>> from pyro_vae.models.priors.laplace import LaplacePrior
        >>> prior = LaplacePrior(latent=2, scale=0.5)
        >>> prior().sample((5,)).shape
        torch.Size([5, 2])
    """

    zero: Tensor
    scale: Tensor

    def __init__(self, latent: int, scale: Annotated[float, Range(above=0)] = 1.0) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)
        self.register_buffer("scale", torch.full((latent,), float(scale)), persistent=False)

    def forward(self) -> dist.Distribution:
        """Returns p(z), with event shape `(latent,)`."""
        return dist.Laplace(self.zero, self.scale).to_event(1)
