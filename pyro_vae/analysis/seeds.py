r"""Differences between models, each trained several times: what seeds, datapoints and draws leave open.

With value :math:`a_{si}` of seed s at datapoint i, means :math:`a_{s \cdot}` and :math:`a_{\cdot i}`, and the same of
another model b, the variance of the difference D of the two means is

.. math:: V = \underbrace{\frac{s^2(a_{s \cdot})}{S_a} + \frac{s^2(b_{s \cdot})}{S_b}}_{V_1}
    + \underbrace{\frac{s^2(a_{\cdot i} - b_{\cdot i})}{N}}_{V_2}
    - \underbrace{\frac{s^2_r(a)}{N S_a} + \frac{s^2_r(b)}{N S_b}}_{V_3}

where :math:`s^2_r` is the residual mean square of a two-way layout: what belongs to a seed at a datapoint alone, the
draws among it, is in the first two terms alike. These are the moments of a mixed model with crossed effects of seeds
and datapoints, of which each model has its own; of a balanced layout they need no iterations. Degrees of freedom are
those of Satterthwaite (1946), as in Welch's test.
"""

__all__ = ["Difference", "by_seed", "difference", "require_seeds"]

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from pyro_vae.analysis.comparison import Comparison
from pyro_vae.errors import InputError
from pyro_vae.marginal import Estimates
from pyro_vae.run.run import Run
from pyro_vae.run.score import nan_to_none
from pyro_vae.run.settings import Settings

# What does not make a run another experiment.
_NO_EXPERIMENT = {"seed", "device", "compile", "checkpoint_every", "data_dir"}

# A number of seeds settles a difference of the size that is seen if it is called at 5 % with this probability.
_LEVEL, _POWER = 0.05, 0.8
_MOST_SEEDS = 1000


class Difference(NamedTuple):
    """How far a model is above another, in nats per datapoint.

    Arguments:
        mean: The difference of their means over seeds and datapoints.
        se: Its standard error.
        of_seeds: The part of it that seeds make: the standard error if the datapoints were all there are.
        of_datapoints: The part that the choice of datapoints makes.
        of_draws: The part that Monte Carlo draws make.
        p: The probability of a difference as large between models that are equal.
        flips: The probability that one new run of each of them ranks them the other way on these datapoints.
        seeds: How many seeds of each would settle a difference of this size; None where the datapoints are too few for
            any number of them.
    """

    mean: float
    se: float
    of_seeds: float
    of_datapoints: float
    of_draws: float
    p: float
    flips: float
    seeds: int | None


def difference(other: Sequence[Estimates], first: Sequence[Estimates]) -> Difference:
    """Compares two models, each by its runs with two seeds or more, on the same two datapoints or more.

    Arguments:
        other: The estimates of each run of a model.
        first: The same of the model that it is compared with.
    """
    layouts = [_Layout(runs) for runs in (other, first)]
    a, b = layouts
    mean = (a.means.mean() - b.means.mean()).item()
    variances = [float(layout.means.var()) for layout in layouts]
    of_runs = [v / layout.seeds for v, layout in zip(variances, layouts, strict=True)]
    apart = a.values.mean(0) - b.values.mean(0)
    of_datapoints = float(apart.var()) / len(apart)
    of_both = a.residual + b.residual
    draws = a.draws + b.draws
    freedom = [float(layout.seeds - 1) for layout in layouts]
    total = max(sum(of_runs) + of_datapoints - of_both, of_datapoints, sum(of_runs))
    df = _freedom([*of_runs, of_datapoints], [*freedom, len(apart) - 1.0])
    # Datapoints are the same in a new run, and so are what is a seed's and a datapoint's own.
    spread = math.sqrt(sum(v + part for v, part in zip(variances, of_runs, strict=True)))
    return Difference(
        mean,
        math.sqrt(total),
        math.sqrt(max(sum(of_runs) - of_both, 0.0)),
        math.sqrt(max(total - max(sum(of_runs) - of_both, 0.0) - draws, 0.0)),
        math.sqrt(draws),
        _two_sided(mean, math.sqrt(total), df),
        float(stats.t.sf(abs(mean) / spread, _freedom(of_runs, freedom))) if spread else 0.0,
        _needed(abs(mean), sum(variances), max(of_datapoints - of_both, 0.0)),
    )


class _Layout:
    """A model's runs as a table of seeds by datapoints."""

    def __init__(self, runs: Sequence[Estimates]) -> None:
        self.values = torch.stack([run.values for run in runs]).double()
        self.seeds, datapoints = self.values.shape
        self.means = self.values.mean(1)
        rest = self.values - self.values.mean(0) - self.means.unsqueeze(1) + self.values.mean()
        mean_square = rest.square().sum() / ((self.seeds - 1) * (datapoints - 1))
        self.residual = float(mean_square) / (datapoints * self.seeds)
        squares: Tensor = torch.stack([run.se for run in runs]).double().nan_to_num().square()
        self.draws = float(squares.sum()) / (datapoints * self.seeds) ** 2


def _freedom(variances: Sequence[float], freedom: Sequence[float]) -> float:
    squares = sum(v**2 / df for v, df in zip(variances, freedom, strict=True))
    return sum(variances) ** 2 / squares if squares else math.inf


def _two_sided(mean: float, se: float, df: float) -> float:
    if not se:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / se, df))


def _needed(size: float, of_a_run: float, of_datapoints: float) -> int | None:
    """The least number of seeds of each model at which a difference of this size is called, with the power wanted."""
    seeds = np.arange(2, _MOST_SEEDS + 1)
    df = 2 * (seeds - 1)
    wanted = stats.t.ppf(1 - _LEVEL / 2, df) + stats.t.ppf(_POWER, df)
    enough = seeds[size >= wanted * np.sqrt(of_a_run / seeds + of_datapoints)]
    return int(enough[0]) if len(enough) else None


def by_seed(comparison: Comparison) -> list[dict[str, Any]]:
    """Puts runs that differ by their seeds alone together, and compares these models with the first.

    Arguments:
        comparison: Runs with their scores.

    Returns:
        For each model `name` (the settings by which it differs), `runs`, `seeds`, and under `bound` and the name of
        each estimator `mean`, `sd_of_seeds`, the standard deviation of its runs' means, and of all but the first
        `difference`, `difference_se` and what else `Difference` has.

    Raises:
        InputError: If there is a single datapoint; and see `require_seeds`.
    """
    groups = require_seeds(comparison.runs)
    if comparison.datapoints < 2:
        raise InputError("--by seed needs two datapoints or more: raise --limit")
    first, *_ = groups.values()
    rows = []
    for name, members in groups.items():
        seeds = [comparison.runs[n].settings.seed for n in members]
        row: dict[str, Any] = {"name": name, "runs": [str(comparison.runs[n].path) for n in members], "seeds": seeds}
        for kind in (None, *comparison.scores[0].marginals):
            own, theirs = (_estimates(comparison, numbers, kind) for numbers in (members, first))
            if own is None or theirs is None:
                continue
            means = torch.stack([each.values.double().mean() for each in own])
            row[kind or "bound"] = {
                "mean": means.mean().item(),
                "sd_of_seeds": means.std().item(),
                **({} if members is first else _row(difference(own, theirs))),
            }
        rows.append(nan_to_none(row))
    return rows


def _row(found: Difference) -> dict[str, Any]:
    mean, se, *_ = found
    return {"difference": mean, "difference_se": se} | {key: getattr(found, key) for key in Difference._fields[2:]}


def _experiment(settings: Settings) -> dict[str, Any]:
    found = {entry.name: getattr(settings, entry.name) for entry in fields(settings)}
    options = {f"{part}.{key}": value for part, own in settings.set.items() for key, value in own.items()}
    return {name: value for name, value in found.items() if name not in _NO_EXPERIMENT | {"set"}} | {"set": options}


def _said(value: Any) -> str:
    return " ".join(f"{key}={each}" for key, each in value.items()) if isinstance(value, dict) else str(value)


def require_seeds(runs: Sequence[Run]) -> dict[str, list[int]]:
    """Returns the numbers of the runs of each model, by the settings in which models differ.

    Arguments:
        runs: The runs.

    Raises:
        InputError: If there are no two models, or one has no two runs with seeds of their own.
    """
    keys = [_experiment(run.settings) for run in runs]
    varying = [name for name in keys[0] if len({str(key[name]) for key in keys}) > 1]
    groups: dict[str, list[int]] = {}
    for n, key in enumerate(keys):
        groups.setdefault(", ".join(f"{name}={_said(key[name])}" for name in varying), []).append(n)
    if len(groups) < 2:
        raise InputError("--by seed compares models, and these runs are all of one: name runs of another one")
    for name, members in groups.items():
        seeds = [runs[n].settings.seed for n in members]
        if len(seeds) < 2:
            raise InputError(
                f"--by seed needs two seeds or more of each model, and {name} has one, {runs[members[0]].path}: train "
                "another"
            )
        for n, seed in enumerate(seeds):
            if seed in seeds[:n]:
                twice = f"{runs[members[seeds.index(seed)]].path} and {runs[members[n]].path}"
                raise InputError(f"--by seed: {twice} have one seed, {seed}: leave one out")
    return groups


def _estimates(comparison: Comparison, numbers: Sequence[int], kind: str | None) -> list[Estimates] | None:
    scores = [comparison.scores[n] for n in numbers]
    found = [score.bound if kind is None else score.marginals[kind].estimates for score in scores]
    return None if any(each is None for each in found) else [each for each in found if each is not None]
