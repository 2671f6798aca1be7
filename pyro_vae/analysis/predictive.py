"""How good is the model? Its predictions held against the data, and what its latent variables are used for."""

__all__ = ["activity", "calibration", "calibration_error", "checks"]

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pyro_vae.analysis.diagnostics import flat

Array = NDArray[Any]

# Of all datapoints together, with shape (..., datapoints, features): one number for the data, one for each replication.
_STATISTICS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda x: x.mean((-2, -1)),
    "spread within a datapoint": lambda x: x.std(-1).mean(-1),
    "spread of the datapoints' means": lambda x: x.mean(-1).std(-1),
    "spread between datapoints": lambda x: x.std(-2).mean(-1),
    "share of values above 1/2": lambda x: (x > 0.5).mean((-2, -1)),
}
# With one value in a datapoint, the first is 0 and the second is the spread between datapoints.
_OF_SEVERAL_VALUES = ("spread within a datapoint", "spread of the datapoints' means")
_BINS = 10


def checks(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Compares statistics of the data with those of data that the model predicts.

    Arguments:
        tree: What `pyro_vae.to_arviz` returned.

    Returns:
        A row for each observed `site`, each statistic and each of `prior_predictive` and `posterior_predictive`:
        `statistic`, `group`, its value `observed`, the `mean` and `sd` over replications, all in the site's own units,
        and `p`, the share of replications above the observed value, those equal to it counted half.
    """
    found = []
    for site, observed in tree["observed_data"].data_vars.items():
        data = _rows(observed.values[None])[0]
        missing = np.isnan(data)  # replications are looked at where the data are
        statistics = {
            name: function
            for name, function in _STATISTICS.items()
            if data.shape[-1] > 1 or name not in _OF_SEVERAL_VALUES
        }
        for group in ("prior_predictive", "posterior_predictive"):
            values = np.asarray(tree[group].dataset[site])
            # One replication at a time: a float copy of all of them takes hundreds of megabytes.
            draws = (_where_there(_rows(draw[None])[0], missing) for draw in values.reshape(-1, *values.shape[2:]))
            replicated = np.array([[function(draw) for function in statistics.values()] for draw in draws])
            for (statistic, function), column in zip(statistics.items(), replicated.T, strict=True):
                value = float(function(_where_there(data, missing)))
                found.append(
                    {
                        "site": str(site),
                        "statistic": statistic,
                        "group": group,
                        "observed": value,
                        "mean": float(column.mean()),
                        "sd": float(column.std()),
                        "p": float((column > value).mean() + (column == value).mean() / 2),
                    }
                )
    return found


def calibration(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    """Holds the predicted means of the values, the probabilities of pixels, against the values.

    The latent variables have seen the very values that are predicted: the curve tells whether the decoder's means can
    be read as probabilities, not how well unseen pixels are predicted.

    Arguments:
        tree: What `pyro_vae.to_arviz` returned.

    Returns:
        By observed site, where its likelihood has a mean: for each of ten bins of the predicted mean, from the least to
        the greatest, `predicted` and `observed`, the mean of both there, the number of values `count`, and `sd`, the
        standard deviation of the values around their predictions.
    """
    if "posterior_predictive_mean" not in tree.children:
        return {}
    means, data = (tree[group].dataset for group in ("posterior_predictive_mean", "observed_data"))
    return {str(site): _curve(mean.values, data[site].values) for site, mean in means.items()}


def _curve(mean: Array, data: Array) -> xr.Dataset:
    there = ~np.isnan(data)
    predicted, observed = mean[there].astype(np.float64), data[there].astype(np.float64)
    low, high = predicted.min(), predicted.max()
    bins = np.clip(((predicted - low) / max(high - low, 1e-12) * _BINS).astype(int), 0, _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    with np.errstate(invalid="ignore"):  # a bin without values has no mean
        found = [
            np.bincount(bins, weights=values, minlength=_BINS) / counts
            for values in (predicted, observed, (observed - predicted) ** 2)
        ]
    found[2] = np.sqrt(found[2])
    columns = dict(zip(("predicted", "observed", "sd"), found, strict=True))
    return xr.Dataset({name: ("bin", values) for name, values in {**columns, "count": counts}.items()})


def calibration_error(curve: xr.Dataset) -> float:
    """The mean distance of predicted and observed means, each bin weighted by its values."""
    distance = abs(curve["predicted"] - curve["observed"]).fillna(0) * curve["count"]
    return float(distance.sum() / curve["count"].sum())


def activity(tree: xr.DataTree) -> xr.Dataset:
    r"""Tells which latent variables are used.

    Arguments:
        tree: What `pyro_vae.to_arviz` returned.

    Returns:
        By `latent`, for HMC's draws and, with the prefix `guide_`, for the guide's: `variance_of_mean`, the variance of
        the posterior mean over the datapoints (a latent variable counts as active above 0.01; Burda et al., 2016), and
        `kl`, the mean over datapoints of :math:`KL(q(z_j | x) \| p(z_j))` in nats, of Gaussians with the same means and
        variances.
    """
    prior = flat(tree["prior"])
    center, spread = prior.mean((0, 1, 2), dtype=np.float64), prior.std((0, 1, 2), dtype=np.float64)
    values = {}
    for group, prefix in (("posterior", ""), ("guide_posterior", "guide_")):
        if group not in tree.children:
            continue
        draws = flat(tree[group])
        mean, sd = draws.mean((0, 1), dtype=np.float64), draws.std((0, 1), dtype=np.float64)
        values[f"{prefix}variance_of_mean"] = mean.var(0)
        ratio = (sd / spread) ** 2
        values[f"{prefix}kl"] = 0.5 * (ratio + ((mean - center) / spread) ** 2 - 1 - np.log(ratio)).mean(0)
    return xr.Dataset({name: ("latent", value) for name, value in values.items()})


def _where_there(x: Array, missing: Array) -> Array:
    return np.ma.masked_array(x, missing) if missing.any() else x


def _rows(x: Array) -> NDArray[np.float64]:
    """Data with shape (draws, datapoints, features), whatever the shape of a datapoint."""
    return x.reshape(*x.shape[:2], -1).astype(np.float64)
