r"""A Beta likelihood of grey values.

.. math:: p(x | z) = \prod_i \frac{1}{s} \mathrm{Beta}\Bigl(\frac{x_i + e}{s}; \alpha_i, \beta_i\Bigr), \quad
    e = \frac{1}{512}, \quad s = 1 + 2 e

A Beta has no finite density at 0 and 1, where data of bytes have most of their pixels: this one reaches half a grey
level further on both sides.
"""

__all__ = ["BetaModel"]

import math

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.errors import Count
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Model

_EDGE = 1 / 512


class BetaModel(Model):
    r"""Creates a model of Beta variables, which starts with uniform ones.

    Arguments:
        features: The number of pixels.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        prior: A module that returns p(z); :math:`N(0, I)` if omitted.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        max_log_concentration: A ceiling over :math:`\log \alpha` and :math:`\log \beta`, without which the density of a
            pixel that never changes grows without limit. At 6 the density at the ends is as narrow as half a grey
            level; float32 loses what lies far above in the difference of logarithms of Gamma functions.

    Example:
        >>> from pyro_vae.models.beta import BetaModel
        >>> model = BetaModel(features=6, latent=2, hidden=8)
        >>> model(size=3).shape
        torch.Size([3, 6])
    """

    def __init__(
        self,
        features: int,
        latent: int,
        hidden: Count = 500,
        prior: nn.Module | None = None,
        depth: Count = 1,
        activation: Activation = "tanh",
        max_log_concentration: float = 6.0,
    ) -> None:
        super().__init__(latent, prior)
        self.max_log_concentration = max_log_concentration
        self.hidden = hidden_layer(latent, hidden, depth, activation)
        self.log_alpha = linear(hidden, features, bias_std=0.0)
        self.log_beta = linear(hidden, features, bias_std=0.0)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        h = self.hidden(z)
        outputs = (layer(h).clamp(max=self.max_log_concentration) for layer in (self.log_alpha, self.log_beta))
        alpha, beta = (output.exp() for output in outputs)
        return _Beta(alpha, beta, -_EDGE, 1 + 2 * _EDGE).to_event(1)


class _Beta(dist.AffineBeta):
    """Pyro's, which has no cumulative distribution function."""

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns the log probability between bounds that are a few grey levels apart, in nats; see `pyro_vae.masses`.

        Exact to 1e-6 for concentrations up to e^7.
        """
        a, b = (((edge - self.low) / (self.high - self.low)).double().clamp(0, 1) for edge in (lower, upper))
        alpha, beta = self.concentration1.double(), self.concentration0.double()
        # Ends, where the density may be infinite, go by their series, what is between by quadrature.
        first = _log_end(torch.where(a > 0, 0.5, b).clamp(max=_END), alpha, beta)
        last = _log_end(torch.where(b < 1, 0.5, 1 - a).clamp(max=_END), beta, alpha)
        middle = _log_middle(torch.where(a > 0, a, 0.25), torch.where(b < 1, b, 0.75), alpha, beta)
        inside = torch.where(a == 0, first, torch.where(b == 1, last, middle))
        return inside + (alpha + beta).lgamma() - alpha.lgamma() - beta.lgamma()


_NODES = np.polynomial.legendre.leggauss(16)

# How far an end may reach: a cell of the coarsest grey levels, 17 of them.
_END = 1 / 16


def _log_end(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Log of the integral of t^(alpha - 1) (1 - t)^(beta - 1) from 0 to a small x, by a series of positive terms."""
    term = total = torch.ones_like(x * alpha * beta)
    for n in range(80):
        term = term * x * (alpha + beta + n) / (alpha + 1 + n)
        total = total + term
    return alpha * x.log() + beta * (-x).log1p() - alpha.log() + total.log()


def _log_middle(a: Tensor, b: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """The same from a to b, by Gauss and Legendre."""
    half, middle = (b - a) / 2, (a + b) / 2
    logs = []
    for node, weight in zip(*map(np.ndarray.tolist, _NODES), strict=True):
        t = middle + half * node
        logs.append((alpha - 1) * t.log() + (beta - 1) * (-t).log1p() + math.log(weight))
    return torch.stack(logs).logsumexp(0) + half.log()
