r"""Evaluation of a trained pair: the bound, and the draws behind the estimators of :math:`\log p(x)`."""

__all__ = ["estimators", "evaluate", "known", "require_scorable"]

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from pyro_vae import ranks
from pyro_vae.bayesian import BayesianModel
from pyro_vae.data.dataset import Dataset
from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.marginal import Estimate, Marginal, bound, weights_cost
from pyro_vae.measure import in_bits, measure
from pyro_vae.run import parts
from pyro_vae.traced import worth_compiling


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
    cost = weights_cost(model, dataset.train.total)
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
