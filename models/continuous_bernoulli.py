r"""The continuous Bernoulli: a Bernoulli's form as a density on [0, 1] (Loaiza-Ganem & Cunningham, 2019).

.. math:: \log p(x | z) = \sum_i \log C(y_i) + x_i \log y_i + (1 - x_i) \log (1 - y_i), \quad
    C(y) = \frac{2 \tanh^{-1}(1 - 2 y)}{1 - 2 y}
"""

__all__ = ["ContinuousBernoulliModel"]

import pyro.distributions as dist
import torch
from torch import Tensor

from .bernoulli import BernoulliModel


class ContinuousBernoulliModel(BernoulliModel):
    r"""Creates the model that the paper's Bernoulli on grey values lacks one factor to be: C(y) makes it a density.

    Its arguments are those of `BernoulliModel`.

    Example:
        >>> from pyro_vae.models.continuous_bernoulli import ContinuousBernoulliModel
        >>> model = ContinuousBernoulliModel(features=6, latent=2, hidden=8)
        >>> model(size=3).shape
        torch.Size([3, 6])
    """

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        return _ContinuousBernoulli(logits=self.decoder(z)).to_event(1)


class _ContinuousBernoulli(dist.ContinuousBernoulli):
    """Torch's, whose normaliser is off where a probability in float32 is next to 0 or 1, with one in the logits."""

    def log_prob(self, value: Tensor) -> Tensor:
        return self.logits * (value - 0.5) - _log_sinhc(self.logits.abs())

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns the log probability between bounds, in nats; see `pyro_vae.masses`."""
        lower, upper, logits = lower.clamp(0, 1), upper.clamp(0, 1), self.logits.double()
        size, width = logits.abs(), upper - lower
        middle = logits * ((lower + upper) / 2 - 0.5)
        return middle + width.log() + _log_sinhc(size * width) - _log_sinhc(size)


def _log_sinhc(size: Tensor) -> Tensor:
    """Log (sinh(s / 2) / (s / 2)), of which the integral of exp(s x) over [0, 1] is exp(s / 2) times the argument."""
    large = size.clamp(min=0.1)
    return torch.where(
        size < 0.1, size**2 / 24 - size**4 / 2880, large / 2 + (-torch.expm1(-large)).log() - large.log()
    )
