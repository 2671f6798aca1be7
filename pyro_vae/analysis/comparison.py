r"""Runs side by side on the same datapoints, with paired differences.

Datapoints differ far more from each other than models do on one of them. So runs are compared datapoint by datapoint:
the error of a mean difference :math:`\frac{1}{N} \sum_i (a_i - b_i)` is the standard deviation of the differences over
:math:`\sqrt N`, which holds what the choice of N datapoints leaves open as well as the Monte Carlo draws. Where the
datapoints share draws of random weights, what these move all together is added; see `Estimates.minus`.
"""

__all__ = ["Comparison", "compare"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pyro_vae.device import seeded
from pyro_vae.errors import InputError, told
from pyro_vae.marginal import Estimate
from pyro_vae.masses import in_cells
from pyro_vae.measure import measure
from pyro_vae.run.run import Run
from pyro_vae.run.score import BOUND_PARTICLES, Score, estimators, nan_to_none, require_scorable, score
from pyro_vae.run.settings import MARGINAL
from pyro_vae.split import Split
from pyro_vae.traced import worth_compiling


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs with their scores on the same datapoints.

    Arguments:
        runs: The runs; the others are compared with the first.
        split: `train` or `test`.
        datapoints: How many of them.
        scores: Their scores.
    """

    runs: Sequence[Run]
    split: str
    datapoints: int
    scores: Sequence[Score]

    def difference(self, n: int, marginal: str | None = None) -> Estimate:
        """Returns how much the n-th run is above the first, in nats per datapoint, with the error of that mean.

        Arguments:
            n: The number of the run, from 0 on.
            marginal: The estimator whose values are meant, the bound if omitted.

        Raises:
            InputError: If a run has no bound.
        """
        first, other = (
            each.bound if marginal is None else each.marginals[marginal].estimates
            for each in (self.scores[0], self.scores[n])
        )
        if first is None or other is None:
            raise InputError("a guide that is a point has no bound: give local=True")
        return other.minus(first)

    def __repr__(self) -> str:
        """The table as text."""
        return f"{self.frame().to_string(float_format='{:.2f}'.format, na_rep='')}\n{self._caption()}"

    def _repr_html_(self) -> str:
        """The table, as notebooks show it."""
        return f"{self.frame().to_html(float_format='{:.2f}'.format, na_rep='')}<p>{escape(self._caption())}</p>"

    def _caption(self) -> str:
        told = f"{self.runs[0].dataset.name} {self.split}, {self.datapoints:,} datapoints, nats per datapoint"
        return f"{told}; differences from the first run, paired by datapoint, with their standard errors"

    def frame(self) -> pd.DataFrame:
        """Returns bounds and estimates of log p(x) by run, with differences and their standard errors."""
        rows = []
        for found in self.table()["runs"]:
            named = {"bound": found} | {name: value for name, value in found.items() if isinstance(value, dict)}
            row = {}
            for name, values in named.items():
                row[name] = values["bound" if name == "bound" else "log_px"]
                row |= {f"{name} difference": values["difference"], f"{name} s.e.": values["difference_se"]}
            rows.append(row)
        frame = pd.DataFrame(rows, index=pd.Index([str(run.path) for run in self.runs], name="run"), dtype=float)
        frame.iloc[0, [n for n, name in enumerate(frame) if name.endswith((" difference", " s.e."))]] = math.nan
        return frame

    def table(self) -> dict[str, Any]:
        """Returns means and differences as a table that JSON can hold; what is not known is None.

        Returns:
            `data`, `binarize`, `cells`, `measure`, `split`, `datapoints` and `runs`, of which each has `run` (its
            folder), `model`, `prior`, `guide`, `inference`, `latent`, `samples`, `seed` and what `Score.row` has.
        """
        dataset = self.runs[0].dataset
        rows: list[dict[str, Any]] = []
        for run, found in zip(self.runs, self.scores, strict=True):
            names = ("model", "prior", "guide", "inference", "latent", "samples", "seed")
            row = {"run": str(run.path), **{name: getattr(run.settings, name) for name in names}}
            if run.guide is None:
                row["guide"] = None
            rows.append(nan_to_none(row) | found.row(dataset.features, self.scores[0]))
        return {
            "data": dataset.name,
            "binarize": dataset.binarize,
            "cells": " ".join(reversed(dataset.cells)),
            "measure": self.scores[0].measure,
            "split": self.split,
            "datapoints": self.datapoints,
            "runs": rows,
        }


def compare(
    runs: Sequence[Run],
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
        local: Whether Gaussians fitted to each datapoint's posterior take the guides' place.
        cells: Whether densities of grey pixels are scored by their mass in the cells of their levels; see
            `pyro_vae.masses`.

    Raises:
        InputError: If there are no two runs, or their data or what they score are not alike; and see `score`.

    Example:
        >>> import pyro_vae
        >>> runs = [
        ...     pyro_vae.train(f"runs/{prior}", prior=prior, hidden=8, samples=500, progress=False, overwrite=True)
        ...     for prior in ("normal", "laplace")
        ... ]
        >>> comparison = pyro_vae.compare(runs, particles=10, limit=5)
        >>> comparison.difference(1).se > 0  # in nats, from the first run
        True
    """
    if len(runs) < 2:
        raise InputError("compare needs two runs or more: name another")
    require_scorable(split, particles)
    splits = [getattr(run.dataset, split).head(limit) for run in runs]
    with told("looking at the models"):
        models = [in_cells(run.model, data) if cells else run.model for run, data in zip(runs, splits, strict=True)]
        kinds = [measure(model, data) for model, data in zip(models, splits, strict=True)]
    for run, data, kind in zip(runs, splits, kinds, strict=True):
        own = _told(run, data, kind, split)
        for name, (value, text) in _told(runs[0], splits[0], kinds[0], split).items():
            if own[name][0] != value:
                raise InputError(
                    f"{run.path} has another {name} than {runs[0].path}, {own[name][1]} and not {text}: "
                    "compare them in separate tables"
                )
    if splits[0].dynamic:  # the pixels are drawn once, for all runs
        with seeded(seed, splits[0].device):
            drawn = splits[0].first()[:, : splits[0].features]
        splits = [_with_cells(data, drawn) for data in splits]
    if cells and compile == "auto":
        compile = "off"  # some masses take longer to compile than to score
    compiled = worth_compiling(compile, len(splits[0]) * particles)
    chosen = estimators(marginal, set, particles=particles, force=force, compile=compiled)
    scores = [
        score(
            model,
            run.guide,
            data,
            chosen,
            particles=min(particles, BOUND_PARTICLES),
            seed=seed,
            compile=compiled,
            local=local,
            training=run.dataset.train.total,
            paying=split == "train",
        )
        for run, model, data in zip(runs, models, splits, strict=True)
    ]
    return Comparison(runs, split, len(splits[0]), scores)


def _with_cells(data: Split, cells: Tensor) -> Split:
    """A split with other cells, beside which stands what the run asks for."""
    values = torch.cat((cells, data.values[:, data.features :].float()), dim=1)
    return replace(data, values=values, divisor=1, dynamic=False)


def _told(run: Run, data: Split, kind: str, split: str) -> dict[str, tuple[Any, Any]]:
    """What must be the same in a table, with the words for it."""
    dataset = run.dataset
    rows = None if dataset.rows is None else dataset.rows[split == "test"][: len(data)].tolist()
    names = dataset.names or (f"{dataset.features} of them",)
    return {
        "data set": (dataset.checksum, f"{dataset.name} (SHA-256 {dataset.checksum[:8]}...)"),
        "binarisation": (dataset.binarize,) * 2,
        "divisor": (run.settings.divisor,) * 2,
        "number of datapoints": (len(data),) * 2,
        f"choice of {split} datapoints": (rows, "rows " + ", ".join(map(str, (rows or [])[:3])) + ", ..."),
        "choice of columns": (dataset.names or dataset.features, ", ".join(names[:5])),
        "measure": (kind, "a relaxed Bernoulli" if kind == "relaxed" else f"a {kind}"),
    }
