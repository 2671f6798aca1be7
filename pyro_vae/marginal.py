r"""The bound of a split, and what estimators of :math:`\log p(x)` return and draw."""

__all__ = ["Estimate", "Marginal", "bound", "chunked_log_weights", "information", "weights_cost"]

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_vae import ranks
from pyro_vae.bayesian import BayesianModel
from pyro_vae.device import seeded
from pyro_vae.elbo import ROWS, log_weights
from pyro_vae.local import fit_gaussian
from pyro_vae.sites import (
    evaluation_mode,
    isolated,
    joint_log_prob,
    latent_sites,
    sample_sites,
    site_log_prob,
    traces,
)
from pyro_vae.split import Split
from pyro_vae.traced import Traced

# Datapoints that share what is costly: the steps that fit a Gaussian to each of them, or a draw of the weights.
_TOGETHER = 1_000


class Estimate(NamedTuple):
    """A mean over datapoints, in nats, with the Monte Carlo standard error of that mean."""

    mean: float
    se: float

    @classmethod
    def over(cls, values: Tensor, se: Tensor, shared: bool = False) -> "Estimate":
        """Averages estimates per datapoint, given their own standard errors.

        These are independent, unless the datapoints have draws in common (`shared`): then they are added up, as if all
        of them erred alike, which no dependence can exceed.
        """
        total = se.sum() if shared else se.square().sum().sqrt()
        return cls(values.mean().item(), total.item() / len(se))


class Marginal(NamedTuple):
    r"""What an estimator says of the marginal likelihood.

    Arguments:
        log_px: Estimates of :math:`\log p(x)` in nats, with shape `(datapoints,)`.
        se: Their Monte Carlo standard errors, with shape `(datapoints,)`.
        details: The estimator's settings and diagnostics by name.
    """

    log_px: Tensor
    se: Tensor
    details: dict[str, float]


@torch.no_grad()
def chunked_log_weights(
    model: nn.Module, guide: nn.Module | None, split: Split, particles: int, compile: bool = False
) -> Iterator[Tensor]:
    r"""Draws :math:`\log p(x, z) - \log q(z | x)` for a whole split, in chunks of bounded memory.

    Arguments:
        model: The generative model. Weights that are random variables are drawn anew with each particle, and are the
            same for the datapoints of a chunk.
        guide: The recognition model; None fits a Gaussian to the posterior of each datapoint.
        split: The datapoints.
        particles: The number of draws per datapoint.
        compile: Whether the draws are traced and compiled; Gaussians that are fitted never are.

    Yields:
        The log weights of some datapoints, float64 with shape `(particles, some)`.
    """
    drawn = model.drawn if isinstance(model, BayesianModel) else model
    size = _TOGETHER if drawn is not model or guide is None else max(1, ROWS // particles)

    def weigh(x: Tensor, count: int) -> tuple[Tensor]:
        return (log_weights(drawn, q, x, count).double(),)

    plain = Traced(weigh, model, guide)
    compiled = Traced(weigh, model, guide, compile=compile and guide is not None)
    usual = None
    for values in split.values.split(size):
        x = split.read(values)
        q = fit_gaussian(model, x) if guide is None else guide
        rows = max(1, ROWS // len(x)) if drawn is model else 1
        counts = [min(rows, particles - done) for done in range(0, particles, rows)]
        usual = usual or (len(x), counts[0])
        with evaluation_mode(model, q):
            # What is left over at the end has a shape of its own, which is not worth a compilation.
            draws = [(compiled if (len(x), count) == usual else plain)(x, count)[0] for count in counts]
            weights = torch.cat(draws)
        yield weights


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
    """
    with seeded(ranks.own_seed(seed), split.device):
        weights = torch.cat(list(chunked_log_weights(model, guide, split, particles, compile)), dim=1)
    if particles == 1:
        return Estimate(ranks.together(weights[0]).mean().item(), math.nan)
    if isinstance(model, BayesianModel):  # the datapoints of a particle share its weights
        means = weights.mean(1)
        return Estimate(means.mean().item(), means.std().item() / math.sqrt(particles))
    means, errors = ranks.together(weights.mean(0)), ranks.together(weights.std(0) / math.sqrt(particles))
    return Estimate.over(means, errors)


@torch.no_grad()
def information(model: nn.Module, guide: nn.Module, split: Split) -> float:
    r"""Estimates :math:`E_{q(z | x)} [\log q(z | x) - \log p(z)]`, what latent variables say of a datapoint, in nats.

    It is the KL divergence of the guide from the prior, from one draw for each of the first datapoints.
    """
    x = split.first(_TOGETHER)
    with seeded(0, split.device), isolated(), evaluation_mode(model, guide):
        model_trace, guide_trace = traces(model, guide, x)
    latent = latent_sites(guide_trace)
    prior = sum(site_log_prob(site) for name, site in sample_sites(model_trace).items() if name in latent)
    return float((joint_log_prob(guide_trace) - prior).mean())


@torch.no_grad()
def weights_cost(model: nn.Module, total: int) -> float:
    r"""Returns :math:`KL(q(\theta) \| p(\theta)) / N` in nats per training datapoint; 0 where no weights are random.

    The bound of the N training data pays for the weights once. Test data find them paid for: their bound, without this
    cost, is one of the predictive density :math:`\log \int q(\theta) \, p(x | \theta) \, d\theta`.
    """
    return model.divergence().item() / total if isinstance(model, BayesianModel) else 0.0
