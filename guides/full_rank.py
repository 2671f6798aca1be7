r"""A Gaussian with a full covariance: the paper's recognition model without independence.

.. math:: q(z | x) = N(z; \mu, L L^T), \quad h = \tanh(W_3 x + b_3), \quad
    \mu = W_4 h + b_4, \quad A = W_5 h + b_5, \quad L_{ij} = A_{ij} \ (i > j), \quad L_{ii} = \exp(A_{ii})
"""

__all__ = ["FullRankGuide"]

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import constraints, transform_to

from pyro_vae.errors import Count
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Guide


class FullRankGuide(Guide):
    """Creates a recognition model with a full covariance, which starts as the identity.

    Pyro has no closed form of its divergence from an independent prior: with `kl = analytic` it is sampled.

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        log_variance_factor: What the weights of A are multiplied by, as those of the log variance are in the author's
            wake-sleep.

    Example:
        >>> import torch
        >>> from pyro_vae.guides.full_rank import FullRankGuide
        >>> guide = FullRankGuide(features=6, latent=2, hidden=8)
        >>> guide.posterior(torch.rand(3, 6)).event_shape
        torch.Size([2])
    """

    def __init__(
        self,
        features: int,
        latent: int,
        hidden: Count = 500,
        depth: Count = 1,
        activation: Activation = "tanh",
        log_variance_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.latent, self.log_variance_factor = latent, log_variance_factor
        self.hidden = hidden_layer(features, hidden, depth, activation)
        self.mean = linear(hidden, latent)
        self.scale = linear(hidden, latent**2, std=0.0, bias_std=0.0)

    def posterior(self, x: Tensor) -> dist.Distribution:
        """Returns q(z | x), with event shape `(latent,)`."""
        h = self.hidden(x)
        a = self.scale(self.log_variance_factor * h).unflatten(-1, (self.latent, self.latent))
        return _Gaussian(self.mean(h), scale_tril=transform_to(constraints.lower_cholesky)(a))


class _Gaussian(dist.MultivariateNormal):
    """Remembers the noise of its last draw, which Pyro's solves for when it scores the draw.

    Where L is close to singular the solution is far off in float32, and learning would make the most of that.
    """

    _drawn: tuple[Tensor | None, Tensor | None] = (None, None)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        noise = torch.randn(self.shape(Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device)
        z = self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
        self._drawn = z, noise
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        z, noise = self._drawn
        if value is not z or noise is None:
            return super().log_prob(value)
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (noise.square() + math.log(2 * math.pi)).sum(-1) - log_det
