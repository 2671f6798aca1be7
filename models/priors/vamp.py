r"""The VampPrior: a mixture of the guide's own posteriors at pseudo-inputs that are learnt (Tomczak & Welling, 2018).

.. math:: p(z) = \frac{1}{K} \sum_k q_\phi(z | u_k)

The prior that maximises the bound is the mean of the posteriors over the data. This one is a mean over K learnt points.
"""

__all__ = ["VampPrior"]

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.errors import Count, InputError


class VampPrior(nn.Module):
    r"""Creates a prior that asks the run's guide for its posteriors.

    The guide is used and not owned: it is no submodule, and its parameters stay with it, so that of the prior only
    pseudo-inputs belong to the model. AEVB trains all of them together, as in the article. Wake-sleep's wake phase
    moves the pseudo-inputs with the decoder and holds the guide still. An algorithm without a guide cannot use this
    prior.

    It differs from the article in that a sigmoid keeps pseudo-inputs in (0, 1), or between the least and the largest
    value of each cell, where the article clips them, and that their logits start at draws from :math:`N(0, 1)` and have
    that distribution as their prior, as all weights have.

    Arguments:
        latent: The number of latent variables, those of the guide.
        features: The number of pixels.
        guide: A guide with a method `posterior(x)`.
        components: The number of pseudo-inputs K.
        span: The least and the largest value of each cell as the guide sees it; 0 and 1 if omitted.

    Raises:
        InputError: If the guide has no such method.

    Example:
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.models.priors.vamp import VampPrior
        >>> guide = GaussianGuide(features=6, latent=2, hidden=8)
        >>> prior = VampPrior(latent=2, features=6, guide=guide, components=10)
        >>> prior().sample((5,)).shape
        torch.Size([5, 2])
    """

    low: Tensor | None
    high: Tensor | None

    def __init__(
        self,
        latent: int,
        features: int,
        guide: nn.Module,
        components: Count = 50,
        span: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not hasattr(guide, "posterior"):
            raise InputError(f"--prior vamp needs a guide with a method posterior(x): {type(guide).__name__} has none")
        self._guide: tuple[Any] = (guide,)  # in a tuple, torch does not see a submodule
        self.logits = nn.Parameter(torch.randn(components, features))
        for name, end in zip(("low", "high"), span or (None, None), strict=True):
            self.register_buffer(name, end, persistent=False)

    def forward(self) -> dist.Distribution:
        """Returns p(z), with event shape `(latent,)`."""
        u = self.logits.sigmoid()
        if self.low is not None and self.high is not None:
            u = self.low + (self.high - self.low) * u
        parts = self._guide[0].posterior(u)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits.new_zeros(len(self.logits))), parts)
