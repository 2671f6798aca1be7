r"""The score of a pair: what it makes of each datapoint, its bound and estimates of :math:`\log p(x)`."""

__all__ = ["Score", "estimators", "evaluate", "nan_to_none", "require_scorable", "score"]

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_vae import ranks
from pyro_vae.bayesian import has_random_weights
from pyro_vae.data.dataset import Dataset
from pyro_vae.device import seeded
from pyro_vae.errors import InputError, told
from pyro_vae.global_latents import with_globals
from pyro_vae.marginal import LOOKED_AT, Estimates, Marginal, bounds, no_density, points, weights_cost
from pyro_vae.masses import in_cells
from pyro_vae.measure import in_bits, measure
from pyro_vae.run import parts
from pyro_vae.run.settings import MARGINAL
from pyro_vae.sites import evaluation_mode, isolated, weighted_sites
from pyro_vae.split import Split
from pyro_vae.steps import at_step
from pyro_vae.traced import worth_compiling

# The bound makes do with so many draws of each datapoint.
BOUND_PARTICLES = 100


class Score(NamedTuple):
    """What a pair makes of each datapoint, in nats.

    Arguments:
        bound: The bound; None where the guide is a point, or no bound is asked for.
        marginals: What each estimator says of log p(x), by its name.
        measure: What is scored; see `pyro_vae.measure`.
        weights_kl: What random weights cost each training datapoint (see `weights_cost`); None where none are random.
        weighted: The sites that model or guide give a weight (`poutine.scale`, a subsampling plate), which counts in
            training and not here.
    """

    bound: Estimates | None
    marginals: dict[str, Marginal]
    measure: str
    weights_kl: float | None
    weighted: list[str]

    def __repr__(self) -> str:
        """One line."""
        found = (f"{name} {row['nats']:.2f} ± {row['s.e.']:.2f}" for name, row in self.table().iterrows())
        return f"Score ({self.measure}, nats per datapoint): {'; '.join(found)}"

    def _repr_html_(self) -> str:
        """A table, as notebooks show it."""
        return self.table().to_html(float_format="{:.3f}".format)

    def table(self) -> pd.DataFrame:
        """Returns bound and estimates, means over the datapoints in nats, with their standard errors."""
        estimates = {} if self.bound is None else {"bound": self.bound}
        estimates |= {f"log p(x), {name}": marginal.estimates for name, marginal in self.marginals.items()}
        rows = [estimate.mean() for estimate in estimates.values()]
        return pd.DataFrame(rows, index=list(estimates), columns=["nats", "s.e."])

    def gathered(self) -> "Score":
        """Returns the score of all datapoints, where several ranks have scored their own; see `pyro_vae.ranks`."""
        own = self.bound
        return self._replace(
            bound=None if own is None else Estimates(ranks.all_rows(own.values), ranks.all_rows(own.se), own.shared),
            marginals={
                name: Marginal(
                    ranks.all_rows(log_px),
                    ranks.all_rows(se),
                    {key: ranks.all_rows(v) if isinstance(v, Tensor) else v for key, v in details.items()},
                    shared,
                )
                for name, (log_px, se, details, shared) in self.marginals.items()
            },
        )

    def row(self, features: int, first: "Score | None" = None) -> dict[str, Any]:
        """Returns means over the datapoints by name, as JSON can hold them; what is not known is None.

        Arguments:
            features: The number of pixels.
            first: Another score of the same datapoints, which differences are taken from.

        Returns:
            `bound` and `bound_se`, of random weights `weights_kl`, where there are such sites `weighted`, and under the
            name of each estimator `log_px`, `se` and details; beside bound and `log_px`, where they are of a
            probability, `bits_per_dim`, and with a first score `difference` and `difference_se`.
        """
        found = self._means("bound", self.bound, features, first, None if first is None else first.bound)
        if self.weights_kl is not None:
            found["weights_kl"] = self.weights_kl
        if self.weighted:
            found["weighted"] = self.weighted
        for name, marginal in self.marginals.items():
            theirs = None if first is None else first.marginals[name].estimates
            found[name] = self._means("log_px", marginal.estimates, features, first, theirs) | _details(marginal)
        return nan_to_none(found)

    def _means(
        self, name: str, own: Estimates | None, features: int, first: "Score | None", theirs: Estimates | None
    ) -> dict[str, Any]:
        mean, se = (math.nan, math.nan) if own is None else own.mean()
        found: dict[str, Any] = {
            name: mean,
            "bound_se" if name == "bound" else "se": se,
            **in_bits(self.measure, mean, features),
        }
        if first is not None:
            apart = (math.nan, math.nan) if own is None or theirs is None else own.minus(theirs)
            found |= zip(("difference", "difference_se"), apart, strict=True)
        return found


def _details(marginal: Marginal) -> dict[str, float]:
    """Details as numbers: of one for each datapoint, the mean of those that are known, and how many are not."""
    found: dict[str, float] = {}
    for name, value in marginal.details.items():
        if not isinstance(value, Tensor):
            found[name] = value
            continue
        unknown = int(value.isnan().sum())
        found[name] = value.nanmean().item()
        if 0 < unknown < len(value):
            found[f"{name}_unknown"] = unknown
    return found


def score(
    model: nn.Module,
    guide: nn.Module | None,
    data: Split,
    estimators: Mapping[str, Any],
    *,
    particles: int = BOUND_PARTICLES,
    seed: int = 0,
    compile: bool = False,
    local: bool = False,
    training: int = 1,
    paying: bool = False,
) -> Score:
    """Scores a pair on this rank's datapoints.

    Arguments:
        model: The generative model.
        guide: The recognition model; None fits a Gaussian to the posterior of each datapoint.
        data: The datapoints.
        estimators: Estimators of log p(x) by name. One with `needs_density = True` weighs the guide's draws.
        particles: The number of draws per datapoint behind the bound; with none of them there is no bound.
        seed: The seed of the draws, the same for the bound and for each estimator.
        compile: Whether the bound's draws are traced and compiled.
        local: Whether Gaussians are fitted in the guide's place.
        training: The number of training data, which share the cost of random weights.
        paying: Whether the datapoints are some of these, so that their bound pays it.

    Raises:
        InputError: If a bound or an estimator that needs a density is asked of a guide that is a point, an estimator
            declines, or a user's part fails.
    """
    with told(f"looking at {type(model).__name__}"):
        model = with_globals(model, guide, data)
    random_weights = has_random_weights(model)
    if random_weights and ranks.count() > 1:
        raise InputError("datapoints share the draws of random weights: evaluate them without torchrun")
    with told(f"looking at {type(model).__name__}"):
        kind = measure(model, data)
        weighted = _weighted(model, guide, data)
    guide = None if local else guide
    pointed = _points(guide, data)
    if pointed and (not estimators or any(getattr(part, "needs_density", False) for part in estimators.values())):
        raise no_density(guide, pointed)
    cost = weights_cost(model, training)
    bound = None
    if particles and not pointed:
        with told("estimating the bound"), seeded(seed, data.device):
            values, se, shared = bounds(model, guide, data, particles, compile)
        bound = Estimates(values - cost if paying else values, se, shared)
    marginals = {}
    for name, part in estimators.items():
        with told(f"estimating log p(x) by {name}"), seeded(seed, data.device):
            marginals[name] = part.estimate(model, guide, data)
    return Score(bound, marginals, kind, cost if random_weights else None, weighted)


def _points(guide: nn.Module | None, data: Split) -> list[str]:
    with told(f"looking at {type(guide).__name__}"), seeded(0, data.device):
        return points(guide, data.first(LOOKED_AT))


@torch.no_grad()
def _weighted(model: nn.Module, guide: nn.Module | None, data: Split) -> list[str]:
    modules = [part for part in (model, guide) if part is not None]
    with seeded(0, data.device), isolated(), evaluation_mode(*modules), at_step(torch.tensor(1)):
        x = data.first(LOOKED_AT)
        found = [name for part in modules for name in weighted_sites(poutine.trace(part).get_trace(x))]
    return list(dict.fromkeys(found))


def evaluate(
    model: nn.Module,
    guide: nn.Module | None,
    dataset: Dataset,
    *,
    split: str = "test",
    particles: int = 1000,
    marginal: Sequence[str] = (MARGINAL,),
    set: Mapping[str, Mapping[str, Any]] | None = None,
    limit: int | None = None,
    seed: int = 0,
    force: bool = False,
    compile: str = "auto",
    local: bool = False,
    cells: bool = False,
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
        local: Whether Gaussians fitted to each datapoint's posterior take the guide's place, as they must where the
            guide is a point.
        cells: Whether a density of grey pixels is scored by its mass in the cells of their levels; see
            `pyro_vae.masses`.

    Returns:
        `data`, `binarize`, `cells` (what they are, in words), `measure` (see `pyro_vae.measure`), `split`, `datapoints`
        and what `Score.row` has. The standard errors are those of the Monte Carlo draws. What is not known, with a
        single particle for example, is None.

    Raises:
        InputError: If there is no such split or estimator, or no particle; and see `score`.
    """
    require_scorable(split, particles)
    data = getattr(dataset, split).head(limit)
    if cells:
        with told(f"looking at {type(model).__name__}"):
            model = in_cells(model, data)
    if cells and compile == "auto":
        compile = "off"  # some masses take longer to compile than to score
    compiled = worth_compiling(compile, len(data) * particles)
    found = score(
        model,
        guide,
        data,
        estimators(marginal, set, particles=particles, force=force, compile=compiled),
        particles=min(particles, BOUND_PARTICLES),
        seed=ranks.own_seed(seed),
        compile=compiled,
        local=local,
        training=dataset.train.total,
        paying=split == "train",
    ).gathered()
    return {
        "data": dataset.name,
        "binarize": dataset.binarize,
        "cells": " ".join(reversed(dataset.cells)),
        "measure": found.measure,
        "split": split,
        "datapoints": data.total,
        **found.row(dataset.features),
    }


def nan_to_none(result: dict[str, Any]) -> dict[str, Any]:
    """Puts None, which JSON has a word for, in the place of what is not a number."""
    return {
        name: nan_to_none(value)
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
