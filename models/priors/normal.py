r"""The paper's prior, :math:`p(z) = N(0, I)` (Section 3)."""

__all__ = ["NormalPrior"]

import pyro.distributions as dist
import torch
from torch import Tensor, nn


class NormalPrior(nn.Module):
    r"""Creates the prior :math:`N(0, I)`, which has no parameters.

    Arguments:
        latent: The number of latent variables.

    Example:
        >>> from pyro_vae.models.priors.normal import NormalPrior
        >>> prior = NormalPrior(latent=2)
        >>> prior().sample((5,)).shape
        torch.Size([5, 2])
    """

    zero: Tensor
    one: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)
        self.register_buffer("one", torch.ones(latent), persistent=False)

    def forward(self) -> dist.Distribution:
        """Returns p(z), with event shape `(latent,)`."""
        return dist.Normal(self.zero, self.one).to_event(1)
