"""The statistical analysis of a run: draws, diagnostics, criticism, and what they come to."""

__all__ = ["Analysis", "analyze"]

import json
import math
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import kstest

from pyro_vae import ranks
from pyro_vae.analysis.diagnostics import guide as guide_diagnostics
from pyro_vae.analysis.diagnostics import sampler
from pyro_vae.analysis.export import to_arviz, write
from pyro_vae.analysis.gaps import gaps
from pyro_vae.analysis.loo import loo
from pyro_vae.analysis.predictive import activity, calibration, checks
from pyro_vae.analysis.sbc import simulate
from pyro_vae.bayesian import BayesianModel
from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.run.evaluation import estimators, known
from pyro_vae.run.folder import ANALYSIS, replace_file
from pyro_vae.run.progress import Stages
from pyro_vae.run.train import Run
from pyro_vae.traced import worth_compiling

# Datapoints simulated for the calibration, each with its own latent variables, and transitions to find them again.
_SIMULATIONS, _TRANSITIONS = 200, 150
_WORST = 5


class Analysis(NamedTuple):
    """What an analysis found.

    Arguments:
        summary: The numbers that `summary.json` holds.
        datapoints: Diagnostics by datapoint.
        latents: The activity of each latent variable.
        curve: The calibration of predicted means, where there are such.
        pit: PIT values of the simulation-based calibration, under `hmc` and `guide`.
        tree: The draws.
    """

    summary: dict[str, Any]
    datapoints: xr.Dataset
    latents: xr.Dataset
    curve: xr.Dataset | None
    pit: dict[str, NDArray[np.float64]]
    tree: xr.DataTree


def analyze(
    run: Run,
    *,
    split: str = "test",
    limit: int = 500,
    chains: int = 4,
    draws: int = 500,
    warmup: int = 200,
    marginal: str = "importance",
    seed: int = 0,
    compile: str = "auto",
    zarr: bool = False,
    progress: bool = True,
) -> Analysis:
    """Analyses a trained run and writes `draws.nc`, `summary.json`, `datapoints.csv` and `latents.csv`.

    They go into the folder `analysis` of the run folder. Weights that are random variables are taken at their mean, and
    the training data are left out one by one (see `pyro_vae.analysis.loo`). Several ranks (see `pyro_vae.ranks`) divide the
    datapoints and the simulations; the first one returns and writes all of it, the others return their part.

    Arguments:
        run: The run.
        split: `train` or `test`.
        limit: Take the first datapoints only.
        chains: The number of Markov chains of each datapoint, at least 2.
        draws: The number of draws of each chain.
        warmup: The number of transitions before them.
        marginal: The estimator of log p(x), by name or path.
        seed: The seed of all draws.
        compile: `on`, `off`, or `auto`, which compiles what is worth it.
        zarr: Whether the draws are written as `draws.zarr` instead.
        progress: Whether to report progress on standard error.

    Raises:
        InputError: If a number is too small, there is no such split or estimator, or the model has several observed
            sites.
    """
    if split not in ("train", "test") or chains < 2:
        raise InputError(f"split {split}, chains {chains} is not possible: give train or test, and at least 2 chains")
    random_weights = isinstance(run.model, BayesianModel)
    if random_weights and ranks.count() > 1:
        raise InputError("datapoints share the draws of random weights: analyse them without torchrun")
    began, seed = monotonic(), ranks.own_seed(seed)
    with seeded(seed, run.dataset.train.device):  # dynamic binarisation draws the pixels
        x = getattr(run.dataset, split).head(limit).first()
    compiled = worth_compiling(compile, len(x) * chains * (warmup + draws))
    estimator = estimators([marginal], compile=compiled)[marginal]
    model: Any = run.model.mean if random_weights else run.model
    shape = run.dataset.image_shape
    stages = Stages(progress and ranks.rank() == 0)
    with stages.stage(f"drawing from the posterior of {len(x)} datapoints") as advance:
        tree = to_arviz(
            model,
            run.guide,
            x,
            chains=chains,
            draws=draws,
            warmup=warmup,
            predictive=min(100, chains * draws),
            image_shape=(shape[0], shape[1]) if shape and len(shape) == 2 else None,
            seed=seed,
            compile=compiled,
            attrs={
                "data": run.dataset.name,
                "data_checksum": run.dataset.checksum,
                "binarize": run.dataset.binarize,
                "split": split,
                "samples": run.metrics[-1][0],
                "inference": run.settings.inference,
                "latent": run.settings.latent,
                "weights": "at their mean" if random_weights else "trained",
            },
            advance=advance,
        )
    with stages.stage("diagnosing chains and guide"):
        found = [sampler(tree)] + ([guide_diagnostics(tree)] if run.guide is not None else [])
    with stages.stage(f"estimating log p(x) by {marginal}, and a Gaussian for each datapoint"):
        found.append(gaps(model, run.guide, x, estimator, seed))
    with stages.stage(f"calibrating on {_SIMULATIONS} simulated datapoints") as advance:
        some = x[np.arange(len(ranks.mine(_SIMULATIONS))) % len(x)]
        pit = simulate(model, run.guide, some, transitions=_TRANSITIONS, seed=seed, compile=compiled, advance=advance)
    with stages.stage("comparing predictions with the data"):
        datapoints = xr.merge(found, join="override")
        tree, datapoints, pit = _together(tree, datapoints, pit)
        latents, curve, rows = activity(tree), calibration(tree), checks(tree)
    attributes = {str(name): value for name, value in tree.attrs.items()}
    summary: dict[str, Any] = {"run": {**attributes, "datapoints": datapoints.sizes["datapoint"]}}
    summary["sampler"] = _sampler(datapoints)
    if run.guide is not None:
        summary["guide"] = _guide(datapoints)
    summary["gaps"] = {"estimator": marginal, **_gaps(datapoints)}
    summary["fit"] = {
        "checks": rows,
        "binary": all(values.dtype == np.uint8 for values in tree["posterior_predictive"].data_vars.values()),
        "calibration_error": None if curve is None else _error(curve),
        "latents": latents.sizes["latent"],
        "active_latents": int((latents["variance_of_mean"] > 0.01).sum()),
    }
    summary["calibration"] = {name: _uniform(values) for name, values in pit.items()}
    if random_weights:
        with stages.stage("leaving out training data"):
            summary["loo"] = _loo(run, limit, seed)
    analysis = Analysis(known(summary), datapoints, latents, curve, pit, tree)
    if ranks.rank() == 0:
        with stages.stage("writing"):
            analysis.summary["run"]["seconds"] = round(monotonic() - began, 1)
            _write(analysis, run.path / ANALYSIS, zarr)
    return analysis


def _write(analysis: Analysis, folder: Path, zarr: bool) -> None:
    folder.mkdir(exist_ok=True)
    write(analysis.tree, folder / ("draws.zarr" if zarr else "draws.nc"))
    for name, table in (("datapoints", analysis.datapoints), ("latents", analysis.latents)):
        replace_file(folder / f"{name}.csv", table.to_dataframe().to_csv)
    text = json.dumps(analysis.summary, indent=2, allow_nan=False)
    replace_file(folder / "summary.json", lambda path: path.write_text(text, encoding="utf-8"))


def _together(
    tree: xr.DataTree, datapoints: xr.Dataset, pit: dict[str, NDArray[np.float64]]
) -> tuple[xr.DataTree, xr.Dataset, dict[str, NDArray[np.float64]]]:
    """Puts the parts of all ranks together on the first of them."""
    parts = ranks.gathered_by_first((tree, datapoints, pit))
    if len(parts) == 1:
        return parts[0]
    trees, tables, pits = zip(*parts, strict=True)
    groups = {name: _in_order([each[name].to_dataset() for each in trees]) for name in tree.children}
    whole = xr.DataTree.from_dict(groups)
    whole.attrs = tree.attrs
    return whole, _in_order(tables), {name: np.concatenate([each[name] for each in pits]) for name in pit}


def _in_order(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Joins datasets of the datapoints n, n + K, n + 2 K and so on."""
    numbered = [
        part.assign_coords(datapoint=np.arange(n, n + len(parts) * part.sizes["datapoint"], len(parts)))
        for n, part in enumerate(parts)
    ]
    return xr.concat(numbered, "datapoint", data_vars="minimal", coords="minimal", compat="override").sortby(
        "datapoint"
    )


def _sampler(found: xr.Dataset) -> dict[str, Any]:
    return {
        **{name: _quantiles(found[name]) for name in ("rhat", "ess_bulk", "ess_tail", "bfmi")},
        "rhat_over_1_01": _share(found["rhat"] > 1.01),
        "divergences": int(found["divergences"].sum()),
        "acceptance": float(found["acceptance"].mean()),
        "worst_rhat": _worst(found["rhat"]),
    }


def _guide(found: xr.Dataset) -> dict[str, Any]:
    names = ("khat", "importance_ess", "shift", "scale", "wasserstein", "kl")
    return {
        **{name: _quantiles(found[name]) for name in names},
        "khat_over_0_7": _share(found["khat"] > 0.7),
        "worst_khat": _worst(found["khat"]),
    }


def _gaps(found: xr.Dataset) -> dict[str, Any]:
    """Means over datapoints, with the standard errors of the Monte Carlo draws."""

    def mean(name: str) -> dict[str, float]:
        error = math.sqrt(float((found[f"{name}_se"] ** 2).sum())) / found[name].size
        return {name: float(found[name].mean()), f"{name}_se": float(error)}

    log_px, local = found["log_px"], found["local_bound"]
    values = {**mean("log_px"), **mean("local_bound"), "approximation_gap": float((log_px - local).mean())}
    if "bound" in found:
        values |= mean("bound")
        values["gap"] = float((log_px - found["bound"]).mean())
        values["amortisation_gap"] = float((local - found["bound"]).mean())
    return values


def _loo(run: Run, limit: int, seed: int) -> dict[str, Any]:
    """The leave-one-out density of training data, in nats per datapoint, and what leaving out costs them."""
    x = run.dataset.train.first(limit)
    found = loo(run.model, run.guide, x, seed=seed)  # type: ignore[arg-type]
    return {
        "datapoints": len(x),
        "elpd": found.elpd / len(x),
        "se": found.se / len(x),
        "lost": found.p / len(x),
        "khat_over_0_7": _share(found.pareto_k > 0.7),
    }


def _error(curve: xr.Dataset) -> float:
    """The mean distance of predicted and observed means, each bin weighted by its values."""
    distance = abs(curve["predicted"] - curve["observed"]).fillna(0) * curve["count"]
    return float(distance.sum() / curve["count"].sum())


def _uniform(pit: NDArray[np.float64]) -> dict[str, Any]:
    """Kolmogorov-Smirnov tests of each latent variable against the uniform distribution."""
    p = np.array([kstest(column, "uniform").pvalue for column in pit.T])
    return {
        "simulations": len(pit),
        "smallest_p": float(p.min()),
        # At 1 % for all of them together, and none where all is right.
        "rejected": int((p < 0.01 / len(p)).sum()),
        "latents": len(p),
    }


def _quantiles(values: xr.DataArray) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
    named = {"min": values.min(), "q05": low, "median": median, "q95": high, "max": values.max()}
    return {name: float(value) for name, value in named.items()}


def _share(values: xr.DataArray) -> float:
    return float(values.mean())


def _worst(values: xr.DataArray) -> list[int]:
    """The datapoints with the largest values."""
    order = np.argsort(-values.values)[:_WORST]
    return [int(n) for n in values["datapoint"].values[order]]
