r"""A likelihood of scaled cells, told in the data's own units.

.. math:: \log p(x | z) = \log p_y\Bigl(\frac{x - a}{b} \Big| z\Bigr) - \sum_i \log b_i

The sum is over the cells that are there. With it, bounds of runs that scale their data in different ways are of one
quantity.
"""

__all__ = ["Rescaled"]

from collections.abc import Sequence
from typing import Any, ClassVar

from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints


class _RescaledSupport(constraints.Constraint):
    """The values whose scaled ones another constraint allows."""

    def __init__(self, scaled: Any, loc: Tensor, scale: Tensor) -> None:
        self.scaled, self.loc, self.scale = scaled, loc, scale
        self.is_discrete, self.event_dim = scaled.is_discrete, scaled.event_dim
        if (base := getattr(scaled, "base_constraint", None)) is not None:
            self.base_constraint = _RescaledSupport(base, loc, scale)  # cell by cell
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return self.scaled.check((value - self.loc) / self.scale)


class Rescaled(TorchDistribution):
    r"""Creates the distribution of :math:`x = a + b y` from that of y.

    Arguments:
        base_dist: The distribution of y, with event shape `(features,)`.
        loc: The offsets a, with that shape.
        scale: The factors b, above 0, with that shape.
        mask: The cells that are there, with shape `(datapoints, features)`, which the distribution of y is masked by
            as well; None are all of them.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, base_dist: Any, loc: Tensor, scale: Tensor, mask: Tensor | None = None) -> None:
        self.base_dist, self.loc, self.scale, self.mask_of_cells = base_dist, loc, scale, mask
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws of y can be differentiated."""
        return self.base_dist.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        """The values whose scaled ones the distribution of y allows."""
        return _RescaledSupport(self.base_dist.support, self.loc, self.scale)

    def expand(self, batch_shape: Size | list[int] | tuple[int, ...], _instance: Any = None) -> "Rescaled":
        """Returns the distribution with more datapoints or particles."""
        return Rescaled(self.base_dist.expand(Size(batch_shape)), self.loc, self.scale, self.mask_of_cells)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density in nats, in the units of x, with the shape of the batch."""
        log_scale = self.scale.log() if self.mask_of_cells is None else self.scale.log() * self.mask_of_cells
        return self.base_dist.log_prob((value - self.loc) / self.scale) - log_scale.sum(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws x."""
        return self.loc + self.scale * self.base_dist.sample(Size(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws x so that it can be differentiated."""
        return self.loc + self.scale * self.base_dist.rsample(Size(sample_shape))

    @property
    def mean(self) -> Tensor:
        """The mean of x."""
        return self.loc + self.scale * self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        """The variance of x."""
        return self.scale**2 * self.base_dist.variance
