r"""Probabilities of grey levels, where a density of pixels will not do.

Data are real numbers in [0, 1]. One of K equal cells holds each of them, :math:`k = \min(\lfloor K x \rfloor, K - 1)`.
With K = 256 this gives bytes back exactly, whether they were divided by 256 or by 255, and it keeps the levels of
digits, and of binary pixels, apart. So the mass of a cell is a true probability of the datum, and its logarithm may be
told in bits per dimension as well.
"""

__all__ = ["DiscretizedLogistic", "GreyCategorical", "GreyLevels"]

from collections.abc import Sequence
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import constraints

from pyro_vae.errors import require_whole


class _InCells(constraints.Constraint):
    """A number in [0, 1], of which nothing counts but its cell."""

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0) & (value <= 1)


class GreyLevels(dist.TorchDistribution):
    r"""Base class of distributions over grey levels. Draws and means are numbers k / K, as bytes divided by 256 are.

    Arguments:
        batch_shape: The shape of the pixels.
        levels: The number of levels K.

    Raises:
        InputError: If there are no two levels.
    """

    support = _InCells()
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_enumerate_support = True

    def __init__(self, batch_shape: Size, levels: int) -> None:
        require_whole("levels", levels, 2)
        self.levels = levels
        super().__init__(batch_shape, validate_args=False)

    def cell(self, value: Tensor) -> Tensor:
        """Returns which cell holds a value, from 0 to K - 1."""
        return (value * self.levels).floor().clamp(0, self.levels - 1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Returns a value of each cell, with shape `(levels, *batch_shape)`."""
        values = torch.arange(self.levels) / self.levels
        values = values.view(-1, *[1] * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values


class DiscretizedLogistic(GreyLevels):
    r"""Creates a logistic distribution that counts cells (Kingma et al., 2016).

    .. math:: P(k) = \sigma(b) - \sigma(a), \quad a = \frac{k / K - \mu}{s}, \quad b = \frac{(k + 1) / K - \mu}{s}

    The first and the last cell take what lies beyond them.

    Arguments:
        loc: The means :math:`\mu`.
        scale: The scales s, with the same shape.
        levels: The number of levels K.
    """

    def __init__(self, loc: Tensor, scale: Tensor, levels: int = 256) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(loc.shape, levels)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log probability of the cells of a value, in nats per pixel."""
        # sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - exp(a - b)) loses nothing where both are close to 0 or 1.
        k = self.cell(value)
        below = torch.nn.functional.logsigmoid((self.loc - k / self.levels) / self.scale)
        above = torch.nn.functional.logsigmoid(((k + 1) / self.levels - self.loc) / self.scale)
        inside = (-torch.expm1(-1 / (self.levels * self.scale))).log()
        first, last = k == 0, k == self.levels - 1
        return torch.where(first, 0, below) + torch.where(last, 0, above) + torch.where(first | last, 0, inside)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws values of cells."""
        with torch.no_grad():
            u = torch.rand((*sample_shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device)
            return self.cell(self.loc + self.scale * torch.logit(u, eps=1e-7)) / self.levels

    @property
    def mean(self) -> Tensor:
        """The mean value, exactly: the sum of P(k or more) over the levels above 0, divided by K."""
        above = [torch.sigmoid((self.loc - k / self.levels) / self.scale) for k in range(1, self.levels)]
        return torch.as_tensor(sum(above)) / self.levels


class GreyCategorical(GreyLevels):
    """Creates a distribution with a probability of its own for each level.

    Arguments:
        logits: Unnormalised log probabilities, with shape `(*batch_shape, levels)`.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-1], logits.shape[-1])

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log probability of the cells of a value, in nats per pixel."""
        k, logits = torch.broadcast_tensors(self.cell(value).long().unsqueeze(-1), self.logits)
        return logits.gather(-1, k[..., :1]).squeeze(-1) - self.logits.logsumexp(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws values of cells."""
        with torch.no_grad():
            return dist.Categorical(logits=self.logits).sample(Size(sample_shape)) / self.levels

    @property
    def mean(self) -> Tensor:
        """The mean value."""
        values = torch.arange(self.levels, device=self.logits.device) / self.levels
        return (self.logits.softmax(-1) * values).sum(-1)
