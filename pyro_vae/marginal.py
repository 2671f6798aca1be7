r"""The bound of a split, and what estimators of :math:`\log p(x)` return and draw."""

__all__ = [
    "LOOKED_AT",
    "Estimate",
    "Estimates",
    "Marginal",
    "batched",
    "bound",
    "bounds",
    "chunked_log_weights",
    "information",
    "no_density",
    "points",
    "proposal",
    "weights_cost",
]

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_vae import ranks
from pyro_vae.bayesian import has_random_weights
from pyro_vae.device import seeded
from pyro_vae.elbo import ROWS, bound_terms, log_weights
from pyro_vae.enumerated import replayed, sums_out
from pyro_vae.errors import InputError
from pyro_vae.global_latents import with_globals
from pyro_vae.local import fit_gaussian
from pyro_vae.memory import widest
from pyro_vae.sites import (
    evaluation_mode,
    isolated,
    joint_log_prob,
    latent_sites,
    point_sites,
)
from pyro_vae.split import Split
from pyro_vae.traced import Traced
from pyro_vae.watched import in_parts
from pyro_vae.words import require_modules

# Datapoints that share what is costly: the steps that fit a Gaussian to each of them, or a draw of the weights.
_TOGETHER = 1_000

# Numbers that a layer makes of a chunk at most: 1 GiB of them. No width of the usual shortens a chunk.
_CELLS = 2**28

# Datapoints that a pair is looked at with: as many as a usual minibatch, which a part may be made for.
LOOKED_AT = 100

# Batches of draws that an error is read from: it is known to 1 / sqrt(2 * 200), 5 %.
_BATCHES = 200


class Estimate(NamedTuple):
    """A mean over datapoints, in nats, with its standard error."""

    mean: float
    se: float


class Estimates(NamedTuple):
    """Monte Carlo estimates of a quantity of each datapoint, in nats.

    Arguments:
        values: The estimates, with shape `(datapoints,)`.
        se: Their standard errors, with shape `(datapoints,)`.
        shared: Where datapoints have draws in common: how far each batch of draws alone moves each estimate, with shape
            `(batches, datapoints)`. None where the estimates are independent.
    """

    values: Tensor
    se: Tensor
    shared: Tensor | None = None

    def mean(self) -> Estimate:
        """Averages over the datapoints, with the Monte Carlo standard error of that mean."""
        alone, shared = self.se.square().sum() / len(self.se) ** 2, self.shared
        variance = alone if shared is None else _variance(shared.mean(1))
        return Estimate(self.values.mean().item(), variance.sqrt().item())

    def minus(self, other: "Estimates") -> Estimate:
        r"""Averages the differences from other estimates for the same datapoints.

        The error holds what the choice of N datapoints leaves open as well as the draws. With :math:`d_i` the
        differences and :math:`c` the mean covariance of the errors of two of them, :math:`E \, s^2(d) / N` lacks
        :math:`c` of the variance of the mean. Only draws in common make a :math:`c`; the spread of the means over these
        draws is :math:`v / N + c (N - 1) / N`, with :math:`v` the mean variance of the error of one difference.
        """
        apart = self.values - other.values
        variance = _variance(apart)
        moved = [each for each in (self.shared, other.shared) if each is not None]
        if moved and len(apart) > 1:
            both = moved[0] - moved[1] if len(moved) == 2 else moved[0]
            covariance = _variance(both.mean(1)) - _variance(both).mean() / len(apart)
            variance = variance + covariance.clamp(min=0) * len(apart) / (len(apart) - 1)
        return Estimate(apart.mean().item(), variance.sqrt().item())


class Marginal(NamedTuple):
    r"""What an estimator says of the marginal likelihood.

    Arguments:
        log_px: Estimates of :math:`\log p(x)` in nats, with shape `(datapoints,)`.
        se: Their Monte Carlo standard errors, with shape `(datapoints,)`.
        details: The estimator's settings and diagnostics by name: a number, or one of each datapoint, with shape
            `(datapoints,)`, of which the mean is told over the datapoints where it is known.
        shared: Where datapoints have draws in common: see `Estimates`.

    Example:
        >>> import torch
        >>> from pyro_vae.marginal import Marginal
        >>> found = Marginal(torch.tensor([-1.0, -3.0]), torch.tensor([0.3, 0.4]), {"particles": 10})
        >>> found.estimates.mean()
        Estimate(mean=-2.0, se=0.25)
    """

    log_px: Tensor
    se: Tensor
    details: Mapping[str, float | Tensor]
    shared: Tensor | None = None

    @property
    def estimates(self) -> Estimates:
        """The estimates with their errors."""
        return Estimates(self.log_px, self.se, self.shared)


def batched(deviations: Tensor) -> Tensor:
    """Averages what each draw adds to estimates over batches of draws, as `Estimates` holds it, to bound its memory.

    Arguments:
        deviations: With shape `(draws, datapoints)`.

    Returns:
        The means, with shape `(batches, datapoints)`, at most 200 of them.
    """
    size = max(1, len(deviations) // _BATCHES)
    whole = len(deviations) // size * size
    return deviations[:whole].unflatten(0, (-1, size)).mean(1)


def points(guide: nn.Module | None, x: Tensor) -> list[str]:
    """Returns the latent sites at which a guide is a point, as for MAP estimates; none where there is no guide.

    Arguments:
        guide: The recognition model.
        x: A few datapoints, with shape `(datapoints, features)`.
    """
    if guide is None:
        return []
    with seeded(0, x.device), isolated(), evaluation_mode(guide), torch.no_grad():
        return point_sites(poutine.trace(guide).get_trace(x))


def proposal(guide: nn.Module | None, x: Tensor) -> nn.Module | None:
    """Returns a guide that is a density, and None in the place of one that is a point.

    What takes a guide here fits a Gaussian to the posterior of each datapoint where it is None.

    Arguments:
        guide: The recognition model, None where there is none.
        x: A few datapoints, with shape `(datapoints, features)`.
    """
    return None if points(guide, x) else guide


def no_density(guide: nn.Module | None, sites: list[str]) -> InputError:
    """Returns the error that says that a guide is a point, and what can be done."""
    return InputError(
        f"{type(guide).__name__} is a point at site {', '.join(map(repr, sites))}, which has no density, and the bound "
        "and importance need one: give --local for a Gaussian fitted to each datapoint, or --marginal ais alone"
    )


@torch.no_grad()
def chunked_log_weights(
    model: nn.Module,
    guide: nn.Module | None,
    split: Split,
    particles: int,
    compile: bool = False,
    of_bound: bool = False,
) -> Iterator[Tensor]:
    r"""Draws :math:`\log p(x, z) - \log q(z | x)` for a whole split, in chunks of bounded memory.

    Arguments:
        model: The generative model. Weights that are random variables, and global latent variables, are drawn anew with
            each particle, and are the same for the datapoints of a chunk.
        guide: The recognition model; None fits a Gaussian to the posterior of each datapoint.
        split: The datapoints.
        particles: The number of draws per datapoint.
        compile: Whether the draws are traced and compiled; Gaussians that are fitted never are.
        of_bound: Whether the draws are those whose mean is the bound; see `bound_terms`.

    Yields:
        The log weights of some datapoints, float64 with shape `(particles, some)`.

    Raises:
        InputError: If the guide is a point, which has no density.
    """
    with seeded(0, split.device):  # looking at the guide changes no draw
        sites = points(guide, split.first(LOOKED_AT))
    if sites:
        raise no_density(guide, sites)
    model = with_globals(model, guide, split)
    drawn = model.drawn if has_random_weights(model) else model
    draw = bound_terms if of_bound else log_weights
    if guide is not None:
        sums_out(drawn, guide, split.first(LOOKED_AT))  # looked at before it is traced

    def weigher(q: nn.Module, compile: bool) -> Traced:
        def weigh(x: Tensor, count: int) -> tuple[Tensor]:
            return (draw(drawn, q, x, count).double(),)

        return Traced(weigh, model, q, compile=compile)

    if guide is not None:
        q, plain, compiled = guide, weigher(guide, False), weigher(guide, compile)
    most = min(ROWS, max(1, _CELLS // widest([model] if guide is None else [model, guide], split.features)))
    size = min(_TOGETHER, most) if drawn is not model or guide is None else max(1, most // particles)
    usual = None
    for values in in_parts(split.values, size, "bound" if of_bound else "log p(x)"):
        x = split.read(values)
        if guide is None:
            q = fit_gaussian(model, x)
            plain = compiled = weigher(q, False)
        rows = max(1, most // len(x)) if drawn is model else 1
        counts = [min(rows, particles - done) for done in range(0, particles, rows)]
        usual = usual or (len(x), counts[0])
        with evaluation_mode(model, q):
            # What is left over at the end has a shape of its own, which is not worth a compilation.
            draws = [(compiled if (len(x), count) == usual else plain)(x, count)[0] for count in counts]
            weights = torch.cat(draws)
        yield weights


def bounds(
    model: nn.Module, guide: nn.Module | None, split: Split, particles: int = 1, compile: bool = False
) -> Estimates:
    """Estimates the bound of each datapoint of a split, in nats (Equation 6); see `bound`."""
    model = with_globals(model, guide, split)
    weights = torch.cat(list(chunked_log_weights(model, guide, split, particles, compile, of_bound=True)), dim=1)
    values = weights.mean(0)
    shared = batched(weights - values) if has_random_weights(model) else None
    return Estimates(values, _variance(weights).sqrt(), shared)


def bound(
    model: nn.Module, guide: nn.Module | None, split: Split, particles: int = 1, seed: int = 0, compile: bool = False
) -> Estimate:
    """Estimates the mean bound of a split, in nats per datapoint (Equation 6).

    It draws from its own generator, so that evaluating changes no training run. Where the weights are random
    variables, it is the mean over their distribution; see `weights_cost` for what they cost.

    Arguments:
        model: The generative model.
        guide: The recognition model; None fits a Gaussian to the posterior of each datapoint.
        split: The datapoints.
        particles: The number of draws per datapoint.
        seed: The seed of the draws.
        compile: Whether the draws are traced and compiled.

    Returns:
        The mean and its standard error, which one particle alone leaves unknown (`nan`).

    Raises:
        InputError: If one of them is no module, or the guide is a point, which has no density.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> data = pyro_vae.data("digits")
        >>> model, guide = BernoulliModel(data.features, 2, hidden=8), GaussianGuide(data.features, 2, hidden=8)
        >>> pyro_vae.bound(model, guide, data.test.head(20)).mean < 0  # of grey pixels
        True
    """
    require_modules(model, guide)
    with seeded(ranks.own_seed(seed), split.device):
        values, se, shared = bounds(model, guide, split, particles, compile)
    return Estimates(ranks.all_rows(values), ranks.all_rows(se), shared).mean()


@torch.no_grad()
def information(model: nn.Module, guide: nn.Module, split: Split) -> float:
    r"""Estimates :math:`E_{q(z | x)} [\log q(z | x) - \log p(z)]`, what latent variables say of a datapoint, in nats.

    It is the KL divergence of the guide from the prior, from one draw for each of the first datapoints.
    """
    x = split.first(_TOGETHER)
    with seeded(0, split.device), isolated(), evaluation_mode(model, guide):
        guide_trace = poutine.trace(guide).get_trace(x)
        tables = replayed(model, guide, guide_trace, x, 1)
    prior = tables.log_p([*latent_sites(guide_trace), *tables.sites])
    return float((joint_log_prob(guide_trace) - prior).mean())


@torch.no_grad()
def weights_cost(model: nn.Module, total: int) -> float:
    r"""Returns :math:`KL(q(\theta) \| p(\theta)) / N` in nats per training datapoint; 0 where no weights are random.

    The bound of the N training data pays for the weights once. Test data find them paid for: their bound, without this
    cost, is one of the predictive density :math:`\log \int q(\theta) \, p(x | \theta) \, d\theta`.
    """
    return model.divergence().item() / total if has_random_weights(model) else 0.0


def _variance(values: Tensor) -> Tensor:
    """The variance of a mean over the first dimension; one value alone leaves it unknown."""
    return values.var(0) / len(values) if len(values) > 1 else torch.full_like(values[0], math.nan)
