"""A normalising flow, the masked autoregressive one, as the prior (Papamakarios et al., 2017)."""

__all__ = ["FlowPrior"]

import pyro.distributions as dist
import zuko
from torch import nn

from pyro_vae.errors import Count
from pyro_vae.flows import Flow


class FlowPrior(nn.Module):
    r"""Creates a flow from :math:`N(0, I)` to p(z), whose networks are learnt with the decoder.

    Its density takes one pass through the networks, which is what training asks for; a draw takes as many as there are
    latent variables.

    Arguments:
        latent: The number of latent variables.
        transforms: The number of autoregressive transforms.
        hidden: The number of units in the two hidden layers of each.

    Example:
        >>> from pyro_vae.models.priors.flow import FlowPrior
        >>> prior = FlowPrior(latent=2, transforms=2, hidden=8)
        >>> prior().sample((5,)).shape
        torch.Size([5, 2])
    """

    def __init__(self, latent: int, transforms: Count = 3, hidden: Count = 64) -> None:
        super().__init__()
        self.flow = zuko.flows.MAF(latent, transforms=transforms, hidden_features=(hidden, hidden))

    def forward(self) -> dist.Distribution:
        """Returns p(z), with event shape `(latent,)`."""
        return Flow(self.flow())
