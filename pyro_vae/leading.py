"""Leading dimensions of networks that know one: particles and chains are folded into datapoints, and unfolded again.

Most networks take `(particles, n, ...)` as they take `(n, ...)`, and are called with it. Convolutions and batch norm
are not among them.
"""

__all__ = ["Unfolded", "unfolded", "with_leading"]

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import Independent, TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

_OF_ONE = (_ConvNd, _NormBase, nn.GroupNorm, nn.RNNBase)
# Whose attributes are known to be numbers, or tensors with the shape of the batch first.
_LIBRARIES = ("torch.distributions.", "pyro.distributions.")


def with_leading(part: nn.Module, function: Callable[[Tensor], Any], rows: Tensor) -> Any:
    """Calls a function of rows with more than one leading dimension, whether or not it was written for them.

    They are folded where a layer of the part knows one leading dimension (convolutions, batch norm, recurrent layers),
    or where the function fails on several, or returns a distribution of another batch. A single one goes as it is.

    Arguments:
        part: The module that the function is a method of.
        function: Takes rows with shape `(n, ...)` at least, and returns their distributions.
        rows: The rows, with shape `(..., n, size)`.

    Returns:
        The distribution, whose batch shape is that of the leading dimensions.
    """
    leading = rows.shape[:-1]
    if len(leading) < 2:
        return function(rows)
    if not any(map(_knows_one, part.modules())):
        try:
            found = function(rows)
            if torch.broadcast_shapes(found.batch_shape, leading) == leading:
                return found
        except Exception:  # written for one: if it is something else, the next call says so
            pass
    return unfolded(function(rows.reshape(-1, rows.shape[-1])), leading)


def _knows_one(layer: nn.Module) -> bool:
    """Whether a layer takes one leading dimension, or counts dimensions from the left."""
    if isinstance(layer, nn.Flatten):
        return layer.start_dim >= 0
    return isinstance(layer, _OF_ONE) or (
        isinstance(layer, nn.Unflatten) and isinstance(layer.dim, int) and layer.dim >= 0
    )


def unfolded(distribution: Any, leading: Size) -> Any:
    """Gives a distribution of rows leading dimensions in their place.

    Arguments:
        distribution: One with batch shape `(rows, ...)`.
        leading: The dimensions, whose product is the number of rows.

    Returns:
        The distribution with batch shape `(*leading, ...)`: one of the same class, where its cells are independent and
        its class one of torch's or Pyro's, else an `Unfolded`, of which no divergence is known in closed form.
    """
    if isinstance(distribution, Independent):
        return Independent(unfolded(distribution.base_dist, leading), distribution.reinterpreted_batch_ndims)
    batch = distribution.batch_shape
    if batch[:1] != (math.prod(leading),):
        return distribution  # the same for all rows
    held = vars(distribution).values()
    simple = type(distribution).__module__.startswith(_LIBRARIES) and not distribution.event_shape
    if not simple or any(isinstance(value, Distribution) for value in held):
        return Unfolded(distribution, leading)
    found = copy.copy(distribution)
    for name, value in vars(distribution).items():
        if isinstance(value, Tensor) and value.shape[: len(batch)] == batch:
            found.__dict__[name] = value.unflatten(0, leading)
    found._batch_shape = Size([*leading, *batch[1:]])
    return found


class Unfolded(TorchDistribution):
    """Creates a distribution with leading dimensions from one of rows.

    Arguments:
        base_dist: The distribution, with batch shape `(rows, ...)`.
        leading: The dimensions, whose product is the number of rows.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, base_dist: Any, leading: Size) -> None:
        self.base_dist, self.leading = base_dist, Size(leading)
        batch = Size([*leading, *base_dist.batch_shape[1:]])
        super().__init__(batch, base_dist.event_shape, validate_args=False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "base_dist":
            raise AttributeError(name)
        found = getattr(self.base_dist, name)
        if name == "log_mass":  # see `pyro_vae.masses`
            return lambda *bounds: self._of_cells(found, *bounds)
        return found

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws carry gradients."""
        return bool(self.base_dist.has_rsample)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether its values can be counted."""
        return bool(self.base_dist.has_enumerate_support)

    @property
    def support(self) -> Any:
        """The values that are possible."""
        return self.base_dist.support

    @property
    def mean(self) -> Tensor:
        """The mean."""
        return self._unfold(self.base_dist.mean)

    @property
    def variance(self) -> Tensor:
        """The variance."""
        return self._unfold(self.base_dist.variance)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density, in nats, with the shape of the batch."""
        return self._of_cells(self.base_dist.log_prob, value)

    def cdf(self, value: Tensor) -> Tensor:
        """Returns the cumulative distribution function, with the shape of the batch."""
        return self._of_cells(self.base_dist.cdf, value)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws."""
        return self._unfold(self.base_dist.sample(Size(sample_shape)), len(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws with gradients."""
        return self._unfold(self.base_dist.rsample(Size(sample_shape)), len(sample_shape))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Returns its values, with shape `(values, ...)`."""
        values: Tensor = self.base_dist.enumerate_support(expand=True)
        return self._unfold(values, 1)

    def _of_cells(self, function: Callable[..., Tensor], *values: Tensor) -> Tensor:
        """Calls a function of values that has the shape of the batch."""
        shape = self.batch_shape + self.event_shape
        whole = torch.broadcast_shapes(shape, *(value.shape for value in values))
        before = whole[: len(whole) - len(shape)]
        folded = [value.expand(whole).flatten(len(before), len(before) + len(self.leading) - 1) for value in values]
        return self._unfold(function(*folded), len(before))

    def _unfold(self, value: Tensor, dim: int = 0) -> Tensor:
        return value.unflatten(dim, self.leading)
