"""The numbers of an analysis that fit on a page: quantiles over datapoints, means with their errors, tests."""

__all__ = ["LEVEL", "summarise"]

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import kstest

from pyro_vae.analysis.predictive import calibration_error

# A datapoint's worst values, of which so many are named.
_WORST = 5
# The tests of all latent variables together reject at this level.
LEVEL = 0.01


def summarise(
    datapoints: xr.Dataset,
    latents: xr.Dataset,
    curves: Mapping[str, xr.Dataset],
    checks: Sequence[Mapping[str, Any]],
    pit: Mapping[str, NDArray[np.float64]],
    covered: Mapping[str, xr.Dataset],
) -> dict[str, Any]:
    """Sums up an analysis: `sampler`, `fit` and, where there is what they are made of, `guide`, `gaps`, `calibration`.

    Arguments:
        datapoints: Diagnostics by datapoint.
        latents: The activity of each latent variable.
        curves: The calibration of predicted means, by observed site.
        checks: The predictive checks.
        pit: PIT values of the simulation-based calibration.
        covered: The shares of data in predictive intervals, by observed site.
    """
    summary: dict[str, Any] = {"sampler": _sampler(datapoints)}
    if "khat" in datapoints:
        summary["guide"] = _guide(datapoints)
    if "log_px" in datapoints:
        summary["gaps"] = _gaps(datapoints)
    summary["fit"] = {
        "checks": list(checks),
        "coverage": {site: _coverage(each) for site, each in covered.items()},
        "calibration_error": {site: calibration_error(curve) for site, curve in curves.items()},
        "latents": latents.sizes["latent"],
        "active_latents": int((latents["variance_of_mean"] > 0.01).sum()),
    }
    if pit:
        summary["calibration"] = {name: _uniform(values) for name, values in pit.items()}
    return summary


def _sampler(found: xr.Dataset) -> dict[str, Any]:
    return {
        **{name: _quantiles(found[name]) for name in ("rhat", "ess_bulk", "ess_tail", "bfmi")},
        "rhat_over_1_01": float((found["rhat"] > 1.01).mean()),
        "divergences": int(found["divergences"].sum()),
        "acceptance": float(found["acceptance"].mean()),
        "worst_rhat": _worst(found["rhat"]),
    }


def _guide(found: xr.Dataset) -> dict[str, Any]:
    names = ("khat", "importance_ess", "shift", "scale", "wasserstein", "kl")
    return {
        **{name: _quantiles(found[name]) for name in names},
        "khat_over_0_7": float((found["khat"] > 0.7).mean()),
        "worst_khat": _worst(found["khat"]),
        "known_apart": float(found["known_apart"].mean()),
        "known_apart_of": int(found["known_apart"].notnull().sum()),
    }


def _gaps(found: xr.Dataset) -> dict[str, Any]:
    """Means over datapoints, in nats, with the standard errors of the Monte Carlo draws."""

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


def _coverage(covered: xr.Dataset) -> dict[str, Any]:
    """The shares of data in intervals of 90 %, over all features, and their quantiles over these."""
    found: dict[str, Any] = {}
    for group in ("prior_predictive", "posterior_predictive"):
        share, weight = covered[group].sel(level=0.9), covered["count"]
        mean = float((share.fillna(0) * weight).sum() / weight.sum()) if weight.sum() else math.nan
        found[group] = {"mean": mean, **_quantiles(share)}
    return found


def _uniform(pit: NDArray[np.float64]) -> dict[str, Any]:
    """Kolmogorov-Smirnov tests of each latent variable against the uniform distribution."""
    p = np.array([kstest(column, "uniform").pvalue for column in pit.T])
    return {
        "simulations": len(pit),
        "smallest_p": float(p.min()),
        # At one level for all of them together, and none where all is right.
        "rejected": int((p < LEVEL / len(p)).sum()),
        "latents": len(p),
    }


def _quantiles(values: xr.DataArray) -> dict[str, float]:
    """Quantiles over the datapoints where the value is known; `nan` where it is nowhere."""
    found = values.values[~np.isnan(values.values)]
    if not found.size:
        return dict.fromkeys(("min", "q05", "median", "q95", "max"), math.nan)
    with np.errstate(invalid="ignore"):  # k-hat is minus infinity where the guide is the posterior
        low, median, high = np.quantile(found, [0.05, 0.5, 0.95])
    named = {"min": found.min(), "q05": low, "median": median, "q95": high, "max": found.max()}
    return {name: float(value) for name, value in named.items()}


def _worst(values: xr.DataArray) -> list[int]:
    """The datapoints with the largest values; those where it is unknown come last."""
    order = np.argsort(-values.fillna(-np.inf).values, kind="stable")[:_WORST]
    return [int(n) for n in values["datapoint"].values[order]]
