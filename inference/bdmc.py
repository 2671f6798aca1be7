r"""Bidirectional Monte Carlo: :math:`\log p(x)` from below and from above (Grosse, Ghahramani & Adams, 2015).

Annealed importance sampling walks up, from the prior to the posterior, and its reverse walks down; see
`pyro_vae.annealing`. With K chains each,

.. math:: E \log \frac{1}{K} \sum_k w_k \leq \log p(x) \leq - E \log \frac{1}{K} \sum_k \frac{1}{w_k}

and neither is off by more than b with a probability above :math:`e^{-b}` (Markov). The upper one needs a draw of the
posterior to start from. For data that the model has simulated there is one, the latent variables that they were made
of, so that there the gap between the two is a certified error of both. For real data chains start where those that
walked up have ended, by their weights, and stay at the posterior for a while: as far as they have not reached all of
it, the upper value is no bound, and a small gap says no more than that both directions agree. What vouches for them is
the gap of simulated data, as far as real data resemble these (Wu et al., 2017).

The number of temperatures grows until the mean gap, two of its standard errors added, is small, on simulated data
first, or the budget is spent.
"""

__all__ = ["BDMC"]

import logging
import math
from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_vae.annealing import ROWS, down, up
from pyro_vae.device import seeded
from pyro_vae.errors import Count, InputError, Range
from pyro_vae.generate import simulate_data
from pyro_vae.hmc import HMC
from pyro_vae.log_joint import LogJoint
from pyro_vae.marginal import Estimate, Marginal
from pyro_vae.sites import evaluation_mode, isolated, sample_sites
from pyro_vae.split import Split
from pyro_vae.watched import in_parts

_logger = logging.getLogger("pyro_vae")

# The gap falls as 1 / T, and faster where it is large: so much more at once, and never less than half as much again.
_GROWTH = (1.5, 4.0)


class Sandwich(NamedTuple):
    """Both values of each datapoint, in nats, each with shape `(datapoints,)`."""

    lower: Tensor
    upper: Tensor
    se: Tensor
    """The standard errors of the lower values."""
    acceptance: Tensor

    def gap(self) -> Estimate:
        """Returns the mean gap, with its standard error over the datapoints; a single one tells of none."""
        apart = self.upper - self.lower
        return Estimate(apart.mean().item(), (apart.std() / math.sqrt(len(apart))).item() if len(apart) > 1 else 0.0)

    def at_most(self) -> float:
        """Returns what the mean gap is at most, two standard errors above its estimate."""
        mean, se = self.gap()
        return mean + 2 * se


class BDMC:
    """Creates the estimator.

    Arguments:
        gap: The mean gap to reach, in nats.
        temperatures: The number of temperatures to begin with.
        most: The number of temperatures to end with, whatever the gap: the budget.
        chains: The number of chains of each datapoint, in each direction.
        leapfrogs: The number of leapfrog steps in a transition; see `ais`.
        simulated: The number of datapoints that the model simulates.
        compile: Whether leapfrogs are traced and compiled.

    Raises:
        InputError: If there is less to end than to begin with.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.inference.bdmc import BDMC
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> data = pyro_vae.data("digits")
        >>> model = BernoulliModel(data.features, latent=2, hidden=8)
        >>> found = BDMC(temperatures=10, most=20, simulated=3).estimate(model, None, data.test.head(3))
        >>> found.log_px.shape
        torch.Size([3])
    """

    def __init__(
        self,
        gap: Annotated[float, Range(above=0)] = 0.1,
        temperatures: Count = 250,
        most: Count = 16_000,
        chains: Annotated[int, Range(2)] = 16,
        leapfrogs: Count = 3,
        simulated: Annotated[int, Range(2)] = 100,
        compile: bool = False,
    ) -> None:
        if most < temperatures:
            raise InputError(f"most {most} is below temperatures {temperatures}, to begin with: raise it")
        self.gap, self.temperatures, self.most = gap, temperatures, most
        self.chains, self.leapfrogs, self.simulated, self.compile = chains, leapfrogs, simulated, compile

    def estimate(self, model: nn.Module, guide: nn.Module | None, split: Split) -> Marginal:
        """Bounds log p(x) of each datapoint of a split, in nats. The guide is not used.

        Returns:
            The lower bounds, with their standard errors. Their details are `upper`, the upper values, and `gap`, how
            far these are above, of each datapoint; `temperatures`; `acceptance`, the mean acceptance probability of
            each datapoint; and `simulated_gap`, the certified mean gap of simulated data, with its standard error over
            these, and the `simulated_temperatures` that it is of.

        Raises:
            InputError: If HMC cannot move the latent variables, or the weights are random.
        """
        with isolated(), evaluation_mode(model):
            shared = LogJoint(model, split.first(1), self.compile)
        seed = int(torch.randint(2**31, ()))

        def on_simulated(temperatures: int) -> Sandwich:
            with seeded(seed, split.device):  # the same data at any number of temperatures
                return self._chunks(split, _cycled(split, self.simulated), temperatures, simulating)

        def simulating(x: Tensor, temperatures: int) -> Sandwich:
            return self._sandwich(*_simulated(model, shared, x), temperatures)

        def real(x: Tensor, temperatures: int) -> Sandwich:
            return self._sandwich(shared.on(x), None, temperatures)

        with evaluation_mode(model):
            certified, first = self._narrowed(on_simulated, self.temperatures)
            found, last = self._narrowed(lambda number: self._chunks(split, split.values, number, real), first)
        if max(certified.at_most(), found.at_most()) > self.gap:
            _logger.warning(
                "bdmc: at %d temperatures the gap is %.2g ± %.2g nats on simulated data and %.2g ± %.2g on the data, "
                "not surely below %g: raise most, or chains",
                last,
                *certified.gap(),
                *found.gap(),
                self.gap,
            )
        details: dict[str, float | Tensor] = {
            "upper": found.upper,
            "gap": found.upper - found.lower,
            "temperatures": last,
            "acceptance": found.acceptance,
            "simulated_gap": certified.gap().mean,
            "simulated_gap_se": certified.gap().se,
            "simulated_temperatures": first,
        }
        return Marginal(found.lower, found.se, details)

    def _narrowed(self, attempt: Callable[[int], Sandwich], temperatures: int) -> tuple[Sandwich, int]:
        """Tries more temperatures until the gap is small or the budget is spent."""
        while (found := attempt(temperatures)).at_most() > self.gap and temperatures < self.most:
            growth = min(max(found.at_most() / self.gap, _GROWTH[0]), _GROWTH[1])
            temperatures = min(math.ceil(temperatures * growth), self.most)
        return found, temperatures

    def _chunks(
        self, split: Split, values: Tensor, temperatures: int, sandwich: Callable[[Tensor, int], Sandwich]
    ) -> Sandwich:
        found = []
        for some in in_parts(values, max(1, ROWS // self.chains), f"bdmc, {temperatures:,} temperatures"):
            with isolated(), torch.no_grad():
                found.append(sandwich(split.read(some), temperatures))
        return Sandwich(*map(torch.cat, zip(*found, strict=True)))

    def _sandwich(self, log_joint: LogJoint, posterior: Tensor | None, temperatures: int) -> Sandwich:
        """Walks up and down, down from draws of the posterior, of which one is enough, or from where `up` ends."""
        ascent = up(log_joint, temperatures, self.chains, self.leapfrogs)
        if posterior is None:
            start = self._settled(
                log_joint, _by_weight(ascent.position, ascent.log_w), ascent.log_steps[-1], temperatures
            )
        else:
            start = posterior.expand(self.chains, -1, -1).clone()
        descent = down(log_joint, start, ascent.log_steps, self.leapfrogs)
        lower = ascent.log_w.logsumexp(0) - math.log(self.chains)
        upper = math.log(self.chains) - (-descent.log_w).logsumexp(0)
        se = (ascent.log_w - lower).exp().std(0) / math.sqrt(self.chains)
        return Sandwich(lower, upper, se, ascent.acceptance)

    def _settled(self, log_joint: LogJoint, start: Tensor, log_step: Tensor, temperatures: int) -> Tensor:
        """Leaves chains at the posterior for a tenth as many transitions as a walk has."""
        kernel = HMC(
            log_joint.with_gradient,
            start,
            step_size=log_step.exp(),
            leapfrogs=self.leapfrogs,
            gradient=log_joint.gradient,
        )
        for _ in range(temperatures // 10):
            kernel.transition()
        return kernel.position


def _by_weight(position: Tensor, log_w: Tensor) -> Tensor:
    """Draws as many chains anew, by their weights, at each datapoint."""
    chosen = torch.multinomial((log_w - log_w.max(0).values).exp().T, len(log_w), replacement=True).T
    return position.gather(0, chosen.unsqueeze(-1).expand_as(position))


def _cycled(split: Split, number: int) -> Tensor:
    """The values of so many datapoints, over and over, whose shape, labels and covariates simulated ones take."""
    return split.values[torch.arange(number, device=split.values.device) % len(split)]


def _simulated(model: nn.Module, shared: LogJoint, x: Tensor) -> tuple[LogJoint, Tensor]:
    """Simulates data, and returns their log joint and the latent variables that they were made of."""
    sites = sample_sites(simulate_data(model, x))
    data = {name: site["value"] for name, site in sites.items() if "was_observed" in site["infer"]}
    values = list(data.values())
    if len(values) == 1 and values[0].shape == x.shape:
        log_joint = shared.on(values[0])
    else:
        log_joint = LogJoint(poutine.condition(model, data), x)
    drawn = {name: place.by_datapoint(sites[name]["value"], 1, len(x)) for name, place in shared.places.items()}
    return log_joint, shared.unconstrained(drawn).squeeze(0)
