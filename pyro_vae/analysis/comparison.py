r"""Runs side by side on the same datapoints, with paired differences.

Datapoints differ far more from each other than models do on one of them. So runs are compared datapoint by datapoint:
the error of a mean difference :math:`\frac{1}{N} \sum_i (a_i - b_i)` is the standard deviation of the differences over
:math:`\sqrt N`, which holds what the choice of N datapoints leaves open as well as the Monte Carlo draws.
"""

__all__ = ["Comparison", "Score", "compare"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.marginal import Estimate, Marginal, chunked_log_weights, weights_cost
from pyro_vae.measure import in_bits, measure
from pyro_vae.run.evaluation import estimators, known, require_scorable
from pyro_vae.run.run import Run
from pyro_vae.split import Split
from pyro_vae.traced import worth_compiling


class Score(NamedTuple):
    """What a run makes of each datapoint.

    Arguments:
        bound: Estimates of the bound in nats, with shape `(datapoints,)`.
        bound_se: Their Monte Carlo standard errors, with shape `(datapoints,)`.
        marginals: What each estimator says of log p(x), by its name.
    """

    bound: Tensor
    bound_se: Tensor
    marginals: dict[str, Marginal]


@dataclass(frozen=True)
class Comparison:
    """Runs with their scores on the same datapoints.

    Arguments:
        runs: The runs; the others are compared with the first.
        split: `train` or `test`.
        measure: What all of them score; see `pyro_vae.measure`.
        scores: Their values per datapoint.
    """

    runs: Sequence[Run]
    split: str
    measure: str
    scores: Sequence[Score]

    def difference(self, n: int, marginal: str | None = None) -> Estimate:
        """Returns how much the n-th run is above the first, in nats per datapoint, with the error of that mean.

        Arguments:
            n: The number of the run, from 0 on.
            marginal: The estimator whose values are meant, the bound if omitted.
        """
        first, other = (
            score.bound if marginal is None else score.marginals[marginal].log_px
            for score in (self.scores[0], self.scores[n])
        )
        return Estimate((other - first).mean().item(), _spread(other - first).item())

    def table(self) -> dict[str, Any]:
        """Returns means and differences as a table that JSON can hold; what is not known is None.

        Returns:
            `data`, `binarize`, `measure`, `split`, `datapoints` and `runs`, of which each has `run` (its folder),
            `model`, `prior`, `guide`, `inference`, `latent`, `samples`, `seed`, `bound`, `bound_se`, `difference`,
            `difference_se` and, under the name of each estimator, `log_px`, `se`, `difference`, `difference_se` and
            details; beside bound and `log_px`, where they are of a probability, `bits_per_dim`.
        """
        dataset = self.runs[0].dataset
        rows: list[dict[str, Any]] = []
        for n, (run, score) in enumerate(zip(self.runs, self.scores, strict=True)):
            names = ("model", "prior", "guide", "inference", "latent", "samples", "seed")
            row = {"run": str(run.path), **{name: getattr(run.settings, name) for name in names}}
            if run.guide is None:
                row["guide"] = None
            row |= self._means("bound", score.bound, score.bound_se, self.difference(n))
            for name, (log_px, se, details) in score.marginals.items():
                row[name] = known({**self._means("log_px", log_px, se, self.difference(n, name)), **details})
            rows.append(known(row))
        return {
            "data": dataset.name,
            "binarize": dataset.binarize,
            "measure": self.measure,
            "split": self.split,
            "datapoints": len(self.scores[0].bound),
            "runs": rows,
        }

    def _means(self, name: str, values: Tensor, errors: Tensor, difference: Estimate) -> dict[str, float]:
        mean, se = Estimate.over(values, errors)
        bits = in_bits(self.measure, mean, self.runs[0].dataset.features)
        error = "bound_se" if name == "bound" else "se"
        return {name: mean, error: se, **bits, "difference": difference.mean, "difference_se": difference.se}


def compare(
    runs: Sequence[Run],
    *,
    split: str = "test",
    particles: int = 1000,
    marginal: Sequence[str] = ("importance",),
    set: Mapping[str, Mapping[str, Any]] | None = None,
    limit: int | None = None,
    seed: int = 0,
    force: bool = False,
    compile: str = "auto",
) -> Comparison:
    """Scores runs on the same datapoints.

    Arguments:
        runs: The runs.
        split: `train` or `test`.
        particles: The number of draws per datapoint; the bound makes do with 100 of them.
        marginal: Estimators of the marginal likelihood, by name or path.
        set: Arguments of the estimators, by estimator and name.
        limit: Take the first datapoints only.
        seed: The seed of the draws.
        force: Whether estimators go on where they would decline.
        compile: `on`, `off`, or `auto`, which compiles what is worth it.

    Raises:
        InputError: If there are no two runs, or their data or what they score are not alike.
    """
    if len(runs) < 2:
        raise InputError("compare needs two runs or more: name another")
    require_scorable(split, particles)
    splits = [getattr(run.dataset, split).head(limit) for run in runs]
    kinds = [measure(run.model, data) for run, data in zip(runs, splits, strict=True)]
    for run, data, kind in zip(runs, splits, kinds, strict=True):
        told = _told(run, data, kind)
        for name, (value, text) in _told(runs[0], splits[0], kinds[0]).items():
            if told[name][0] != value:
                raise InputError(
                    f"{run.path} has another {name} than {runs[0].path}, {told[name][1]} and not {text}: "
                    "compare them in tables of their own"
                )
    data = splits[0]
    if data.dynamic:  # the pixels are drawn once, for all runs
        with seeded(seed, data.device):
            data = Split(data.first())
    compiled = worth_compiling(compile, len(data) * particles)
    chosen = estimators(marginal, set, particles=particles, force=force, compile=compiled)
    scores = []
    for run in runs:
        with seeded(seed, data.device):
            chunks = chunked_log_weights(run.model, run.guide, data, min(particles, 100), compiled)
            weights = torch.cat(list(chunks), dim=1)
            if split == "train":
                weights -= weights_cost(run.model, run.dataset.train.total)
        marginals = {}
        for name, part in chosen.items():
            with seeded(seed, data.device):
                marginals[name] = part.estimate(run.model, run.guide, data)
        scores.append(Score(weights.mean(0), _spread(weights), marginals))
    return Comparison(runs, split, kinds[0], scores)


def _told(run: Run, data: Split, kind: str) -> dict[str, tuple[Any, Any]]:
    """What must be the same in a table, with the words for it."""
    dataset = run.dataset
    return {
        "data set": (dataset.checksum, f"{dataset.name} (SHA-256 {dataset.checksum[:8]}...)"),
        "binarisation": (dataset.binarize,) * 2,
        "divisor": (run.settings.divisor,) * 2,
        "number of datapoints": (len(data),) * 2,
        "measure": (kind, "a relaxed Bernoulli" if kind == "relaxed" else f"a {kind}"),
    }


def _spread(values: Tensor) -> Tensor:
    """The standard error of a mean over the first dimension; one value alone leaves it unknown."""
    return values.std(0) / math.sqrt(len(values)) if len(values) > 1 else torch.full_like(values[0], math.nan)
