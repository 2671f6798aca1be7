r"""Evaluation of a trained pair: the bound, and the draws behind the estimators of :math:`\log p(x)`."""

__all__ = [
    "Estimate",
    "Marginal",
    "bound",
    "chunked_log_weights",
    "estimators",
    "evaluate",
    "known",
    "require_scorable",
    "weights_cost",
]

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_vae import parts, ranks
from pyro_vae.bayesian import BayesianModel
from pyro_vae.data import Dataset, Split
from pyro_vae.device import seeded
from pyro_vae.elbo import ROWS, evaluation_mode, log_weights
from pyro_vae.errors import InputError
from pyro_vae.local import fit_gaussian
from pyro_vae.measure import in_bits, measure
from pyro_vae.traced import Traced, worth_compiling

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
def weights_cost(model: nn.Module, dataset: Dataset) -> float:
    r"""Returns :math:`KL(q(\theta) \| p(\theta)) / N` in nats per training datapoint; 0 where no weights are random.

    The bound of the N training data pays for the weights once. Test data find them paid for: their bound, without this
    cost, is one of the predictive density :math:`\log \int q(\theta) \, p(x | \theta) \, d\theta`.
    """
    return model.divergence().item() / dataset.train.total if isinstance(model, BayesianModel) else 0.0


def evaluate(
    model: nn.Module,
    guide: nn.Module | None,
    dataset: Dataset,
    *,
    split: str = "test",
    particles: int = 1000,
    marginal: Sequence[str] = ("importance",),
    set: Mapping[str, Mapping[str, Any]] | None = None,
    limit: int | None = None,
    seed: int = 0,
    force: bool = False,
    compile: str = "auto",
) -> dict[str, Any]:
    """Evaluates a pair: its bound and estimates of its marginal likelihood, in nats per datapoint.

    Several ranks (see `pyro_vae.ranks`) divide the datapoints, and return the same.

    Arguments:
        model: The generative model.
        guide: The recognition model; None fits a Gaussian to the posterior of each datapoint.
        dataset: The data.
        split: `train` or `test`.
        particles: The number of draws per datapoint; the bound makes do with 100 of them.
        marginal: Estimators of the marginal likelihood, by name or path.
        set: Arguments of the estimators, by estimator and name.
        limit: Take the first datapoints only.
        seed: The seed of the draws.
        force: Whether estimators go on where they would decline.
        compile: `on`, `off`, or `auto`, which compiles what is worth it.

    Returns:
        `data`, `binarize`, `measure` (see `pyro_vae.measure`), `split`, `datapoints`, `bound`, `bound_se`, of random
        weights `weights_kl` (see `weights_cost`), and, under the name of each estimator, its `log_px`, `se` and
        details; beside bound and `log_px`, where they are of a probability, `bits_per_dim`. The standard errors are
        those of the Monte Carlo draws. What is not known, with a single particle for example, is None.

    Raises:
        InputError: If there is no such split or estimator, or no particle.
    """
    require_scorable(split, particles)
    if isinstance(model, BayesianModel) and ranks.count() > 1:
        raise InputError("datapoints share the draws of random weights: evaluate them without torchrun")
    data = getattr(dataset, split).head(limit)
    compiled = worth_compiling(compile, len(data) * particles)
    chosen = estimators(marginal, set, particles=particles, force=force, compile=compiled)
    mean, se = bound(model, guide, data, min(particles, 100), seed, compiled)
    cost = weights_cost(model, dataset)
    mean = mean - cost if split == "train" else mean
    result: dict[str, Any] = {
        "data": dataset.name,
        "binarize": dataset.binarize,
        "measure": (kind := measure(model, data)),
        "split": split,
        "datapoints": data.total,
        "bound": mean,
        "bound_se": se,
        **in_bits(kind, mean, dataset.features),
    }
    if isinstance(model, BayesianModel):
        result["weights_kl"] = cost
    for name, part in chosen.items():
        with seeded(ranks.own_seed(seed), data.device):
            log_px, error, details = _together(part.estimate(model, guide, data))
        mean, se = Estimate.over(log_px, error, shared=isinstance(model, BayesianModel))
        result[name] = {"log_px": mean, "se": se, **in_bits(kind, mean, dataset.features), **details}
    return known(result)


def _together(own: Marginal) -> Marginal:
    """What an estimator says on all ranks. Its details are constants, or means over datapoints."""
    found = ranks.gathered((len(own.log_px), own.details))
    total = sum(size for size, _ in found)
    details = {
        name: value if ranks.count() == 1 else sum(size * each[name] for size, each in found) / total
        for name, value in own.details.items()
    }
    return Marginal(ranks.together(own.log_px), ranks.together(own.se), details)


def known(result: dict[str, Any]) -> dict[str, Any]:
    """Puts None, which JSON has a word for, in the place of what is not a number."""
    return {
        name: known(value)
        if isinstance(value, dict)
        else value
        if not isinstance(value, float) or math.isfinite(value)
        else None
        for name, value in result.items()
    }


def require_scorable(split: str, particles: int) -> None:
    """Refuses what is no split and what are no particles."""
    if split not in ("train", "test") or particles < 1:
        raise InputError(f"split {split}, particles {particles} is not possible: give train or test, and at least 1")


def estimators(
    names: Sequence[str], own: Mapping[str, Mapping[str, Any]] | None = None, **options: Any
) -> dict[str, Any]:
    """Builds estimators of the marginal likelihood.

    Arguments:
        names: Their names or paths.
        own: Arguments by estimator and name.
        options: Arguments for each estimator that takes them.

    Raises:
        InputError: If there is no such estimator, or it does not take an argument of its own.
    """
    own = own or {}
    for name in own:
        if name not in names:
            raise InputError(f"set has arguments of {name}, which is not asked for: give marginal={name!r} as well")
    built = {}
    for name in names:
        part = parts.find("marginal", name)
        taken = {key: value for key, value in options.items() if parts.takes(part, key)}
        built[name] = parts.build(name, part, own=own.get(name), **taken)
    return built
