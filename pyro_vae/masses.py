r"""One currency for byte data: the probability of grey levels, whatever the likelihood.

A density of pixels has a mass in the cell of each level, as wide as a level and around its value v,

.. math:: P(v | z) = F\Bigl(v + \frac{1}{2 d} \Big| z\Bigr) - F\Bigl(v - \frac{1}{2 d} \Big| z\Bigr),

with d what the levels were divided by; the first and the last cell take what lies beyond them. These are true
probabilities, as those of a categorical are, so that all of them meet in bits per dimension.
"""

__all__ = ["Cells", "InCells", "in_cells"]

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import ExpandedDistribution, Independent, MaskedDistribution, Normal
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_vae.bayesian import has_random_weights
from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.grey import GreyLevels
from pyro_vae.measure import measure
from pyro_vae.rescaled import Rescaled
from pyro_vae.sites import evaluation_mode, isolated, sample_sites
from pyro_vae.split import Split

# How far the masses of all levels may be from 1 in all, before they are no probabilities.
_TOLERANCE = 1e-4


class Cells(GreyLevels):
    """Creates the distribution of grey levels that a density of pixels gives.

    Arguments:
        density: The density. One with a method `log_mass(lower, upper)` says its mass between bounds, which may be
            infinite, in nats; of any other the cumulative distribution function is asked.
        divisor: What the levels were divided by. 256 leaves 1 out; any other is the highest level.
    """

    def __init__(self, density: Any, divisor: int = 256) -> None:
        self.density, self.divisor = density, divisor
        super().__init__(density.batch_shape, divisor if divisor == 256 else divisor + 1)

    def cell(self, value: Tensor) -> Tensor:
        """Returns which cell holds a value, from 0 to K - 1."""
        return (value * self.divisor).round().clamp(0, self.levels - 1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Returns the value of each level, with shape `(levels, *batch_shape)`."""
        return super().enumerate_support(expand) * (self.levels / self.divisor)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log probability of the cells of a value, in nats per pixel and float64.

        Raises:
            InputError: If the density has no mass to tell.
        """
        k = self.cell(value).double()
        lower = torch.where(k == 0, -math.inf, (k - 0.5) / self.divisor)
        upper = torch.where(k == self.levels - 1, math.inf, (k + 0.5) / self.divisor)
        return self._log_mass(lower, upper)

    def _log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        try:
            if hasattr(self.density, "log_mass"):
                found: Tensor = self.density.log_mass(lower, upper)
                return found
            if isinstance(self.density, Normal):
                return _normal(self.density, lower, upper)
            return self._by_cdf(lower, upper)
        except NotImplementedError as error:
            raise InputError(
                f"{type(self.density).__name__} has no cumulative distribution function, which the mass "
                "of a grey level is a difference of: give it a method log_mass(lower, upper), or leave out --cells"
            ) from error

    def _by_cdf(self, lower: Tensor, upper: Tensor) -> Tensor:
        first, last = lower == -math.inf, upper == math.inf
        below = torch.where(first, 0.0, self.density.cdf(torch.where(first, upper, lower)))
        above = torch.where(last, 1.0, self.density.cdf(torch.where(last, lower, upper)))
        return (above - below).log()

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws the values of levels."""
        with torch.no_grad():
            drawn: Tensor = self.density.sample(torch.Size(sample_shape))
            return self.cell(drawn) / self.divisor


def _normal(density: Any, lower: Tensor, upper: Tensor) -> Tensor:
    """The mass between bounds, which loses nothing in either tail: both are looked at from below."""
    # No infinity, which has no gradient; these are as far out as a double can tell.
    a, b = (((edge.clamp(-1e6, 1e6) - density.loc) / density.scale).double() for edge in (lower, upper))
    above = a + b > 0
    a, b = torch.where(above, -b, a), torch.where(above, -a, b)
    log_b = torch.special.log_ndtr(b)
    return log_b + (-torch.expm1(torch.special.log_ndtr(a) - log_b)).log()


class InCells(nn.Module):
    """Creates a model of grey levels from one whose site `"x"` is a density of pixels.

    Arguments:
        part: The model.
        divisor: What bytes were divided by.
    """

    def __init__(self, part: nn.Module, divisor: int) -> None:
        super().__init__()
        self.part, self.divisor = part, divisor

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Runs the model; its site `"x"` has the mass of cells."""
        with _Counting(self.divisor):
            return self.part(*inputs, **named)


class _Counting(Messenger):
    def __init__(self, divisor: int) -> None:
        super().__init__()
        self.divisor = divisor

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["name"] == "x":
            msg["fn"] = _counted(msg["fn"], self.divisor)


def _counted(likelihood: Any, divisor: int) -> Any:
    """Puts the mass of cells in the place of the density inside what is wrapped around it."""
    if isinstance(likelihood, Independent):
        return Independent(_counted(likelihood.base_dist, divisor), likelihood.reinterpreted_batch_ndims)
    if isinstance(likelihood, MaskedDistribution):
        return MaskedDistribution(_counted(likelihood.base_dist, divisor), likelihood._mask)
    if isinstance(likelihood, ExpandedDistribution):
        return _counted(likelihood.base_dist, divisor).expand(likelihood.batch_shape)
    if likelihood.event_shape or isinstance(likelihood, Rescaled):
        raise InputError(
            f"pixels of {type(likelihood).__name__} have no cells of their own: make them independent with "
            ".to_event(1), without --scale, or leave out --cells"
        )
    return Cells(likelihood, divisor)


def in_cells(model: nn.Module, data: Split) -> nn.Module:
    """Returns a model whose site `"x"` scores the probability of grey levels; the model itself where it does so.

    Arguments:
        model: The generative model.
        data: The datapoints.

    Raises:
        InputError: If data or likelihood have no such probabilities.
    """
    kind = measure(model, data)
    if kind.startswith("mass"):
        return model
    if kind == "relaxed":
        raise InputError(
            "--cells is not possible: a Bernoulli of grey pixels is neither a probability nor a density of them; train "
            "continuous_bernoulli, which is one"
        )
    if data.divisor == 1 or data.dynamic:
        raise InputError("--cells needs grey levels, bytes or such, and the data are other numbers: leave it out")
    if has_random_weights(model):
        raise InputError("--cells is not possible with random weights: leave it out")
    counting = InCells(model, data.divisor)
    with seeded(0, data.device), isolated(), evaluation_mode(model), torch.no_grad():
        likelihood: Any = sample_sites(poutine.trace(counting).get_trace(data.first(2)))["x"]["fn"]
        while not isinstance(likelihood, Cells):  # what is wrapped around it
            likelihood = likelihood.base_dist
        total = likelihood.log_prob(likelihood.enumerate_support()).exp().sum(0)
    if not bool((total - 1).abs().max() < _TOLERANCE):  # neither is what is not a number
        raise InputError(
            f"--cells is not possible: the masses of {type(likelihood.density).__name__} sum to {total.min():.6g} and "
            f"{total.max():.6g} at some pixels, and not to 1"
        )
    return counting
